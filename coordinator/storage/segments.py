"""The segmented log itself: appends records, begins new segments, drops old ones.

One thread at a time; blocks. `wal.py` puts a thread around it and `memory.py` runs it step by step
on a disk in memory. What a batch means is not looked at here beyond its indexes and terms.

Invariants: a record never spans two segments; it is written only after the previous one is
durable; when an operation raises NoSpace the log is as before it; after any other failure the log
must not be used again.
"""

import os
import threading
from collections.abc import Callable
from typing import Final, NamedTuple

from coordinator.storage import record, segment
from coordinator.storage.errors import LogDamaged, StorageFailed
from coordinator.storage.files import Files, discard, translate, write_all
from coordinator.storage.record import CutMark, LogBatch, StoredBatch
from coordinator.storage.recovery import (
    LogContents,
    RecoveredLog,
    SegmentSpan,
    limit_spans,
    recover,
)
from coordinator.wire.raft import HardState

SEGMENT_BYTES: Final = 64 << 20
FIRST_SEGMENT_BYTES: Final = 4 << 20

_SPARE: Final = "spare"
_TEMPORARY: Final = "new-segment.tmp"


class BatchSpan(NamedTuple):
    """What the log has to know of a batch once it is encoded."""

    reset_index: int
    """Index the log is reset to before the entries; -1 for none."""
    reset_term: int
    first_index: int
    """Index of the first entry; 0 if there are no entries."""
    last_index: int
    runs: tuple[tuple[int, int], ...]
    """(first index, term) of each run of entries of one term."""
    hard_state: HardState | None


def span_of(batch: LogBatch) -> BatchSpan:
    """Return the span of a batch.

    Raises:
        ValueError: The indexes of the entries have gaps.
    """
    install = batch.install
    reset = (-1, 0) if install is None else (install.index, install.term)
    entries = batch.entries
    if not entries:
        return BatchSpan(*reset, 0, 0, (), batch.hard_state)
    first, last = entries[0], entries[-1]
    if last.index - first.index + 1 != len(entries):
        raise ValueError(f"entries {first.index} to {last.index} have gaps")
    runs: tuple[tuple[int, int], ...] = ((first.index, first.term),)
    if last.term != first.term:
        found = [runs[0]]
        for entry in entries:
            if entry.term != found[-1][1]:
                found.append((entry.index, entry.term))
        runs = tuple(found)
    return BatchSpan(*reset, first.index, last.index, runs, batch.hard_state)


class TermRuns:
    """The terms of a log, kept as one pair per run of equal terms."""

    def __init__(self, boundary_index: int, boundary_term: int) -> None:
        """Start with an empty log after the boundary."""
        self.boundary_index = boundary_index
        self.boundary_term = boundary_term
        self.last_index = boundary_index
        self._runs: list[tuple[int, int]] = []

    def check(self, spans: list[BatchSpan]) -> None:
        """Check that batches continue the log, before anything is written.

        Raises:
            ValueError: Some entries do not continue it.
        """
        boundary, last = self.boundary_index, self.last_index
        for span in spans:
            if span.reset_index >= 0:
                boundary = last = span.reset_index
            if span.runs:
                if not boundary < span.first_index <= last + 1:
                    raise ValueError(
                        f"entry {span.first_index} does not continue a log of "
                        f"{boundary + 1} to {last}"
                    )
                last = span.last_index

    def add(self, span: BatchSpan) -> None:
        """Follow one batch that has been checked."""
        runs = self._runs
        if span.reset_index >= 0:
            runs.clear()
            self.boundary_index = self.last_index = span.reset_index
            self.boundary_term = span.reset_term
        if not span.runs:
            return
        while runs and runs[-1][0] >= span.first_index:
            runs.pop()
        for run in span.runs:
            if not runs or runs[-1][1] != run[1]:
                runs.append(run)
        self.last_index = span.last_index

    def term(self, index: int) -> int:
        """Return the term of the entry at `index`, which must be in the log or its boundary."""
        if not self.boundary_index <= index <= self.last_index:
            raise ValueError(f"index {index} is not in the log")
        for first, term in reversed(self._runs):
            if first <= index:
                return term
        return self.boundary_term

    def cut(self, index: int) -> None:
        """Drop everything up to `index`."""
        term = self.term(index)
        runs = self._runs
        while len(runs) > 1 and runs[1][0] <= index + 1:
            del runs[0]
        self.boundary_index, self.boundary_term = index, term


