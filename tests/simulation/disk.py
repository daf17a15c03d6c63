"""A member's disk: slow, full, failing, and without what was not synced when the power goes."""

from __future__ import annotations

import asyncio
import errno
import random
from collections.abc import Callable
from typing import Any

from coordinator.storage.errors import DirectoryForeign, StorageError, StorageFailed
from coordinator.storage.group import BatchCallback, LogState
from coordinator.storage.identity import Identity
from coordinator.storage.memory import MemoryFiles, MemoryLog, open_memory_log
from coordinator.storage.memory_state import MemoryDatabase, MemoryInstaller, MemoryStateStore
from coordinator.storage.record import LogBatch
from coordinator.storage.recovery import LogContents
from coordinator.storage.segment import RECORDS_START, SUFFIX
from coordinator.storage.state import StateBatch

SEGMENT_BYTES = 32 << 10
"""Small, so that segments are filled and dropped in every run."""

QUICK_SECONDS = 0.004
"""What a sync takes on a healthy disk, at most."""


class PowerCut(BaseException):
    """The power goes in the middle of a sync."""


class CuttableFiles(MemoryFiles):
    """Files whose power can go between a write and its sync."""

    def __init__(self) -> None:
        super().__init__()
        self.is_cut = False

    def sync_data(self, fd: int) -> None:
        """Make data durable, unless the power goes first."""
        if self.is_cut:
            raise PowerCut
        super().sync_data(fd)


