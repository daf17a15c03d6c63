"""Who may do what, asked at the edge: queries, streams, listings.

Commands are judged by the state machine when they are applied; here are refused only those of
nobody, which need not reach the log. What is read is judged here, by the same rules and the state
that is read. While authentication is off, nothing of this costs more than one look at it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, TypeVar

from coordinator.replica import permissions
from coordinator.replica.permission import Asker
from coordinator_sdk.protocol.auth import AuthDisable

if TYPE_CHECKING:
    from coordinator.api.registry import Caller
    from coordinator.node.node import Node

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
