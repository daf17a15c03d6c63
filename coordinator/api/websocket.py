"""The WebSocket at ``/v1/ws``.

uvicorn hands an upgraded connection to this class. Complete messages in one masked frame, which
is nearly all there is, are parsed straight from the buffer; the handshake, control frames,
fragments, errors and closing go through the sans-IO core of ``websockets``, one whole frame
at a time, so that it always stands at the start of a frame.

Requests that the connection may not start yet wait in a backlog, and while they wait nothing
more is read: before the greeting is answered, while too many are in flight, and while the
client does not read what it asked for. So a client slows down itself and nobody else.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

from msgspec import Struct
from websockets.frames import DATA_OPCODES, CloseCode, Frame, Opcode
from websockets.http11 import Request as Upgrade
from websockets.protocol import OPEN
from websockets.speedups import apply_mask  # type: ignore[import-not-found,unused-ignore]

from coordinator.api.cluster import client_urls, greet
from coordinator.api.connection import Connection
from coordinator.api.dispatch import broken
from coordinator.api.handshake import new_core, refusal_of
from coordinator.api.protocol import CLOSE_GRACE_S, part_with
from coordinator.api.registry import Caller
from coordinator_sdk.errors import CoordinatorError, Exhausted, InvalidRequest, Stopping
from coordinator_sdk.protocol.auth import Login, Reauthenticate
from coordinator_sdk.protocol.cluster import Hello, HelloResult
from coordinator_sdk.protocol.codec import CODECS, JSON, Request
from coordinator_sdk.protocol.frames import Header

if TYPE_CHECKING:
    from coordinator.api.census import Place
    from coordinator.api.serving import Serving

WRITE_HIGH_BYTES = 262_144
"""Unsent bytes from which on a client counts as slow."""
BEFORE_HELLO = (Login, Reauthenticate)
SMALL_FRAME_BYTES = 16_384
"""Up to here a frame's head and body are worth joining."""
_CONTROL = 0x08


