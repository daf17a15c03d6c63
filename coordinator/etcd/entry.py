"""The way in to the faces of etcd, which are loaded when the first client asks for one of them.

Tables of messages, Protocol Buffers and header compression are a good part of what a member has to
load; those who never speak gRPC need not wait for them, nor keep them in memory.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from coordinator.etcd import tally

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping

    from starlette.types import Receive, Scope, Send

    from coordinator.api.census import Place
    from coordinator.api.identity import Identity
    from coordinator.api.maintenance import Backups
    from coordinator.api.serving import MakeHttp2, Serving
    from coordinator.etcd.calls import Served
    from coordinator.etcd.gateway import Gateway
    from coordinator.etcd.tally import Tally
    from coordinator.metrics import Metrics

Told = TypeVar("Told")


class Entry:
    """gRPC and its JSON gateway; the latter as an ASGI application.

    Args:
        serving: The member as connections see it.
        backups: Makes the backups that snapshots are.
        identity: Lets users log in.
    """

    def __init__(self, serving: Serving, backups: Backups, identity: Identity) -> None:
        self._serving = serving
        self._backups = backups
        self._identity = identity

    @staticmethod
    def covers(path: str) -> bool:
        """Whether a path is one of the gateway."""
        return path.startswith("/v3") and path.split("/", 2)[1] in ("v3", "v3beta")

    @cached_property
    def served(self) -> Mapping[str, Served]:
        """Every call, by its path."""
        from coordinator.etcd.services import services

        serving = self._serving
        return services(serving.node, serving.limits, self._backups, self._identity, serving.shares)

    def register(self, metrics: Metrics) -> None:
        """Register the metrics of calls; they have nothing to tell before the first client."""
        metrics.counter(
            "grpc_server_started_total",
            "Calls of etcd's clients, over gRPC and through the gateway.",
            lambda: self._told(tally.started),
        )
        metrics.counter(
            "grpc_server_handled_total",
            "Those that have ended, however they did.",
            lambda: self._told(tally.handled),
        )
        metrics.histograms(
            "grpc_server_handling_seconds",
            "How long they took.",
            lambda: self._told(tally.times),
        )

    def _told(self, tell: Callable[[list[Tally]], list[Told]]) -> list[Told]:
        served: Mapping[str, Served] = self.__dict__.get("served", {})
        return tell([served[path].tally for path in sorted(served)])

    def http2(
        self, connections: set[Any], client: tuple[str, int], place: Place
    ) -> asyncio.Protocol:
        """Give the protocol of a connection that speaks HTTP/2.

        Args:
            connections: Where the server keeps its connections, as uvicorn does.
            client: The host and port of the other end.
            place: What the connection takes of those that there may be.
        """
        return self._http2(connections, client, place)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request to the gateway."""
        await self._gateway(scope, receive, send)

    @cached_property
    def _http2(self) -> MakeHttp2:
        from coordinator.etcd.services import http2

        return http2(self._serving, dict(self.served))

    @cached_property
    def _gateway(self) -> Gateway:
        from coordinator.etcd.gateway import Gateway

        return Gateway(self._serving, self.served)
