"""The hub between what is published and those who watch it.

Pure. Contract with its owner:

1. Call `publish` once for every revision, in order, right after it was committed.
2. Call `catch_up` while `is_lagging`, between other work. It feeds watchers that lag, from the
   tail of history, and returns what must be read from the state database.
3. Answer each `Fetch` with `feed`, or `abandon` it if reading failed.
4. Call `compacted` after a compaction, and `reset` after a snapshot replaced the keyspace.

Invariants: a synced watcher has been offered everything up to `revision`; any other one has been
offered everything below its ``next_revision``, and nothing from there on. A watcher that cannot
take an item, because its sink is full or its credit is used up, lags from that revision on; it is
fed in order and joins the synced ones exactly at the published revision. So nothing is skipped,
and nothing is delivered twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from coordinator_sdk.errors import InvalidRequest
from coordinator_sdk.protocol.kv import Event, Watch, WatchCancelled, WatchEvents

from . import refusals
from .catchup import Feeder
from .matching import Matcher, Span
from .ranges import CHUNK_KEYS, Steps, drain
from .records import FIRST_REVISION, FROM_KEY
from .watcher import (
    EncodedBatch,
    Fetch,
    Group,
    Lag,
    LocalSink,
    Member,
    State,
    Variant,
    Watcher,
    progress_batch,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from .history import RevisionLog
    from .records import Events
    from .watcher import Accept, Sink

FETCH_REVISIONS_MAX: Final = 1000
"""How many revisions are read from the state database at a time."""

LOCAL_STREAM: Final = 0
"""The id of the only stream of a `LocalSink`."""

_Hit = tuple[Group, tuple[int, ...]]
"""A group, and the positions of the events in its span."""
_Batches = dict[tuple[Variant, tuple[int, ...]], EncodedBatch | None]


class WatchHub:
    """Every watcher of a member.

    Attributes:
        revision: The last revision that was published here.
        compact_revision: Watches cannot start below it.
    """

    def __init__(self, log: RevisionLog, compact_revision: int = 0) -> None:
        self.revision = log.last
        self.compact_revision = compact_revision
        self._log = log
        self._published = log.last
        """What new watches start after: ahead of `revision` while the next one is published."""
        self._is_publishing = False
        self._matcher: Matcher[Group] = Matcher()
        self._groups: dict[Span, Group] = {}
        self._sinks: dict[Sink, dict[int, Watcher]] = {}
        self._waiting: dict[int, dict[Watcher, None]] = {}
        """Those whose start lies in the future, by their start."""
        self._feeder = Feeder()
        self._fetch: Fetch | None = None

    # -- publishing ------------------------------------------------------------------------

    def publish(self, revision: int, events: Events) -> None:
        """Deliver a revision to the synced watchers; see `publish_steps`."""
        if len(events) != 1:
            drain(self.publish_steps(revision, events))
            return
        assert revision == self.revision + 1, "every revision is published once, in order"
        space, event = events[0]
        groups = self._matcher.match(space, event.kv.key) if self._groups else ()
        self.revision = self._published = revision
        if groups:
            self._deliver([(group, (0,)) for group in groups], events)
        if self._waiting:
            self._wake(self._waiting.pop(revision + 1, ()))

    def publish_steps(self, revision: int, events: Events) -> Steps[None]:
        """Deliver a revision to the synced watchers, all events a watcher sees in one item.

        Watchers come and go between slices as if the revision was published already.

        Args:
            revision: The next revision.
            events: All its events.

        Yields:
            Nothing, between portions of events.
        """
        assert revision == self.revision + 1, "every revision is published once, in order"
        self._published = revision
        self._is_publishing = True
        hits: dict[Group, list[int]] = {}
        match = self._matcher.match
        for number, (space, event) in enumerate(events):
            for group in match(space, event.kv.key):
                if group in hits:
                    hits[group].append(number)
                else:
                    hits[group] = [number]
            if number % CHUNK_KEYS == CHUNK_KEYS - 1:
                yield
        self.revision = revision
        self._deliver([(group, tuple(numbers)) for group, numbers in hits.items()], events)
        self._wake(self._waiting.pop(revision + 1, ()))

    def _deliver(self, hits: list[_Hit], events: Events) -> None:
        # A delivery may end watches and open others: nobody joins before all are done.
        self._is_publishing = True
        batches: _Batches = {}
        try:
            for group, numbers in hits:
                self._deliver_group(group, numbers, events, batches)
        finally:
            self._is_publishing = False

    def _deliver_group(
        self, group: Group, numbers: tuple[int, ...], events: Events, batches: _Batches
    ) -> None:
        revision = self.revision
        for member in tuple(group.members.values()):
            # Groups that hit the same events share what is encoded.
            place = (member.variant, numbers)
            if place in batches:
                batch = batches[place]
            else:
                seen = member.variant.view([events[number][1] for number in numbers])
                batch = EncodedBatch(WatchEvents(revision, seen)) if seen else None
                batches[place] = batch
            if batch is None or not member.watchers:
                continue
            if member.sink.is_full:
                for watcher in tuple(member.watchers.values()):
                    self._fall_behind(watcher, revision)
                continue
            item = batch.item
            assert isinstance(item, WatchEvents)
            member.spent += len(item.events)
            member.delivered = revision
            member.sink.deliver(member.ids(), revision, batch)
            if member.spent >= member.ends_at:
                for watcher in member.exhausted():
                    self._fall_behind(watcher, revision + 1)

    def _wake(self, watchers: Iterable[Watcher]) -> None:
        for watcher in tuple(watchers):
            self._settle(watcher)

    # -- watchers --------------------------------------------------------------------------

    def watch(self, sink: Sink, stream: int, op: Watch, accept: Accept | None = None) -> Watcher:
        """Open a watch.

        If its start is compacted, it is told so at once, and the watcher returned is gone.

        Args:
            sink: Where it delivers to.
            stream: Its id, unique among the sink's.
            op: What to watch; it must have passed `check.check_watch`.
            accept: Whether it may see a key; None for every key.

        Returns:
            The watcher.

        Raises:
            InvalidRequest: The stream exists.
        """
        streams = self._sinks.setdefault(sink, {})
        if stream in streams:
            raise InvalidRequest(f"stream {stream} is in use", field="stream")
        span = Span(op.space, op.key or FROM_KEY, op.range_end)
        variant = Variant(op.no_put, op.no_delete, op.prev_kv, accept)
        watcher = Watcher(sink, stream, span, variant, op.credit, op.progress)
        streams[stream] = watcher
        start = op.start_revision if op.start_revision > 0 else self._published + 1
        watcher.next_revision = start
        watcher.noticed = self._published
        if start < self.compact_revision:
            self._lose(watcher)
        else:
            self._settle(watcher)
        return watcher

    def watch_local(
        self,
        op: Watch,
        on_events: Callable[[int, list[Event]], None],
        on_lost: Callable[[int], None] | None = None,
        accept: Accept | None = None,
    ) -> Watcher:
        """Open a watch whose events go to a function of the server; see `watch`.

        Args:
            op: What to watch.
            on_events: Takes the last revision and the events of one or more whole revisions.
            on_lost: Takes the compact revision, if history that was not delivered is gone.
            accept: Whether it may see a key.

        Returns:
            The watcher; end it with ``cancel(watcher.sink, watcher.stream)``.
        """
        return self.watch(LocalSink(on_events, on_lost), LOCAL_STREAM, op, accept)

    def cancel(self, sink: Sink, stream: int) -> bool:
        """End a watch, without an item about it; whether there was one."""
        watcher = self._find(sink, stream)
        if watcher is None:
            return False
        self._forget(watcher)
        return True

    def remove(self, sink: Sink) -> None:
        """End all watches of a sink."""
        for watcher in tuple(self._sinks.get(sink, {}).values()):
            self._forget(watcher)

    def credit(self, sink: Sink, stream: int, amount: int) -> None:
        """Let a watch get that many more events, if it is there and has a limit."""
        watcher = self._find(sink, stream)
        if watcher is None or watcher.credit is None:
            return
        if watcher.state is State.SYNCED:
            watcher.limit_at += amount
            return
        watcher.credit += amount
        if watcher.state is State.BLOCKED and watcher.has_credit:
            self._settle(watcher)

    def _find(self, sink: Sink, stream: int) -> Watcher | None:
        return self._sinks.get(sink, {}).get(stream)

    def _settle(self, watcher: Watcher) -> None:
        """Put a watcher that is in no set where it belongs."""
        if watcher.next_revision > self._published + 1:
            watcher.state = State.WAITING
            self._waiting.setdefault(watcher.next_revision, {})[watcher] = None
        elif not watcher.has_credit:
            watcher.state = State.BLOCKED
        elif watcher.next_revision <= self.revision or self._is_publishing:
            # While a revision is published nobody joins: its group may have been passed.
            watcher.state = State.READY
            self._feeder.add(watcher)
        else:
            self._join(watcher)

    def _join(self, watcher: Watcher) -> None:
        group = self._groups.get(watcher.span)
        if group is None:
            group = self._groups[watcher.span] = Group(watcher.span)
            self._matcher.add(watcher.span, group)
        place = (watcher.sink, watcher.variant)
        member = group.members.get(place)
        if member is None:
            member = group.members[place] = Member(group, watcher.sink, watcher.variant)
        member.add(watcher)
        watcher.state = State.SYNCED

    def _leave(self, watcher: Watcher) -> None:
        member = watcher.member
        assert member is not None, "only a synced watcher has a member to leave"
        member.remove(watcher)
        if member.watchers:
            return
        group = member.group
        del group.members[member.sink, member.variant]
        if not group.members:
            del self._groups[group.span]
            self._matcher.remove(group.span)

    def _fall_behind(self, watcher: Watcher, next_revision: int) -> None:
        """Take a watcher off the synced ones, because it cannot take what is published."""
        self._leave(watcher)
        watcher.next_revision = next_revision
        if not watcher.has_credit:
            watcher.state = State.BLOCKED
        elif watcher.sink.is_full:
            watcher.state = State.STALLED
            self._feeder.stall(watcher)
        else:
            watcher.state = State.READY
            self._feeder.add(watcher)

    def _forget(self, watcher: Watcher) -> None:
        if watcher.state is State.SYNCED:
            self._leave(watcher)
        else:
            self._feeder.remove(watcher)
            waiting = self._waiting.get(watcher.next_revision)
            if waiting is not None:
                waiting.pop(watcher, None)
                if not waiting:
                    del self._waiting[watcher.next_revision]
        watcher.state = State.GONE
        streams = self._sinks[watcher.sink]
        del streams[watcher.stream]
        if not streams:
            del self._sinks[watcher.sink]

    def _lose(self, watcher: Watcher) -> None:
        """End a watch because the history it still needs is gone, and say so."""
        self._forget(watcher)
        error = refusals.compacted(self.compact_revision)
        item = WatchCancelled(error.code, error.message, self.compact_revision)
        watcher.sink.deliver([watcher.stream], self.revision, EncodedBatch(item))

    # -- catching up -----------------------------------------------------------------------

    @property
    def is_lagging(self) -> bool:
        """Whether `catch_up` has something to do."""
        feeder = self._feeder
        if feeder.deep and self._fetch is None:
            return True
        return feeder.is_busy

    def catch_up(self, budget: int) -> list[Fetch]:
        """Feed watchers that lag from the tail of history.

        Args:
            budget: About how many events may be looked at.

        Returns:
            What must be read from the state database before others can be fed.
        """
        if self._is_publishing:
            return []
        feeder = self._feeder
        feeder.wake_sinks()
        while budget > 0 and (watchers := feeder.take(self._log.first)):
            budget -= feeder.feed(watchers, self._log.events, self.revision, budget)
            self._settle_fed(watchers)
        self._lose_compacted()
        if self._fetch is not None or not feeder.deep:
            return []
        first = min(watcher.next_revision for watcher in feeder.deep)
        last = min(first + FETCH_REVISIONS_MAX, self._log.first) - 1
        prev_kv = any(watcher.variant.prev_kv for watcher in feeder.deep)
        self._fetch = Fetch(first, last, prev_kv)
        return [self._fetch]

    def feed(self, fetch: Fetch, revisions: Sequence[tuple[int, Events]]) -> None:
        """Answer a fetch.

        Args:
            fetch: What `catch_up` returned; one that is out of date is ignored.
            revisions: Every revision from ``fetch.first`` to ``fetch.last``, in order; those up to
                the compact revision may be absent.

        Raises:
            Internal: A revision is absent: nothing was fed.
        """
        if fetch is not self._fetch:
            return
        self._fetch = None
        found = dict(revisions)
        # Nothing happened at the revision that a keyspace starts with, be it new or restored;
        # a restored one counts everything before it as compacted.
        first = max(fetch.first, self.compact_revision + 1, FIRST_REVISION + 1)
        for revision in range(first, fetch.last + 1):
            if revision not in found:
                raise refusals.damaged(f"revision {revision} of the history is missing")
        self._lose_compacted()
        watchers = self._feeder.take_deep(fetch.first, fetch.last, fetch.prev_kv)
        self._feeder.feed(watchers, found.get, fetch.last, None)
        self._settle_fed(watchers)

    def abandon(self, fetch: Fetch) -> None:
        """Give a fetch up; `catch_up` asks again."""
        if fetch is self._fetch:
            self._fetch = None

    def _settle_fed(self, watchers: list[Watcher]) -> None:
        for watcher in watchers:
            if watcher.state is not State.READY:
                continue
            lags = watcher.next_revision <= self.revision and watcher.has_credit
            if lags and watcher.sink.is_full:
                watcher.state = State.STALLED
                self._feeder.stall(watcher)
            else:
                self._settle(watcher)

    def compacted(self, revision: int) -> None:
        """Take note of a compaction. Who needs what is gone is told when it would be fed."""
        self.compact_revision = revision

    def _lose_compacted(self) -> None:
        # What is still in the tail is delivered although it is compacted: only those who need
        # the state database can have lost anything.
        for watcher in tuple(self._feeder.deep):
            # Whoever is told may end or open others.
            if watcher.next_revision < self.compact_revision and watcher in self._feeder.deep:
                self._lose(watcher)

    def reset(self, log: RevisionLog, compact_revision: int) -> None:
        """Go over to a keyspace that replaced this one, at the same or a later revision.

        Every watcher keeps its position, and catches up from there.

        Args:
            log: The tail of the new keyspace.
            compact_revision: Its compact revision.
        """
        assert log.last >= self.revision, "a snapshot is never older than what it replaces"
        assert not self._is_publishing, "a revision is published whole"
        for watcher in self._all():
            if watcher.state is State.SYNCED:
                self._fall_behind(watcher, self.revision + 1)
        self._log = log
        self._fetch = None
        self.revision = self._published = log.last
        self.compacted(compact_revision)
        for start in sorted(self._waiting):
            if start <= log.last + 1:
                self._wake(self._waiting.pop(start))

    # -- progress, and what there is -------------------------------------------------------

    def request_progress(self, sink: Sink, stream: int) -> None:
        """Tell a watch up to where it has got everything."""
        watcher = self._find(sink, stream)
        if watcher is None:
            return
        revision = self.revision
        if watcher.state is not State.SYNCED:
            revision = min(watcher.next_revision - 1, revision)
        sink.deliver([stream], revision, progress_batch(revision))

    def notify_progress(self) -> None:
        """Tell those that asked for it, are synced and got nothing since the last call."""
        revision = self.revision
        due: dict[Sink, list[int]] = {}
        for watcher in self._all():
            member = watcher.member
            if not watcher.wants_progress or member is None:
                continue
            if member.delivered <= watcher.noticed:
                due.setdefault(watcher.sink, []).append(watcher.stream)
            watcher.noticed = revision
        batch = progress_batch(revision)
        for sink, ids in due.items():
            sink.deliver(ids, revision, batch)

    def lags(self) -> list[Lag]:
        """Where every watcher that is not synced stands."""
        return [
            Lag(
                watcher.stream,
                watcher.span,
                watcher.state,
                watcher.next_revision,
                max(self.revision + 1 - watcher.next_revision, 0),
                watcher.sink,
            )
            for watcher in self._all()
            if watcher.state is not State.SYNCED
        ]

    def counts(self) -> dict[State, int]:
        """How many watchers there are in each state."""
        found = dict.fromkeys(State, 0)
        for watcher in self._all():
            found[watcher.state] += 1
        return found

    def __len__(self) -> int:
        return sum(map(len, self._sinks.values()))

    def _all(self) -> list[Watcher]:
        return [watcher for streams in self._sinks.values() for watcher in streams.values()]
