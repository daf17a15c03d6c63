"""The Raft log on disk: one thread that makes batches durable, several at a time.

Imports the standard library and this room. The node hands over what Raft wants to have on disk
with `LogWriter.submit` and goes on; the thread takes everything that has come in, writes it as one
record, calls fdatasync once, and has the callbacks run, in order, where the caller wants them.

Waking a thread and being woken by it costs as much as the sync itself. So a caller that has nothing
else to do may ask with `write_now` for the sync to happen in its own thread; that is granted only
while nothing else is under way and the disk has been quick of late.

A second thread does what must not hold up a commit: it prepares the next segment ahead of time and
removes the files of dropped ones.

Invariants: a callback with None means durable, as promised to the whole cluster. After the first
failure of the disk nothing is ever reported durable again. See `record.py` for what a stop at any
moment may leave behind, and `recovery.py` for how that is told from damage.
"""

import os
import threading
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from time import perf_counter
from typing import Final

from coordinator.storage.errors import NoSpace, StorageClosed, StorageError
from coordinator.storage.files import DiskFiles, Files
from coordinator.storage.group import (
    BatchCallback,
    GroupCommit,
    LogState,
    Outcome,
    WaitingBatch,
    encode_waiting,
)
from coordinator.storage.record import LogBatch
from coordinator.storage.recovery import LogContents
from coordinator.storage.segments import (
    FIRST_SEGMENT_BYTES,
    SEGMENT_BYTES,
    SegmentedLog,
    open_segments,
)

SPACE_RETRY_SECONDS: Final = 1.0

QUICK_SYNC_SECONDS: Final = 0.0005
"""A disk whose recent syncs took less on average is quick: `write_now` may wait for it."""

_FORGETTING: Final = 0.25
"""By how much each sync moves that average."""

Notify = Callable[[Callable[[], None]], object]
"""Runs a function in the caller's own thread, as `loop.call_soon_threadsafe` does."""


