"""A real member on a free port, and two clients that need no SDK: raw bytes, and frames."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
from websockets.asyncio.client import ClientConnection, connect

from coordinator.api.http import decode_json
from coordinator.api.limits import Limits
from coordinator.api.registry import DomainApi
from coordinator.api.server import Server, listen
from coordinator.api.serving import Serving
from coordinator.app import build_app
from coordinator.config import Config
from coordinator.node.node import Node
from coordinator_sdk.protocol.cluster import Hello, HelloResult
from coordinator_sdk.protocol.codec import CODECS, MSGPACK, Codec
from coordinator_sdk.protocol.frames import Closing, Failure, Header, Item, Result, Stream


class Running:
    """A member that serves.

    Attributes:
        port: Its first client port on 127.0.0.1.
        ports: All of them.
        node: The member.
        serving: What its connections share.
        server: What accepts connections.
        task: The server's run.
        app: The application.
    """

    def __init__(
        self, port: int, node: Node, server: Server, task: asyncio.Task[None], app: Any
    ) -> None:
        self.port = port
        self.ports = [port]
        self.node = node
        self.server = server
        self.task = task
        self.app = app
        self.serving: Serving = app.state.serving

    @contextlib.asynccontextmanager
    async def raw(self) -> AsyncIterator[Raw]:
        """Open a bare connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield Raw(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def ask(
        self,
        method: str,
        target: str,
        body: bytes | dict[str, Any] = b"",
        headers: Sequence[tuple[str, str]] = (),
    ) -> Answer:
        """Make one HTTP request on a connection of its own."""
        async with self.raw() as raw:
            return await raw.ask(method, target, body, headers)

    @contextlib.asynccontextmanager
    async def web_socket(
        self, codec: Codec = MSGPACK, *, greet: bool = True, **options: Any
    ) -> AsyncIterator[Socket]:
        """Open a WebSocket and greet."""
        url = f"ws://127.0.0.1:{self.port}/v1/ws"
        options.setdefault("subprotocols", [codec.name])
        async with connect(
            url, compression=None, max_size=None, ping_interval=None, **options
        ) as inner:
            made = Socket(inner, codec)
            if greet:
                await made.greet()
            yield made


class Answer:
    """An HTTP answer."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return decode_json(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The error in the body."""
        facts: dict[str, Any] = self.json["error"]
        return facts


class Raw:
    """A TCP connection that sends what it is told."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self.writer.write(data)

    async def ask(
        self,
        method: str,
        target: str,
        body: bytes | dict[str, Any] = b"",
        headers: Sequence[tuple[str, str]] = (),
    ) -> Answer:
        """Send a request, with a host and a length unless they are given, and read the answer."""
        given = {name.lower() for name, _ in headers}
        lines = [f"{method} {target} HTTP/1.1"]
        if isinstance(body, dict):
            body = msgspec.json.encode(body)
            lines.append("content-type: application/json")
        if "host" not in given:
            lines.append("host: 127.0.0.1")
        if body and not given & {"content-length", "transfer-encoding"}:
            lines.append(f"content-length: {len(body)}")
        lines += [f"{name}: {value}" for name, value in headers]
        self.send("\r\n".join((*lines, "", "")).encode("latin-1") + body)
        return await self.answer(method)

    async def answer(self, method: str = "GET") -> Answer:
        """Read one answer."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        status = int(lines[0].split()[1])
        headers = {}
        for line in lines[1:-2]:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        body = b""
        if "content-length" in headers and method != "HEAD":
            body = await self.reader.readexactly(int(headers["content-length"]))
        return Answer(status, headers, body)

    async def rest(self) -> bytes:
        """Read until the server closes."""
        with contextlib.suppress(ConnectionError):
            return await self.reader.read()
        return b""


class Socket:
    """A WebSocket that speaks frames."""

    def __init__(self, inner: ClientConnection, codec: Codec) -> None:
        self.inner = inner
        self.codec = codec
        self.next_id = 1
        self.header: Header | None = None
        self._items: list[Item] = []

    async def greet(self, **fields: Any) -> HelloResult:
        """Send the greeting."""
        result = await self.call(Hello(**fields), HelloResult)
        assert isinstance(result, HelloResult)
        return result

    async def send(self, *bodies: msgspec.Struct, floor: int = 0) -> list[int]:
        """Send requests in one message; give their ids."""
        ids = [self.next_id + number for number in range(len(bodies))]
        self.next_id += len(bodies)
        data = self.codec.encode_requests(floor, list(zip(ids, bodies, strict=True)))
        await self.inner.send(data if self.codec.binary else data.decode())
        return ids

    async def item(self) -> Item:
        """Wait for the next item."""
        while not self._items:
            data = await self.inner.recv()
            self.header, self._items = self.codec.decode_frame(data)
            self._items = list(self._items)
        return self._items.pop(0)

    async def answers(self, ids: Sequence[int]) -> dict[int, Result | Failure]:
        """Wait for the answers to some requests; other items must not come."""
        found: dict[int, Result | Failure] = {}
        while len(found) < len(ids):
            item = await self.item()
            assert isinstance(item, Result | Failure), item
            found[item.id] = item
        assert sorted(found) == sorted(ids)
        return found

    async def call(self, body: msgspec.Struct, kind: Any = None) -> Any:
        """Send one request; give its result, or the failure."""
        (id,) = await self.send(body)
        answer = (await self.answers([id]))[id]
        if isinstance(answer, Failure):
            return answer
        return self.codec.decode_value(answer.result, kind) if kind is not None else None

    async def stream_item(self, kind: Any) -> Any:
        """Wait for an item of a stream."""
        item = await self.item()
        assert isinstance(item, Stream), item
        return self.codec.decode_value(item.item, kind)

    async def closed(self) -> tuple[int | None, Closing | None]:
        """Wait for the end; give the close code, and the notice if there was one."""
        notice = None
        with contextlib.suppress(Exception):
            while True:
                item = await self.item()
                if isinstance(item, Closing):
                    notice = item
        await self.inner.wait_closed()
        return self.inner.close_code, notice


@contextlib.asynccontextmanager
async def running(
    folder: Path,
    *,
    limits: Limits | None = None,
    domains: Sequence[DomainApi] = (),
    **settings: Any,
) -> AsyncIterator[Running]:
    """Run a member in a folder, with limits and settings of the test's choice."""
    settings.setdefault("listen_client_urls", ("http://127.0.0.1:0",))
    config = Config(data_dir=str(folder), advertise_client_urls=("http://127.0.0.1:0",), **settings)
    sockets = listen(config)
    node = Node(config, [domain.domain for domain in domains])
    await node.start()
    app = build_app(node, domains, limits)
    server = Server(app, app.state.serving, sockets)
    await server.startup()
    port = sockets[0][0].getsockname()[1]
    task = asyncio.ensure_future(server.until_stopped())
    try:
        made = Running(port, node, server, task, app)
        made.ports = [one.getsockname()[1] for one, _ in sockets]
        yield made
    finally:
        server.stop()
        await task
        for one, _ in sockets:
            one.close()
        await node.stop()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for the member's state to become so."""
    while not condition():  # noqa: ASYNC110 - any state may be waited for
        await asyncio.sleep(0)


def few(**changes: Any) -> Limits:
    """Give the default limits with some changes."""
    return replace(Limits(), **changes)


__all__ = ["CODECS", "Answer", "Raw", "Running", "Socket", "few", "running", "until"]
