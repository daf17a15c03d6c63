"""Header blocks as HPACK has them, decoded for a server that looks at few headers. Pure.

Every header is judged when it enters a table, not each time it is named: what a client repeats with
every call costs next to nothing. Huffman codes and the static table are those of ``hpack``.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from hpack.exceptions import HPACKDecodingError
from hpack.huffman_table import decode_huffman
from hpack.table import HeaderTable

from coordinator.etcd.frames import ConnectionBroken, H2Error

TABLE_BYTES_MAX: Final = 4096
ENTRY_OVERHEAD_BYTES: Final = 32
INTEGER_BYTES_MAX: Final = 5

_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_BAD_VALUE = re.compile(rb"[\0\r\n]")
_HOP_BY_HOP = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade")
)
_KEPT = frozenset(
    (
        b"content-type",
        b"content-length",
        b"grpc-encoding",
        b"grpc-timeout",
        b"token",
        b"authorization",
        b"hasleader",
        b"origin",
    )
)
"""Headers that mean something here; the rest is checked and forgotten."""

PLAIN, KEPT, PSEUDO, BAD = 0, 1, 2, 3


class Header(NamedTuple):
    """A header, and what is to be done with it."""

    name: bytes
    value: bytes
    kind: int


def judged(name: bytes, value: bytes) -> Header:
    """Say what is to be done with a header; `BAD` if it may not be in a request."""
    if name[:1] == b":":
        kind = PSEUDO
    elif name in _KEPT:
        kind = KEPT
    elif _NAME.fullmatch(name) is None or name in _HOP_BY_HOP:
        kind = BAD
    elif name == b"te" and value != b"trailers":
        kind = BAD
    else:
        kind = PLAIN
    if _BAD_VALUE.search(value) is not None:
        kind = BAD
    return Header(name, value, kind)


_STATIC = (judged(b"x", b""), *(judged(*entry) for entry in HeaderTable.STATIC_TABLE))
"""The static table; its indexes begin with 1."""


def _broken(reason: str) -> ConnectionBroken:
    return ConnectionBroken(H2Error.COMPRESSION_ERROR, reason)


class BlockDecoder:
    """Decodes the blocks of one connection, in order.

    Args:
        list_bytes_max: Size of the decoded headers of a block, with an overhead for each.

    Attributes:
        changes: Counts what changed the meaning of indexes.
    """

    def __init__(self, list_bytes_max: int) -> None:
        self._list_bytes_max = list_bytes_max
        self._entries: list[Header] = []
        self._bytes = 0
        self._bytes_max = TABLE_BYTES_MAX
        self.changes = 0

    def decode(self, block: bytes) -> list[Header]:
        """Decode a block; every one has to be, or the next ones are not understood.

        Raises:
            ConnectionBroken: It is no valid block, or too large.
        """
        found: list[Header] = []
        at, end, size = 0, len(block), 0
        static, entries = _STATIC, self._entries
        while at < end:
            lead = block[at]
            if lead & 0x80:
                index, at = (lead & 0x7F, at + 1) if lead != 0xFF else _integer(block, at, 7)
                if 0 < index < 62:
                    header = static[index]
                else:
                    header = self._entry(index, entries)
            elif lead & 0x40:
                header, at = self._literal(block, at, 6)
                self._insert(header)
            elif lead & 0x20:
                if found:
                    raise _broken("the table's size changes amid a block")
                at = self._resize(block, at)
                continue
            else:
                header, at = self._literal(block, at, 4)
            size += len(header.name) + len(header.value) + ENTRY_OVERHEAD_BYTES
            if size > self._list_bytes_max:
                raise ConnectionBroken(H2Error.ENHANCE_YOUR_CALM, "the headers are too large")
            found.append(header)
        return found

    def _entry(self, index: int, entries: list[Header]) -> Header:
        if index <= 0 or index - 62 >= len(entries):
            raise _broken("an index is in no table")
        return entries[index - 62]

    def _literal(self, block: bytes, at: int, bits: int) -> tuple[Header, int]:
        index, at = _integer(block, at, bits)
        if index:
            known = _STATIC[index] if index < 62 else self._entry(index, self._entries)
            name = known.name
        else:
            name, at = _text(block, at)
        value, at = _text(block, at)
        return judged(name, value), at

    def _insert(self, header: Header) -> None:
        self.changes += 1
        self._entries.insert(0, header)
        self._bytes += len(header.name) + len(header.value) + ENTRY_OVERHEAD_BYTES
        if self._bytes > self._bytes_max:
            self._evict()

    def _resize(self, block: bytes, at: int) -> int:
        size, at = _integer(block, at, 5)
        if size > TABLE_BYTES_MAX:
            raise _broken("the table is too large")
        self.changes += 1
        self._bytes_max = size
        self._evict()
        return at

    def _evict(self) -> None:
        while self._bytes > self._bytes_max:
            gone = self._entries.pop()
            self._bytes -= len(gone.name) + len(gone.value) + ENTRY_OVERHEAD_BYTES


def _integer(block: bytes, at: int, bits: int) -> tuple[int, int]:
    most = (1 << bits) - 1
    number = block[at] & most
    at += 1
    if number < most:
        return number, at
    shift = 0
    while True:
        if at >= len(block) or shift > 7 * INTEGER_BYTES_MAX:
            raise _broken("a number is malformed")
        byte = block[at]
        at += 1
        number += (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7


def _text(block: bytes, at: int) -> tuple[bytes, int]:
    if at >= len(block):
        raise _broken("a header is cut off")
    is_huffman = block[at] & 0x80
    length, at = _integer(block, at, 7)
    text = block[at : at + length]
    if len(text) != length:
        raise _broken("a header is cut off")
    if is_huffman:
        try:
            text = decode_huffman(text)
        except HPACKDecodingError:
            raise _broken("a Huffman code is malformed") from None
    return text, at + length