class LogWriter:
    """An open log with its threads. Get one from `open_log`.

    All methods are to be called from one thread, the one that `notify` leads to.
    """

    def __init__(
        self,
        log: SegmentedLog,
        *,
        notify: Notify,
        on_state: Callable[[LogState], None] | None = None,
        space_retry_seconds: float = SPACE_RETRY_SECONDS,
        on_sync: Callable[[float], None] | None = None,
    ) -> None:
        """Start the threads over an open log.

        Args:
            log: The log; owned from now on.
            notify: Called from the writer thread, once per sync, with the function that runs the
                callbacks.
            on_state: Told of every change of `state`, where `notify` leads to.
            space_retry_seconds: How long to wait before looking for disk space again.
            on_sync: Told how many seconds it took to write a group and to sync it, by whichever
                thread did that, one at a time.
        """
        self._on_sync = on_sync
        self._group = GroupCommit(log)
        self._notify = notify
        self._on_state = on_state
        self._space_retry_seconds = space_retry_seconds
        self._told_state = LogState.OPEN
        self._outstanding = 0
        self._sync_seconds = 0.0
        self._turning = threading.Lock()
        self._queue: SimpleQueue[WaitingBatch | Callable[[], None] | None] = SimpleQueue()
        self._wake_keeper = threading.Event()
        self._is_retry_due = False
        self._is_closing = False
        self._writer = threading.Thread(target=self._write, name="log-writer", daemon=True)
        self._keeper = threading.Thread(target=self._keep, name="log-keeper", daemon=True)
        self._wake_keeper.set()
        self._writer.start()
        self._keeper.start()

    @property
    def state(self) -> LogState:
        """What the log can do at the moment."""
        return self._group.state

    @property
    def error(self) -> StorageError | None:
        """Why the log failed, or None."""
        return self._group.error

    @property
    def waiting_bytes(self) -> int:
        """Encoded bytes held back because the disk is full; an estimate otherwise."""
        return self._group.waiting_bytes

    def submit(self, batch: LogBatch, callback: BatchCallback, *, reserve: bool = False) -> None:
        """Make a batch durable; returns at once.

        Batches become durable in the order of the calls. On a full disk they are held back until
        there is space again, or until one with `reserve` comes after them.

        Args:
            batch: What to write; encoded before this returns.
            callback: Called once, with None when the batch is durable, or with the error after
                which it never will be: StorageFailed, or StorageClosed.
            reserve: Whether it may use what is left of the allocated space when the disk is full.

        Raises:
            StorageClosed: `close` has been called.
            ValueError: The entries of the batch have gaps.
        """
        if self._is_closing:
            raise StorageClosed("the log has been closed")
        self._queue.put(encode_waiting(batch, callback, reserve=reserve))
        self._outstanding += 1

    def write_now(self, batch: LogBatch, callback: BatchCallback, *, reserve: bool = False) -> bool:
        """Make a batch durable before returning if that is quick, else `submit` it.

        Args:
            batch: What to write.
            callback: As for `submit`; not called if this returns True.
            reserve: As for `submit`.

        Returns:
            Whether the batch is durable already. This took one sync, during which the calling
            thread was blocked.

        Raises:
            StorageClosed: `close` has been called.
            ValueError: The entries of the batch have gaps.
        """
        if self._is_closing:
            raise StorageClosed("the log has been closed")
        waiting = encode_waiting(batch, callback, reserve=reserve)
        is_quick = not self._outstanding and self._sync_seconds < QUICK_SYNC_SECONDS
        if is_quick and self._turning.acquire(blocking=False):
            try:
                if self._group.is_ready_for(waiting):
                    return self._write_alone(waiting)
            finally:
                self._turning.release()
        self._queue.put(waiting)
        self._outstanding += 1
        return False

    def _write_alone(self, waiting: WaitingBatch) -> bool:
        """Write a batch in the calling thread; return whether that is all there is to do."""
        self._group.add(waiting)
        outcome = self._timed_turn()
        if outcome is not None and outcome.error is None:
            if self._group.log.has_dropped:
                self._wake_keeper.set()
            return True
        # It failed, or waits for space now: the writer thread sees to the rest.
        self._outstanding += 1
        self._tell(outcome)
        self._queue.put(_do_nothing)
        return False

    def cut(self, index: int) -> None:
        """Drop whole segments that hold nothing above `index`; returns at once.

        Only entries that are applied, and whose effects are durable in the state database, may go.
        Ignored if no segment would become free.
        """
        if not self._is_closing:
            self._queue.put(partial(self._group.cut, index))

    def retry_space(self) -> None:
        """Look at once, instead of after a while, whether the disk has space again."""
        self._is_retry_due = True
        self._wake_keeper.set()

    def close(self) -> None:
        """Write what was submitted, stop the threads and close the files.

        Blocks for a last sync. Callbacks that are still due have been handed to `notify` when this
        returns.
        """
        if self._is_closing:
            return
        self._is_closing = True
        self._wake_keeper.set()
        self._keeper.join()
        self._queue.put(None)
        self._writer.join()
        self._group.log.close()

    def _write(self) -> None:
        """The writer thread."""
        queue, group = self._queue, self._group
        is_open = True
        while is_open:
            items = [queue.get()]
            # Nobody else takes from the queue, so what is counted is there.
            items += [queue.get_nowait() for _ in range(queue.qsize())]
            with self._turning:
                for item in items:
                    if isinstance(item, WaitingBatch):
                        group.add(item)
                    elif item is None:
                        is_open = False
                    else:
                        item()
                self._turn()
        self._tell(group.close())

    def _turn(self) -> None:
        group = self._group
        while True:
            self._tell(self._timed_turn())
            if group.state is not self._told_state:
                self._tell_state()
                self._wake_keeper.set()
            if not group.has_more:
                break
        log = group.log
        if log.has_dropped or (self.state is LogState.OPEN and not log.has_spare):
            self._wake_keeper.set()

    def _timed_turn(self) -> Outcome | None:
        started = perf_counter()
        outcome = self._group.turn()
        if outcome is not None:
            took = perf_counter() - started
            self._sync_seconds += (took - self._sync_seconds) * _FORGETTING
            if self._on_sync is not None and outcome.error is None:
                self._on_sync(took)
        return outcome

    def _tell(self, outcome: Outcome | None) -> None:
        if outcome is not None:
            self._call(partial(self._deliver, outcome))

    def _deliver(self, outcome: Outcome) -> None:
        """Run callbacks, in the caller's thread."""
        callbacks, error = outcome
        self._outstanding -= len(callbacks)
        for callback in callbacks:
            callback(error)

    def _tell_state(self) -> None:
        self._told_state = self._group.state
        if self._on_state is not None:
            self._call(partial(self._on_state, self._told_state))

    def _call(self, function: Callable[[], None]) -> None:
        """Have the caller's thread run a function."""
        try:
            self._notify(function)
        except RuntimeError as error:
            # Its loop is closed. Nobody can be told anything, so nothing may be written either.
            self._group.fail(StorageClosed(f"the owner of the log is gone: {error}"))

    def _keep(self) -> None:
        """The thread that prepares segments and removes dropped ones."""
        group = self._group
        timeout_seconds: float | None = None
        while True:
            self._wake_keeper.wait(timeout_seconds)
            self._wake_keeper.clear()
            if self._is_closing or self.state is LogState.FAILED:
                break
            is_news = self.state is LogState.NO_SPACE and timeout_seconds is None
            if is_news and not self._is_retry_due:
                # The writer has just met the full disk; looking again at once would be in vain.
                timeout_seconds = self._space_retry_seconds
                continue
            self._is_retry_due = False
            try:
                group.log.remove_dropped()
                group.log.prepare_spare()
            except NoSpace:
                timeout_seconds = self._space_retry_seconds
                self._queue.put(partial(group.set_space, has_space=False))
            except StorageError as error:
                self._queue.put(partial(group.fail, error))
            else:
                # The writer may not have read yet that the disk was full.
                if self.state is LogState.NO_SPACE or timeout_seconds is not None:
                    timeout_seconds = None
                    self._queue.put(partial(group.set_space, has_space=True))


