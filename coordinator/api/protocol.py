"""HTTP/1.1 with limits: uvicorn's httptools protocol, and what it leaves open.

Headers have a time, a size and a number; bodies a time and a size, declared or counted;
connections are counted; a client that does not read is cut off. Host and Origin are checked
before the application sees a request. Refusals have the same JSON body as all errors.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from coordinator.api.http import error_body
from coordinator_sdk.errors import (
    CoordinatorError,
    Exhausted,
    InvalidRequest,
    RequestTooLarge,
)

if TYPE_CHECKING:
    from uvicorn.config import Config as UvicornConfig
    from uvicorn.server import ServerState

    from coordinator.api.census import Place
    from coordinator.api.serving import Serving

CLOSE_GRACE_S = 1.0
"""How long the other end may take to close."""
HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client says first that knows this port speaks HTTP/2; no request of HTTP/1.1 does."""
_SAFE = (b"GET", b"HEAD", b"OPTIONS")


class HttpProtocol(HttpToolsProtocol):
    """One HTTP connection."""

    def __init__(
        self,
        serving: Serving,
        config: UvicornConfig,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._serving = serving
        self._limits = serving.limits
        self._application = self.app
        self._address = ""
        self._place: Place | None = None
        self._is_refused = False
        self._is_reading = False
        self._is_amid = False
        self._in_headers = False
        self._begun = 0
        self._raw_bytes = 0
        self._header_bytes = 0
        self._body_bytes = 0
        self._refusal: tuple[CoordinatorError, int] | None = None
        self._first_bytes: bytes | None = b"" if serving.http2 is not None else None
        """What came while it could still become the preface of HTTP/2; None from then on."""
        self._arrival: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None

    # ------------------------------------------------------------- coming and going

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, if there is room."""
        super().connection_made(transport)
        if self.client is None:
            # It is reset already, and nobody knows whose requests would be served.
            transport.abort()
            return
        self.app_state["tls"] = transport.get_extra_info("ssl_object")
        self.app_state["client"] = self.client
        self._address = self.client[0]
        self._place = self._serving.census.admit(self._address, transport)
        if self._place is None:
            self._is_reading = self._serving.census.may_read()
            if not self._is_reading:
                transport.abort()  # Each that stays keeps a file open.
                return
            self._refuse(Exhausted("too many connections", limit="connections"))
            return
        self.app_state["place"] = self._place
        self._expect(self._limits.header_s, "headers")

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of everything."""
        self._forget_body()
        self._expect_nothing()
        self._unset_keepalive_if_required()
        if self._stall is not None:
            self._stall.cancel()
        if self._place is not None:
            self._place.leave()
        if self._is_reading:
            self._is_reading = False
            self._serving.census.has_read()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self) -> None:
        """Give the connection to the WebSocket, which has its place from now on."""
        self._expect_nothing()
        self._place = None
        super().handle_websocket_upgrade()

    def _handle_http2(self, data: bytes) -> None:
        """Give the connection to HTTP/2, which has its place from now on."""
        make, place = self._serving.http2, self._place
        assert make is not None
        assert self.client is not None
        assert place is not None
        self._expect_nothing()
        self._place = None
        self.connections.discard(self)
        protocol = make(self.connections, self.client, place)
        self.transport.set_protocol(protocol)
        protocol.connection_made(self.transport)
        protocol.data_received(data)

    def _unsupported_upgrade_warning(self) -> None:
        """Other upgrades are ignored, as HTTP allows."""

    # ------------------------------------------------------------- time

    def _expect(self, seconds: float, what: str) -> None:
        self._expect_nothing()
        self._arrival = self.loop.call_later(seconds, self._too_late, what)

    def _expect_nothing(self) -> None:
        if self._arrival is not None:
            self._arrival.cancel()
            self._arrival = None

    def _too_late(self, what: str) -> None:
        self._arrival = None
        if not self._in_headers and what == "headers":
            self.transport.close()  # Nothing came: nobody waits for an answer.
        else:
            error = InvalidRequest(f"{what}: did not arrive in time", field=what)
            self._refuse(error, HTTPStatus.REQUEST_TIMEOUT)

    def pause_writing(self) -> None:
        """The client does not read: give it a while."""
        super().pause_writing()
        if self._stall is None:
            self._stall = self.loop.call_later(self._limits.silence_s, self.transport.abort)

    def resume_writing(self) -> None:
        """The client reads again."""
        super().resume_writing()
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    # ------------------------------------------------------------- reading

    def data_received(self, data: bytes) -> None:
        """Parse what arrived, within the limits."""
        if self._is_refused or self.transport.is_closing():
            return
        if self._first_bytes is not None:
            data = self._first_bytes + data
            if HTTP2_PREFACE.startswith(data[: len(HTTP2_PREFACE)]):
                self._first_bytes = data
                if len(data) >= len(HTTP2_PREFACE):
                    self._handle_http2(data)
                return
            self._first_bytes = None
        self._unset_keepalive_if_required()
        cycle: RequestResponseCycle | None = self.cycle
        if self._arrival is None and (cycle is None or cycle.response_complete):
            self._expect(self._limits.header_s, "headers")
        was_amid = self._is_amid
        self._begun = 0
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            if self._should_upgrade():
                self.handle_websocket_upgrade()
        except httptools.HttpParserError:
            if self._refusal is None and data.startswith(b"\x16\x03"):
                self._refuse(InvalidRequest("this address does not speak TLS: use http"))
            elif self._refusal is None:
                self._refuse(InvalidRequest("the request is not valid HTTP", field="request"))
            else:
                self._refuse(*self._refusal)
        else:
            if not self._in_headers:
                return
            # Headers that go on: they have no callback, so their raw bytes are counted, from
            # where they surely began.
            if self._begun == 0 or (self._begun == 1 and not was_amid):
                self._raw_bytes += len(data)
            if self._raw_bytes > self._limits.header_bytes:
                self._refuse(*self._headers_too_large())

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._is_amid = self._in_headers = True
        self._begun += 1
        self._raw_bytes = 0
        self._header_bytes = 0
        self._body_bytes = 0

    def on_url(self, url: bytes) -> None:
        """Take in a part of the target."""
        super().on_url(url)
        self._count_header(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take in a header."""
        super().on_header(name, value)
        self._count_header(len(name) + len(value) + 4)

    def _count_header(self, size: int) -> None:
        self._header_bytes += size
        limits = self._limits
        if self._header_bytes > limits.header_bytes or len(self.headers) > limits.headers:
            self._refusal = self._headers_too_large()
            raise self._refusal[0]

    def _headers_too_large(self) -> tuple[CoordinatorError, int]:
        limits = self._limits
        error = RequestTooLarge(
            f"headers: at most {limits.headers} of together {limits.header_bytes} bytes",
            field="headers",
        )
        return error, HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE

    def on_headers_complete(self) -> None:
        """Check who asks before the application is asked."""
        self._in_headers = False
        self._expect(self._limits.body_s, "body")
        declared = [value for name, value in self.headers if name == b"content-length"]
        if declared and int(declared[0]) > self._limits.text_bytes:
            self._refusal = self._body_too_large()
            raise self._refusal[0]
        is_safe = self.parser.get_method() in _SAFE
        refusal = self._serving.gate.refusal(
            [value.decode("latin-1") for name, value in self.headers if name == b"host"],
            [
                value.decode("latin-1")
                for name, value in self.headers
                if name == b"origin" and not is_safe
            ],
            is_tls=self.app_state["tls"] is not None,
            needs_host=self.parser.get_http_version() != "1.0",
        )
        if refusal is not None:
            self._refusal = refusal, refusal.http_status
            raise refusal
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Count the body, whatever was declared."""
        self._body_bytes += len(body)
        if self._body_bytes > self._limits.text_bytes:
            self._refusal = self._body_too_large()
            raise self._refusal[0]
        self._serving.unfinished.hold(self, self._address, self._body_bytes)
        if self._is_refused:
            return
        super().on_body(body)

    def give_up(self, error: Exhausted) -> None:
        """Make room: too much is held of bodies that do not come whole."""
        self._refuse(error)

    def _forget_body(self) -> None:
        if self._body_bytes:
            self._body_bytes = 0
            self._serving.unfinished.hold(self, self._address, 0)

    def _body_too_large(self) -> tuple[CoordinatorError, int]:
        error = RequestTooLarge(
            "etcdserver: request is too large", field="body", limit=self._limits.text_bytes
        )
        return error, error.http_status

    def on_message_complete(self) -> None:
        """The request is here."""
        self._is_amid = False
        self._forget_body()
        self._expect_nothing()
        super().on_message_complete()

    # ------------------------------------------------------------- refusing

    def _refuse(self, error: CoordinatorError, status: int | None = None) -> None:
        """Answer with an error, unless an answer is under way, and close."""
        self._forget_body()
        self._expect_nothing()
        if self._is_refused or self.transport.is_closing():
            return
        cycle: RequestResponseCycle | None = self.cycle
        is_under_way = cycle is not None and not cycle.response_complete
        if cycle is not None and is_under_way:
            cycle.disconnected = True
            cycle.body = bytearray()
            cycle.message_event.set()
        if cycle is None or not is_under_way or not cycle.response_started:
            self.transport.write(raw_answer(error, status or error.http_status))
        self._is_refused = True
        part_with(self.transport, self.loop)


def part_with(transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
    """Close a connection so that the other end can read the last words.

    Closing with bytes unread would reset the connection, and what was just written might never
    be seen. So only our half is closed; what still comes is read and forgotten for a moment.
    """
    if transport.can_write_eof():
        transport.write_eof()
    else:
        transport.close()
    loop.call_later(CLOSE_GRACE_S, transport.abort)


def raw_answer(error: CoordinatorError, code: int) -> bytes:
    """Write a whole HTTP response that refuses and closes."""
    body = error_body(error)
    status = HTTPStatus(code)
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body
