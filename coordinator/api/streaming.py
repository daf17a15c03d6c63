"""Streams over plain HTTP: server-sent events, or one JSON object per line.

The same operation that opens a stream on the WebSocket opens it here; its items become
events. What a slow reader has not taken yet is bounded.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Any, Union

import msgspec
from fastapi import Request, Response
from msgspec import Struct
from starlette.responses import StreamingResponse

from coordinator.api import models
from coordinator.api.connection import Connection
from coordinator.api.identity import caller_of, shown_in, tls_of
from coordinator.api.limits import Limits
from coordinator.api.registry import Caller
from coordinator.api.shares import Share
from coordinator_sdk.errors import CoordinatorError, Exhausted, Stopping
from coordinator_sdk.protocol.codec import MSGPACK

if TYPE_CHECKING:
    from coordinator.node.node import Node

_encode = msgspec.json.Encoder(enc_hook=str).encode
UNREAD_MAX = 1 << 20
"""Bytes from which on a reader counts as slow."""
PAUSE_S = 10.0
"""Without an event for so long, a sign of life is sent."""
EVENTS_TYPE = "text/event-stream"
LINES_TYPE = "application/x-ndjson"


class HttpStream(Connection):
    """The connection of one streaming response; it has a single request, number 1."""

    def __init__(
        self, node: Node, caller: Caller, limits: Limits, kinds: Sequence[type[Struct]]
    ) -> None:
        super().__init__(node, caller, MSGPACK, limits)
        self._kind: Any = Union[tuple(kinds)]  # noqa: UP007 - built at run time
        self._queue: deque[tuple[int, Struct]] = deque()
        self._unread = 0
        self._wake = asyncio.Event()
        self._deferred: deque[Callable[[], None]] = deque()
        self.error: CoordinatorError | None = None
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def answer(self, id: int, revision: int, result: Struct | None) -> None:
        """The stream stands."""
        self.opening.discard(id)
        if not self.opened.done():
            self.opened.set_result(None)

    def fail(self, id: int, error: CoordinatorError) -> None:
        """The stream was refused, or has ended."""
        self.close_stream(id)
        if not self.opened.done():
            self.opened.set_exception(error)
        self.stop(error)

    def stop(self, error: CoordinatorError) -> None:
        """End after what is queued, with an error."""
        if self.error is None:
            self.error = error
        self._wake.set()

    def deliver(self, ids: Sequence[int], revision: int, batch: bytes) -> None:
        """Queue an item."""
        if self.is_closed or self.error is not None:
            return
        if self._unread > self.limits.output_bytes:
            self.stop(Exhausted("the client reads too slowly", limit="output_bytes"))
            return
        self._queue.append((len(batch), MSGPACK.decode_value(batch, self._kind)))
        self._unread += len(batch)
        self.is_full = self._unread >= UNREAD_MAX
        self._wake.set()

    def defer(self, work: Callable[[], None]) -> bool:
        """Call ``work`` once the client has read what was sent; False if it has."""
        if self.is_full:
            self._deferred.append(work)
        return self.is_full

    def _resume(self) -> None:
        self.is_full = False
        while self._deferred and not self.is_full:
            self._deferred.popleft()()
        if self.node.hub.is_lagging:
            self.node.catch_up()

    async def items(self) -> AsyncIterator[Struct | None]:
        """Give the items as they come; None where nothing came for a while."""
        while True:
            while self._queue:
                size, item = self._queue.popleft()
                self._unread -= size
                if self.is_full and self._unread < UNREAD_MAX:
                    self._resume()
                yield item
            if self.error is not None:
                return
            self._wake.clear()
            try:
                async with asyncio.timeout(PAUSE_S):
                    await self._wake.wait()
            except TimeoutError:
                yield None


async def answer_stream(request: Request, body: Struct, kinds: Sequence[type[Struct]]) -> Response:
    """Open a stream and answer with its items.

    Args:
        request: The HTTP request; its ``Accept`` chooses the format.
        body: What opens the stream.
        kinds: The types of its items.

    Raises:
        CoordinatorError: The stream was refused.
    """
    serving, scope = request.app.state.serving, request.scope
    caller = await caller_of(request)
    stream = HttpStream(serving.node, caller, serving.limits, kinds)
    stream.tls = tls_of(scope)
    stream.share = Share(serving.shares, serving.shares.streams, caller)
    serving.admit_stream(stream, caller)
    try:
        stream.show(serving.identity, shown_in(scope, serving.gate))
        serving.dispatcher.table[type(body)](stream, 1, body)
        await stream.opened
    except BaseException:
        serving.forget_stream(stream)
        stream.end()
        raise
    as_lines = LINES_TYPE in request.headers.get("accept", "")
    return StreamingResponse(
        _written(serving, stream, as_lines),
        media_type=LINES_TYPE if as_lines else EVENTS_TYPE,
        headers={"cache-control": "no-store", "x-accel-buffering": "no"},
    )


async def _written(serving: Any, stream: HttpStream, as_lines: bool) -> AsyncIterator[bytes]:
    try:
        async for item in stream.items():
            if item is None:
                yield b"\n" if as_lines else b": still here\n\n"
            else:
                yield _line(item) if as_lines else _event(item)
        error = stream.error or Stopping("the stream has ended")
        facts = {"code": error.code, "message": error.message, "details": error.details}
        plain = _encode({"type": "error", "error": facts})
        yield plain + b"\n" if as_lines else b"event: error\ndata: " + plain + b"\n\n"
    finally:
        serving.forget_stream(stream)
        stream.end()


def _line(item: Struct) -> bytes:
    return _encode(models.to_json(item, named=True)) + b"\n"


def _event(item: Struct) -> bytes:
    plain = models.to_json(item, named=True)
    kind = str(plain.get("type", "change")).encode()
    revision = plain.get("revision")
    head = b"id: %d\n" % revision if isinstance(revision, int) else b""
    return head + b"event: " + kind + b"\ndata: " + _encode(plain) + b"\n\n"