class SegmentedLog:
    """An open log on a disk. See the module docstring for what holds between its methods."""

    def __init__(
        self, files: Files, directory: str, state: RecoveredLog, segment_bytes: int
    ) -> None:
        """Take over a recovered log; use `open_segments` instead."""
        self._files = files
        self._directory = directory
        self._segment_bytes = segment_bytes
        self._spans = state.spans
        self._log_id = state.log_id
        self._epoch = state.epoch + 1
        self._end = state.end
        self._offset = state.offset
        self._hard_state = state.contents.hard_state
        self._terms = _terms_of(state.contents)
        self._salt = record.salt_of(state.log_id, state.spans[-1].sequence)
        self._fd = files.open(state.spans[-1].path)
        self._spare_lock = threading.Lock()
        self._spare_fd: int | None = None
        self._dropped: list[str] = []

    @property
    def last_index(self) -> int:
        """Index of the last durable entry, or of the boundary if there is none."""
        return self._terms.last_index

    @property
    def segment_count(self) -> int:
        """Number of segments, without the spare one."""
        return len(self._spans)

    @property
    def room_bytes(self) -> int:
        """Bytes that records can still take in the current segment."""
        return self._spans[-1].size - self._offset

    @property
    def has_spare(self) -> bool:
        """Whether the next segment is prepared."""
        return self._spare_fd is not None

    @property
    def has_dropped(self) -> bool:
        """Whether `remove_dropped` has something to do."""
        return bool(self._dropped)

    def has_room(self, pieces_bytes: int) -> bool:
        """Whether a record of encoded batches of that size fits into the current segment."""
        return record.record_bytes(pieces_bytes) <= self.room_bytes

    def fits(self, pieces_bytes: int) -> bool:
        """Whether a record of encoded batches of that size fits without any new disk space."""
        if self.has_room(pieces_bytes):
            return True
        size = record.record_bytes(pieces_bytes)
        return self.has_spare and size <= self._segment_bytes - segment.RECORDS_START

    def append(self, pieces: list[bytes], spans: list[BatchSpan], cut_index: int = -1) -> None:
        """Write one record of encoded batches and make it durable.

        Args:
            pieces: The batches, from `record.encode_batch`.
            spans: Their spans, in the same order.
            cut_index: Drop whole segments up to this index along with it; -1 for none. Files
                disappear only in `remove_dropped`. Not together with a batch that resets the log.

        Raises:
            NoSpace: There is no room; the log is as before.
            StorageFailed: The disk failed. The log must not be used again.
            ValueError: The entries do not continue the log; nothing was written.
        """
        self._terms.check(spans)
        mark = self._plan_cut(cut_index, spans) if cut_index >= 0 else None
        if mark is not None:
            pieces = [*pieces, record.encode_batch(StoredBatch(cut=mark))]
        if not pieces:
            return
        size = record.record_bytes(sum(map(len, pieces)))
        if size > self.room_bytes:
            self._begin_segment(size)
        data = record.build_record(pieces, self._salt, self._epoch, self._end)
        try:
            write_all(self._files, self._fd, data, self._offset)
        except OSError as error:
            raise translate(error, f"writing to {self._spans[-1].path}") from error
        self._sync(self._fd, self._spans[-1].path)
        self._offset += size
        self._end = self._spans[-1].base + self._offset
        for span in spans:
            self._follow(span)
        if mark is not None:
            self._drop(mark)

    def _follow(self, span: BatchSpan) -> None:
        if span.reset_index >= 0:
            limit_spans(self._spans, span.reset_index)
        if span.runs:
            if span.first_index <= self._terms.last_index:
                limit_spans(self._spans, span.first_index - 1)
            self._spans[-1].last_index = span.last_index
        self._terms.add(span)
        if span.hard_state is not None:
            self._hard_state = span.hard_state

    def _sync(self, fd: int, path: str) -> None:
        """Make a file durable; any failure at all is final, a full disk too."""
        try:
            self._files.sync_data(fd)
        except OSError as error:
            raise StorageFailed(f"syncing {path} failed: {error}") from error

    # Beginning a segment.

    def prepare_spare(self) -> None:
        """Prepare the next segment unless it is; the one method another thread may call.

        Raises:
            NoSpace: The disk is full; nothing is left behind.
            StorageFailed: The disk failed.
        """
        with self._spare_lock:
            if self._spare_fd is None:
                self._spare_fd = self._create(self._segment_bytes, _SPARE)

    def _create(self, size: int, name: str) -> int:
        """Create a zeroed file under a temporary name and then give it its name, durably."""
        files = self._files
        temporary = f"{self._directory}/{name}.tmp"
        try:
            discard(files, temporary)
            fd = segment.create_zeroed(files, temporary, size)
            try:
                files.rename(temporary, f"{self._directory}/{name}")
                files.sync_directory(self._directory)
            except OSError:
                files.close(fd)
                raise
        except OSError as error:
            raise translate(error, "preparing a log segment") from error
        return fd

    def _begin_segment(self, record_size: int) -> None:
        """Go over to a new segment with room for a record of the given size."""
        size = max(self._segment_bytes, segment.RECORDS_START + record_size)
        if size == self._segment_bytes:
            name = _SPARE
            self.prepare_spare()
            fd = self._spare_fd
            assert fd is not None
        else:
            name = _TEMPORARY
            fd = self._create(size, name)
        before = self._spans[-1]
        span = SegmentSpan(before.sequence + 1, "", before.base + before.size, size)
        span.path = f"{self._directory}/{segment.segment_name(span.sequence)}"
        header = segment.SegmentHeader(
            self._log_id, span.sequence, span.base, size, self._end, self._epoch
        )
        try:
            write_all(self._files, fd, header.encode(), 0)
            self._sync(fd, span.path)
            self._files.rename(f"{self._directory}/{name}", span.path)
        except OSError as error:
            if name != _SPARE:
                self._files.close(fd)
            raise translate(error, f"beginning {span.path}") from error
        try:
            self._files.sync_directory(self._directory)
            self._files.close(self._fd)
        except OSError as error:
            raise StorageFailed(f"beginning {span.path} failed: {error}") from error
        if name == _SPARE:
            self._spare_fd = None
        self._fd = fd
        self._offset = segment.RECORDS_START
        self._salt = record.salt_of(self._log_id, span.sequence)
        self._spans.append(span)

    # Dropping segments.

    def _plan_cut(self, index: int, spans: list[BatchSpan]) -> CutMark | None:
        """Return the mark for a cut, or None if it would free no segment now."""
        assert all(span.reset_index < 0 for span in spans), "a cut must not meet a reset"
        terms = self._terms
        index = min(max(index, terms.boundary_index), terms.last_index)
        keep = 0
        while keep < len(self._spans) - 1 and self._spans[keep].last_index <= index:
            keep += 1
        if not keep:
            return None
        hard_state = self._hard_state
        for span in spans:
            hard_state = span.hard_state or hard_state
        return CutMark(index, terms.term(index), self._spans[keep].sequence, hard_state)

    def _drop(self, mark: CutMark) -> None:
        self._terms.cut(mark.index)
        while self._spans[0].sequence < mark.first_segment:
            self._dropped.append(self._spans.pop(0).path)

    def remove_dropped(self) -> int:
        """Remove the files of dropped segments, oldest first; another thread may call this.

        Returns:
            How many were removed.

        Raises:
            StorageFailed: The disk failed.
        """
        removed = 0
        try:
            while self._dropped:
                discard(self._files, self._dropped[0])
                del self._dropped[0]
                removed += 1
            if removed:
                self._files.sync_directory(self._directory)
        except OSError as error:
            raise StorageFailed(f"removing a log segment failed: {error}") from error
        return removed

    def close(self) -> None:
        """Close the files. Everything appended is durable already."""
        self._files.close(self._fd)
        if self._spare_fd is not None:
            self._files.close(self._spare_fd)
            self._spare_fd = None

    # Opening.

    def repair(self, first_segment: int, tail_bytes: int, last_record: bytes) -> None:
        """Bring the files in order after a stop: part of opening the log.

        Makes the last record durable, wipes a torn batch, drops segments that a cut had left,
        adopts the spare segment.

        Args:
            first_segment: The oldest segment that is still needed.
            tail_bytes: Bytes of a torn batch after the last record.
            last_record: The record before them.

        Raises:
            OSError: The disk refused.
        """
        files, span = self._files, self._spans[-1]
        if files.size(self._fd) != span.size:
            files.truncate(self._fd, span.size)
            files.sync(self._fd)
        if tail_bytes:
            # Wiped before anything is written behind it: a leftover of this batch must never look
            # like a record that follows a later, shorter one.
            write_all(files, self._fd, bytes(tail_bytes), self._offset)
        # What was read may lie in the cache only: the process was killed before its sync, or the
        # sync failed, after which the cache passes for clean. So the record is written once more.
        write_all(files, self._fd, last_record, self._offset - len(last_record))
        files.sync_data(self._fd)
        while self._spans[0].sequence < first_segment:
            self._dropped.append(self._spans.pop(0).path)
        names = files.names(self._directory)
        for name in names:
            if name.endswith(".tmp"):
                files.unlink(f"{self._directory}/{name}")
        if _SPARE in names:
            fd = files.open(f"{self._directory}/{_SPARE}")
            if files.size(fd) == self._segment_bytes:
                self._spare_fd = fd
            else:
                files.close(fd)
                files.unlink(f"{self._directory}/{_SPARE}")
        self.remove_dropped()
        files.sync_directory(self._directory)


