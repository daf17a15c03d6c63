"""Sessions: a lease that knows who stands behind it."""

from __future__ import annotations

from msgspec import Struct

from .kv import Id


class SessionOpen(Struct, array_like=True, tag="sessions.open"):
    """Open a session. ``session`` 0 lets the server choose the id."""

    ttl_ms: int
    session: Id = 0
    application: str = ""
    host: str = ""
    pid: int = 0
    metadata: dict[str, str] = {}


class SessionClose(Struct, array_like=True, tag="sessions.close"):
    """End a session: what hangs on it is released in the same revision."""

    session: Id


class SessionGet(Struct, array_like=True, tag="sessions.get"):
    """Read one session."""

    session: Id


class SessionList(Struct, array_like=True, tag="sessions.list"):
    """List the sessions."""


class SessionInfo(Struct, array_like=True):
    """A session. Times are milliseconds; ``opened_ms`` is Unix time by the cluster's clock."""

    session: Id
    ttl_ms: int
    remaining_ms: int = -1
    application: str = ""
    host: str = ""
    pid: int = 0
    actor: str = ""
    opened_ms: int = 0
    metadata: dict[str, str] = {}
    holds: list[str] = []
    """What hangs on it, as ``domain/namespace/name`` strings."""


class SessionOpenResult(Struct, array_like=True):
    """Answer to `SessionOpen`."""

    session: Id
    ttl_ms: int


class SessionListResult(Struct, array_like=True):
    """Answer to `SessionList`."""

    sessions: list[SessionInfo]


REQUESTS = (SessionOpen, SessionClose, SessionGet, SessionList)
