"""The exception tree, shared by the server and its clients.

The tree is ordered by the question a caller asks first: *did it happen?*

::

    CoordinatorError
    ├─ NotApplied                    it certainly did not happen
    │  ├─ InvalidRequest        400  the request is wrong; `details["field"]` names the field
    │  │  ├─ RequestTooLarge    413
    │  │  └─ FutureRevision     400
    │  ├─ Unauthenticated       401
    │  ├─ PermissionDenied      403
    │  ├─ NotFound              404
    │  │  ├─ LeaseNotFound
    │  │  └─ SessionNotFound
    │  ├─ Conflict              409
    │  │  ├─ AlreadyExists
    │  │  ├─ WouldDeadlock           the same owner already holds or awaits it
    │  │  ├─ NotHeld                 the caller does not hold it
    │  │  ├─ GuardFailed        412  the fencing token is stale
    │  │  └─ RequestReused           request id seen before with another command
    │  ├─ Gone                  410
    │  │  ├─ Compacted               history below `details["compact_revision"]` is gone
    │  │  └─ TopicTruncated          messages below `details["first_sequence"]` are gone
    │  ├─ Exhausted             429
    │  │  └─ NoSpace            507
    │  ├─ AcquireTimeout        408  the wait ended before the grant
    │  ├─ UnknownOperation      501
    │  └─ Unavailable           503  retry on this or another member
    │     ├─ NoLeader
    │     └─ Stopping
    ├─ OutcomeUnknown           504  it may have happened
    ├─ ClusterMismatch          421  the endpoint belongs to another cluster
    ├─ Internal                 500
    └─ ClientError                   raised by the client itself
       ├─ ConnectFailed              no endpoint answered
       ├─ ConnectionLost
       ├─ SessionLost                the session ended under its user
       │  ├─ LockLost
       │  └─ LeadershipLost
       └─ ClientClosed

Every class has a stable ``code``, which crosses the wire; `error_from_wire` rebuilds the
same class on the other side.
"""

from __future__ import annotations

from typing import Any, ClassVar

__all__ = [
    "AcquireTimeout",
    "AlreadyExists",
    "ClientClosed",
    "ClientError",
    "ClusterMismatch",
    "Compacted",
    "Conflict",
    "ConnectFailed",
    "ConnectionLost",
    "CoordinatorError",
    "Exhausted",
    "FutureRevision",
    "Gone",
    "GuardFailed",
    "Internal",
    "InvalidRequest",
    "LeadershipLost",
    "LeaseNotFound",
    "LockLost",
    "NoLeader",
    "NoSpace",
    "NotApplied",
    "NotFound",
    "NotHeld",
    "OutcomeUnknown",
    "PermissionDenied",
    "RequestReused",
    "RequestTooLarge",
    "SessionLost",
    "SessionNotFound",
    "Stopping",
    "TopicTruncated",
    "Unauthenticated",
    "Unavailable",
    "UnknownOperation",
    "WouldDeadlock",
    "error_from_wire",
]

_BY_CODE: dict[str, type[CoordinatorError]] = {}


class CoordinatorError(Exception):
    """Root of the tree.

    Attributes:
        message: One sentence that says what is wrong and, where possible, what mends it.
        details: JSON-compatible facts, such as the name of the offending field.
    """

    code: ClassVar[str] = "error"
    http_status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False

    def __init__(self, message: str = "", **details: Any) -> None:
        super().__init__(message or self.code)
        self.message = message or self.code
        self.details = details

    def __init_subclass__(
        cls, code: str, http: int | None = None, retryable: bool | None = None
    ) -> None:
        super().__init_subclass__()
        if code in _BY_CODE:  # pragma: no cover - a programming error, seen at import
            raise RuntimeError(f"error code {code!r} is taken by {_BY_CODE[code].__name__}")
        cls.code = code
        if http is not None:
            cls.http_status = http
        if retryable is not None:
            cls.retryable = retryable
        _BY_CODE[code] = cls

    def __str__(self) -> str:
        return self.message


class NotApplied(CoordinatorError, code="not_applied"):
    """It certainly did not happen."""


