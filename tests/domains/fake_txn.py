"""A machine in miniature: applies a domain's commands to a dict, with leases and timers.

It does what the state machine does, without a log: one revision per command that changes a
key, nothing changed by a command that is refused, hooks after a lease's keys are gone.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

from coordinator.replica.domain import Domain, Meta
from coordinator.sessions import records
from coordinator.sessions.records import SessionRecord
from coordinator.wire import systemkey
from coordinator_sdk.errors import NotApplied
from coordinator_sdk.protocol.kv import Event, EventType, KeyValue


class FakeView:
    """The records at one revision; reads see what was written last."""

    def __init__(self, revision: int = 1) -> None:
        self.revision = revision
        self.live: dict[bytes, KeyValue] = {}
        self.keys: list[bytes] = []

    def get(self, key: bytes) -> KeyValue | None:
        return self.live.get(key)

    def scan(
        self, start: bytes, end: bytes, limit: int = 0, reverse: bool = False
    ) -> list[KeyValue]:
        low, high = bisect_left(self.keys, start), bisect_left(self.keys, end)
        if reverse:
            low = max(low, high - limit) if limit else low
            return [self.live[key] for key in reversed(self.keys[low:high])]
        return [
            self.live[key] for key in self.keys[low : min(high, low + limit) if limit else high]
        ]

    def count(self, start: bytes, end: bytes, limit: int = 0) -> int:
        found = bisect_left(self.keys, end) - bisect_left(self.keys, start)
        return min(found, limit) if limit else found


class FakeMachine(FakeView):
    """The records, as one entry after the other changes them; also its own `DomainTxn`.

    Attributes:
        timers: Key and duration of every timer that runs.
        log: The events of every revision.
        watchers: Called with each revision and its events.
    """

    def __init__(self, *domains: Domain) -> None:
        super().__init__()
        self.domains = {domain.name: domain for domain in domains}
        self.commands = {kind: f for domain in domains for kind, f in domain.commands.items()}
        self.meta = Meta(0, 1, 0, 0, "", "", 1_000_000)
        self.leases: dict[int, dict[bytes, None]] = {}
        self.timers: dict[bytes, int] = {}
        self.log: dict[int, list[Event]] = {}
        self.watchers: list[Callable[[int, list[Event]], None]] = []
        self.events: list[Event] = []
        self.published = 1
        """The revision of the last finished entry; ``revision`` is the next one within one."""

    # ------------------------------------------------------------ what a command sees

    def put(self, key: bytes, value: bytes, lease: int = 0) -> KeyValue:
        assert not lease or lease in self.leases, "a record hangs on a lease that lives"
        old = self.live.get(key)
        if old is None:
            insort(self.keys, key)
            record = KeyValue(key, self.revision, self.revision, 1, lease, value)
        else:
            self.leases.get(old.lease, {}).pop(key, None)
            created, version = old.create_revision, old.version + 1
            record = KeyValue(key, created, self.revision, version, lease, value)
        self.live[key] = record
        if lease:
            self.leases[lease][key] = None
        self.events.append(Event(EventType.PUT, record, old))
        return record

    def delete(self, key: bytes) -> KeyValue | None:
        old = self.live.pop(key, None)
        if old is not None:
            del self.keys[bisect_left(self.keys, key)]
            self.leases.get(old.lease, {}).pop(key, None)
            gone = KeyValue(key, mod_revision=self.revision)
            self.events.append(Event(EventType.DELETE, gone, old))
        return old

    def set_timer(self, key: bytes, duration_ms: int) -> None:
        assert duration_ms > 0
        self.timers[key] = duration_ms

    def cancel_timer(self, key: bytes) -> None:
        self.timers.pop(key, None)

    def lease_exists(self, lease: int) -> bool:
        return lease in self.leases

    # ------------------------------------------------------------ what a test does

    @contextmanager
    def entry(self) -> Iterator[None]:
        """One log entry: all or nothing, and a revision if a key changed."""
        before = (dict(self.live), list(self.keys), deepcopy(self.leases), dict(self.timers))
        self.meta.index += 1
        self.revision = self.published + 1
        try:
            yield
        except NotApplied:
            self.live, self.keys, self.leases, self.timers = before
            self.events = []
            raise
        finally:
            events, self.events = self.events, []
            if events:
                self.published += 1
                self.log[self.published] = events
            self.revision = self.published
        if events:
            for watcher in list(self.watchers):
                watcher(self.published, events)

    def apply(self, command: Any) -> Any:
        """Apply a command as the next entry."""
        with self.entry():
            return self.commands[type(command)](self, command)

    def open_session(self, session: int, application: str = "app") -> int:
        """Open a session."""
        with self.entry():
            self.leases[session] = {}
            record = SessionRecord(session, 10_000, application, "host", 7, "", "", 0, {})
            self.put(records.key(session), records.encode(record), session)
        return session

    def end_lease(self, lease: int) -> list[KeyValue]:
        """Take a lease and its records away, and give what the hooks are still to see."""
        with self.entry():
            keys = list(self.leases.pop(lease))
            gone = [record for key in keys if (record := self.delete(key)) is not None]
        return gone

    def run_hooks(self, gone: list[KeyValue]) -> None:
        """Run the hooks for the records of an ended lease, as a continuation entry."""
        with self.entry():
            for record in gone:
                domain = self.domains.get(str(systemkey.unpack(record.key)[1]))
                if domain is not None and domain.on_lease_end is not None:
                    domain.on_lease_end(self, record)

    def end_session(self, session: int) -> None:
        """End a session: its records and the hooks in one revision."""
        with self.entry():
            keys = list(self.leases.pop(session))
            gone = [record for key in keys if (record := self.delete(key)) is not None]
            for record in gone:
                domain = self.domains.get(str(systemkey.unpack(record.key)[1]))
                if domain is not None and domain.on_lease_end is not None:
                    domain.on_lease_end(self, record)

    def run_timer(self, key: bytes) -> None:
        """Let a timer run out."""
        with self.entry():
            del self.timers[key]
            on_timer = self.domains[str(systemkey.unpack(key)[1])].on_timer
            assert on_timer is not None
            on_timer(self, key)
