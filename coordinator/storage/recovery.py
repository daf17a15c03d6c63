"""Reading the log back after a stop of any kind.

Replays the records of all segments in order and decides, where reading has to stop, between the two
possible reasons: the last batch was being written when the machine stopped, which is normal and
costs nothing that was ever acknowledged; or something that was durable is gone, which is damage.

Invariant: nothing is ever guessed. What is neither the clean end of the log nor possibly a torn
last batch raises LogDamaged.
"""

from dataclasses import dataclass, field

import msgspec

from coordinator.storage import record, segment
from coordinator.storage.errors import LogDamaged, SchemaTooNew
from coordinator.storage.files import Files, read_all
from coordinator.storage.record import CutMark, StoredBatch
from coordinator.wire.raft import Entry, HardState, SnapshotMetadata


@dataclass(slots=True)
class LogContents:
    """What a log holds when it is opened."""

    boundary_index: int = 0
    """Index before the first entry: everything up to it has been dropped. 0 in a new log."""
    boundary_term: int = 0
    """Term of the entry at `boundary_index`."""
    entries: list[Entry] = field(default_factory=list)
    """The entries after the boundary, without gaps."""
    hard_state: HardState = field(default_factory=HardState)
    install: SnapshotMetadata | None = None
    """The newest snapshot the log was reset to, if that is still on record.

    If the state database is older than it, the installation was interrupted and has to be finished.
    """
    torn_bytes: int = 0
    """Bytes of a torn last batch that were cut off; 0 after a clean stop."""

    @property
    def last_index(self) -> int:
        """Index of the last entry, or of the boundary if there is none."""
        return self.boundary_index + len(self.entries)


@dataclass(slots=True)
class SegmentSpan:
    """One segment of an open log."""

    sequence: int
    path: str
    base: int
    size: int
    last_index: int = 0
    """Highest index this segment is still needed for; 0 for none."""


@dataclass(slots=True)
class RecoveredLog:
    """Everything an open log has to know to go on."""

    contents: LogContents
    spans: list[SegmentSpan]
    log_id: bytes
    epoch: int
    """Epoch of the last record, or of the last segment if it has none."""
    end: int
    """Log position at which the last record ends."""
    offset: int
    """Offset in the last segment at which the next record goes."""
    first_segment: int
    """Sequence number of the oldest segment that is still needed; older ones can go."""
    tail_bytes: int
    """Bytes after `offset`, in the last segment, that are not zero: a torn batch to be wiped."""
    last_record: bytes
    """The record that ends at `offset`; empty if the last segment has none."""


class Replay:
    """Builds the contents of the log from its batches, strictly in order.

    When older segments have been dropped, the start of the log is not known before the mark that
    dropped them has been read; `is_anchored` tells.
    """

    def __init__(self, oldest_segment: int) -> None:
        """Start with an empty log.

        Args:
            oldest_segment: Sequence number of the oldest segment there is.
        """
        self.contents = LogContents()
        self.is_anchored = oldest_segment == 1
        self.first_segment = 1
        """The oldest segment that the newest mark asks for."""
        self._oldest_segment = oldest_segment

    def apply(self, batch: StoredBatch) -> str | None:
        """Replay one batch; return what is wrong with it, or None."""
        if batch.install is not None:
            self._install(batch.install)
        problem = self._append(batch.entries) if batch.entries else None
        if batch.hard_state is not None:
            self.contents.hard_state = batch.hard_state
        if problem is None and batch.cut is not None:
            problem = self._cut(batch.cut)
        return problem

    def _install(self, snapshot: SnapshotMetadata) -> None:
        contents = self.contents
        contents.entries = []
        contents.boundary_index = snapshot.index
        contents.boundary_term = snapshot.term
        contents.install = snapshot
        self.is_anchored = True

    def _append(self, entries: list[Entry]) -> str | None:
        contents = self.contents
        first = entries[0].index
        if not self.is_anchored and (not contents.entries or first <= contents.boundary_index):
            contents.boundary_index = first - 1
            contents.entries = []
        if not contents.boundary_index < first <= contents.last_index + 1:
            return f"entry {first} does not continue the log, which ends at {contents.last_index}"
        if entries[-1].index - first + 1 != len(entries):
            return f"the batch at entry {first} has gaps"
        del contents.entries[first - contents.boundary_index - 1 :]
        contents.entries += entries
        return None

    def _cut(self, mark: CutMark) -> str | None:
        contents = self.contents
        self.first_segment = mark.first_segment
        contents.hard_state = mark.hard_state
        if mark.first_segment < self._oldest_segment:
            # An earlier cut, which has been overtaken: what it kept has been dropped since.
            return None
        if not contents.boundary_index <= mark.index <= contents.last_index and (
            self.is_anchored or contents.entries
        ):
            return f"the log was cut at {mark.index}, which it does not hold"
        del contents.entries[: mark.index - contents.boundary_index]
        contents.boundary_index = mark.index
        contents.boundary_term = mark.term
        self.is_anchored = True
        return None


def recover(files: Files, directory: str) -> RecoveredLog | None:
    """Read the log in `directory`; return None if there is not a single segment.

    Changes nothing on disk.

    Raises:
        LogDamaged: Something that was durable is missing or altered.
        OSError: The disk refused.
    """
    numbers = [n for n in map(segment.segment_sequence, files.names(directory)) if n is not None]
    if not numbers:
        return None
    scan = _Scan(files, directory, numbers[0])
    for number in numbers:
        scan.read(number, is_last=number == numbers[-1])
    return scan.finish()


