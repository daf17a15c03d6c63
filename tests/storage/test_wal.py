"""The threads around the log, on a real disk."""

import errno
import os
import queue
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coordinator.storage import wal
from coordinator.storage.errors import NoSpace, StorageClosed, StorageFailed
from coordinator.storage.group import LogState
from coordinator.storage.recovery import LogContents
from coordinator.storage.wal import open_log
from tests.storage.logs import DiskLogBench, FaultyDisk, batch, entries


@pytest.fixture
def disk() -> FaultyDisk:
    return FaultyDisk()


@pytest.fixture
def bench(tmp_path: Path, disk: FaultyDisk):
    bench = DiskLogBench(tmp_path / "log", disk)
    bench.open(space_retry_seconds=3600)
    yield bench
    bench.log.close()


def test_files_are_private(bench: DiskLogBench):
    """The folder of the log has mode 0700 and every file in it 0600, whatever the umask says."""
    before = os.umask(0)
    try:
        for n in range(1, 10):
            bench.write(batch(n, n, size=4000))
    finally:
        os.umask(before)
    bench.log.close()
    assert stat.S_IMODE(bench.directory.stat().st_mode) == 0o700
    assert len(list(bench.directory.iterdir())) > 2
    for path in bench.directory.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_open_folder_is_closed_to_others(tmp_path: Path):
    """A folder that others may read is made private before anything is put into it."""
    folder = tmp_path / "log"
    folder.mkdir(mode=0o755)
    bench = DiskLogBench(folder)
    bench.open()
    bench.log.close()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_callbacks_run_where_the_caller_wants(bench: DiskLogBench):
    """No callback runs in the thread of the log: each sync hands over one function."""
    threads: list[int] = []
    bench.log.submit(batch(1, 1), lambda _: threads.append(threading.get_ident()))
    bench.settle()
    assert threads == [threading.get_ident()]


def test_one_notification_per_sync(tmp_path: Path):
    """What gathers during a sync becomes durable together and is announced once."""
    gate = threading.Event()
    syncing = threading.Event()

    class SlowDisk(FaultyDisk):
        syncs = 0

        def sync_data(self, fd: int) -> None:
            super().sync_data(fd)
            if threading.current_thread().name == "log-writer":
                self.syncs += 1
                syncing.set()
                gate.wait(30)

    disk = SlowDisk()
    calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
    log, _ = open_log(tmp_path / "log", notify=calls.put, files=disk, segment_bytes=1 << 20)
    order: list[int] = []
    log.submit(batch(1, 1), lambda _: order.append(1))
    assert syncing.wait(30)
    for index in range(2, 101):
        log.submit(batch(index, index), lambda _, index=index: order.append(index))  # type: ignore[misc]
    gate.set()
    log.close()
    assert disk.syncs == 2
    assert calls.qsize() == 2
    while not calls.empty():
        calls.get()()
    assert order == list(range(1, 101))


def test_the_time_of_each_sync_is_told(tmp_path):
    """Whoever syncs, the writer or the caller, tells once for each group how long that took."""
    calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
    times: list[float] = []
    log, _ = open_log(tmp_path / "log", notify=calls.put, on_sync=times.append)
    done = threading.Event()
    log.submit(batch(1, 1), lambda _: done.set())
    while not done.is_set():
        calls.get(timeout=30)()
    assert len(times) == 1
    log._sync_seconds = 0.0  # as on a quick disk
    log.write_now(batch(2, 2), lambda _: done.set())
    log.cut(1)
    log.close()
    assert len(times) == 2
    assert all(seconds > 0 for seconds in times)


def test_failed_sync_fails_everything_after_it(bench: DiskLogBench, disk: FaultyDisk):
    """After a failed fdatasync every batch fails, for good, and the state says so."""
    # With its spare segment in place nobody but the writer syncs anything.
    index = write_until_spare(bench)
    outcomes: list[Any] = []
    disk.faults["sync_data"] = errno.EIO
    bench.log.submit(batch(index, index), outcomes.append)
    bench.run_until(lambda: bool(outcomes))
    disk.faults.clear()
    bench.log.submit(batch(index, index), outcomes.append)
    bench.run_until(lambda: len(outcomes) == 2)
    assert [type(outcome) for outcome in outcomes] == [StorageFailed, StorageFailed]
    assert "fdatasync" in str(outcomes[0]) or "syncing" in str(outcomes[0])
    assert bench.log.state is LogState.FAILED
    assert bench.log.error is outcomes[0]


