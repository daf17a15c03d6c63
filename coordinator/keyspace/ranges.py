"""Ranges over one space, now or at a past revision: limit, count, filters, order.

Pure. The rules are etcd's, including two that surprise: ``count`` counts every key of the range
whatever filters and limit say, and a sort target without an order sorts only what the limit let
through.

Everything is a generator that pauses between portions of keys, so that a large range inside a
large entry can be driven in slices; `drain` runs one to its end.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, TypeVar

from coordinator_sdk.protocol.kv import KeyValue, Range, RangeResult, SortOrder, SortTarget

from . import refusals
from .records import Place, Version, record_of, upper_bound

if TYPE_CHECKING:
    from .space import Space

CHUNK_KEYS: Final = 500
"""How many keys are handled between two pauses."""

Resolve = Callable[[Version], KeyValue | None]
"""Finds the record of a superseded version in memory; None if only the state database has it."""

Outcome = TypeVar("Outcome")
Steps = Generator[None, None, Outcome]
"""Work in slices: every ``next`` does one, the return value is the outcome."""

_NONE: Final = int(SortOrder.NONE)
_DESCEND: Final = int(SortOrder.DESCEND)
_KEY: Final = int(SortTarget.KEY)
_VALUE: Final = int(SortTarget.VALUE)
_SORT_KEYS: Final[dict[int, Callable[[KeyValue], Any]]] = {
    int(SortTarget.KEY): attrgetter("key"),
    int(SortTarget.VERSION): attrgetter("version"),
    int(SortTarget.CREATE): attrgetter("create_revision"),
    int(SortTarget.MOD): attrgetter("mod_revision"),
    int(SortTarget.VALUE): attrgetter("value"),
}


def drain(steps: Steps[Outcome]) -> Outcome:
    """Run a generator of slices to its end, without pauses."""
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            outcome: Outcome = stop.value
            return outcome


class PendingRange:
    """A range of the past some of whose values are only in the state database.

    Attributes:
        result: The answer; complete only after `fill`.
        missing: (position in ``result.kvs``, mod_revision, sub) of every value to fetch.
    """

    __slots__ = ("_finish", "missing", "result")

    def __init__(
        self, result: RangeResult, missing: list[tuple[int, int, int]], finish: Range | None
    ) -> None:
        self.result = result
        self.missing = missing
        # Set if the answer can only be ordered and cut once the values are there.
        self._finish = finish

    def fill(self, values: Sequence[bytes | None], compact_revision: int = 0) -> RangeResult:
        """Put the fetched values in, in the order of `missing`.

        Args:
            values: One value for each missing one; None where the database no longer has it.
            compact_revision: The compact revision by now, for the error.

        Returns:
            ``result``, changed in place.

        Raises:
            Compacted: A value is gone, because compaction overtook the fetch.
        """
        kvs = self.result.kvs
        for (position, _, _), value in zip(self.missing, values, strict=True):
            if value is None:
                raise refusals.compacted(compact_revision)
            kvs[position] = _with_value(kvs[position], value)
        self.missing = []
        if self._finish is not None:
            self.result.kvs, self.result.more = _finish(self._finish, kvs)
            self._finish = None
        return self.result


def current_steps(store: Space, op: Range, revision: int) -> Steps[RangeResult]:
    """Answer a range from the live records.

    Args:
        store: The space.
        op: The range; its own revision is ignored.
        revision: The revision that the answer states.

    Yields:
        Nothing, between portions of keys.

    Returns:
        The answer.
    """
    if not op.range_end:
        record = store.live.get(op.key)
        kvs = [] if record is None else [record]
        count = len(kvs)
    else:
        upper = upper_bound(op.range_end)
        count = store.count(op.key, upper)
        kvs = []
        if not op.count_only:
            want = _want(op)
            take = store.live.__getitem__
            size = min(want, CHUNK_KEYS) if want else CHUNK_KEYS
            for names in store.live_chunks(op.key, upper, size):
                kvs.extend(map(take, names))
                if want and len(kvs) >= want:
                    del kvs[want:]
                    break
                yield
    if op.count_only:
        return RangeResult(revision, [], False, count)
    kvs, more = _finish(op, kvs)
    return RangeResult(revision, kvs, more, count)


def past_steps(
    store: Space, op: Range, at: int, revision: int, resolve: Resolve
) -> Steps[RangeResult | PendingRange]:
    """Answer a range as it was at a past revision, which must not be compacted.

    Args:
        store: The space.
        op: The range.
        at: The revision to read.
        revision: The revision that the answer states.
        resolve: Finds old records in memory.

    Yields:
        Nothing, between portions of keys.

    Returns:
        The answer, or the answer without the values that are not in memory.
    """
    want = _want(op) or -1
    kvs: list[KeyValue] = []
    holes: dict[bytes, Place] = {}
    count = 0
    for names in _chunks(store, op.key, op.range_end):
        for name in names:
            found = store.find_at(name, at)
            if found is None:
                continue
            count += 1
            if op.count_only or len(kvs) == want:
                continue
            if isinstance(found, Version):
                record = resolve(found)
                if record is None:
                    record = record_of(found, b"")
                    holes[name] = (found.mod_revision, found.sub)
                kvs.append(record)
            else:
                kvs.append(found)
        yield
    if op.count_only:
        return RangeResult(revision, [], False, count)
    if not holes:
        kvs, more = _finish(op, kvs)
        return RangeResult(revision, kvs, more, count)
    if op.sort_target == _VALUE:
        result = RangeResult(revision, kvs, False, count)
        return PendingRange(result, _missing(kvs, holes), op)
    kvs, more = _finish(op, kvs)
    result = RangeResult(revision, kvs, more, count)
    missing = [] if op.keys_only else _missing(kvs, holes)
    return PendingRange(result, missing, None) if missing else result


def _chunks(store: Space, key: bytes, range_end: bytes) -> Iterable[list[bytes]]:
    if not range_end:
        return ([key],)
    return store.all_chunks(key, upper_bound(range_end), CHUNK_KEYS)


def _missing(kvs: list[KeyValue], holes: dict[bytes, Place]) -> list[tuple[int, int, int]]:
    return [(position, *holes[kv.key]) for position, kv in enumerate(kvs) if kv.key in holes]


def _with_value(kv: KeyValue, value: bytes) -> KeyValue:
    return KeyValue(kv.key, kv.create_revision, kv.mod_revision, kv.version, kv.lease, value)


def _filtered(op: Range) -> bool:
    return bool(
        op.min_mod_revision
        or op.max_mod_revision
        or op.min_create_revision
        or op.max_create_revision
    )


def _want(op: Range) -> int:
    """How many records to fetch before ordering and cutting; 0 means all."""
    if op.limit <= 0 or op.sort_order != _NONE or _filtered(op):
        return 0
    # One more than the limit tells whether there are more.
    return op.limit + 1


def _finish(op: Range, kvs: list[KeyValue]) -> tuple[list[KeyValue], bool]:
    """Filter, order and cut what was fetched."""
    if _filtered(op):
        kvs = [kv for kv in kvs if _passes(op, kv)]
    if op.sort_order != _NONE or op.sort_target != _KEY:
        # Stable in both directions: records that compare equal stay in the order of keys.
        kvs = sorted(kvs, key=_SORT_KEYS[op.sort_target], reverse=op.sort_order == _DESCEND)
    more = 0 < op.limit < len(kvs)
    if more:
        kvs = kvs[: op.limit]
    if op.keys_only:
        kvs = [_with_value(kv, b"") for kv in kvs]
    return kvs, more


def _passes(op: Range, kv: KeyValue) -> bool:
    if op.max_mod_revision and kv.mod_revision > op.max_mod_revision:
        return False
    if op.min_mod_revision and kv.mod_revision < op.min_mod_revision:
        return False
    if op.max_create_revision and kv.create_revision > op.max_create_revision:
        return False
    return not (op.min_create_revision and kv.create_revision < op.min_create_revision)
