"""One record of the log: the bytes of one synced batch.

Imports `wire` and nothing that touches a disk. A record is

    magic     4 bytes
    checksum  4        CRC-32C of the next four fields
    length    4        bytes of the body
    body sum  4        CRC-32C of the body
    epoch     8        which opening of the log wrote it; never falls along the log
    previous  8        log position at which the previous synced batch ended
    body      length   MessagePack array of `StoredBatch`, then one closing byte

All integers are little-endian. Both checksums start from a salt that differs from log to log and
from segment to segment, so that neither a stray segment nor bytes chosen by a client inside a value
can pass for a record.

Invariant: a record is written only after the previous one is durable. So at most the last record of
a log can be torn, and a valid header vouches for everything before its `previous`.
"""

import struct
from typing import Final, NamedTuple

import google_crc32c
import msgspec

from coordinator.wire.raft import Entry, HardState, SnapshotMetadata

MAGIC: Final = b"\xc1LOG"
"""Starts with the one byte that MessagePack never uses."""

CLOSING: Final = b"\xa5"
"""Ends every body. Unwritten space is zero: a body without it was not written to its end."""

SECTOR_BYTES: Final = 512
"""The least a disk writes in one piece, if it writes it at all."""

_FIELDS: Final = struct.Struct("<IIQQ")
_CHECKSUM: Final = struct.Struct("<I")
_ARRAY_32: Final = struct.Struct(">BI")

HEADER_BYTES: Final = len(MAGIC) + _CHECKSUM.size + _FIELDS.size
BODY_OVERHEAD_BYTES: Final = _ARRAY_32.size + len(CLOSING)


class CutMark(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Everything up to an index has been dropped from the log.

    Carries what the dropped segments may have been the last to know.
    """

    index: int
    """Last dropped index."""
    term: int
    """Term of the entry at `index`."""
    first_segment: int
    """Sequence number of the oldest segment that is still needed."""
    hard_state: HardState
    """The newest one at the time."""


class LogBatch(msgspec.Struct, array_like=True, gc=False):
    """What one turn wants to have on disk; durable as a whole or not at all.

    Replayed in the order of the fields.
    """

    install: SnapshotMetadata | None = None
    """Reset the log: it continues after this snapshot, and everything else in it is void."""
    entries: list[Entry] = []
    """Consecutive entries. They may start below the end of the log, and then replace its suffix."""
    hard_state: HardState | None = None


class StoredBatch(LogBatch, array_like=True, gc=False):
    """A batch as it is read back: the log adds its own bookkeeping."""

    cut: CutMark | None = None


class RecordHeader(NamedTuple):
    """The checked header of a record."""

    length: int
    body_sum: int
    epoch: int
    previous_end: int


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(list[StoredBatch])

encode_batch: Final = _encoder.encode
"""Return the bytes of one `LogBatch` or `StoredBatch`, a piece for `build_record`."""


def salt_of(log_id: bytes, sequence: int) -> int:
    """Return the start value of all checksums in one segment."""
    return int(google_crc32c.extend(0, log_id + sequence.to_bytes(8, "little")))


def build_record(pieces: list[bytes], salt: int, epoch: int, previous_end: int) -> bytes:
    """Return the record that holds the given encoded batches, in order."""
    extend = google_crc32c.extend
    body = b"".join((_ARRAY_32.pack(0xDD, len(pieces)), *pieces, CLOSING))
    fields = _FIELDS.pack(len(body), extend(salt, body), epoch, previous_end)
    checksum = _CHECKSUM.pack(extend(salt, fields))
    return b"".join((MAGIC, checksum, fields, body))


def record_bytes(pieces_bytes: int) -> int:
    """Return the size of a record whose encoded batches add up to `pieces_bytes`."""
    return HEADER_BYTES + BODY_OVERHEAD_BYTES + pieces_bytes


def read_header(image: bytes, offset: int, salt: int) -> RecordHeader | None:
    """Return the record header at `offset`, or None if there is no intact one."""
    start = offset + len(MAGIC)
    if image[offset:start] != MAGIC or len(image) < offset + HEADER_BYTES:
        return None
    fields = image[start + _CHECKSUM.size : offset + HEADER_BYTES]
    if google_crc32c.extend(salt, fields) != _CHECKSUM.unpack_from(image, start)[0]:
        return None
    return RecordHeader(*_FIELDS.unpack(fields))


def find_header(image: bytes, offset: int, salt: int, epoch: int) -> int:
    """Return the offset of the first intact header from `offset` on, or -1.

    Headers of an epoch before `epoch` are leftovers and do not count.
    """
    at = image.find(MAGIC, offset)
    while at >= 0:
        header = read_header(image, at, salt)
        if header is not None and header.epoch >= epoch:
            return at
        at = image.find(MAGIC, at + 1)
    return -1


def read_body(image: bytes, offset: int, header: RecordHeader, salt: int) -> bytes | None:
    """Return the body of the record at `offset`, or None if it is not intact."""
    start = offset + HEADER_BYTES
    body = image[start : start + header.length]
    if len(body) != header.length or google_crc32c.extend(salt, body) != header.body_sum:
        return None
    return body


def decode_body(body: bytes) -> list[StoredBatch]:
    """Return the batches in an intact body.

    Raises:
        msgspec.DecodeError: The body was not written by `build_record`.
    """
    return _decoder.decode(memoryview(body)[: -len(CLOSING)])


def is_torn(image: bytes, offset: int, header: RecordHeader) -> bool:
    """Whether a body that is not intact may be one that was only partly written.

    The space of a record is zero before the record is written, and a disk writes whole sectors. So
    a partly written body lacks its closing byte, or has a sector of nothing but zeros. Anything
    else was complete once and has been altered since.
    """
    start = offset + HEADER_BYTES
    end = start + header.length
    if end > len(image) or image[end - len(CLOSING) : end] != CLOSING:
        return True
    at = start
    while at < end:
        piece_end = min(end, at - at % SECTOR_BYTES + SECTOR_BYTES)
        if not image[at:piece_end].strip(b"\0"):
            return True
        at = piece_end
    return False
