"""The KV service."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from coordinator.api.keyspace import is_large_range, read_in_slices
from coordinator.api.permits import authorize
from coordinator.api.reading import filled
from coordinator.etcd import translate
from coordinator.etcd.permits import propose
from coordinator.etcd.status import Code, StatusError, told
from coordinator.keyspace import PendingRange, check, only_reads
from coordinator.replica.commands import is_large
from coordinator_sdk.errors import Compacted, CoordinatorError, error_from_wire
from coordinator_sdk.protocol.kv import (
    Compact,
    DeleteResult,
    PutResult,
    Range,
    RangeResult,
    Txn,
    TxnResult,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from coordinator.etcd.calls import Call, Shared, Unary
    from coordinator.etcd.messages import Message
    from coordinator.replica.requests import Outcome


class KV:
    """Keys, transactions, compaction."""

    def __init__(self, shared: Shared) -> None:
        self._node = shared.node
        self._headers = shared.headers
        self._ops_max = shared.limits.txn_ops
        self._bytes_max = shared.limits.request_bytes

    def calls(self) -> Mapping[str, Unary]:
        """Give the calls of the service by path."""
        return {
            "/etcdserverpb.KV/Range": self._range,
            "/etcdserverpb.KV/Put": self._put,
            "/etcdserverpb.KV/DeleteRange": self._delete,
            "/etcdserverpb.KV/Txn": self._txn,
            "/etcdserverpb.KV/Compact": self._compact,
        }

    # ------------------------------------------------------------- changes

    def _put(self, call: Call, m: Message) -> None:
        op = translate.put_of(m)
        check.check(op, strict=False)
        if len(op.value) + len(op.key) + 16 > self._bytes_max:
            self._refuse_large(m)
        self._propose(call, op)

    def _delete(self, call: Call, m: Message) -> None:
        op = translate.delete_of(m)
        check.check(op, strict=False)
        self._refuse_large(m)
        self._propose(call, op)

    def _txn(self, call: Call, m: Message) -> None:
        op = translate.txn_of(m)
        check.check(op, self._ops_max, strict=False)
        if only_reads(op) and not is_large(self._node.machine, op):
            self._node.read(partial(self._read_txn, call, op))
            return
        self._refuse_large(m)
        self._propose(call, op)

    def _compact(self, call: Call, m: Message) -> None:
        self._propose(call, Compact(max(m.revision, 0), m.physical))

    def _refuse_large(self, m: Message) -> None:
        if m.ByteSize() > self._bytes_max:
            raise told("etcdserver: request is too large")

    def _propose(self, call: Call, op: Any) -> None:
        propose(self._node, call.caller, op, partial(self._applied, call))

    def _applied(self, call: Call, outcome: Outcome) -> None:
        """Answer a change. Runs inside the node's turn: it must not raise."""
        try:
            if outcome.error is not None:
                call.fail(error_from_wire(*outcome.error))
            elif outcome.pending is not None:
                call.spawn(self._fill(call, outcome))
            else:
                call.reply(self._answer(outcome.result))
        except Exception as error:
            call.fail(error)

    def _answer(self, result: Any) -> bytes:
        header = self._headers.at(result.revision)
        kind = type(result)
        if kind is PutResult:
            if result.prev_kv is None:
                return header
            return header + _bytes(translate.put_response(result))
        if kind is RangeResult:
            return header + _bytes(translate.range_response(result))
        if kind is DeleteResult:
            return header + _bytes(translate.delete_response(result))
        if kind is TxnResult:
            return header + _bytes(translate.txn_response(result))
        return header

    async def _fill(self, call: Call, outcome: Outcome) -> None:
        """Fetch what a transaction read of the past, then answer."""
        try:
            for part in outcome.pending or ():
                await filled(self._node, part)
        except Compacted:
            text = f"applied at revision {outcome.revision}; what it read of the past is gone"
            raise StatusError(Code.INTERNAL, text) from None
        call.reply(self._answer(outcome.result))

    # ------------------------------------------------------------- reads

    def _range(self, call: Call, m: Message) -> None:
        op = translate.range_of(m)
        check.check(op, strict=False)
        self._node.read(partial(self._read_range, call, op), serializable=op.serializable)

    def _read_range(self, call: Call, op: Range, error: CoordinatorError | None) -> None:
        """Answer from the published state. Runs inside the node's turn: it must not raise."""
        if error is not None:
            call.fail(error)
            return
        if call.is_closed:
            call.fail(StatusError(Code.CANCELLED, "context canceled"))
            return
        if call.defer(partial(self._read_range, call, op, None)):
            return
        try:
            keyspace = self._node.keyspace
            authorize(self._node, call.caller, op)
            if is_large_range(keyspace, op):
                call.spawn(self._large_range(call, op))
                return
            found = keyspace.range(op)
            if type(found) is RangeResult:
                call.reply(self._answer(found))
            else:
                call.spawn(self._fill_range(call, found))
        except Exception as refused:
            call.fail(refused)

    async def _large_range(self, call: Call, op: Range) -> None:
        call.reply(self._answer(await read_in_slices(self._node, op)))

    async def _fill_range(self, call: Call, found: Any) -> None:
        call.reply(self._answer(await filled(self._node, found)))

    def _read_txn(self, call: Call, op: Txn, error: CoordinatorError | None) -> None:
        if error is not None:
            call.fail(error)
            return
        try:
            authorize(self._node, call.caller, op)
            result, pending = self._node.keyspace.read_txn(op)
            if pending:
                call.spawn(self._fill_txn(call, result, pending))
            else:
                call.reply(self._answer(result))
        except Exception as refused:
            call.fail(refused)

    async def _fill_txn(self, call: Call, result: TxnResult, pending: list[PendingRange]) -> None:
        for part in pending:
            await filled(self._node, part)
        call.reply(self._answer(result))


def _bytes(message: Message) -> bytes:
    data: bytes = message.SerializeToString()
    return data
