"""The model cluster behind real sockets, with faults on demand."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from coordinator_sdk.protocol.frames import SUBPROTOCOL_MSGPACK
from tests.sdk.model import Cluster, Member


class FakeServer:
    """One endpoint of the model cluster.

    Attributes:
        hold: While not set, answers are held back.
        garbage: Bytes to send instead of the next answer.
        mute: Whether to answer nothing at all.
        frames: Number of frames received.
        connections: The open connections.
    """

    def __init__(self, cluster: Cluster, port: int) -> None:
        self.cluster = cluster
        self.url = f"http://127.0.0.1:{port}"
        self.port = port
        self.hold = asyncio.Event()
        self.hold.set()
        self.garbage: bytes | str | list[bytes] | None = None
        self.mute = False
        self.frames = 0
        self.members: list[Member] = []
        self.connections: dict[ServerConnection, Member] = {}
        self.changed = asyncio.Event()
        self.before: Callable[[Member, bytes], None] = lambda member, data: None

    async def serve(self, socket: ServerConnection) -> None:
        """Serve one connection."""
        member = Member(self.cluster)
        self.members.append(member)
        self.connections[socket] = member
        try:
            async for data in socket:
                assert isinstance(data, bytes)
                self.frames += 1
                self.before(member, data)
                items = member.handle(data)
                await self.hold.wait()
                if self.mute:
                    continue
                if self.garbage is not None:
                    garbage, self.garbage = self.garbage, None
                    await socket.send(garbage)
                    continue
                if items:
                    await socket.send(member.frame(items))
                await self.tell()
        except ConnectionClosed:
            pass
        finally:
            del self.connections[socket]
            self.changed.set()

    async def tell(self) -> None:
        """Send every connection what its streams have to say."""
        for socket, member in list(self.connections.items()):
            items = member.pump()
            if items:
                try:
                    await socket.send(member.frame(items))
                except ConnectionClosed:
                    continue

    def drop(self) -> None:
        """Cut every connection."""
        for socket in list(self.connections):
            socket.transport.abort()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for the server's state to become so."""
        while not condition():  # noqa: ASYNC110 - any state may be waited for
            await asyncio.sleep(0)


@asynccontextmanager
async def fake_server(
    cluster: Cluster | None = None, port: int = 0, context: ssl.SSLContext | None = None
) -> AsyncIterator[FakeServer]:
    """Run an endpoint of the model cluster."""
    fake = FakeServer(cluster or Cluster(), port)
    async with serve(
        fake.serve,
        "127.0.0.1",
        port,
        subprotocols=[SUBPROTOCOL_MSGPACK],  # type: ignore[list-item]
        compression=None,
        ssl=context,
        ping_interval=None,
        max_size=None,
        close_timeout=0.1,
    ) as server:
        fake.port = next(iter(server.sockets)).getsockname()[1]
        fake.url = f"http://127.0.0.1:{fake.port}"
        try:
            yield fake
        finally:
            fake.hold.set()
            fake.drop()
