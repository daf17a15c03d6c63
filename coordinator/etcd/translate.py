"""etcd's messages into the keyspace's operations, and results into messages. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coordinator.etcd.messages import (
    DeleteRangeResponse,
    EventMessage,
    KeyValueMessage,
    Message,
    PutResponse,
    RangeResponse,
    TxnResponse,
)
from coordinator_sdk.protocol.kv import (
    Compare,
    Delete,
    DeleteResult,
    Event,
    KeyValue,
    Put,
    PutResult,
    Range,
    RangeResult,
    Txn,
    TxnResult,
    Watch,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

NO_PUT, NO_DELETE = 0, 1
FROM_KEY = b"\0"
_NUMBERS = ("version", "create_revision", "mod_revision", "", "lease")
"""Where a compare keeps its number, by target; a value is kept elsewhere."""
_VALUE_TARGET = 3


# ---------------------------------------------------------------- requests


def put_of(m: Message) -> Put:
    """Translate a PutRequest."""
    return Put(m.key, m.value, m.lease, m.prev_kv, m.ignore_value, m.ignore_lease)


def range_of(m: Message) -> Range:
    """Translate a RangeRequest; revisions below 0 stand for the current one."""
    return _range_of(m, max(m.revision, 0))


def _range_of(m: Message, revision: int) -> Range:
    return Range(
        m.key,
        m.range_end,
        m.limit,
        revision,
        m.sort_order,
        m.sort_target,
        m.keys_only,
        m.count_only,
        m.min_mod_revision,
        m.max_mod_revision,
        m.min_create_revision,
        m.max_create_revision,
        m.serializable,
    )


def delete_of(m: Message) -> Delete:
    """Translate a DeleteRangeRequest."""
    return Delete(m.key, m.range_end, m.prev_kv)


def txn_of(m: Message) -> Txn:
    """Translate a TxnRequest; an operation of no kind becomes None, which no check lets pass."""
    return Txn(
        [compare_of(one) for one in m.compare],
        [_op_of(one) for one in m.success],
        [_op_of(one) for one in m.failure],
    )


def _op_of(m: Message) -> Any:
    kind = m.WhichOneof("request")
    if kind == "request_put":
        return put_of(m.request_put)
    if kind == "request_range":
        # In a transaction etcd takes a negative revision at its word: it may be compacted.
        return _range_of(m.request_range, m.request_range.revision)
    if kind == "request_delete_range":
        return delete_of(m.request_delete_range)
    return txn_of(m.request_txn) if kind == "request_txn" else None


def compare_of(m: Message) -> Compare:
    """Translate a Compare."""
    target = m.target
    number, value = 0, b""
    if target == _VALUE_TARGET:
        value = m.value
    elif 0 <= target < len(_NUMBERS):
        number = getattr(m, _NUMBERS[target])
    return Compare(target, m.result, m.key, number, value, m.range_end)


def watch_of(m: Message) -> Watch:
    """Translate a WatchCreateRequest."""
    return Watch(
        m.key,
        m.range_end,
        max(m.start_revision, 0),
        m.prev_kv,
        NO_PUT in m.filters,
        NO_DELETE in m.filters,
        m.progress_notify,
    )


# ---------------------------------------------------------------- results


def key_value(kv: KeyValue) -> Message:
    """Translate a record."""
    return KeyValueMessage(
        key=kv.key,
        create_revision=kv.create_revision,
        mod_revision=kv.mod_revision,
        version=kv.version,
        value=kv.value,
        lease=kv.lease,
    )


def event(one: Event) -> Message:
    """Translate an event; of a deleted key nothing but key and revision is told."""
    kv = one.kv
    if one.type:
        made = EventMessage(
            type=one.type, kv=KeyValueMessage(key=kv.key, mod_revision=kv.mod_revision)
        )
    else:
        made = EventMessage(kv=key_value(kv))
    before = one.prev_kv
    # What came and went within one transaction was not there before.
    if before is not None and before.create_revision != kv.mod_revision:
        made.prev_kv.CopyFrom(key_value(before))
    return made


def put_response(result: PutResult) -> Message:
    """Translate the result of a put; the header is the caller's."""
    if result.prev_kv is None:
        return PutResponse()
    return PutResponse(prev_kv=key_value(result.prev_kv))


def range_response(result: RangeResult) -> Message:
    """Translate the result of a range."""
    made = RangeResponse(more=result.more, count=result.count)
    made.kvs.extend(map(key_value, result.kvs))
    return made


def delete_response(result: DeleteResult) -> Message:
    """Translate the result of a deletion."""
    made = DeleteRangeResponse(deleted=result.deleted)
    made.prev_kvs.extend(map(key_value, result.prev_kvs))
    return made


def txn_response(result: TxnResult) -> Message:
    """Translate the result of a transaction.

    The answers inside carry the revision only: up to the first change, that from before the
    transaction. A nested transaction's header is empty.
    """
    made = TxnResponse(succeeded=result.succeeded)
    revision = result.revision
    _fill_responses(made, result.responses, revision - _changes(result.responses), revision)
    return made


def _changes(results: Sequence[Any]) -> bool:
    """Whether any of them has changed a key."""
    return any(
        isinstance(one, PutResult)
        or (isinstance(one, DeleteResult) and one.deleted > 0)
        or (isinstance(one, TxnResult) and _changes(one.responses))
        for one in results
    )


def _fill_responses(made: Message, results: Sequence[Any], revision: int, last: int) -> int:
    """Translate results; give the revision that those which follow carry."""
    for result in results:
        one = made.responses.add()
        if isinstance(result, PutResult) or (isinstance(result, DeleteResult) and result.deleted):
            revision = last
        if isinstance(result, PutResult):
            part = one.response_put
            part.CopyFrom(put_response(result))
        elif isinstance(result, RangeResult):
            part = one.response_range
            part.CopyFrom(range_response(result))
        elif isinstance(result, DeleteResult):
            part = one.response_delete_range
            part.CopyFrom(delete_response(result))
        else:
            part = one.response_txn
            part.succeeded = result.succeeded
            part.header.SetInParent()
            revision = _fill_responses(part, result.responses, revision, last)
            continue
        part.header.revision = revision
    return revision
