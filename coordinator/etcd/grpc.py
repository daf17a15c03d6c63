"""gRPC on an HTTP/2 stream: messages in and out, deadlines, and how a call ends."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet

from google.protobuf.message import DecodeError

from coordinator.etcd import frames
from coordinator.etcd.calls import Call, Conversation, Served, guarded
from coordinator.etcd.frames import STREAM_WINDOW, H2Error
from coordinator.etcd.status import NO_LEADER, Code, StatusError, status_of, told

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from coordinator.etcd.headers import Head
    from coordinator.etcd.http2 import Http2Connection
    from coordinator.etcd.identity import Identify

logger = logging.getLogger("coordinator.etcd")

MESSAGE_OVERHEAD_BYTES: Final = 512 << 10
"""What a message may be larger than a request, as with etcd."""
UNREAD_BYTES: Final = 262_144
"""Bytes of one stream that wait for its window, from which on its client counts as slow."""


def _literal(name: bytes, value: bytes) -> bytes:
    """Write a header that enters no table, so that it means the same on every connection."""
    assert len(name) < 127, "a longer name needs another encoding"
    return b"\x00" + bytes((len(name),)) + name + _length(value) + value


def _length(value: bytes) -> bytes:
    size = len(value)
    if size < 127:
        return bytes((size,))
    parts = bytearray(b"\x7f")
    size -= 127
    while size > 127:
        parts.append(size & 127 | 128)
        size >>= 7
    parts.append(size)
    return bytes(parts)


_STATUS_200 = b"\x88"
_CONTENT_TYPE = _literal(b"content-type", b"application/grpc")
_ACCEPT = _literal(b"grpc-accept-encoding", b"identity")
_HEADERS = _STATUS_200 + _CONTENT_TYPE
_OK = _literal(b"grpc-status", b"0") + _literal(b"grpc-message", b"")

_HEADERS_FRAME = frames.frame(frames.HEADERS, frames.END_HEADERS, 0, _HEADERS)
_HEADERS_START, _HEADERS_END = _HEADERS_FRAME[:5], _HEADERS_FRAME[9:]
_OK_FRAME = frames.frame(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, 0, _OK)
_OK_START, _OK_END = _OK_FRAME[:5], _OK_FRAME[9:]
_DATA = bytes((frames.DATA, 0))


def percent_encoded(message: str) -> bytes:
    """Write a status message so that it fits into a header."""
    return b"".join(
        bytes((byte,)) if 0x20 <= byte <= 0x7E and byte != 0x25 else b"%%%02X" % byte
        for byte in message.encode(errors="replace")
    )


def _trailers(error: StatusError) -> bytes:
    return _literal(b"grpc-status", b"%d" % error.code) + _literal(
        b"grpc-message", percent_encoded(error.message[:4096])
    )


class GrpcStream(Call):
    """One call.

    Attributes:
        id: The stream.
        send_window: Bytes that the client takes of it at the moment.
        is_served: Whether the service has been asked and has not answered yet.
    """

    __slots__ = (
        "_connection",
        "_content_length",
        "_conversation",
        "_deadline",
        "_has_headers",
        "_id_bytes",
        "_is_half_closed",
        "_message_max",
        "_part",
        "_pending",
        "_pending_bytes",
        "_receive_window",
        "_served",
        "_tasks",
        "_trailers",
        "__weakref__",
        "id",
        "is_served",
        "send_window",
    )

    def __init__(self, connection: Http2Connection, id: int, served: Served | None) -> None:
        self.id = id
        self.is_closed = False
        self.is_served = False
        self.send_window = connection.initial_window
        self._connection = connection
        self._served = served
        self._id_bytes = id.to_bytes(4, "big")
        self._has_headers = False
        self._is_half_closed = False
        self._part = b""
        self._receive_window = STREAM_WINDOW
        self._content_length = -1
        self._message_max = connection.limits.request_bytes + MESSAGE_OVERHEAD_BYTES
        self._conversation: Conversation | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._pending: deque[bytes] | None = None
        self._pending_bytes = 0
        self._trailers: bytes | None = None
        self._tasks: set[asyncio.Task[None]] | None = None

    def begin(self, head: Head, identify: Identify) -> None:
        """Look at the headers: who asks, for what, and for how long."""
        fields = head.fields
        if b"content-length" in fields:
            text = fields[b"content-length"]
            self._content_length = int(text) if text.isdigit() and len(text) < 19 else 0
        self.caller = identify(
            fields.get(b"token") or fields.get(b"authorization") or b"", self._connection.address
        )
        served = self._served
        assert served is not None
        if head.timeout_s is not None:
            loop = asyncio.get_running_loop()
            self._deadline = loop.call_later(head.timeout_s, self._expire)
        if served.converse is not None:
            self._conversation = served.converse(self)

    # ------------------------------------------------------------- what comes in

    def take(self, data: bytes, is_last: bool) -> None:
        """Take a piece of the body."""
        if self._is_half_closed:
            self._connection.reset_stream(self, H2Error.STREAM_CLOSED)
            return
        size = len(data)
        self._receive_window -= size
        if self._receive_window < 0:
            self._connection.reset_stream(self, H2Error.FLOW_CONTROL_ERROR)
            return
        if self._content_length >= 0 and not self._counts(size, is_last):
            return
        served = self._served
        if served is None or self.is_closed:
            return
        self._is_half_closed = is_last
        try:
            if (
                is_last
                and not self._part
                and served.unary is not None
                and size >= 5
                and data[0] == 0
                and int.from_bytes(data[1:5], "big") == size - 5
            ):
                self._ask(served, data[5:])
                return
            self._collect(data)
            if is_last and not self.is_closed:
                self._no_more()
        except Exception as error:
            self._broken(error)

    def _counts(self, size: int, is_last: bool) -> bool:
        """Whether the body can still be as long as its header said."""
        self._content_length -= size
        if self._content_length >= 0 and not (is_last and self._content_length):
            return True
        self._connection.reset_stream(self, H2Error.PROTOCOL_ERROR)
        return False

    def _collect(self, data: bytes) -> None:
        """Put messages together that come in pieces."""
        connection = self._connection
        connection.held_bytes -= len(self._part)
        part = self._part + data if self._part else data
        self._part = b""
        at = 0
        while len(part) - at >= 5:
            length = int.from_bytes(part[at + 1 : at + 5], "big")
            if part[at]:
                raise StatusError(Code.UNIMPLEMENTED, "grpc: compressed messages are not supported")
            if length > self._message_max:
                raise StatusError(
                    Code.RESOURCE_EXHAUSTED,
                    f"grpc: received message larger than max ({length} vs. {self._message_max})",
                )
            if len(part) - at - 5 < length:
                break
            self._message(part[at + 5 : at + 5 + length])
            at += 5 + length
            if self.is_closed:
                return
        self._part = part[at:]
        connection.held_bytes += len(self._part)
        if connection.held_bytes > connection.limits.output_bytes:
            raise StatusError(Code.RESOURCE_EXHAUSTED, "etcdserver: too many requests")
        self._replenish()

    def _replenish(self) -> None:
        """Let the client send more, once it has used up half of what it may."""
        if self._receive_window < STREAM_WINDOW // 2 and not self._is_half_closed:
            amount = STREAM_WINDOW - self._receive_window
            self._connection.write(frames.window_update(self.id, amount))
            self._receive_window = STREAM_WINDOW

    def _message(self, payload: bytes) -> None:
        served = self._served
        assert served is not None
        if self._conversation is not None:
            self._conversation.received(self._parsed(served, payload))
        elif self.is_served:
            raise StatusError(Code.INTERNAL, "grpc: more than one message of a unary call")
        else:
            self._ask(served, payload)

    def _ask(self, served: Served, payload: bytes) -> None:
        self.is_served = True
        assert served.unary is not None
        served.unary(self, self._parsed(served, payload))

    def _parsed(self, served: Served, payload: bytes) -> Any:
        try:
            return served.method.request.FromString(payload)
        except DecodeError as error:
            raise StatusError(
                Code.INTERNAL, f"grpc: error unmarshalling request: {error}"
            ) from None

    def _no_more(self) -> None:
        if self._part:
            raise StatusError(Code.INTERNAL, "grpc: the last message is incomplete")
        if self._conversation is not None:
            self._conversation.half_closed()
        elif not self.is_served:
            raise StatusError(Code.INTERNAL, "grpc: a unary call without a message")

    def _broken(self, error: Exception) -> None:
        status = status_of(error)
        if status.code is Code.INTERNAL and not isinstance(error, StatusError):
            logger.error("a call broke: %r", error, exc_info=error)
        self.fail(status)

    # ------------------------------------------------------------- what goes out

    @property
    def is_full(self) -> bool:
        """Whether the client reads too slowly to be sent more for now."""
        return self._pending_bytes > UNREAD_BYTES or self._connection.is_full

    def reply(self, payload: bytes) -> None:
        """Answer a unary call."""
        connection = self._connection
        self._settle()
        if self.is_closed:
            return
        size = len(payload)
        body = size + 5
        if (
            body <= connection.frame_max
            and body <= connection.send_window
            and body <= self.send_window
            and self._is_half_closed
            and not connection.queued_bytes
        ):
            connection.send_window -= body
            id = self._id_bytes
            connection.write(
                b"".join(
                    (
                        _HEADERS_START,
                        id,
                        _HEADERS_END,
                        body.to_bytes(3, "big"),
                        _DATA,
                        id,
                        size.to_bytes(5, "big"),
                        payload,
                        _OK_START,
                        id,
                        _OK_END,
                    )
                )
            )
            connection.answered(3)
            self._close()
            return
        self.send(payload)
        self.finish()

    def send(self, payload: bytes) -> None:
        """Send a message."""
        if self.is_closed or self._trailers is not None:
            return
        connection = self._connection
        if not self._has_headers:
            self.send_headers()
        if connection.queued_bytes > connection.limits.output_bytes:
            connection.transport.abort()
            return
        data = len(payload).to_bytes(5, "big") + payload
        if self._pending is None:
            self._pending = deque()
        self._pending.append(data)
        self._pending_bytes += len(data)
        connection.queued_bytes += len(data)
        if len(self._pending) == 1:
            while self.pump():
                pass
            if self._pending:
                connection.block(self)

    def send_headers(self) -> None:
        """Say that the call is being served; only streams need that before their first item."""
        if not self._has_headers and not self.is_closed:
            self._has_headers = True
            self._connection.write(_HEADERS_START + self._id_bytes + _HEADERS_END)
            self._connection.answered(1)

    def pump(self) -> bool:
        """Send what waits, one frame at most; whether more could be sent at once."""
        pending = self._pending
        if pending:
            connection = self._connection
            data = pending[0]
            size = min(len(data), connection.send_window, self.send_window, connection.frame_max)
            if size <= 0:
                return False
            if size < len(data):
                pending[0] = data[size:]
                data = data[:size]
            else:
                pending.popleft()
            connection.send_window -= size
            self.send_window -= size
            self._pending_bytes -= size
            connection.queued_bytes -= size
            connection.write(size.to_bytes(3, "big") + _DATA + self._id_bytes + data)
            connection.answered(1)
        if not pending:
            if self._trailers is not None:
                self._write_trailers(self._trailers)
            return False
        return True

    def finish(self) -> None:
        """End a stream well."""
        self._finish(_OK)

    def fail(self, error: BaseException) -> None:
        """End the call with the status of an error."""
        self._settle()
        self._finish(_trailers(status_of(error)))

    def _finish(self, trailers: bytes) -> None:
        if self.is_closed or self._trailers is not None:
            return
        self._trailers = trailers
        if not self._pending:
            self._write_trailers(trailers)

    def _write_trailers(self, trailers: bytes) -> None:
        connection = self._connection
        block = trailers if self._has_headers else _HEADERS + trailers
        flags = frames.END_HEADERS | frames.END_STREAM
        connection.write(frames.frame(frames.HEADERS, flags, self.id, block))
        if not self._is_half_closed:
            connection.write(frames.reset(self.id, H2Error.NO_ERROR))
        connection.answered(1)
        self._close()

    def refuse(self, status: bytes) -> None:
        """Answer what is no call of gRPC with a status of HTTP."""
        block = b"\x08\x03" + status + _ACCEPT
        flags = frames.END_HEADERS | frames.END_STREAM
        self._connection.write(frames.frame(frames.HEADERS, flags, self.id, block))
        self._connection.write(frames.reset(self.id, H2Error.NO_ERROR))
        self._close()

    # ------------------------------------------------------------- the end

    def defer(self, work: Callable[[], None]) -> bool:
        """Call ``work`` once the client has read what was sent; False if it has."""
        return self._connection.defer(work)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine that is cancelled with the call; its failure is the call's."""
        if self.is_closed:
            work.close()
            self._settle()
            return
        if self._tasks is None:
            self._tasks = set()
        task = asyncio.get_running_loop().create_task(guarded(self, work))
        self._tasks.add(task)
        task.add_done_callback(self._worked)

    def _worked(self, task: asyncio.Task[None]) -> None:
        assert self._tasks is not None
        self._tasks.discard(task)
        if self.is_closed and not self._tasks:
            self._settle()

    def _settle(self) -> None:
        """The service is done with the call; if its stream is gone, it has counted till now."""
        if self.is_served:
            self.is_served = False
            if self.is_closed:
                self._connection.served_late()

    def _expire(self) -> None:
        self._deadline = None
        self._cancel_work()
        self._finish(_trailers(StatusError(Code.DEADLINE_EXCEEDED, "context deadline exceeded")))

    def stop(self) -> None:
        """The server stops: streams end, calls are answered."""
        if self._conversation is not None:
            self._finish(_trailers(StatusError(Code.UNAVAILABLE, "etcdserver: server stopped")))

    def abandon(self) -> None:
        """The client has reset the stream, or the connection is gone."""
        self._release()

    def _close(self) -> None:
        if not self.is_closed:
            self._connection.close_stream(self)
            self._release()

    def _release(self) -> None:
        if self.is_closed:
            return
        self.is_closed = True
        connection = self._connection
        connection.held_bytes -= len(self._part)
        connection.queued_bytes -= self._pending_bytes
        self._part = b""
        self._pending = None
        self._pending_bytes = 0
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        self._cancel_work()

    def _cancel_work(self) -> None:
        conversation, self._conversation = self._conversation, None
        if conversation is not None:
            conversation.cancelled()
        for task in list(self._tasks or ()):
            task.cancel()


