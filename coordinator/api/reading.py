"""The system keyspace as queries see it, now or at a past revision."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from itertools import islice
from typing import TYPE_CHECKING

from coordinator.api.registry import KeyRange
from coordinator.keyspace import SYSTEM, Keyspace, PendingRange
from coordinator_sdk.protocol.kv import KeyValue, Range, RangeResult, SortOrder

if TYPE_CHECKING:
    from coordinator.node.node import Node
    from coordinator_sdk.errors import CoordinatorError


class NowView:
    """The published state. To be used at once, not kept."""

    def __init__(self, keyspace: Keyspace) -> None:
        self._keyspace = keyspace
        self.revision = keyspace.revision

    def get(self, key: bytes) -> KeyValue | None:
        """Read one record."""
        return self._keyspace.get(SYSTEM, key)

    def scan(
        self, start: bytes, end: bytes, limit: int = 0, reverse: bool = False
    ) -> list[KeyValue]:
        """Read the records with start <= key < end; ``limit`` 0 means all."""
        if start >= end:
            return []
        keyspace = self._keyspace
        if keyspace.open is None or not keyspace.open.changed:
            store = keyspace.stores[SYSTEM]
            if reverse and limit == 1:
                last = store.last(start, end)
                return [] if last is None else [last]
            keys = store.keys.keys(start, end, False, True)
            if reverse:
                names = list(keys)[::-1][: limit or None]
            else:
                names = list(islice(keys, limit or None))
            live = store.live
            return [live[name] for name in names]
        order = SortOrder.DESCEND if reverse else SortOrder.NONE
        found = keyspace.range(Range(start, end, limit, sort_order=order, space=SYSTEM))
        assert isinstance(found, RangeResult), "the present needs no values of the past"
        return found.kvs

    def count(self, start: bytes, end: bytes) -> int:
        """Count the records with start <= key < end."""
        if start >= end:
            return 0
        found = self._keyspace.range(Range(start, end, count_only=True, space=SYSTEM))
        assert isinstance(found, RangeResult)
        return found.count


class PastView:
    """Records of a past revision, gathered beforehand."""

    def __init__(self, revision: int, records: list[KeyValue]) -> None:
        self.revision = revision
        self._records = sorted(records, key=_key)
        self._keys = [record.key for record in self._records]

    def get(self, key: bytes) -> KeyValue | None:
        """Read one record."""
        at = bisect_left(self._keys, key)
        return self._records[at] if self._keys[at : at + 1] == [key] else None

    def scan(
        self, start: bytes, end: bytes, limit: int = 0, reverse: bool = False
    ) -> list[KeyValue]:
        """Read the records with start <= key < end; ``limit`` 0 means all."""
        found = self._records[bisect_left(self._keys, start) : bisect_left(self._keys, end)]
        if reverse:
            found.reverse()
        return found[:limit] if limit else found

    def count(self, start: bytes, end: bytes) -> int:
        """Count the records with start <= key < end."""
        return max(0, bisect_left(self._keys, end) - bisect_left(self._keys, start))


def _key(record: KeyValue) -> bytes:
    return record.key


async def filled(node: Node, found: RangeResult | PendingRange) -> RangeResult:
    """Fetch the values of the past that an answer lacks.

    Raises:
        Compacted: They are gone by now.
    """
    if isinstance(found, RangeResult):
        return found
    return found.fill(await node.old_values([place[1:] for place in found.missing]))


async def past_view(node: Node, ranges: list[KeyRange], revision: int) -> PastView:
    """Gather the system records of some ranges as they were at a revision.

    Raises:
        Compacted: The revision is gone.
        FutureRevision: The revision is still to come.
    """
    parts = [
        node.keyspace.range(Range(start, end, revision=revision, space=SYSTEM))
        for start, end in ranges
        if start < end
    ]
    records: dict[bytes, KeyValue] = {}
    for part in parts:
        for record in (await filled(node, part)).kvs:
            records[record.key] = record
    return PastView(revision, list(records.values()))


async def fresh(node: Node) -> None:
    """Wait until this member knows what was acknowledged before.

    Raises:
        CoordinatorError: Nobody can tell how much that is.
    """
    told: asyncio.Future[CoordinatorError | None] = asyncio.get_running_loop().create_future()

    def done(error: CoordinatorError | None) -> None:
        if not told.done():
            told.set_result(error)

    node.read(done)
    error = await told
    if error is not None:
        raise error
