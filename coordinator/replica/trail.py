"""The audit trail: whose doing each revision was. Pure.

Revisions that follow each other and were made alike, by the same user from the same address with
the same operation within a second, are one record: under load there are far fewer records than
revisions. The records lie in the state database, keyed by the first revision of each; in memory
are only those keys, and the last record. They go with the history that they are about.

Changes of users, roles and API keys have no revision of the keyspace. Their records are keyed by
the revision of users and roles, negated, and the newest `AUTH_KEPT` revisions are kept.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Iterable

    from coordinator.wire.command import Envelope

SAME_MS: Final = 1000
"""How long revisions made alike go into one record: so exact is the time that it tells."""


AUTH_KEPT: Final = 10_000
"""Revisions of users and roles whose changes are remembered."""


class TrailRecord(Struct, array_like=True):
    """Whose doing some revisions were; the fields are those of the envelope.

    ``about`` is what a change of users and roles was about: user, role, or key.
    """

    actor: str
    origin: str
    cause: str
    operation: str
    trace: str
    clock_ms: int
    about: str = ""


_encode = msgspec.msgpack.Encoder().encode
decode_record = msgspec.msgpack.Decoder(TrailRecord).decode


class Trail:
    """Which record tells of which revision.

    Attributes:
        changed: Records to be written to the state database; None for one to be deleted.
    """

    __slots__ = ("_begins", "_first", "_last", "changed")

    def __init__(self) -> None:
        self._begins = array("q")
        self._first = 0
        self._last: TrailRecord | None = None
        self.changed: dict[int, bytes | None] = {}

    def note(self, revision: int, envelope: Envelope[Any], operation: str, clock_ms: int) -> None:
        """Note who made a revision."""
        last = self._last
        if (
            last is not None
            and last.origin == envelope.origin
            and last.operation == operation
            and last.actor == envelope.actor
            and last.cause == envelope.cause
            and last.trace == envelope.trace
            and clock_ms - last.clock_ms < SAME_MS
        ):
            return
        self._last = record = TrailRecord(
            envelope.actor, envelope.origin, envelope.cause, operation, envelope.trace, clock_ms
        )
        self._begins.append(revision)
        self.changed[revision] = _encode(record)

    def begins(self) -> list[int]:
        """Give the keys of the records, in their order."""
        return list(self._begins[self._first :])

    def note_auth(self, former: int, revision: int, record: TrailRecord) -> None:
        """Note who changed users or roles, which went from one revision of theirs to another."""
        self.changed[-revision] = _encode(record)
        for forgotten in range(max(1, former + 1 - AUTH_KEPT), revision + 1 - AUTH_KEPT):
            self.changed[-forgotten] = None

    def find(self, revision: int) -> int:
        """Give the key of the record that tells of a revision; 0 if there is none."""
        at = bisect_right(self._begins, revision)
        return self._begins[at - 1] if at > self._first else 0

    def is_sweepable(self, compact_revision: int) -> bool:
        """Tell whether `sweep` would drop anything."""
        following = self._first + 1
        return following < len(self._begins) and self._begins[following] <= compact_revision

    def sweep(self, compact_revision: int, limit: int) -> None:
        """Drop at most ``limit`` records that tell of nothing from a revision on."""
        while limit and self.is_sweepable(compact_revision):
            self.changed[self._begins[self._first]] = None
            self._first += 1
            limit -= 1
        if self._first > 1024 and self._first * 2 > len(self._begins):
            # In portions, because cutting the front moves all the rest.
            del self._begins[: self._first]
            self._first = 0

    def clear(self) -> None:
        """Forget everything; the next revision begins a new record.

        For a state that becomes the first one of another group.
        """
        for begin in self._begins[self._first :]:
            self.changed[begin] = None
        self._begins = array("q")
        self._first = 0
        self._last = None

    def meta(self) -> bytes:
        """Give the last record, by which it is judged whether the next revision belongs to it."""
        return _encode(self._last)

    def load(self, meta: bytes | None, begins: Iterable[int]) -> None:
        """Take in what `meta` gave, and the keys of the records in their order."""
        if meta is not None:
            self._last = msgspec.msgpack.decode(meta, type=TrailRecord | None)
        self._begins = array("q", (begin for begin in begins if begin > 0))

    def dump_changes(self) -> dict[int, bytes | None]:
        """Give the records that changed since the last call."""
        changed, self.changed = self.changed, {}
        return changed
