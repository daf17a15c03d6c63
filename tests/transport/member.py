"""A member that notes what its network tells it, and a proxy that can break what lies between."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Sequence
from typing import Any

from coordinator.config import Address
from coordinator.transport.limits import Limits
from coordinator.transport.network import StreamNetwork
from coordinator.transport.ports import PEER_FORMAT, PeerHello

CLUSTER = 77
HANGING_S = 10
"""Only ends a test that hangs."""

QUICK = Limits(ping_interval_s=0.05, backoff_s_max=0.1, resume_s=5.0)
"""The bounds of most tests: soon back after a break."""

incarnations = itertools.count(1000)


class Sink:
    """Keeps a snapshot in memory, as slowly as it is told.

    Attributes:
        gate: Writes go on only while it is set.
        last_gate: The same for the end.
        is_complete: Whether the end was asked for.
        fails_at: Number of the chunk whose writing fails; -1 is the end.
    """

    def __init__(self, head: bytes) -> None:
        self.head = head
        self.chunks: list[bytes] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.last_gate = asyncio.Event()
        self.last_gate.set()
        self.is_complete = False
        self.fails_at: int | None = None
        self.end = ""
        self.changed: Callable[[], None] = lambda: None

    async def write(self, chunk: bytes) -> None:
        await self.gate.wait()
        assert not self.end
        if self.fails_at == len(self.chunks):
            raise OSError("the disk is full")
        self.chunks.append(chunk)
        self.changed()

    async def finish(self) -> None:
        self.is_complete = True
        self.changed()
        await self.last_gate.wait()
        assert not self.end
        if self.fails_at == -1:
            raise ValueError("the archive is damaged")
        self.end = "finished"
        self.changed()

    async def abort(self) -> None:
        assert not self.end
        self.end = "aborted"
        self.changed()


class Member:
    """Notes what happens as tuples in `events`."""

    def __init__(self, member: int, network: StreamNetwork, url: str, limits: Limits) -> None:
        self.member, self.network, self.url, self.limits = member, network, url, limits
        self.incarnation = next(incarnations)
        self.cluster, self.format = CLUSTER, PEER_FORMAT
        self.events: list[tuple[Any, ...]] = []
        self.frames: list[bytes] = []
        self.sinks: list[Sink] = []
        self.greeted: list[PeerHello] = []
        self.prepare: Callable[[Sink], None] = lambda sink: None
        self.refusal = ""
        self._changed = asyncio.Event()

    async def until(self, holds: Callable[[], Any]) -> None:
        """Wait until something holds; looked at after each event."""
        async with asyncio.timeout(HANGING_S):
            while not holds():
                self._changed.clear()
                await self._changed.wait()

    async def until_event(self, *event: Any) -> None:
        await self.until(lambda: event in self.events)

    async def until_linked(self, other: Member) -> None:
        """Wait for the link in both directions."""
        await self.until(lambda: self.network.is_linked(other.member))
        await other.until(lambda: other.network.is_linked(self.member))

    def count(self, *event: Any) -> int:
        return self.events.count(event)

    def _note(self, *event: Any) -> None:
        self.events.append(event)
        self._changed.set()

    def hello(self) -> PeerHello:
        return PeerHello(self.format, self.cluster, self.member, 5, self.incarnation)

    def admit(self, hello: PeerHello) -> str:
        self.greeted.append(hello)
        self._changed.set()
        if hello.cluster != self.cluster:
            return f"cluster {hello.cluster} is not {self.cluster}"
        return self.refusal

    def received(self, member: int, frame: bytes) -> None:
        self.frames.append(frame)
        self._note("received", member, frame)

    def linked(self, member: int) -> None:
        self._note("linked", member)

    def unreachable(self, member: int) -> None:
        self._note("unreachable", member)

    def deserted(self, member: int) -> None:
        self._note("deserted", member)

    def refused(self, member: int, reason: str) -> None:
        self._note("refused", member, reason)

    def open_snapshot(self, member: int, head: bytes) -> Sink:
        if head == b"unwanted":
            raise ValueError("an older snapshot is of no use")
        sink = Sink(head)
        self.prepare(sink)
        sink.changed = self._changed.set
        self.sinks.append(sink)
        self._changed.set()
        return sink

    def describe(self) -> bytes:
        self._note("described")
        return b"member %d" % self.member


class Proxy:
    """Forwards TCP connections, until it is told otherwise."""

    def __init__(self, url: str) -> None:
        self._port = int(url.rpartition(":")[2])
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self.accepted = 0
        self.bytes_left: int | None = None
        self.url = ""

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def freeze(self) -> None:
        """Leave connections open and forward nothing."""
        self._flowing.clear()

    def thaw(self) -> None:
        self._flowing.set()

    def cut(self) -> None:
        """Reset all connections; new ones are welcome."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        self._writers.add(writer)
        other: asyncio.StreamWriter | None = None
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                far, other = await asyncio.open_connection("127.0.0.1", self._port)
                self._writers.add(other)
                await asyncio.wait(
                    [
                        asyncio.ensure_future(self._pump(reader, other)),
                        asyncio.ensure_future(self._pump(far, writer)),
                    ],
                    return_when=asyncio.ALL_COMPLETED,
                )
        finally:
            for one in (writer, other):
                if one:
                    one.transport.abort()
                    self._writers.discard(one)
            self._tasks.discard(task)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, RuntimeError):  # uvloop has the latter for a cut
            while data := await reader.read(65536):
                await self._flowing.wait()
                if self.bytes_left is not None:
                    self.bytes_left -= len(data)
                    if self.bytes_left < 0:
                        self.bytes_left = None
                        self.cut()
                        break
                writer.write(data)
                await writer.drain()
        writer.transport.abort()

    async def close(self) -> None:
        assert self._server
        self._server.close()
        self.thaw()
        self.cut()
        while self._tasks:
            await asyncio.wait(self._tasks)
        await self._server.wait_closed()


