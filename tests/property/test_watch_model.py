"""The watch hub against plain history, under random credit, full sinks, compaction and restarts."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coordinator.keyspace import SYSTEM, USER, Fetch, State, WatchHub, catchup, watch
from coordinator_sdk.protocol.kv import (
    Event,
    Watch,
    WatchCancelled,
    WatchEvents,
    WatchProgress,
)
from tests.keyspace.support import Stored
from tests.keyspace.walk import step, walk, walks

KEYS = [b"a", b"ab", b"abc", b"b", b"\xff"]
SPANS = [
    (b"a", b""),
    (b"ab", b""),
    (b"a", b"b"),
    (b"ab", b"ac"),
    (b"", b"\0"),
    (b"\0", b"\0"),
    (b"ab", b"\0"),
    (b"ab", b"z"),
    (b"\xff", b"\0"),
]
changes = st.lists(
    st.tuples(
        st.sampled_from([USER, USER, SYSTEM]),
        st.sampled_from(KEYS),
        st.sampled_from([b"1", b"2", None]),
    ),
    min_size=1,
    max_size=6,
)


class Connection:
    """A sink that remembers what it got, and can be full."""

    def __init__(self) -> None:
        self.room = 1 << 30
        self.got: list[tuple[list[int], int, object]] = []

    @property
    def is_full(self) -> bool:
        return self.room <= 0

    def deliver(self, ids, revision, batch) -> None:
        assert ids
        assert len(set(ids)) == len(ids)
        self.room -= 1
        self.got.append((ids, revision, batch.item))


class Expected:
    """What one watch must see: everything from its start, in order, once."""

    def __init__(self, op: Watch, start: int, accept) -> None:
        self.op = op
        self.start = start
        self.accept = accept
        self.credit = op.credit or None
        self.seen: list[Event] = []
        self.covered = start - 1
        self.cancelled_at: int | None = None

    def wants(self, space: int, event: Event) -> bool:
        op, key = self.op, event.kv.key
        lower = op.key or b"\0"
        if space != op.space or (op.no_put and event.type == 0):
            return False
        if (op.no_delete and event.type == 1) or (self.accept and not self.accept(key)):
            return False
        if not op.range_end:
            return key == lower
        return key >= lower and (op.range_end == b"\0" or key < op.range_end)


class HubWalk:
    """Drives a hub over a keyspace whose tail forgets quickly."""

    def __init__(self, tail: int) -> None:
        self.stored = Stored(tail)
        self.hub = WatchHub(self.stored.keyspace.log)
        self.history: dict[int, list[tuple[int, Event]]] = {}
        self.connections = [Connection(), Connection()]
        self.watches: dict[tuple[int, int], Expected] = {}
        self.ended: list[tuple[tuple[int, int], Expected]] = []
        self.fetches: list[Fetch] = []
        self.serial = 0

    # -- what happens ----------------------------------------------------------------------

    @step(6, entry=changes, sliced=st.booleans(), meanwhile=st.sampled_from(SPANS))
    def publish(self, entry, sliced, meanwhile) -> None:
        txn = self.stored.keyspace.begin()
        for space, key, value in entry:
            if value is None:
                txn.delete(space, key)
            else:
                txn.put(space, key, value)
        commit = self.stored.commit(txn)
        if not commit.events:
            return
        self.history[commit.revision] = commit.events
        if sliced:
            for _ in self.hub.publish_steps(commit.revision, commit.events):
                assert self.hub.catch_up(10) == []
                self.open(meanwhile, 0, 0, USER, False, False, False, False, 0)
                self.cancel(0)
        else:
            self.hub.publish(commit.revision, commit.events)

    @step(
        4,
        span=st.sampled_from(SPANS),
        ahead=st.sampled_from([None, None, 2, 1, 0, -1, -3, -8]),
        credit=st.sampled_from([0, 0, 1, 2, 5]),
        space=st.sampled_from([USER, USER, SYSTEM]),
        no_put=st.sampled_from([False, False, True]),
        no_delete=st.sampled_from([False, False, True]),
        prev_kv=st.booleans(),
        picky=st.sampled_from([False, False, True]),
        which=st.integers(0, 1),
    )
    def open(self, span, ahead, credit, space, no_put, no_delete, prev_kv, picky, which) -> None:
        now = self.stored.keyspace.revision
        start = 0 if ahead is None else max(now + ahead, 1)
        op = Watch(
            span[0],
            span[1],
            start,
            prev_kv=prev_kv,
            no_put=no_put,
            no_delete=no_delete,
            credit=credit,
            space=space,
            progress=which == 1,
        )
        accept = odd if picky else None
        self.serial += 1
        expected = Expected(op, start or now + 1, accept)
        self.watches[which, self.serial] = expected
        watcher = self.hub.watch(self.connections[which], self.serial, op, accept)
        assert (watcher.state is State.GONE) == (
            expected.start < self.stored.keyspace.compact_revision
        )
        self.collect()

    @step(2, number=st.integers(0, 20), amount=st.integers(1, 5))
    def grant(self, number, amount) -> None:
        if not self.watches:
            return
        which, stream = sorted(self.watches)[number % len(self.watches)]
        expected = self.watches[which, stream]
        if expected.credit is not None:
            expected.credit += amount
        self.hub.credit(self.connections[which], stream, amount)

    @step(3, which=st.integers(0, 1), room=st.sampled_from([0, 1, 2, 1 << 30]))
    def fill_sink(self, which, room) -> None:
        self.connections[which].room = room

    @step(1, number=st.integers(0, 20))
    def cancel(self, number) -> None:
        if not self.watches:
            return
        place = sorted(self.watches)[number % len(self.watches)]
        which, stream = place
        assert self.hub.cancel(self.connections[which], stream)
        assert not self.hub.cancel(self.connections[which], stream)
        self.collect()
        self.ended.append((place, self.watches.pop(place)))

    @step(1, which=st.integers(0, 1))
    def drop_connection(self, which) -> None:
        self.collect()
        self.hub.remove(self.connections[which])
        for place in sorted(self.watches):
            if place[0] == which:
                self.ended.append((place, self.watches.pop(place)))

    @step(4, budget=st.sampled_from([1, 3, 100]))
    def catch_up(self, budget) -> None:
        self.fetches += self.hub.catch_up(budget)

    @step(3, fail=st.sampled_from([False, False, False, True]))
    def answer(self, fail) -> None:
        if not self.fetches:
            return
        fetch = self.fetches.pop(0)
        if fail:
            self.hub.abandon(fetch)
            return
        rows = [
            row
            for place, row in sorted(self.stored.rows.items())
            if fetch.first <= place[0] <= fetch.last
        ]
        past = self.stored.keyspace.events_of_rows(rows, fetch.prev_kv)
        past.fill(self.stored.values(past.missing))
        self.hub.feed(fetch, past.revisions)

    @step(1, back=st.integers(0, 4))
    def compact(self, back) -> None:
        keyspace = self.stored.keyspace
        if keyspace.compact_revision < keyspace.revision - back:
            keyspace.compact(keyspace.revision - back)
            self.hub.compacted(keyspace.compact_revision)
            self.stored.sweep()

    @step(2, back=st.integers(0, 3))
    def persist(self, back) -> None:
        self.stored.keyspace.log.persisted(self.stored.keyspace.revision - back)

    @step(1)
    def restart_below(self) -> None:
        """A snapshot of the same state replaces the keyspace: nothing is in the tail any more."""
        self.stored.keyspace = self.stored.reload()
        self.hub.reset(self.stored.keyspace.log, self.stored.keyspace.compact_revision)

    @step(1, entries=st.lists(changes, min_size=1, max_size=4))
    def leap(self, entries) -> None:
        """A snapshot of a later state replaces the keyspace: the hub never saw what was between."""
        for entry in entries:
            txn = self.stored.keyspace.begin()
            for space, key, value in entry:
                if value is None:
                    txn.delete(space, key)
                else:
                    txn.put(space, key, value)
            commit = self.stored.commit(txn)
            if commit.events:
                self.history[commit.revision] = commit.events
        self.restart_below()

    @step(1, number=st.integers(0, 20))
    def ask_for_progress(self, number) -> None:
        if not self.watches:
            return
        which, stream = sorted(self.watches)[number % len(self.watches)]
        self.hub.request_progress(self.connections[which], stream)

    @step(1)
    def tell_progress(self) -> None:
        self.hub.notify_progress()

    # -- what must hold --------------------------------------------------------------------

    def collect(self) -> None:
        """Check every item that arrived, and forget it."""
        for which, connection in enumerate(self.connections):
            for ids, revision, item in connection.got:
                for stream in ids:
                    expected = self.watches[which, stream]
                    assert expected.cancelled_at is None
                    self.check(expected, revision, item)
                    if expected.cancelled_at is not None:
                        del self.watches[which, stream]
            connection.got = []

    def check(self, expected: Expected, revision: int, item) -> None:
        if isinstance(item, WatchProgress):
            # Nothing up to there is outstanding.
            assert item.revision == revision <= self.stored.keyspace.revision
            self.covers(expected, item.revision, [])
            return
        if isinstance(item, WatchCancelled):
            assert item.code == "compacted"
            assert item.compact_revision == self.stored.keyspace.compact_revision
            expected.cancelled_at = item.compact_revision
            # What it has not got begins below the compact revision.
            assert expected.covered + 1 < item.compact_revision
            return
        assert isinstance(item, WatchEvents)
        assert item.events
        assert item.revision == revision
        assert expected.credit is None or expected.credit > 0
        if expected.credit is not None:
            whole = [event for event in item.events if event.kv.mod_revision < item.revision]
            assert len(whole) < expected.credit, "only the last revision may exceed the credit"
            expected.credit -= len(item.events)
        self.covers(expected, item.revision, item.events)

    def covers(self, expected: Expected, revision: int, events: list[Event]) -> None:
        """The events are exactly those between what was covered before and ``revision``."""
        wanted = []
        for at in range(expected.covered + 1, revision + 1):
            wanted += [
                (at, event)
                for space, event in self.history.get(at, ())
                if expected.wants(space, event)
            ]
        assert len(wanted) == len(events)
        for (at, event), got in zip(wanted, events, strict=True):
            assert (got.type, got.kv) == (event.type, event.kv)
            if not expected.op.prev_kv:
                assert got.prev_kv is None
            elif got.prev_kv != event.prev_kv:
                # The record before may be compacted, never wrong.
                assert got.prev_kv is None
                assert at <= self.stored.keyspace.compact_revision
        expected.covered = max(expected.covered, revision)

    def holds(self) -> None:
        self.collect()
        assert len(self.hub) == len(self.watches)
        states = self.hub.counts()
        assert sum(states.values()) == len(self.watches)
        assert states[State.GONE] == 0
        lags = {lag.stream: lag for lag in self.hub.lags()}
        for (_, stream), expected in self.watches.items():
            if stream not in lags:
                self.covers(expected, self.hub.revision, [])
            else:
                lag = lags[stream]
                if lag.next_revision <= self.hub.revision:
                    self.covers(expected, lag.next_revision - 1, [])
                if lag.state is State.BLOCKED:
                    assert expected.credit is not None
                    assert expected.credit <= 0

    def settles(self) -> None:
        """With room and credit for all, everybody arrives at the published revision."""
        for connection in self.connections:
            connection.room = 1 << 30
        for (which, stream), expected in self.watches.items():
            if expected.credit is not None:
                expected.credit += 1000
            self.hub.credit(self.connections[which], stream, 1000)
        for _ in range(500):
            while self.fetches:
                self.answer(fail=False)
            if not self.hub.is_lagging:
                break
            self.catch_up(5)
        self.holds()
        states = self.hub.counts()
        assert states[State.SYNCED] + states[State.WAITING] == len(self.watches)


def odd(key: bytes) -> bool:
    return len(key) % 2 == 1


@pytest.fixture
def small_portions(monkeypatch) -> None:
    monkeypatch.setattr(watch, "CHUNK_KEYS", 2)
    monkeypatch.setattr(watch, "FETCH_REVISIONS_MAX", 3)
    monkeypatch.setattr(catchup, "BATCH_BYTES_MAX", 700)
    monkeypatch.setattr(catchup, "PASS_WATCHERS_MAX", 3)


@settings(max_examples=250, suppress_health_check=list(HealthCheck))
@given(
    tail=st.sampled_from([0, 900, 1 << 20]),
    steps=walks(HubWalk, 40),
)
def test_a_watch_sees_its_history_once_and_in_order(small_portions, tail, steps) -> None:
    """A watch sees every event of its span once, in order, or is told what it missed."""
    walk(HubWalk(tail), steps)