class InvalidRequest(NotApplied, code="invalid_request", http=400):
    """The request is wrong; ``details["field"]`` names the field, where there is one."""


class RequestTooLarge(InvalidRequest, code="request_too_large", http=413):
    """The request exceeds the size limit."""


class FutureRevision(InvalidRequest, code="future_revision", http=400):
    """The revision asked for does not exist yet."""


class Unauthenticated(NotApplied, code="unauthenticated", http=401):
    """The caller did not prove who it is."""


class PermissionDenied(NotApplied, code="permission_denied", http=403):
    """The caller may not do this."""


class NotFound(NotApplied, code="not_found", http=404):
    """No such thing."""


class LeaseNotFound(NotFound, code="lease_not_found"):
    """The lease does not exist, or has expired."""


class SessionNotFound(NotFound, code="session_not_found"):
    """The session does not exist, or has expired."""


class Conflict(NotApplied, code="conflict", http=409):
    """The state does not allow it."""


class AlreadyExists(Conflict, code="already_exists"):
    """It exists already."""


class WouldDeadlock(Conflict, code="would_deadlock"):
    """The same owner already holds or awaits it."""


class NotHeld(Conflict, code="not_held"):
    """The caller does not hold it."""


class GuardFailed(Conflict, code="guard_failed", http=412):
    """The fencing token is no longer the live one: nothing was written."""


class RequestReused(Conflict, code="request_reused"):
    """A request id was used for two different commands, or is below the client's floor."""


class Gone(NotApplied, code="gone", http=410):
    """It existed, and is gone."""


class Compacted(Gone, code="compacted"):
    """The revision asked for has been compacted."""


class TopicTruncated(Gone, code="topic_truncated"):
    """Messages that the subscription would have got next are gone by retention."""


class Exhausted(NotApplied, code="exhausted", http=429):
    """A limit is reached; ``details["limit"]`` names it."""


class NoSpace(Exhausted, code="no_space", http=507):
    """The quota is used up."""


class AcquireTimeout(NotApplied, code="acquire_timeout", http=408):
    """The wait for a grant ended before the grant; the ticket has left the queue."""


class UnknownOperation(NotApplied, code="unknown_operation", http=501):
    """This member does not know the operation."""


class Unavailable(NotApplied, code="unavailable", http=503, retryable=True):
    """The member cannot serve now; another one, or a later try, may."""


class NoLeader(Unavailable, code="no_leader"):
    """The cluster has no leader at the moment."""


class Stopping(Unavailable, code="stopping"):
    """The member is shutting down."""


class OutcomeUnknown(CoordinatorError, code="outcome_unknown", http=504):
    """It may have happened; only the same request id tells."""


class ClusterMismatch(CoordinatorError, code="cluster_mismatch", http=421):
    """The endpoint belongs to another cluster than the one the client talked to before."""


class Internal(CoordinatorError, code="internal", http=500):
    """A fault of the server."""


class ClientError(CoordinatorError, code="client_error"):
    """Raised by the client itself."""


class ConnectFailed(ClientError, code="connect_failed", retryable=True):
    """No endpoint answered."""


class ConnectionLost(ClientError, code="connection_lost", retryable=True):
    """The connection broke before the answer came."""


class SessionLost(ClientError, code="session_lost"):
    """The session ended under its user."""


class LockLost(SessionLost, code="lock_lost"):
    """The lock was lost while its body ran."""


class LeadershipLost(SessionLost, code="leadership_lost"):
    """The leadership was lost while its body ran."""


class ClientClosed(ClientError, code="client_closed"):
    """The client has been closed."""


def error_from_wire(code: str, message: str, details: dict[str, Any] | None = None) -> Exception:
    """Rebuild an error from what crossed the wire.

    Args:
        code: The stable code; an unknown one gives a plain `CoordinatorError`.
        message: The sentence for people.
        details: JSON-compatible facts.

    Returns:
        An instance of the class that carries ``code``.
    """
    error = _BY_CODE.get(code, CoordinatorError).__new__(_BY_CODE.get(code, CoordinatorError))
    CoordinatorError.__init__(error, message, **(details or {}))
    return error