class _Scan:
    """Walks the segments in order; holds what has to agree between them."""

    def __init__(self, files: Files, directory: str, oldest_segment: int) -> None:
        self.files = files
        self.directory = directory
        self.replay = Replay(oldest_segment)
        self.spans: list[SegmentSpan] = []
        self.log_id = b""
        self.epoch = 0
        self.end = 0
        self.offset = segment.RECORDS_START
        self.tail_bytes = 0
        self.last_record = b""

    def read(self, sequence: int, *, is_last: bool) -> None:
        path = f"{self.directory}/{segment.segment_name(sequence)}"
        fd = self.files.open(path)
        try:
            image = read_all(self.files, fd)
        finally:
            self.files.close(fd)
        header = segment.decode_header(image)
        if header is None:
            found = segment.format_of(image)
            if found > segment.FORMAT:
                raise SchemaTooNew(path, f"log format {found}", f"log format {segment.FORMAT}")
            raise LogDamaged(path, 0, "the header of the segment is not intact")
        if self.spans:
            self._join(path, header)
        else:
            self.log_id = header.log_id
            self.end = header.previous_end
        self.epoch = max(self.epoch, header.epoch)
        self.spans.append(SegmentSpan(sequence, path, header.base, header.size))
        if header.sequence != sequence:
            raise LogDamaged(path, 0, f"this is segment {header.sequence} under another name")
        salt = record.salt_of(self.log_id, sequence)
        self._read_records(path, image[: header.size], salt)
        if is_last:
            self._judge_tail(path, image[: header.size], salt)

    def _join(self, path: str, header: segment.SegmentHeader) -> None:
        """Check that a segment follows the one before it, and vouches for all of it."""
        before = self.spans[-1]
        if header.log_id != self.log_id:
            raise LogDamaged(path, 0, "the segment belongs to another log")
        if header.sequence != before.sequence + 1 or header.base != before.base + before.size:
            raise LogDamaged(path, 0, f"the segment does not follow segment {before.sequence}")
        if header.previous_end != self.end:
            reason = f"records up to log position {header.previous_end} were durable"
            raise LogDamaged(before.path, self.offset, reason)

    def _read_records(self, path: str, image: bytes, salt: int) -> None:
        base = self.spans[-1].base
        offset = segment.RECORDS_START
        self.last_record = b""
        while True:
            header = record.read_header(image, offset, salt)
            if header is None or header.epoch < self.epoch:
                break
            if header.previous_end != self.end:
                raise LogDamaged(path, offset, "the record does not follow the one before it")
            body = record.read_body(image, offset, header, salt)
            if body is None:
                break
            self._apply(path, offset, body)
            self.epoch = header.epoch
            begin, offset = offset, offset + record.HEADER_BYTES + header.length
            self.last_record = image[begin:offset]
            self.end = base + offset
        self.offset = offset

    def _apply(self, path: str, offset: int, body: bytes) -> None:
        try:
            batches = record.decode_body(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise LogDamaged(path, offset, f"unknown content: {error}") from None
        for batch in batches:
            problem = self.replay.apply(batch)
            if problem is not None:
                raise LogDamaged(path, offset, problem)
            note_batch(self.spans, batch)

    def _judge_tail(self, path: str, image: bytes, salt: int) -> None:
        """Decide whether the end of the last segment is clean, torn or damaged."""
        offset = self.offset
        used = len(image.rstrip(b"\0"))
        self.tail_bytes = max(0, used - offset)
        if not self.tail_bytes:
            return
        later = record.find_header(image, offset + 1, salt, self.epoch)
        if later >= 0:
            reason = f"an intact record follows at offset {later}"
            raise LogDamaged(path, offset, reason)
        header = record.read_header(image, offset, salt)
        if header is not None and header.epoch >= self.epoch:
            if not record.is_torn(image, offset, header):
                raise LogDamaged(path, offset, "the last record was complete and has been altered")

    def finish(self) -> RecoveredLog:
        contents = self.replay.contents
        first = self.spans[0]
        if not self.replay.is_anchored or first.sequence > self.replay.first_segment:
            raise LogDamaged(first.path, 0, "older segments that are still needed are missing")
        contents.torn_bytes = self.tail_bytes
        return RecoveredLog(
            contents=contents,
            spans=self.spans,
            log_id=self.log_id,
            epoch=self.epoch,
            end=self.end,
            offset=self.offset,
            first_segment=self.replay.first_segment,
            tail_bytes=self.tail_bytes,
            last_record=self.last_record,
        )


def note_batch(spans: list[SegmentSpan], batch: StoredBatch) -> None:
    """Keep the `last_index` of the segments right after a batch went to the last of them."""
    if batch.install is not None:
        limit_spans(spans, batch.install.index)
    if batch.entries:
        limit_spans(spans, batch.entries[0].index - 1)
        spans[-1].last_index = batch.entries[-1].index


def limit_spans(spans: list[SegmentSpan], index: int) -> None:
    """Note that no segment is needed for what it holds above `index`: that was written anew."""
    for span in spans:
        span.last_index = min(span.last_index, index)
