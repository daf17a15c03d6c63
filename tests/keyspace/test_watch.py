"""The watch hub, case by case; its property test walks at random."""

from typing import Any

import pytest

from coordinator.keyspace import (
    SYSTEM,
    USER,
    EncodedBatch,
    RevisionLog,
    State,
    WatchHub,
    prefix_end,
)
from coordinator.keyspace import watch as watch_module
from coordinator_sdk.errors import Internal, InvalidRequest
from coordinator_sdk.protocol.kv import (
    Event,
    Put,
    Txn,
    Watch,
    WatchCancelled,
    WatchEvents,
    WatchProgress,
)
from tests.keyspace.support import Stored

EVERYTHING = (b"", b"\0")


class Connection:
    """A sink that remembers what it got; ``room`` deliveries fit in."""

    def __init__(self, room: int = 1 << 30) -> None:
        self.room = room
        self.got: list[tuple[list[int], int, EncodedBatch]] = []

    @property
    def is_full(self) -> bool:
        return self.room <= 0

    def deliver(self, ids, revision, batch) -> None:
        self.room -= 1
        self.got.append((ids, revision, batch))

    def take(self) -> list[tuple[list[int], int, object]]:
        """What arrived since the last call: ids, revision, and the values or the item."""
        got: list[tuple[list[int], int, object]] = [
            (
                ids,
                revision,
                [event.kv.value for event in batch.item.events]
                if isinstance(batch.item, WatchEvents)
                else batch.item,
            )
            for ids, revision, batch in self.got
        ]
        self.got = []
        return got


class World:
    """A keyspace, its hub, and one connection."""

    def __init__(self, tail_bytes_max: int = 1 << 20) -> None:
        self.stored = Stored(tail_bytes_max)
        self.hub = WatchHub(self.stored.keyspace.log)
        self.sink = Connection()

    def commit(self, txn) -> None:
        commit = self.stored.commit(txn)
        if commit.events:
            self.hub.publish(commit.revision, commit.events)

    def write(self, key: bytes, value: bytes | None = b"v", space: int = USER) -> int:
        txn = self.stored.keyspace.begin()
        if value is None:
            txn.delete(space, key)
        else:
            txn.put(space, key, value)
        self.commit(txn)
        return self.hub.revision

    def forget(self) -> None:
        """Let everything leave the tail (if it is of no size)."""
        self.stored.keyspace.log.persisted(self.stored.keyspace.revision)

    def answer(self, fetch) -> None:
        rows = [
            row
            for place, row in sorted(self.stored.rows.items())
            if fetch.first <= place[0] <= fetch.last
        ]
        past = self.stored.keyspace.events_of_rows(rows, fetch.prev_kv)
        past.fill(self.stored.values(past.missing))
        self.hub.feed(fetch, past.revisions)

    def catch_up(self) -> None:
        while self.hub.is_lagging:
            for fetch in self.hub.catch_up(1000):
                self.answer(fetch)


@pytest.fixture
def world() -> World:
    return World()


def test_a_watch_starts_after_now(world) -> None:
    """A watch without a start sees what happens after it was opened."""
    world.write(b"k", b"before")
    assert world.hub.watch(world.sink, 1, Watch(b"k")).state is State.SYNCED
    world.write(b"other")
    world.write(b"k", b"after")
    assert world.sink.take() == [([1], 4, [b"after"])]


def test_a_watch_of_the_past_catches_up(world) -> None:
    """A watch from a past revision gets everything from it on, inclusive, then goes on live."""
    for value in (b"2", b"3", b"4"):
        world.write(b"k", value)
    watcher = world.hub.watch(world.sink, 1, Watch(b"k", start_revision=3))
    assert world.hub.is_lagging
    world.write(b"k", b"5")
    assert world.sink.take() == []
    assert world.hub.catch_up(100) == []
    assert world.sink.take() == [([1], 5, [b"3", b"4", b"5"])]
    assert watcher.state is State.SYNCED
    assert not world.hub.is_lagging
    world.write(b"k", b"6")
    assert world.sink.take() == [([1], 6, [b"6"])]


