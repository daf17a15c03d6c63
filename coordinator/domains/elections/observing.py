"""Observing an election: its state, then every change of leadership, resumable by revision.

The first item is the state at the published revision, unless the client names the last
revision it has seen; then comes one `ElectionChange` for each revision that changed the
leader or what it proclaims. Credit counts items. An observer without credit leaves the hub
and is opened again, from the next revision, when it gets some; if history is gone by then,
it ends with `Compacted`.
"""

from __future__ import annotations

from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING

from coordinator.api.dispatch import broken
from coordinator.api.reading import NowView
from coordinator.domains.elections import model
from coordinator.keyspace import SYSTEM
from coordinator_sdk.errors import Compacted, CoordinatorError, FutureRevision
from coordinator_sdk.protocol.kv import Watch, WatchEvents

if TYPE_CHECKING:
    from coordinator.api.connection import Connection
    from coordinator.keyspace.watcher import EncodedBatch
    from coordinator_sdk.protocol.elections import ElectionObserve
    from coordinator_sdk.protocol.kv import Event


class ElectionStream:
    """One observer of an election; the hub delivers to it, the client steers it."""

    def __init__(self, connection: Connection, id: int, request: ElectionObserve) -> None:
        self._connection = connection
        self._id = id
        self._hub = connection.node.hub
        self._election = request.namespace, request.name
        self._budget: int | None = request.credit or None
        self._next_revision = request.start_revision + 1
        self._is_watching = False
        self._is_closed = False

    @property
    def is_full(self) -> bool:
        """Whether the client reads too slowly."""
        return self._connection.is_full

    def begin(self, view: NowView) -> None:
        """Send the state, if it is wanted, and watch."""
        if self._next_revision == 1:
            self._next_revision = view.revision + 1
            found = model.state_change(view, view.revision, *self._election)
            self._connection.send([self._id], found)
            self._spend()
        self._watch()

    def _spend(self) -> None:
        if self._budget is not None:
            self._budget -= 1

    def _watch(self) -> None:
        if self._budget == 0 or self._is_watching or self._is_closed:
            return
        self._is_watching = True
        key = model.leader_key(*self._election)
        watch = Watch(key, start_revision=self._next_revision, space=SYSTEM)
        self._hub.watch(self, 0, watch)
        if self._hub.is_lagging:
            self._connection.node.catch_up()

    def deliver(self, ids: list[int], revision: int, batch: EncodedBatch) -> None:
        """Take in what one or more revisions changed, or that history is gone."""
        item = batch.item
        if not isinstance(item, WatchEvents):
            self._is_watching = False
            self._lose(self._hub.compact_revision)
            return
        for at, events in groupby(item.events, _revision_of):
            if self._budget == 0:
                break
            self._connection.send([self._id], model.change(at, list(events)))
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
                f"the changes below revision {compact_revision} are gone: observe anew",
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


def serve_observe(connection: Connection, id: int, request: ElectionObserve) -> None:
    """Open the stream of an observer."""
    connection.node.read(partial(_begin, connection, id, request))


def _begin(
    connection: Connection, id: int, request: ElectionObserve, error: CoordinatorError | None
) -> None:
    if error is not None:
        connection.fail(id, error)
        return
    if connection.is_closed:
        return
    try:
        view = NowView(connection.node.keyspace)
        if request.start_revision > view.revision:
            raise FutureRevision(
                f"start_revision: {request.start_revision} is still to come",
                field="start_revision",
            )
        stream = ElectionStream(connection, id, request)
        connection.open_stream(id, stream, request)
        connection.answer(id, view.revision, None)
        stream.begin(view)
    except CoordinatorError as refused:
        connection.fail(id, refused)
    except Exception as failure:
        broken(connection, id, failure)