def _terms_of(contents: LogContents) -> TermRuns:
    terms = TermRuns(contents.boundary_index, contents.boundary_term)
    if contents.entries:
        terms.add(span_of(LogBatch(entries=contents.entries)))
    return terms


def open_segments(
    files: Files,
    directory: str,
    *,
    create: bool = True,
    segment_bytes: int = SEGMENT_BYTES,
    first_segment_bytes: int = FIRST_SEGMENT_BYTES,
    random_bytes: Callable[[int], bytes] = os.urandom,
) -> tuple[SegmentedLog, LogContents]:
    """Open the log in `directory`, repair what a stop may have left, and return its contents.

    Args:
        files: The disk.
        directory: Where the segments are; its parent must exist.
        create: Begin a new log if there is none. False where one must exist: a member that has
            voted must not start with an empty log.
        segment_bytes: Size of new segments.
        first_segment_bytes: Size of the first segment of a new log; small, so that a first start is
            quick.
        random_bytes: Where the id of a new log comes from.

    Raises:
        LogDamaged: Something that was durable is missing or altered.
        NoSpace: There is no room for a new log.
        StorageFailed: The disk failed.
    """
    try:
        files.make_directory(directory)
        state = recover(files, directory)
        if state is None:
            if not create or _SPARE in files.names(directory):
                raise LogDamaged(f"{directory}/{segment.segment_name(1)}", 0, "the log is missing")
            _create_log(files, directory, first_segment_bytes, random_bytes)
            state = recover(files, directory)
            assert state is not None
        log = SegmentedLog(files, directory, state, segment_bytes)
        try:
            log.repair(state.first_segment, state.tail_bytes, state.last_record)
        except BaseException:
            log.close()
            raise
    except OSError as error:
        raise translate(error, f"opening the log in {directory}") from error
    return log, state.contents


def _create_log(
    files: Files, directory: str, size: int, random_bytes: Callable[[int], bytes]
) -> None:
    """Write the first segment of a new log."""
    temporary = f"{directory}/{_TEMPORARY}"
    discard(files, temporary)
    fd = segment.create_zeroed(files, temporary, size)
    try:
        log_id = random_bytes(segment.LOG_ID_BYTES)
        header = segment.SegmentHeader(log_id, 1, 0, size, 0, 0)
        write_all(files, fd, header.encode(), 0)
        files.sync(fd)
    finally:
        files.close(fd)
    files.rename(temporary, f"{directory}/{segment.segment_name(1)}")
    files.sync_directory(directory)
    files.sync_directory(os.path.dirname(directory) or ".")
