"""Every operation of the disk fails once, at every point of a log's life."""

import errno
import itertools
from typing import Any

import pytest

from coordinator.storage.errors import LogDamaged, NoSpace, StorageError, StorageFailed
from coordinator.storage.group import LogState
from coordinator.storage.memory import MemoryFiles, MemoryLog, open_memory_log
from coordinator.storage.record import LogBatch
from coordinator.storage.recovery import LogContents
from coordinator.wire.raft import HardState, SnapshotMetadata
from tests.storage.logs import batch

SEGMENT_BYTES = 4096


class FailingFiles(MemoryFiles):
    """A disk in memory whose n-th operation fails, and all after it if the fault is persistent."""

    def __init__(self, fail_at: int, code: int, *, is_persistent: bool) -> None:
        super().__init__()
        self.fail_at = fail_at
        self.code = code
        self.is_persistent = is_persistent
        self.is_over = False

    def _step(self, operation: str) -> None:
        count = self.calls + 1
        is_due = count >= self.fail_at if self.is_persistent else count == self.fail_at
        if is_due and not self.is_over:
            self.calls += 1
            raise OSError(self.code, "planted")
        super()._step(operation)

    @property
    def has_failed(self) -> bool:
        return self.calls >= self.fail_at


def open_small(files: MemoryFiles) -> tuple[MemoryLog, LogContents]:
    return open_memory_log(files, segment_bytes=SEGMENT_BYTES, first_segment_bytes=SEGMENT_BYTES)


class Story:
    """A log's life: appends over several segments, a replaced suffix, a cut, a snapshot.

    Knows what the log would hold after any number of its batches.
    """

    def __init__(self) -> None:
        self.batches = [
            LogBatch(entries=batch(1, 3, size=400).entries, hard_state=HardState(1, 1, 0)),
            batch(4, 8, size=400),
            batch(6, 7, term=2, size=400),
            LogBatch(entries=batch(8, 12, term=2, size=400).entries, hard_state=HardState(2, 2, 7)),
            batch(13, 18, term=2, size=400),
            LogBatch(
                install=SnapshotMetadata(index=30, term=3),
                entries=batch(31, 33, term=3).entries,
                hard_state=HardState(3, 0, 30),
            ),
            batch(34, 40, term=3, size=400),
            LogBatch(hard_state=HardState(4, 1, 40)),
        ]
        self.cuts = {4: 10, 6: 31}
        """Before the batch of that number, the log is cut at this index."""
        self.outcomes: list[StorageError | None] = []

    def run(self, log: MemoryLog) -> None:
        for number, each in enumerate(self.batches):
            if number in self.cuts:
                log.cut(self.cuts[number])
            log.submit(each, self.outcomes.append)
            log.sync()
        log.close()

    @property
    def acknowledged(self) -> int:
        """How many batches were reported durable; they are the first ones."""
        durable = list(itertools.takewhile(lambda outcome: outcome is None, self.outcomes))
        assert None not in self.outcomes[len(durable) :]
        return len(durable)

    def check(self, contents: LogContents) -> None:
        """The log holds every acknowledged batch, and perhaps some of the following ones."""
        candidates = [self._after(count) for count in range(len(self.batches) + 1)]
        assert any(
            self._fits(contents, *candidates[count])
            for count in range(self.acknowledged, len(candidates))
        )

    def _after(self, count: int) -> tuple[dict[int, int], HardState]:
        terms: dict[int, int] = {}
        hard_state = HardState()
        for each in self.batches[:count]:
            if each.install is not None:
                terms = {each.install.index: each.install.term}
            for entry in each.entries:
                terms[entry.index] = entry.term
            if each.entries:
                terms = {i: term for i, term in terms.items() if i <= each.entries[-1].index}
            hard_state = each.hard_state or hard_state
        return terms, hard_state

    def _fits(self, contents: LogContents, terms: dict[int, int], hard_state: HardState) -> bool:
        held = {entry.index: entry.term for entry in contents.entries}
        if contents.boundary_index:
            held[contents.boundary_index] = contents.boundary_term
        low = min(held, default=0)
        expected = {index: term for index, term in terms.items() if index >= low}
        return held == expected and contents.hard_state == hard_state


def live(files: FailingFiles, story: Story) -> None:
    """Live through the story until the fault ends it, or to the end."""
    try:
        log, _ = open_small(files)
    except StorageError:
        return
    try:
        story.run(log)
    except OSError:
        # Closing a descriptor fails: everything was reported before that.
        assert len(story.outcomes) == len(story.batches)


