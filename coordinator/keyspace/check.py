"""What is wrong with an operation whatever the state is.

Pure. Checked before an operation is proposed, so that it never reaches the log. The rules, their
order and their texts are etcd's. Beyond them, ``strict`` refuses numbers that etcd quietly takes
for zero; the etcd faces leave it off.
"""

from __future__ import annotations

from typing import Final

from coordinator_sdk.errors import InvalidRequest
from coordinator_sdk.protocol.kv import (
    Compare,
    CompareResult,
    CompareTarget,
    Delete,
    Guard,
    Put,
    Range,
    SortOrder,
    SortTarget,
    Txn,
    Watch,
)

from . import refusals
from .records import FROM_KEY, SPACES

OPS_MAX: Final = 128
"""Compares, or operations of a branch, in one transaction; a nested one gets what is left."""

GUARD_NAME_MAX: Final = 256
"""Characters of each name in a guard; nothing that can be held has a longer one."""

_Op = Put | Range | Delete | Txn
_Interval = tuple[bytes, bytes]

_ORDERS: Final = frozenset(map(int, SortOrder))
_TARGETS: Final = frozenset(map(int, SortTarget))
_RESULTS: Final = frozenset(map(int, CompareResult))
_COMPARED: Final = frozenset(map(int, CompareTarget))


def check(op: _Op, ops_max: int = OPS_MAX, strict: bool = True) -> None:
    """Refuse an operation that can never succeed.

    Args:
        op: The operation.
        ops_max: How many compares, or operations of a branch, a transaction may have.
        strict: Also refuse negative numbers where only positive ones have a meaning.

    Raises:
        InvalidRequest: ``details["field"]`` names the field.
    """
    if type(op) is Put:
        _check_put(op, "", strict)
    elif type(op) is Range:
        _check_range(op, "", strict)
    elif type(op) is Delete:
        _check_delete(op, "")
    elif type(op) is Txn:
        _check_txn(op, ops_max, strict)
        _writes(op.success, "success")
        _writes(op.failure, "failure")
    else:
        raise refusals.key_not_found("")


def check_watch(op: Watch) -> None:
    """Refuse a watch that covers no key or has a number without a meaning.

    Raises:
        InvalidRequest: ``details["field"]`` names the field.
    """
    if op.range_end and op.range_end != FROM_KEY and (op.key or b"\0") >= op.range_end:
        raise refusals.empty_watch_range()
    if not 0 <= op.space < SPACES:
        raise _unknown("space", op.space)
    if op.credit < 0:
        raise _negative("credit")


def _check_put(op: Put, at: str, strict: bool) -> None:
    if not op.key:
        raise refusals.empty_key(at + "key")
    if op.ignore_value and op.value:
        raise refusals.value_provided(at + "value")
    if op.ignore_lease and op.lease:
        raise refusals.lease_provided(at + "lease")
    if strict and op.lease < 0:
        raise _negative(at + "lease")
    if op.guard is not None:
        _check_guard(op.guard, at)


def _check_delete(op: Delete, at: str) -> None:
    if not op.key:
        raise refusals.empty_key(at + "key")
    if op.guard is not None:
        _check_guard(op.guard, at)


def _check_guard(guard: Guard, at: str) -> None:
    """Bound what a refusal repeats: its text is kept in the request table."""
    for name in ("kind", "namespace", "name", "owner"):
        if len(getattr(guard, name)) > GUARD_NAME_MAX:
            field = f"{at}guard.{name}"
            raise InvalidRequest(f"{field}: at most {GUARD_NAME_MAX} characters", field=field)


def _check_range(op: Range, at: str, strict: bool) -> None:
    if not op.key:
        raise refusals.empty_key(at + "key")
    if op.sort_order not in _ORDERS:
        raise refusals.invalid_sort(at + "sort_order")
    if op.sort_target not in _TARGETS:
        raise refusals.invalid_sort(at + "sort_target")
    if not 0 <= op.space < SPACES:
        raise _unknown(at + "space", op.space)
    if not strict:
        return
    numbers = (
        ("limit", op.limit),
        ("revision", op.revision),
        ("min_mod_revision", op.min_mod_revision),
        ("max_mod_revision", op.max_mod_revision),
        ("min_create_revision", op.min_create_revision),
        ("max_create_revision", op.max_create_revision),
    )
    for name, number in numbers:
        if number < 0:
            raise _negative(at + name)


