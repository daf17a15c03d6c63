"""Group commit: which of the waiting batches go to disk together, and what becomes of the others.

No thread and no clock: `wal.py` calls `turn` from its thread, `memory.py` step by step.

Invariants: batches become durable in the order in which they were added, whatever happens; a batch
is reported once, after it is durable or once it is certain that it never will be. On a full disk
batches are held back, not refused, so that their order survives; a batch that may use the reserve
takes those before it along.
"""

from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import Final, NamedTuple

from coordinator.storage.errors import NoSpace, StorageClosed, StorageError, StorageFailed
from coordinator.storage.record import LogBatch, encode_batch
from coordinator.storage.segments import BatchSpan, SegmentedLog, span_of

GROUP_BYTES: Final = 8 << 20
"""Most bytes of encoded batches in one record; a single batch may be larger."""

BatchCallback = Callable[[StorageError | None], None]
"""Told once per batch: None when it is durable, else why it is not and never will be."""


class LogState(Enum):
    """What the log can do at the moment."""

    OPEN = "open"
    """Everything."""
    NO_SPACE = "no_space"
    """The disk is full: only batches submitted with `reserve` are written, as long as there is
    room in what is already allocated."""
    FAILED = "failed"
    """Nothing, for good: the disk failed."""
    CLOSED = "closed"


class WaitingBatch(NamedTuple):
    """One encoded batch on its way to the disk."""

    piece: bytes
    span: BatchSpan
    callback: BatchCallback
    reserve: bool


def encode_waiting(batch: LogBatch, callback: BatchCallback, *, reserve: bool) -> WaitingBatch:
    """Return a batch ready to be added.

    Raises:
        ValueError: The indexes of its entries have gaps.
    """
    return WaitingBatch(encode_batch(batch), span_of(batch), callback, reserve)


class Outcome(NamedTuple):
    """What one turn decided: these callbacks are due, in this order."""

    callbacks: list[BatchCallback]
    error: StorageError | None


class GroupCommit:
    """The batches that wait for the disk, in front of one log."""

    def __init__(self, log: SegmentedLog) -> None:
        """Stand in front of an open log."""
        self.log = log
        self.state = LogState.OPEN
        self.error: StorageError | None = None
        """Why the log failed; None unless the state is FAILED."""
        self._waiting: deque[WaitingBatch] = deque()
        self._cut_index = -1

    @property
    def waiting_bytes(self) -> int:
        """Encoded bytes of the batches that wait; large only while the disk is full."""
        return sum(len(batch.piece) for batch in self._waiting)

    @property
    def has_more(self) -> bool:
        """Whether another turn would write something."""
        return bool(self._waiting) and (self.state is not LogState.NO_SPACE or bool(self._take()))

    def is_ready_for(self, batch: WaitingBatch) -> bool:
        """Whether a batch, added now, would be written at once and into the current segment."""
        if self._waiting or self.state is not LogState.OPEN:
            return False
        return self.log.has_room(len(batch.piece))

    def add(self, batch: WaitingBatch) -> None:
        """Queue a batch."""
        self._waiting.append(batch)

    def cut(self, index: int) -> None:
        """Drop whole segments up to `index` with the next turn."""
        self._cut_index = max(self._cut_index, index)

    def set_space(self, *, has_space: bool) -> None:
        """Note that the disk got full, or has space again."""
        if self.state in (LogState.OPEN, LogState.NO_SPACE):
            self.state = LogState.OPEN if has_space else LogState.NO_SPACE

    def fail(self, error: StorageError) -> None:
        """Never write again; the first reason given is kept."""
        if self.error is None:
            self.error = error
            self.state = LogState.FAILED

    def turn(self) -> Outcome | None:
        """Make as many waiting batches durable as one sync can; None if nobody is to be told."""
        if self.error is None:
            group = self._take()
            if not group and self._cut_index < 0:
                return None
            try:
                self._append(group)
            except NoSpace:
                self.state = LogState.NO_SPACE
                return None
            except StorageError as error:
                self.fail(error)
            except (ValueError, AssertionError, OSError) as error:
                # A broken promise of the caller, or of this module: stop rather than limp.
                self.fail(StorageFailed(f"the log cannot go on: {error}"))
            else:
                for _ in group:
                    self._waiting.popleft()
                return Outcome([batch.callback for batch in group], None) if group else None
        return self._abandon(self.error)

    def close(self) -> Outcome | None:
        """Give up what still waits."""
        outcome = self._abandon(self.error or StorageClosed("the log has been closed"))
        if self.error is None:
            self.state = LogState.CLOSED
        return outcome

    def _append(self, group: list[WaitingBatch]) -> None:
        pieces = [batch.piece for batch in group]
        spans = [batch.span for batch in group]
        cut_index, self._cut_index = self._cut_index, -1
        if cut_index >= 0 and any(span.reset_index >= 0 for span in spans):
            cut_index, self._cut_index = -1, cut_index
        try:
            self.log.append(pieces, spans, cut_index)
        except NoSpace:
            self._cut_index = max(cut_index, self._cut_index)
            raise

    def _abandon(self, error: StorageError | None) -> Outcome | None:
        callbacks = [batch.callback for batch in self._waiting]
        self._waiting.clear()
        return Outcome(callbacks, error) if callbacks else None

    def _take(self) -> list[WaitingBatch]:
        """Return the batches from the front that go to disk next."""
        if self.state is LogState.NO_SPACE:
            return self._take_reserve()
        size = 0
        group: list[WaitingBatch] = []
        for batch in self._waiting:
            size += len(batch.piece)
            if group and size > GROUP_BYTES:
                break
            group.append(batch)
        return group

    def _take_reserve(self) -> list[WaitingBatch]:
        """Return what may use the space that is left, as far as it fits there."""
        count = 0
        for position, batch in enumerate(self._waiting, 1):
            if batch.reserve:
                count = position
        size = 0
        group: list[WaitingBatch] = []
        for batch in self._waiting:
            size += len(batch.piece)
            if len(group) == count or not self.log.fits(size):
                break
            group.append(batch)
        return group
