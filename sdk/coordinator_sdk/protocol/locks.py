"""Locks: exclusive, fair, fenced."""

from __future__ import annotations

from msgspec import Struct

from .kv import Id


class LockAcquire(Struct, array_like=True, tag="locks.acquire"):
    """Take the lock or join its queue; answers with a `TicketState`.

    ``timeout_ms`` None waits for ever, 0 does not wait. ``ticket`` empty lets the server
    name it. With ``follow``, later states of the ticket arrive as stream items of this
    request, the last of them not ``queued``.
    """

    namespace: str
    name: str
    session: Id
    owner: str
    ticket: str = ""
    timeout_ms: int | None = None
    reason: str = ""
    follow: bool = False


class LockRelease(Struct, array_like=True, tag="locks.release"):
    """Give the lock back. The next waiter is granted in the same revision."""

    namespace: str
    name: str
    session: Id
    owner: str
    token: int


class LockCancel(Struct, array_like=True, tag="locks.cancel"):
    """Withdraw a ticket: leave the queue, or give the lock back if it is granted already."""

    namespace: str
    name: str
    ticket: str


class LockForceRelease(Struct, array_like=True, tag="locks.force_release"):
    """Take the lock from its holder. ``token`` 0 means whichever holds it now."""

    namespace: str
    name: str
    reason: str
    token: int = 0


class LockTicket(Struct, array_like=True, tag="locks.ticket"):
    """Read the state of a ticket.

    With ``follow``, later states of the ticket arrive as stream items of this request, the
    last of them neither ``queued`` nor ``granted``.
    """

    namespace: str
    name: str
    ticket: str
    follow: bool = False


class LockGet(Struct, array_like=True, tag="locks.get"):
    """Read a lock: holder and queue."""

    namespace: str
    name: str
    revision: int = 0


class LockList(Struct, array_like=True, tag="locks.list"):
    """List the locks that are held."""

    namespace: str
    prefix: str = ""
    revision: int = 0


class LockHolder(Struct, array_like=True):
    """Who holds a lock."""

    token: int
    session: Id
    owner: str
    ticket: str
    since_ms: int
    reason: str = ""
    application: str = ""
    host: str = ""
    pid: int = 0


class LockWaiter(Struct, array_like=True):
    """Who waits for a lock."""

    ticket: str
    session: Id
    owner: str
    since_ms: int
    timeout_ms: int | None = None
    reason: str = ""
    application: str = ""
    host: str = ""
    pid: int = 0


class LockInfo(Struct, array_like=True):
    """A lock, its holder and its queue in the order of service."""

    namespace: str
    name: str
    holder: LockHolder | None = None
    queue: list[LockWaiter] = []
    waiting: int = 0


class LockReleaseResult(Struct, array_like=True):
    """Answer to release, cancel and force-release."""

    revision: int
    released: bool = True


class LockListResult(Struct, array_like=True):
    """Answer to `LockList`."""

    locks: list[LockInfo]


REQUESTS = (
    LockAcquire,
    LockRelease,
    LockCancel,
    LockForceRelease,
    LockTicket,
    LockGet,
    LockList,
)
