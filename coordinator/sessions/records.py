"""The record of a session, kept in the system keyspace under its lease.

The record hangs on the lease that carries the session, so it goes when the lease goes, and
the past of sessions is readable like that of any key.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from coordinator.wire import systemkey

DOMAIN = "sessions"
_NAMESPACE = ""
"""Sessions belong to the cluster, not to a namespace."""


class SessionRecord(Struct, array_like=True):
    """Who stands behind a session. ``opened_ms`` is Unix time by the cluster's clock."""

    session: int
    ttl_ms: int
    application: str
    host: str
    pid: int
    actor: str
    origin: str
    opened_ms: int
    metadata: dict[str, str]


encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(SessionRecord).decode


def key(session: int) -> bytes:
    """Give the system key of a session's record."""
    return systemkey.pack(_NAMESPACE, DOMAIN, "session", session)


def every() -> tuple[bytes, bytes]:
    """Give the range of all session records."""
    return systemkey.children(_NAMESPACE, DOMAIN, "session")