@pytest.mark.parametrize("ahead", [1, 2, 4])
def test_a_watch_of_the_future_waits(world, ahead) -> None:
    """A watch from a future revision says nothing before it, and nothing about waiting."""
    watcher = world.hub.watch(world.sink, 1, Watch(b"k", start_revision=1 + ahead))
    assert (watcher.state is State.WAITING) == (ahead > 1)
    for _ in range(5):
        world.write(b"k")
    assert [revision for _, revision, _ in world.sink.take()] == list(range(1 + ahead, 7))


def test_a_future_watch_joins_at_the_revision_of_a_snapshot(world) -> None:
    """A snapshot that ends right before a future start lets the watch join."""
    world.hub.watch(world.sink, 1, Watch(b"k", start_revision=4))
    for _ in range(2):
        world.stored.put(b"k", b"unseen")
    world.hub.reset(world.stored.keyspace.log, 0)
    world.catch_up()
    assert world.hub.counts()[State.SYNCED] == 1
    world.write(b"k", b"seen")
    assert world.sink.take() == [([1], 4, [b"seen"])]


def test_a_compacted_start_is_told_so(world) -> None:
    """A start below the compact revision ends the watch with that revision; at it is fine."""
    for value in (b"2", b"3", b"4"):
        world.write(b"k", value)
    world.stored.keyspace.compact(3)
    world.stored.sweep()
    world.hub.compacted(3)
    watcher = world.hub.watch(world.sink, 1, Watch(b"k", start_revision=2))
    assert watcher.state is State.GONE
    text = "etcdserver: mvcc: required revision has been compacted"
    assert world.sink.take() == [([1], 4, WatchCancelled("compacted", text, 3))]
    world.hub.watch(world.sink, 1, Watch(b"k", start_revision=3))
    world.catch_up()
    assert world.sink.take() == [([1], 4, [b"3", b"4"])]


def test_what_was_compacted_while_lagging_is_told(world) -> None:
    """A lagging watch whose history is gone is ended; one that has it still gets it."""
    world = World(tail_bytes_max=0)
    world.sink.room = 0
    world.hub.watch(world.sink, 1, Watch(b"k"))
    world.write(b"k", b"2")
    world.hub.watch(world.sink, 2, Watch(b"k"))
    for value in (b"3", b"4"):
        world.write(b"k", value)
    world.hub.watch(world.sink, 3, Watch(b"k"))
    world.forget()
    world.stored.keyspace.compact(3)
    world.stored.sweep()
    world.hub.compacted(3)
    world.sink.room = 100
    world.catch_up()
    got = world.sink.take()
    assert isinstance(got[0][2], WatchCancelled)
    assert got[0][0] == [1]
    assert got[1:] == [([2], 4, [b"3", b"4"])]
    assert len(world.hub) == 2


def test_the_tail_serves_what_is_compacted(world) -> None:
    """A lagging watch goes on if the tail still has what it needs."""
    world.sink.room = 0
    world.hub.watch(world.sink, 1, Watch(b"k"))
    for value in (b"2", b"3"):
        world.write(b"k", value)
    world.stored.keyspace.compact(3)
    world.hub.compacted(3)
    world.sink.room = 100
    world.catch_up()
    assert world.sink.take() == [([1], 3, [b"2", b"3"])]


def test_what_leaves_the_tail_after_its_compaction_is_told() -> None:
    """A watch that the tail could still have served is ended if the tail moves on first."""
    world = World(tail_bytes_max=0)
    world.sink.room = 0
    world.hub.watch(world.sink, 1, Watch(b"k"))
    for value in (b"2", b"3"):
        world.write(b"k", value)
    world.stored.keyspace.compact(3)
    world.hub.compacted(3)
    assert world.hub.catch_up(10) == []
    world.forget()
    world.sink.room = 100
    world.catch_up()
    ((ids, _, item),) = world.sink.take()
    assert ids == [1]
    assert isinstance(item, WatchCancelled)


