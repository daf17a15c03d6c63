"""Watching services: a `ServiceSnapshot`, then one `ServiceChange` for each revision."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordinator.api.changes import ChangeStream
from coordinator.domains.services import model
from coordinator.keyspace import SYSTEM
from coordinator_sdk.protocol.kv import Event, Watch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordinator.api.connection import Connection
    from coordinator.api.reading import NowView
    from coordinator_sdk.protocol.services import ServiceChange, ServiceSnapshot, ServiceWatch


class ServiceStream(ChangeStream):
    """One watch of the instances of a service, or of all services of a namespace."""

    verb = "watch"

    def __init__(self, connection: Connection, id: int, request: ServiceWatch) -> None:
        super().__init__(connection, id, request)
        self._services = request.namespace, request.service

    def state(self, view: NowView) -> ServiceSnapshot:
        """Show all instances."""
        return model.snapshot(view, view.revision, *self._services)

    def watch(self, start_revision: int) -> Watch:
        """Watch the instances, with what they were before."""
        start, end = model.instances(*self._services)
        return Watch(start, end, start_revision, prev_kv=True, space=SYSTEM)

    def change(self, revision: int, events: Sequence[Event]) -> ServiceChange:
        """Show which instances changed, and which are gone."""
        return model.change(revision, events)


def serve_watch(connection: Connection, id: int, request: ServiceWatch) -> None:
    """Open a watch of services."""
    ServiceStream(connection, id, request).open()
