"""Links between members that can be cut: a proxy in front of every member's peer port.

Members advertise the address of their proxy, so every byte between two of them passes here. Who
dials is read from its hello, which is the first thing on every connection. A cut is silent, as a
network's is: bytes stop in one direction or both and nobody is told; they go on when it heals.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable
from contextlib import suppress
from urllib.parse import urlsplit

from coordinator.node.initial_cluster import InitialCluster
from coordinator.transport.frames import FrameReader, Kind
from coordinator.transport.greeting import decode_hello
from coordinator_sdk.testing import ClusterProcess

TOKEN = "coordinator"
"""The cluster token that a member has unless it is told another."""
CHUNK = 65_536
FRAME_BYTES_MAX = 16 << 20


class Network:
    """The links between the members of one cluster.

    Use: ``network = Network()``, ``ClusterProcess(..., advertise=network.advertise)``, then
    ``async with network.between(cluster)``.
    """

    def __init__(self) -> None:
        self._sockets: list[tuple[socket.socket, str]] = []
        self._servers: list[asyncio.Server] = []
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._writers: dict[tuple[str, str], list[asyncio.StreamWriter]] = {}
        self._names: dict[int, str] = {}
        self._cuts: set[tuple[str, str]] = set()
        self._changed = asyncio.Event()

    # ------------------------------------------------------------ set up

    def advertise(self, listens: str) -> str:
        """Give the address under which the others reach a member: that of its proxy."""
        proxy = socket.socket()
        proxy.setblocking(False)
        proxy.bind(("127.0.0.1", 0))
        self._sockets.append((proxy, listens))
        return f"http://127.0.0.1:{proxy.getsockname()[1]}"

    def between(self, cluster: ClusterProcess) -> Network:
        """Say whose links these are."""
        self._members = [member.name for member in cluster.members]
        text = ",".join(f"{one.name}={one.peer_url}" for one in cluster.members)
        ids = InitialCluster.parse(text, TOKEN).member_ids
        self._names = {id: name for name, id in ids.items()}
        return self

    async def __aenter__(self) -> Network:
        for (one, listens), name in zip(self._sockets, self._members, strict=True):
            port = urlsplit(listens).port
            assert port is not None
            self._servers.append(await asyncio.start_server(self._accept(name, port), sock=one))
        return self

    async def __aexit__(self, *exc: object) -> None:
        for server in self._servers:
            server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)  # for the sockets to be closed

    # ------------------------------------------------------------ faults

    def cut(self, source: str, target: str) -> None:
        """Let nothing through from one member to another; the other way it still goes."""
        self._cuts.add((source, target))

    def isolate(self, name: str, others: Iterable[str] = ()) -> None:
        """Cut a member off from others, in both directions; from all unless given."""
        for other in others or self._members:
            if other != name:
                self.cut(name, other)
                self.cut(other, name)

    def reset(self, one: str, other: str) -> None:
        """Break the connections between two members; they may be made anew."""
        for pair in ((one, other), (other, one)):
            for writer in self._writers.pop(pair, []):
                writer.transport.abort()

    def heal(self) -> None:
        """Let everything through again."""
        self._cuts.clear()
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    # ------------------------------------------------------------ carrying

    async def _passable(self, source: str, target: str) -> None:
        while (source, target) in self._cuts:
            await self._changed.wait()

    def _accept(self, target: str, port: int):
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._tasks[task] = None
            try:
                with suppress(OSError, EOFError, asyncio.CancelledError):
                    await self._carry(target, port, reader, writer)
            finally:
                del self._tasks[task]
                writer.transport.abort()

        return serve

    async def _carry(
        self, target: str, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        start, source = await self._greeting(reader)
        await self._passable(source, target)
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
        known = self._writers.setdefault((source, target), [])
        known += (writer, inner_writer)
        try:
            inner_writer.write(start)
            pumps = (
                asyncio.ensure_future(self._pump(reader, inner_writer, source, target)),
                asyncio.ensure_future(self._pump(inner_reader, writer, target, source)),
            )
            try:
                # A process that ends closes both directions at once, as members do.
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
        finally:
            for one in (writer, inner_writer):
                if one in known:
                    known.remove(one)
            inner_writer.close()

    async def _greeting(self, reader: asyncio.StreamReader) -> tuple[bytes, str]:
        """Read up to the hello; gives what was read and the name of the one who says it."""
        frames, start = FrameReader(FRAME_BYTES_MAX), b""
        while True:
            data = await reader.read(CHUNK)
            if not data:
                raise EOFError
            start += data
            for kind, body in frames.feed(data):
                assert kind == Kind.HELLO
                return start, self._names.get(decode_hello(body).member, "")

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        source: str,
        target: str,
    ) -> None:
        while data := await reader.read(CHUNK):
            await self._passable(source, target)
            writer.write(data)
            await writer.drain()
        # The end of a connection is news as well: a cut holds it back.
        await self._passable(source, target)
