"""The view of one log entry: what commands read and change while it is applied."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from coordinator.keyspace.records import SYSTEM
from coordinator.replica.timers import TimerRecord
from coordinator.wire import systemkey
from coordinator_sdk.errors import InvalidRequest, LeaseNotFound
from coordinator_sdk.protocol.kv import KeyValue, LeaseRevokeResult

if TYPE_CHECKING:
    from coordinator.keyspace.leases import Lease
    from coordinator.keyspace.transaction import Commit
    from coordinator.replica.domain import Meta
    from coordinator.replica.machine import Machine


LEASE_TTL_MS_MIN: Final = 500
"""Shorter lives are raised to this: a lease must outlive a few missed heartbeats."""


class EntryTxn:
    """One entry's transaction over the system keyspace, the timers and the leases.

    Implements `DomainTxn` for the domains and `SessionTxn` for sessions. ``keys`` is the
    keyspace's transaction itself, for the keyspace's own commands.
    """

    __slots__ = ("_ended", "_granted", "_timers_undo", "keys", "machine", "meta", "revision")

    def __init__(self, machine: Machine, meta: Meta) -> None:
        self.machine = machine
        self.meta = meta
        self.keys = machine.keyspace.begin(meta.clock_ms)
        self.revision = self.keys.revision
        self._timers_undo: list[tuple[bytes, TimerRecord | None]] = []
        self._granted: dict[int, int] = {}
        self._ended: list[int] = []

    def commit(self) -> Commit:
        """Make the entry's changes the new revision, if there are any."""
        commit = self.keys.commit()
        if commit.leases:
            self.machine.changes.leases.update(commit.leases)
            self._tell_leases()
        if self._timers_undo:
            self._tell_timers()
        return commit

    def _tell_leases(self) -> None:
        listener = self.machine.lease_listener
        if listener is None:
            return
        for lease in self._ended:
            listener.ended(lease)
        for lease, ttl_ms in self._granted.items():
            listener.granted(lease, ttl_ms)

    def _tell_timers(self) -> None:
        timers = self.machine.timers
        if timers.listener is None:
            return
        for key, former in self._timers_undo:
            if former is not None:
                timers.listener.stopped(key, former)
        for key in dict(self._timers_undo):
            record = timers.records.get(key)
            if record is not None:
                timers.listener.started(key, record)

    def rollback(self) -> None:
        """Undo everything."""
        self.keys.rollback()
        for key, record in reversed(self._timers_undo):
            self.machine.timers.restore(key, record)

    def get(self, key: bytes) -> KeyValue | None:
        """Read one system record."""
        return self.keys.get(SYSTEM, key)

    def put(self, key: bytes, value: bytes, lease: int = 0) -> KeyValue:
        """Write one system record."""
        return self.keys.put(SYSTEM, key, value, lease)

    def delete(self, key: bytes) -> KeyValue | None:
        """Delete one system record."""
        return self.keys.delete(SYSTEM, key)

    def scan(
        self, start: bytes, end: bytes, limit: int = 1000, reverse: bool = False
    ) -> list[KeyValue]:
        """Read up to ``limit`` system records in (reverse) key order."""
        store = self.machine.keyspace.stores[SYSTEM]
        if reverse and limit == 1:
            last = store.last(start, end)
            return [] if last is None else [last]
        names = store.keys.keys(start, end, False, True)
        chosen = list(names)[: -limit - 1 : -1] if reverse else list(islice(names, limit))
        return [store.live[name] for name in chosen]

    def count(self, start: bytes, end: bytes, limit: int = 1000) -> int:
        """Count system records, giving up at ``limit``."""
        names = self.machine.keyspace.stores[SYSTEM].keys.keys(start, end, False, True)
        return sum(1 for _ in islice(names, limit))

    def set_timer(self, key: bytes, duration_ms: int) -> None:
        """Start a timer of the domain that ``key`` belongs to."""
        timers = self.machine.timers
        self._timers_undo.append((key, timers.records.get(key)))
        domain = str(systemkey.unpack(key)[1])
        timers.start(key, TimerRecord(domain, self.meta.index, duration_ms))

    def cancel_timer(self, key: bytes) -> None:
        """Forget a timer, if there is one."""
        timers = self.machine.timers
        record = timers.records.get(key)
        if record is not None:
            self._timers_undo.append((key, record))
            timers.cancel(key)

    def granted_at(self, lease: int) -> int:
        """Give the index of the entry that granted a lease; 0 if it does not exist."""
        return granted_at(self.machine.keyspace.leases.get(lease))

    def lease_exists(self, lease: int) -> bool:
        """Tell whether a lease or session lives."""
        return self.machine.keyspace.leases.get(lease) is not None

    def session_exists(self, session: int) -> bool:
        """Tell whether a lease of kind session lives."""
        lease = self.machine.keyspace.leases.get(session)
        return lease is not None and lease.kind == "session"

    def grant_lease(self, lease: int, ttl_ms: int, kind: str) -> int:
        """Create a lease.

        Raises:
            InvalidRequest: The id is none.
            AlreadyExists: The id is taken.
        """
        check_id(lease, "lease")
        born = self.meta.index.to_bytes(8, "big")
        granted = self.keys.grant_lease(
            lease, ttl_ms, kind, born, LEASE_TTL_MS_MIN, self.meta.actor
        )
        self._granted[lease] = granted.ttl_ms
        return granted.ttl_ms

    def end_lease(self, lease: int) -> LeaseRevokeResult:
        """End a lease: delete its keys in this revision, tell the domains."""
        if self.machine.keyspace.leases.get(lease) is None:
            raise LeaseNotFound("etcdserver: requested lease not found", lease=f"{lease:016x}")
        first = len(self.keys._events)
        self.keys.revoke_lease(lease)
        return self.lease_ended(lease, first)

    def lease_ended(self, lease: int, first: int) -> LeaseRevokeResult:
        """Tell the domains of a lease whose keys were deleted by the events from ``first`` on."""
        self._granted.pop(lease, None)
        self._ended.append(lease)
        events = self.keys._events[first:]
        records = [event.prev_kv for space, event in events if space == SYSTEM]
        self.machine.end_lease_hooks(self, (kv for kv in records if kv is not None))
        return LeaseRevokeResult(self.keys.header_revision, len(events))

    def asked_by(self) -> tuple[str, str, int]:
        """Give actor, origin and clock of the entry."""
        return self.meta.actor, self.meta.origin, self.meta.clock_ms


def check_id(number: int, field: str) -> None:
    """Refuse what is no id: rows of the state database are keyed by it.

    Raises:
        InvalidRequest: It is not a positive int63.
    """
    if not 0 < number < 1 << 63:
        raise InvalidRequest(f"{field}: an id is a number from 1 to 2**63 - 1", field=field)


def granted_at(lease: Lease | None) -> int:
    """Give the index of the entry that granted a lease; 0 for none."""
    return 0 if lease is None else int.from_bytes(lease.data, "big")
