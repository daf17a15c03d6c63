"""The log on a disk and its twin in memory keep the same promises."""

from pathlib import Path
from typing import Any

import pytest

from coordinator.storage.errors import LogDamaged, StorageClosed, StorageFailed
from coordinator.storage.group import LogState
from coordinator.storage.record import LogBatch
from coordinator.storage.recovery import LogContents
from coordinator.wire.raft import ConfState, Entry, HardState, SnapshotMetadata
from tests.storage.logs import (
    SEGMENT_BYTES,
    DiskLogBench,
    LogBench,
    MemoryLogBench,
    batch,
    entries,
)


@pytest.fixture(params=["disk", "memory"])
def bench(request: pytest.FixtureRequest, tmp_path: Path):
    bench = DiskLogBench(tmp_path / "log") if request.param == "disk" else MemoryLogBench()
    bench.open()
    yield bench
    bench.log.close()


def test_new_log_is_empty(bench: LogBench):
    """A new log holds nothing, and says so again when it is opened again."""
    for contents in (bench.contents, bench.reopen()):
        assert contents == LogContents()
        assert contents.last_index == 0


def test_batches_come_back(bench: LogBench):
    """What a callback reported durable is there, in order, when the log is opened again."""
    bench.write(batch(1, 3), LogBatch(hard_state=HardState(1, 2, 0)), batch(4, 4))
    bench.write(LogBatch(entries=entries(5, 6, term=2), hard_state=HardState(2, 2, 4)))
    contents = bench.reopen()
    assert contents.entries == entries(1, 4) + entries(5, 6, term=2)
    assert contents.hard_state == HardState(2, 2, 4)
    assert (contents.boundary_index, contents.boundary_term, contents.torn_bytes) == (0, 0, 0)


def test_callbacks_run_in_order(bench: LogBench):
    """Callbacks run in the order of the submissions."""
    order: list[int] = []
    for index in range(1, 101):
        bench.log.submit(batch(index, index), lambda _, index=index: order.append(index))  # type: ignore[misc]
    bench.settle()
    assert order == list(range(1, 101))


def test_suffix_is_replaced(bench: LogBench):
    """Entries that start below the end replace everything from there on, in every later opening."""
    bench.write(batch(1, 10))
    bench.write(batch(6, 7, term=2))
    assert bench.reopen().entries == entries(1, 5) + entries(6, 7, term=2)
    bench.write(batch(7, 9, term=3))
    assert bench.reopen().entries == entries(1, 5) + entries(6, 6, term=2) + entries(7, 9, term=3)


def test_segments_rotate(bench: LogBench):
    """A log grows over many segments, and a batch larger than a segment gets one of its own."""
    for index in range(1, 41):
        bench.write(batch(index, index, size=2000))
    bench.write(batch(41, 41, size=3 * SEGMENT_BYTES))
    bench.write(batch(42, 43))
    expected = entries(1, 40, size=2000) + entries(41, 41, size=3 * SEGMENT_BYTES) + entries(42, 43)
    assert bench.reopen().entries == expected


