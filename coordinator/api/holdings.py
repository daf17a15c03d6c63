"""What users hold in the replicated state: leases, and the records that hang on their sessions.

Whoever asks for more is refused here, before anything is proposed, by what this member has applied:
requests that are under way are not counted yet. Used as ``instead`` of a `Change`, which serve
nothing themselves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coordinator.api.shares import is_favoured
from coordinator_sdk.errors import Exhausted

if TYPE_CHECKING:
    from coordinator.api.connection import Connection
    from coordinator.api.limits import Limits
    from coordinator.api.registry import Caller
    from coordinator.node.node import Node


def check_lease(node: Node, caller: Caller, limits: Limits) -> None:
    """Refuse one more lease, if there are too many.

    Raises:
        Exhausted: The user has too many, or there are too many of all users.
    """
    leases = node.keyspace.leases
    is_over = bool(caller.actor) and leases.owned_by(caller.actor).leases >= limits.leases_per_user
    if not is_over and len(leases) < limits.leases:
        return
    if not is_favoured(node, caller):
        if is_over:
            raise Exhausted(
                f"leases: user {caller.actor!r} may have at most {limits.leases_per_user}, "
                "sessions included; --max-leases-per-user changes that",
                limit="leases_per_user",
            )
    elif len(leases) < limits.leases + limits.leases_reserve:
        return
    raise Exhausted(
        f"leases: there are too many, at most {limits.leases} of all clients, sessions included; "
        "--max-leases changes that",
        limit="leases",
    )


def admit_lease(connection: Connection, id: int, request: Any) -> bool:
    """Refuse one more lease or session, if there are too many; a retry passes.

    Raises:
        Exhausted: There are.
    """
    if not _is_retry(connection, id):
        check_lease(connection.node, connection.caller, connection.limits)
    return False


def admit_record(connection: Connection, id: int, request: Any) -> bool:
    """Refuse to let more hang on a user's sessions, if it is too much; a retry passes.

    Raises:
        Exhausted: It is.
    """
    node, caller, most = connection.node, connection.caller, connection.limits.records_per_user
    if (
        caller.actor
        and node.keyspace.leases.owned_by(caller.actor).records >= most
        and not is_favoured(node, caller)
        and not _is_retry(connection, id)
    ):
        raise Exhausted(
            f"records: at most {most} may hang on the sessions of user {caller.actor!r}, for what "
            "they hold, await and register; --max-session-records-per-user changes that",
            limit="session_records_per_user",
        )
    return False


def _is_retry(connection: Connection, id: int) -> bool:
    """Whether a request was applied before, so that it takes nothing more."""
    return connection.node.machine.requests.has(connection.caller.client, id)
