"""Logs to test: on a disk and in memory, opened and driven alike."""

import os
import queue
from collections.abc import Callable
from pathlib import Path
from typing import Any

from coordinator.storage.errors import StorageError
from coordinator.storage.files import DiskFiles
from coordinator.storage.group import LogState
from coordinator.storage.memory import MemoryFiles, MemoryLog, open_memory_log
from coordinator.storage.record import LogBatch
from coordinator.storage.recovery import LogContents
from coordinator.storage.wal import LogWriter, open_log
from coordinator.wire.raft import Entry

SEGMENT_BYTES = 16 << 10


class LogBench:
    """Opens logs of one kind, and waits for what they say."""

    log: LogWriter | MemoryLog
    contents: LogContents

    def open(self, **options: Any) -> LogContents:
        raise NotImplementedError

    def settle(self) -> None:
        """Return when all callbacks of what was submitted have run."""
        raise NotImplementedError

    def write(self, *batches: LogBatch) -> None:
        """Make batches durable, as one group where possible."""
        outcomes: list[StorageError | None] = []
        for batch in batches:
            self.log.submit(batch, outcomes.append)
        self.settle()
        assert outcomes == [None] * len(batches)

    def reopen(self) -> LogContents:
        self.log.close()
        return self.open()


class DiskLogBench(LogBench):
    def __init__(self, directory: Path, files: DiskFiles | None = None) -> None:
        self.directory = directory
        self.files = files
        self.states: list[LogState] = []
        self.calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()

    def open(self, **options: Any) -> LogContents:
        options = {"segment_bytes": SEGMENT_BYTES, "first_segment_bytes": SEGMENT_BYTES} | options
        self.log, self.contents = open_log(
            self.directory,
            notify=self.calls.put,
            on_state=self.states.append,
            files=self.files,
            **options,
        )
        return self.contents

    def settle(self) -> None:
        done: list[StorageError | None] = []
        self.log.submit(LogBatch(), done.append)
        self.run_until(lambda: bool(done))

    def run_until(self, is_met: Callable[[], bool]) -> None:
        """Run what the log hands over until a condition is met."""
        while not is_met():
            self.calls.get(timeout=30)()


class MemoryLogBench(LogBench):
    def __init__(self, files: MemoryFiles | None = None) -> None:
        self.files = files or MemoryFiles()

    def open(self, **options: Any) -> LogContents:
        options = {"segment_bytes": SEGMENT_BYTES, "first_segment_bytes": SEGMENT_BYTES} | options
        self.log, self.contents = open_memory_log(self.files, **options)
        return self.contents

    def settle(self) -> None:
        assert isinstance(self.log, MemoryLog)
        self.log.sync()


class FaultyDisk(DiskFiles):
    """A real disk whose operations fail on demand."""

    def __init__(self) -> None:
        self.faults: dict[str, int] = {}
        """Operation → errno, for as long as it stands there."""

    def _step(self, operation: str) -> None:
        code = self.faults.get(operation)
        if code is not None:
            raise OSError(code, os.strerror(code))

    def create(self, path: str) -> int:
        self._step("create")
        return super().create(path)

    def write(self, fd: int, data: bytes, offset: int) -> int:
        self._step("write")
        return super().write(fd, data, offset)

    def sync_data(self, fd: int) -> None:
        self._step("sync_data")
        super().sync_data(fd)

    def unlink(self, path: str) -> None:
        self._step("unlink")
        super().unlink(path)


def entries(first: int, last: int, term: int = 1, size: int = 20) -> list[Entry]:
    return [
        Entry(term, index, data=index.to_bytes(4, "big") * (size // 4))
        for index in range(first, last + 1)
    ]


def batch(first: int, last: int, term: int = 1, size: int = 20) -> LogBatch:
    return LogBatch(entries=entries(first, last, term, size))
