"""One file of the log: its header, its name, and how it is laid out.

A segment is filled with zeros when it is created, so that a later fdatasync has no metadata to
write. Its first sector holds the header alone; records follow, and what is left is zero.

Positions: the log is one line of bytes that starts at 0 and never restarts; a segment covers
[base, base + size) of it.
"""

import struct
from typing import Final, NamedTuple

import google_crc32c

from coordinator.storage.files import Files, write_all
from coordinator.storage.record import SECTOR_BYTES

FORMAT: Final = 1
"""Version of the log format; a segment with another one is refused."""

MAGIC: Final = b"COORDLOG"
LOG_ID_BYTES: Final = 16
SUFFIX: Final = ".log"
RECORDS_START: Final = SECTOR_BYTES
"""File offset of the first record."""

_CHUNK: Final = bytes(1 << 20)
_FIELDS: Final = struct.Struct("<II16sQQQQQ")


class SegmentHeader(NamedTuple):
    """What the first sector of a segment says."""

    log_id: bytes
    """16 random bytes, the same in all segments of a log."""
    sequence: int
    """Number of the segment, counted from 1 without gaps."""
    base: int
    """Log position of the first byte of the file."""
    size: int
    """Bytes of the file."""
    previous_end: int
    """Log position at which the last record before this segment ended."""
    epoch: int
    """Epoch of the log when the segment was begun."""

    def encode(self) -> bytes:
        """Return the bytes for the start of the file."""
        fields = _FIELDS.pack(FORMAT, 0, *self)
        return MAGIC + int(google_crc32c.value(fields)).to_bytes(4, "little") + fields


HEADER_BYTES: Final = len(MAGIC) + 4 + _FIELDS.size


def format_of(image: bytes) -> int:
    """Return the format version of a segment, or 0 if its header is not intact.

    Every later format keeps the layout of the header.
    """
    start = len(MAGIC) + 4
    fields = image[start:HEADER_BYTES]
    if image[: len(MAGIC)] != MAGIC or len(fields) != _FIELDS.size:
        return 0
    if google_crc32c.value(fields) != int.from_bytes(image[len(MAGIC) : start], "little"):
        return 0
    return int.from_bytes(fields[:4], "little")


def decode_header(image: bytes) -> SegmentHeader | None:
    """Return the header at the start of a segment, or None if there is no intact one."""
    if format_of(image) != FORMAT:
        return None
    _, _, *rest = _FIELDS.unpack_from(image, len(MAGIC) + 4)
    return SegmentHeader(*rest)


def segment_name(sequence: int) -> str:
    """Return the file name of a segment; names sort like sequence numbers."""
    return f"{sequence:016x}{SUFFIX}"


def segment_sequence(name: str) -> int | None:
    """Return the sequence number in a file name, or None if it is not a segment's name."""
    stem = name.removesuffix(SUFFIX)
    if len(stem) != 16 or stem == name or stem.strip("0123456789abcdef"):
        return None
    return int(stem, 16)


def create_zeroed(files: Files, path: str, size: int) -> int:
    """Create a file of `size` zeros, durably, and return its descriptor.

    Written and synced piece by piece, so that a sync of the log next to it never waits for more
    than one piece. Leaves nothing behind when it fails.

    Raises:
        OSError: The disk refused.
    """
    fd = files.create(path)
    try:
        offset = 0
        while offset < size:
            piece = _CHUNK if size - offset >= len(_CHUNK) else bytes(size - offset)
            write_all(files, fd, piece, offset)
            files.sync_data(fd)
            offset += len(piece)
        files.sync(fd)
    except OSError:
        files.close(fd)
        files.unlink(path)
        raise
    return fd
