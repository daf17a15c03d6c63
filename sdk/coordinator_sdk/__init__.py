"""The Python client of Coordinator: service discovery, locks, elections and topics.

`Client` is for asyncio; `coordinator_sdk.sync.Client` has the same names without ``await``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._version import __version__
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

if TYPE_CHECKING:
    from . import ops
    from ._endpoints import RetryPolicy
    from ._streams import Event
    from .client import Client
    from .credentials import TLS, ApiKey, Password, Token
    from .elections import ElectionWatch, Leadership
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

_HOMES = {
    "ApiKey": ".credentials",
    "Client": ".client",
    "ElectionChange": ".protocol.elections",
    "ElectionInfo": ".protocol.elections",
    "ElectionWatch": ".elections",
    "Event": "._streams",
    "Instance": ".protocol.services",
    "KeyValue": ".protocol.kv",
    "KeyWatch": ".kv",
    "Leadership": ".elections",
    "Lease": ".leases",
    "Lock": ".locks",
    "LockInfo": ".protocol.locks",
    "Password": ".credentials",
    "Registration": ".services",
    "RetryPolicy": "._endpoints",
    "ServiceWatch": ".services",
    "Session": ".sessions",
    "Subscription": ".topics",
    "TLS": ".credentials",
    "Token": ".credentials",
    "TopicInfo": ".protocol.topics",
    "TopicMessage": ".protocol.topics",
    "ops": ".ops",
}
"""Where a name lives. It is imported when it is first used: whoever needs the errors or the
protocol only, as servers do, does not load the client."""


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(_HOMES[name], __name__)
    value = module if name == "ops" else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))


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