def write_until_spare(bench: DiskLogBench) -> int:
    """Write until the spare segment is there; return the next index."""
    index = 1
    # The file is there before it is filled and synced: only the log knows when it is ready.
    while index == 1 or not bench.log._group.log.has_spare:
        bench.write(batch(index, index))
        index += 1
    return index


def fill(bench: DiskLogBench, disk: FaultyDisk, outcomes: list[Any]) -> int:
    """Submit on a disk that takes no new files until the log says so; return the next index."""
    index = write_until_spare(bench)
    outcomes += [None] * (index - 1)
    disk.faults["create"] = errno.ENOSPC
    while bench.log.state is LogState.OPEN:
        bench.log.submit(batch(index, index, size=2000), outcomes.append)
        index += 1
        bench.calls.get(timeout=30)()
    return index


def test_full_disk_is_waited_for(tmp_path: Path, disk: FaultyDisk):
    """A disk without room for another segment holds batches back, until there is room again."""
    bench = DiskLogBench(tmp_path / "log", disk)
    bench.open(space_retry_seconds=3600)
    outcomes: list[Any] = []
    index = fill(bench, disk, outcomes)
    bench.run_until(lambda: bench.states == [LogState.NO_SPACE])
    bench.log.submit(batch(index, index), outcomes.append)
    bench.log.retry_space()
    assert bench.log.error is None
    disk.faults.clear()
    bench.log.retry_space()
    bench.run_until(lambda: len(outcomes) == index)
    bench.run_until(lambda: bench.states == [LogState.NO_SPACE, LogState.OPEN])
    assert outcomes == [None] * index
    assert bench.reopen().last_index == index
    bench.log.close()


def test_exempt_batch_is_written_on_a_full_disk(bench: DiskLogBench, disk: FaultyDisk):
    """A batch that may use the reserve becomes durable on a full disk, after those before it."""
    outcomes: list[Any] = []
    index = fill(bench, disk, outcomes)
    bench.log.submit(batch(index, index), outcomes.append)
    bench.log.submit(batch(index + 1, index + 1), outcomes.append, reserve=True)
    bench.run_until(lambda: len(outcomes) == index + 1)
    assert outcomes == [None] * (index + 1)
    assert bench.log.state is LogState.NO_SPACE


def test_space_is_looked_for_by_itself(tmp_path: Path, disk: FaultyDisk):
    """Without being asked, the log notices that a disk has room again."""
    bench = DiskLogBench(tmp_path / "log", disk)
    bench.open(space_retry_seconds=0.001)
    outcomes: list[Any] = []
    index = fill(bench, disk, outcomes)
    bench.log.submit(batch(index, index), outcomes.append)
    disk.faults.clear()
    bench.run_until(lambda: len(outcomes) == index)
    bench.log.close()


def test_closing_on_a_full_disk_gives_up_what_waits(bench: DiskLogBench, disk: FaultyDisk):
    """Closing does not wait for a full disk: what is held back is reported as not written."""
    outcomes: list[Any] = []
    index = fill(bench, disk, outcomes)
    bench.log.submit(batch(index, index), outcomes.append)
    bench.log.close()
    bench.run_until(lambda: len(outcomes) == index)
    assert isinstance(outcomes[-1], StorageClosed)
    disk.faults.clear()
    assert bench.open().last_index == outcomes.count(None)


def test_no_room_for_a_new_log(tmp_path: Path, disk: FaultyDisk):
    """A first start without room says so."""
    disk.faults["create"] = errno.ENOSPC
    with pytest.raises(NoSpace):
        DiskLogBench(tmp_path / "log", disk).open()


