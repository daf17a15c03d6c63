"""One TCP connection to another member, whoever dialled it and whatever for.

Sends and receives frames, shows that it lives, notices when the other side does not, and says once
why it ended. What the frames mean is for the one who holds the connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from enum import Enum
from typing import TYPE_CHECKING, Any, cast

from coordinator.transport.frames import PREAMBLE, FrameReader, Kind, Violation, encode
from coordinator.transport.traffic import round_trip_s

if TYPE_CHECKING:
    from collections.abc import Callable

    from coordinator.transport.limits import Limits


class Ending(Enum):
    """Why a connection is over."""

    BY_US = "this member closed it"
    BY_PEER = "the other side closed it"
    SILENCE = "the other side was silent"
    VIOLATION = "what came was not ours"
    NETWORK = "the network failed"


class Connection(asyncio.Protocol):
    """A connection, from its first byte on.

    Attributes:
        on_frame: Called with (kind, body) for every frame that is no ping.
        on_end: Called once, when nothing will come any more.
        on_full: Called when more than the limit is unsent.
        on_drained: Called when, after that, half of the limit is left.
        is_full: Whether more than the limit is unsent; what is sent now should be dropped.
        is_open: Whether frames are still taken and delivered.
        ending: Why it is over.
        detail: The same, more precisely, for the log.
        other: Address of the other side, for the log.
    """

    def __init__(self, limits: Limits, register: Connections) -> None:
        self.on_frame: Callable[[int, bytes], None] = _ignore
        self.on_end: Callable[[], None] = _nothing
        self.on_drained: Callable[[], None] = _nothing
        self.is_full = False
        self.is_open = False
        self.ending = Ending.BY_US
        self.detail = ""
        self.other = "?"
        self._limits = limits
        self._register = register
        self._transport: asyncio.Transport = None  # type: ignore[assignment]  # until it is made
        self._reader = FrameReader(limits.hello_bytes_max)
        self._deadline: asyncio.TimerHandle | None = None
        self._is_known = False
        self._is_paused = False
        self._silent_pings = 0

    # ---------------------------------------------------------------- from the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin with the preamble; who does not say hello in time is closed."""
        self._transport = transport = cast("asyncio.Transport", transport)
        self.other = _address(transport)
        self.is_open = True
        limit = self._limits.unsent_bytes_max
        transport.set_write_buffer_limits(high=limit, low=limit // 2)
        with contextlib.suppress(OSError, AttributeError):
            transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._abort_in(self._limits.handshake_s, Ending.SILENCE, "no hello in time")
        transport.write(PREAMBLE)
        self._register.add(self)

    def data_received(self, data: bytes) -> None:
        """Deliver the frames that are complete."""
        self._silent_pings = 0
        try:
            for kind, body in self._reader.feed(data):
                if not self.is_open:
                    return
                if kind != Kind.PING:
                    self.on_frame(kind, body)
        except Violation as violation:
            self.abort(Ending.VIOLATION, str(violation))

    def eof_received(self) -> None:
        """End at once: nothing is sent to one who does not listen any more."""
        self.abort(Ending.BY_PEER)

    def connection_lost(self, error: Exception | None) -> None:
        """Take note that it is over."""
        if self._deadline:
            self._deadline.cancel()
        # First: whatever those who are told do about it, this one is gone.
        self._register.remove(self)
        if isinstance(error, ConnectionError):
            self._end(Ending.BY_PEER, str(error))
        elif error is not None:
            self._end(Ending.NETWORK, str(error))
        else:
            self._end(Ending.BY_PEER, "")

    def pause_writing(self) -> None:
        """Take note that too much is unsent."""
        self.is_full = True

    def resume_writing(self) -> None:
        """Take note that there is room again."""
        self.is_full = False
        if self.is_open:
            self.on_drained()

    # ---------------------------------------------------------------- for the holder

    def send(self, kind: int, body: bytes = b"") -> None:
        """Send a frame; nothing happens if the connection is over."""
        if self.is_open:
            try:
                self._transport.write(encode(kind, body))
            except RuntimeError:
                pass  # uvloop: it has just broken, and we shall hear of it in the next turn

    @property
    def round_trip_s(self) -> float | None:
        """Until the other machine acknowledges what is sent, in seconds; None if unknown."""
        return round_trip_s(self._transport.get_extra_info("socket")) if self.is_open else None

    def establish(self) -> None:
        """Both sides know each other: from now on frames may be large and silence is noticed."""
        assert self._deadline
        self._deadline.cancel()
        self._deadline = None
        self._is_known = True
        self._reader.body_bytes_max = self._limits.frame_bytes_max

    def allow_large_frames(self) -> None:
        """Take large frames while the time for the handshake still runs."""
        self._reader.body_bytes_max = self._limits.frame_bytes_max

    def pause_reading(self) -> None:
        """Leave what comes to the network, which slows the other side down."""
        if self.is_open and not self._is_paused and not self._transport.is_closing():
            self._is_paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Go on reading."""
        if self.is_open and self._is_paused:
            self._is_paused = False
            self._silent_pings = 0
            if not self._transport.is_closing():
                self._transport.resume_reading()

    def close(self) -> None:
        """End it after what was sent has left; what comes in the meantime is dropped."""
        if self.is_open:
            self._transport.close()
            self._abort_in(self._limits.linger_s, Ending.BY_US, "")
            self._end(Ending.BY_US, "")

    def drain(self, seconds: float) -> None:
        """Leave the end to the other side, for a while, so that it can read what we said last.

        A connection that is closed with unread data in it is reset, which may take the last words
        from the other side.
        """
        if self.is_open:
            self.on_frame = _ignore
            self._abort_in(seconds, Ending.BY_US, "")

    def abort(self, ending: Ending = Ending.BY_US, detail: str = "") -> None:
        """End it at once; what is unsent is lost."""
        # First, as an exception of who is told must not keep it alive.
        self._transport.abort()
        self._end(ending, detail)

    def check_silence(self) -> None:
        """Show that we live; end it if the other side has not done so for too long.

        Intervals are counted, not time: a process that was stopped for a while reads what lies
        ready before it finds everybody silent.
        """
        if not self._is_known or not self.is_open or self._transport.is_closing():
            return
        if not self._is_paused:
            self._silent_pings += 1
            if self._silent_pings > self._limits.silent_pings_max:
                self.abort(Ending.SILENCE)
                return
        if not self._transport.get_write_buffer_size():  # else something is on its way anyhow
            self._transport.write(_PING)

    def _abort_in(self, seconds: float, ending: Ending, detail: str) -> None:
        if self._deadline:
            self._deadline.cancel()
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(seconds, self.abort, ending, detail)

    def _end(self, ending: Ending, detail: str) -> None:
        if self.is_open:
            self.is_open = False
            self.ending = ending
            self.detail = detail or ending.value
            self.on_end()


class Connections:
    """All connections of this member that are not gone yet."""

    def __init__(self) -> None:
        self._is_closed = False
        self._all: dict[Connection, None] = {}
        self._empty: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        return len(self._all)

    def add(self, connection: Connection) -> None:
        """Take note of a new one; it ends at once if all have to end."""
        self._all[connection] = None
        if self._is_closed:
            connection.abort()

    def remove(self, connection: Connection) -> None:
        """Take note that one is gone."""
        self._all.pop(connection, None)
        if self._empty and not self._all and not self._empty.done():
            self._empty.set_result(None)

    def check_silence(self) -> None:
        """Ping every one, and end those that are silent."""
        for connection in list(self._all):
            connection.check_silence()

    async def close(self, within_s: float) -> None:
        """End all of them after what was sent has left, and wait until they are gone.

        Args:
            within_s: How long to wait, in seconds. An event loop that never tells of the end of
                an aborted transport must not keep the member from ending.
        """
        self._is_closed = True
        for connection in list(self._all):
            connection.close()
        if self._all:
            self._empty = asyncio.get_running_loop().create_future()
            await asyncio.wait((self._empty,), timeout=within_s)


_PING = encode(Kind.PING)


def _ignore(kind: int, body: bytes) -> None:
    """Drop a frame."""


def _nothing() -> None:
    """Do nothing."""


def _address(transport: asyncio.Transport) -> str:
    name: Any = transport.get_extra_info("peername")
    return f"{name[0]}:{name[1]}" if isinstance(name, tuple) and len(name) > 1 else "?"
