"""The client's half of the conversation with the cluster, across all its connections.

Pure: no loop, no socket, no clock; time is an argument and randomness is handed in. The
shell hands in what arrives and takes out what is to be sent; answers go to *sinks*, objects
with ``done``, ``set_result`` and ``set_exception`` such as futures.

What a broken connection means for what was under way:

- A *change* that was sent and not answered is in doubt. It is sent again with the same id as
  soon as the cluster knows this client again, and is therefore applied at most once; if the
  cluster has forgotten the client, it fails with `OutcomeUnknown`.
- A *read* is sent again.
- A *stream* is opened again at its resume point.
- A *beat* (keepalive, greeting) fails: its caller sends a new one.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from ._calls import NOBODY, Call, Sink, Unproven, nothing, told_error
from ._modes import BEAT, CHANGE, NOTICE, READ
from .errors import (
    ClusterMismatch,
    ConnectFailed,
    ConnectionLost,
    CoordinatorError,
    Internal,
    OutcomeUnknown,
)
from .protocol.cluster import Hello, HelloResult, Ping
from .protocol.frames import Failure, Header, Item, Result
from .protocol.frames import Stream as StreamItem
from .protocol.kv import Cancel, Credit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from msgspec import Raw, Struct

    from ._endpoints import RetryPolicy
    from ._streams import Stream

WINDOW_CHANGES_MAX = 256
"""Changes that may have been sent since the oldest unanswered one."""

BATCH_REQUESTS_MAX = 1024
"""Requests in one frame."""

STUCK_SECONDS = 4.0
"""How long a call may go without an answer from a member that is alive, until another one is
asked: such a member may be cut off from the others. Twice as long with each one."""
STUCK_MOVES_MAX = 4

NEVER = float("inf")


_UNSENT = Ping()
"""In place of a stream's request, which is made when it is sent."""