@pytest.mark.parametrize("is_persistent", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC], ids=["EIO", "ENOSPC"])
@pytest.mark.parametrize("keep_bytes", [0, 700, 1 << 30], ids=["lost", "torn", "kept"])
def test_no_fault_loses_an_acknowledged_batch(is_persistent: bool, code: int, keep_bytes: int):
    """Whichever operation fails, then a power cut: every acknowledged batch is there."""
    for fail_at in itertools.count(1):
        files = FailingFiles(fail_at, code, is_persistent=is_persistent)
        story = Story()
        live(files, story)
        files.is_over = True
        files.crash(keep_bytes)
        log, contents = open_small(files)
        story.check(contents)
        if contents.last_index:
            goes_on(log, contents)
        if not files.has_failed or story.acknowledged == len(story.batches):
            if fail_at > files.calls:
                break
    assert story.acknowledged == len(story.batches)
    assert fail_at > 100


def goes_on(log: MemoryLog, contents: LogContents) -> None:
    """The log works again."""
    outcomes: list[Any] = []
    log.submit(batch(contents.last_index + 1, contents.last_index + 20, size=400), outcomes.append)
    log.sync()
    assert outcomes == [None]
    log.close()


@pytest.mark.parametrize("keep_bytes", [0, 700], ids=["lost", "torn"])
def test_power_cuts_during_recovery_lose_nothing(keep_bytes: int):
    """A power cut at any operation of a start, after one in the middle of a write, is harmless."""
    for fail_at in itertools.count(1):
        files = MemoryFiles()
        story = Story()
        log, _ = open_small(files)
        story.run(log)
        story.outcomes.clear()
        log, _ = open_small(files)
        files.fail("sync_data")
        log.submit(batch(41, 45, term=4, size=400), story.outcomes.append)
        log.sync()
        assert isinstance(story.outcomes.pop(), StorageFailed)
        files.crash(keep_bytes)
        story.outcomes = [None] * len(story.batches)
        failing = FailingFiles(fail_at, errno.EIO, is_persistent=True)
        failing.__dict__.update(
            {name: files.__dict__[name] for name in ("_names", "_durable_names", "_open")}
        )
        try:
            log, _ = open_small(failing)
        except (StorageError, OSError):
            failing.crash(keep_bytes)
        failing.is_over = True
        _, contents = open_small(failing)
        story.check(contents)
        if not failing.has_failed:
            break
    assert fail_at > 10


def test_failed_sync_poisons_the_log():
    """After one failed sync nothing is reported durable again, although the disk would work."""
    files = MemoryFiles()
    log, _ = open_small(files)
    outcomes: list[Any] = []
    files.fail("sync_data")
    log.submit(batch(1, 1), outcomes.append)
    log.submit(batch(2, 2), outcomes.append)
    log.sync()
    log.submit(batch(1, 1), outcomes.append)
    log.sync()
    assert [type(outcome) for outcome in outcomes] == [StorageFailed] * 3
    assert (log.state, type(log.error)) == (LogState.FAILED, StorageFailed)
    log.close()
    assert log.state is LogState.FAILED


def test_full_disk_while_syncing_poisons_the_log():
    """ENOSPC from a sync is not a full disk to wait for: what was written is lost."""
    files = MemoryFiles()
    log, _ = open_small(files)
    outcomes: list[Any] = []
    files.fail("sync_data", errno.ENOSPC)
    log.submit(batch(1, 1), outcomes.append)
    log.sync()
    assert isinstance(outcomes[0], StorageFailed)


def test_lying_disk_loses_whole_batches_only():
    """A disk that lies about syncs costs the newest batches, and leaves a log that starts."""
    files = MemoryFiles()
    story = Story()
    log, _ = open_small(files)
    for each in story.batches[:3]:
        log.submit(each, story.outcomes.append)
        log.sync()
    files.is_lying = True
    log.submit(story.batches[3], lambda error: None)
    log.sync()
    files.is_lying = False
    files.crash()
    story.check(open_small(files)[1])


class Waiter:
    """A log on a disk that gets full, and what it says."""

    def __init__(self) -> None:
        self.files = MemoryFiles()
        self.states: list[LogState] = []
        self.outcomes: list[int] = []
        self.log, _ = open_memory_log(
            self.files,
            segment_bytes=SEGMENT_BYTES,
            first_segment_bytes=SEGMENT_BYTES,
            on_state=self.states.append,
        )

    def submit(self, index: int, *, size: int = 800, reserve: bool = False) -> None:
        def done(error: StorageError | None) -> None:
            assert error is None
            self.outcomes.append(index)

        self.log.submit(batch(index, index, size=size), done, reserve=reserve)
        self.log.sync()


