"""The log, its end that is not durable yet, the storage in memory, and what entries count for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.raft import (
    NO_LIMIT,
    Compacted,
    InvariantBroken,
    MemoryStorage,
    SnapshotOutOfDate,
    Unavailable,
    entries_size,
    entry_size,
    limit_size,
)
from coordinator.raft.log import RaftLog
from coordinator.wire.raft import ConfState, Entry, EntryType, HardState, Snapshot, SnapshotMetadata
from tests.raft.group import entry, storage_of


def entries_of(*terms: int, first: int = 1) -> list[Entry]:
    return [entry(term, index) for index, term in enumerate(terms, first)]


def snapshot_at(index: int, term: int = 1) -> Snapshot:
    return Snapshot(b"state", SnapshotMetadata(ConfState((1, 2, 3)), index, term))


def stored(*terms: int, base: int = 0, base_term: int = 0) -> MemoryStorage:
    return storage_of(entries=entries_of(*terms, first=base + 1), index=base, term=base_term)


BATCHES = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 127, 128, 130]),
        st.sampled_from([EntryType.NORMAL] * 4 + [EntryType.CONF_CHANGE]),
    ),
    max_size=6,
)


@given(BATCHES, st.sampled_from([1, 126, 127, 16_382]), st.sampled_from([0, 1, 127, 128]))
def test_sizes_add_up(batch: list[tuple[int, EntryType]], first: int, term: int) -> None:
    """The size of a batch is the sum of the sizes of its entries, however it is computed."""
    entries = [
        Entry(term + offset // 2, first + offset, kind, b"x" * length)
        for offset, (length, kind) in enumerate(batch)
    ]
    assert entries_size(entries) == sum(entry_size(one) for one in entries)


@pytest.mark.parametrize(
    ("one", "size"),
    [
        (Entry(), 4),
        (Entry(1, 1), 4),
        (Entry(1, 1, data=b"x"), 7),
        (Entry(1, 128, data=b"x" * 128), 4 + 1 + 3 + 128),
        (Entry(1, 1, EntryType.CONF_CHANGE_V2), 6),
    ],
)
def test_sizes_are_fixed(one: Entry, size: int) -> None:
    """What an entry counts for is a fixed function of its fields, not of any codec."""
    assert entry_size(one) == size


@given(st.lists(st.integers(0, 40), max_size=8), st.integers(0, 120))
def test_a_limit_takes_the_longest_prefix_that_fits(lengths: list[int], size_max: int) -> None:
    """A limit of bytes gives the longest prefix within it, and at least one entry."""
    entries = [entry(1, index, b"x" * length) for index, length in enumerate(lengths, 1)]
    taken = limit_size(entries, size_max)
    assert taken == entries[: len(taken)]
    assert len(taken) >= min(1, len(entries))
    assert len(taken) <= 1 or entries_size(taken) <= size_max
    if len(taken) < len(entries):
        assert entries_size(entries[: len(taken) + 1]) > size_max


def test_storage_keeps_what_is_appended() -> None:
    """Entries are found by index and term, and nothing is found outside of them."""
    storage = stored(3, 3, 4, base=4, base_term=2)
    assert (storage.first_index(), storage.last_index()) == (5, 7)
    assert [storage.term(index) for index in (4, 5, 6, 7)] == [2, 3, 3, 4]
    assert storage.entries(5, 7) == entries_of(3, 3, first=5)
    assert storage.entries(5, 8, 8) == entries_of(3, 3, first=5)
    assert storage.entries(6, 6) == []
    with pytest.raises(Compacted):
        storage.term(3)
    with pytest.raises(Unavailable):
        storage.term(8)
    with pytest.raises(Compacted):
        storage.entries(4, 6)
    with pytest.raises(Unavailable):
        storage.entries(5, 9)


@pytest.mark.parametrize(
    ("first", "terms", "expected"),
    [
        (3, (), [3, 4, 5]),
        (1, (1, 2), [3, 4, 5]),
        (3, (3, 4, 5), [3, 4, 5]),
        (3, (3, 6, 7), [3, 6, 7]),
        (2, (2, 3, 5), [3, 5]),
        (4, (8,), [3, 8]),
        (6, (6,), [3, 4, 5, 6]),
    ],
)
def test_storage_replaces_what_follows(
    first: int, terms: tuple[int, ...], expected: list[int]
) -> None:
    """Appending replaces what stood there and after it, and skips what has been compacted."""
    storage = stored(3, 4, 5, base=2, base_term=2)
    storage.append(entries_of(*terms, first=first))
    assert [one.term for one in storage.entries(3, storage.last_index() + 1)] == expected


def test_storage_refuses_gaps() -> None:
    """Entries that would leave a gap, or cut off more than there is, stop the member."""
    storage = stored(1, 1)
    with pytest.raises(InvariantBroken, match="missing log entry"):
        storage.append(entries_of(1, first=4))
    with pytest.raises(InvariantBroken, match="out of bound"):
        storage.compact(3)
    with pytest.raises(InvariantBroken, match="out of bound"):
        storage.create_snapshot(3)


def test_storage_is_compacted() -> None:
    """Compaction drops entries up to an index, and keeps the term of the last one dropped."""
    storage = stored(1, 2, 3)
    storage.compact(2)
    assert (storage.first_index(), storage.last_index(), storage.term(2)) == (3, 3, 2)
    assert storage.entries(3, 4) == entries_of(3, first=3)
    with pytest.raises(Compacted):
        storage.compact(2)


def test_storage_makes_and_takes_snapshots() -> None:
    """A snapshot is made at an applied index, replaces the log, and never goes back."""
    storage = stored(1, 2, 3)
    made = storage.create_snapshot(2, ConfState((1,)), b"state")
    assert made == Snapshot(b"state", SnapshotMetadata(ConfState((1,)), 2, 2))
    assert storage.create_snapshot(3).metadata.conf_state == ConfState((1,))
    assert storage.last_index() == 3
    with pytest.raises(SnapshotOutOfDate):
        storage.create_snapshot(3)
    storage.apply_snapshot(snapshot_at(9, 4))
    assert (storage.first_index(), storage.last_index(), storage.term(9)) == (10, 9, 4)
    with pytest.raises(SnapshotOutOfDate):
        storage.apply_snapshot(snapshot_at(9, 4))
    storage.set_hard_state(HardState(4, 1, 9))
    assert storage.initial_state() == (HardState(4, 1, 9), ConfState((1, 2, 3)))


def test_the_log_is_one() -> None:
    """Entries are read across the border between storage and memory."""
    log = RaftLog(stored(1, 1, 2))
    log.append(entries_of(2, 3, first=4))
    assert (log.first_index(), log.last_index, log.last_term) == (1, 5, 3)
    assert [log.term(index) for index in range(6)] == [0, 1, 1, 2, 2, 3]
    assert [one.index for one in log.slice(1, 6)] == [1, 2, 3, 4, 5]
    assert [one.index for one in log.slice(4, 6)] == [4, 5]
    assert log.entries(6, NO_LIMIT) == []
    assert log.slice(3, 3) == []
    with pytest.raises(Unavailable):
        log.term(6)
    assert log.term_or_zero(6) == 0
    with pytest.raises(InvariantBroken, match="out of bound"):
        log.slice(3, 9)


@pytest.mark.parametrize(
    ("size_max", "expected"),
    [(0, [3]), (7, [3]), (10, [3]), (11, [3, 4]), (18, [3, 4]), (19, [3, 4, 5])],
)
def test_limits_hold_across_the_border(size_max: int, expected: list[int]) -> None:
    """A limit of bytes holds for entries from storage and memory together."""
    storage = storage_of(entries=[entry(1, 1), entry(1, 2), entry(1, 3, b"x")])
    log = RaftLog(storage)
    log.append([entry(1, 4), entry(1, 5, b"yy")])
    assert [entry_size(one) for one in log.slice(3, 6)] == [7, 4, 8]
    assert [one.index for one in log.slice(3, 6, size_max)] == expected


def test_a_snapshot_stands_for_the_log_until_it_is_stored() -> None:
    """A snapshot that has come in replaces the log, though storage does not know it yet."""
    log = RaftLog(stored(1, 1, 1))
    log.restore(snapshot_at(7, 3))
    assert (log.first_index(), log.last_index, log.last_term, log.committed) == (8, 7, 3, 7)
    assert log.term(7) == 3
    for index in (2, 6):
        with pytest.raises(Compacted):
            log.term(index)
        with pytest.raises(Compacted):
            log.slice(index, 7)
    with pytest.raises(Unavailable):
        log.term(8)
    assert log.snapshot() == snapshot_at(7, 3)
    assert not log.has_next_committed(allow_unstable=True)
    assert log.unstable.has_next_snapshot()
    assert log.unstable.hand_out_snapshot() == snapshot_at(7, 3)
    assert log.unstable.hand_out_snapshot() is None
    log.unstable.stable_snapshot_to(6)
    assert log.unstable.snapshot is not None
    log.unstable.stable_snapshot_to(7)
    assert log.unstable.snapshot is None


@pytest.mark.parametrize(
    ("index", "term", "expected"),
    [
        (4, 2, (2, 2)),
        (4, 3, (3, 3)),
        (4, 9, (4, 4)),
        (4, 0, (0, 0)),
        (9, 2, (9, 0)),
    ],
)
def test_the_place_of_agreement_is_guessed(
    index: int, term: int, expected: tuple[int, int]
) -> None:
    """The guess where logs agree skips all entries whose term is too high."""
    assert RaftLog(stored(1, 2, 3, 4)).find_conflict_by_term(index, term) == expected


@pytest.mark.parametrize(
    ("entries", "conflict"),
    [
        ([], 0),
        (entries_of(1, 2, 3), 0),
        (entries_of(2, 3, first=2), 0),
        (entries_of(1, 2, 3, 4), 4),
        (entries_of(4, first=4), 4),
        (entries_of(1, 4), 2),
        (entries_of(9, first=1), 1),
    ],
)
def test_the_first_conflict_is_found(entries: list[Entry], conflict: int) -> None:
    """A conflict is the first entry the log does not have with that term."""
    assert RaftLog(stored(1, 2, 3)).find_conflict(entries) == conflict


@pytest.mark.parametrize(
    ("index", "term", "up_to_date"),
    [(3, 3, True), (4, 3, True), (2, 3, False), (1, 4, True), (9, 2, False)],
)
def test_logs_are_compared_by_their_end(index: int, term: int, up_to_date: bool) -> None:
    """A log is at least as good by a higher last term, or by length if that is equal."""
    assert RaftLog(stored(1, 2, 3)).is_up_to_date(index, term) is up_to_date


def test_confirmed_entries_leave_memory() -> None:
    """Entries are let go up to a confirmed one, unless it has been replaced meanwhile."""
    log = RaftLog(stored(1))
    log.append(entries_of(2, 2, 2, first=2))
    unstable = log.unstable
    assert unstable.hand_out_entries() == entries_of(2, 2, 2, first=2)
    assert not unstable.has_next_entries()
    log.append(entries_of(3, first=4))
    assert unstable.hand_out_entries() == entries_of(3, first=4)
    for index, term in ((1, 1), (9, 2), (4, 2)):
        unstable.stable_to(index, term)
        assert unstable.offset == 2
    unstable.stable_to(3, 2)
    assert (unstable.offset, unstable.entries) == (4, entries_of(3, first=4))
    with pytest.raises(InvariantBroken, match="unstable slice"):
        unstable.slice(3, 4)


def test_replaced_entries_are_handed_out_again() -> None:
    """What replaces entries on their way to storage is handed out, from the first replaced on."""
    log = RaftLog(stored(1, 1))
    log.append(entries_of(1, 1, first=3))
    log.unstable.hand_out_entries()
    log.append(entries_of(2, first=2))
    assert log.unstable.hand_out_entries() == entries_of(2, first=2)
    assert (log.last_index, log.unstable.offset) == (2, 2)


def test_committed_entries_cannot_be_appended_over() -> None:
    """Appending at or below the commit index stops the member; so does committing the unknown."""
    log = RaftLog(stored(1, 1))
    log.commit_to(2)
    log.commit_to(1)
    assert log.committed == 2
    with pytest.raises(InvariantBroken, match="out of range"):
        log.append(entries_of(2, first=2))
    with pytest.raises(InvariantBroken, match="lost"):
        log.commit_to(3)
    assert not log.maybe_commit(3, 0)
    for index in (3, 1):
        log.applied = 2
        with pytest.raises(InvariantBroken, match="applied"):
            log.applied_to(index)


def test_entries_are_applied_when_durable() -> None:
    """Unless allowed otherwise, only entries that are durable here are handed out to be applied."""
    log = RaftLog(stored(1, 1))
    log.append(entries_of(1, first=3))
    log.commit_to(3)
    assert [one.index for one in log.hand_out_committed(allow_unstable=False)] == [1, 2]
    assert log.hand_out_committed(allow_unstable=False) == []
    assert [one.index for one in log.hand_out_committed(allow_unstable=True)] == [3]


def test_unapplied_changes_are_found_page_by_page() -> None:
    """A configuration change is found among committed entries, however small the pages."""
    change = Entry(1, 3, EntryType.CONF_CHANGE, b"")
    log = RaftLog(storage_of(entries=[entry(1, 1), entry(1, 2), change, entry(1, 4)]), 5)
    log.commit_to(2)
    assert not log.has_unapplied_conf_change()
    log.commit_to(4)
    assert log.has_unapplied_conf_change()


def test_lost_storage_stops_the_member() -> None:
    """Storage that lacks what it confirmed stops the member instead of shortening the log."""

    class Forgetful(MemoryStorage):
        __slots__ = ()

        def entries(self, lo: int, hi: int, size_max: int = NO_LIMIT, /) -> list[Entry]:
            raise Unavailable

    storage = Forgetful()
    storage.append(entries_of(1, 1))
    log = RaftLog(storage)
    with pytest.raises(InvariantBroken, match="unavailable from storage"):
        log.slice(1, 3)
    compacted = RaftLog(stored(1, 1))
    compacted.commit_to(2)
    assert isinstance(compacted.storage, MemoryStorage)
    compacted.storage.compact(1)
    with pytest.raises(InvariantBroken, match="cannot be read"):
        compacted.hand_out_committed(allow_unstable=True)