class GrpcFace:
    """Makes a call of the headers of a request.

    Args:
        served: Every call by its path.
        identify: Says who asks.
    """

    def __init__(self, served: Mapping[str, Served], identify: Identify) -> None:
        self._served = served
        self._identify = identify
        self._needing: WeakSet[GrpcStream] = WeakSet()

    def leaderless(self) -> None:
        """There has been no leader for long: end the streams that asked to be told so."""
        for stream in list(self._needing):
            stream.fail(told(NO_LEADER))

    def __call__(self, connection: Http2Connection, id: int, head: Head) -> GrpcStream:
        """Begin a call; one that cannot be served has ended when this returns."""
        served = self._served.get(head.path)
        stream = GrpcStream(connection, id, served)
        fields = head.fields
        kind = fields.get(b"content-type", b"")
        if head.method != b"POST" or b"origin" in fields:
            stream.refuse(b"405" if head.method != b"POST" else b"403")
        elif kind[:16] != b"application/grpc" or kind[16:17] not in (b"", b"+", b";"):
            stream.refuse(b"415")
        elif fields.get(b"grpc-encoding", b"identity") != b"identity":
            encoding = fields[b"grpc-encoding"].decode("latin-1")
            text = f'grpc: Decompressor is not installed for grpc-encoding "{encoding}"'
            stream.fail(StatusError(Code.UNIMPLEMENTED, text))
        elif served is None:
            stream.fail(StatusError(Code.UNIMPLEMENTED, self._unknown(head.path)))
        else:
            try:
                stream.begin(head, self._identify)
                if served.converse is not None and fields.get(b"hasleader") == b"true":
                    self._needing.add(stream)
            except Exception as error:
                stream.fail(status_of(error))
        return stream

    def _unknown(self, path: str) -> str:
        service, slash, name = path[1:].rpartition("/")
        if not slash:
            return f'malformed method name: "{path}"'
        if any(known.startswith(f"/{service}/") for known in self._served):
            return f"unknown method {name} for service {service}"
        return f"unknown service {service}"
