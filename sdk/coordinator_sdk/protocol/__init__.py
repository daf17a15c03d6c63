"""The contract between servers and clients: frames, operations, results.

Pure: no I/O, no clock. Servers and SDK both import it, so that it exists once.
"""

from __future__ import annotations

from typing import Any

from . import (
    audit,
    auth,
    cluster,
    discovery,
    elections,
    frames,
    kv,
    locks,
    maintenance,
    services,
    sessions,
    topics,
)

REQUESTS: tuple[type[Any], ...] = (
    kv.Put,
    kv.Range,
    kv.Delete,
    kv.Txn,
    kv.Compact,
    kv.Watch,
    kv.Credit,
    kv.Cancel,
    kv.Progress,
    kv.LeaseGrant,
    kv.LeaseRevoke,
    kv.LeaseKeepAlive,
    kv.LeaseTimeToLive,
    kv.LeaseList,
    *sessions.REQUESTS,
    *services.REQUESTS,
    *topics.REQUESTS,
    *locks.REQUESTS,
    *elections.REQUESTS,
    *discovery.REQUESTS,
    *cluster.REQUESTS,
    *maintenance.REQUESTS,
    *audit.REQUESTS,
    *auth.REQUESTS,
)
"""Every operation a client may send."""

__all__ = [
    "REQUESTS",
    "audit",
    "auth",
    "cluster",
    "discovery",
    "elections",
    "frames",
    "kv",
    "locks",
    "maintenance",
    "services",
    "sessions",
    "topics",
]
