"""Feeds watchers that lag, many at a time, from revisions of the past.

Pure. One pass over a stretch of history serves every watcher that is taken along: they are put
into cohorts that stand at the same place and see the same, and every event is matched once.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING, Final

from .matching import Matcher
from .watcher import Cohort, State

if TYPE_CHECKING:
    from coordinator_sdk.protocol.kv import Event

    from .matching import Span
    from .records import Events
    from .watcher import Sink, Variant, Watcher

PASS_WATCHERS_MAX: Final = 512
"""How many watchers one pass takes along."""
BATCH_BYTES_MAX: Final = 1 << 20
"""A watcher gets no further revision in one item once it has about this much."""

Source = Callable[[int], "Events | None"]
"""The events of a revision; None only below the compact revision."""

_CohortKey = tuple["Span", "Variant", int, int | None]


class Feeder:
    """The watchers that lag and may be fed. A watcher without credit is in none of the sets."""

    __slots__ = ("_ready", "_stalled", "deep")

    def __init__(self) -> None:
        self._ready: dict[Watcher, None] = {}
        self.deep: dict[Watcher, None] = {}
        """Those that need revisions which have left the tail."""
        self._stalled: dict[Sink, dict[Watcher, None]] = {}

    @property
    def is_busy(self) -> bool:
        """Whether anyone can be fed from the tail now."""
        return bool(self._ready) or any(not sink.is_full for sink in self._stalled)

    def add(self, watcher: Watcher) -> None:
        """Take a watcher in."""
        self._ready[watcher] = None

    def stall(self, watcher: Watcher) -> None:
        """Take a watcher in whose sink is full."""
        self._stalled.setdefault(watcher.sink, {})[watcher] = None

    def remove(self, watcher: Watcher) -> None:
        """Forget a watcher, wherever it is."""
        self._ready.pop(watcher, None)
        self.deep.pop(watcher, None)
        stalled = self._stalled.get(watcher.sink)
        if stalled is not None:
            stalled.pop(watcher, None)
            if not stalled:
                del self._stalled[watcher.sink]

    def wake_sinks(self) -> None:
        """Take back those whose sink has room again."""
        for sink, watchers in tuple(self._stalled.items()):
            if not sink.is_full:
                del self._stalled[sink]
                for watcher in watchers:
                    watcher.state = State.READY
                    self._ready[watcher] = None

    def take(self, first: int) -> list[Watcher]:
        """Take out some watchers that can be fed from revision ``first`` on."""
        taken: list[Watcher] = []
        for watcher in tuple(islice(self._ready, PASS_WATCHERS_MAX)):
            del self._ready[watcher]
            if watcher.next_revision < first:
                self.deep[watcher] = None
            else:
                taken.append(watcher)
        return taken

    def take_deep(self, first: int, last: int, prev_kv: bool) -> list[Watcher]:
        """Take out the watchers that what was fetched is good for."""
        taken = [
            watcher
            for watcher in self.deep
            if first <= watcher.next_revision <= last and (prev_kv or not watcher.variant.prev_kv)
        ]
        for watcher in taken:
            del self.deep[watcher]
        return taken

    def feed(self, watchers: list[Watcher], source: Source, last: int, budget: int | None) -> int:
        """Deliver what watchers have not got, up to a revision, and move them on.

        Args:
            watchers: Watchers that were taken out; they must be settled afterwards.
            source: The revisions.
            last: The last one to look at.
            budget: About how many events may be looked at; None for all.

        Returns:
            How many events were looked at, and at least 1.
        """
        cohorts: dict[_CohortKey, Cohort] = {}
        matcher: Matcher[list[tuple[Variant, Cohort]]] = Matcher()
        by_span: dict[Span, list[tuple[Variant, Cohort]]] = {}
        for watcher in watchers:
            place = (watcher.span, watcher.variant, watcher.next_revision, watcher.credit)
            cohort = cohorts.get(place)
            if cohort is None:
                cohort = cohorts[place] = Cohort(watcher, BATCH_BYTES_MAX)
                if watcher.span not in by_span:
                    by_span[watcher.span] = []
                    matcher.add(watcher.span, by_span[watcher.span])
                by_span[watcher.span].append((watcher.variant, cohort))
            cohort.watchers.append(watcher)
        examined = 1
        waiting = len(cohorts)
        revision = min((cohort.next for cohort in cohorts.values()), default=last + 1)
        while revision <= last and waiting and (budget is None or examined <= budget):
            events = source(revision)
            if events is not None:
                examined += len(events)
                waiting -= _look_at(revision, events, matcher)
            revision += 1
        for cohort in cohorts.values():
            _hand_out(cohort, revision)
        return examined


def _look_at(revision: int, events: Events, matcher: Matcher[list[tuple[Variant, Cohort]]]) -> int:
    """Add a revision to the cohorts that see some of it; how many of them are closed then."""
    hits: dict[Cohort, tuple[Variant, list[Event]]] = {}
    for space, event in events:
        for candidates in matcher.match(space, event.kv.key):
            for variant, cohort in candidates:
                if cohort.closed or cohort.next > revision:
                    continue
                if cohort in hits:
                    hits[cohort][1].append(event)
                else:
                    hits[cohort] = (variant, [event])
    closed = 0
    for cohort, (variant, found) in hits.items():
        seen = variant.view(found)
        if seen:
            cohort.add(revision, seen)
            closed += cohort.closed
    return closed


def _hand_out(cohort: Cohort, revision: int) -> None:
    """Deliver to a cohort that has seen everything below ``revision``, unless it was closed."""
    reached = cohort.last + 1 if cohort.closed else max(revision, cohort.next)
    count = len(cohort.events)
    by_sink: dict[Sink, list[Watcher]] = {}
    for watcher in cohort.watchers:
        by_sink.setdefault(watcher.sink, []).append(watcher)
    batch = cohort.batch() if count else None
    for sink, watchers in by_sink.items():
        if batch is not None and sink.is_full:
            continue
        # A delivery before this one may have ended some of them.
        watchers = [watcher for watcher in watchers if watcher.state is State.READY]
        if not watchers:
            continue
        for watcher in watchers:
            watcher.next_revision = reached
            if watcher.credit is not None:
                watcher.credit -= count
        if batch is not None:
            sink.deliver([watcher.stream for watcher in watchers], cohort.last, batch)
