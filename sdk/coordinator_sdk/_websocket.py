"""One WebSocket connection, as an asyncio protocol.

Handshake, closing and control frames are websockets' sans-I/O core's. What makes up nearly
all traffic, whole binary messages in one frame, is read from the buffer and written to the
transport here directly; everything else goes through the core, frame by frame.
"""

from __future__ import annotations

import asyncio
import os
from ssl import SSLError
from typing import TYPE_CHECKING, Any, cast

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidHandshake, InvalidStatus
from websockets.frames import DATA_OPCODES, Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import OPEN
from websockets.uri import parse_uri

from ._tls import silence
from .errors import ConnectionLost
from .protocol.frames import SUBPROTOCOL_MSGPACK, WEBSOCKET_PATH

try:
    from websockets.speedups import apply_mask
except ImportError:  # pragma: no cover - platforms without the C extension
    from websockets.utils import apply_mask

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from ._endpoints import Endpoint

MESSAGE_BYTES_MAX = 256 * 1024 * 1024
_HEAD_BYTES_MAX = 65_536
_BINARY_FINAL = 0x82
_TLS_ALERT = 0x15


class WebSocket(asyncio.Protocol):
    """A connection to one endpoint.

    Attributes:
        opened: Done when the handshake has succeeded; its exception tells why it has not.
        can_send: Whether the transport takes more at the moment.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        on_message: Callable[[memoryview | bytes], None],
        on_lost: Callable[[Exception], None],
        on_writable: Callable[[], None],
    ) -> None:
        scheme = "wss" if endpoint.secure else "ws"
        self._core = ClientProtocol(
            parse_uri(f"{scheme}://{endpoint.authority}{WEBSOCKET_PATH}"),
            subprotocols=cast("Any", [SUBPROTOCOL_MSGPACK]),
            max_size=MESSAGE_BYTES_MAX,
        )
        self._endpoint = endpoint
        self._on_message = on_message
        self._on_lost = on_lost
        self._on_writable = on_writable
        self._transport: asyncio.Transport | None = None
        self._partial = bytearray()
        self._fragments: list[bytes] = []
        self._error: Exception | None = None
        self._is_open = False
        self.can_send = True
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def dial(self, context: ssl.SSLContext | None, name: str | None) -> None:
        """Connect; returns after the handshake.

        Args:
            context: TLS, for an endpoint that speaks it.
            name: What must stand in its certificate then.
        """
        host, port = self._endpoint.host, self._endpoint.port
        loop = asyncio.get_running_loop()
        await loop.create_connection(
            lambda: self, host, port, ssl=context, server_hostname=name if context else None
        )
        await self.opened

    # ------------------------------------------------------------- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the handshake."""
        self._transport = cast("asyncio.Transport", transport)
        request = self._core.connect()
        self._core.send_request(request)
        self._write_core()

    def data_received(self, data: bytes) -> None:
        """Take in bytes."""
        if not self._is_open:
            self._handshake(data)
            return
        if self._partial:
            self._partial += data
            used = self._read(self._partial, copy=True)
            del self._partial[:used]
            return
        used = self._read(data, copy=False)
        if used < len(data):
            self._partial += memoryview(data)[used:]

    def eof_received(self) -> None:
        """Note the end of the stream; the transport closes itself."""
        self._core.receive_eof()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the owner, once."""
        error = self._error or exc
        if not self._is_open and not self._partial and not isinstance(error, SSLError):
            error = self._error or ConnectionLost(silence(self._endpoint))
        if error is None:
            code, reason = self._core.close_code, self._core.close_reason
            error = ConnectionLost(f"the server closed the connection ({code}) {reason}".rstrip())
        if not self.opened.done():
            self.opened.set_exception(error)
            self.opened.exception()  # whoever waits sees it; nobody waiting is fine as well
        on_lost, self._on_lost = self._on_lost, _ignore
        on_lost(error)

    def pause_writing(self) -> None:
        """Hold frames back."""
        self.can_send = False

    def resume_writing(self) -> None:
        """Let frames go."""
        self.can_send = True
        self._on_writable()

    # ------------------------------------------------------------- the owner's side

    def send(self, payload: bytes) -> None:
        """Send one binary message."""
        if self._transport is None or self._transport.is_closing():
            return
        size, mask = len(payload), os.urandom(4)
        if size < 126:
            head = bytes((_BINARY_FINAL, 0x80 | size))
        elif size < 65_536:
            head = b"\x82\xfe" + size.to_bytes(2, "big")
        else:
            head = b"\x82\xff" + size.to_bytes(8, "big")
        self._transport.write(b"".join((head, mask, apply_mask(payload, mask))))

    def close(self) -> None:
        """Begin the closing handshake."""
        if self._is_open and self._core.state is OPEN:
            self._core.send_close(1000)
            self._write_core()
        else:
            self.abort(ConnectionLost("the connection was closed"))

    def abort(self, error: Exception) -> None:
        """Drop the connection without ceremony."""
        self._error = self._error or error
        if self._transport is not None:
            self._transport.abort()

    # ------------------------------------------------------------- inside

    def _handshake(self, data: bytes) -> None:
        if not self._partial and data[0] == _TLS_ALERT and not self._endpoint.secure:
            url = f"https://{self._endpoint.authority}"
            self.abort(ConnectionLost(f"{self._endpoint.url} speaks TLS: use {url}"))
            return
        self._partial += data
        end = self._partial.find(b"\r\n\r\n") + 4
        if end < 4:
            if len(self._partial) > _HEAD_BYTES_MAX:
                self.abort(ConnectionLost("the server's answer is not HTTP"))
            return
        head, rest = bytes(self._partial[:end]), bytes(self._partial[end:])
        self._core.receive_data(head)
        if self._core.state is not OPEN:
            self._partial.clear()
            self._core.receive_data(rest)
            self._core.receive_eof()
            self._refused()
            return
        self._core.events_received()
        self._partial.clear()
        self._is_open = True
        if not self.opened.done():
            self.opened.set_result(None)
        if rest:
            self.data_received(rest)

    def _refused(self) -> None:
        error: Exception | None = self._core.handshake_exc
        for event in self._core.events_received():
            if isinstance(event, Response) and isinstance(error, InvalidStatus):
                body = (event.body or b"")[:300].decode("utf-8", "replace").strip()
                error = ConnectionLost(f"the server answered HTTP {event.status_code} {body}")
        if error is None or isinstance(error, InvalidHandshake | EOFError | ValueError):
            error = ConnectionLost(f"the server does not speak our protocol: {error}")
        self.abort(error)

    def _read(self, data: bytes | bytearray, copy: bool) -> int:
        """Handle the whole frames at the start of ``data``; returns their length."""
        at, end = 0, len(data)
        view = None if copy else memoryview(data)
        while end - at >= 2:
            size, start = data[at + 1], at + 2
            if size == 126:
                start = at + 4
                size = int.from_bytes(data[at + 2 : start], "big") if end >= start else end
            elif size == 127:
                start = at + 10
                size = int.from_bytes(data[at + 2 : start], "big") if end >= start else end
            elif size > 127:
                self.abort(ConnectionLost("the server sent a masked frame"))
                return end
            stop = start + size
            if size > MESSAGE_BYTES_MAX:
                self.abort(ConnectionLost(f"the server sent a message of {size} bytes"))
                return end
            if stop > end:
                break
            if data[at] == _BINARY_FINAL and not self._fragments:
                self._on_message(bytes(data[start:stop]) if view is None else view[start:stop])
            else:
                self._read_by_core(bytes(data[at:stop]))
            at = stop
        return at

    def _read_by_core(self, frame: bytes) -> None:
        self._core.receive_data(frame)
        for event in self._core.events_received():
            if not isinstance(event, Frame) or event.opcode not in DATA_OPCODES:
                continue
            if event.opcode is Opcode.TEXT:
                self.abort(ConnectionLost("the server sent text"))
                return
            self._fragments.append(bytes(event.data))
            if event.fin:
                message = b"".join(self._fragments)
                self._fragments.clear()
                self._on_message(message)
        self._write_core()

    def _write_core(self) -> None:
        if self._transport is None:
            return
        for data in self._core.data_to_send():
            if data:
                self._transport.write(data)
            else:
                self._transport.close()
                return
        if self._core.close_expected() and self._core.close_code is not None:
            self._transport.close()


def _ignore(error: Exception) -> None:
    """The owner has been told."""
