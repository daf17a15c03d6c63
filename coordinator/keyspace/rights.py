"""What the permissions of some roles allow together: keys as intervals, names as patterns.

Pure. A range of keys is allowed if the permissions cover it together, whichever role each of
them comes from, as in etcd.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Final

from coordinator_sdk.protocol.auth import Access, DomainPermission, KeyPermission

if TYPE_CHECKING:
    from collections.abc import Iterable

Interval = tuple[bytes, bytes | None]
"""From the first key up to but not including the second; None for every key from there on."""

_FIRST: Final = b"\0"
"""No key is empty, so this is the least one."""


def interval_of(key: bytes, range_end: bytes) -> Interval | None:
    """Give the keys that a key and a range end name, as in a range request; None for none."""
    start = max(key, _FIRST)
    if not range_end:
        return (start, start + b"\0")
    if range_end == b"\0":
        return (start, None)
    return (start, range_end) if start < range_end else None


class KeySet:
    """A set of keys, made of intervals."""

    __slots__ = ("_ends", "_starts")

    def __init__(self, intervals: Iterable[Interval] = ()) -> None:
        self._starts: list[bytes] = []
        self._ends: list[bytes | None] = []
        for start, end in sorted(intervals, key=_start_of):
            if not self._starts or not _reaches(self._ends[-1], start):
                self._starts.append(start)
                self._ends.append(end)
            elif end is None or not _reaches(self._ends[-1], end):
                self._ends[-1] = end

    def __bool__(self) -> bool:
        return bool(self._starts)

    def covers(self, key: bytes, range_end: bytes = b"") -> bool:
        """Tell whether every key of a range is in the set; an empty range's are."""
        wanted = interval_of(key, range_end)
        if wanted is None:
            # Nobody learns anything from it, but where it would begin has to be allowed.
            wanted = (max(key, _FIRST), max(key, _FIRST) + b"\0")
        start, end = wanted
        at = bisect_right(self._starts, start) - 1
        if at < 0:
            return False
        last = self._ends[at]
        return last is None or (end is not None and end <= last)

    def covers_all(self, keys: Iterable[bytes]) -> bool:
        """Tell whether all these keys are in the set."""
        names = list(keys)
        if not names:
            return True
        first, last = min(names), max(names)
        return self.covers(first, last + b"\0") or all(map(self.covers, names))


def _start_of(interval: Interval) -> bytes:
    return interval[0]


def _reaches(end: bytes | None, key: bytes) -> bool:
    return end is None or end >= key


class Rights:
    """What somebody may do.

    Attributes:
        is_root: Everything.
        readable: The keys that may be read.
        writable: The keys that may be written.
    """

    __slots__ = ("_domains", "is_root", "readable", "writable")

    def __init__(
        self,
        keys: Iterable[KeyPermission] = (),
        domains: Iterable[DomainPermission] = (),
        *,
        is_root: bool = False,
    ) -> None:
        self.is_root = is_root
        spans = [(one.access, interval_of(one.key, one.range_end)) for one in keys]
        self.readable = KeySet(span for access, span in spans if span and access != Access.WRITE)
        self.writable = KeySet(span for access, span in spans if span and access != Access.READ)
        self._domains: dict[str, list[DomainPermission]] = {}
        for one in domains:
            self._domains.setdefault(one.action, []).append(one)

    def may_read(self, key: bytes, range_end: bytes = b"") -> bool:
        """Tell whether every key of a range may be read."""
        return self.is_root or self.readable.covers(key, range_end)

    def may_write(self, key: bytes, range_end: bytes = b"") -> bool:
        """Tell whether every key of a range may be written."""
        return self.is_root or self.writable.covers(key, range_end)

    def may(self, action: str, namespace: str = "", name: str = "") -> bool:
        """Tell whether an action is allowed on what has this name."""
        return self.is_root or any(
            matches(one.namespace, namespace) and matches(one.name, name)
            for one in self._about(action)
        )

    def may_all(self, action: str, namespace: str, prefix: str) -> bool:
        """Tell whether an action is allowed on everything whose name begins so."""
        return self.is_root or any(
            matches(one.namespace, namespace)
            and one.name.endswith("*")
            and prefix.startswith(one.name[:-1])
            for one in self._about(action)
        )

    def may_some(self, action: str, namespace: str = "") -> bool:
        """Tell whether an action is allowed on anything at all in a namespace."""
        return self.is_root or any(matches(one.namespace, namespace) for one in self._about(action))

    def _about(self, action: str) -> list[DomainPermission]:
        every = action.partition(":")[0] + ":*"
        return self._domains.get(action, []) + self._domains.get(every, [])


def matches(pattern: str, text: str) -> bool:
    """Tell whether a pattern stands for a text; ``*`` at its end stands for any rest."""
    if pattern.endswith("*"):
        return text.startswith(pattern[:-1])
    return text == pattern
