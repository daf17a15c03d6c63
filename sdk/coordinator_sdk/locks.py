"""Locks: exclusive, fair, and fenced by the cluster."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Self

from ._connection import Connection, decoder
from ._held import Held
from ._modes import CHANGE
from .errors import AcquireTimeout, LockLost
from .protocol.locks import (
    LockAcquire,
    LockCancel,
    LockForceRelease,
    LockGet,
    LockInfo,
    LockList,
    LockListResult,
    LockRelease,
    LockReleaseResult,
    LockTicket,
)
from .sessions import DEFAULT_TTL, Session, Sessions

if TYPE_CHECKING:
    from msgspec import Struct

__all__ = ["Lock", "Locks"]

_INFO = decoder(LockInfo)
_LIST = decoder(LockListResult)
_RELEASED = decoder(LockReleaseResult)


class Lock(Held):
    """A lock; made by `Locks.lock`.

    Used in ``async with``, it is taken at the start and given back at the end. If it is lost
    in between, the body is cancelled, and ``async with`` raises `LockLost`.
    """

    _kind = "locks"
    _noun = "lock"
    _lost_error = LockLost

    def __init__(
        self,
        link: Connection,
        sessions: Sessions,
        namespace: str,
        name: str,
        timeout: float | None,
        session: Session | float,
        owner: str | None,
        reason: str,
    ) -> None:
        super().__init__(link, sessions, namespace, name, timeout, session, owner)
        self._reason = reason

    async def acquire(self, timeout: float | None = None) -> Self:
        """Take the lock, waiting in its queue if need be.

        Args:
            timeout: Seconds to wait at most; 0 to try once. None for what `Locks.lock` was
                given.

        Returns:
            The lock itself, held.

        Raises:
            AcquireTimeout: It was not granted in time; the place in the queue is given up.
            WouldDeadlock: This owner has it or waits for it already.
            SessionLost: The session was lost while waiting.
        """
        await self._obtain(self._timeout if timeout is None else timeout)
        return self

    async def try_acquire(self) -> bool:
        """Take the lock if it is free; returns whether it was."""
        with contextlib.suppress(AcquireTimeout):
            await self._obtain(0)
            return True
        return False

    async def release(self) -> None:
        """Give the lock back; the next in the queue has it in the same moment.

        Raises:
            LockLost: It was lost before.
            NotHeld: It is not held.
        """
        await self._give_back()

    def _acquire_body(self, session: int, timeout_ms: int | None) -> Struct:
        return LockAcquire(
            self._namespace,
            self.name,
            session,
            self._owner,
            self._ticket,
            timeout_ms,
            self._reason,
            True,
        )

    def _release_body(self, session: int) -> Struct:
        return LockRelease(self._namespace, self.name, session, self._owner, self._token)

    def _cancel_body(self) -> Struct:
        return LockCancel(self._namespace, self.name, self._ticket)

    def _follow_body(self) -> Struct:
        return LockTicket(self._namespace, self.name, self._ticket, True)


class Locks:
    """Locks; `Client.locks`."""

    def __init__(self, link: Connection, sessions: Sessions, namespace: str) -> None:
        self._link = link
        self._sessions = sessions
        self._namespace = namespace

    def lock(
        self,
        name: str,
        *,
        timeout: float | None = None,
        ttl: float = DEFAULT_TTL,
        owner: str | None = None,
        reason: str = "",
        session: Session | None = None,
    ) -> Lock:
        """Make a lock object; nothing is sent yet.

        Example::

            async with client.locks.lock("nightly-report", timeout=5) as lock:
                await client.kv.put("reports/last", b"...", guard=lock)

        Args:
            name: Name of the lock.
            timeout: Seconds to wait for it at most; None to wait for ever, 0 to try once.
            ttl: Seconds after which the cluster takes it from a client that is gone.
            owner: Name of the owner within the session; one for each object unless given.
            reason: Why it is taken, shown to operators.
            session: The session to hang it on; the shared one of ``ttl`` unless given.

        Returns:
            The lock, not yet taken: use it in ``async with``, or call `Lock.acquire`.
        """
        wanted = ttl if session is None else session
        return Lock(
            self._link, self._sessions, self._namespace, name, timeout, wanted, owner, reason
        )

    async def get(self, name: str, *, revision: int = 0) -> LockInfo:
        """Read a lock: its holder and its queue.

        Args:
            name: Name of the lock.
            revision: As it was at this revision; 0 for now.
        """
        return await self._link.call(LockGet(self._namespace, name, revision), _INFO)

    async def list(self, prefix: str = "", *, revision: int = 0) -> list[LockInfo]:
        """List the locks that are held.

        Args:
            prefix: Only names that begin with it.
            revision: As it was at this revision; 0 for now.
        """
        answer = await self._link.call(LockList(self._namespace, prefix, revision), _LIST)
        return answer.locks

    async def force_release(self, name: str, reason: str, *, token: int = 0) -> LockReleaseResult:
        """Take a lock from its holder, who is told at once.

        Args:
            name: Name of the lock.
            reason: Why, for the holder and for the record.
            token: Only if it is still held with this token; 0 for whoever holds it.

        Raises:
            NotFound: Nobody holds it.
            NotHeld: Somebody holds it, but not with this token.
        """
        body = LockForceRelease(self._namespace, name, reason, token)
        return await self._link.call(body, _RELEASED, CHANGE)
