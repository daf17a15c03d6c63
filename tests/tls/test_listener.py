"""A real listener: who comes in, who does not, and what they are told."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop

from coordinator.tls.credentials import Credentials
from coordinator.tls.listener import TlsListener
from coordinator.tls.making import CLIENT
from tests.tls.authority import Authority

HANGING_S = 10
"""Only ends a test that hangs."""


class Echo(asyncio.Protocol):
    """Sends back what comes."""

    def __init__(self, made: list[Echo]) -> None:
        made.append(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)  # type: ignore[attr-defined]


class House:
    """A listener, and who came to it.

    Attributes:
        made: The protocols of those who came in.
        told: What was said of those who did not.
    """

    def __init__(self, authority: Authority, name: str, **options: Any) -> None:
        self.authority = authority
        self.files = authority.issue("server")
        port = authority.port(name, self.files, alpn=("http/1.1", "h2"))
        self.credentials = Credentials(port)
        self.made: list[Echo] = []
        self.told: list[str] = []
        self.options: dict[str, Any] = {"handshake_s": HANGING_S, **options}

    async def start(self) -> None:
        bound = socket.create_server(("127.0.0.1", 0))
        bound.setblocking(False)
        self.port = bound.getsockname()[1]
        self.listener = TlsListener(
            bound,
            self.credentials,
            lambda: Echo(self.made),
            plain=b"plain answer",
            refuse=lambda reason: f"refused: {reason}".encode(),
            warn=self.told.append,
            **self.options,
        )
        self.listener.start()

    def context(self, *purposes: Any, name: str = "alice") -> ssl.SSLContext:
        """Make the context of a client with a certificate."""
        context = ssl.create_default_context(cafile=self.authority.file)
        context.load_cert_chain(*self.authority.issue(name, purposes or [CLIENT]))
        return context

    async def dial(
        self, context: ssl.SSLContext | None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port, ssl=context)


@asynccontextmanager
async def house(folder: Path, name: str = "client", **options: Any) -> AsyncIterator[House]:
    made = House(Authority(folder), name, **options)
    await made.start()
    try:
        async with asyncio.timeout(HANGING_S):
            yield made
    finally:
        made.listener.close()
        for one in made.made:
            one.transport.abort()  # type: ignore[attr-defined]
        await asyncio.sleep(0)


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Awaitable[None]], None]:
    """Run a coroutine on each kind of loop."""
    factory = uvloop.new_event_loop if request.param == "uvloop" else None

    def run(coroutine: Any) -> None:
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(coroutine)

    return run


Run = Callable[[Any], None]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, text: bytes) -> None:
    writer.write(text)
    assert await reader.readexactly(len(text)) == text


def test_who_proves_itself_comes_in(run: Run, tmp_path: Path) -> None:
    """Who shows a certificate is served, many at a time, with all that it sends."""

    async def scene() -> None:
        async with house(tmp_path) as one:
            context = one.context()
            found = await asyncio.gather(*(one.dial(context) for _ in range(10)))
            for number, (reader, writer) in enumerate(found):
                await echo(reader, writer, bytes([number]) * 200_000)
                writer.close()
            assert len(one.made) == 10
            assert one.told == []

    run(scene())


def test_who_speaks_plainly_is_told(run: Run, tmp_path: Path) -> None:
    """Who does not speak TLS gets the plain answer, and the application hears nothing."""

    async def scene() -> None:
        async with house(tmp_path) as one:
            reader, writer = await one.dial(None)
            writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n" + b"x" * 5000)
            assert await reader.read() == b"plain answer"
            writer.close()
            assert one.told == ["a connection from 127.0.0.1 did not come in: does not speak TLS"]
            assert one.made == []

    run(scene())


def test_who_may_not_come_in_is_told(run: Run, tmp_path: Path) -> None:
    """A client's certificate is answered with the reason, and the application never hears of it."""

    async def scene() -> None:
        async with house(tmp_path, "peer") as one:
            reader, writer = await one.dial(one.context())
            assert (await reader.read()).startswith(b"refused: the certificate of CN=alice is no")
            writer.close()
            assert one.made == []
            assert "CN=alice" in one.told[0]

    run(scene())


def test_who_shows_nothing_stays_outside(run: Run, tmp_path: Path) -> None:
    """Without a certificate, and with nonsense instead of TLS, nothing is made and all go on."""

    async def scene() -> None:
        async with house(tmp_path) as one:
            naked = ssl.create_default_context(cafile=one.authority.file)
            naked.maximum_version = ssl.TLSVersion.TLSv1_2
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await one.dial(naked)
            reader, writer = await one.dial(None)
            writer.write(b"\x16\x03\x01\x00\x05hello")
            await reader.read()
            writer.close()
            _, gone = await one.dial(None)
            gone.close()
            reader, writer = await one.dial(one.context())
            await echo(reader, writer, b"still here")
            writer.close()
            assert len(one.made) == 1
            assert all("TLS was not agreed on" in line for line in one.told)
            assert len(one.told) == 2

    run(scene())


def test_new_certificates_while_connections_go_on(run: Run, tmp_path: Path) -> None:
    """After new files the next connection is shown the new one, and those that are open go on."""

    async def scene() -> None:
        async with house(tmp_path) as one:
            context = one.context()
            reader, writer = await one.dial(context)
            one.authority.issue("another", file="server")
            one.credentials.refresh()
            assert one.credentials.reloads == 1
            await echo(reader, writer, b"goes on")
            second = await one.dial(context)
            shown = second[1].get_extra_info("ssl_object").getpeercert()
            assert shown["subject"] == ((("commonName", "another"),),)
            await echo(*second, b"as well")
            await echo(reader, writer, b"still")
            second[1].close()
            writer.close()

    run(scene())


def test_who_says_nothing_is_closed(run: Run, tmp_path: Path) -> None:
    """Who says nothing, or stops amid the handshake, is closed when the time is up."""

    async def scene() -> None:
        async with house(tmp_path, handshake_s=0.05) as one:
            silent, first = await one.dial(None)
            halting, second = await one.dial(None)
            second.write(b"\x16\x03\x01\x02\x00")
            assert await silent.read() == b""
            assert await halting.read() == b""
            first.close()
            second.close()
            assert len(one.told) == 2

    run(scene())


def test_the_longest_waiting_makes_room(run: Run, tmp_path: Path) -> None:
    """When too many say nothing, the one that has done so longest is closed for a new one."""

    async def scene() -> None:
        async with house(tmp_path, pending_max=2) as one:
            silent = [await one.dial(None) for _ in range(2)]
            reader, writer = await one.dial(one.context())
            await echo(reader, writer, b"came in")
            assert await silent[0][0].read() == b""
            assert one.told == [
                "a connection from 127.0.0.1 did not come in: too many are about it"
            ]
            one.listener.close()
            assert await silent[1][0].read() == b""
            for _, two in [*silent, (reader, writer)]:
                two.close()

    run(scene())