class Session:
    """The state of the conversation.

    Attributes:
        client: The id that the cluster gave this client; 0 before the first greeting.
        cluster: The id of the cluster; 0 before the first greeting.
        revision: The highest revision seen.
        header: What the last frame said of its member.
        greeted: Whether a connection stands and requests may be sent.
        closing: Why the member is about to close the connection.
        told_endpoints: Where it said that the others are, until somebody takes note.
        queue: Calls to be sent; `submit` appends.
        unproven: Calls that wait for the client to prove anew who it is.
    """

    def __init__(self, policy: RetryPolicy, random: Callable[[], float]) -> None:
        self.client = 0
        self.cluster = 0
        self.revision = 0
        self.header = Header(0, 0, 0, 0)
        self.greeted = False
        self.closing: CoordinatorError | None = None
        self.told_endpoints: list[str] = []
        self.queue: deque[Call] = deque()
        self.unproven = Unproven()
        self.trouble: Exception | None = None
        self.window_max = WINDOW_CHANGES_MAX
        self._policy = policy
        self._random = random
        self._greeted_at = 0.0
        self._next_id = 1
        self._calls: dict[int, Call] = {}
        self._streams: dict[int, Stream[Any]] = {}
        self._window: deque[int] = deque()
        self._blocked: deque[Call] = deque()
        self._again: list[Call] = []
        self._delayed: list[tuple[float, Call]] = []
        self._idle_streams: dict[Stream[Any], None] = {}

    # ------------------------------------------------------------- what callers do

    def submit(self, call: Call) -> None:
        """Queue a call; `take` sends it."""
        self.queue.append(call)

    def open(self, stream: Stream[Any], limit: float | None = None) -> None:
        """Open a stream; it opens itself again after every broken connection."""
        self.queue.append(self._opening(stream, limit))

    def close(self, stream: Stream[Any]) -> None:
        """End a stream."""
        self._idle_streams.pop(stream, None)
        stream.closed = True
        if stream.id:
            self._streams.pop(stream.id, None)
            if self.greeted and stream.mode == READ:
                self._notice(Cancel(stream.id))
            stream.id = 0

    def grant(self, stream: Stream[Any], amount: int) -> None:
        """Let the server send that many more items of a stream."""
        if stream.id and self.greeted:
            self._notice(Credit(stream.id, amount))

    def busy(self) -> bool:
        """Whether an answer is awaited or anything waits to be sent."""
        return bool(self._calls or self.queue or self._blocked or self._delayed)

    def has_streams(self) -> bool:
        """Whether a stream is open."""
        return bool(self._streams or self._idle_streams)

    def wants_flush(self) -> bool:
        """Whether `take` would give something."""
        return bool(self.queue or self._again or self._blocked)

    # ------------------------------------------------------------- sending

    def take(self, now: float) -> tuple[int, list[tuple[int, Struct]]] | None:
        """Take out the next frame.

        Args:
            now: The time, in seconds.

        Returns:
            The floor and the requests with their ids; None if there is nothing to send.
        """
        queue, window, calls = self.queue, self._window, self._calls
        if not self.greeted:
            for call in reversed(queue):
                if call.waits_from:
                    break
                call.waits_from = now
            return None
        while window and window[0] not in calls:
            window.popleft()
        floor = window[0] if window else self._next_id
        batch: list[tuple[int, Struct]] = []
        if self._again:
            self._take_again(batch)
        blocked = self._blocked
        while blocked and len(window) < self.window_max:
            self._send(blocked.popleft(), batch, now)
        room = BATCH_REQUESTS_MAX - len(batch)
        if len(queue) <= room:
            waiting: Iterable[Call] = list(queue)
            queue.clear()
        else:
            waiting = [queue.popleft() for _ in range(room)]
        next_id, window_max = self._next_id, self.window_max
        for call in waiting:
            if call.sink.cancelled():
                continue
            mode = call.mode
            if mode == CHANGE:
                if len(window) >= window_max or blocked:
                    call.waits_from = call.waits_from or now
                    blocked.append(call)
                    continue
                window.append(next_id)
            if mode != NOTICE:
                calls[next_id] = call
                call.id = next_id
                call.sent_at = now
                if call.stream is not None:
                    self._begin(call, call.stream)
            batch.append((next_id, call.body))
            next_id += 1
        self._next_id = next_id
        return (floor, batch) if batch else None

    def _send(self, call: Call, batch: list[tuple[int, Struct]], now: float) -> None:
        if call.sink.cancelled():
            return
        call.id = self._next_id
        call.sent_at = now
        self._next_id += 1
        self._window.append(call.id)
        self._calls[call.id] = call
        if call.stream is not None:
            self._begin(call, call.stream)
        batch.append((call.id, call.body))

    def _take_again(self, batch: list[tuple[int, Struct]]) -> None:
        for call in self._again:
            if self._calls.get(call.id) is call:
                call.refusal = None
                if call.stream is not None:
                    call.stream.id = call.id
                    self._streams[call.id] = call.stream
                batch.append((call.id, call.body))
        self._again.clear()

    def _begin(self, call: Call, stream: Stream[Any]) -> None:
        """Ask for what the stream needs at this very moment."""
        call.body = stream.request()
        stream.id = call.id
        self._streams[call.id] = stream

    def _notice(self, body: Struct) -> None:
        self.queue.append(Call(body, nothing, NOTICE, NOBODY))

    def _opening(self, stream: Stream[Any], limit: float | None) -> Call:
        return Call(_UNSENT, stream.decode, stream.mode, stream, stream, limit)

    def refuse(self, id: int, error: CoordinatorError) -> None:
        """Fail a request that was taken but could not be encoded."""
        call = self._calls.pop(id, None)
        self._streams.pop(id, None)
        if call is not None and not call.sink.done():
            call.sink.set_exception(error)

    def proved(self, error: CoordinatorError | None) -> None:
        """Go on with the calls that waited for a proof: send them again, or fail them."""
        for call in self.unproven.take():
            if error is None:
                self._again.append(call)
            else:
                self.refuse(call.id, error)

    # ------------------------------------------------------------- receiving

    def receive(self, header: Header, items: Iterable[Item], now: float) -> None:
        """Take in a frame.

        Args:
            header: Who sent it, and where it stood.
            items: Its items, in order.
            now: The time, in seconds.
        """
        self.header = header
        if header.revision > self.revision:
            self.revision = header.revision
        pop = self._calls.pop
        for item in items:
            if isinstance(item, Result):
                call = pop(item.id, None)
                if call is None:
                    continue
                sink, stream = call.sink, call.stream
                if stream is None and sink.done():
                    continue
                try:
                    value = call.decode(item.result)
                except (ValueError, RecursionError) as error:
                    sink.set_exception(Internal(f"an answer cannot be read: {error}"))
                    continue
                if stream is None:
                    sink.set_result(value)
                else:
                    self._stream_answered(stream, item, value)
            elif isinstance(item, StreamItem):
                self._stream_item(item)
            elif isinstance(item, Failure):
                self._failure(item, now)
            else:
                self.closing = told_error(item.code, item.message)
                self.told_endpoints = item.endpoints

    def _stream_answered(self, stream: Stream[Any], item: Result, value: Any) -> None:
        if not stream.done():
            stream.answered(item.revision, value)
        if stream.done():
            self._streams.pop(item.id, None)

    def _stream_item(self, item: StreamItem) -> None:
        for id in item.ids:
            stream = self._streams.get(id)
            if stream is None:
                continue
            try:
                stream.deliver(item.item)
            except (ValueError, RecursionError) as error:
                self.close(stream)
                stream.set_exception(Internal(f"a stream item cannot be read: {error}"))
            if stream.done():
                self._streams.pop(id, None)
            elif due := stream.credit_due():  # for what was received before and dropped
                self.grant(stream, due)

    def _failure(self, item: Failure, now: float) -> None:
        error = self.unproven.advised(told_error(item.code, item.message, item.details))
        call = self._calls.get(item.id)
        if call is None:
            stream = self._streams.pop(item.id, None)
            if stream is not None and not stream.done():
                self._stream_ended(stream, error, now)
            return
        if self.unproven.holds(call, error):
            return
        if error.retryable and call.mode in (READ, CHANGE) and not call.sink.done():
            call.attempts += 1
            call.refusal = error
            pause = self._policy.pause(call.attempts, self._random)
            self._delayed.append((now + pause, call))
            return
        del self._calls[item.id]
        if call.stream is not None:
            self._streams.pop(item.id, None)
            if not call.stream.done():
                self._stream_ended(call.stream, error, now)
        elif not call.sink.done():
            call.sink.set_exception(error)

    def _stream_ended(self, stream: Stream[Any], error: CoordinatorError, now: float) -> None:
        stream.id = 0
        if error.retryable or self.unproven.wants(error) or stream.survives(error):
            stream.attempts += 1
            pause = self._policy.pause(stream.attempts, self._random)
            self._delayed.append((now + pause, self._opening(stream, NEVER)))
        else:
            stream.set_exception(error)

    # ------------------------------------------------------------- connections

    def hello(
        self,
        sink: Sink,
        decode: Callable[[Raw], Any],
        agent: str,
        now: float,
        proof: Call | None = None,
    ) -> tuple[int, list[tuple[int, Struct]]]:
        """Begin a connection: its first frame says who the client is, and hello."""
        hello = Hello(client=self.client, cluster=self.cluster, agent=agent)
        calls = [*([] if proof is None else [proof]), Call(hello, decode, BEAT, sink)]
        for call in calls:
            call.id, call.sent_at = self._next_id, now
            self._next_id += 1
            self._calls[call.id] = call
        floor = next((id for id in self._window if id in self._calls), calls[0].id)
        return floor, [(call.id, call.body) for call in calls]

    def greet(self, result: HelloResult, now: float) -> None:
        """Go on after the answer to the greeting.

        Raises:
            ClusterMismatch: The member belongs to another cluster.
        """
        if self.cluster and result.cluster and result.cluster != self.cluster:
            raise ClusterMismatch(
                f"the endpoint belongs to cluster {result.cluster:016x}, "
                f"this client to {self.cluster:016x}"
            )
        self.cluster = result.cluster
        in_doubt = [call for _, call in sorted(self._calls.items()) if call.mode in (READ, CHANGE)]
        known = result.resumed and result.client == self.client
        self.client = result.client
        self.window_max = max(1, min(WINDOW_CHANGES_MAX, result.max_in_flight))
        self.closing = None
        self.greeted, self._greeted_at = True, now
        self._again.clear()  # what was sent before goes out now, in order; none waits any more
        self.unproven.take()
        self._delayed = [(at, call) for at, call in self._delayed if not call.id]
        for call in in_doubt:
            if call.mode == CHANGE and not known:
                self._forget(call)
            else:
                self._again.append(call)
        if not known:
            self._window.clear()
        for stream in list(self._idle_streams):
            stream.resumes += 1
            self.queue.append(self._opening(stream, NEVER))
        self._idle_streams.clear()

    def _forget(self, call: Call) -> None:
        del self._calls[call.id]
        self._streams.pop(call.id, None)
        if call.stream is not None:
            call.stream.id = 0
        if call.sink.done():
            return
        if call.refusal is not None and not call.in_doubt:  # certainly not applied
            call.id = 0
            self.queue.appendleft(call)
            return
        call.sink.set_exception(
            OutcomeUnknown(
                "the connection broke before the answer came, and the cluster does not know "
                "this client any more: the change may have been applied"
            )
        )

    def disconnect(self, error: Exception) -> None:
        """Sort out what was under way when the connection broke."""
        self.greeted = False
        self.trouble = error
        for call in list(self._calls.values()):
            if call.mode == BEAT:
                del self._calls[call.id]
                if not call.sink.done():
                    call.sink.set_exception(ConnectionLost(f"the connection broke: {error}"))
            elif call.stream is not None and call.mode == READ:
                del self._calls[call.id]
            elif call.sink.done() and call.mode == READ:
                del self._calls[call.id]
            elif call.refusal is None:
                call.in_doubt = True
        for id, stream in self._streams.items():
            if id not in self._calls and not stream.done():
                stream.id = 0
                self._idle_streams[stream] = None
        self._streams.clear()
        self.queue = deque(call for call in self.queue if call.mode != NOTICE)
        self._again.clear()

    def fail_all(self, error: CoordinatorError) -> None:
        """Fail everything, as when the client is closed or every endpoint refuses it."""
        self.disconnect(error)
        for call in [*self._calls.values(), *self._blocked, *self.queue]:
            if not call.sink.done():
                call.sink.set_exception(error)
        for _, call in self._delayed:
            if not call.sink.done():
                call.sink.set_exception(error)
        for stream in list(self._idle_streams):
            if not stream.done():
                stream.set_exception(error)
        self._calls.clear()
        self._blocked.clear()
        self.queue.clear()
        self._delayed.clear()
        self._idle_streams.clear()
        self._window.clear()

    # ------------------------------------------------------------- time

    def tick(self, now: float) -> None:
        """Send again what is due, give up what is overdue."""
        if self._delayed:
            due = [call for at, call in self._delayed if at <= now]
            self._delayed = [(at, call) for at, call in self._delayed if at > now]
            for call in due:
                (self._again if call.id else self.queue).append(call)
        for call in list(self._calls.values()):
            if self._overdue(call, now):
                del self._calls[call.id]
                self._streams.pop(call.id, None)
                if call.stream is not None:
                    call.stream.id = 0
                if not call.sink.done():
                    call.sink.set_exception(self._late(call))
        for line in (self._blocked, self.queue):
            for call in [call for call in line if self._overdue(call, now)]:
                line.remove(call)
                if not call.sink.done():
                    call.sink.set_exception(self._late(call))

    def stuck(self, now: float) -> bool:
        """Tell whether the member at hand has left a call without answer for too long."""
        found = False
        for call in self._calls.values():
            limit = STUCK_SECONDS * 2 ** min(call.moves, STUCK_MOVES_MAX)
            if call.mode != BEAT and now - max(call.sent_at, self._greeted_at) >= limit:
                call.moves += 1
                found = True
        return found

    def next_at(self) -> float | None:
        """When `tick` has something to send again; None if there is nothing."""
        return min((at for at, _ in self._delayed), default=None)

    def _overdue(self, call: Call, now: float) -> bool:
        limit = self._policy.deadline if call.limit is None else call.limit
        since = call.waits_from or call.sent_at
        return limit is not None and since > 0 and now - since >= limit

    def _late(self, call: Call) -> CoordinatorError:
        limit = self._policy.deadline if call.limit is None else call.limit
        if call.refusal is not None and not call.in_doubt:
            return call.refusal
        if not call.id:
            why = f": {self.trouble}" if self.trouble else ""
            return ConnectFailed(f"no endpoint took the request within {limit:g} s{why}")
        if call.mode == CHANGE:
            return OutcomeUnknown(f"no answer within {limit:g} s: the change may have been applied")
        return ConnectionLost(f"no answer within {limit:g} s")