def test_events_of_a_revision_come_together(world) -> None:
    """All events of a revision that a watch sees are one item, in order."""
    world.hub.watch(world.sink, 1, Watch(*EVERYTHING))
    world.hub.watch(world.sink, 2, Watch(b"a", b"c"))
    txn = world.stored.keyspace.begin()
    txn.execute(Txn([], [Put(b"b", b"1"), Put(b"x", b"2"), Put(b"a", b"3")]))
    world.commit(txn)
    assert world.sink.take() == [([1], 2, [b"1", b"2", b"3"]), ([2], 2, [b"1", b"3"])]


def test_watchers_of_a_sink_share_a_delivery(world) -> None:
    """Watchers of one sink that ask alike get one delivery with all ids, others their own."""
    other = Connection()
    for stream in (1, 2, 3):
        world.hub.watch(world.sink, stream, Watch(b"k"))
        world.hub.watch(other, stream, Watch(b"k"))
    world.hub.watch(world.sink, 4, Watch(b"k", prev_kv=True))
    world.write(b"k", b"1")
    assert world.sink.take() == [([1, 2, 3], 2, [b"1"]), ([4], 2, [b"1"])]
    first = other.got[0][0]
    assert other.take() == [([1, 2, 3], 2, [b"1"])]
    world.hub.cancel(other, 2)
    world.hub.watch(other, 9, Watch(b"k"))
    world.write(b"k", b"2")
    assert other.take() == [([1, 3, 9], 3, [b"2"])]
    assert first == [1, 2, 3]


def test_an_item_is_encoded_once(world) -> None:
    """All sinks that send the same item get one batch; each codec encodes it once."""
    other = Connection()
    world.hub.watch(world.sink, 1, Watch(b"k"))
    world.hub.watch(other, 1, Watch(*EVERYTHING))
    world.write(b"k")
    batch = world.sink.got[0][2]
    assert batch is other.got[0][2]
    calls = []

    def encode(item) -> bytes:
        calls.append(item)
        return b"%d" % len(calls)

    assert [batch.encoded(codec, encode) for codec in ("a", "a", "b")] == [b"1", b"1", b"2"]
    assert calls == [batch.item, batch.item]


def test_filters_and_the_record_before(world) -> None:
    """Filters leave out puts or deletions; the record before comes only on request."""
    world.write(b"k", b"1")
    options: list[dict[str, Any]] = [
        {"no_put": True},
        {"no_delete": True},
        {"prev_kv": True},
        {},
    ]
    for stream, option in enumerate(options):
        world.hub.watch(world.sink, stream, Watch(b"k", **option))
    before = world.stored.get(b"k")
    world.write(b"k", b"2")
    seen = {ids[0]: batch.item.events for ids, _, batch in world.sink.got}
    after = world.stored.get(b"k")
    plain, full = [Event(0, after)], [Event(0, after, before)]
    assert seen == {1: plain, 2: full, 3: plain}
    world.sink.got = []
    world.write(b"k", None)
    assert {ids[0] for ids, _, _ in world.sink.got} == {0, 2, 3}


def test_a_watcher_may_be_denied_keys(world) -> None:
    """``accept`` hides keys, live and from the past."""
    world.write(b"secret", b"1")
    hidden = lambda key: key != b"secret"  # noqa: E731
    world.hub.watch(world.sink, 1, Watch(*EVERYTHING, start_revision=2), accept=hidden)
    world.catch_up()
    world.hub.watch(world.sink, 2, Watch(*EVERYTHING))
    world.write(b"secret", b"2")
    world.write(b"open", b"3")
    assert world.sink.take() == [([2], 3, [b"2"]), ([1], 4, [b"3"]), ([2], 4, [b"3"])]


def test_spaces_are_watched_apart(world) -> None:
    """A watch sees one space only."""
    world.hub.watch(world.sink, 1, Watch(b"k", space=SYSTEM))
    world.write(b"k")
    world.write(b"k", b"s", SYSTEM)
    assert world.sink.take() == [([1], 3, [b"s"])]


