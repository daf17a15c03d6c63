"""gRPC on an HTTP/2 stream: messages in and out, deadlines, and how a call ends."""

from __future__ import annotations

import asyncio
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from google.protobuf.message import DecodeError

from coordinator.api.registry import Caller
from coordinator.etcd import answering, frames
from coordinator.etcd.calls import Call, Conversation, Served, ending, guarded
from coordinator.etcd.frames import STREAM_WINDOW, H2Error
from coordinator.etcd.permits import OPEN, TOLD_LATER
from coordinator.etcd.status import STOPPED, Code, StatusError, status_of, told
from coordinator_sdk.errors import CoordinatorError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from coordinator.etcd.calls import Unary
    from coordinator.etcd.headers import Head
    from coordinator.etcd.http2 import Http2Connection

MESSAGE_OVERHEAD_BYTES: Final = 512 << 10
"""What a message may be larger than a request, as with etcd."""
UNREAD_BYTES: Final = 262_144
"""Bytes of one stream that wait for its window, from which on its client counts as slow."""


class GrpcStream(Call):
    """One call.

    Attributes:
        id: The stream.
        send_window: Bytes that the client takes of it at the moment.
        is_served: Whether the service has been asked and has not answered yet.
    """

    __slots__ = (
        "_began_s",
        "_code",
        "_connection",
        "_content_length",
        "_conversation",
        "_credential",
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
        self._began_s = 0.0
        self._code = Code.CANCELLED
        self._id_bytes = id.to_bytes(4, "big")
        self._has_headers = False
        self._is_half_closed = False
        self._part = b""
        self._receive_window = STREAM_WINDOW
        self._content_length = -1
        self._message_max = connection.limits.request_bytes + MESSAGE_OVERHEAD_BYTES
        self._conversation: Conversation | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._pending: deque[bytes | memoryview] | None = None
        self._pending_bytes = 0
        self._trailers: bytes | None = None
        self._tasks: set[asyncio.Task[None]] | None = None

    def begin(self, head: Head) -> None:
        """Look at the headers: who asks, for what, and for how long."""
        served = self._served
        assert served is not None
        served.tally.begun += 1
        self._began_s = monotonic()
        fields = head.fields
        if b"content-length" in fields:
            text = fields[b"content-length"]
            self._content_length = int(text) if text.isdigit() and len(text) < 19 else 0
        self._credential = fields.get(b"token") or fields.get(b"authorization") or b""
        self._identify(served.method.path)
        if head.timeout_s is not None:
            loop = asyncio.get_running_loop()
            self._deadline = loop.call_later(head.timeout_s, self._expire)
        if served.converse is not None:
            self._conversation = served.converse(self)

    def _identify(self, path: str) -> None:
        """Note who makes the call. One whose credential seems wrong is asked for again later."""
        asking = self._connection.asking
        self.doubt = None
        try:
            self.caller = asking.caller(self._credential, asyncio.get_running_loop().time())
        except CoordinatorError as error:
            self.caller = Caller(origin=asking.origin)
            self.doubt = None if path in OPEN else status_of(error)

    def recognize(self) -> Caller:
        """Tell anew who asks, by what came with the call.

        Raises:
            CoordinatorError: It proves nothing any more.
        """
        return self._connection.asking.anew(self._credential)

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
            self.fail(error)

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
            if self.doubt is not None and served.method.path not in TOLD_LATER:
                raise self.doubt
            self._conversation.received(self._parsed(served, payload))
        elif self.is_served:
            raise StatusError(Code.INTERNAL, "grpc: more than one message of a unary call")
        else:
            self._ask(served, payload)

    def _ask(self, served: Served, payload: bytes) -> None:
        self.is_served = True
        assert served.unary is not None
        message = self._parsed(served, payload)
        if self.doubt is None:
            served.unary(self, message)
        else:
            self.spawn(self._ask_surely(served.unary, message))

    async def _ask_surely(self, unary: Unary, message: Any) -> None:
        """Serve a call whose credential this member did not believe: it may know more by now."""
        self.caller = await self._connection.asking.surely(self._credential)
        unary(self, message)

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
                        answering.HEADERS_START,
                        id,
                        answering.HEADERS_END,
                        body.to_bytes(3, "big"),
                        answering.DATA,
                        id,
                        size.to_bytes(5, "big"),
                        payload,
                        answering.OK_START,
                        id,
                        answering.OK_END,
                    )
                )
            )
            connection.answered(3)
            self._code = Code.OK
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
            self._connection.write(answering.HEADERS_START + self._id_bytes + answering.HEADERS_END)
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
                # A view: what is left may be large, and copying it for each frame takes for ever.
                rest = memoryview(data)
                pending[0], data = rest[size:], rest[:size]
            else:
                pending.popleft()
            connection.send_window -= size
            self.send_window -= size
            self._pending_bytes -= size
            connection.queued_bytes -= size
            connection.write(size.to_bytes(3, "big") + answering.DATA + self._id_bytes + data)
            connection.answered(1)
        if not pending:
            if self._trailers is not None:
                self._write_trailers(self._trailers)
            return False
        return True

    def finish(self) -> None:
        """End a stream well."""
        self._finish(answering.OK, Code.OK)

    def fail(self, error: BaseException) -> None:
        """End the call with the status of an error."""
        self._settle()
        path = self._served.method.path if self._served is not None else ""
        self._end(ending(error, path))

    def _end(self, status: StatusError) -> None:
        self._finish(answering.trailers(status), status.code)

    def _finish(self, trailers: bytes, code: Code) -> None:
        if self.is_closed or self._trailers is not None:
            return
        self._trailers = trailers
        self._code = code
        if not self._pending:
            self._write_trailers(trailers)

    def _write_trailers(self, trailers: bytes) -> None:
        connection = self._connection
        block = trailers if self._has_headers else answering.HEADERS + trailers
        flags = frames.END_HEADERS | frames.END_STREAM
        connection.write(frames.frame(frames.HEADERS, flags, self.id, block))
        if not self._is_half_closed:
            connection.write(frames.reset(self.id, H2Error.NO_ERROR))
        connection.answered(1)
        self._close()

    def refuse(self, status: bytes) -> None:
        """Answer what is no call of gRPC with a status of HTTP."""
        block = b"\x08\x03" + status + answering.ACCEPT
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
        self._end(StatusError(Code.DEADLINE_EXCEEDED, "context deadline exceeded"))

    def stop(self) -> None:
        """The server stops: streams end, calls are answered."""
        if self._conversation is not None:
            self._end(told(STOPPED))

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
        if self._began_s:
            assert self._served is not None
            self._served.tally.ended(self._code, monotonic() - self._began_s)
        connection = self._connection
        connection.queued_bytes -= self._pending_bytes
        if self._part:
            connection.held_bytes -= len(self._part)
            self._part = b""
            connection.count_held()
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
