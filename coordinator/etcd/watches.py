"""The Watch service: one stream, many watches."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from coordinator.api.permits import authorize
from coordinator.api.shares import Share
from coordinator.etcd import translate
from coordinator.etcd.calls import varint
from coordinator.etcd.messages import WatchResponse
from coordinator.etcd.permits import require_time
from coordinator.etcd.status import Code, StatusError, status_of
from coordinator.keyspace import check
from coordinator.keyspace.watcher import State
from coordinator_sdk.errors import CoordinatorError, Exhausted, InvalidRequest, Unauthenticated
from coordinator_sdk.protocol.kv import WatchCancelled, WatchEvents

if TYPE_CHECKING:
    from collections.abc import Mapping

    from coordinator.etcd.calls import Call, Converse, Shared
    from coordinator.etcd.messages import Message
    from coordinator.keyspace.watcher import EncodedBatch, Watcher
    from coordinator_sdk.protocol.kv import Watch, WatchItem

DUPLICATE_ID = "mvcc: duplicate watch ID provided on the WatchStream"
FRAGMENT_BYTES = 2 << 20
"""From here on an answer is cut into parts, for a watch that asked for it."""
FRAGMENTED, WHOLE = "etcd-fragments", "etcd"
_WATCH_ID, _FRAGMENT, _EVENT = b"\x10", b"\x38\x01", b"\x5a"
"""Tags of the fields of an answer that are written by hand."""
_NOBODY = _WATCH_ID + varint(-1)
"""The watch id -1."""


class Watches:
    """Makes the streams."""

    def __init__(self, shared: Shared) -> None:
        self.node = shared.node
        self.headers = shared.headers
        self.watches_max = shared.limits.streams_per_connection
        self.open = shared.streams
        self.shares = shared.shares

    def streams(self) -> Mapping[str, Converse]:
        """Give the calls of the service by path."""
        return {"/etcdserverpb.Watch/Watch": partial(WatchStream, self)}


class WatchStream:
    """One stream. It is also the sink of its watches, which the hub delivers to."""

    def __init__(self, watches: Watches, call: Call) -> None:
        self._node = watches.node
        self._headers = watches.headers
        self._watches_max = watches.watches_max
        self.call = call
        self._share = Share(watches.shares, watches.shares.streams, call.caller)
        self._watchers: dict[int, Watcher] = {}
        self._ops: dict[int, Watch] = {}
        self._open = watches.open
        self._open.add(self, counts_itself=True)
        self._fragmented: set[int] = set()
        self._next_id = 0

    # ------------------------------------------------------------- what the client says

    def received(self, message: Message) -> None:
        """Open or end a watch, or tell how far all of them are."""
        kind = message.WhichOneof("request_union")
        if kind == "create_request":
            self._create(message.create_request)
        elif kind == "cancel_request":
            self._cancel(message.cancel_request.watch_id)
        elif kind == "progress_request":
            self.call.send(self._headers.at(self._position()) + _NOBODY)

    def half_closed(self) -> None:
        """The watches go on."""

    def cancelled(self) -> None:
        """End all watches."""
        self._open.remove(self)
        self._watchers.clear()
        self._share.hold(0)
        self._ops.clear()
        self._node.hub.remove(self)

    def _create(self, m: Message) -> None:
        op = translate.watch_of(m)
        reason = self._refusal(m.watch_id, op)
        if reason:
            answer = WatchResponse(watch_id=-1, created=True, canceled=True)
            answer.cancel_reason = reason
            self._answer(answer)
            return
        number = m.watch_id or self._free_id()
        self._answer(WatchResponse(watch_id=number, created=True))
        if m.start_revision < 0:
            # etcd starts from compact revision -1: before any compaction, -1 means from now on.
            compacted = self._node.keyspace.compact_revision or -1
            if m.start_revision < compacted:
                self._lost(number, compacted)
                return
        if m.fragment:
            self._fragmented.add(number)
        hub = self._node.hub
        watcher = hub.watch(self, number, op)
        if watcher.state is not State.GONE:
            self._watchers[number] = watcher
            self._share.hold(len(self._watchers))
            self._ops[number] = op
        if hub.is_lagging:
            self._node.catch_up()

    def _refusal(self, number: int, op: Watch) -> str:
        """Say why a watch cannot be opened; empty if it can."""
        if number and number in self._watchers:
            return DUPLICATE_ID
        if len(self._watchers) >= self._watches_max:
            raise StatusError(Code.RESOURCE_EXHAUSTED, "etcdserver: too many requests")
        if self.call.doubt is not None:
            return _words(self.call.doubt)
        try:
            check.check_watch(op)
            require_time(self.call)
            authorize(self._node, self.call.caller, op)
            self._share.check(self.call.caller)
        except InvalidRequest as error:
            return error.message
        except Exhausted as error:
            return _words(StatusError(Code.RESOURCE_EXHAUSTED, error.message))
        except CoordinatorError as error:
            return _words(status_of(error))
        return ""

    def judge(self) -> int:
        """End the watches that the caller may not have any more; gives how many there were."""
        looked_at = len(self._ops)
        for number, op in list(self._ops.items()):
            try:
                authorize(self._node, self.call.caller, op)
            except Unauthenticated as error:
                self.lose(error)
                break
            except CoordinatorError as error:
                self._refuse(number, error)
        return looked_at

    def lose(self, error: CoordinatorError) -> None:
        """End all watches, each with the reason, and the call."""
        for number in list(self._watchers):
            self._refuse(number, error)
        self.call.fail(error)

    def _refuse(self, number: int, error: CoordinatorError) -> None:
        """End a watch, and say why."""
        self._end(number)
        reason = _words(status_of(error))
        answer = WatchResponse(watch_id=number, canceled=True, cancel_reason=reason)
        self._answer(answer)

    def _free_id(self) -> int:
        while self._next_id in self._watchers:
            self._next_id += 1
        self._next_id += 1
        return self._next_id - 1

    def _cancel(self, number: int) -> None:
        if self._end(number):
            self._answer(WatchResponse(watch_id=number, canceled=True))

    def _end(self, number: int) -> bool:
        """Forget a watch; whether there was one."""
        self._ops.pop(number, None)
        self._fragmented.discard(number)
        if self._watchers.pop(number, None) is None:
            return False
        self._share.hold(len(self._watchers))
        self._node.hub.cancel(self, number)
        return True

    def _position(self) -> int:
        """The revision up to which every watch of the stream has got everything."""
        revision = self._node.hub.revision
        for watcher in self._watchers.values():
            if watcher.state is not State.SYNCED:
                revision = min(revision, watcher.next_revision - 1)
        return revision

    def _answer(self, answer: Message) -> None:
        self.call.send(self._headers.at(self._node.hub.revision) + answer.SerializeToString())

    # ------------------------------------------------------------- what the hub says

    @property
    def is_full(self) -> bool:
        """Whether the client reads too slowly."""
        return self.call.is_full

    def deliver(self, ids: list[int], revision: int, batch: EncodedBatch) -> None:
        """Send an item. Runs inside the node's turn: it must not raise."""
        try:
            self._deliver(ids, revision, batch)
        except Exception as error:
            self._node.soon(partial(self.call.fail, error))

    def _deliver(self, ids: list[int], revision: int, batch: EncodedBatch) -> None:
        """Send an item, which is encoded once for all who watch over these faces."""
        item = batch.item
        if isinstance(item, WatchCancelled):
            for number in ids:
                self._lost(number, item.compact_revision)
            return
        is_progress = not isinstance(item, WatchEvents)
        header = self._headers.at(revision if is_progress else self._node.hub.revision)
        for number in ids:
            head = header + (_WATCH_ID + varint(number) if number else b"")
            if number in self._fragmented:
                self._send_parts(head, batch)
            else:
                self.call.send(head + batch.encoded(WHOLE, encode_item))

    def _send_parts(self, head: bytes, batch: EncodedBatch) -> None:
        whole = batch.encoded(WHOLE, encode_item)
        if len(whole) < FRAGMENT_BYTES:
            self.call.send(head + whole)
            return
        assert isinstance(batch.item, WatchEvents)
        parts = fragments([_encoded_event(one) for one in batch.item.events])
        for part in parts[:-1]:
            self.call.send(head + _FRAGMENT + part)
        self.call.send(head + parts[-1])

    def _lost(self, number: int, compact_revision: int) -> None:
        """What a watch would get next is compacted: it has ended."""
        self._watchers.pop(number, None)
        self._share.hold(len(self._watchers))
        self._ops.pop(number, None)
        self._fragmented.discard(number)
        answer = WatchResponse(watch_id=number, canceled=True, compact_revision=compact_revision)
        self.call.send(self._headers.at(0) + answer.SerializeToString())


def _words(refusal: StatusError) -> str:
    """Write a refusal as the reason of a watch that ends, which Go's clients read."""
    name = refusal.code.name.title().replace("_", "")
    return f"rpc error: code = {name} desc = {refusal.message}"


def encode_item(item: WatchItem) -> bytes:
    """Write the events of an item as fields of an answer; progress has none."""
    if not isinstance(item, WatchEvents):
        return b""
    return b"".join(map(_encoded_event, item.events))


def _encoded_event(event: Any) -> bytes:
    data: bytes = translate.event(event).SerializeToString()
    return _EVENT + varint(len(data)) + data


def fragments(events: list[bytes]) -> list[bytes]:
    """Put encoded events together to parts, each as large as an answer may be."""
    parts: list[bytes] = []
    part: list[bytes] = []
    size = 0
    for event in events:
        if part and size + len(event) >= FRAGMENT_BYTES:
            parts.append(b"".join(part))
            part, size = [], 0
        part.append(event)
        size += len(event)
    parts.append(b"".join(part))
    return parts
