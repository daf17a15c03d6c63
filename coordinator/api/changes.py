"""Streams that are fed from history: a state, then every change of it, resumable by revision.

The first item is the state at the published revision, unless the client names the last
revision that it has seen; then comes one item for each revision that changed something.
Credit counts items. A stream without credit leaves the hub and is opened again, from the next
revision, when it gets some; if history is gone by then, it ends with `Compacted`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, ClassVar

from coordinator.api.reading import NowView
from coordinator_sdk.errors import Compacted, FutureRevision
from coordinator_sdk.protocol.kv import WatchEvents

if TYPE_CHECKING:
    from msgspec import Struct

    from coordinator.api.connection import Connection
    from coordinator.keyspace.watcher import EncodedBatch
    from coordinator_sdk.protocol.kv import Event, Watch


class ChangeStream:
    """The base of these streams; the hub delivers to it, the client steers it.

    Args:
        connection: Whom to tell.
        id: The request that opens the stream.
        request: That request, with ``start_revision`` and ``credit``.
    """

    verb: ClassVar[str]
    """What a client is to do anew that has missed something."""

    def __init__(self, connection: Connection, id: int, request: Any) -> None:
        self._connection = connection
        self._id = id
        self._request = request
        self._hub = connection.node.hub
        self._budget: int | None = request.credit or None
        self._next_revision = request.start_revision + 1
        self._is_watching = False
        self._is_closed = False

    # What differs from one kind of stream to the other.

    def state(self, view: NowView) -> Struct:
        """Show the present state, for a stream that begins."""
        raise NotImplementedError

    def watch(self, start_revision: int) -> Watch:
        """Give the watch that feeds the stream."""
        raise NotImplementedError

    def change(self, revision: int, events: Sequence[Event]) -> Struct:
        """Show what one revision changed."""
        raise NotImplementedError

    # What all have.

    @property
    def is_full(self) -> bool:
        """Whether the client reads too slowly."""
        return self._connection.is_full

    def open(self) -> None:
        """Answer the request, send the state, if it is wanted, and watch.

        Raises:
            FutureRevision: The revision to begin after is still to come.
        """
        connection = self._connection
        view = NowView(connection.node.keyspace)
        if self._next_revision > view.revision + 1:
            raise FutureRevision(
                f"start_revision: {self._next_revision - 1} is still to come",
                field="start_revision",
            )
        connection.open_stream(self._id, self, self._request)
        connection.answer(self._id, view.revision, None)
        if self._next_revision == 1:
            self._next_revision = view.revision + 1
            connection.send([self._id], self.state(view))
            self._spend()
        self._watch()

    def _spend(self) -> None:
        if self._budget is not None:
            self._budget -= 1

    def _watch(self) -> None:
        if self._budget == 0 or self._is_watching or self._is_closed:
            return
        self._is_watching = True
        self._hub.watch(self, 0, self.watch(self._next_revision))
        if self._hub.is_lagging:
            self._connection.node.catch_up()

    def deliver(self, ids: list[int], revision: int, batch: EncodedBatch) -> None:
        """Take in what one or more revisions changed, or that history is gone."""
        item = batch.item
        if not isinstance(item, WatchEvents):
            self._is_watching = False
            self._lose(self._hub.compact_revision)
            return
        try:
            self._tell(item.events, revision)
        except Exception as error:
            self._connection.break_off([self._id], error)

    def _tell(self, events: Iterable[Event], revision: int) -> None:
        for at, changed in groupby(events, _revision_of):
            if self._budget == 0:
                break
            self._connection.send([self._id], self.change(at, list(changed)))
            self._next_revision = at + 1
            self._spend()
        else:
            self._next_revision = revision + 1
        if self._budget == 0:
            self._pause()

    def _pause(self) -> None:
        self._hub.remove(self)
        self._is_watching = False

    def _lose(self, compact_revision: int) -> None:
        if not self._is_closed:
            self._is_closed = True
            error = Compacted(
                f"the changes below revision {compact_revision} are gone: {self.verb} anew",
                compact_revision=compact_revision,
            )
            self._connection.fail(self._id, error)

    def credit(self, amount: int) -> None:
        """The client takes that many items more."""
        if self._budget is not None:
            self._budget += amount
            self._watch()

    def cancel(self) -> None:
        """The client wants no more, or is gone."""
        self._is_closed = True
        if self._is_watching:
            self._pause()


def _revision_of(event: Event) -> int:
    return event.kv.mod_revision
