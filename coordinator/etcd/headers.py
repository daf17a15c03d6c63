"""Header blocks of requests: decoded with HPACK, checked, and told in one object.

Clients send the same headers with every call, and after the first call as a few indexes. Such a
block is looked up in a table, which is forgotten whenever a block may have changed what the
indexes mean.
"""

from __future__ import annotations

import re
from typing import Final

import hpack
from hpack.exceptions import HPACKError, OversizedHeaderListError

from coordinator.etcd.frames import ConnectionBroken, H2Error, StreamBroken

HEADER_TABLE_BYTES: Final = 4096
KNOWN_MAX: Final = 256
TIMEOUT_S_MAX: Final = 10**7
_TIMEOUT = re.compile(rb"([0-9]{1,8})([HMSmun])")
_UNITS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_BAD_VALUE = re.compile(rb"[\0\r\n]")
_HOP_BY_HOP = (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade")
_PSEUDO = (b":method", b":scheme", b":authority", b":path")
_KEPT = (
    b"content-type",
    b"grpc-encoding",
    b"grpc-timeout",
    b"token",
    b"authorization",
    b"hasleader",
    b"origin",
    b"content-length",
)
"""Headers that mean something here; the rest is checked and forgotten."""


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


def _seconds(text: bytes | None) -> float | None:
    if text is None:
        return None
    match = _TIMEOUT.fullmatch(text)
    if match is None:
        raise StreamBroken(H2Error.PROTOCOL_ERROR, "grpc-timeout is malformed")
    return min(int(match[1]) * _UNITS[match[2]], TIMEOUT_S_MAX)


class HeadReader:
    """Reads the header blocks of one connection, in order.

    Args:
        list_bytes_max: Size of the decoded headers of a request, with 32 for each.
    """

    def __init__(self, list_bytes_max: int) -> None:
        self._decoder = hpack.Decoder(max_header_list_size=list_bytes_max)
        self._decoder.max_allowed_table_size = HEADER_TABLE_BYTES
        self._known: dict[bytes, Head] = {}

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
        if min(block) >= 0x80 and len(self._known) < KNOWN_MAX:
            self._known[block] = head
        return head

    def decode(self, block: bytes) -> list[tuple[bytes, bytes]]:
        """Read any header block; every one has to be, or the next ones are not understood.

        Raises:
            ConnectionBroken: As for `read`.
        """
        if block and min(block) < 0x80:
            self._known.clear()
        try:
            return [(name, value) for name, value in self._decoder.decode(block, raw=True)]
        except OversizedHeaderListError:
            raise ConnectionBroken(H2Error.ENHANCE_YOUR_CALM, "the headers are too large") from None
        except (HPACKError, IndexError, ValueError) as error:
            raise ConnectionBroken(
                H2Error.COMPRESSION_ERROR, f"headers that cannot be read: {error}"
            ) from None


def request_head(headers: list[tuple[bytes, bytes]]) -> Head:
    """Check the headers of a request as HTTP/2 demands, and keep what matters.

    Raises:
        StreamBroken: They are malformed.
    """
    pseudo: dict[bytes, bytes] = {}
    fields: dict[bytes, bytes] = {}
    regular = False
    for name, value in headers:
        if name[:1] == b":":
            if regular or name in pseudo or name not in _PSEUDO:
                raise StreamBroken(H2Error.PROTOCOL_ERROR, "pseudo-headers are wrong")
            pseudo[name] = value
            continue
        regular = True
        if name in _HOP_BY_HOP or (name == b"te" and value != b"trailers"):
            raise StreamBroken(H2Error.PROTOCOL_ERROR, "a header of HTTP/1.1")
        if _NAME.fullmatch(name) is None or _BAD_VALUE.search(value) is not None:
            raise StreamBroken(H2Error.PROTOCOL_ERROR, "a header is malformed")
        if name in _KEPT:
            fields.setdefault(name, value)
    if not pseudo.get(b":path") or b":method" not in pseudo or b":scheme" not in pseudo:
        raise StreamBroken(H2Error.PROTOCOL_ERROR, "method, scheme and path are required")
    return Head(pseudo[b":method"], pseudo[b":path"], fields)


def check_trailers(headers: list[tuple[bytes, bytes]]) -> None:
    """Check the trailers of a request, which mean nothing here.

    Raises:
        StreamBroken: They are malformed.
    """
    if any(name[:1] == b":" or _NAME.fullmatch(name) is None for name, _ in headers):
        raise StreamBroken(H2Error.PROTOCOL_ERROR, "trailers are malformed")