def test_full_disk_holds_batches_back():
    """On a full disk ordinary batches wait, in order, and are written when there is space again."""
    waiter = Waiter()
    waiter.submit(1)
    waiter.files.fill()
    for index in range(2, 12):
        waiter.submit(index)
    held_from = waiter.outcomes[-1] + 1
    assert held_from < 11
    assert waiter.states == [LogState.NO_SPACE]
    assert waiter.log.state is LogState.NO_SPACE
    assert waiter.log.error is None
    assert waiter.log.waiting_bytes > 800
    waiter.files.capacity_bytes = None
    waiter.log.retry_space()
    assert waiter.outcomes == list(range(1, 12))
    assert waiter.states == [LogState.NO_SPACE, LogState.OPEN]
    waiter.log.close()
    assert open_small(waiter.files)[1].last_index == 11


def test_reserve_is_open_to_exempt_batches():
    """An exempt batch on a full disk uses the prepared segment, and takes those before it along."""
    waiter = Waiter()
    waiter.submit(1)
    waiter.files.fill()
    index = 2
    while waiter.log.state is LogState.OPEN:
        waiter.submit(index)
        index += 1
    waiter.submit(index)
    assert index not in waiter.outcomes
    waiter.submit(index + 1, size=40, reserve=True)
    assert waiter.outcomes == list(range(1, index + 2))
    assert waiter.log.state is LogState.NO_SPACE
    assert open_small_after_crash(waiter.files).last_index == index + 1


def open_small_after_crash(files: MemoryFiles) -> LogContents:
    files.crash()
    return open_small(files)[1]


def test_exhausted_reserve_holds_everything_back():
    """When even the reserve is used up, exempt batches wait too, and nothing is lost."""
    waiter = Waiter()
    waiter.submit(1)
    waiter.files.fill()
    for index in range(2, 30):
        waiter.submit(index, reserve=True)
    count = len(waiter.outcomes)
    assert 4 < count < 12
    assert waiter.log.state is LogState.NO_SPACE
    waiter.files.capacity_bytes = None
    waiter.log.sync()
    assert waiter.outcomes == list(range(1, 30))


def test_cut_makes_space():
    """Segments dropped on a full disk make the space that the log waits for."""
    waiter = Waiter()
    for index in range(1, 20):
        waiter.submit(index)
    waiter.files.fill()
    index = 20
    while waiter.log.state is LogState.OPEN:
        waiter.submit(index)
        index += 1
    waiter.submit(index)
    waiter.log.cut(15)
    waiter.log.sync()
    assert waiter.states[-1] is LogState.OPEN
    assert waiter.outcomes == list(range(1, index + 1))


def test_batch_larger_than_the_disk_waits():
    """A batch for which there is no room holds back what follows, and is not half written."""
    waiter = Waiter()
    waiter.submit(1)
    waiter.files.capacity_bytes = waiter.files.used_bytes + 3 * SEGMENT_BYTES
    waiter.submit(2, size=5 * SEGMENT_BYTES)
    waiter.submit(3)
    assert waiter.outcomes == [1]
    waiter.files.capacity_bytes = None
    waiter.log.retry_space()
    assert waiter.outcomes == [1, 2, 3]
    assert open_small_after_crash(waiter.files).last_index == 3


def test_full_disk_when_overwriting_is_waited_for():
    """Even where overwriting takes space, a refused write leaves the log as it was."""
    waiter = Waiter()
    waiter.submit(1)
    waiter.files.fail("write", errno.ENOSPC)
    waiter.submit(2)
    assert waiter.outcomes == [1, 2]
    assert waiter.states in ([LogState.NO_SPACE, LogState.OPEN], [LogState.NO_SPACE])
    assert open_small_after_crash(waiter.files).last_index == 2


def test_no_room_for_a_new_log_is_said_so():
    """A first start on a full disk says so, and leaves nothing half made."""
    files = MemoryFiles()
    files.fill()
    with pytest.raises(NoSpace):
        open_small(files)
    files.capacity_bytes = None
    open_small(files)[0].close()


def test_damaged_log_is_left_alone():
    """A damaged log is not changed by the attempt to open it."""
    files = MemoryFiles()
    log, _ = open_small(files)
    log.submit(batch(1, 1), lambda error: None)
    log.sync()
    log.submit(batch(2, 2), lambda error: None)
    log.sync()
    log.close()
    files.flip("log/0000000000000001.log", 560)
    images = {name: files.content(f"log/{name}") for name in files.names("log")}
    with pytest.raises(LogDamaged):
        open_small(files)
    assert {name: files.content(f"log/{name}") for name in files.names("log")} == images