def test_failure_while_preparing_a_segment_stops_the_log(bench: DiskLogBench, disk: FaultyDisk):
    """A disk that fails while the next segment is prepared is not trusted any more."""
    outcomes: list[Any] = []
    disk.faults["create"] = errno.EIO
    index = 1
    while not any(outcomes):
        bench.log.submit(batch(index, index, size=4000), outcomes.append)
        bench.calls.get(timeout=30)()
        index += 1
    assert isinstance(bench.log.error, StorageFailed)


WRITER = """
import queue, sys
from functools import partial
from coordinator.storage.wal import open_log
from tests.storage.logs import batch

calls = queue.SimpleQueue()
log, contents = open_log(sys.argv[1], notify=calls.put, segment_bytes=1 << 16,
                         first_segment_bytes=1 << 16)
index = contents.last_index

def show(index, error):
    print(index, error, flush=True)

while True:
    for _ in range(7):
        index += 1
        log.submit(batch(index, index, size=200), partial(show, index))
        if index % 500 == 0:
            log.cut(index - 400)
    while not calls.empty():
        calls.get()()
"""


def test_killed_writer_keeps_what_it_acknowledged(tmp_path: Path):
    """A process killed while writing finds every acknowledged entry again, three times over."""
    acknowledged = 0
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path / "log")],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
            cwd=Path(__file__).parents[2],
        )
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(1500)]
        process.send_signal(signal.SIGKILL)
        lines += process.stdout.readlines()
        process.stdout.close()
        process.wait()
        last = [line for line in lines if line.endswith(" None\n")][-1]
        assert int(last.split()[0]) > acknowledged
        acknowledged = int(last.split()[0])
        contents = read(tmp_path / "log")
        assert contents.last_index >= acknowledged
        assert contents.entries == entries(
            contents.boundary_index + 1, contents.last_index, size=200
        )
    assert contents.boundary_index > 0


def read(path: Path) -> LogContents:
    log, contents = open_log(path, notify=lambda _: None, segment_bytes=1 << 16)
    log.close()
    return contents


@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="needs the right to mount a small disk"
)
def test_real_full_disk(tmp_path: Path):
    """On a real file system that is full the log waits, uses its reserve, and goes on later."""
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(small)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        bench = DiskLogBench(small / "log")
        bench.open(segment_bytes=64 << 10, first_segment_bytes=64 << 10)
        outcomes: list[Any] = []
        ballast = small / "ballast"
        index = write_until_spare(bench)
        outcomes += [None] * (index - 1)
        with pytest.raises(OSError, match="No space"):
            ballast.write_bytes(bytes(1 << 20))
        while bench.log.state is LogState.OPEN:
            bench.log.submit(batch(index, index, size=4000), outcomes.append)
            index += 1
            bench.calls.get(timeout=30)()
        bench.log.submit(batch(index, index, size=4000), outcomes.append)
        bench.log.submit(batch(index + 1, index + 1), outcomes.append, reserve=True)
        bench.run_until(lambda: len(outcomes) == index + 1)
        ballast.unlink()
        bench.log.retry_space()
        bench.write(batch(index + 2, index + 40, size=4000))
        assert outcomes == [None] * (index + 1)
        assert bench.reopen().last_index == index + 40
        bench.log.close()
    finally:
        subprocess.run(["umount", str(small)], check=True)


class Clock:
    """Stands in for the clock that times the syncs."""

    def __init__(self) -> None:
        self.now = 0.0
        self.sync_seconds = 0.0

    def __call__(self) -> float:
        self.now += self.sync_seconds
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(wal, "perf_counter", clock)
    return clock


def ready(bench: DiskLogBench) -> int:
    """Wait until nothing is under way; return the next index."""
    index = write_until_spare(bench)
    outcomes: list[Any] = []
    while not bench.log.write_now(batch(index, index), outcomes.append):
        bench.settle()
        index += 1
    return index + 1


