"""Who may do what, asked at the edge: queries, streams, listings.

Commands are judged by the state machine when they are applied; here are refused only those of
nobody, which need not reach the log. What is read is judged here, by the same rules and the state
that is read. While authentication is off, nothing of this costs more than one look at it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, TypeVar

from coordinator.replica import permissions
from coordinator.replica.permission import Asker
from coordinator_sdk.errors import CoordinatorError, PermissionDenied
from coordinator_sdk.protocol.auth import PERMISSION_DENIED, AuthDisable

if TYPE_CHECKING:
    from collections.abc import Callable

    from coordinator.api.connection import Connection
    from coordinator.api.registry import Caller
    from coordinator.node.node import Node

STREAMS_PER_TICK: Final = 5000
"""Open streams that are judged anew in one go, after users or roles have changed."""

ResultT = TypeVar("ResultT")


def authorize(node: Node, caller: Caller, request: Any) -> Asker | None:
    """Refuse a command or query whose caller may not give it, by the state applied here.

    Args:
        node: The member.
        caller: Who asks.
        request: The struct of the operation.

    Returns:
        Who asks, for `shown`; None if everybody may, or authentication is off.

    Raises:
        Unauthenticated: The caller has to prove who it is.
        PermissionDenied: It may not.
    """
    machine = node.machine
    if not machine.auth.enabled:
        return None
    return permissions.authorize(
        machine,
        type(request),
        request,
        caller.actor,
        caller.auth_revision,
        caller.scope,
        max(machine.clock_ms, time.time_ns() // 1_000_000),
    )


def require_root(node: Node, caller: Caller) -> None:
    """Refuse what only root may, such as a copy of everything.

    Raises:
        Unauthenticated: The caller has to prove who it is.
        PermissionDenied: It is not root.
    """
    authorize(node, caller, AuthDisable())


def shown(node: Node, caller: Caller, request: Any, result: ResultT) -> ResultT:
    """Take out of a result what its caller may not see.

    Raises:
        Unauthenticated: The caller has to prove who it is.
        PermissionDenied: It may not ask at all.
    """
    asker = authorize(node, caller, request)
    if asker is not None:
        show(node, asker, request, result)
    return result


def show(node: Node, asker: Asker, request: Any, result: Any) -> None:
    """As `shown`, for an asker that `authorize` gave."""
    rule = node.machine.rules[type(request)]
    if rule.shows is not None:
        rule.shows(asker, request, result)


class Recheck:
    """Ends the streams that their callers may not have any more, once users or roles change.

    Args:
        node: The member.
        connections: Gives every connection that may have streams.
    """

    def __init__(self, node: Node, connections: Callable[[], Iterable[Connection]]) -> None:
        self._node = node
        self._connections = connections
        self._seen = -1
        self._waiting: deque[Connection] = deque()

    def tick(self) -> None:
        """Go on, a bounded number of streams at a time; to be called several times a second."""
        auth = self._node.machine.auth
        if not self._waiting:
            if auth.revision == self._seen:
                return
            self._seen = auth.revision
            self._waiting.extend(self._connections())
        budget = STREAMS_PER_TICK
        while self._waiting and budget > 0:
            budget -= 1 + recheck(self._waiting.popleft())


def recheck(connection: Connection) -> int:
    """End the streams of a connection that its caller may not have any more.

    To be called as well when a connection goes on as another caller.

    Returns:
        How many streams there were.
    """
    streams = list(connection.streams)
    for id in streams:
        request = connection.requests.get(id)
        if request is None:
            continue
        try:
            authorize(connection.node, connection.caller, request)
        except CoordinatorError:
            connection.fail(id, PermissionDenied(PERMISSION_DENIED))
    return len(streams)
