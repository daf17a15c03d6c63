"""Who may still have what: streams are judged anew when users or roles change, or time is up."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from coordinator.api.permits import authorize
from coordinator.api.registry import Caller
from coordinator_sdk.errors import CoordinatorError, PermissionDenied, Unauthenticated
from coordinator_sdk.protocol.auth import INVALID_TOKEN, PERMISSION_DENIED

if TYPE_CHECKING:
    from collections.abc import Callable

    from coordinator.api.connection import Connection
    from coordinator.node.node import Node

STREAMS_PER_TICK: Final = 5000
"""Open streams that are judged anew in one go, after users or roles have changed."""
CONNECTION_STREAMS: Final = 10
"""Asking anew who is at the other end of a connection costs as much as judging so many streams."""
EXPIRY_GRACE_S: Final = 3.0
"""Streams go on for so long after the token has expired: another one may be on its way."""


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

    def look_again(self) -> None:
        """Judge all anew soon, although users and roles are what they were."""
        self._seen = -1

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
            budget -= CONNECTION_STREAMS + again(self._waiting.popleft())


def again(connection: Connection) -> int:
    """Ask anew who is at the other end, and end what that one may not have.

    Returns:
        How many streams there were.
    """
    if connection.identify is not None:
        try:
            connection.go_on_as(connection.identify())
        except CoordinatorError as error:
            connection.go_on_as(Caller(origin=connection.caller.origin))
            if not connection.node.machine.auth.enabled:
                connection.refuse(error)
                return 0
    return recheck(connection)


def expire(connection: Connection) -> None:
    """Its time is up: go on as nobody, and end the streams soon, unless it proves itself again."""
    try:
        # A token may have got more time meanwhile, or may have been looked at too early.
        caller = connection.identify() if connection.identify is not None else Caller()
    except CoordinatorError:
        caller = Caller()
    caller = replace(caller, origin=connection.caller.origin)
    connection.go_on_as(caller)
    if not caller.actor and connection.streams:
        connection.wake_after(
            EXPIRY_GRACE_S, recheck, connection, Unauthenticated(INVALID_TOKEN, reason="expired")
        )


def recheck(connection: Connection, reason: CoordinatorError | None = None) -> int:
    """End the streams of a connection that its caller may not have any more.

    To be called as well when a connection goes on as another caller.

    Args:
        connection: The connection.
        reason: What the streams are told; that it is denied by default.

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
            connection.fail(id, reason or PermissionDenied(PERMISSION_DENIED))
    return len(streams)
