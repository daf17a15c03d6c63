"""The operations of the key-value calls, executed on a view with etcd's semantics.

Pure. A nested transaction decides all its branches, from the state before the entry, before it
applies anything; what can be refused is refused before anything is applied. Written without
recursion: nesting is driven by an explicit stack.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from coordinator_sdk.protocol.kv import (
    Compare,
    CompareResult,
    CompareTarget,
    Delete,
    DeleteResult,
    KeyValue,
    Put,
    PutResult,
    Range,
    RangeResult,
    Txn,
    TxnResult,
)

from . import refusals
from .records import USER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .ranges import Steps
    from .transaction import Transaction

Op = Put | Range | Delete | Txn
OpResult = PutResult | RangeResult | DeleteResult | TxnResult

_Leaf = tuple[Put | Range | Delete, list[Any], int]
"""An operation to apply, and where its answer goes."""

_PAUSE_OPS = 128
"""A transaction of many small operations pauses this often."""

_VALUE = int(CompareTarget.VALUE)
_NOTHING = KeyValue(b"")


class View(Protocol):
    """What an operation reads from: an open transaction, or the published state."""

    @property
    def header_revision(self) -> int:
        """The revision that an answer given now states."""

    def get(self, space: int, key: bytes) -> KeyValue | None:
        """The live record of a key."""

    def record_chunks(self, space: int, key: bytes, range_end: bytes) -> Iterator[list[KeyValue]]:
        """The live records of a range in portions."""

    def range_steps(self, op: Range) -> Steps[RangeResult]:
        """Answer a range."""

    def check_revision(self, revision: int) -> None:
        """Refuse a revision that cannot be read."""


def put(txn: Transaction, op: Put) -> PutResult:
    """Write one key of the user's space."""
    value, lease = op.value, op.lease
    if lease and txn.get_lease(lease) is None:
        raise refusals.lease_not_found(lease)
    old: KeyValue | None = None
    if op.prev_kv or op.ignore_value or op.ignore_lease:
        old = txn.get(USER, op.key)
        if old is None and (op.ignore_value or op.ignore_lease):
            raise refusals.key_not_found()
        if old is not None:
            if op.ignore_value:
                value = old.value
            if op.ignore_lease:
                lease = old.lease
    txn.put(USER, op.key, value, lease)
    return PutResult(txn.revision, old if op.prev_kv else None)


def steps(txn: Transaction, op: Op) -> Steps[OpResult]:
    """Execute any operation in slices."""
    if type(op) is Txn:
        return (yield from _txn_steps(txn, op))
    assert not isinstance(op, Txn)
    return (yield from _leaf_steps(txn, op))


def read_steps(view: View, op: Txn) -> Steps[TxnResult]:
    """Execute a transaction that only reads, on any view."""
    result, leaves = yield from _decide_steps(view, op)
    _refuse_ranges(view, leaves)
    for leaf, answers, position in leaves:
        assert isinstance(leaf, Range), "the transaction only reads"
        answers[position] = yield from view.range_steps(leaf)
    result.revision = view.header_revision
    return result


def only_reads(op: Op) -> bool:
    """Whether an operation changes nothing, whichever branch it takes."""
    pending: list[Op] = [op]
    while pending:
        last = pending.pop()
        if isinstance(last, Txn):
            pending += last.success
            pending += last.failure
        elif not isinstance(last, Range):
            return False
    return True


def compare_steps(view: View, compare: Compare, space: int = USER) -> Steps[bool]:
    """Whether a condition holds; with ``range_end``, for every key of the range."""
    if not compare.range_end:
        record = view.get(space, compare.key)
        return _holds_for_none(compare) if record is None else _holds(compare, record)
    empty = True
    for records in view.record_chunks(space, compare.key, compare.range_end):
        empty = False
        for record in records:
            if not _holds(compare, record):
                return False
        yield
    return _holds_for_none(compare) if empty else True