def test_a_watch_without_key_begins_at_the_first(world) -> None:
    """An empty key is the key of one zero byte."""
    world.hub.watch(world.sink, 1, Watch(b""))
    world.hub.watch(world.sink, 2, Watch(b"", b"\0"))
    world.write(b"\0", b"zero")
    assert sorted(world.sink.take()) == [([1], 2, [b"zero"]), ([2], 2, [b"zero"])]


def test_credit_bounds_what_is_sent(world) -> None:
    """When its credit is used up a watch waits; with new credit it goes on without gap."""
    world.hub.watch(world.sink, 1, Watch(b"k", credit=2))
    world.hub.watch(world.sink, 2, Watch(b"k", credit=3))
    world.hub.watch(world.sink, 3, Watch(b"k"))
    for value in (b"2", b"3", b"4", b"5"):
        world.write(b"k", value)
    assert [ids for ids, _, _ in world.sink.take()] == [[1, 2, 3], [1, 2, 3], [2, 3], [3]]
    assert world.hub.counts()[State.BLOCKED] == 2
    world.catch_up()
    assert world.sink.take() == []
    world.hub.credit(world.sink, 1, 1)
    world.catch_up()
    assert world.sink.take() == [([1], 4, [b"4"])]
    world.hub.credit(world.sink, 1, 5)
    world.catch_up()
    assert world.hub.counts()[State.BLOCKED] == 1
    world.hub.credit(world.sink, 1, 1)
    for value in (b"6", b"7", b"8", b"9", b"10", b"11"):
        world.write(b"k", value)
    # Five were granted and one more; the first of them went for catching up.
    assert sum(1 in ids for ids, _, _ in world.sink.take()) == 6
    assert world.hub.counts()[State.BLOCKED] == 2
    world.write(b"k")
    assert sum(1 in ids for ids, _, _ in world.sink.take()) == 0


def test_a_revision_is_not_split_by_credit(world) -> None:
    """A revision goes out whole, and what it exceeds the credit by is paid back first."""
    world.hub.watch(world.sink, 1, Watch(*EVERYTHING, credit=1))
    txn = world.stored.keyspace.begin()
    for key in (b"a", b"b", b"c"):
        txn.put(USER, key, b"v")
    world.commit(txn)
    assert world.sink.take() == [([1], 2, [b"v"] * 3)]
    world.write(b"d")
    for amount, arrived in ((1, 0), (1, 0), (1, 1)):
        world.hub.credit(world.sink, 1, amount)
        world.catch_up()
        assert len(world.sink.take()) == arrived


def test_a_sink_that_fills_up_gives_no_credit(world) -> None:
    """A watch whose credit and sink are used up by one item waits for both."""
    for value in (b"2", b"3", b"4"):
        world.write(b"k", value)
    world.sink.room = 1
    world.hub.watch(world.sink, 1, Watch(b"k", start_revision=2, credit=2))
    world.catch_up()
    assert world.sink.take() == [([1], 3, [b"2", b"3"])]
    world.sink.room = 9
    world.catch_up()
    assert world.sink.take() == []
    world.hub.credit(world.sink, 1, 1)
    world.catch_up()
    assert world.sink.take() == [([1], 4, [b"4"])]


def test_credit_for_nobody_is_ignored(world) -> None:
    """Credit for an unknown stream, or for one without a limit, changes nothing."""
    world.hub.credit(world.sink, 1, 5)
    world.hub.watch(world.sink, 1, Watch(b"k"))
    world.hub.credit(world.sink, 1, 5)
    world.write(b"k")
    assert len(world.sink.take()) == 1