class Machine:
    """Starts members and proxies."""

    def __init__(self) -> None:
        self._open: list[Member | Proxy | asyncio.StreamWriter] = []

    async def member(
        self, number: int, *, limits: Limits = QUICK, port: int = 0, **settings: Any
    ) -> Member:
        """Start a member without peers."""
        scheme = "https" if settings.get("credentials") else "http"
        network = StreamNetwork([Address(scheme, "127.0.0.1", port)], limits=limits, **settings)
        url = f"{scheme}://127.0.0.1:{network.bind()[0].port}"
        one = Member(number, network, url, limits)
        self._open.append(one)
        await network.start(one)
        return one

    async def pair(self, limits: Limits = QUICK) -> tuple[Member, Member]:
        """Start members 1 and 2, linked both ways."""
        one, two = await self.member(1, limits=limits), await self.member(2, limits=limits)
        connect(one, two)
        await one.until_linked(two)
        return one, two

    async def restart(self, member: Member) -> Member:
        """Close a member and start another process of it at the same address."""
        await member.network.close()
        port = int(member.url.rpartition(":")[2])
        return await self.member(member.member, limits=member.limits, port=port)

    async def proxy(self, url: str) -> Proxy:
        """Put a proxy before a URL."""
        proxy = Proxy(url)
        await proxy.start()
        self._open.append(proxy)
        return proxy

    async def raw(self, url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect without any manners."""
        port = int(url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        self._open.append(writer)
        return reader, writer

    async def close(self) -> None:
        """Close everything that was started, the proxies behind the members that dial them."""
        for one in sorted(self._open, key=lambda one: isinstance(one, Proxy)):
            if isinstance(one, Member):
                await one.network.close()
            elif isinstance(one, Proxy):
                await one.close()
            else:
                one.transport.abort()


def connect(*members: Member) -> None:
    """Tell members about each other."""
    for one in members:
        one.network.set_peers({m.member: (m.url,) for m in members if m is not one})


def via(member: Member, *peers: tuple[Member, Sequence[str]]) -> None:
    """Tell a member at which URLs it finds others."""
    member.network.set_peers({peer.member: tuple(urls) for peer, urls in peers})
