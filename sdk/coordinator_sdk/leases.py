"""Leases: keys that go when nobody renews them."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from ._calls import Call
from ._connection import Connection, decoder, now
from ._keys import to_milliseconds
from ._modes import BEAT, CHANGE
from ._renewal import LOST, Renewal
from .errors import CoordinatorError, InvalidRequest, LeaseNotFound
from .protocol.kv import (
    LeaseGrant,
    LeaseGrantResult,
    LeaseInfo,
    LeaseKeepAlive,
    LeaseKeepAliveResult,
    LeaseList,
    LeaseListResult,
    LeaseRevoke,
    LeaseRevokeResult,
    LeaseTimeToLive,
)
from .sessions import Opening

if TYPE_CHECKING:
    from ._renewal import Renewals

__all__ = ["Lease", "LeaseOpening", "Leases"]

_GRANTED = decoder(LeaseGrantResult)
_REVOKED = decoder(LeaseRevokeResult)
_KEPT = decoder(LeaseKeepAliveResult)
_INFO = decoder(LeaseInfo)
_LIST = decoder(LeaseListResult)


class Lease:
    """A lease of this client.

    Attributes:
        id: Its id; what `KV.put` takes as ``lease``.
        ttl: Seconds that it outlives its last renewal.
        lost: Set when the lease has ended, or can no longer be trusted to live.
    """

    def __init__(self, leases: Leases, id: int, ttl: float) -> None:
        self.id = id
        self.ttl = ttl
        self.lost = asyncio.Event()
        self._leases = leases
        self._renewal: Renewal | None = None

    @property
    def state(self) -> str:
        """``connected``, ``suspended`` or ``lost``; ``idle`` if it is not kept alive."""
        if self._renewal is None:
            return LOST if self.lost.is_set() else "idle"
        return self._renewal.state

    async def keepalive(self) -> float:
        """Renew it once, by hand; returns the seconds it has now.

        Raises:
            LeaseNotFound: It has ended.
        """
        return await self._leases.keepalive(self.id)

    async def revoke(self) -> LeaseRevokeResult:
        """End the lease and delete its keys, in one revision.

        Raises:
            LeaseNotFound: It has ended already.
        """
        self.release_renewal()
        return await self._leases.revoke(self.id)

    async def info(self, *, keys: bool = False) -> LeaseInfo:
        """How long it lives on, and with ``keys`` what hangs on it."""
        return await self._leases.ttl(self.id, keys=keys)

    def keep(self, renewals: Renewals, sent_at: float) -> None:
        """Begin to renew it in the background."""
        self._renewal = renewals.add(self.id, self.ttl, sent_at, self._changed)

    def release_renewal(self) -> None:
        """Stop renewing it."""
        self._leases.drop(self.id)
        self.lost.set()

    def _changed(self, renewal: Renewal) -> None:
        if renewal.state == LOST:
            self._leases.drop(self.id)
            self.lost.set()

    async def __aenter__(self) -> Lease:
        return self

    async def __aexit__(self, *exc: object) -> None:
        if not self.lost.is_set():
            with contextlib.suppress(CoordinatorError):
                await self.revoke()

    def __repr__(self) -> str:
        return f"<Lease {self.id:016x} ttl={self.ttl:g} {self.state}>"


LeaseOpening = Opening[Lease]


class Leases:
    """Leases; `Client.leases`."""

    def __init__(self, link: Connection) -> None:
        self._link = link

    def grant(self, ttl: float, *, lease: int = 0, keepalive: bool = True) -> LeaseOpening:
        """Create a lease.

        Args:
            ttl: Seconds that it outlives its last renewal.
            lease: Id to give it; 0 lets the cluster choose.
            keepalive: Whether to renew it in the background, every third of the TTL.

        Returns:
            To be awaited, or used in ``async with``, which revokes it at the end.

        Raises:
            AlreadyExists: The id is taken.
            InvalidRequest: The cluster does not accept the TTL.
        """
        return Opening(lambda: self._grant(ttl, lease, keepalive))

    async def revoke(self, lease: int) -> LeaseRevokeResult:
        """End a lease and delete its keys, in one revision.

        Raises:
            LeaseNotFound: There is no such lease.
        """
        return await self._link.call(LeaseRevoke(lease), _REVOKED, CHANGE)

    async def keepalive(self, lease: int) -> float:
        """Renew a lease once; returns the seconds it has now.

        Raises:
            LeaseNotFound: There is no such lease.
        """
        result = await self._link.call(LeaseKeepAlive([lease]), _KEPT, BEAT)
        ttl_ms = result.ttls_ms[0] if result.ttls_ms else 0
        if ttl_ms <= 0:
            raise LeaseNotFound(f"lease {lease:016x} does not exist", lease=f"{lease:016x}")
        return ttl_ms / 1000

    async def ttl(self, lease: int, *, keys: bool = False) -> LeaseInfo:
        """How long a lease lives on, and with ``keys`` what hangs on it."""
        return await self._link.call(LeaseTimeToLive(lease, keys), _INFO)

    async def list(self) -> list[LeaseInfo]:
        """List all leases of the cluster; sessions are not among them."""
        return (await self._link.call(LeaseList(), _LIST)).leases

    def drop(self, lease: int) -> None:
        """Stop renewing a lease of this client."""
        self._link.renewals.remove(lease)

    async def _grant(self, ttl: float, lease: int, keepalive: bool) -> Lease:
        ttl_ms = to_milliseconds(ttl, "ttl")
        if ttl_ms <= 0:
            raise InvalidRequest("ttl: must be more than 0 seconds", field="ttl")
        answer: asyncio.Future[LeaseGrantResult] = self._link.loop.create_future()
        call = Call(LeaseGrant(ttl_ms, lease), _GRANTED, CHANGE, answer)
        self._link.submit(call)
        try:
            result = await asyncio.shield(answer)
        except asyncio.CancelledError:
            answer.add_done_callback(self._abandon)
            raise
        granted = Lease(self, result.lease, result.ttl_ms / 1000)
        if keepalive:
            granted.keep(self._link.renewals, call.sent_at or now())
            self._link.look_after()
        return granted

    def _abandon(self, answer: asyncio.Future[LeaseGrantResult]) -> None:
        if not answer.cancelled() and answer.exception() is None:
            self._link.forget(LeaseRevoke(answer.result().lease), CHANGE)
