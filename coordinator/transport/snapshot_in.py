"""Receiving snapshots: at most one of each member, into a sink of the node's.

The sink is filled by a task of its own, so that it may be slow: the sender is told what was written
and sends only so much ahead. If the connection breaks, the sink stays as it is for a while; the
sender comes back with the same stream and goes on with the chunk after the last that arrived.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

import msgspec

from coordinator.transport.frames import Kind, SnapshotHead, SnapshotReady, Violation
from coordinator.transport.notices import logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from coordinator.transport.connection import Connection
    from coordinator.transport.limits import Limits
    from coordinator.transport.ports import PeerHandler, PeerHello, SnapshotSink

REASON_CHARACTERS_MAX: Final = 2000

_decode_head = msgspec.msgpack.Decoder(SnapshotHead).decode


class IncomingSnapshots:
    """All streams that come in.

    Args:
        handler: Gives the sinks.
        limits: The bounds.
    """

    def __init__(self, handler: PeerHandler, limits: Limits) -> None:
        self._handler = handler
        self._limits = limits
        self._streams: dict[int, IncomingSnapshot] = {}
        self._is_closed = False

    def take(self, connection: Connection, hello: PeerHello) -> None:
        """Expect a stream, new or known, on a connection."""
        connection.on_frame = lambda kind, body: self._begin(connection, hello.member, kind, body)

    def drop(self, member: int) -> None:
        """Give up what comes from a member that is no peer any more."""
        stream = self._streams.get(member)
        if stream:
            stream.give_up("the sender is no peer any more")

    async def close(self) -> None:
        """Give everything up and wait until the sinks have heard it."""
        self._is_closed = True
        streams = list(self._streams.values())
        for stream in streams:
            stream.give_up("this member is stopping")
        if streams:
            _, late = await asyncio.wait([s.task for s in streams], timeout=self._limits.stop_s)
            for task in late:
                logger.warning("a snapshot that came in did not end in time")
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        for stream in streams:
            stream.stop_timer()
        self._streams.clear()

    def _begin(self, connection: Connection, member: int, kind: int, body: bytes) -> None:
        if kind != Kind.HEAD:
            raise Violation(f"a frame of kind {kind} instead of a snapshot's head")
        try:
            head = _decode_head(body)
        except msgspec.MsgspecError as error:
            raise Violation(f"an unreadable snapshot head: {error}") from None
        known = self._streams.get(member)
        if known and known.head.stream == head.stream:
            known.attach(connection)
        elif head.base:
            connection.send(Kind.FORGOTTEN)
            connection.drain(self._limits.handshake_s)
        else:
            if known:
                known.give_up("a newer snapshot took its place")
            stream = IncomingSnapshot(member, head, self._handler, self._limits, after=known)
            self._streams[member] = stream
            stream.task.add_done_callback(lambda _: self._forget_later(stream))
            stream.attach(connection)

    def _forget_later(self, stream: IncomingSnapshot) -> None:
        """Keep the outcome for a sender that comes back for it, but not for ever."""
        stream.on_forget = lambda: self._forget(stream)
        if not self._is_closed:
            stream.restart_timer()

    def _forget(self, stream: IncomingSnapshot) -> None:
        if self._streams.get(stream.member) is stream:
            del self._streams[stream.member]


class IncomingSnapshot:
    """One stream.

    Args:
        member: Who sends it.
        head: What it began with.
        handler: Gives the sink.
        limits: The bounds.
        after: A former stream, whose sink has to end before that of this one begins.

    Attributes:
        task: Fills the sink; done when the outcome is known.
    """

    def __init__(
        self,
        member: int,
        head: SnapshotHead,
        handler: PeerHandler,
        limits: Limits,
        after: IncomingSnapshot | None,
    ) -> None:
        self.member = member
        self.head = head
        self.on_forget: Callable[[], None] = _nothing
        self._handler = handler
        self._limits = limits
        self._connection: Connection | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._changed = asyncio.Event()
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._received = 0
        self._written = 0
        self._total: int | None = None
        self._reason = ""
        self._is_aborted = False
        self._outcome: tuple[Kind, bytes] | None = None
        running = self._run(after.task if after else None)
        self.task: asyncio.Task[None] = asyncio.get_running_loop().create_task(running)

    def attach(self, connection: Connection) -> None:
        """Go on with a connection; one from before is over."""
        if not self.task.done():
            self.stop_timer()
        self._detach()
        self._connection = connection
        connection.on_frame = self._take
        connection.on_end = lambda: self._interrupted(connection)
        if self._outcome:
            self._tell_outcome()
            return
        ready = SnapshotReady(self._received, self._limits.chunks_in_flight_max)
        connection.send(Kind.READY, msgspec.msgpack.encode(ready))
        connection.send(Kind.WRITTEN, self._written.to_bytes(8, "big"))

    def stop_timer(self) -> None:
        """Wait for the sender no longer."""
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _detach(self) -> None:
        """Let go of the connection."""
        if self._connection:
            self._connection.on_end = lambda: None
            self._connection.abort()
            self._connection = None

    def give_up(self, reason: str) -> None:
        """End the stream before it is complete: the sink is aborted, the sender told why."""
        self._reason = self._reason or reason
        self._changed.set()

    def restart_timer(self) -> None:
        """Wait for the sender only so long from now."""
        self.stop_timer()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._limits.resume_s, self._waited)

    def _waited(self) -> None:
        self._timer = None
        if self.task.done():
            self.on_forget()
        elif self._total is None:  # else it is all here and needs no sender
            self.give_up("the sender did not come back")

    def _interrupted(self, connection: Connection) -> None:
        self._connection = None
        if not self._outcome:
            logger.info("snapshot from member %x interrupted: %s", self.member, connection.detail)
            self.restart_timer()

    def _take(self, kind: int, body: bytes) -> None:
        """Take what the sender says."""
        assert self._connection
        if kind == Kind.ABORT:
            self._is_aborted = True
            self.give_up("the sender gave up")
        elif self._total is not None or self._outcome:
            raise Violation("a frame after the end of a snapshot")
        elif kind == Kind.CHUNK:
            if len(self._queue) >= self._limits.chunks_in_flight_max:
                raise Violation("more of a snapshot than was asked for")
            self._queue.append(body)
            self._queued_bytes += len(body)
            self._received += 1
            if self._queued_bytes > self._limits.snapshot_bytes_in_flight_max:
                self._connection.pause_reading()
        elif kind == Kind.END:
            if int.from_bytes(body, "big") != self._received:
                raise Violation("a snapshot ends with another number of chunks than came")
            self._total = self._received
        else:
            raise Violation(f"a frame of kind {kind} in a snapshot")
        self._changed.set()

    async def _run(self, former: asyncio.Task[None] | None) -> None:
        if former:
            await asyncio.wait([former])
        sink: SnapshotSink | None = None
        try:
            if not self._reason:
                sink = self._handler.open_snapshot(self.member, self.head.head)
            if sink and await self._fill(sink):
                self._outcome = (Kind.FINISHED, b"")
        except Exception as error:
            self._reason = str(error) or type(error).__name__
            logger.warning("snapshot from member %x failed: %s", self.member, self._reason)
        if not self._outcome:
            self._queue.clear()
            self._outcome = (Kind.FAILED, self._reason[:REASON_CHARACTERS_MAX].encode())
            if sink:
                try:
                    await sink.abort()
                except Exception as error:
                    logger.warning("snapshot from member %x: abort: %r", self.member, error)
        self._tell_outcome()

    async def _fill(self, sink: SnapshotSink) -> bool:
        """Write what comes; return False if the stream was given up."""
        while not self._reason:
            if self._queue:
                chunk = self._queue.popleft()
                self._queued_bytes -= len(chunk)
                if self._connection:
                    self._connection.resume_reading()
                await sink.write(chunk)
                self._written += 1
                if self._connection:
                    self._connection.send(Kind.WRITTEN, self._written.to_bytes(8, "big"))
            elif self._total is not None:
                await sink.finish()
                return True
            else:
                self._changed.clear()
                await self._changed.wait()
        return False

    def _tell_outcome(self) -> None:
        if self._connection and self._outcome:
            self._connection.resume_reading()
            self._connection.send(*self._outcome)
            if self._is_aborted:  # nothing else comes, and the sender waits for the end
                self._connection.close()
            else:
                self._connection.drain(self._limits.handshake_s)


def _nothing() -> None:
    """Do nothing."""
