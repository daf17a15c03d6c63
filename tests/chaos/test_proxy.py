"""The proxies between members let through, hold back and break what they are told to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from coordinator.transport.frames import PREAMBLE, Kind, encode
from coordinator.transport.greeting import encode_hello
from coordinator.transport.ports import PEER_FORMAT, PeerHello
from coordinator_sdk.testing import ClusterProcess
from tests.chaos.proxy import Network

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Members:
    """Two members, of which the second listens with nothing but a socket."""

    def __init__(self, directory: Path) -> None:
        self.network = Network()
        self.cluster = ClusterProcess(directory, 2, advertise=self.network.advertise)
        self.accepted: asyncio.Queue[Streams] = asyncio.Queue()
        self.dialled: list[asyncio.StreamWriter] = []

    async def dial(self) -> Streams:
        """Connect from m1 to m2 as the transport does: with a hello."""
        network = self.network
        (id,) = [id for id, name in network._names.items() if name == "m1"]
        port = urlsplit(self.cluster.members[1].peer_url).port
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        self.dialled.append(writer)
        hello = encode_hello(PeerHello(PEER_FORMAT, 1, id, 1, 1))
        writer.write(PREAMBLE + encode(Kind.HELLO, hello) + b"one")
        return reader, writer


@asynccontextmanager
async def two(directory: Path) -> AsyncIterator[Members]:
    members = Members(directory)
    listens = members.cluster.members[1].options
    url = listens[listens.index("--listen-peer-urls") + 1]
    accepted: list[asyncio.StreamWriter] = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.append(writer)
        await members.accepted.put((reader, writer))

    server = await asyncio.start_server(accept, "127.0.0.1", urlsplit(url).port)
    async with members.network.between(members.cluster):
        yield members
    for writer in (*accepted, *members.dialled):
        writer.transport.abort()
    server.close()
    await asyncio.sleep(0)


async def until(reader: asyncio.StreamReader, text: bytes) -> None:
    await asyncio.wait_for(reader.readuntil(text), 20)


async def is_silent(reader: asyncio.StreamReader) -> bool:
    """Tell whether nothing arrives, after everything has had its turn."""
    reading = asyncio.ensure_future(reader.read(1))
    for _ in range(200):
        await asyncio.sleep(0)
    if reading.done():
        return False
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    return True


async def test_both_directions_pass(tmp_path: Path):
    """What one side sends arrives at the other, the hello included, and so does the end."""
    async with two(tmp_path) as members:
        reader, _ = await members.dial()
        inner_reader, inner_writer = await members.accepted.get()
        await until(inner_reader, b"one")
        inner_writer.write(b"two")
        await until(reader, b"two")
        inner_writer.close()
        assert await reader.read() == b""


@pytest.mark.parametrize("direction", [("m1", "m2"), ("m2", "m1")])
async def test_a_cut_holds_back_one_direction(tmp_path: Path, direction: tuple[str, str]):
    """A cut holds back what goes one way, silently, and lets the other way pass; when it heals
    everything arrives."""
    async with two(tmp_path) as members:
        outer = await members.dial()
        inner = await members.accepted.get()
        await until(inner[0], b"one")
        members.network.cut(*direction)
        is_forward = direction == ("m1", "m2")
        (_, cut_from), (cut_to, _) = (outer, inner) if is_forward else (inner, outer)
        (_, open_from), (open_to, _) = (inner, outer) if is_forward else (outer, inner)
        cut_from.write(b"held")
        open_from.write(b"passes")
        await until(open_to, b"passes")
        assert await is_silent(cut_to)
        members.network.heal()
        await until(cut_to, b"held")


async def test_a_cut_holds_back_new_connections(tmp_path: Path):
    """Who is cut off can dial, but reaches nobody until it heals."""
    async with two(tmp_path) as members:
        members.network.isolate("m1")
        await members.dial()
        for _ in range(200):
            await asyncio.sleep(0)
        assert members.accepted.empty()
        members.network.heal()
        inner_reader, _ = await members.accepted.get()
        await until(inner_reader, b"one")


async def test_a_reset_breaks_connections(tmp_path: Path):
    """A reset ends the connections between two members on both sides."""
    async with two(tmp_path) as members:
        reader, _ = await members.dial()
        inner_reader, _ = await members.accepted.get()
        await until(inner_reader, b"one")
        members.network.reset("m2", "m1")
        for one in (reader, inner_reader):
            try:
                assert await one.read() == b""
            except ConnectionResetError:
                pass
