"""A disk in memory that can fail, and the log on it, for tests and the simulator.

Imports this room only; no thread, no clock, no randomness. `MemoryFiles` is a disk with a cache in
front: what has not been synced is gone after `crash`. The log on it is the real one, driven step by
step, so that what a simulation proves holds for the code that runs.

The state database's twin is in `memory_state.py`.
"""

import errno
import os
from collections.abc import Callable
from typing import Final

from coordinator.storage.errors import NoSpace, StorageClosed, StorageError
from coordinator.storage.group import BatchCallback, GroupCommit, LogState, Outcome, encode_waiting
from coordinator.storage.record import LogBatch
from coordinator.storage.recovery import LogContents
from coordinator.storage.segments import SegmentedLog, open_segments

MEMORY_SEGMENT_BYTES: Final = 64 << 10


class _Inode:
    """A file: what programs see, what the platter holds, and the writes in between."""

    __slots__ = ("data", "durable", "pending")

    def __init__(self) -> None:
        self.data = bytearray()
        self.durable = bytearray()
        self.pending: list[tuple[int, bytes]] = []

    def settle(self, writes: list[tuple[int, bytes]]) -> None:
        for offset, data in writes:
            _put(self.durable, data, offset)


def _put(target: bytearray, data: bytes, offset: int) -> None:
    if len(target) < offset:
        target.extend(bytes(offset - len(target)))
    target[offset : offset + len(data)] = data


