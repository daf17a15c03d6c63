"""What the leader times: leases, timers, and the chores that come due.

Durations are replicated, deadlines are not. A leader that takes office gives every lease its
full TTL and every timer its full duration from then on, so nothing ever ends early because
leadership moved.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from coordinator.replica.entry import granted_at
from coordinator.replica.timers import DeadlineClock, TimerRecord
from coordinator.wire.command import LeaseContinue, LeaseExpire, Sweep, TimerFire

if TYPE_CHECKING:
    from coordinator.replica.machine import Machine

DUE_PER_TICK: Final = 1000
"""Expiries and timers proposed in one tick; the rest follow in the next."""
RETRY_MS: Final = 5000
"""When to propose again what may have been dropped on its way into the log."""
SWEEPS_PER_TICK: Final = 8

Propose = Callable[[Any, str], None]


class LeaderClock:
    """Deadlines of the leases and timers of one machine; idle unless the member leads."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.is_running = False
        self._leases = DeadlineClock()
        self._timers = DeadlineClock()
        self._expiring: dict[int, None] = {}
        self._now_ms = 0

    def set_time(self, now_ms: int) -> None:
        """Tell the time; what starts from now on is measured from it."""
        self._now_ms = now_ms

    def take_office(self, now_ms: int) -> None:
        """Start all clocks at their full length."""
        self.leave_office()
        self.is_running = True
        self._now_ms = now_ms
        for lease in self.machine.keyspace.leases.by_id.values():
            self._leases.set(lease.id, now_ms + lease.ttl_ms)
        for key, record in self.machine.timers.records.items():
            self.started(key, record)
        self.machine.timers.listener = self
        self.machine.lease_listener = self

    def leave_office(self) -> None:
        """Stop all clocks."""
        self.is_running = False
        self._leases.clear()
        self._timers.clear()
        self._expiring.clear()
        self.machine.timers.listener = None
        self.machine.lease_listener = None

    def started(self, key: bytes, record: TimerRecord) -> None:
        """A timer has been started by an entry."""
        self._timers.set((key, record.generation), self._now_ms + record.duration_ms)

    def stopped(self, key: bytes, record: TimerRecord) -> None:
        """A timer has been cancelled, or has run, by an entry."""
        self._timers.discard((key, record.generation))

    def granted(self, lease: int, ttl_ms: int) -> None:
        """A lease has been granted by an entry."""
        self._leases.set(lease, self._now_ms + ttl_ms)

    def ended(self, lease: int) -> None:
        """A lease has ended by an entry."""
        self._leases.discard(lease)
        self._expiring.pop(lease, None)

    def renew(self, lease: int, now_ms: int) -> int:
        """Give a lease its full TTL again.

        Returns:
            The TTL in milliseconds; 0 if there is no such lease or its end is on its way.
        """
        found = self.machine.keyspace.leases.get(lease)
        if found is None or lease in self._expiring or not self.is_running:
            return 0
        self._leases.set(lease, now_ms + found.ttl_ms)
        return found.ttl_ms

    def remaining_ms(self, lease: int, now_ms: int) -> int:
        """Give how long a lease lives on; 0 if its end is on its way, -1 if unknown here."""
        if lease in self._expiring:
            return 0
        deadline = self._leases.get(lease)
        return -1 if deadline is None else max(0, deadline - now_ms)

    def collect(self, now_ms: int, term: int, propose: Propose) -> None:
        """Propose everything that is due."""
        for lease in self._leases.due(now_ms, DUE_PER_TICK):
            assert isinstance(lease, int)
            self._expiring[lease] = None
            self._leases.set(lease, now_ms + RETRY_MS)
            granted = granted_at(self.machine.keyspace.leases.get(lease))
            propose(LeaseExpire(lease, term, granted), "expired")
        for name in self._timers.due(now_ms, DUE_PER_TICK):
            assert isinstance(name, tuple)
            key, generation = name
            record = self.machine.timers.records.get(key)
            if record is not None and record.generation == generation:
                self._timers.set(name, now_ms + RETRY_MS)
                propose(TimerFire(key, generation), "timer")
        if self.machine.hooks:
            propose(LeaseContinue(), "hooks")
        if self.machine.keyspace.is_sweepable:
            for _ in range(SWEEPS_PER_TICK):
                propose(Sweep(), "compaction")
