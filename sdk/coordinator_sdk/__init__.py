"""The Python client of Coordinator: service discovery, locks, elections and topics.

`Client` is for asyncio; `coordinator_sdk.sync.Client` has the same names without ``await``.
"""

from __future__ import annotations

from . import ops
from ._endpoints import RetryPolicy
from ._streams import Event
from ._version import __version__
from .client import Client
from .credentials import TLS, ApiKey, Password, Token
from .elections import ElectionWatch, Leadership
from .errors import (
    AcquireTimeout,
    AlreadyExists,
    ClientClosed,
    ClientError,
    ClusterMismatch,
    Compacted,
    Conflict,
    ConnectFailed,
    ConnectionLost,
    CoordinatorError,
    Exhausted,
    FutureRevision,
    Gone,
    GuardFailed,
    Internal,
    InvalidRequest,
    LeadershipLost,
    LeaseNotFound,
    LockLost,
    NoLeader,
    NoSpace,
    NotApplied,
    NotFound,
    NotHeld,
    OutcomeUnknown,
    PermissionDenied,
    RequestReused,
    RequestTooLarge,
    SessionLost,
    SessionNotFound,
    Stopping,
    TopicTruncated,
    Unauthenticated,
    Unavailable,
    UnknownOperation,
    WouldDeadlock,
)
from .kv import KeyWatch
from .leases import Lease
from .locks import Lock
from .protocol.elections import ElectionChange, ElectionInfo
from .protocol.kv import KeyValue
from .protocol.locks import LockInfo
from .protocol.services import Instance
from .protocol.topics import TopicInfo, TopicMessage
from .services import Registration, ServiceWatch
from .sessions import Session
from .topics import Subscription

__all__ = [
    "AcquireTimeout",
    "AlreadyExists",
    "ApiKey",
    "Client",
    "ClientClosed",
    "ClientError",
    "ClusterMismatch",
    "Compacted",
    "Conflict",
    "ConnectFailed",
    "ConnectionLost",
    "CoordinatorError",
    "ElectionChange",
    "ElectionInfo",
    "ElectionWatch",
    "Event",
    "Exhausted",
    "FutureRevision",
    "Gone",
    "GuardFailed",
    "Instance",
    "Internal",
    "InvalidRequest",
    "KeyValue",
    "KeyWatch",
    "Leadership",
    "LeadershipLost",
    "Lease",
    "LeaseNotFound",
    "Lock",
    "LockInfo",
    "LockLost",
    "NoLeader",
    "NoSpace",
    "NotApplied",
    "NotFound",
    "NotHeld",
    "OutcomeUnknown",
    "Password",
    "PermissionDenied",
    "Registration",
    "RequestReused",
    "RequestTooLarge",
    "RetryPolicy",
    "ServiceWatch",
    "Session",
    "SessionLost",
    "SessionNotFound",
    "Stopping",
    "Subscription",
    "TLS",
    "Token",
    "TopicInfo",
    "TopicMessage",
    "TopicTruncated",
    "Unauthenticated",
    "Unavailable",
    "UnknownOperation",
    "WouldDeadlock",
    "__version__",
    "ops",
]