class MemoryFiles:
    """A disk in memory. See `files.Files` for the operations.

    Switches, all off at first: `fail` makes the next calls of an operation fail, `capacity_bytes`
    makes the disk full, `is_lying` makes syncs pretend, `crash` is a power cut, `flip` alters a bit
    of what is durable.
    """

    def __init__(self) -> None:
        """Start with an empty disk that works."""
        self.capacity_bytes: int | None = None
        """How much all files together may take; None for no limit. Overwriting is always free."""
        self.is_lying = False
        """Whether syncs report success without making anything durable."""
        self.calls = 0
        """Operations so far; the failing ones too."""
        self._names: dict[str, _Inode] = {}
        self._durable_names: dict[str, _Inode] = {}
        self._open: dict[int, _Inode] = {}
        self._next_fd = 3
        self._faults: dict[str, list[int]] = {}

    # Switches.

    def fail(self, operation: str, code: int = errno.EIO, times: int = 1) -> None:
        """Make the next `times` calls of an operation fail with an errno; "" for any operation."""
        self._faults.setdefault(operation, []).extend([code] * times)

    @property
    def used_bytes(self) -> int:
        """What all files together take."""
        return sum(len(inode.data) for inode in self._names.values())

    def fill(self) -> None:
        """Make the disk full as it is; undo with `capacity_bytes = None`."""
        self.capacity_bytes = self.used_bytes

    def crash(self, keep_bytes: int = 0) -> None:
        """Cut the power: what was not synced is lost, and every descriptor is closed.

        Args:
            keep_bytes: How many bytes of the writes that were not synced made it to the platter
                all the same, counted from the oldest write of each file: a torn write.
        """
        for inode in self._inodes():
            left = keep_bytes
            for offset, data in inode.pending:
                inode.settle([(offset, data[:left])] if left else [])
                left = max(0, left - len(data))
            inode.pending.clear()
            inode.data = bytearray(inode.durable)
        self._names = dict(self._durable_names)
        self._open.clear()

    def flip(self, path: str, offset: int, mask: int = 1) -> None:
        """Alter bits of the durable byte at `offset`."""
        inode = self._names[path]
        inode.durable[offset] ^= mask
        inode.data[offset] ^= mask

    def put(self, path: str, data: bytes) -> None:
        """Replace a file, or make one, behind everybody's back; durable at once."""
        inode = self._names[path] = self._durable_names[path] = _Inode()
        inode.data[:] = data
        inode.durable[:] = data

    def drop(self, path: str) -> None:
        """Lose a file for good."""
        del self._names[path]
        del self._durable_names[path]

    def content(self, path: str) -> bytes:
        """Return what a file holds, as programs see it."""
        return bytes(self._names[path].data)

    def pending_bytes(self, path: str) -> int:
        """Return how many written bytes of a file are not durable yet."""
        return sum(len(data) for _, data in self._names[path].pending)

    # The operations.

    def make_directory(self, path: str) -> None:
        """See `Files.make_directory`; directories need no making here."""
        self._step("make_directory")

    def names(self, directory: str) -> list[str]:
        """See `Files.names`."""
        self._step("names")
        prefix = f"{directory}/"
        return sorted(path[len(prefix) :] for path in self._names if path.startswith(prefix))

    def create(self, path: str) -> int:
        """See `Files.create`."""
        self._step("create")
        if path in self._names:
            raise FileExistsError(errno.EEXIST, "the file exists", path)
        self._names[path] = _Inode()
        return self._descriptor(self._names[path])

    def open(self, path: str) -> int:
        """See `Files.open`."""
        self._step("open")
        return self._descriptor(self._find(path))

    def close(self, fd: int) -> None:
        """See `Files.close`."""
        self._step("close")
        del self._open[fd]

    def size(self, fd: int) -> int:
        """See `Files.size`."""
        self._step("size")
        return len(self._file(fd).data)

    def read(self, fd: int, size: int, offset: int) -> bytes:
        """See `Files.read`."""
        self._step("read")
        return bytes(self._file(fd).data[offset : offset + size])

    def write(self, fd: int, data: bytes, offset: int) -> int:
        """See `Files.write`."""
        self._step("write")
        inode = self._file(fd)
        growth = offset + len(data) - len(inode.data)
        if self.capacity_bytes is not None and growth > 0:
            room = self.capacity_bytes - self.used_bytes
            if room <= 0:
                raise OSError(errno.ENOSPC, "the disk is full")
            data = data[: len(data) - max(0, growth - room)]
        _put(inode.data, data, offset)
        inode.pending.append((offset, data))
        return len(data)

    def truncate(self, fd: int, size: int) -> None:
        """See `Files.truncate`; durable at once."""
        self._step("truncate")
        inode = self._file(fd)
        for image in (inode.data, inode.durable):
            del image[size:]
            image.extend(bytes(size - len(image)))

    def sync_data(self, fd: int) -> None:
        """See `Files.sync_data`."""
        self._sync("sync_data", fd)

    def sync(self, fd: int) -> None:
        """See `Files.sync`."""
        self._sync("sync", fd)

    def rename(self, source: str, target: str) -> None:
        """See `Files.rename`."""
        self._step("rename")
        self._names[target] = self._find(source)
        del self._names[source]

    def unlink(self, path: str) -> None:
        """See `Files.unlink`."""
        self._step("unlink")
        self._find(path)
        del self._names[path]

    def sync_directory(self, path: str) -> None:
        """See `Files.sync_directory`."""
        self._step("sync_directory")
        if self.is_lying:
            return
        prefix = f"{path}/"
        for name in [name for name in self._durable_names if name.startswith(prefix)]:
            del self._durable_names[name]
        for name, inode in self._names.items():
            if name.startswith(prefix):
                self._durable_names[name] = inode

    def _sync(self, operation: str, fd: int) -> None:
        inode = self._file(fd)
        writes, inode.pending = inode.pending, []
        # A kernel marks pages clean even if writing them failed: the data is lost either way.
        self._step(operation)
        if self.is_lying:
            inode.pending = writes
        else:
            inode.settle(writes)

    def _step(self, operation: str) -> None:
        self.calls += 1
        for key in (operation, ""):
            codes = self._faults.get(key)
            if codes:
                code = codes.pop(0)
                raise OSError(code, os.strerror(code))

    def _inodes(self) -> list[_Inode]:
        return list(
            {id(i): i for i in (*self._names.values(), *self._durable_names.values())}.values()
        )

    def _descriptor(self, inode: _Inode) -> int:
        fd = self._next_fd
        self._next_fd += 1
        self._open[fd] = inode
        return fd

    def _file(self, fd: int) -> _Inode:
        if fd not in self._open:
            raise OSError(errno.EBADF, "the descriptor is not open")
        return self._open[fd]

    def _find(self, path: str) -> _Inode:
        if path not in self._names:
            raise FileNotFoundError(errno.ENOENT, "there is no such file", path)
        return self._names[path]


