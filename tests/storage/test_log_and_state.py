"""Log and state database together: what a start finds after a stop between their steps."""

import contextlib
import itertools

import pytest

from coordinator.storage.memory import MemoryFiles, open_memory_log
from coordinator.storage.memory_state import MemoryDatabase, MemoryStateStore
from coordinator.storage.record import LogBatch
from coordinator.wire.raft import SnapshotMetadata
from tests.storage.logs import batch
from tests.storage.test_state_contract import batch as state_batch

SEGMENT_BYTES = 4096


class Stopped(Exception):
    """The machine stopped here."""


class Member:
    """Log and state of one member, driven as the node does."""

    def __init__(self) -> None:
        self.files = MemoryFiles()
        self.database = MemoryDatabase()
        self.steps_left = 0

    def step(self) -> None:
        self.steps_left -= 1
        if self.steps_left < 0:
            raise Stopped

    def live(self, steps: int) -> None:
        """Append, apply, write behind and cut, until the machine stops after so many steps."""
        self.steps_left = steps
        log, contents = open_memory_log(
            self.files, segment_bytes=SEGMENT_BYTES, first_segment_bytes=SEGMENT_BYTES
        )
        state = MemoryStateStore(self.database)
        for index in range(contents.last_index + 1, contents.last_index + 40):
            log.submit(batch(index, index, size=400), lambda _: None)
            self.step()
            log.sync()
            self.step()
            if index % 4 == 0:
                state.apply(state_batch(index - 2))
                self.step()
                log.cut(state.durable_index - 3)
                self.step()
                log.sync()
                self.step()

    def stop(self, keep_bytes: int) -> None:
        self.files.crash(keep_bytes)
        self.database.crash()


@pytest.mark.parametrize("keep_bytes", [0, 300, 1 << 20])
def test_no_stop_leaves_a_gap_between_log_and_state(keep_bytes: int):
    """Stopped anywhere between write, state write and cut, the log has what the state lacks."""
    reached = 0
    for steps in itertools.chain(range(40), range(40, 400, 13)):
        member = Member()
        for _ in range(2):
            with contextlib.suppress(Stopped):
                member.live(steps)
            member.stop(keep_bytes)
            log, contents = open_memory_log(
                member.files, segment_bytes=SEGMENT_BYTES, first_segment_bytes=SEGMENT_BYTES
            )
            log.close()
            durable = MemoryStateStore(member.database).durable_index
            assert contents.boundary_index <= durable <= contents.last_index
            reached = max(reached, contents.boundary_index)
    assert reached > 10


@pytest.mark.parametrize("is_noted", [False, True])
def test_log_says_whether_an_installation_is_to_be_finished(is_noted: bool):
    """After a stop during an installation the log says whether the snapshot counts."""
    member = Member()
    with pytest.raises(Stopped):
        member.live(12)
    log, _ = open_memory_log(member.files, segment_bytes=SEGMENT_BYTES)
    log.submit(LogBatch(install=SnapshotMetadata(index=90, term=2)), lambda _: None)
    if is_noted:
        log.sync()
    member.stop(0)
    _, contents = open_memory_log(member.files, segment_bytes=SEGMENT_BYTES)
    if is_noted:
        assert contents.install == SnapshotMetadata(index=90, term=2)
        assert (contents.boundary_index, contents.entries) == (90, [])
    else:
        assert contents.install is None
        assert contents.boundary_index == 0
