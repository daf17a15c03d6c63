"""The recent past in memory: the changes of the last revisions, and when revisions happened.

Pure. `RevisionLog` is the tail of history that watches and reads of the past are served from
first; what has left it must be fetched from the state database. `TimeIndex` maps the clock that
entries carry to revisions.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from coordinator_sdk.protocol.kv import KeyValue

    from .records import Events

TAIL_BYTES_MAX: Final = 32 << 20
EVENT_OVERHEAD_BYTES: Final = 256
"""Roughly what an event weighs beside keys and values; bounds memory, is part of no state."""

TIME_SAMPLES_MAX: Final = 100_000
TIME_SAMPLE_MS: Final = 1000


class RevisionLog:
    """A tail of (revision, events) without gaps, bounded in bytes.

    Only revisions that were declared `persisted` may leave it: until then it is the only place
    they can be read from, and it grows beyond its bound. The queue of unpersisted entries is
    what bounds it then.
    """

    __slots__ = ("_held", "_persisted", "bytes_held", "bytes_max", "first", "last")

    def __init__(self, last: int, bytes_max: int = TAIL_BYTES_MAX) -> None:
        """An empty tail behind revision ``last``, all of which is persisted."""
        self._held: dict[int, tuple[Events, int]] = {}
        self._persisted = last
        self.bytes_held = 0
        self.bytes_max = bytes_max
        self.first = last + 1
        """The oldest revision held; one above `last` if none is."""
        self.last = last

    def append(self, revision: int, events: Events, size: int) -> None:
        """Add the changes of the next revision; ``size`` is what they weigh in bytes."""
        assert revision == self.last + 1, "revisions of the tail must have no gap"
        self._held[revision] = (events, size)
        self.last = revision
        self.bytes_held += size
        if self.bytes_held > self.bytes_max:
            self._evict()

    def persisted(self, revision: int) -> None:
        """Declare that everything up to ``revision`` can be read from the database."""
        if revision > self._persisted:
            self._persisted = revision
            self._evict()

    def events(self, revision: int) -> Events | None:
        """The changes of one revision; None if the tail does not have it."""
        held = self._held.get(revision)
        return None if held is None else held[0]

    def record(self, revision: int, sub: int) -> KeyValue | None:
        """The record that change ``sub`` of ``revision`` wrote; None if it is not in the tail."""
        held = self._held.get(revision)
        return None if held is None else held[0][sub][1].kv

    def _evict(self) -> None:
        limit = min(self._persisted, self.last)
        while self.bytes_held > self.bytes_max and self.first <= limit:
            self.bytes_held -= self._held.pop(self.first)[1]
            self.first += 1


class TimeIndex:
    """When revisions happened, by the leader's clock: a sample a second, the oldest go first."""

    __slots__ = ("_clocks", "_next_ms", "_revisions", "_samples_max")

    def __init__(self, samples_max: int = TIME_SAMPLES_MAX) -> None:
        self._clocks = array("q")
        self._revisions = array("q")
        self._next_ms = 0
        self._samples_max = samples_max

    def __len__(self) -> int:
        return len(self._clocks)

    def note(self, clock_ms: int, revision: int) -> None:
        """Remember that ``revision`` happened at ``clock_ms``, unless a sample is recent enough."""
        if clock_ms < self._next_ms or clock_ms <= 0:
            return
        if len(self._clocks) >= self._samples_max:
            # In portions, because cutting the front moves all the rest.
            surplus = self._samples_max // 8 + 1
            del self._clocks[:surplus]
            del self._revisions[:surplus]
        self._clocks.append(clock_ms)
        self._revisions.append(revision)
        self._next_ms = clock_ms + TIME_SAMPLE_MS

    def revision_at(self, clock_ms: int) -> int:
        """A revision that had happened by ``clock_ms``, the latest known; 0 if none is known."""
        position = bisect_right(self._clocks, clock_ms)
        return self._revisions[position - 1] if position else 0

    def clock_of(self, revision: int) -> int:
        """When ``revision`` happened, at most a second too early; 0 if unknown."""
        position = bisect_right(self._revisions, revision)
        return self._clocks[position - 1] if position else 0

    def forget_below(self, revision: int) -> None:
        """Drop the samples that only tell of revisions below ``revision``."""
        surplus = bisect_right(self._revisions, revision) - 1
        if surplus > 0:
            del self._clocks[:surplus]
            del self._revisions[:surplus]

    def thinned(self, count_max: int) -> list[tuple[int, int]]:
        """As `samples`, but no more than that many, evenly chosen; the newest is among them."""
        step = max(1, -(-len(self) // count_max))
        return self.samples()[::-1][::step][::-1]

    def samples(self) -> list[tuple[int, int]]:
        """Every sample as (clock_ms, revision), oldest first."""
        return list(zip(self._clocks, self._revisions, strict=True))
