"""Keeping leases alive, and knowing when one can no longer be trusted.

Pure: time is an argument, in seconds of a clock that counts suspend. A lease is trusted until
the *send* time of its last acknowledged renewal plus its TTL minus a margin: the cluster,
which counts from the arrival of that renewal, cannot have given it away before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

CONNECTED = "connected"
SUSPENDED = "suspended"
LOST = "lost"

MARGIN_SECONDS_MIN = 0.25
RETRY_SECONDS_MAX = 0.5


def margin(ttl: float) -> float:
    """Seconds by which a lease is given up early: 10 % of its TTL, at least 250 ms."""
    return min(max(0.1 * ttl, MARGIN_SECONDS_MIN), ttl / 2)


class Renewal:
    """One lease under renewal.

    Attributes:
        lease: Its id.
        ttl: Seconds, as granted.
        deadline: When it stops being trusted.
        state: ``connected``, ``suspended`` (no connection, still trusted) or ``lost``.
        reason: Why it was lost.
    """

    __slots__ = ("deadline", "lease", "next_at", "on_change", "reason", "state", "ttl")

    def __init__(
        self, lease: int, ttl: float, sent_at: float, on_change: Callable[[Renewal], None]
    ) -> None:
        self.lease = lease
        self.ttl = ttl
        self.deadline = sent_at + ttl - margin(ttl)
        self.next_at = sent_at + ttl / 3
        self.state = CONNECTED
        self.reason = ""
        self.on_change = on_change

    def lose(self, reason: str) -> None:
        """Stop trusting the lease, for good."""
        if self.state != LOST:
            self.state, self.reason = LOST, reason
            self.on_change(self)

    def trusted(self, now: float) -> bool:
        """Whether it is alive for certain; a lease whose time has passed is lost here."""
        if self.state != LOST and now >= self.deadline:
            self.lose(f"no renewal was acknowledged within the TTL of {self.ttl:g} s")
        return self.state != LOST

    def _become(self, state: str) -> None:
        if self.state not in (state, LOST):
            self.state = state
            self.on_change(self)


class Renewals:
    """The leases of one client.

    Attributes:
        is_failing: Whether the member at hand has failed to renew since it was greeted.
    """

    def __init__(self) -> None:
        self.is_failing = False
        self._by_lease: dict[int, Renewal] = {}
        self._connected = True

    def __len__(self) -> int:
        return len(self._by_lease)

    def add(
        self, lease: int, ttl: float, sent_at: float, on_change: Callable[[Renewal], None]
    ) -> Renewal:
        """Begin to renew a lease.

        Args:
            lease: Its id.
            ttl: Seconds, as granted.
            sent_at: When the request that created it was sent.
            on_change: Called after every change of `Renewal.state`.
        """
        renewal = Renewal(lease, ttl, sent_at, on_change)
        self._by_lease[lease] = renewal
        if not self._connected:
            renewal.state = SUSPENDED
        return renewal

    def remove(self, lease: int) -> None:
        """Stop renewing a lease."""
        self._by_lease.pop(lease, None)

    def due(self, now: float) -> list[int]:
        """The leases to renew now, as one batch; those due soon ride along."""
        if not self._connected:
            return []
        values = self._by_lease.values()
        if not any(renewal.next_at <= now for renewal in values):
            return []
        batch: list[int] = []
        for renewal in values:
            if renewal.next_at <= now + renewal.ttl / 12:
                renewal.next_at = now + renewal.ttl / 3
                batch.append(renewal.lease)
        return batch

    def answered(self, leases: Sequence[int], ttls_ms: Sequence[int], sent_at: float) -> None:
        """Take in an answer.

        Args:
            leases: The batch that was sent.
            ttls_ms: The TTL of each, 0 for one that no longer exists.
            sent_at: When the batch was sent.
        """
        self.is_failing = False
        for lease, ttl_ms in zip(leases, ttls_ms, strict=False):
            renewal = self._by_lease.get(lease)
            if renewal is None:
                continue
            if ttl_ms <= 0:
                self._drop(renewal, "it has expired or was ended")
                continue
            renewal.ttl = ttl_ms / 1000
            deadline = sent_at + renewal.ttl - margin(renewal.ttl)
            renewal.deadline = max(renewal.deadline, deadline)

    def failed(self, leases: Iterable[int], now: float) -> None:
        """A batch was refused or lost: try again soon."""
        self.is_failing = True
        for lease in leases:
            renewal = self._by_lease.get(lease)
            if renewal is not None:
                renewal.next_at = now + min(renewal.ttl / 10, RETRY_SECONDS_MAX)

    def suspend(self) -> None:
        """The connection is gone."""
        self._connected = False
        for renewal in list(self._by_lease.values()):
            renewal._become(SUSPENDED)

    def resume(self, now: float) -> None:
        """A connection stands: renew everything at once."""
        self._connected = True
        self.is_failing = False
        for renewal in list(self._by_lease.values()):
            renewal.next_at = now
            renewal._become(CONNECTED)

    def expire(self, now: float) -> None:
        """Lose the leases whose time has passed."""
        for renewal in list(self._by_lease.values()):
            if not renewal.trusted(now):
                self._by_lease.pop(renewal.lease, None)

    def lose_all(self, reason: str) -> None:
        """Stop trusting every lease, as when the client is closed."""
        for renewal in list(self._by_lease.values()):
            self._drop(renewal, reason)

    def next_at(self) -> float | None:
        """When to look again; None if there is nothing to look after."""
        times = [
            min(renewal.deadline, renewal.next_at) if self._connected else renewal.deadline
            for renewal in self._by_lease.values()
        ]
        return min(times, default=None)

    def shortest_ttl(self) -> float | None:
        """The shortest TTL under renewal, in seconds."""
        return min((renewal.ttl for renewal in self._by_lease.values()), default=None)

    def _drop(self, renewal: Renewal, reason: str) -> None:
        self._by_lease.pop(renewal.lease, None)
        renewal.lose(reason)