class WebSocketConnection(asyncio.Protocol, Connection):
    """The WebSocket of one client, of which host and port are told: a reset one tells no more."""

    transport: asyncio.Transport

    def __init__(self, serving: Serving, client: tuple[str, int], place: Place) -> None:
        caller = Caller(origin=f"{client[0]}:{client[1]}")
        Connection.__init__(self, serving.node, caller, JSON, serving.limits)
        serving.shares.join(self)
        self._place = self.place = place
        self._serving = serving
        self._address = client[0]
        self._table = serving.dispatcher.table
        self._loop = asyncio.get_running_loop()
        self._core = new_core(self.limits.text_bytes)
        self._is_open = False
        self._is_closing = False
        self._is_greeted = False
        self._first_byte = 0
        self._message_max = 0
        self._decode = serving.decoders[JSON.name].decode
        self._buffer = bytearray()
        self._fragments: list[bytes] | None = None
        self._control_frames = 0
        self._silence = self._stalled_s = 0.0
        self._stalled_at = self._size = self._members = 0
        self._timer: asyncio.TimerHandle | None = None
        self._backlog: deque[Request[Any]] = deque()
        self._is_paused = self._is_unfinished = False
        self._deferred: deque[Callable[[], None]] = deque()
        self._items: list[bytes] = []

    # ------------------------------------------------------------- coming and going

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take over the transport; the handshake follows as data."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's have another base
        self.transport.set_write_buffer_limits(high=WRITE_HIGH_BYTES)
        self.tls = transport.get_extra_info("ssl_object")
        self._serving.websockets[self] = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of everything."""
        self._serving.websockets.pop(self, None)
        self._place.leave()
        self._forget_parts()
        if self._timer is not None:
            self._timer.cancel()
        self._backlog.clear()
        self._deferred.clear()
        self._items.clear()
        self.end()

    def eof_received(self) -> bool:
        """The client sends no more: neither is it waited for."""
        return False

    def shutdown(self) -> None:
        """The server stops: say so, and close."""
        self.send_away(Stopping("the member is shutting down"), "shutting down")
        if not self._is_open:
            self.transport.abort()

    def send_away(self, error: CoordinatorError, reason: str) -> None:
        """Close, and tell the client where the other members are; it is to go there."""
        if self._is_open and not self._is_closing:
            others = client_urls(self.node, others_only=True)
            self._items.append(self.codec.encode_closing(error, others))
            self.close(CloseCode.SERVICE_RESTART, reason)

    def close(self, code: int, reason: str) -> None:
        """Send what is queued, then a close frame; then give the client a moment."""
        if self._is_closing:
            return
        self._flush()
        self._is_closing = True
        if self._core.state is OPEN:
            self._core.send_close(code, reason[:120])
        self._send_core()
        self._backlog.clear()
        self.end()
        if not self.transport.is_closing():
            self._set_paused(False)
            self._loop.call_later(CLOSE_GRACE_S, self.transport.abort)

    def _fail_core(self, code: int, reason: str) -> None:
        """The client broke the rules: close without waiting for its answer."""
        self._flush()
        self._core.fail(code, reason[:120])
        self._send_core()

    def _send_core(self) -> None:
        """Send what the core has to say; its end of stream closes the connection."""
        for data in self._core.data_to_send():
            if self.transport.is_closing():
                return
            if data:
                self.transport.write(data)
                continue
            self._is_closing = True
            self.end()
            part_with(self.transport, self._loop)

    # ------------------------------------------------------------- the handshake

    def _handshake(self, data: bytes) -> None:
        self._core.receive_data(data)
        for event in self._core.events_received():
            if isinstance(event, Upgrade):
                self._answer_upgrade(event)
        self._send_core()
        if self._core.handshake_exc is not None or self._core.parser_exc is not None:
            self.transport.close()

    def _answer_upgrade(self, request: Upgrade) -> None:
        core = self._core
        status, text = refusal_of(self._serving, self, request)
        core.send_response(core.reject(status, text) if status else core.accept(request))
        if core.state is not OPEN:
            return
        self.codec = CODECS.get(core.subprotocol or JSON.name, JSON)
        self._decode = self._serving.decoders[self.codec.name].decode
        self._first_byte = 0x82 if self.codec.binary else 0x81
        limits = self.limits
        self._message_max = limits.message_bytes if self.codec.binary else limits.text_bytes
        core.max_message_size = self._message_max
        self._is_open = True
        self._timer = self._loop.call_later(min(limits.greeting_s, limits.ping_s), self._tick)

    def refuse(self, error: CoordinatorError) -> None:
        """Close: whoever is at the other end may not be served at all."""
        self._items.append(self.codec.encode_closing(error))
        self.close(CloseCode.POLICY_VIOLATION, error.message)

    # ------------------------------------------------------------- liveness

    def _tick(self) -> None:
        """Ping, and close what is silent, stuck or never greeted."""
        limits = self.limits
        if self._is_closing:
            return
        if not self._is_greeted:
            self.close(CloseCode.POLICY_VIOLATION, "no hello")
            return
        self._timer = self._loop.call_later(limits.ping_s, self._tick)
        self._control_frames = 0
        if self.is_full:
            size = self.transport.get_write_buffer_size()
            self._stalled_s = self._stalled_s + limits.ping_s if size >= self._stalled_at else 0.0
            self._stalled_at = size
            if self._stalled_s >= limits.silence_s:
                self.transport.abort()
            return
        self._stalled_s = 0.0
        if not self._is_paused:
            self._silence += limits.ping_s
            if self._silence >= limits.silence_s:
                self._fail_core(CloseCode.POLICY_VIOLATION, "silent for too long")
                return
        self._flush()  # Who asks for nothing learns of changed members all the same.
        self._core.send_ping(b"")
        self._send_core()

    # ------------------------------------------------------------- reading

    def data_received(self, data: bytes) -> None:
        """Take in bytes: whole messages are served, the rest waits."""
        self._silence = 0.0
        if not self._is_open:
            self._handshake(data)
            return
        if self._is_closing:
            # Only the client's own close frame matters now.
            self._core.receive_data(bytes(self._buffer) + data)
            self._buffer.clear()
            self._core.events_received()
            self._send_core()
            return
        chunk: bytes | bytearray = data
        if self._buffer:
            self._buffer += data
            chunk = self._buffer
        used = self._take_frames(chunk)
        if chunk is self._buffer:
            del self._buffer[:used]
        elif used < len(data):
            self._buffer += data[used:]
        if self._buffer or self._fragments or self._is_unfinished:
            held = len(self._buffer) + sum(map(len, self._fragments or ()))
            self._is_unfinished = held > 0
            self._serving.unfinished.hold(self, self._address, held)

    def give_up(self, error: Exhausted) -> None:
        """Make room: too much is held of messages that do not come whole."""
        self._forget_parts()
        self._items.append(self.codec.encode_closing(error))
        self._fail_core(CloseCode.TRY_AGAIN_LATER, error.message)

    def _forget_parts(self) -> None:
        self._buffer.clear()
        self._fragments = None
        self._serving.unfinished.hold(self, self._address, 0)

    def _take_frames(self, data: bytes | bytearray) -> int:
        """Serve every whole frame; give the number of bytes used."""
        at, end, first = 0, len(data), self._first_byte
        while end - at >= 6 and not self._is_closing:
            lead, length = data[at], data[at + 1] - 0x80
            body = at + 6
            if length >= 126:
                body = at + 8 if length == 126 else at + 14
                if body > end:
                    break
                length = int.from_bytes(data[at + 2 : body - 4], "big")
            if not 0 <= length <= self._message_max or (lead & _CONTROL and length > 125):
                # Not masked, or too long: let the core find the words.
                self._feed_core(data[at:body], None)
                return end
            if body + length > end:
                break
            if lead == first and self._fragments is None:
                payload = apply_mask(data[body : body + length], data[body - 4 : body])
                self._message(payload)
            else:
                self._feed_core(data[at : body + length], lead)
            at = body + length
        if 2 <= end - at < 6 and data[at + 1] < 0x80:
            self._feed_core(data[at:], None)
            return end
        return at

    def _feed_core(self, frame: bytes | bytearray, lead: int | None) -> None:
        """Let the core of ``websockets`` take one whole frame, or a wrong one."""
        if lead is not None and lead & _CONTROL:
            self._control_frames += 1
            if self._control_frames > self.limits.control_frames:
                self._fail_core(CloseCode.POLICY_VIOLATION, "too many control frames")
                return
        core = self._core
        core.receive_data(frame)
        events = core.events_received()
        self._send_core()
        if core.parser_exc is not None:
            return
        if lead is None:
            self._fail_core(CloseCode.PROTOCOL_ERROR, "a control frame is too long")
            return
        for event in events:
            if isinstance(event, Frame) and event.opcode in DATA_OPCODES:
                self._data_frame(event)

    def _data_frame(self, frame: Frame) -> None:
        if frame.opcode is not Opcode.CONT:
            if (frame.opcode is Opcode.BINARY) != self.codec.binary:
                kind = "binary" if self.codec.binary else "text"
                self._fail_core(CloseCode.UNSUPPORTED_DATA, f"{self.codec.name} is {kind}")
                return
            self._fragments = []
        assert self._fragments is not None
        self._fragments.append(bytes(frame.data))
        if frame.fin:
            payload = b"".join(self._fragments)
            self._fragments = None
            self._message(payload)
        elif len(self._fragments) >= self.limits.fragments:
            self._fail_core(CloseCode.POLICY_VIOLATION, "too many fragments")

    def _message(self, payload: bytes | bytearray) -> None:
        """Serve one message: a batch of requests."""
        data: Any = payload
        try:
            if not self.codec.binary:
                data = payload.decode()
            floor, requests, failures = self._decode(data)
        except UnicodeDecodeError:
            self._fail_core(CloseCode.INVALID_DATA, "text is UTF-8")
            return
        except InvalidRequest as error:
            self._items.append(self.codec.encode_closing(error))
            self._fail_core(CloseCode.INVALID_DATA, error.message)
            return
        if floor > self.floor:
            self.floor = floor
        self._serving.dispatcher.check_sizes(len(payload), requests, failures)
        for id, failed in failures:
            self.in_flight += 1
            self.fail(id, failed)
        if (
            self._is_greeted
            and not self._backlog
            and not self.is_full
            and self.in_flight + len(requests) <= self.limits.in_flight
        ):
            self.in_flight += len(requests)
            table = self._table
            for request in requests:
                body = request.body
                try:
                    table[type(body)](self, request.id, body)
                except CoordinatorError as error:
                    self.fail(request.id, error)
                except Exception as failure:
                    broken(self, request.id, failure)
        else:
            self._backlog.extend(requests)
            self._pump()

    def _pump(self) -> None:
        """Serve what waits, as far as it may be served now; read only if nothing waits."""
        backlog, limit = self._backlog, self.limits.in_flight
        while backlog and not self._is_closing:
            if not self._is_greeted:
                if self.in_flight:
                    break
                self._greet(backlog.popleft())
                continue
            if self.in_flight >= limit or self.is_full:
                break
            self.in_flight += 1
            self._serve(backlog.popleft())
        self._set_paused(bool(backlog) or self.is_full)

    def _serve(self, request: Request[Any]) -> None:
        try:
            self._table[type(request.body)](self, request.id, request.body)
        except CoordinatorError as error:
            self.fail(request.id, error)
        except Exception as failure:
            broken(self, request.id, failure)

    def _set_paused(self, wanted: bool) -> None:
        if wanted != self._is_paused and not self.transport.is_closing():
            self._is_paused = wanted
            if wanted:
                self.transport.pause_reading()
            else:
                self.transport.resume_reading()

    # ------------------------------------------------------------- the greeting

    def _greet(self, request: Request[Any]) -> None:
        self.in_flight += 1
        if type(request.body) in BEFORE_HELLO:
            self._serve(request)
            return
        try:
            if type(request.body) is not Hello:
                raise InvalidRequest("the first request must be a hello", field="operation")
            greet(self, request.id, request.body, self.limits)
        except CoordinatorError as error:
            self.fail(request.id, error)

    def greeted(self, id: int, revision: int, result: HelloResult) -> None:
        """The client is known now: answer, and serve what has waited."""
        self.caller = self.caller.greeted(result.client)
        self._is_greeted = True
        self.answer(id, revision, result)

    # ------------------------------------------------------------- writing

    def answer(self, id: int, revision: int, result: Struct | None) -> None:
        """Answer request ``id``."""
        self.in_flight -= 1
        if self.opening:
            self.opening.discard(id)
        self._put(self.codec.encode_result(id, revision, result))

    def fail(self, id: int, error: CoordinatorError) -> None:
        """Refuse request ``id``, or end stream ``id`` with an error."""
        stream = self.take_stream(id)
        if stream is None or id in self.opening:
            self.in_flight -= 1
            self.opening.discard(id)
        if stream is not None:
            stream.cancel()
        self._put(self.codec.encode_failure(id, error))

    def deliver(self, ids: Sequence[int], revision: int, batch: bytes) -> None:
        """Send an encoded item to the streams ``ids``."""
        self._put(self.codec.encode_stream(ids, batch))

    def defer(self, work: Callable[[], None]) -> bool:
        """Call ``work`` once the client has read what was sent; False if it has."""
        if not self.is_full and self._size < WRITE_HIGH_BYTES:
            return False
        self._deferred.append(work)
        return True

    def _put(self, item: bytes) -> None:
        if self._is_closing or self.is_closed:
            return
        items = self._items
        if not items:
            self.node.soon(self._flush)
        items.append(item)
        self._size += len(item)
        if self._size > self.limits.output_bytes and len(items) > 1:
            self._cut_off()

    def _flush(self) -> None:
        """Send everything that was queued in this turn as one message."""
        node, items, members = self.node, self._items, self.node.machine.members_version
        is_news = self._is_greeted and members != self._members
        if (items or is_news) and not self._is_closing:
            self._items, self._size, self._members = [], 0, members
            header = Header(node.cluster_id, node.member_id, node.term, node.revision, members)
            self._write_frame(self.codec.join_frame(header, items))
        if self._deferred or self._backlog:
            self._resume()

    def _write_frame(self, body: bytes) -> None:
        transport, size = self.transport, len(body)
        if size < 126:
            head = bytes((self._first_byte, size))
        elif size < 65_536:
            head = bytes((self._first_byte, 126)) + size.to_bytes(2, "big")
        else:
            head = bytes((self._first_byte, 127)) + size.to_bytes(8, "big")
        if size <= SMALL_FRAME_BYTES:
            transport.write(head + body)
        else:
            transport.writelines((head, body))
        if self.is_full and transport.get_write_buffer_size() > self.limits.output_bytes + size:
            self._cut_off()

    def _cut_off(self) -> None:
        """The client does not read; what it missed it must fetch again."""
        self._items.clear()
        self._size = 0
        error = Exhausted("the client reads too slowly", limit="output_bytes")
        self._items.append(self.codec.encode_closing(error))
        self.close(CloseCode.POLICY_VIOLATION, "slow client")

    def pause_writing(self) -> None:
        """The client reads too slowly: stop reading from it, and tell who sends streams."""
        self.is_full = True
        self._stalled_at = self.transport.get_write_buffer_size()
        self._set_paused(True)

    def resume_writing(self) -> None:
        """The client has caught up."""
        self.is_full = False
        self._resume()
        if self.node.hub.is_lagging:
            self.node.catch_up()

    def _resume(self) -> None:
        while self._deferred and not self.is_full and self._size < WRITE_HIGH_BYTES:
            self._deferred.popleft()()
        if not self._is_closing:
            self._pump()
