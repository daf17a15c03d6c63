"""The tail of history, and the index from time to revisions."""

import pytest

from coordinator.keyspace import USER, RevisionLog, TimeIndex
from coordinator_sdk.protocol.kv import Event, KeyValue
from tests.keyspace.support import Stored


def events(revision: int):
    return [(USER, Event(0, KeyValue(b"k", 2, revision, 1, 0, b"v")))]


def test_the_tail_keeps_what_is_not_persisted() -> None:
    """Only persisted revisions leave the tail, the oldest first, and only while it is too large."""
    log = RevisionLog(1, bytes_max=200)
    for revision in range(2, 6):
        log.append(revision, events(revision), 100)
    assert (log.first, log.last, log.bytes_held) == (2, 5, 400)
    log.persisted(2)
    assert (log.first, log.bytes_held) == (3, 300)
    log.persisted(5)
    assert (log.first, log.bytes_held) == (4, 200)
    log.persisted(3)
    assert log.events(3) is None
    assert log.record(3, 0) is None
    assert log.events(4) == events(4)
    assert log.record(5, 0) == events(5)[0][1].kv
    log.append(6, events(6), 5000)
    assert (log.first, log.events(6)) == (6, events(6))
    log.persisted(6)
    assert (log.first, log.last, log.bytes_held) == (7, 6, 0)


def test_the_tail_has_no_gap() -> None:
    """A revision that does not follow the last one is a mistake of the caller."""
    log = RevisionLog(1)
    with pytest.raises(AssertionError):
        log.append(3, events(3), 1)


def test_commits_reach_tail_and_time_index() -> None:
    """A commit is in the tail with its events, and its clock in the time index."""
    stored = Stored()
    txn = stored.keyspace.begin(clock_ms=123_456)
    txn.put(USER, b"k", b"v")
    commit = stored.commit(txn)
    assert stored.keyspace.log.events(2) is commit.events
    assert stored.keyspace.times.samples() == [(123_456, 2)]


def test_one_sample_a_second() -> None:
    """At most one sample a second is kept; times between samples give the one before."""
    index = TimeIndex()
    for clock, revision in ((0, 1), (1000, 2), (1500, 3), (1999, 4), (2000, 5), (9000, 6)):
        index.note(clock, revision)
    assert index.samples() == [(1000, 2), (2000, 5), (9000, 6)]
    assert [index.revision_at(clock) for clock in (999, 1000, 1999, 2000, 8999, 10_000)] == [
        0,
        2,
        2,
        5,
        5,
        6,
    ]
    assert [index.clock_of(revision) for revision in (1, 2, 4, 5, 7)] == [0, 1000, 1000, 2000, 9000]


def test_the_time_index_is_bounded() -> None:
    """The oldest samples go when there are too many, and when compaction makes them useless."""
    index = TimeIndex(samples_max=16)
    for number in range(1, 101):
        index.note(number * 1000, number)
    assert len(index) <= 16
    assert index.revision_at(100_000) == 100
    index.forget_below(98)
    assert index.samples() == [(98_000, 98), (99_000, 99), (100_000, 100)]
    index.forget_below(98)
    index.forget_below(1000)
    assert index.samples() == [(100_000, 100)]
    TimeIndex().forget_below(5)


def test_compaction_trims_the_time_index() -> None:
    """After a compaction the index still answers for the compact revision itself."""
    stored = Stored()
    for number in range(1, 9):
        txn = stored.keyspace.begin(clock_ms=number * 1000)
        txn.put(USER, b"k", b"")
        stored.commit(txn)
    stored.keyspace.compact(5)
    assert stored.keyspace.times.samples()[0] == (4000, 5)
