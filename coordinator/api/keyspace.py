"""The operations of the keyspace: keys, transactions, history, leases."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from coordinator.api.connection import Connection
from coordinator.api.dispatch import broken, guarded, timed_first
from coordinator.api.holdings import admit_lease
from coordinator.api.limits import Limits
from coordinator.api.permits import authorize, shown
from coordinator.api.reading import filled
from coordinator.api.registry import Caller, Change, Live, Operation, chosen_id
from coordinator.keyspace import PLAIN, Keyspace, PendingRange, check, only_reads, refusals
from coordinator.keyspace.ranges import past_steps
from coordinator.keyspace.records import upper_bound
from coordinator.replica.commands import is_large
from coordinator_sdk.errors import CoordinatorError, InvalidRequest
from coordinator_sdk.protocol.kv import (
    Compact,
    Delete,
    LeaseGrant,
    LeaseInfo,
    LeaseKeepAlive,
    LeaseKeepAliveResult,
    LeaseList,
    LeaseListResult,
    LeaseRevoke,
    LeaseTimeToLive,
    Put,
    Range,
    RangeResult,
    SortOrder,
    Txn,
    TxnResult,
)

if TYPE_CHECKING:
    from coordinator.node.node import Node

LEASES_PER_RENEWAL = 10_000
JSON_KEYS_MAX = 10_000
"""Keys in one answer in JSON."""
LARGE_KEYS = 5_000
"""Keys of a range from which on it is read in slices."""
SLICE_S = 0.005
"""How long a large range is read before others get their turn."""


def operations(limits: Limits) -> Mapping[type[Any], Operation]:
    """Give the operations of the keyspace by request type."""
    ops_max = limits.txn_ops

    def check_txn(op: Txn) -> None:
        check.check(op, ops_max)

    return {
        Put: Change(check.check),
        Delete: Change(check.check),
        Range: Live(_range, _check_range, judges_itself=True),
        Txn: Change(check_txn, instead=_read_txn),
        Compact: Change(),
        LeaseGrant: Change(prepare=_choose_lease, instead=admit_lease),
        LeaseRevoke: Change(),
        LeaseKeepAlive: Live(_keep_alive, _check_keep_alive, at_once=True),
        LeaseTimeToLive: Live(_time_to_live),
        LeaseList: Live(_list_leases),
    }


# ---------------------------------------------------------------- reading


def at_most(op: Range) -> None:
    """Bound an answer in JSON, which takes long to write; ``more`` tells that there is more."""
    if not 0 < op.limit < JSON_KEYS_MAX:
        op.limit = JSON_KEYS_MAX


def _check_range(op: Range) -> None:
    check.check(op)
    for field in ("max_staleness_ms", "min_revision"):
        if getattr(op, field) < 0:
            raise InvalidRequest(f"{field} must not be negative", field=field)


def _range(connection: Connection, id: int, op: Range) -> None:
    if not connection.codec.binary:
        at_most(op)
    connection.node.read(
        partial(_answer_range, connection, id, op),
        min_revision=op.min_revision,
        serializable=op.serializable,
        max_staleness_ms=op.max_staleness_ms,
    )


def _answer_range(
    connection: Connection, id: int, op: Range, error: CoordinatorError | None
) -> None:
    """Answer from the published state. Runs inside the node's turn: it must not raise."""
    if error is not None:
        connection.fail(id, error)
        return
    if connection.is_closed or connection.defer(partial(_answer_range, connection, id, op, None)):
        return
    try:
        keyspace = connection.node.keyspace
        authorize(connection.node, connection.caller, op)
        if is_large_range(keyspace, op):
            connection.spawn(guarded(connection, id, _large_range(connection, id, op)))
            return
        found = keyspace.range(op)
        if type(found) is RangeResult:
            connection.answer(id, found.revision, found)
        else:
            connection.spawn(guarded(connection, id, _fill_range(connection, id, found)))
    except CoordinatorError as refused:
        connection.fail(id, refused)
    except Exception as failure:
        broken(connection, id, failure)


def is_large_range(keyspace: Keyspace, op: Range) -> bool:
    """Whether a range takes so long to read that others should get their turn meanwhile."""
    if op.count_only or not op.range_end:
        return False
    if 0 < op.limit <= LARGE_KEYS and op.sort_order == SortOrder.NONE:
        return False
    return keyspace.stores[op.space].count(op.key, upper_bound(op.range_end)) > LARGE_KEYS