def test_a_full_sink_stalls_its_watchers_only(world) -> None:
    """A full sink gets nothing until it has room; then everything, in order."""
    other = Connection()
    for sink in (world.sink, other):
        world.hub.watch(sink, 1, Watch(b"k"))
        world.hub.watch(sink, 2, Watch(*EVERYTHING))
    world.sink.room = 1
    for value in (b"2", b"3", b"4"):
        world.write(b"k", value)
    assert world.sink.take() == [([1], 2, [b"2"])]
    assert len(other.take()) == 6
    assert not world.hub.is_lagging
    assert {lag.stream: (lag.state, lag.behind) for lag in world.hub.lags()} == {
        1: (State.STALLED, 2),
        2: (State.STALLED, 3),
    }
    world.sink.room = 1
    world.catch_up()
    first = world.sink.take()
    assert len(first) == 1
    world.sink.room = 100
    world.catch_up()
    assert sorted(first + world.sink.take()) == [
        ([1], 4, [b"3", b"4"]),
        ([2], 4, [b"2", b"3", b"4"]),
    ]
    assert world.hub.counts()[State.SYNCED] == 4


def test_history_that_left_memory_is_fetched(monkeypatch) -> None:
    """What has left the tail is asked for in portions, one fetch at a time, and then delivered."""
    monkeypatch.setattr(watch_module, "FETCH_REVISIONS_MAX", 3)
    world = World(tail_bytes_max=0)
    for number in range(2, 8):
        world.write(b"k", b"%d" % number)
    world.forget()
    world.write(b"k", b"8")
    world.hub.watch(world.sink, 1, Watch(b"k", start_revision=3))
    (fetch,) = world.hub.catch_up(100)
    assert (fetch.first, fetch.last, fetch.prev_kv) == (3, 5, False)
    assert world.hub.catch_up(100) == []
    assert not world.hub.is_lagging
    world.hub.abandon(fetch)
    (again,) = world.hub.catch_up(100)
    assert again == fetch
    world.hub.feed(fetch, [])
    world.hub.abandon(fetch)
    world.answer(again)
    assert world.sink.take() == [([1], 5, [b"3", b"4", b"5"])]
    world.catch_up()
    assert world.sink.take() == [([1], 7, [b"6", b"7"]), ([1], 8, [b"8"])]


def test_a_fetch_without_prev_kv_is_no_good_for_those_that_want_it() -> None:
    """Who wants the record before waits for a fetch that brings it."""
    world = World(tail_bytes_max=0)
    for value in (b"2", b"3"):
        world.write(b"k", value)
    world.forget()
    world.hub.watch(world.sink, 1, Watch(b"k", start_revision=3))
    (fetch,) = world.hub.catch_up(100)
    world.hub.watch(world.sink, 2, Watch(b"k", start_revision=3, prev_kv=True))
    assert world.hub.catch_up(100) == []
    world.answer(fetch)
    assert [ids for ids, _, _ in world.sink.got] == [[1]]
    world.catch_up()
    ids, _, batch = world.sink.got[1]
    assert ids == [2]
    assert isinstance(batch.item, WatchEvents)
    before = batch.item.events[0].prev_kv
    assert before is not None
    assert before.value == b"2"


def test_a_gap_in_what_was_fetched_is_damage() -> None:
    """A revision that the database does not have is never skipped; the watch stays where it is."""
    world = World(tail_bytes_max=0)
    for value in (b"2", b"3", b"4"):
        world.write(b"k", value)
    world.forget()
    world.hub.watch(world.sink, 1, Watch(b"k", start_revision=2))
    (fetch,) = world.hub.catch_up(100)
    events = world.stored.keyspace.events_of_rows(sorted(world.stored.rows.values()), False)
    with pytest.raises(Internal, match="revision 3 of the history is missing"):
        world.hub.feed(fetch, [events.revisions[0], events.revisions[2]])
    assert world.sink.take() == []
    world.catch_up()
    assert world.sink.take() == [([1], 4, [b"2", b"3", b"4"])]


def test_a_watch_from_the_first_revision(world) -> None:
    """Nothing happened at revision 1, so a watch from there is complete without it."""
    world = World(tail_bytes_max=0)
    world.hub.watch(world.sink, 1, Watch(b"k", start_revision=1))
    world.write(b"k", b"2")
    world.forget()
    world.catch_up()
    assert world.sink.take() == [([1], 2, [b"2"])]


