"""A client as the operations see it.

Answers and stream items are queued and leave together at the end of the loop's turn. How
they leave differs: `coordinator.api.websocket` sends frames, `coordinator.api.streaming`
feeds an HTTP response, `OneCall` hands a single answer to whoever awaits it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from msgspec import Struct

from coordinator.api.limits import Limits
from coordinator.api.recheck import expire
from coordinator.api.registry import Caller
from coordinator_sdk.errors import (
    CoordinatorError,
    Exhausted,
    Internal,
    InvalidRequest,
    UnknownOperation,
)
from coordinator_sdk.protocol.codec import MSGPACK, Codec
from coordinator_sdk.protocol.kv import WatchCancelled

if TYPE_CHECKING:
    from coordinator.api.census import Place
    from coordinator.api.identity import Identity
    from coordinator.api.shares import Share
    from coordinator.keyspace.watcher import EncodedBatch
    from coordinator.node.node import Node

__all__ = ["Connection", "OneCall", "Stream"]

logger = logging.getLogger("coordinator.api")

EXPIRY_LOOK_S = 86_400.0
"""Whoever has a token for longer is looked at so often; timers do not reach any time."""
FORGOTTEN_MAX = 16
"""Requests of streams that have ended, kept until there is something to clear up."""


class Stream(Protocol):
    """Something that sends items to a client until one of the two ends it."""

    def cancel(self) -> None:
        """The client wants no more, or is gone."""

    def credit(self, amount: int) -> None:
        """The client takes that many items more."""


class Connection:
    """The base of all connections.

    Attributes:
        node: The member that serves it.
        caller: Who is at the other end.
        identify: Tells anew who that is, by the credential that it has shown; None where nobody
            has been asked.
        tls: The TLS that it runs on; None without.
        codec: What its items are encoded with.
        is_full: Whether its client reads too slowly; who sends streams then waits.
        is_closed: Whether it has ended.
        floor: The client no longer asks for outcomes of changes below this request id.
        in_flight: Requests without an answer.
        streams: The open streams by the id of the request that opened them.
        requests: Those requests, by which it is judged whether the caller may still have them.
        opening: The ids of those whose request has no answer yet.
        watches: Where the hub delivers the events of its watches.
        share: What its streams take of the caller's share; None where that is not counted.
        place: What it takes itself of the connections that there may be; None where something else
            counts it.
    """

    def __init__(self, node: Node, caller: Caller, codec: Codec, limits: Limits) -> None:
        self.node = node
        self.caller = caller
        self.identify: Callable[[], Caller] | None = None
        self.tls: Any = None
        self.codec = codec
        self.limits = limits
        self.is_full = False
        self.is_closed = False
        self.floor = 0
        self.in_flight = 0
        self.streams: dict[int, Stream] = {}
        self.requests: dict[int, Struct] = {}
        self.opening: set[int] = set()
        self.watches = WatchSink(self)
        self.share: Share | None = None
        self.place: Place | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._expiry: asyncio.TimerHandle | None = None
        self._owner = ""

    # What differs from one kind of connection to the other.

    def answer(self, id: int, revision: int, result: Struct | None) -> None:
        """Answer request ``id``."""
        raise NotImplementedError

    def fail(self, id: int, error: CoordinatorError) -> None:
        """Refuse request ``id``, or end stream ``id`` with an error."""
        raise NotImplementedError

    def send(self, ids: Sequence[int], item: Struct) -> None:
        """Send an item to the streams ``ids``."""
        self.deliver(ids, 0, self.codec.encode_value(item))

    def deliver(self, ids: Sequence[int], revision: int, batch: bytes) -> None:
        """Send an encoded item, such as all events of one revision, to the streams ``ids``."""
        raise NotImplementedError

    def defer(self, work: Any) -> bool:
        """Call ``work`` once the client has read what was sent.

        Returns:
            False if nothing hinders it now; ``work`` is forgotten then.
        """
        return False

    def refuse(self, error: CoordinatorError) -> None:
        """End: whoever is at the other end may not be served at all."""
        for id in list(self.streams):
            self.fail(id, error)

    # What all have.

    def break_off(self, ids: Sequence[int], error: Exception) -> None:
        """End streams whose items could not be made or sent.

        That happens inside the member's turn, which must go on; they end after it.
        """
        logger.error("a stream broke: %r", error, exc_info=error)
        told = Internal("the member failed to go on with this stream; its log says more")
        broken = tuple(ids)

        def end() -> None:
            for id in broken:
                if id in self.streams:
                    self.fail(id, told)

        self.node.soon(end)

    def show(self, identity: Identity, credential: str) -> None:
        """Go on as whomever a credential stands for; without one, as the client's certificate says.

        Raises:
            CoordinatorError: It stands for nobody, or its user has too much already.
        """
        identify = partial(identity.identify, credential, self.caller.origin, self.tls)
        caller = identify()
        for one in (self.place, self.share):
            if one is not None:
                one.check_move(caller)
        self.go_on_as(caller)
        self.identify = identify

    def go_on_as(self, caller: Caller) -> None:
        """Serve somebody else from now on, or the same with more time."""
        client = self.caller.client
        if caller.actor:
            if self._owner not in ("", caller.actor):
                client = 0  # The id, and the outcomes under it, are another user's.
            self._owner = caller.actor
        self.caller = caller.greeted(client)
        for one in (self.place, self.share):
            if one is not None:
                one.move(caller)
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        if caller.expires_ms:
            left_s = max(0.0, caller.expires_ms / 1000 - time.time())
            self.wake_after(min(left_s, EXPIRY_LOOK_S), expire, self)

    def wake_after(self, seconds: float, work: Callable[..., Any], *arguments: Any) -> None:
        """Call something later, once: what is to happen when a credential expires."""
        self._expiry = asyncio.get_running_loop().call_later(seconds, work, *arguments)

    def admit_stream(self, id: int) -> None:
        """Refuse a stream that may not be opened; a change is asked before it is made.

        Raises:
            Exhausted: The connection has too many, or its user, or all have.
            InvalidRequest: The id names an open stream already.
        """
        if id in self.streams:
            raise InvalidRequest(f"id: {id} names an open stream already", field="id")
        if len(self.streams) >= self.limits.streams_per_connection:
            raise Exhausted(
                f"a connection has at most {self.limits.streams_per_connection} streams",
                limit="streams_per_connection",
            )
        if self.share is not None:
            self.share.check(self.caller)

    def open_stream(
        self, id: int, stream: Stream, request: Struct, *, is_admitted: bool = False
    ) -> None:
        """Register a stream, so that the client can steer it by ``id``.

        To be called before request ``id`` is answered.

        Args:
            id: The request that opens it.
            stream: The stream.
            request: What was asked for.
            is_admitted: Whether `admit_stream` let it pass; what it follows has happened since.

        Raises:
            Exhausted: The connection has too many.
            InvalidRequest: The id names an open stream already.
        """
        if not is_admitted:
            self.admit_stream(id)
        previous = self.streams.get(id)
        if previous is not None:
            previous.cancel()
        self.streams[id] = stream
        if self.share is not None:
            self.share.hold(len(self.streams))
        if len(self.requests) > 2 * len(self.streams) + FORGOTTEN_MAX:
            self.requests = {one: self.requests[one] for one in self.streams if one != id}
        self.requests[id] = request
        self.opening.add(id)

    def close_stream(self, id: int) -> None:
        """Forget a stream that has ended by itself."""
        self.take_stream(id)

    def take_stream(self, id: int) -> Stream | None:
        """Forget a stream that is to end; gives it, if there was one."""
        stream = self.streams.pop(id, None)
        if stream is not None and self.share is not None:
            self.share.hold(len(self.streams))
        return stream

    def unanswered(self) -> None:
        """A request that gets no answer has been served."""
        self.in_flight -= 1

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a coroutine that ends with the connection."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def end(self) -> None:
        """Let go of streams and tasks; the client is gone."""
        if self.is_closed:
            return
        self.is_closed = True
        if self._expiry is not None:
            self._expiry.cancel()
        streams, self.streams = self.streams, {}
        if self.share is not None:
            self.share.hold(0)
        for stream in streams.values():
            stream.cancel()
        for task in list(self._tasks):
            task.cancel()


class WatchSink:
    """All watches of one connection, as the hub sees them."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @property
    def is_full(self) -> bool:
        """Whether the client reads too slowly."""
        return self._connection.is_full

    def deliver(self, ids: list[int], revision: int, batch: EncodedBatch) -> None:
        """Send an item, encoded once for all connections that speak alike."""
        connection = self._connection
        codec = connection.codec
        try:
            connection.deliver(ids, revision, batch.encoded(codec.name, codec.encode_value))
        except Exception as error:
            connection.break_off(ids, error)
        if type(batch.item) is WatchCancelled:
            for id in ids:
                connection.close_stream(id)


class OneCall(Connection):
    """A connection for one request, whose answer is awaited."""

    def __init__(self, node: Node, caller: Caller, limits: Limits) -> None:
        super().__init__(node, caller, MSGPACK, limits)
        self.done: asyncio.Future[tuple[int, Any]] = asyncio.get_running_loop().create_future()

    def answer(self, id: int, revision: int, result: Struct | None) -> None:
        """Hand over the answer."""
        if not self.done.done():
            self.done.set_result((revision, result))

    def fail(self, id: int, error: CoordinatorError) -> None:
        """Hand over the failure."""
        if not self.done.done():
            self.done.set_exception(error)

    def deliver(self, ids: Sequence[int], revision: int, batch: bytes) -> None:
        """Nobody waits for stream items here."""

    def open_stream(
        self, id: int, stream: Stream, request: Struct, *, is_admitted: bool = False
    ) -> None:
        """Refuse it.

        Raises:
            UnknownOperation: Always; streams need a connection that stays.
        """
        stream.cancel()
        raise UnknownOperation("streams need a WebSocket or a streaming route")