def _check_readable(keyspace: Keyspace, revision: int) -> None:
    if revision > keyspace.revision:
        raise refusals.future_revision(revision, keyspace.revision)
    if revision < keyspace.compact_revision:
        raise refusals.compacted(keyspace.compact_revision)


async def _large_range(connection: Connection, id: int, op: Range) -> None:
    result = await read_in_slices(connection.node, op)
    connection.answer(id, result.revision, result)


async def read_in_slices(node: Node, op: Range) -> RangeResult:
    """Read a large range in slices, at the revision at which it began.

    Raises:
        CoordinatorError: The revision cannot be read, or compaction overtook it.
    """
    loop = asyncio.get_running_loop()
    keyspace = node.keyspace
    at = op.revision or keyspace.revision
    _check_readable(keyspace, at)
    store = keyspace.stores[op.space]
    steps = past_steps(store, op, at, keyspace.revision, keyspace.resolve)
    deadline = loop.time() + SLICE_S
    while True:
        try:
            next(steps)
        except StopIteration as done:
            found = done.value
            break
        if loop.time() > deadline:
            await asyncio.sleep(0)
            _check_readable(keyspace, at)
            deadline = loop.time() + SLICE_S
    return await filled(node, found)


async def _fill_range(connection: Connection, id: int, found: Any) -> None:
    result = await filled(connection.node, found)
    connection.answer(id, result.revision, result)


def _read_txn(connection: Connection, id: int, op: Txn) -> bool:
    """Serve a transaction that only reads without the log, unless that takes long.

    As an entry it is served in slices: others are not kept waiting, and it sees one state.
    """
    if op.guard is not None or not only_reads(op) or is_large(connection.node.machine, op):
        return False

    def ready(error: CoordinatorError | None) -> None:
        if error is not None:
            connection.fail(id, error)
            return
        try:
            authorize(connection.node, connection.caller, op)
            result, pending = connection.node.keyspace.read_txn(op)
            if pending:
                connection.spawn(guarded(connection, id, fill(result, pending)))
            else:
                connection.answer(id, result.revision, result)
        except CoordinatorError as refused:
            connection.fail(id, refused)
        except Exception as failure:
            broken(connection, id, failure)

    async def fill(result: TxnResult, pending: list[PendingRange]) -> None:
        for part in pending:
            await filled(connection.node, part)
        connection.answer(id, result.revision, result)

    connection.node.read(ready)
    return True


# ---------------------------------------------------------------- leases


def _choose_lease(op: LeaseGrant, caller: Caller, id: int) -> None:
    if not op.lease:
        op.lease = chosen_id(caller, id)


def _check_keep_alive(op: LeaseKeepAlive) -> None:
    if len(op.leases) > LEASES_PER_RENEWAL:
        raise InvalidRequest(f"leases: at most {LEASES_PER_RENEWAL} at once", field="leases")
    for index, lease in enumerate(op.leases):
        if lease <= 0:
            raise InvalidRequest(f"leases[{index}]: ids are positive", field=f"leases[{index}]")


def _keep_alive(connection: Connection, id: int, op: LeaseKeepAlive) -> None:
    def done(ttls: list[int] | CoordinatorError) -> None:
        if isinstance(ttls, CoordinatorError):
            connection.fail(id, ttls)
        else:
            connection.answer(id, connection.node.revision, LeaseKeepAliveResult(ttls))

    connection.node.keepalive(op.leases, done)


def _time_to_live(connection: Connection, id: int, op: LeaseTimeToLive) -> None:
    node = connection.node

    def found() -> list[LeaseInfo]:
        lease = node.keyspace.leases.get(op.lease, PLAIN)
        if lease is None:
            return []
        keys = node.keyspace.lease_keys(op.lease) if op.keys else []
        return [LeaseInfo(op.lease, lease.ttl_ms, 0, keys)]

    def answer(infos: list[LeaseInfo]) -> LeaseInfo:
        return infos[0] if infos and infos[0].remaining_ms >= 0 else LeaseInfo(op.lease)

    node.read(partial(timed_first, connection, id, found, _lease_of, answer))


def _list_leases(connection: Connection, id: int, op: LeaseList) -> None:
    node = connection.node

    def found() -> list[LeaseInfo]:
        return [LeaseInfo(one.id, one.ttl_ms) for one in node.keyspace.leases.list(PLAIN)]

    def answer(infos: list[LeaseInfo]) -> LeaseListResult:
        return shown(node, connection.caller, op, LeaseListResult(infos))

    node.read(partial(timed_first, connection, id, found, _lease_of, answer))


def _lease_of(info: LeaseInfo) -> int:
    return info.lease
