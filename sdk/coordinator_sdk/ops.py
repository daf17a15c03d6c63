"""Conditions and operations of a transaction.

Example::

    from coordinator_sdk import ops

    result = await client.kv.txn(
        compare=[ops.value("color") == b"red", ops.version("shape") > 0],
        success=[ops.put("color", b"blue")],
        failure=[ops.get("color")],
    )
    if not result.succeeded:
        print(result.responses[0].kvs)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._keys import Bytes, Guarding, Identified, key_range, lease_id, to_bytes, to_guard
from .protocol.kv import Compare, CompareResult, CompareTarget, Delete, Guard, Put, Range, Txn

if TYPE_CHECKING:
    from collections.abc import Sequence


__all__ = [
    "Op",
    "create_revision",
    "delete",
    "get",
    "lease",
    "mod_revision",
    "put",
    "range",
    "txn",
    "value",
    "version",
]

Op = Put | Range | Delete | Txn
"""One operation of a transaction."""


class _Number:
    """A numeric field of a key, to be compared with ``==``, ``!=``, ``<`` or ``>``."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, target: CompareTarget, key: Bytes, prefix: bool) -> None:
        start = to_bytes(key, "key")
        self._target = target
        self._key, self._end = key_range(None, start, None) if prefix else (start, b"")

    def _compare(self, result: CompareResult, number: int) -> Compare:
        return Compare(self._target, result, self._key, number, range_end=self._end)

    def __eq__(self, number: int) -> Compare:  # type: ignore[override]
        return self._compare(CompareResult.EQUAL, number)

    def __ne__(self, number: int) -> Compare:  # type: ignore[override]
        return self._compare(CompareResult.NOT_EQUAL, number)

    def __lt__(self, number: int) -> Compare:
        return self._compare(CompareResult.LESS, number)

    def __gt__(self, number: int) -> Compare:
        return self._compare(CompareResult.GREATER, number)


class _Value:
    """The value of a key, to be compared with ``==``, ``!=``, ``<`` or ``>``."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, key: Bytes, prefix: bool) -> None:
        start = to_bytes(key, "key")
        self._key, self._end = key_range(None, start, None) if prefix else (start, b"")

    def _compare(self, result: CompareResult, value: Bytes) -> Compare:
        return Compare(
            CompareTarget.VALUE,
            result,
            self._key,
            value=to_bytes(value, "value"),
            range_end=self._end,
        )

    def __eq__(self, value: Bytes) -> Compare:  # type: ignore[override]
        return self._compare(CompareResult.EQUAL, value)

    def __ne__(self, value: Bytes) -> Compare:  # type: ignore[override]
        return self._compare(CompareResult.NOT_EQUAL, value)

    def __lt__(self, value: Bytes) -> Compare:
        return self._compare(CompareResult.LESS, value)

    def __gt__(self, value: Bytes) -> Compare:
        return self._compare(CompareResult.GREATER, value)


def value(key: Bytes, *, prefix: bool = False) -> _Value:
    """The value of ``key``, or of every key that begins with it if ``prefix``."""
    return _Value(key, prefix)


def version(key: Bytes, *, prefix: bool = False) -> _Number:
    """How often ``key`` was written since it was created; 0 if it does not exist."""
    return _Number(CompareTarget.VERSION, key, prefix)


def create_revision(key: Bytes, *, prefix: bool = False) -> _Number:
    """The revision that created ``key``; 0 if it does not exist."""
    return _Number(CompareTarget.CREATE, key, prefix)


def mod_revision(key: Bytes, *, prefix: bool = False) -> _Number:
    """The revision that last wrote ``key``; 0 if it does not exist."""
    return _Number(CompareTarget.MOD, key, prefix)


def lease(key: Bytes, *, prefix: bool = False) -> _Number:
    """The id of the lease that ``key`` hangs on; 0 for none."""
    return _Number(CompareTarget.LEASE, key, prefix)


def put(
    key: Bytes,
    value: Bytes = b"",
    *,
    lease: int | Identified = 0,
    prev_kv: bool = False,
    guard: Guarding | Guard | None = None,
) -> Put:
    """Write a key; see `KV.put`."""
    return Put(
        to_bytes(key, "key"),
        to_bytes(value, "value"),
        lease=lease_id(lease),
        prev_kv=prev_kv,
        guard=to_guard(guard),
    )


def get(key: Bytes) -> Range:
    """Read a key."""
    return Range(to_bytes(key, "key"))


def range(
    key: Bytes | None = None,
    *,
    prefix: Bytes | None = None,
    range_end: Bytes | None = None,
    limit: int = 0,
    keys_only: bool = False,
    count_only: bool = False,
) -> Range:
    """Read a range of keys; see `KV.range`."""
    start, end = key_range(key, prefix, range_end)
    return Range(start, end, limit, keys_only=keys_only, count_only=count_only)


def delete(
    key: Bytes | None = None,
    *,
    prefix: Bytes | None = None,
    range_end: Bytes | None = None,
    prev_kv: bool = False,
    guard: Guarding | Guard | None = None,
) -> Delete:
    """Delete a key or a range of keys; see `KV.delete`."""
    start, end = key_range(key, prefix, range_end)
    return Delete(start, end, prev_kv, to_guard(guard))


def txn(
    compare: Sequence[Compare] = (),
    success: Sequence[Op] = (),
    failure: Sequence[Op] = (),
) -> Txn:
    """A transaction within a transaction."""
    return Txn(list(compare), list(success), list(failure))
