"""What all connections of a member share: limits, tables, and the count of who is there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from coordinator.api.connection import Connection
from coordinator.api.gate import Gate
from coordinator.api.identity import Identity
from coordinator.api.limits import Limits
from coordinator.api.recheck import Recheck
from coordinator.api.shares import Share
from coordinator.api.unfinished import UnfinishedRequests
from coordinator.config import Config
from coordinator_sdk.errors import CoordinatorError, NoLeader, Stopping
from coordinator_sdk.protocol.codec import CODECS, RequestDecoder

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from coordinator.api.census import Census, Place
    from coordinator.api.dispatch import Dispatcher
    from coordinator.api.registry import Caller
    from coordinator.api.websocket import WebSocketConnection
    from coordinator.node.node import Node
    from coordinator.tls.credentials import Credentials

    MakeHttp2 = Callable[[set[Any], tuple[str, int], Place], asyncio.Protocol]


class StreamedAnswer(Protocol):
    """A response over HTTP that goes on."""

    def stop(self, error: CoordinatorError) -> None:
        """End it."""


class Serving:
    """The shared part.

    Attributes:
        node: The member.
        dispatcher: Its operations.
        census: Who is connected.
        gate: Who may talk to it.
        identity: Who they are.
        limits: What each may ask.
        shares: What each user takes.
        decoders: Frame decoders by subprotocol.
        websockets: Every WebSocket, as keys.
        http_streams: Every stream over HTTP, and what it has of its user's share.
        unfinished: What they hold of requests to come.
        credentials: What the client port shows and accepts, if it speaks TLS.
        recheck: Ends the streams that their callers may not have any more.
        http2: Makes the protocol of a connection that begins with HTTP/2's preface, of the set
            in which the server keeps its connections, the client's host and port, and its place;
            None if it is not spoken.
    """

    def __init__(
        self,
        node: Node,
        dispatcher: Dispatcher,
        config: Config,
        limits: Limits,
        census: Census,
        identity: Identity,
    ) -> None:
        self.node = node
        self.dispatcher = dispatcher
        self.census = census
        self.shares = census.shares
        self.gate = Gate(config, self._member_urls)
        self.identity = identity
        self.limits = limits
        self.decoders = {
            name: RequestDecoder(tuple(dispatcher.table), codec) for name, codec in CODECS.items()
        }
        self.websockets: dict[WebSocketConnection, None] = {}
        self.http_streams: dict[StreamedAnswer, Share | None] = {}
        self.unfinished = UnfinishedRequests(limits.unfinished_bytes)
        self.credentials: list[Credentials] = []
        self.http2: MakeHttp2 | None = None
        node.group.absence.told.append(self._send_away)
        self.recheck = Recheck(node, self.connections)
        node.on_tick.append(self.recheck.tick)

    def connections(self) -> list[Connection]:
        """Give every connection that may have streams."""
        answers = [one for one in self.http_streams if isinstance(one, Connection)]
        return [*self.websockets, *answers]

    def _member_urls(self) -> list[str]:
        members = self.node.machine.members.values()
        return [url for member in members for url in member.client_urls]

    def _send_away(self) -> None:
        """Send the clients to other members: here is no leader, and perhaps there is one there.

        What they have sent and got no answer for, they will ask for again there.
        """
        error = NoLeader("the member has lost the leader")
        for one in list(self.websockets):
            one.send_away(error, "no leader")
        for stream in list(self.http_streams):
            stream.stop(error)

    def admit_stream(self, stream: StreamedAnswer, caller: Caller) -> None:
        """Register a stream over HTTP.

        Raises:
            Exhausted: There are too many.
        """
        share = Share(self.shares, self.shares.http_streams, caller)
        share.check(caller)
        share.hold(1)
        self.http_streams[stream] = share

    def forget_stream(self, stream: StreamedAnswer) -> None:
        """Let go of a stream over HTTP that has ended, or was never admitted."""
        share = self.http_streams.pop(stream, None)
        if share is not None:
            share.hold(0)

    def close_streams(self) -> None:
        """End the streams over HTTP, so that their responses end."""
        for stream in list(self.http_streams):
            stream.stop(Stopping("the member is shutting down"))