class Disk:
    """What outlives the lives of a member.

    Attributes:
        latency: Seconds that a sync of the log takes, at most; drawn anew for each.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, rng: random.Random) -> None:
        self.files = CuttableFiles()
        self.database = MemoryDatabase()
        self.identity: Identity | None = None
        self.latency = QUICK_SECONDS
        self.torn = 0
        self._loop = loop
        self._rng = rng
        self._log: DelayedLog | None = None

    def draw_id(self) -> int:
        """Give the id of a new data directory."""
        return self._rng.getrandbits(62) + 1

    def draw_latency(self) -> float:
        """Give the seconds that the next sync takes."""
        return self._rng.random() * self.latency

    def open_log(self) -> tuple[DelayedLog, LogContents]:
        """Open the log for the next life."""
        self.database.failure = None
        log, contents = open_memory_log(
            self.files,
            segment_bytes=SEGMENT_BYTES,
            first_segment_bytes=SEGMENT_BYTES,
            random_bytes=self._rng.randbytes,
        )
        if contents.torn_bytes:
            self.torn += 1
        self._log = DelayedLog(log, self)
        return self._log, contents

    def fail_sync(self) -> None:
        """Let the next sync fail with EIO."""
        self.files.fail("sync_data", errno.EIO)

    def fail_database(self) -> None:
        """Let the database fail from now on, until the process has ended."""
        self.database.failure = StorageFailed("the state database failed")

    def corrupt(self) -> bool:
        """Alter one bit of what the log holds durably, far from its end.

        Returns:
            False if the log is too short for that.
        """
        try:
            names = sorted(name for name in self.files.names("log") if name.endswith(SUFFIX))
        except StorageError:
            return False
        if len(names) < 3:
            return False
        path = f"log/{names[0]}"
        content = self.files.content(path)
        used = [at for at in range(RECORDS_START, len(content)) if content[at]]
        if not used:
            return False
        self.files.flip(path, self._rng.choice(used), 1 << self._rng.randrange(8))
        return True

    def be_quick(self) -> None:
        """Be no longer slow."""
        self.latency = QUICK_SECONDS

    def heal(self) -> None:
        """Let everything work again."""
        self.be_quick()
        self.database.failure = None
        self.files._faults.clear()
        self.empty()

    def fill(self) -> None:
        """Make the disk full, for the log and the database."""
        self.files.fill()
        self.database.is_full = True

    def empty(self) -> None:
        """Make space again."""
        self.files.capacity_bytes = None
        self.database.is_full = False
        if self._log is not None:
            self._log.retry_space()

    def cut_power(self) -> None:
        """Lose what was not synced; a record that was being written may be torn."""
        if self._log is not None and self._log.has_unwritten and self._rng.random() < 0.7:
            self.files.is_cut = True
            try:
                self._log.write_and_lose_power()
            except PowerCut:
                pass
            self.files.is_cut = False
        self.files.crash(keep_bytes=self._rng.choice((0, 0, 7, 40, 100, 600, 1 << 20)))
        self.database.crash()
        self._log = None


class DelayedLog:
    """The log as a member sees it: what is submitted is durable some time later."""

    def __init__(self, log: MemoryLog, disk: Disk) -> None:
        self._log = log
        self._disk = disk
        self._loop = asyncio.get_running_loop()
        self._is_due = False
        self._is_closed = False
        self.cut = log.cut
        self.retry_space = log.retry_space

    @property
    def state(self) -> LogState:
        """See `LogPort.state`."""
        return self._log.state

    @property
    def error(self) -> Any:
        """See `LogPort.error`."""
        return self._log.error

    @property
    def waiting_bytes(self) -> int:
        """See `LogPort.waiting_bytes`."""
        return self._log.waiting_bytes

    @property
    def has_unwritten(self) -> bool:
        """Whether something was submitted and is not durable."""
        return self._log.waiting_bytes > 0

    def submit(self, batch: LogBatch, callback: BatchCallback, *, reserve: bool = False) -> None:
        """See `LogPort.submit`."""
        self._log.submit(batch, callback, reserve=reserve)
        if not self._is_due:
            self._is_due = True
            self._loop.call_later(self._disk.draw_latency(), self._sync)

    def write_now(self, batch: LogBatch, callback: BatchCallback, *, reserve: bool = False) -> bool:
        """See `LogPort.write_now`; never granted here."""
        self.submit(batch, callback, reserve=reserve)
        return False

    def _sync(self) -> None:
        self._is_due = False
        if not self._is_closed:
            self._log.sync()

    def write_and_lose_power(self) -> None:
        """Write what waits; the power goes before it is synced."""
        self._log.sync()

    def close(self) -> None:
        """See `LogPort.close`."""
        self._is_closed = True
        self._log.close()


class DelayedStore(MemoryStateStore):
    """The state database, whose transactions take their time."""

    def __init__(self, disk: Disk) -> None:
        super().__init__(disk.database)
        self._disk = disk

    async def write(self, batch: StateBatch) -> None:
        """See `StatePort.write`."""
        await asyncio.sleep(self._disk.draw_latency() * 3)
        self.apply(batch)


class Directory:
    """A data directory on a simulated disk."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    @property
    def identity(self) -> Identity | None:
        """See `Directory.identity` of the node's surroundings."""
        return self._disk.identity

    def create_identity(self, member_id: int, cluster_id: int = 0) -> Identity:
        """Say whom it belongs to; durable at once."""
        if self._disk.identity is not None:
            raise DirectoryForeign("it belongs to somebody")
        self._disk.identity = Identity(
            member_id=member_id,
            directory_id=self._disk.draw_id(),
            cluster_id=cluster_id,
        )
        return self._disk.identity

    async def open_log(
        self, notify: Callable[[Callable[[], None]], object]
    ) -> tuple[DelayedLog, LogContents]:
        """Open the log."""
        return self._disk.open_log()

    async def finish_install(self, index: int | None) -> bool:
        """Put a received snapshot that the log notes in the place of the state database."""
        return self._disk.database.finish_install(index)

    def new_installer(self) -> MemoryInstaller:
        """Begin to receive a snapshot beside the state database."""
        return MemoryInstaller(self._disk.database)

    async def open_state(self) -> DelayedStore:
        """Open the state database."""
        if self._disk.identity is None:
            raise StorageFailed("the identity comes first")
        return DelayedStore(self._disk)

    def close(self) -> None:
        """Nothing is locked here."""
