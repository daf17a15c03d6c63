"""One space of keys: live records, their order, and what is remembered of the past.

Pure. A point read or write of an existing key touches only dictionaries; the ordered sets change
only when a key appears or goes. Invariants:

- ``keys`` holds exactly the keys of ``live``; ``ghosts`` exactly the keys of ``history`` that
  are not live.
- ``history[key]`` is ordered by (mod_revision, sub), is never empty, and ends below the live
  record.
- ``subs`` holds the position within its entry of every live record for which it is not 0.
- ``digests`` holds the digest of some live records: what is written again soon is not hashed twice.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import islice
from operator import attrgetter
from typing import TYPE_CHECKING, Final, Protocol

from BTrees.OOBTree import OOTreeSet

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from coordinator_sdk.protocol.kv import KeyValue

    from .records import Version

DIGESTS_MAX: Final = 32_768
"""Rows whose digest is remembered; forgotten all at once, so that remembering costs nothing."""

_mod_revision = attrgetter("mod_revision")


class KeySet(Protocol):
    """An ordered set of keys."""

    def __len__(self) -> int: ...
    def __contains__(self, key: bytes) -> bool: ...
    def __iter__(self) -> Iterator[bytes]: ...
    def insert(self, key: bytes) -> int:
        """Add a key; 0 if it was there."""

    def update(self, keys: Iterable[bytes]) -> int:
        """Add keys; how many of them were not there."""

    def remove(self, key: bytes) -> None:
        """Take a key out; KeyError if it is not there."""

    def maxKey(self, bound: bytes) -> bytes:
        """The largest key at or below a bound; ValueError if there is none."""

    def keys(
        self, lower: bytes, upper: bytes | None, exclude_lower: bool, exclude_upper: bool
    ) -> Sequence[bytes]:
        """A lazy view of the keys between two bounds; an upper bound of None is no bound."""


def key_set(keys: Iterable[bytes] = ()) -> KeySet:
    """A new ordered set; building it from sorted keys is several times faster."""
    made: KeySet = OOTreeSet(keys)
    return made


class Space:
    """The state of one space. Written only by the open transaction, by sweeping and by loading."""

    __slots__ = ("digests", "ghosts", "history", "keys", "live", "number", "subs")

    def __init__(self, number: int) -> None:
        self.number = number
        self.live: dict[bytes, KeyValue] = {}
        self.keys = key_set()
        self.ghosts = key_set()
        self.history: dict[bytes, list[Version]] = {}
        self.subs: dict[bytes, int] = {}
        self.digests: dict[bytes, int] = {}

    def find_at(self, key: bytes, revision: int) -> KeyValue | Version | None:
        """The version of ``key`` that was live at ``revision``, which must not be compacted."""
        record = self.live.get(key)
        if record is not None and record.mod_revision <= revision:
            return record
        versions = self.history.get(key)
        if versions is None:
            return None
        position = bisect_right(versions, revision, key=_mod_revision)
        if position == 0:
            return None
        found = versions[position - 1]
        return found if found.version else None

    def count(self, lower: bytes, upper: bytes | None) -> int:
        """How many live keys lie in a range."""
        return len(self.keys.keys(lower, upper, False, upper is not None))

    def last(self, lower: bytes, upper: bytes) -> KeyValue | None:
        """The last live record with lower <= key < upper, without walking the range."""
        try:
            key: bytes = self.keys.maxKey(upper)
        except ValueError:  # nothing at or below the bound
            return None
        if key == upper:
            names = self.keys.keys(lower, upper, False, True)
            key = names[-1] if names else upper
        return self.live[key] if lower <= key < upper else None

    def live_chunks(self, lower: bytes, upper: bytes | None, size: int) -> Iterator[list[bytes]]:
        """The live keys of a range in order, in lists of at most ``size``; none is empty.

        Keys may come and go between two lists: each key that stays is seen once.
        """
        bounded = upper is not None
        exclude = False
        while True:
            names = list(islice(self.keys.keys(lower, upper, exclude, bounded), size))
            if names:
                yield names
            if len(names) < size:
                return
            lower, exclude = names[-1], True

    def all_chunks(self, lower: bytes, upper: bytes | None, size: int) -> Iterator[list[bytes]]:
        """As `live_chunks`, with the keys that are gone but remembered."""
        bounded = upper is not None
        exclude = False
        while True:
            alive = list(islice(self.keys.keys(lower, upper, exclude, bounded), size))
            names = list(islice(self.ghosts.keys(lower, upper, exclude, bounded), size))
            # A set that filled its portion may have more keys just behind its last one, so
            # the order is known only up to there.
            ends = [part[-1] for part in (alive, names) if len(part) == size]
            if alive:
                names += alive
                names.sort()
            if ends:
                del names[bisect_right(names, min(ends)) :]
            if names:
                yield names
            if not ends:
                return
            lower, exclude = names[-1], True
