"""HTTP/2 frames: numbers, writing, and the rules that need no state. Pure."""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS = 0, 1, 2, 3, 4
PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 5, 6, 7, 8, 9

END_STREAM, ACK, END_HEADERS, PADDED, HAS_PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS = 1, 2, 3
INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = 4, 5, 6

FRAME_HEAD_BYTES: Final = 9
DEFAULT_WINDOW: Final = 65_535
STREAM_WINDOW: Final = 1 << 20
"""Bytes of one request that may be on their way to us."""
WINDOW_MAX: Final = (1 << 31) - 1
FRAME_BYTES_MIN: Final = 16_384
FRAME_BYTES_MAX: Final = (1 << 24) - 1


class H2Error(IntEnum):
    """Why a stream or connection ends."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11


class ConnectionBroken(Exception):
    """The other end broke the rules: the connection ends."""

    def __init__(self, code: H2Error, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class StreamBroken(Exception):
    """A request is malformed: its stream is reset."""

    def __init__(self, code: H2Error, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Write a frame."""
    length = len(payload)
    head = struct.pack(">BHBBL", length >> 16, length & 0xFFFF, kind, flags, stream)
    return head + payload


def settings_frame(settings: dict[int, int]) -> bytes:
    """Write our settings."""
    parts = [struct.pack(">HL", key, value) for key, value in settings.items()]
    return frame(SETTINGS, 0, 0, b"".join(parts))


def window_update(stream: int, amount: int) -> bytes:
    """Let the other end send that many bytes more."""
    return frame(WINDOW_UPDATE, 0, stream, amount.to_bytes(4, "big"))


def reset(stream: int, code: H2Error) -> bytes:
    """End a stream at once."""
    return frame(RST_STREAM, 0, stream, code.to_bytes(4, "big"))


def goaway(last_stream: int, code: H2Error, reason: str = "") -> bytes:
    """Say that the connection ends, and which requests were still looked at."""
    payload = struct.pack(">LL", last_stream, code) + reason.encode()[:200]
    return frame(GOAWAY, 0, 0, payload)


def read_settings(payload: bytes) -> dict[int, int]:
    """Read the other end's settings; a later value replaces an earlier one.

    Raises:
        ConnectionBroken: A value is not allowed.
    """
    if len(payload) % 6:
        raise ConnectionBroken(H2Error.FRAME_SIZE_ERROR, "SETTINGS of a wrong size")
    found: dict[int, int] = {}
    for key, value in struct.iter_unpack(">HL", payload):
        if key == ENABLE_PUSH and value > 1:
            raise ConnectionBroken(H2Error.PROTOCOL_ERROR, "ENABLE_PUSH is 0 or 1")
        if key == INITIAL_WINDOW_SIZE and value > WINDOW_MAX:
            raise ConnectionBroken(H2Error.FLOW_CONTROL_ERROR, "INITIAL_WINDOW_SIZE is too large")
        if key == MAX_FRAME_SIZE and not FRAME_BYTES_MIN <= value <= FRAME_BYTES_MAX:
            raise ConnectionBroken(H2Error.PROTOCOL_ERROR, "MAX_FRAME_SIZE is not allowed")
        found[key] = value
    return found


def without_padding(flags: int, payload: bytes) -> bytes:
    """Take the padding off a DATA or HEADERS payload.

    Raises:
        ConnectionBroken: The padding is longer than the payload.
    """
    if not flags & PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise ConnectionBroken(H2Error.PROTOCOL_ERROR, "more padding than payload")
    return payload[1 : len(payload) - payload[0]]


def header_block(flags: int, stream: int, payload: bytes) -> bytes:
    """Take the header block out of a HEADERS payload.

    Raises:
        ConnectionBroken: It is too short, or the stream depends on itself.
    """
    payload = without_padding(flags, payload)
    if flags & HAS_PRIORITY:
        if len(payload) < 5:
            raise ConnectionBroken(H2Error.FRAME_SIZE_ERROR, "HEADERS without its priority")
        if int.from_bytes(payload[:4], "big") & WINDOW_MAX == stream:
            raise ConnectionBroken(H2Error.PROTOCOL_ERROR, "a stream depends on itself")
        payload = payload[5:]
    return payload