def test_a_snapshot_moves_everybody_to_their_own_place() -> None:
    """After a snapshot each watch catches up from where it stood; nothing is skipped or doubled."""
    world = World(tail_bytes_max=0)
    world.hub.watch(world.sink, 1, Watch(b"k"))
    world.write(b"k", b"2")
    for value in (b"3", b"4"):
        world.stored.put(b"k", value)
    world.stored.keyspace = world.stored.reload()
    world.hub.reset(world.stored.keyspace.log, 0)
    world.hub.watch(world.sink, 2, Watch(b"k"))
    world.write(b"k", b"5")
    world.catch_up()
    assert world.sink.take() == [
        ([1], 2, [b"2"]),
        ([2], 5, [b"5"]),
        ([1], 4, [b"3", b"4"]),
        ([1], 5, [b"5"]),
    ]


def test_a_snapshot_makes_fetches_stale(world) -> None:
    """A fetch of before the snapshot is ignored, and asked for anew."""
    world = World(tail_bytes_max=0)
    world.write(b"k", b"2")
    world.forget()
    world.hub.watch(world.sink, 1, Watch(b"k", start_revision=2))
    (fetch,) = world.hub.catch_up(10)
    world.hub.reset(world.stored.keyspace.log, 0)
    world.answer(fetch)
    assert world.sink.take() == []
    world.catch_up()
    assert world.sink.take() == [([1], 2, [b"2"])]


def test_progress_tells_the_position(world) -> None:
    """A progress notice covers exactly what was sent: the present, or a laggard's own place."""
    world.hub.watch(world.sink, 1, Watch(b"k"))
    for _ in range(3):
        world.write(b"other")
    world.hub.watch(world.sink, 2, Watch(b"k", start_revision=3))
    world.hub.watch(world.sink, 3, Watch(b"k", start_revision=99))
    for stream in (1, 2, 3, 4):
        world.hub.request_progress(world.sink, stream)
    assert world.sink.take() == [
        ([1], 4, WatchProgress(4)),
        ([2], 2, WatchProgress(2)),
        ([3], 4, WatchProgress(4)),
    ]


def test_notices_go_to_the_quiet(world) -> None:
    """Periodic notices go, together, to those that asked, are synced, and got no events."""
    for stream in (1, 2):
        world.hub.watch(world.sink, stream, Watch(b"k", progress=True))
    world.hub.watch(world.sink, 3, Watch(b"busy", progress=True))
    world.hub.watch(world.sink, 4, Watch(b"k"))
    world.hub.watch(world.sink, 5, Watch(b"k", progress=True, start_revision=9))
    world.write(b"busy")
    world.sink.take()
    world.hub.notify_progress()
    assert world.sink.take() == [([1, 2], 2, WatchProgress(2))]
    world.hub.notify_progress()
    assert world.sink.take() == [([1, 2, 3], 2, WatchProgress(2))]


def test_streams_end(world) -> None:
    """A cancelled watch, and those of a sink that went away, get nothing more."""
    world.sink.room = 0
    for stream, start in ((1, 0), (2, 1), (3, 99), (4, 99)):
        world.hub.watch(world.sink, stream, Watch(b"k", start_revision=start))
    with pytest.raises(InvalidRequest, match="stream 1 is in use"):
        world.hub.watch(world.sink, 1, Watch(b"k"))
    world.write(b"k")
    assert [world.hub.cancel(world.sink, stream) for stream in (1, 3, 1)] == [True, True, False]
    world.sink.room = 10
    world.hub.remove(world.sink)
    world.hub.remove(world.sink)
    assert len(world.hub) == 0
    world.catch_up()
    world.write(b"k")
    assert world.sink.take() == []
    assert not world.hub.is_lagging


