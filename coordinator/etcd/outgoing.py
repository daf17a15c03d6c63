"""What leaves on an HTTP/2 connection: gathered, within the client's windows, and bounded."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

from coordinator.etcd import frames

if TYPE_CHECKING:
    from collections.abc import Callable

    from coordinator.api.limits import Limits
    from coordinator.etcd.frames import H2Error
    from coordinator.node.node import Node

PATIENCE: Final = 1000
"""Frames without use that are borne in one go: pings, settings, updates of windows, resets."""
PATIENCE_MAX: Final = 100_000
PATIENCE_PER_FRAME: Final = 4
"""What each useful frame adds to it: clients acknowledge what they get, and measure the line."""
RESETS: Final = 1000
"""Calls a client may reset between two of our pings, beside as many as were answered."""
WRITE_HIGH_BYTES: Final = 262_144


class Stream(Protocol):
    """One request of a connection, as the connection sees it."""

    id: int
    send_window: int
    is_served: bool
    is_closed: bool

    def take(self, data: bytes, is_last: bool) -> None:
        """Take a piece of the body."""

    def pump(self) -> bool:
        """Send what waits, one frame at most; whether more could be sent at once."""

    def abandon(self) -> None:
        """The client has reset the stream, or the connection is gone."""

    def stop(self) -> None:
        """The server stops."""


class Outgoing(asyncio.Protocol):
    """The sending half of a connection.

    Attributes:
        transport: The transport.
        node: The member.
        limits: What a client may ask.
        address: Where the client is, ``host:port``.
        send_window: Bytes of bodies that the client takes at the moment.
        initial_window: The same for each new stream.
        frame_max: The largest frame it takes.
        held_bytes: Bytes of unfinished messages of all streams.
        queued_bytes: Bytes of answers that wait for a window.
    """

    transport: asyncio.Transport

    def __init__(self, node: Node, limits: Limits) -> None:
        self.node = node
        self.limits = limits
        self.address = ""
        self.send_window = frames.DEFAULT_WINDOW
        self.initial_window = frames.DEFAULT_WINDOW
        self.frame_max = frames.FRAME_BYTES_MIN
        self.held_bytes = 0
        self.queued_bytes = 0
        self._streams: dict[int, Stream] = {}
        self._departed = 0
        """Calls whose stream is gone and whose work is not done yet."""
        self._blocked: dict[int, Stream] = {}
        self._deferred: deque[Callable[[], None]] = deque()
        self._out: list[bytes] = []
        self._is_flushing = False
        self._is_reading = False
        self._is_choked = False
        self._is_leaving = False
        self._is_closed = False
        self._patience = PATIENCE
        self._resets = RESETS

    def write(self, data: bytes) -> None:
        """Send bytes with all that this turn brings."""
        if self._is_closed:
            return
        self._out.append(data)
        if not self._is_flushing and not self._is_reading:
            self._is_flushing = True
            self.node.soon(self.flush)

    def flush(self) -> None:
        """Send what has gathered."""
        self._is_flushing = False
        if self._out and not self._is_closed:
            out, self._out = self._out, []
            self.transport.write(out[0] if len(out) == 1 else b"".join(out))

    def answered(self, count: int) -> None:
        """Useful frames came or went: the client may follow them up in many ways."""
        self._patience = min(self._patience + count * PATIENCE_PER_FRAME, PATIENCE_MAX)

    def close_stream(self, stream: Stream) -> None:
        """Forget a stream whose answer is complete."""
        self._streams.pop(stream.id, None)
        self._resets = min(self._resets + 1, 2 * RESETS)
        if stream.is_served:
            self._departed += 1
        if self._is_leaving:
            asyncio.get_running_loop().call_soon(self._leave)

    def served_late(self) -> None:
        """The work for a stream that is gone is done."""
        self._departed -= 1

    def reset_stream(self, stream: Stream, code: H2Error) -> None:
        """End a stream at once."""
        if self._streams.pop(stream.id, None) is not None:
            if stream.is_served:
                self._departed += 1
            self.write(frames.reset(stream.id, code))
            stream.abandon()

    def block(self, stream: Stream) -> None:
        """Note a stream that has more to send than a window allows."""
        self._blocked[stream.id] = stream

    def _pump(self) -> None:
        """Send what waits for a window, the streams by turns."""
        stuck: dict[int, Stream] = {}
        blocked = self._blocked
        while blocked and self.send_window > 0 and not self._is_closed:
            stream = blocked.pop(next(iter(blocked)))
            if stream.pump():
                blocked[stream.id] = stream
            elif stream.id in self._streams:
                stuck[stream.id] = stream
        blocked.update(stuck)
        self._resume()

    # ------------------------------------------------------------- slow readers

    @property
    def is_full(self) -> bool:
        """Whether the client reads too slowly to be sent more for now."""
        return self._is_choked or self.queued_bytes > WRITE_HIGH_BYTES

    def defer(self, work: Callable[[], None]) -> bool:
        """Call ``work`` once the client has read what was sent; False if it has."""
        if self.is_full:
            self._deferred.append(work)
            return True
        return False

    def pause_writing(self) -> None:
        """The client does not read."""
        self._is_choked = True
        if self.transport.get_write_buffer_size() > self.limits.output_bytes:
            self.transport.abort()

    def resume_writing(self) -> None:
        """The client reads again."""
        self._is_choked = False
        self._resume()

    def _resume(self) -> None:
        if self.is_full or self._is_closed:
            return
        while self._deferred and not self.is_full:
            self._deferred.popleft()()
        if self.node.hub.is_lagging:
            self.node.catch_up()

    def _leave(self) -> None:
        """Close once the last call is answered."""
        if self._is_leaving and not self._streams and not self._is_closed:
            self.flush()
            self.transport.close()
