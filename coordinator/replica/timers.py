"""Timers and lease deadlines.

What is replicated has no clock in it: a timer is a record with a duration, a lease one with
a TTL. Only the leader measures time, on its own monotonic clock, from the moment it took
office or from a later start of the timer, and proposes what is due as an entry.
"""

from __future__ import annotations

import heapq
from typing import Protocol

import msgspec
from msgspec import Struct

STALE_MAX = 1024
"""So many stale entries a heap of deadlines may have, whatever its size."""


class TimerRecord(Struct, array_like=True, gc=False):
    """A running timer. ``generation`` is the index of the entry that started it."""

    domain: str
    generation: int
    duration_ms: int


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(TimerRecord).decode


class TimerListener(Protocol):
    """Learns of timers as they start; the leader's clock."""

    def started(self, key: bytes, record: TimerRecord) -> None:
        """A timer runs from now on."""

    def stopped(self, key: bytes, record: TimerRecord) -> None:
        """A timer no longer runs."""


class TimerTable:
    """The replicated timers.

    Attributes:
        records: By key.
        changed: Keys that changed since the last `dump_changes`.
        listener: Told of what an entry started and stopped, once it is complete.
    """

    def __init__(self) -> None:
        self.records: dict[bytes, TimerRecord] = {}
        self.changed: dict[bytes, None] = {}
        self.listener: TimerListener | None = None

    def start(self, key: bytes, record: TimerRecord) -> None:
        """Start a timer, in place of a former one with this key."""
        self.records[key] = record
        self.changed[key] = None

    def cancel(self, key: bytes) -> None:
        """Forget a timer, if there is one."""
        if self.records.pop(key, None) is not None:
            self.changed[key] = None

    def restore(self, key: bytes, record: TimerRecord | None) -> None:
        """Undo a start or a cancellation."""
        self.changed[key] = None
        if record is None:
            self.records.pop(key, None)
        else:
            self.records[key] = record

    def dump_changes(self) -> dict[bytes, bytes | None]:
        """Give what changed since the last call: the encoded record, or None if it is gone."""
        changed, self.changed = self.changed, {}
        return {
            key: _encode(record) if (record := self.records.get(key)) else None for key in changed
        }

    def load(self, key: bytes, data: bytes) -> None:
        """Take in a record from the state database."""
        self.records[key] = _decode(data)


class DeadlineClock:
    """Deadlines by name, with cheap renewal: a heap whose stale entries are skipped.

    Used by the leader for leases and for timers.
    """

    def __init__(self) -> None:
        self._deadline: dict[object, int] = {}
        self._heap: list[tuple[int, int, object]] = []
        self._order = 0

    def __len__(self) -> int:
        return len(self._deadline)

    def clear(self) -> None:
        """Forget everything."""
        self._deadline.clear()
        self._heap.clear()

    def set(self, name: object, deadline_ms: int) -> None:
        """Set or move a deadline."""
        known = self._deadline.get(name)
        self._deadline[name] = deadline_ms
        if known is None or deadline_ms < known:
            self._push(deadline_ms, name)

    def discard(self, name: object) -> None:
        """Forget a deadline, if there is one."""
        self._deadline.pop(name, None)

    def get(self, name: object) -> int | None:
        """Give a deadline."""
        return self._deadline.get(name)

    def due(self, now_ms: int, limit: int = 1000) -> list[object]:
        """Take out up to ``limit`` names whose deadline has passed."""
        names: list[object] = []
        while self._heap and self._heap[0][0] <= now_ms and len(names) < limit:
            _, _, name = heapq.heappop(self._heap)
            deadline = self._deadline.get(name)
            if deadline is None:
                continue
            if deadline > now_ms:
                self._push(deadline, name)
                continue
            del self._deadline[name]
            names.append(name)
        return names

    def _push(self, deadline_ms: int, name: object) -> None:
        self._order += 1
        if len(self._heap) > 2 * len(self._deadline) + STALE_MAX:
            # What was discarded long before its time would stay until then.
            order = enumerate(self._deadline.items())
            self._heap = [(deadline, number, name) for number, (name, deadline) in order]
            heapq.heapify(self._heap)
            self._order = len(self._heap)
            return
        heapq.heappush(self._heap, (deadline_ms, self._order, name))
