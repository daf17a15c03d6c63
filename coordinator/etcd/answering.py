"""The header blocks and frames with which gRPC answers. Pure.

No header enters a table, so that a block means the same on every connection, and those of a call
that ends well are written once for all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordinator.etcd import frames

if TYPE_CHECKING:
    from coordinator.etcd.status import StatusError


def literal(name: bytes, value: bytes) -> bytes:
    """Write a header that enters no table, so that it means the same on every connection."""
    assert len(name) < 127, "a longer name needs another encoding"
    return b"\x00" + bytes((len(name),)) + name + _length(value) + value


def _length(value: bytes) -> bytes:
    size = len(value)
    if size < 127:
        return bytes((size,))
    parts = bytearray(b"\x7f")
    size -= 127
    while size > 127:
        parts.append(size & 127 | 128)
        size >>= 7
    parts.append(size)
    return bytes(parts)


STATUS_200 = b"\x88"
_CONTENT_TYPE = literal(b"content-type", b"application/grpc")
ACCEPT = literal(b"grpc-accept-encoding", b"identity")
HEADERS = STATUS_200 + _CONTENT_TYPE
OK = literal(b"grpc-status", b"0") + literal(b"grpc-message", b"")

_HEADERS_FRAME = frames.frame(frames.HEADERS, frames.END_HEADERS, 0, HEADERS)
HEADERS_START, HEADERS_END = _HEADERS_FRAME[:5], _HEADERS_FRAME[9:]
_OK_FRAME = frames.frame(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, 0, OK)
OK_START, OK_END = _OK_FRAME[:5], _OK_FRAME[9:]
DATA = bytes((frames.DATA, 0))


def percent_encoded(message: str) -> bytes:
    """Write a status message so that it fits into a header."""
    return b"".join(
        bytes((byte,)) if 0x20 <= byte <= 0x7E and byte != 0x25 else b"%%%02X" % byte
        for byte in message.encode(errors="replace")
    )


def trailers(error: StatusError) -> bytes:
    """Write the trailers of a call that ends so."""
    return literal(b"grpc-status", b"%d" % error.code) + literal(
        b"grpc-message", percent_encoded(error.message[:4096])
    )
