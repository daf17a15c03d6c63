"""Accepting TLS connections: each with the certificates of its moment, and none before it is due.

The event loop's own TLS servers keep one context for good, and say nothing to one who speaks
plain HTTP. So connections are accepted here, their first byte is looked at, and what begins like
TLS goes to the event loop with the context that holds now. The application sees a connection once
the other end has proved that it may come in.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from collections.abc import Callable

    from coordinator.tls.credentials import Credentials

HANDSHAKE: Final = b"\x16"
"""The first byte of TLS; neither HTTP nor our own peers begin like this."""
_ACCEPTED_AT_ONCE: Final = 64
_PAUSE_S: Final = 0.5
"""How long nobody is accepted after the system has run out of something."""
_LAST_WORDS_S: Final = 1.0
"""How long one who is not let in may take to read why."""
_EXHAUSTED: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class TlsListener:
    """Accepts connections on a socket.

    Args:
        listening: A bound socket that does not block.
        credentials: What we show and accept.
        make: Makes the protocol of a connection.
        handshake_s: How long the other end may take until TLS is agreed on.
        pending_max: How many may be about it; one more ends the one that is longest about it.
        backlog: How many may wait for being accepted.
        plain: What to answer to one who does not speak TLS.
        refuse: Gives what to answer, for a reason, to one who speaks HTTP/1.1 and is not let in.
        warn: Told of whoever did not come in.
    """

    def __init__(
        self,
        listening: socket.socket,
        credentials: Credentials,
        make: Callable[[], asyncio.BaseProtocol],
        *,
        handshake_s: float,
        pending_max: int = 1024,
        backlog: int = 1024,
        plain: bytes = b"",
        refuse: Callable[[str], bytes] = lambda reason: b"",
        warn: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.credentials = credentials
        self.make = make
        self.plain = plain
        self.refuse = refuse
        self.warn = warn
        self._listening = listening
        self._handshake_s = handshake_s
        self._pending_max = pending_max
        self._backlog = backlog
        self._loop = asyncio.get_running_loop()
        self._pending: dict[_Arrival, None] = {}
        self._pause: asyncio.TimerHandle | None = None
        self._is_closed = False

    def start(self) -> None:
        """Begin to accept.

        Raises:
            OSError: Another process took the address meanwhile.
        """
        self._listening.listen(self._backlog)
        self._loop.add_reader(self._listening, self._accept)

    def close(self) -> None:
        """Accept nobody any more, and forget those who have not come in yet."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._pause:
            self._pause.cancel()
        self._loop.remove_reader(self._listening)
        self._listening.close()
        for arrival in list(self._pending):
            arrival.end()

    async def wait_closed(self) -> None:
        """Return at once: nothing is left to wait for."""

    def _accept(self) -> None:
        for _ in range(_ACCEPTED_AT_ONCE):
            try:
                one, address = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    raise
                self.warn(f"no connection can be accepted for a moment: {error.strerror}")
                self._loop.remove_reader(self._listening)
                self._pause = self._loop.call_later(_PAUSE_S, self._go_on)
                return
            one.setblocking(False)
            if len(self._pending) >= self._pending_max:
                next(iter(self._pending)).end("too many are about it")
            arrival = _Arrival(self, one, str(address[0]), self._loop)
            self._pending[arrival] = None
            arrival.begin(self._handshake_s)

    def _go_on(self) -> None:
        self._pause = None
        self._loop.add_reader(self._listening, self._accept)

    def gone(self, arrival: _Arrival) -> None:
        """Forget one who has come in, or has not."""
        self._pending.pop(arrival, None)


class _Arrival:
    """A connection until its protocol has it."""

    def __init__(
        self,
        listener: TlsListener,
        one: socket.socket,
        address: str,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._listener = listener
        self._socket = one
        self._address = address
        self._loop = loop
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, seconds: float) -> None:
        """Wait for the first byte."""
        self._timer = self._loop.call_later(seconds, self.end, "said nothing in time")
        self._loop.add_reader(self._socket, self._first_byte, seconds)

    def _first_byte(self, seconds: float) -> None:
        try:
            # Left where it is, for the event loop to read again.
            first = self._socket.recv(1, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.end()
            return
        self._loop.remove_reader(self._socket)
        self._stop_waiting()
        if first == HANDSHAKE:
            self._task = self._loop.create_task(self._shake_hands(seconds))
            return
        if first:
            self._answer_plainly()
        self.end("does not speak TLS" if first else "")

    def _answer_plainly(self) -> None:
        with contextlib.suppress(OSError):
            # What it has said is read, as else it might never see the answer.
            self._socket.recv(65_536)
            self._socket.send(self._listener.plain)

    async def _shake_hands(self, seconds: float) -> None:
        listener = self._listener
        reason = ""
        try:
            await self._loop.connect_accepted_socket(
                lambda: _Admission(listener, self._address),
                self._socket,
                ssl=listener.credentials.server,
                ssl_handshake_timeout=seconds,
            )
        except ssl.SSLError as error:
            reason = f"TLS was not agreed on: {error.reason or error}"
        except OSError as error:
            reason = f"TLS was not agreed on: {str(error) or 'it took too long'}"
        finally:
            self._task = None
            listener.gone(self)
        if reason:
            self._socket.close()
            self._tell(reason)

    def _stop_waiting(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def end(self, reason: str = "") -> None:
        """Close it."""
        if self._timer:
            self._loop.remove_reader(self._socket)
        self._stop_waiting()
        if self._task:
            self._task.cancel()
        self._listener.gone(self)
        self._socket.close()
        if reason:
            self._tell(reason)

    def _tell(self, reason: str) -> None:
        self._listener.warn(f"a connection from {self._address} did not come in: {reason}")


class _Admission(asyncio.Protocol):
    """Looks at the certificate of the other end before the application hears of it."""

    def __init__(self, listener: TlsListener, address: str) -> None:
        self._listener = listener
        self._address = address

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let it in, or end it."""
        made = cast("asyncio.Transport", transport)
        listener = self._listener
        connection = made.get_extra_info("ssl_object")
        problem = listener.credentials.problem_of(connection)
        if not problem:
            protocol: Any = listener.make()
            made.set_protocol(protocol)
            protocol.connection_made(made)
            return
        listener.warn(f"a connection from {self._address} did not come in: {problem}")
        if connection.selected_alpn_protocol() != "h2":
            made.write(listener.refuse(problem))
        made.close()
        # TLS would wait for the other end to close as well.
        asyncio.get_running_loop().call_later(_LAST_WORDS_S, made.abort)
