"""What the keyspace keeps for every version of a key, and the small rules about keys and ranges.

Pure. A live record is the protocol's own `KeyValue`, so that it reaches clients without
conversion; it is treated as immutable. A superseded version keeps no value: that lies in the
tail of history or in the state database, under (mod_revision, sub), where ``sub`` is the
position of the change within its entry.
"""

from __future__ import annotations

# The C constructor itself: hashlib.blake2b is this very object, re-exported.
from hashlib import blake2b
from struct import Struct as Layout
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Struct

from coordinator_sdk.protocol.kv import Event, KeyValue

if TYPE_CHECKING:
    from collections.abc import Sequence

USER: Final = 0
"""The space of the keys that clients read and write."""
SYSTEM: Final = 1
"""The space where domains keep their records: readable by clients, never writable."""
SPACES: Final = 2

FIRST_REVISION: Final = 1
"""The revision of a keyspace that nothing was ever written to."""

OVERHEAD_BYTES: Final = 128
"""What a version costs the quota beside its key and value. Replicated state: never change it."""

DIGEST_MASK: Final = (1 << 64) - 1
DIGEST_WEIGHTS: Final = (1, 0x9E3779B97F4A7C15)
"""What a row's digest is multiplied by in each space. Odd, so that multiplying loses nothing."""

FROM_KEY: Final = b"\0"
"""The ``range_end`` that means "every key from ``key`` on"."""

Events = list[tuple[int, Event]]
"""The changes of one revision in order, each with its space; its position is its ``sub``."""

Row = tuple[int, int, int, bytes, int, int, int, bytes]
"""One version in the state database.

(mod_revision, sub, space, key, create_revision, version, lease, value). A tombstone has
create_revision, version and lease 0 and an empty value."""

Place = tuple[int, int]
"""Where an old value lies: (mod_revision, sub)."""


class Version(Struct, gc=False):
    """A superseded version or a tombstone, without its value. Immutable."""

    key: bytes
    space: int
    mod_revision: int
    sub: int
    create_revision: int
    version: int
    """0 marks a tombstone."""
    lease: int
    size: int
    """What it adds to the quota's counter."""
    droppable_at: int
    """The smallest compact revision that may drop it."""


_encode = msgspec.msgpack.Encoder().encode
_number = Layout("<Q").unpack


def row_digest(record: KeyValue) -> int:
    """The 64-bit digest of one live row, without its space.

    It hashes the record's MessagePack form, so that form is frozen: a test pins the digest of a
    known row.
    """
    found: tuple[int] = _number(blake2b(_encode(record), digest_size=8).digest())
    return found[0]


class RowDigest:
    """Recomputes the digest of live rows that arrive in any order and in any number of portions."""

    __slots__ = ("_sum",)

    def __init__(self) -> None:
        self._sum = 0

    def add(self, space: int, records: Sequence[KeyValue]) -> None:
        """Count live records of one space, each exactly once."""
        self._sum += DIGEST_WEIGHTS[space] * sum(map(row_digest, records))

    @property
    def value(self) -> int:
        """The digest of everything counted so far."""
        return self._sum & DIGEST_MASK


def record_of(version: Version, value: bytes) -> KeyValue:
    """The record of an old version, given its value."""
    return KeyValue(
        version.key,
        version.create_revision,
        version.mod_revision,
        version.version,
        version.lease,
        value,
    )


def size_of(key: bytes, value: bytes) -> int:
    """What a version of ``key`` with ``value`` adds to the quota's counter."""
    return len(key) + len(value) + OVERHEAD_BYTES


def row_of(space: int, sub: int, event: Event) -> Row:
    """The row of the state database that keeps what an event wrote."""
    kv = event.kv
    return (
        kv.mod_revision,
        sub,
        space,
        kv.key,
        kv.create_revision,
        kv.version,
        kv.lease,
        kv.value,
    )


def prefix_end(prefix: bytes) -> bytes:
    """The ``range_end`` that makes a range of every key that starts with ``prefix``."""
    kept = prefix.rstrip(b"\xff")
    if not kept:
        return FROM_KEY
    return kept[:-1] + bytes((kept[-1] + 1,))


def upper_bound(range_end: bytes) -> bytes | None:
    """The exclusive upper bound that a non-empty ``range_end`` stands for; None for none."""
    return None if range_end == FROM_KEY else range_end
