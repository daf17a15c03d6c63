"""Sending one snapshot, on connections of its own: one after the other, if they break.

A chunk is kept until the other side has written it, so that a new connection can go on where the
old one broke; what is kept is bounded, and the source is asked for no more than that.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

import msgspec

from coordinator.transport.errors import PeerRefused, PeerUnreachable
from coordinator.transport.frames import Kind, SnapshotHead, SnapshotReady, Violation
from coordinator.transport.notices import logger
from coordinator.transport.outgoing import Backoff, Caller
from coordinator.transport.ports import Purpose

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncIterator

    from coordinator.transport.connection import Connection

_decode_ready = msgspec.msgpack.Decoder(SnapshotReady).decode


class OutgoingSnapshot:
    """One stream.

    Args:
        caller: Dials the member.
        head: What the other node is told first.
        chunks: The content.
        random: Jitter, and the id of the stream.
    """

    def __init__(
        self, caller: Caller, head: bytes, chunks: AsyncIterator[bytes], random: random.Random
    ) -> None:
        self._caller = caller
        self._limits = caller.limits
        self._head = head
        self._chunks = chunks
        self._stream = random.getrandbits(128).to_bytes(16, "big")
        self._backoff = Backoff(caller.limits, random)
        self._changed = asyncio.Event()
        # Chunk number `_base` is the first of `_kept`; those below `_next` went out on the
        # connection of the moment. Invariant: base <= next <= base + len(kept).
        self._kept: deque[bytes] = deque()
        self._kept_bytes = 0
        self._base = 0
        self._next = 0
        self._window = 0
        self._is_exhausted = False
        self._is_ready = False
        self._made_progress = True
        self._outcome: tuple[int, str] | None = None
        self._give_up_at_s = 0.0

    async def run(self) -> None:
        """Send everything and wait until the other side has taken it over.

        Raises:
            PeerUnreachable: No connection, or it broke and did not come back in time.
            PeerRefused: The other side refused the snapshot, or its sink failed.
        """
        connection = await self._caller.call_any(Purpose.SNAPSHOT, self._take)
        while True:
            try:
                await self._pump(connection)
            except BaseException:
                connection.send(Kind.ABORT)
                connection.on_end = lambda: None
                connection.drain(self._limits.handshake_s)
                raise
            connection.on_end = lambda: None
            connection.close()
            if self._outcome is not None:
                break
            connection = await self._call_again(connection.detail)
        kind, reason = self._outcome
        if kind == Kind.FAILED:
            raise PeerRefused(reason)
        if kind == Kind.FORGOTTEN:
            raise PeerUnreachable("the other side has given the broken stream up")

    async def _call_again(self, detail: str) -> Connection:
        logger.info("snapshot to member %x interrupted: %s", self._caller.member, detail)
        loop = asyncio.get_running_loop()
        if self._made_progress:
            self._made_progress = False
            self._give_up_at_s = loop.time() + self._limits.resume_s
            self._backoff.reset()
        else:
            await asyncio.sleep(self._backoff.next_s())
        while True:
            try:
                return await self._caller.call_any(Purpose.SNAPSHOT, self._take)
            except PeerUnreachable as error:
                pause_s = self._backoff.next_s()
                if loop.time() + pause_s > self._give_up_at_s:
                    raise PeerUnreachable(f"the stream broke, and then: {error}") from None
                await asyncio.sleep(pause_s)

    async def _pump(self, connection: Connection) -> None:
        """Send on one connection until it ends or the outcome is known."""
        connection.on_end = self._changed.set
        self._is_ready = False
        has_ended = False
        head = SnapshotHead(self._stream, self._base, self._head)
        self._send(connection, Kind.HEAD, msgspec.msgpack.encode(head))
        while connection.is_open and self._outcome is None:
            if not self._is_ready or self._next - self._base >= self._window:
                await self._wait()
            elif self._next < self._base + len(self._kept):
                self._send(connection, Kind.CHUNK, self._kept[self._next - self._base])
                self._next += 1
            elif self._is_exhausted:
                if not has_ended:
                    has_ended = True
                    self._send(connection, Kind.END, self._next.to_bytes(8, "big"))
                await self._wait()
            elif self._kept_bytes >= self._limits.snapshot_bytes_in_flight_max:
                await self._wait()
            else:
                await self._draw()

    async def _draw(self) -> None:
        """Take the next chunk from the source."""
        try:
            chunk = await anext(self._chunks)
        except StopAsyncIteration:
            self._is_exhausted = True
        else:
            self._kept.append(chunk)
            self._kept_bytes += len(chunk)

    async def _wait(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def _send(self, connection: Connection, kind: Kind, body: bytes) -> None:
        if len(body) > self._limits.frame_bytes_max:
            raise ValueError(
                f"{kind.name.lower()} of {len(body)} bytes, at most {self._limits.frame_bytes_max}"
            )
        connection.send(kind, body)

    def _take(self, kind: int, body: bytes) -> None:
        """Take an answer of the other side."""
        if kind == Kind.WRITTEN:
            self._forget(int.from_bytes(body, "big"))
        elif kind == Kind.READY:
            try:
                ready = _decode_ready(body)
            except msgspec.MsgspecError as error:
                raise Violation(f"an unreadable answer: {error}") from None
            if not self._base <= ready.next <= self._base + len(self._kept) or ready.chunks_max < 1:
                raise Violation("the stream cannot go on where the other side wants it to")
            self._next = ready.next
            self._window = min(ready.chunks_max, self._limits.chunks_in_flight_max)
            self._is_ready = True
            self._made_progress = True
        elif kind in (Kind.FINISHED, Kind.FAILED, Kind.FORGOTTEN):
            self._outcome = (kind, body.decode(errors="replace"))
        else:
            raise Violation(f"a frame of kind {kind} as an answer")
        self._changed.set()

    def _forget(self, written: int) -> None:
        """Let go of the chunks that the other side has written."""
        if not self._base <= written <= self._next:
            raise Violation("more chunks written than sent")
        while self._base < written:
            self._base += 1
            self._kept_bytes -= len(self._kept.popleft())
        self._made_progress = True