def _check_txn(root: Txn, ops_max: int, strict: bool) -> None:
    """Walk a transaction in the order in which etcd checks it, with an explicit stack."""
    stack = [_enter(root, "", ops_max)]
    while stack:
        operations, left = stack[-1]
        if not operations:
            stack.pop()
            continue
        op, at = operations.pop()
        if type(op) is Put:
            _check_put(op, at, strict)
        elif type(op) is Range:
            _check_range(op, at, strict)
        elif type(op) is Delete:
            _check_delete(op, at)
        elif type(op) is Txn:
            stack.append(_enter(op, at, left))
        else:
            raise refusals.key_not_found(at.removesuffix("."))


def _enter(op: Txn, at: str, ops_max: int) -> tuple[list[tuple[_Op, str]], int]:
    """Check one level; its operations last first, and what is left for each level below."""
    sizes = (("compare", op.compare), ("success", op.success), ("failure", op.failure))
    count = 0
    for name, part in sizes:
        if len(part) > ops_max:
            raise refusals.too_many_operations(at + name, ops_max)
        count = max(count, len(part))
    if op.guard is not None:
        _check_guard(op.guard, at)
    for number, compare in enumerate(op.compare):
        _check_compare(compare, f"{at}compare[{number}].")
    operations: list[tuple[_Op, str]] = []
    for name, branch in (("success", op.success), ("failure", op.failure)):
        operations += [(one, f"{at}{name}[{number}].") for number, one in enumerate(branch)]
    operations.reverse()
    return operations, ops_max - count


def _check_compare(compare: Compare, at: str) -> None:
    if not compare.key:
        raise refusals.empty_key(at + "key")
    if compare.target not in _COMPARED:
        raise _unknown(at + "target", compare.target)
    if compare.result not in _RESULTS:
        raise _unknown(at + "result", compare.result)


def _writes(branch: list[_Op], at: str) -> tuple[dict[bytes, None], list[_Interval]]:
    """The keys put and the intervals deleted by a branch; none of them may meet.

    As in etcd, the puts of a nested transaction are compared with the deletes of this level and
    of the nested ones before it, and the puts of this level with all deletes; the two branches
    of one transaction may put the same key. Recursion is as deep as the nesting, which the limit
    of operations bounds.
    """
    deletes = [_interval(op) for op in branch if type(op) is Delete]
    puts: dict[bytes, None] = {}
    for number, op in enumerate(branch):
        if type(op) is not Txn:
            continue
        here = f"{at}[{number}]"
        then_puts, then_deletes = _writes(op.success, f"{here}.success")
        else_puts, else_deletes = _writes(op.failure, f"{here}.failure")
        for key in then_puts:
            if key in puts or _meets(key, deletes):
                raise refusals.duplicate_key(here)
        for key in else_puts:
            if key in puts or _meets(key, deletes):
                raise refusals.duplicate_key(here)
        puts |= then_puts
        puts |= else_puts
        deletes += then_deletes
        deletes += else_deletes
    for number, op in enumerate(branch):
        if type(op) is Put:
            if op.key in puts or _meets(op.key, deletes):
                raise refusals.duplicate_key(f"{at}[{number}].key")
            puts[op.key] = None
    return puts, deletes


def _interval(op: Delete) -> _Interval:
    # An end of b"\0" ("from key on") makes an interval that contains nothing, as in etcd.
    return op.key, op.range_end or op.key + b"\0"


def _meets(key: bytes, intervals: list[_Interval]) -> bool:
    return any(lower <= key < upper for lower, upper in intervals)


def _negative(field: str) -> InvalidRequest:
    return InvalidRequest(f"{field} must not be negative", field=field)


def _unknown(field: str, number: int) -> InvalidRequest:
    return InvalidRequest(f"{field} has no meaning for {number}", field=field)