class MemoryLog:
    """The log on a disk in memory, in the place of `wal.LogWriter`.

    Nothing happens until `sync` is called: then what was submitted becomes durable and the
    callbacks run, inside that call.
    """

    def __init__(
        self, log: SegmentedLog, on_state: Callable[[LogState], None] | None = None
    ) -> None:
        """Drive an open log; use `open_memory_log` instead."""
        self._group = GroupCommit(log)
        self._on_state = on_state
        self._told_state = LogState.OPEN
        self._is_closed = False

    @property
    def state(self) -> LogState:
        """See `LogWriter.state`."""
        return self._group.state

    @property
    def error(self) -> StorageError | None:
        """See `LogWriter.error`."""
        return self._group.error

    @property
    def waiting_bytes(self) -> int:
        """Encoded bytes of the batches that `sync` would write."""
        return self._group.waiting_bytes

    def submit(self, batch: LogBatch, callback: BatchCallback, *, reserve: bool = False) -> None:
        """See `LogWriter.submit`."""
        if self._is_closed:
            raise StorageClosed("the log has been closed")
        self._group.add(encode_waiting(batch, callback, reserve=reserve))

    def write_now(self, batch: LogBatch, callback: BatchCallback, *, reserve: bool = False) -> bool:
        """See `LogWriter.write_now`; here always a `submit`."""
        self.submit(batch, callback, reserve=reserve)
        return False

    def cut(self, index: int) -> None:
        """See `LogWriter.cut`."""
        self._group.cut(index)

    def sync(self) -> None:
        """Make what waits durable, run the callbacks, then prepare and remove segments."""
        self._turns()
        self.retry_space()

    def retry_space(self) -> None:
        """Prepare and remove segments; see also `LogWriter.retry_space`."""
        group = self._group
        if group.state is not LogState.FAILED:
            try:
                group.log.remove_dropped()
                group.log.prepare_spare()
            except NoSpace:
                group.set_space(has_space=False)
            except StorageError as error:
                group.fail(error)
            else:
                group.set_space(has_space=True)
        self._turns()

    def close(self) -> None:
        """See `LogWriter.close`."""
        if not self._is_closed:
            self._is_closed = True
            self._turns()
            self._tell(self._group.close())
            self._group.log.close()

    def _turns(self) -> None:
        group = self._group
        while True:
            self._tell(group.turn())
            if group.state is not self._told_state:
                self._told_state = group.state
                if self._on_state is not None:
                    self._on_state(group.state)
            if not group.has_more:
                break

    def _tell(self, outcome: Outcome | None) -> None:
        if outcome is not None:
            for callback in outcome.callbacks:
                callback(outcome.error)


def open_memory_log(
    files: MemoryFiles,
    directory: str = "log",
    *,
    on_state: Callable[[LogState], None] | None = None,
    create: bool = True,
    segment_bytes: int = MEMORY_SEGMENT_BYTES,
    first_segment_bytes: int = MEMORY_SEGMENT_BYTES,
    random_bytes: Callable[[int], bytes] = bytes,
) -> tuple[MemoryLog, LogContents]:
    """Open or begin a log on a disk in memory; see `wal.open_log`.

    Args:
        files: The disk.
        directory: Where on it the segments are.
        on_state: Told of every change of the state, inside `sync`.
        create: Begin a new log if there is none.
        segment_bytes: Size of new segments.
        first_segment_bytes: Size of the first segment of a new log.
        random_bytes: Where the id of a new log comes from; zeros by default.

    Raises:
        LogDamaged: Something that was durable is missing or altered.
        NoSpace: There is no room for a new log.
        StorageFailed: The disk failed.
    """
    log, contents = open_segments(
        files,
        directory,
        create=create,
        segment_bytes=segment_bytes,
        first_segment_bytes=first_segment_bytes,
        random_bytes=random_bytes,
    )
    return MemoryLog(log, on_state), contents