def test_functions_of_the_server_can_watch(world) -> None:
    """A local watch calls a function with whole revisions, and another if history was lost."""
    world = World(tail_bytes_max=0)
    for value in (b"2", b"3"):
        world.write(b"k", value)
    got: list[tuple[int, list[bytes]]] = []
    lost: list[int] = []

    def note(revision, events) -> None:
        got.append((revision, [event.kv.value for event in events]))

    first = world.hub.watch_local(Watch(b"k", start_revision=2), note, lost.append)
    world.catch_up()
    world.write(b"k", b"4")
    assert got == [(3, [b"2", b"3"]), (4, [b"4"])]
    assert world.hub.cancel(first.sink, first.stream)
    world.forget()
    world.stored.keyspace.compact(4)
    world.hub.compacted(4)
    world.hub.watch_local(Watch(b"k", start_revision=2), note, lost.append)
    world.hub.watch_local(Watch(b"k", start_revision=2), note)
    world.hub.watch_local(Watch(b"k", progress=True), note)
    world.hub.notify_progress()
    world.write(b"other")
    assert lost == [4]
    assert len(got) == 2


def test_deliveries_may_open_and_end_watches(world) -> None:
    """What a delivery opens sees nothing of the revision being delivered; what it ends neither."""
    late = Connection()

    def react(revision, events) -> None:
        if revision == 2:
            world.hub.cancel(world.sink, 2)
            world.hub.watch(late, 1, Watch(b"k"))
            world.hub.watch(world.sink, 3, Watch(b"k", prefix_end(b"k")))

    world.hub.watch(world.sink, 1, Watch(b"k"))
    world.hub.watch_local(Watch(b"k"), react)
    world.hub.watch(world.sink, 2, Watch(b"k", prefix_end(b"k")))
    world.write(b"k", b"2")
    assert world.sink.take() == [([1], 2, [b"2"])]
    world.write(b"k", b"3")
    world.catch_up()
    assert sorted(world.sink.take()) == [([1], 3, [b"3"]), ([3], 3, [b"3"])]
    assert late.take() == [([1], 3, [b"3"])]


def test_catching_up_may_end_watches(world) -> None:
    """A delivery while catching up can end a watch that was taken along."""
    world.write(b"k", b"2")

    def end_the_other(revision, events) -> None:
        world.hub.cancel(world.sink, 1)

    world.hub.watch_local(Watch(b"k", start_revision=2), end_the_other)
    world.hub.watch(world.sink, 1, Watch(b"k", start_revision=2))
    world.catch_up()
    assert world.sink.take() == []
    assert len(world.hub) == 1


def test_a_large_revision_is_published_in_slices(world, monkeypatch) -> None:
    """While a revision is published, a new watch counts it as past, and nobody else sees half."""
    monkeypatch.setattr(watch_module, "CHUNK_KEYS", 2)
    world.hub.watch(world.sink, 1, Watch(*EVERYTHING))
    txn = world.stored.keyspace.begin()
    for number in range(5):
        txn.put(USER, b"%d" % number, b"%d" % number)
    commit = world.stored.commit(txn)
    steps = world.hub.publish_steps(commit.revision, commit.events)
    next(steps)
    world.hub.watch(world.sink, 2, Watch(*EVERYTHING))
    world.hub.watch(world.sink, 3, Watch(*EVERYTHING, start_revision=2))
    assert world.hub.catch_up(100) == []
    next(steps)
    assert world.sink.take() == []
    assert list(steps) == []
    world.catch_up()
    whole = [b"0", b"1", b"2", b"3", b"4"]
    assert world.sink.take() == [([1], 2, whole), ([3], 2, whole)]
    assert world.hub.counts()[State.SYNCED] == 3


def test_revisions_are_published_in_order() -> None:
    """A revision that does not follow the last one is a mistake of the caller."""
    stored = Stored()
    hub = WatchHub(RevisionLog(1))
    stored.put(b"k")
    stored.put(b"k")
    with pytest.raises(AssertionError):
        hub.publish(3, stored.keyspace.log.events(3) or [])
