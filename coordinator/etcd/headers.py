"""The headers of a request: checked as HTTP/2 demands, and told in one object. Pure.

Clients send the same headers with every call, and after the first call as a few indexes. Such a
block is looked up, as long as the indexes mean the same.
"""

from __future__ import annotations

import re
from typing import Final

from coordinator.etcd.blocks import BAD, KEPT, PSEUDO, BlockDecoder, Header
from coordinator.etcd.frames import H2Error, StreamBroken

KNOWN_MAX: Final = 256
BLOCK_BYTES_MAX: Final = 512
"""A block that is looked up is not larger, nor are there more of them than the line above."""
TIMEOUT_S_MAX: Final = 10**7
_TIMEOUT = re.compile(rb"([0-9]{1,8})([HMSmun])")
_UNITS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_PSEUDO: Final = (b":method", b":scheme", b":authority", b":path")


class Head:
    """The headers of one request.

    Attributes:
        method: Of HTTP.
        path: The call.
        fields: The headers that mean something here.
        timeout_s: What the client gives the call, if it said so.
    """

    __slots__ = ("fields", "method", "path", "timeout_s")

    def __init__(self, method: bytes, path: bytes, fields: dict[bytes, bytes]) -> None:
        self.method = method
        self.path = path.decode("latin-1")
        self.fields = fields
        self.timeout_s = _seconds(fields.get(b"grpc-timeout"))


def timeout_s(text: bytes) -> float | None:
    """Read the header ``grpc-timeout``; None if it is malformed."""
    match = _TIMEOUT.fullmatch(text)
    return min(int(match[1]) * _UNITS[match[2]], TIMEOUT_S_MAX) if match is not None else None


def _seconds(text: bytes | None) -> float | None:
    if text is None:
        return None
    found = timeout_s(text)
    if found is None:
        raise StreamBroken(H2Error.PROTOCOL_ERROR, "grpc-timeout is malformed")
    return found


class HeadReader:
    """Reads the header blocks of one connection, in order.

    Args:
        list_bytes_max: Size of the decoded headers of a request, with an overhead for each.
    """

    def __init__(self, list_bytes_max: int) -> None:
        self._decoder = BlockDecoder(list_bytes_max)
        self._known: dict[bytes, Head] = {}
        self._changes = 0
        self._is_stable = False

    def read(self, block: bytes) -> Head:
        """Read the headers of a request.

        Raises:
            ConnectionBroken: It is no valid block, or too large.
            StreamBroken: The request is malformed; later blocks can still be read.
        """
        known = self._known.get(block)
        if known is not None:
            return known
        head = request_head(self.decode(block))
        # Looking a block up skips decoding it, so it must be one that changes no table.
        if self._is_stable and len(block) <= BLOCK_BYTES_MAX and len(self._known) < KNOWN_MAX:
            self._known[block] = head
        return head

    def decode(self, block: bytes) -> list[Header]:
        """Read any header block; every one has to be, or the next ones are not understood.

        Raises:
            ConnectionBroken: As for `read`.
        """
        found = self._decoder.decode(block)
        self._is_stable = self._decoder.changes == self._changes
        if not self._is_stable:
            self._changes = self._decoder.changes
            if self._known:
                self._known.clear()
        return found


def request_head(headers: list[Header]) -> Head:
    """Check the headers of a request, and keep what matters.

    Raises:
        StreamBroken: They are malformed.
    """
    pseudo: dict[bytes, bytes] = {}
    fields: dict[bytes, bytes] = {}
    regular = False
    for name, value, kind in headers:
        if kind == PSEUDO:
            if regular or name in pseudo or name not in _PSEUDO:
                raise StreamBroken(H2Error.PROTOCOL_ERROR, "pseudo-headers are wrong")
            pseudo[name] = value
            continue
        regular = True
        if kind == KEPT:
            fields.setdefault(name, value)
        elif kind == BAD:
            raise StreamBroken(H2Error.PROTOCOL_ERROR, "a header is malformed")
    if not pseudo.get(b":path") or b":method" not in pseudo or b":scheme" not in pseudo:
        raise StreamBroken(H2Error.PROTOCOL_ERROR, "method, scheme and path are required")
    return Head(pseudo[b":method"], pseudo[b":path"], fields)


def check_trailers(headers: list[Header]) -> None:
    """Check the trailers of a request, which mean nothing here.

    Raises:
        StreamBroken: They are malformed.
    """
    if any(header.kind in (PSEUDO, BAD) for header in headers):
        raise StreamBroken(H2Error.PROTOCOL_ERROR, "trailers are malformed")