def _leaf_steps(txn: Transaction, op: Put | Range | Delete) -> Steps[OpResult]:
    if type(op) is Put:
        return put(txn, op)
    if type(op) is Range:
        return (yield from txn.range_steps(op))
    assert isinstance(op, Delete)
    deleted: list[KeyValue] = []
    if op.range_end:
        count = yield from txn.delete_range_steps(
            USER, op.key, op.range_end, deleted if op.prev_kv else None
        )
    else:
        old = txn.delete(USER, op.key)
        count = 0 if old is None else 1
        if old is not None and op.prev_kv:
            deleted.append(old)
    return DeleteResult(txn.header_revision, count, deleted)


def _txn_steps(txn: Transaction, op: Txn) -> Steps[TxnResult]:
    result, leaves = yield from _decide_steps(txn, op)
    _refuse_puts(txn, leaves)
    _refuse_ranges(txn, leaves)
    for number, (leaf, answers, position) in enumerate(leaves, 1):
        answers[position] = yield from _leaf_steps(txn, leaf)
        if number % _PAUSE_OPS == 0:
            yield
    result.revision = txn.header_revision
    return result


def _decide_steps(view: View, root: Txn) -> Steps[tuple[TxnResult, list[_Leaf]]]:
    """Evaluate every compare on the way, and list what is to be applied, in order."""
    leaves: list[_Leaf] = []
    result, branch = yield from _branch_steps(view, root)
    stack = [(iter(enumerate(branch)), result.responses)]
    while stack:
        operations, answers = stack[-1]
        for position, op in operations:
            if isinstance(op, Txn):
                inner, branch = yield from _branch_steps(view, op)
                answers[position] = inner
                stack.append((iter(enumerate(branch)), inner.responses))
                break
            leaves.append((op, answers, position))
        else:
            stack.pop()
    return result, leaves


def _branch_steps(view: View, op: Txn) -> Steps[tuple[TxnResult, list[Op]]]:
    succeeded = True
    for compare in op.compare:
        if not (yield from compare_steps(view, compare)):
            succeeded = False
            break
    branch = op.success if succeeded else op.failure
    responses: list[Any] = [None] * len(branch)
    # As in etcd, only the outermost answer states a revision.
    return TxnResult(0, succeeded, responses), branch


def _refuse_puts(txn: Transaction, leaves: list[_Leaf]) -> None:
    for op, _, _ in leaves:
        if type(op) is not Put:
            continue
        # In this order here, and in the other in a put that stands alone: as in etcd.
        if (op.ignore_value or op.ignore_lease) and txn.get(USER, op.key) is None:
            raise refusals.key_not_found()
        if op.lease and txn.get_lease(op.lease) is None:
            raise refusals.lease_not_found(op.lease)


def _refuse_ranges(view: View, leaves: list[_Leaf]) -> None:
    for op, _, _ in leaves:
        if type(op) is Range and op.revision:
            view.check_revision(op.revision)


def _holds_for_none(compare: Compare) -> bool:
    # An empty value cannot be told from a missing one, so a value compare fails outright.
    return compare.target != _VALUE and _holds(compare, _NOTHING)


def _holds(compare: Compare, kv: KeyValue) -> bool:
    found: int | bytes
    wanted: int | bytes = compare.number
    match compare.target:
        case CompareTarget.VERSION:
            found = kv.version
        case CompareTarget.CREATE:
            found = kv.create_revision
        case CompareTarget.MOD:
            found = kv.mod_revision
        case CompareTarget.VALUE:
            found, wanted = kv.value, compare.value
        case _:
            found = kv.lease
    match compare.result:
        case CompareResult.EQUAL:
            return found == wanted
        case CompareResult.NOT_EQUAL:
            return found != wanted
        case CompareResult.GREATER:
            return found > wanted  # type: ignore[operator]
        case _:
            return found < wanted  # type: ignore[operator]