def test_quick_disk_is_written_in_the_callers_thread(bench: DiskLogBench, clock: Clock):
    """On a quick disk a lone batch is durable when the call returns, without any callback."""
    outcomes: list[Any] = []
    index = ready(bench)
    calls = bench.calls.qsize()
    assert bench.log.write_now(batch(index, index), outcomes.append)
    assert (outcomes, bench.calls.qsize()) == ([], calls)
    assert bench.reopen().last_index == index


def test_slow_disk_is_left_to_the_thread(bench: DiskLogBench, clock: Clock):
    """A caller is held up while the disk is quick on average: one slow sync is forgotten soon,
    a slow disk is left to the thread until it has been quick for a while."""
    outcomes: list[Any] = []
    index = ready(bench)

    def write(sync_seconds: float) -> bool:
        nonlocal index
        clock.sync_seconds = sync_seconds
        index += 1
        is_written = bench.log.write_now(batch(index, index), outcomes.append)
        bench.settle()
        return is_written

    index -= 1
    assert write(wal.QUICK_SYNC_SECONDS * 2)
    assert write(0.0)
    while write(wal.QUICK_SYNC_SECONDS * 2):
        continue
    for _ in range(20):
        assert not write(wal.QUICK_SYNC_SECONDS * 2)
    assert [write(0.0) for _ in range(20)].count(True) > 10
    assert bench.reopen().last_index == index


def test_nothing_overtakes_what_was_submitted(bench: DiskLogBench, clock: Clock):
    """While a callback is due, a lone batch waits its turn."""
    order: list[int] = []
    index = ready(bench)
    bench.log.submit(batch(index, index), lambda _: order.append(1))
    assert not bench.log.write_now(batch(index + 1, index + 1), lambda _: order.append(2))
    bench.run_until(lambda: len(order) == 2)
    assert order == [1, 2]


def test_failure_in_the_callers_thread_is_told_by_callback(
    bench: DiskLogBench, disk: FaultyDisk, clock: Clock
):
    """A sync that fails in the caller's thread poisons the log like any other."""
    outcomes: list[Any] = []
    index = ready(bench)
    disk.faults["sync_data"] = errno.EIO
    assert not bench.log.write_now(batch(index, index), outcomes.append)
    disk.faults.clear()
    bench.run_until(lambda: bool(outcomes))
    assert isinstance(outcomes[0], StorageFailed)
    assert not bench.log.write_now(batch(index, index), outcomes.append)
    bench.run_until(lambda: len(outcomes) == 2)
    bench.run_until(lambda: bench.states == [LogState.FAILED])
    assert bench.log.error is outcomes[1]


def test_full_disk_in_the_callers_thread_is_waited_for(
    bench: DiskLogBench, disk: FaultyDisk, clock: Clock
):
    """A batch refused for lack of space in the caller's thread waits like any other."""
    outcomes: list[Any] = []
    index = ready(bench)
    disk.faults["write"] = errno.ENOSPC
    assert not bench.log.write_now(batch(index, index), outcomes.append)
    bench.run_until(lambda: bench.states == [LogState.NO_SPACE])
    assert outcomes == []
    disk.faults.clear()
    bench.log.retry_space()
    bench.run_until(lambda: bool(outcomes))
    assert outcomes == [None]


def test_large_batch_is_left_to_the_thread(bench: DiskLogBench, clock: Clock):
    """A batch that needs a new segment never holds the caller up."""
    outcomes: list[Any] = []
    index = ready(bench)
    assert not bench.log.write_now(batch(index, index, size=100_000), outcomes.append)
    bench.run_until(lambda: bool(outcomes))
    assert outcomes == [None]


def test_closed_loop_stops_the_log(tmp_path: Path):
    """When nobody can be told any more, the log stops writing, and can still be closed."""

    def gone(function: Callable[[], None]) -> None:
        raise RuntimeError("Event loop is closed")

    log, _ = open_log(tmp_path / "log", notify=gone, segment_bytes=4096, first_segment_bytes=4096)
    log.submit(batch(1, 1), lambda _: None)
    log.close()
    assert log.state is LogState.FAILED
    assert "Event loop is closed" in str(log.error)
