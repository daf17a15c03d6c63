"""Observing an election: its state, then one `ElectionChange` for each revision that changed it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordinator.api.changes import ChangeStream
from coordinator.domains.elections import model
from coordinator.keyspace import SYSTEM
from coordinator_sdk.protocol.kv import Event, Watch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordinator.api.connection import Connection
    from coordinator.api.reading import NowView
    from coordinator_sdk.protocol.elections import ElectionChange, ElectionObserve


class ElectionStream(ChangeStream):
    """One observer: is told of the leader, and what the leader proclaims."""

    verb = "observe"

    def __init__(self, connection: Connection, id: int, request: ElectionObserve) -> None:
        super().__init__(connection, id, request)
        self._election = request.namespace, request.name

    def state(self, view: NowView) -> ElectionChange:
        """Show who leads, as a change."""
        return model.state_change(view, view.revision, *self._election)

    def watch(self, start_revision: int) -> Watch:
        """Watch the leader's record."""
        key = model.leader_key(*self._election)
        return Watch(key, start_revision=start_revision, space=SYSTEM)

    def change(self, revision: int, events: Sequence[Event]) -> ElectionChange:
        """Show what became of the leader's record."""
        return model.change(revision, events)


def serve_observe(connection: Connection, id: int, request: ElectionObserve) -> None:
    """Open the stream of an observer."""
    ElectionStream(connection, id, request).open()
