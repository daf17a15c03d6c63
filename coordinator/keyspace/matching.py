"""Finds what is interested in a key: single keys, prefixes, and other ranges.

Pure. Looking a key up costs one dictionary access for single keys and one for each length of
prefix that is present, however many are registered; other ranges, which are rare, lie in a list.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import Generic, NamedTuple, TypeVar

from .records import FROM_KEY, SPACES, prefix_end

Item = TypeVar("Item")


class Span(NamedTuple):
    """A key or a range of keys of one space, as requests state it."""

    space: int
    key: bytes
    range_end: bytes

    @property
    def prefix(self) -> bytes | None:
        """The prefix that makes up exactly this range; None if there is no such prefix."""
        if not self.range_end:
            return None
        if self.range_end == FROM_KEY and self.key <= FROM_KEY:
            return b""
        return self.key if self.range_end == prefix_end(self.key) else None


class _Index(Generic[Item]):
    """The items of one space."""

    __slots__ = ("exact", "lengths", "prefixes", "ranges", "uses")

    def __init__(self) -> None:
        self.exact: dict[bytes, Item] = {}
        self.prefixes: dict[bytes, Item] = {}
        self.lengths: list[int] = []
        """The lengths of the prefixes that are present, ascending."""
        self.uses: dict[int, int] = {}
        self.ranges: list[tuple[bytes, bytes, Item]] = []
        """Ordered by lower bound; an upper bound of ``FROM_KEY`` is none."""


class Matcher(Generic[Item]):
    """One item for each span."""

    __slots__ = ("_indexes",)

    def __init__(self) -> None:
        self._indexes: tuple[_Index[Item], ...] = tuple(_Index() for _ in range(SPACES))

    def add(self, span: Span, item: Item) -> None:
        """Register the item of a span that has none."""
        index = self._indexes[span.space]
        prefix = span.prefix
        if not span.range_end:
            index.exact[span.key] = item
        elif prefix is None:
            entry = (span.key, span.range_end, item)
            insort(index.ranges, entry, key=_bounds)
        else:
            index.prefixes[prefix] = item
            length = len(prefix)
            index.uses[length] = index.uses.get(length, 0) + 1
            if index.uses[length] == 1:
                insort(index.lengths, length)

    def remove(self, span: Span) -> None:
        """Take back `add`."""
        index = self._indexes[span.space]
        prefix = span.prefix
        if not span.range_end:
            del index.exact[span.key]
        elif prefix is None:
            bounds = (span.key, span.range_end)
            del index.ranges[bisect_left(index.ranges, bounds, key=_bounds)]
        else:
            del index.prefixes[prefix]
            length = len(prefix)
            index.uses[length] -= 1
            if not index.uses[length]:
                del index.uses[length]
                index.lengths.remove(length)

    def match(self, space: int, key: bytes) -> list[Item]:
        """The items of every span that contains a key."""
        index = self._indexes[space]
        found: list[Item] = []
        item = index.exact.get(key)
        if item is not None:
            found.append(item)
        if index.lengths:
            prefixes = index.prefixes
            size = len(key)
            for length in index.lengths:
                if length > size:
                    break
                item = prefixes.get(key[:length])
                if item is not None:
                    found.append(item)
        if index.ranges:
            for lower, upper, item in index.ranges:
                if lower > key:
                    break
                if key < upper or upper == FROM_KEY:
                    found.append(item)
        return found


def _bounds(entry: tuple[bytes, bytes, Item]) -> tuple[bytes, bytes]:
    return entry[0], entry[1]
