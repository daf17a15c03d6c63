"""gRPC codes, and etcd's error texts with theirs. Pure.

Clients match the text, byte for byte. An error whose text is one of etcd's has the code that etcd
gives it; any other has the code that fits its class.
"""

from __future__ import annotations

from enum import IntEnum

from coordinator_sdk import errors
from coordinator_sdk.errors import CoordinatorError
from coordinator_sdk.protocol.auth import OLD_REVISION


class Code(IntEnum):
    """The codes of gRPC."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


NO_LEADER = "etcdserver: no leader"
TOO_MANY_REQUESTS = "etcdserver: too many requests"
TIMED_OUT = "etcdserver: request timed out"
TOO_LARGE = "etcdserver: request is too large"
STOPPED = "etcdserver: server stopped"
NO_SPACE = "etcdserver: mvcc: database space exceeded"
TTL_TOO_LARGE = "etcdserver: too large lease TTL"
NOT_LEADER = "etcdserver: not leader"
BAD_URLS = "etcdserver: given member URLs are invalid"
AUTH_NOT_ENABLED = "etcdserver: authentication is not enabled"
USER_NOT_FOUND = "etcdserver: user name not found"
USER_EMPTY = "etcdserver: user name is empty"
INVALID_TOKEN = "etcdserver: invalid auth token"
PERMISSION_DENIED = "etcdserver: permission denied"
ROLE_NOT_FOUND = "etcdserver: role name not found"
NO_ELECTION_LEADER = "election: no leader"
NOT_ELECTED = "election: not leader"
SESSION_EXPIRED = "mutex: session is expired"

_TEXTS: dict[Code, tuple[str, ...]] = {
    Code.INVALID_ARGUMENT: (
        "etcdserver: key is not provided",
        "etcdserver: key not found",
        "etcdserver: value is provided",
        "etcdserver: lease is provided",
        "etcdserver: too many operations in txn request",
        "etcdserver: duplicate key given in txn request",
        "etcdserver: invalid sort option",
        TOO_LARGE,
        BAD_URLS,
        USER_EMPTY,
        "etcdserver: role name is empty",
        "etcdserver: invalid auth management",
        "etcdserver: permission not given",
        "etcdserver: authentication failed, invalid user ID or password",
    ),
    Code.OUT_OF_RANGE: (
        "etcdserver: mvcc: required revision has been compacted",
        "etcdserver: mvcc: required revision is a future revision",
        TTL_TOO_LARGE,
    ),
    Code.NOT_FOUND: (
        "etcdserver: requested lease not found",
        "etcdserver: member not found",
    ),
    Code.FAILED_PRECONDITION: (
        "etcdserver: lease already exists",
        "etcdserver: member ID already exist",
        "etcdserver: Peer URLs already exists",
        "etcdserver: re-configuration failed due to not enough started members",
        "etcdserver: can only promote a learner member",
        "etcdserver: can only promote a learner member which is in sync with leader",
        "etcdserver: too many learner members in cluster",
        "etcdserver: bad leader transferee",
        NOT_LEADER,
        AUTH_NOT_ENABLED,
        USER_NOT_FOUND,
        ROLE_NOT_FOUND,
        "etcdserver: user name already exists",
        "etcdserver: role name already exists",
        "etcdserver: root user does not exist",
        "etcdserver: root user does not have root role",
        "etcdserver: role is not granted to the user",
        "etcdserver: permission is not granted to the role",
    ),
    Code.RESOURCE_EXHAUSTED: (NO_SPACE, TOO_MANY_REQUESTS),
    Code.PERMISSION_DENIED: (PERMISSION_DENIED,),
    Code.UNAUTHENTICATED: (INVALID_TOKEN,),
    Code.UNAVAILABLE: (
        NO_LEADER,
        STOPPED,
        TIMED_OUT,
        "etcdserver: unhealthy cluster",
        "etcdserver: request timed out, leader transfer took too long",
    ),
    Code.UNKNOWN: (NO_ELECTION_LEADER, NOT_ELECTED, SESSION_EXPIRED),
}
_CODE_OF_TEXT = {text: code for code, texts in _TEXTS.items() for text in texts}

# From the special to the general: the first class that fits decides.
_OF_CLASS: tuple[tuple[type[CoordinatorError], Code, str], ...] = (
    (errors.Compacted, Code.OUT_OF_RANGE, ""),
    (errors.FutureRevision, Code.OUT_OF_RANGE, ""),
    (errors.RequestTooLarge, Code.INVALID_ARGUMENT, TOO_LARGE),
    (errors.InvalidRequest, Code.INVALID_ARGUMENT, ""),
    (errors.Unauthenticated, Code.UNAUTHENTICATED, ""),
    (errors.PermissionDenied, Code.PERMISSION_DENIED, ""),
    (errors.NotFound, Code.NOT_FOUND, ""),
    (errors.Conflict, Code.FAILED_PRECONDITION, ""),
    (errors.Gone, Code.OUT_OF_RANGE, ""),
    (errors.NoSpace, Code.RESOURCE_EXHAUSTED, NO_SPACE),
    (errors.Exhausted, Code.RESOURCE_EXHAUSTED, TOO_MANY_REQUESTS),
    (errors.AcquireTimeout, Code.DEADLINE_EXCEEDED, ""),
    (errors.UnknownOperation, Code.UNIMPLEMENTED, ""),
    (errors.NoLeader, Code.UNAVAILABLE, NO_LEADER),
    (errors.Stopping, Code.UNAVAILABLE, STOPPED),
    # Whatever kept it from being served, or told that it was: etcd's clients know one text for it.
    (errors.Unavailable, Code.UNAVAILABLE, TIMED_OUT),
    (errors.OutcomeUnknown, Code.UNAVAILABLE, TIMED_OUT),
)


class StatusError(Exception):
    """A call that ends with a status other than OK."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def told(message: str) -> StatusError:
    """Make the error of one of etcd's texts, with the code it has there."""
    return StatusError(_CODE_OF_TEXT[message], message)


def status_of(error: BaseException) -> StatusError:
    """Give the status with which a call ends that failed so."""
    if isinstance(error, StatusError):
        return error
    if not isinstance(error, CoordinatorError):
        return StatusError(Code.INTERNAL, "the member failed to serve the request")
    if error.message == OLD_REVISION:
        # As with etcd's tokens, which a change of the password makes void: its clients log in anew.
        return told(INVALID_TOKEN)
    known = _CODE_OF_TEXT.get(error.message)
    if known is not None:
        return StatusError(known, error.message)
    for kind, code, text in _OF_CLASS:
        if isinstance(error, kind):
            return StatusError(code, text or error.message)
    return StatusError(Code.UNKNOWN, error.message)