def test_cut_drops_whole_segments(bench: LogBench):
    """After a cut the log starts at the cut, knows the term before it, and keeps its hard state."""
    bench.write(LogBatch(hard_state=HardState(3, 2, 0)))
    for index in range(1, 41):
        bench.write(batch(index, index, term=1 + index // 10, size=2000))
    bench.log.cut(25)
    bench.settle()
    contents = bench.reopen()
    assert (contents.boundary_index, contents.boundary_term) == (25, 3)
    assert [entry.index for entry in contents.entries] == list(range(26, 41))
    assert contents.hard_state == HardState(3, 2, 0)


def test_cut_beyond_what_is_durable_is_limited(bench: LogBench):
    """A cut never drops more than the log holds, and one that frees nothing changes nothing."""
    bench.write(batch(1, 3))
    bench.log.cut(2)
    bench.settle()
    assert bench.reopen().boundary_index == 0
    for index in range(4, 20):
        bench.write(batch(index, index, size=4000))
    bench.log.cut(1000)
    bench.settle()
    assert bench.reopen() == LogContents(boundary_index=19, boundary_term=1)
    bench.write(batch(20, 20))
    assert bench.reopen().last_index == 20


def test_overwritten_segments_can_be_cut(bench: LogBench):
    """A segment whose entries were all replaced or cut does not hold the log back."""
    for index in range(1, 20):
        bench.write(batch(index, index, size=4000))
    bench.write(batch(3, 4, term=2, size=4000))
    for index in range(5, 20):
        bench.write(batch(index, index, term=2, size=4000))
    bench.log.cut(10)
    bench.settle()
    contents = bench.reopen()
    assert (contents.boundary_index, contents.boundary_term) == (10, 2)
    assert contents.entries == entries(11, 19, term=2, size=4000)


def test_install_resets_the_log(bench: LogBench):
    """A snapshot note voids everything before it, and the log continues after the snapshot."""
    note = SnapshotMetadata(ConfState(voters=(1, 2, 3)), index=100, term=7)
    bench.write(batch(1, 10))
    bench.write(LogBatch(install=note, entries=entries(101, 102, term=8)))
    contents = bench.reopen()
    assert contents.install == note
    assert (contents.boundary_index, contents.boundary_term) == (100, 7)
    assert contents.entries == entries(101, 102, term=8)
    bench.log.cut(101)
    bench.write(batch(103, 103, term=8))
    assert bench.reopen().last_index == 103


def test_install_may_go_backwards_within_the_log(bench: LogBench):
    """A snapshot below the end of the log discards the conflicting entries above it."""
    bench.write(batch(1, 10))
    bench.write(LogBatch(install=SnapshotMetadata(index=5, term=4)))
    assert bench.reopen().last_index == 5
    bench.write(batch(6, 6, term=4))
    assert bench.reopen().entries == entries(6, 6, term=4)


def test_gap_stops_the_log(bench: LogBench):
    """A batch that does not continue the log is never written, and the log stops for good."""
    bench.write(batch(1, 3))
    outcomes: list[Any] = []
    bench.log.submit(batch(5, 6), outcomes.append)
    bench.log.submit(batch(4, 4), outcomes.append)
    bench.settle()
    assert [type(outcome) for outcome in outcomes] == [StorageFailed, StorageFailed]
    assert bench.log.state is LogState.FAILED
    assert isinstance(bench.log.error, StorageFailed)
    assert bench.reopen().last_index == 3


def test_batch_with_a_hole_is_refused_at_once(bench: LogBench):
    """A batch whose own indexes have gaps is refused before it is queued."""
    with pytest.raises(ValueError, match="gaps"):
        bench.log.submit(LogBatch(entries=[Entry(1, 1), Entry(1, 3)]), lambda error: None)


def test_closed_log_takes_nothing(bench: LogBench):
    """What was submitted before closing is durable; nothing is accepted afterwards."""
    bench.write(batch(1, 2))
    bench.log.close()
    assert bench.log.state is LogState.CLOSED
    with pytest.raises(StorageClosed):
        bench.log.submit(batch(3, 3), lambda error: None)
    assert bench.open().last_index == 2


def test_missing_log_is_refused_where_one_must_exist(bench: LogBench, tmp_path: Path):
    """A member that has voted does not start with an empty log."""
    other = (
        DiskLogBench(tmp_path / "other") if isinstance(bench, DiskLogBench) else MemoryLogBench()
    )
    with pytest.raises(LogDamaged, match="missing"):
        other.open(create=False)


def test_written_now_or_later(bench: LogBench):
    """A batch is durable when `write_now` says so, and otherwise when its callback does."""
    outcomes: list[Any] = []
    count = 0
    for index in range(1, 30):
        count += bench.log.write_now(batch(index, index), outcomes.append)
        if index % 5 == 0:
            bench.log.submit(LogBatch(hard_state=HardState(1, 1, index)), outcomes.append)
    bench.settle()
    assert outcomes == [None] * (29 - count + 5)
    contents = bench.reopen()
    assert contents.entries == entries(1, 29)
    assert contents.hard_state == HardState(1, 1, 25)
    bench.log.close()
    with pytest.raises(StorageClosed):
        bench.log.write_now(batch(30, 30), outcomes.append)
