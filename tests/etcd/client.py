"""A gRPC client of a few lines, that can also break every rule."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections import defaultdict
from collections.abc import AsyncIterator
from typing import Any

import hpack

from coordinator.api.protocol import HTTP2_PREFACE
from coordinator.etcd import frames
from coordinator.etcd.messages import METHODS

BIG = 1 << 30


class Refused(Exception):
    """A call that did not end with OK."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class Frame:
    """A frame as it came."""

    def __init__(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        self.kind, self.flags, self.stream, self.payload = kind, flags, stream, payload

    @property
    def code(self) -> int:
        """The code of a RST_STREAM or GOAWAY."""
        at = 4 if self.kind == frames.GOAWAY else 0
        return int.from_bytes(self.payload[at : at + 4], "big")


class Grpc:
    """One connection.

    Attributes:
        closed: Set once the server has closed; holds nothing.
        goaway: The last GOAWAY.
        others: Frames that belong to no call.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.encoder, self.decoder = hpack.Encoder(), hpack.Decoder()
        self.next_stream = 1
        self.streams: dict[int, asyncio.Queue[Frame | None]] = defaultdict(asyncio.Queue)
        self.goaway: Frame | None = None
        self.closed = asyncio.Event()
        self.others: asyncio.Queue[Frame | None] = asyncio.Queue()
        self.heads: dict[int, list[dict[str, str]]] = defaultdict(list)
        self.replenishes = True
        self.task = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        try:
            while True:
                head = await self.reader.readexactly(9)
                length = int.from_bytes(head[:3], "big")
                stream = int.from_bytes(head[5:], "big")
                frame = Frame(head[3], head[4], stream, await self.reader.readexactly(length))
                self._took(frame)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.closed.set()
            self.others.put_nowait(None)
            for queue in self.streams.values():
                queue.put_nowait(None)

    def _took(self, frame: Frame) -> None:
        if frame.kind == frames.HEADERS:
            found = dict(self.decoder.decode(frame.payload))
            self.heads[frame.stream].append({str(k): str(v) for k, v in found.items()})
        if frame.kind == frames.PING and not frame.flags & frames.ACK:
            self.send(frames.PING, frames.ACK, 0, frame.payload)
        if frame.kind == frames.GOAWAY:
            self.goaway = frame
        (self.streams[frame.stream] if frame.stream else self.others).put_nowait(frame)

    def send(self, kind: int, flags: int, stream: int, payload: bytes = b"") -> None:
        """Send any frame."""
        if not self.writer.is_closing():
            self.writer.write(frames.frame(kind, flags, stream, payload))

    def start(self, settings: dict[int, int] | None = None) -> None:
        """Send preface and settings, with windows that never hinder unless told otherwise."""
        if settings is None:
            settings = {frames.INITIAL_WINDOW_SIZE: BIG}
            self.writer.write(HTTP2_PREFACE + frames.settings_frame(settings))
            self.writer.write(frames.window_update(0, BIG))
        else:
            self.writer.write(HTTP2_PREFACE + frames.settings_frame(settings))

    def headers(self, path: str, *extra: tuple[str, str], **replaced: str) -> bytes:
        """Encode the headers of a call."""
        fields = {
            ":method": "POST",
            ":scheme": "http",
            ":path": path,
            ":authority": "127.0.0.1",
            "content-type": "application/grpc",
            "te": "trailers",
        }
        for name, value in replaced.items():
            fields[name.replace("__", ":").replace("_", "-")] = value
        encoded: bytes = self.encoder.encode([*fields.items(), *extra])
        return encoded

    def open(self, path: str, *extra: tuple[str, str], flags: int = 0, **replaced: str) -> int:
        """Begin a call; give its stream."""
        stream = self.next_stream
        self.next_stream += 2
        block = self.headers(path, *extra, **replaced)
        self.send(frames.HEADERS, frames.END_HEADERS | flags, stream, block)
        return stream

    def write(self, stream: int, message: Any, *, last: bool = False) -> None:
        """Send a message, in frames as large as allowed."""
        data = message if isinstance(message, bytes) else message.SerializeToString()
        body = b"\0" + len(data).to_bytes(4, "big") + data
        for at in range(0, len(body), 16_384):
            part = body[at : at + 16_384]
            is_last = last and at + 16_384 >= len(body)
            self.send(frames.DATA, frames.END_STREAM if is_last else 0, stream, part)

    async def frame(self, stream: int) -> Frame | None:
        """Wait for the next frame of a stream, or of the connection (0); None at the end."""
        return await (self.streams[stream] if stream else self.others).get()

    async def payloads(self, stream: int) -> AsyncIterator[bytes]:
        """Give the messages of a stream until it ends.

        Raises:
            Refused: It did not end well.
        """
        rest = b""
        while True:
            frame = await self.frame(stream)
            if frame is None:
                raise Refused(-1, "the connection was closed")
            if frame.kind == frames.DATA:
                if self.replenishes and frame.payload:
                    self.writer.write(frames.window_update(0, len(frame.payload)))
                    self.writer.write(frames.window_update(stream, len(frame.payload)))
                rest += frame.payload
                while len(rest) >= 5 and len(rest) >= 5 + int.from_bytes(rest[1:5], "big"):
                    length = int.from_bytes(rest[1:5], "big")
                    yield rest[5 : 5 + length]
                    rest = rest[5 + length :]
            elif frame.kind == frames.RST_STREAM:
                raise Refused(-2, f"reset: {frame.code}")
            elif frame.kind == frames.HEADERS and frame.flags & frames.END_STREAM:
                head = self.heads[stream][-1]
                code = int(head.get("grpc-status", -int(head.get(":status", 0))))
                if code:
                    raise Refused(code, head.get("grpc-message", ""))
                return

    async def call(self, path: str, *extra: tuple[str, str], **fields: Any) -> Any:
        """Make a unary call with a message of these fields, and wait for its answer."""
        return await self.ask(path, METHODS[path].request(**fields), *extra)

    async def ask(self, path: str, message: Any, *extra: tuple[str, str]) -> Any:
        """Make a unary call and wait for its answer."""
        stream = self.open(path, *extra)
        self.write(stream, message, last=True)
        return await self.answer(stream, path)

    async def answer(self, stream: int, path: str) -> Any:
        """Wait for the one answer of a call."""
        found = [payload async for payload in self.payloads(stream)]
        assert len(found) == 1
        return METHODS[path].response.FromString(found[0])

    def talk(self, path: str, *extra: tuple[str, str]) -> Talk:
        """Begin a streaming call."""
        return Talk(self, path, self.open(path, *extra))


class Talk:
    """A streaming call."""

    def __init__(self, grpc: Grpc, path: str, stream: int) -> None:
        self.grpc, self.stream = grpc, stream
        self._method = METHODS[path]
        self._payloads = grpc.payloads(stream)

    def say(self, *, last: bool = False, **fields: Any) -> None:
        """Send a message of these fields."""
        self.grpc.write(self.stream, self._method.request(**fields), last=last)

    async def hear(self) -> Any:
        """Wait for the next message.

        Raises:
            StopAsyncIteration: The stream has ended well.
            Refused: It has not.
        """
        return self._method.response.FromString(await anext(self._payloads))

    def reset(self) -> None:
        """Give the call up."""
        code = int(frames.H2Error.CANCEL)
        self.grpc.send(frames.RST_STREAM, 0, self.stream, struct.pack(">L", code))


@contextlib.asynccontextmanager
async def connected(port: int, *, greets: bool = True, **options: Any) -> AsyncIterator[Grpc]:
    """Open a connection to a member of this machine."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, **options)
    grpc = Grpc(reader, writer)
    try:
        if greets:
            grpc.start()
        yield grpc
    finally:
        grpc.task.cancel()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