def _do_nothing() -> None:
    """On the queue: have the writer thread look around."""


def open_log(
    directory: str | os.PathLike[str],
    *,
    notify: Notify,
    on_state: Callable[[LogState], None] | None = None,
    create: bool = True,
    segment_bytes: int = SEGMENT_BYTES,
    first_segment_bytes: int = FIRST_SEGMENT_BYTES,
    space_retry_seconds: float = SPACE_RETRY_SECONDS,
    files: Files | None = None,
    on_sync: Callable[[float], None] | None = None,
) -> tuple[LogWriter, LogContents]:
    """Open or begin the log in `directory`, and start its threads.

    Blocks while it reads the log, about 0.4 s per 100 MB.

    Args:
        directory: Where the segments are; its parent must exist.
        notify: Runs a function in the caller's thread, as `loop.call_soon_threadsafe` does.
        on_state: Told of every change of the writer's state.
        create: Begin a new log if there is none.
        segment_bytes: Size of new segments.
        first_segment_bytes: Size of the first segment of a new log.
        space_retry_seconds: How long to wait before looking for disk space again.
        files: The disk; the real one by default.
        on_sync: Told how long each sync took, as for `LogWriter`.

    Returns:
        The writer, and what the log holds.

    Raises:
        LogDamaged: Something that was durable is missing or altered.
        SchemaTooNew: A newer release wrote the log.
        NoSpace: There is no room for a new log.
        StorageFailed: The disk failed.
    """
    log, contents = open_segments(
        files or DiskFiles(),
        os.fspath(directory),
        create=create,
        segment_bytes=segment_bytes,
        first_segment_bytes=first_segment_bytes,
    )
    writer = LogWriter(
        log,
        notify=notify,
        on_state=on_state,
        space_retry_seconds=space_retry_seconds,
        on_sync=on_sync,
    )
    return writer, contents
