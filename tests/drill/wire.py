"""Raw connections of a fuzz: they send what no client would, and note what is answered."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import re
import struct
from collections import Counter
from collections.abc import Iterable

STATUS = re.compile(rb"HTTP/1\.1 (\d{3})")
ANSWER_S = 5
"""How long an answer may take; then the fuzz goes on without."""


class Target:
    """Where to, and what came back.

    Attributes:
        statuses: HTTP statuses that were answered.
        closes: WebSocket close codes.
        cut: Connections that ended without a word.
    """

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port
        self.statuses: Counter[int] = Counter()
        self.closes: Counter[int] = Counter()
        self.cut = 0

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(self.host, self.port, limit=1 << 16)

    async def send(self, *parts: bytes, read_s: float = ANSWER_S, ends: bool = False) -> bytes:
        """Send on a connection of its own; give what is answered until it ends.

        Args:
            parts: What to send, each when the one before has left.
            read_s: How long to read.
            ends: Whether our half is closed afterwards.
        """
        answer = b""
        try:
            reader, writer = await self.connect()
        except OSError:
            self.cut += 1
            return answer
        try:
            with contextlib.suppress(OSError):
                for part in parts:
                    writer.write(part)
                    await writer.drain()
                if ends and writer.can_write_eof():
                    writer.write_eof()
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(read_s):
                    while chunk := await reader.read(65_536):
                        answer += chunk[: 1 << 20]
        finally:
            writer.transport.abort()
        self.note(answer)
        return answer

    async def speak(
        self, *parts: bytes, read_s: float = ANSWER_S, subprotocol: str = "coordinator.v1.json"
    ) -> None:
        """Open a WebSocket, send on it, and read until it ends."""
        answer = b""
        reader, writer = await self.upgraded(subprotocol)
        try:
            with contextlib.suppress(OSError):
                for part in parts:
                    writer.write(part)
                    await writer.drain()
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(read_s):
                    while chunk := await reader.read(65_536):
                        answer = (answer + chunk)[: 1 << 20]
        finally:
            writer.transport.abort()
        self.closes[close_code(answer)] += 1

    def note(self, answer: bytes) -> None:
        """Count statuses."""
        found = [int(status) for status in STATUS.findall(answer)]
        self.statuses.update(found)
        if not answer:
            self.cut += 1

    async def upgraded(
        self, subprotocol: str = "coordinator.v1.json"
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a WebSocket, without a word so far."""
        reader, writer = await self.connect()
        writer.write(upgrade(subprotocol))
        async with asyncio.timeout(ANSWER_S):
            await reader.readuntil(b"\r\n\r\n")
        return reader, writer


def upgrade(subprotocol: str = "coordinator.v1.json") -> bytes:
    """Ask for a WebSocket."""
    return (
        b"GET /v1/ws HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
        b"sec-websocket-version: 13\r\nsec-websocket-key: "
        + base64.b64encode(b"0123456789abcdef")
        + f"\r\nsec-websocket-protocol: {subprotocol}\r\n\r\n".encode()
    )


def frame(
    opcode: int, payload: bytes = b"", *, fin: bool = True, masked: bool = True, bits: int = 0
) -> bytes:
    """Make a frame, by the rules or not."""
    head = bytes([(0x80 if fin else 0) | bits | opcode])
    flag = 0x80 if masked else 0
    if len(payload) < 126:
        head += bytes([flag | len(payload)])
    elif len(payload) < 65_536:
        head += bytes([flag | 126]) + struct.pack(">H", len(payload))
    else:
        head += bytes([flag | 127]) + struct.pack(">Q", len(payload))
    # A mask of zeros leaves the payload as it is.
    return head + (b"\0\0\0\0" if masked else b"") + payload


def close_code(data: bytes) -> int:
    """Give the code of the first close frame in what a server sent; 0 if there is none."""
    at = 0
    while at + 2 <= len(data):
        opcode, length = data[at] & 15, data[at + 1] & 127
        body = at + 2
        if length == 126:
            length, body = int.from_bytes(data[at + 2 : at + 4], "big"), at + 4
        elif length == 127:
            length, body = int.from_bytes(data[at + 2 : at + 10], "big"), at + 10
        if opcode == 8:
            return int.from_bytes(data[body : body + 2], "big")
        at = body + length
    return 0


async def crowd(attempts: Iterable[object], width: int = 50) -> None:
    """Run coroutines, so many at a time."""
    gate = asyncio.Semaphore(width)

    async def one(attempt: object) -> None:
        async with gate:
            with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
                await attempt  # type: ignore[misc]

    await asyncio.gather(*(one(attempt) for attempt in attempts))
