"""The bytes between two members: a preamble, then frames.

Imports nothing of the project and touches no socket. Each side begins with the preamble; then come
frames, all integers big-endian:

    length    4   bytes of the body
    kind      1   a `Kind`
    checksum  4   CRC-32C of kind and body
    body      length

The checksum is there because TCP's own lets one damaged packet in 65,536 pass.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import TYPE_CHECKING, Final

import google_crc32c
import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

FRAMING: Final = 1
"""Version of what this module describes; what the frames say is `ports.PEER_FORMAT`."""

MAGIC: Final = b"\xc1PEER\r\n"
"""Starts with the one byte that MessagePack never uses, and that neither HTTP nor TLS begins with;
the end of the line shows at once if something on the way mends line ends."""

PREAMBLE: Final = MAGIC + bytes([FRAMING])

_HEADER: Final = struct.Struct(">IBI")
HEADER_BYTES: Final = _HEADER.size


class Kind(IntEnum):
    """What a frame is; the numbers are part of the wire format."""

    HELLO = 0
    """A `ports.PeerHello`; the first frame of both sides."""
    PING = 1
    """Nothing but a sign of life."""
    MESSAGE = 2
    """Link: one frame of the node's."""
    DESCRIPTION = 3
    """Inquiry: the answer."""
    HEAD = 4
    """Snapshot: a `SnapshotHead`; begins a stream, or goes on with one."""
    READY = 5
    """Snapshot, answer to the head: a `SnapshotReady`."""
    CHUNK = 6
    """Snapshot: the next piece of the content."""
    WRITTEN = 7
    """Snapshot, answer: number of chunks that the sink has written so far."""
    END = 8
    """Snapshot: number of chunks; all were sent."""
    ABORT = 9
    """Snapshot: the sender gives up."""
    FINISHED = 10
    """Snapshot, answer: the sink has taken the snapshot over."""
    FAILED = 11
    """Snapshot, answer: why the receiver gave up, as text."""
    FORGOTTEN = 12
    """Snapshot, answer to the head: the receiver does not know this stream any more."""


class SnapshotHead(msgspec.Struct, array_like=True, frozen=True):
    """What a stream begins with, on every connection it uses.

    Attributes:
        stream: Random id of the stream.
        base: Chunks before this one are gone from the sender; only a receiver that has them can
            go on.
        head: What the receiver's node is told.
    """

    stream: bytes
    base: int
    head: bytes


class SnapshotReady(msgspec.Struct, array_like=True, frozen=True):
    """Where a stream goes on.

    Attributes:
        next: Number of chunks received so far, which is the number of the next one.
        chunks_max: How many may be on their way.
    """

    next: int
    chunks_max: int


class Violation(Exception):
    """The other side does not keep to this format; the message says what was found."""


def encode(kind: int, body: bytes = b"") -> bytes:
    """Make one frame."""
    return _HEADER.pack(len(body), kind, _extend(_SEEDS[kind], body)) + body


_extend = google_crc32c.extend
_SEEDS: Final = [google_crc32c.value(bytes([kind])) for kind in range(256)]
"""Checksum of the kind alone, from which that of the body goes on."""


def stranger(start: bytes) -> str:
    """Say what began like this instead of with the preamble."""
    if start[: len(MAGIC)] == MAGIC:
        return f"framing {start[len(MAGIC)]}; this member speaks {FRAMING}"
    if start[:1] == b"\x16":
        return "TLS, which is not expected on this address"
    if start.split(b" ")[0] in (b"GET", b"POST", b"PUT", b"HEAD", b"OPTIONS", b"PRI", b"DELETE"):
        return "HTTP, which belongs on a client address"
    return "not a peer's preamble"


class FrameReader:
    """Takes a stream of bytes apart.

    Attributes:
        body_bytes_max: Largest body; may be changed between two frames.
    """

    __slots__ = ("_held", "_pieces", "_saw_preamble", "_wanted", "body_bytes_max")

    def __init__(self, body_bytes_max: int) -> None:
        self.body_bytes_max = body_bytes_max
        self._saw_preamble = False
        self._pieces: list[bytes] = []
        self._held = 0
        self._wanted = HEADER_BYTES

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield (kind, body) of every frame that is complete now.

        The pieces of a large frame are kept as they came and joined once.

        Raises:
            Violation: What came is no frame, is too large or was damaged.
        """
        if self._pieces:
            self._pieces.append(data)
            self._held += len(data)
            if self._held < self._wanted:
                if not self._saw_preamble:
                    _check_preamble(b"".join(self._pieces))
                return
            data = b"".join(self._pieces)
            self._pieces.clear()
        position, size = 0, len(data)
        if not self._saw_preamble:
            _check_preamble(data)
            if size < len(PREAMBLE):
                self._keep(data, len(PREAMBLE))
                return
            self._saw_preamble = True
            position = len(PREAMBLE)
        wanted = HEADER_BYTES
        while size - position >= HEADER_BYTES:
            length, kind, checksum = _HEADER.unpack_from(data, position)
            if length > self.body_bytes_max:
                raise Violation(f"a frame of {length} bytes, at most {self.body_bytes_max}")
            end = position + HEADER_BYTES + length
            if end > size:
                wanted = end - position
                break
            body = data[position + HEADER_BYTES : end]
            if _extend(_SEEDS[kind], body) != checksum:
                raise Violation("a frame was damaged on its way")
            position = end
            yield kind, body
        if position < size:
            self._keep(data[position:] if position else data, wanted)

    def _keep(self, piece: bytes, wanted: int) -> None:
        self._pieces.append(piece)
        self._held = len(piece)
        self._wanted = wanted


def _check_preamble(start: bytes) -> None:
    if not PREAMBLE.startswith(start[: len(PREAMBLE)]):
        raise Violation(stranger(start))
