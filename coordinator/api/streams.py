"""Watches, and the steering of streams: credit, cancel, progress."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from coordinator.api.connection import Connection
from coordinator.api.registry import Live, Operation
from coordinator.keyspace import check, refusals
from coordinator_sdk.errors import InvalidRequest
from coordinator_sdk.protocol.kv import Cancel, Credit, Progress, Watch

if TYPE_CHECKING:
    from coordinator.keyspace.watch import WatchHub


def operations() -> Mapping[type[Any], Operation]:
    """Give the operations of streams by request type."""
    return {
        Watch: Live(_watch, check.check_watch, at_once=True),
        Credit: Live(_credit, _check_credit, judges_itself=True),
        Cancel: Live(_cancel, judges_itself=True),
        Progress: Live(_progress, judges_itself=True),
    }


class WatchStream:
    """One watch of a connection."""

    __slots__ = ("_connection", "_hub", "id")

    def __init__(self, connection: Connection, hub: WatchHub, id: int) -> None:
        self._connection = connection
        self._hub = hub
        self.id = id

    def cancel(self) -> None:
        """The client wants no more, or is gone."""
        self._hub.cancel(self._connection.watches, self.id)

    def credit(self, amount: int) -> None:
        """The client takes that many events more."""
        self._hub.credit(self._connection.watches, self.id, amount)
        self._connection.node.catch_up()

    def progress(self) -> None:
        """The client asks where it stands."""
        self._hub.request_progress(self._connection.watches, self.id)


def _watch(connection: Connection, id: int, op: Watch) -> None:
    node = connection.node
    if 0 < op.start_revision < node.keyspace.compact_revision:
        raise refusals.compacted(node.keyspace.compact_revision)
    hub = node.hub
    connection.open_stream(id, WatchStream(connection, hub, id), op)
    connection.answer(id, hub.revision, None)
    hub.watch(connection.watches, id, op)
    if hub.is_lagging:
        node.catch_up()


def _check_credit(op: Credit) -> None:
    if op.amount <= 0:
        raise InvalidRequest("amount: must be positive", field="amount")


def _credit(connection: Connection, id: int, op: Credit) -> None:
    connection.unanswered()
    stream = connection.streams.get(op.stream)
    if stream is not None:
        stream.credit(op.amount)


def _cancel(connection: Connection, id: int, op: Cancel) -> None:
    stream = connection.take_stream(op.stream)
    if stream is not None:
        stream.cancel()
    connection.answer(id, connection.node.revision, None)


def _progress(connection: Connection, id: int, op: Progress) -> None:
    stream = connection.streams.get(op.stream)
    if not isinstance(stream, WatchStream):
        raise InvalidRequest("stream: no watch of this connection", field="stream")
    stream.progress()
    connection.answer(id, connection.node.revision, None)
