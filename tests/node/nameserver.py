"""A name server on the loopback that answers as a test says, over UDP and TCP."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from coordinator.node.dns import Srv, encode_name


class NameServer:
    """Answers questions for SRV records.

    Attributes:
        records: By name, what there is.
        code: Answered in place of records, unless 0.
        is_truncating: Whether UDP says that the answer is too long.
        is_silent: Whether nothing is answered.
        noise: Datagrams to send before the answer.
        asked: The names that were asked for, with how.
    """

    def __init__(self, records: Mapping[str, Sequence[Srv]]) -> None:
        self.records = dict(records)
        self.code = 0
        self.is_truncating = self.is_silent = False
        self.noise: list[bytes] = []
        self.asked: list[tuple[str, str]] = []
        self.address = ("", 0)
        self._news = asyncio.Event()

    async def until_asked(self, count: int) -> None:
        """Wait until there were that many questions."""
        while len(self.asked) < count:
            self._news.clear()
            await self._news.wait()

    def answer(self, question: bytes, how: str) -> bytes:
        """Answer a question; names are abbreviated as servers do it."""
        id = question[:2]
        at, labels = 12, []
        while size := question[at]:
            labels.append(question[at + 1 : at + 1 + size].decode())
            at += 1 + size
        name = ".".join(labels)
        self.asked.append((how, name))
        self._news.set()
        found = self.records.get(name)
        code = self.code or (3 if found is None else 0)
        body = b""
        for record in found or ():
            data = struct.pack("!3H", record.priority, record.weight, record.port)
            data += encode_name(record.target)
            body += b"\xc0\x0c" + struct.pack("!2HIH", 33, 1, 60, len(data)) + data
        # A record of another kind comes first: whoever asks has to step over it.
        text = b"\xc0\x0c" + struct.pack("!2HIH", 16, 1, 60, 3) + b"\x02hi"
        flags = 0x8180 | code
        count = len(found or ()) + 1
        if self.is_truncating and how == "udp":
            flags, count, text, body = flags | 0x0200, 0, b"", b""
        head = id + struct.pack("!5H", flags, 1, count, 0, 0)
        return head + question[12 : at + 5] + text + body


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, server: NameServer) -> None:
        self._server = server

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        answer = self._server.answer(data, "udp")
        if not self._server.is_silent:
            for message in (*self._server.noise, answer):
                self._transport.sendto(message, addr)


@asynccontextmanager
async def name_server(records: Mapping[str, Sequence[Srv]]) -> AsyncIterator[NameServer]:
    """Run a name server."""
    server = NameServer(records)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size = int.from_bytes(await reader.readexactly(2), "big")
        answer = server.answer(await reader.readexactly(size), "tcp")
        writer.write(len(answer).to_bytes(2, "big") + answer)
        await writer.drain()
        writer.close()

    stream = await asyncio.start_server(serve, "127.0.0.1", 0)
    server.address = stream.sockets[0].getsockname()[:2]
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: _Udp(server), local_addr=server.address
    )
    try:
        yield server
    finally:
        transport.close()
        stream.close()
        await stream.wait_closed()
