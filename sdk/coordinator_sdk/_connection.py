"""The one asynchronous shell: the session's clock, sockets and timers.

Everything queued in one turn of the loop leaves in one frame. Answers complete the callers'
futures in bulk; no call costs a task or a timer of its own.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any, TypeGuard, TypeVar

from ._calls import NOBODY, Call, Firm, decoder, nothing
from ._clock import now
from ._endpoints import Endpoint, Learning, RetryPolicy, Rotation
from ._modes import BEAT, READ
from ._proving import Proving
from ._renewal import Renewals
from ._session import Session
from ._tls import explained
from ._websocket import WebSocket
from .errors import (
    ClientClosed,
    ConnectFailed,
    ConnectionLost,
    CoordinatorError,
    Exhausted,
    InvalidRequest,
    RequestTooLarge,
    Unauthenticated,
)
from .protocol.cluster import ClusterMembers, ClusterMembersResult, HelloResult, Ping
from .protocol.codec import MSGPACK
from .protocol.kv import LeaseKeepAlive, LeaseKeepAliveResult

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from msgspec import Raw, Struct

    from ._identity import Prover
    from ._streams import Stream
    from ._tls import Trust

__all__ = ["Connection", "decoder", "nothing", "now"]

T = TypeVar("T")

TICK_SECONDS = 0.25
ENVELOPE_BYTES = 64
"""What a frame adds to its only request."""
SILENCE_SECONDS_MAX = 10.0
"""How long a connection with something under way may stay silent."""

_MEMBERS = decoder(ClusterMembersResult)
_KEEPALIVE = decoder(LeaseKeepAliveResult)


class _Beat:
    """Hands the answer of one keepalive to the renewals."""

    def __init__(self, renewals: Renewals, leases: Sequence[int]) -> None:
        self.call: Call | None = None
        self._renewals, self._leases = renewals, leases

    def done(self) -> bool:
        return False

    def cancelled(self) -> bool:
        return False

    def set_result(self, result: LeaseKeepAliveResult, /) -> None:
        assert self.call is not None
        self._renewals.answered(self._leases, result.ttls_ms, self.call.sent_at)

    def set_exception(self, exception: BaseException, /) -> None:
        self._renewals.failed(self._leases, now())


class Connection:
    """A client's way to the cluster; it outlives any single socket.

    Attributes:
        session: The state of the conversation.
        renewals: The leases kept alive.
        trust: How TLS is spoken.
        prover: Who the client is.
        hello: The last greeting of a member.
        closing: Whether the client is being closed; what it holds is given back meanwhile.
        closed: Whether it has been.
    """

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        policy: RetryPolicy,
        connect_timeout: float,
        trust: Trust,
        prover: Prover,
    ) -> None:
        self.session = Session(policy, random.random)
        self.renewals = Renewals()
        self.hello: HelloResult | None = None
        self._rotation = Rotation(endpoints)
        self._policy = policy
        self._connect_timeout = connect_timeout
        self.trust = trust
        self.prover = prover
        self._proving = Proving(prover, self.session, policy, self.wake)
        self._demand: asyncio.Future[None] | None = None
        self._socket: WebSocket | None = None
        self._flushing = False
        self._ticker: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ready: asyncio.Future[None] | None = None
        self._gone: asyncio.Future[Exception] | None = None
        self._request_bytes_max = 1_572_864
        self._heard_at = 0.0
        self._pinged_at = 0.0
        self._members = 0
        self.closing = False
        self.closed = False

    @property
    def endpoint(self) -> Endpoint:
        """The endpoint in use, or tried last."""
        return self._rotation.current()

    @property
    def connected(self) -> bool:
        """Whether requests can be sent at this moment."""
        return self.session.greeted

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop that the client is bound to."""
        if self._loop is None:
            raise self.not_connected()
        return self._loop

    # ------------------------------------------------------------- calls

    def call(
        self,
        body: Struct,
        decode: Callable[[Raw], T],
        mode: int = READ,
        limit: float | None = None,
    ) -> asyncio.Future[T]:
        """Send a request in the frame of this turn of the loop; returns its answer to await."""
        loop = self._loop
        if loop is None or self.closed:
            raise self.not_connected()
        future: asyncio.Future[T] = loop.create_future()
        self.session.queue.append(Call(body, decode, mode, future, None, limit))
        if not self._flushing:
            self._flushing = True
            loop.call_soon(self._flush)
        return future

    def firm_call(
        self, body: Struct, decode: Callable[[Raw], T], mode: int, limit: float | None = None
    ) -> asyncio.Future[T]:
        """Send a request that is made even if its caller is cancelled while it waits."""
        future: asyncio.Future[T] = self.loop.create_future()
        self.submit(Call(body, decode, mode, Firm(future), None, limit))
        return future

    def submit(self, call: Call) -> None:
        """Send a prepared call."""
        if self._loop is None or self.closed:
            raise self.not_connected()
        self.session.submit(call)
        self.wake()

    def forget(self, body: Struct, mode: int) -> None:
        """Send a request whose answer nobody waits for."""
        if self._loop is not None and not self.closed:
            self.session.submit(Call(body, nothing, mode, NOBODY))
            self.wake()

    def open(self, stream: Stream[Any], limit: float | None = None) -> None:
        """Open a stream."""
        if self._loop is None or self.closed:
            raise self.not_connected()
        self.session.open(stream, limit)
        self.wake()

    def close_stream(self, stream: Stream[Any]) -> None:
        """End a stream."""
        if not stream.closed:
            self.session.close(stream)
            self.wake()

    def grant(self, stream: Stream[Any], amount: int) -> None:
        """Give the server credit for a stream."""
        self.session.grant(stream, amount)
        self.wake()

    def wake(self) -> None:
        """See to what is queued in this turn of the loop."""
        if not self._flushing and self._loop is not None and not self._loop.is_closed():
            self._flushing = True
            self._loop.call_soon(self._flush)

    def not_connected(self) -> ClientClosed:
        """The error that says why nothing can be sent."""
        if self.closed or self.closing:
            return ClientClosed("the client has been closed")
        return ClientClosed(
            "the client is not connected: use it in `async with`, or call connect() first"
        )

    def _flush(self) -> None:
        self._flushing = False
        socket, session = self._socket, self.session
        if self._ticker is None:
            self._arm(TICK_SECONDS)
        if self._demand is not None and session.queue and not self._demand.done():
            self._demand.set_result(None)
        if socket is not None and not socket.can_send:
            return
        batch = session.take(now())
        if batch is not None and socket is not None:
            self._send(socket, batch[0], batch[1])
            if session.queue:
                self.wake()

    def _send(self, socket: WebSocket, floor: int, batch: list[tuple[int, Struct]]) -> None:
        """Send a batch in as few frames as fit; refuse what can't be sent, and only that."""
        fault: InvalidRequest
        try:
            payload = MSGPACK.encode_requests(floor, batch)
        except (ValueError, OverflowError, TypeError, RecursionError) as error:
            fault = InvalidRequest(f"{_name_of(batch[0][1])}: can't be encoded: {error}")
        else:
            slack = ENVELOPE_BYTES if len(batch) == 1 else 0
            if len(payload) <= self._request_bytes_max + slack:
                socket.send(payload)
                return
            fault = RequestTooLarge(
                f"{_name_of(batch[0][1])}: the request has {len(payload)} bytes, "
                f"the limit is {self._request_bytes_max}",
                limit=self._request_bytes_max,
            )
        if len(batch) == 1:
            self.session.refuse(batch[0][0], fault)
            return
        half = len(batch) // 2
        self._send(socket, floor, batch[:half])
        self._send(socket, floor, batch[half:])

    def _message(self, data: memoryview | bytes) -> None:
        self._heard_at = at = now()
        try:
            header, items = MSGPACK.decode_frame(data)
        except (ValueError, RecursionError) as error:
            if self._socket is not None:
                self._socket.abort(ConnectionLost(f"the server sent garbage: {error}"))
            return
        self.session.receive(header, items, at)
        if self.session.unproven.is_asked and self.session.greeted:
            self._proving.look(at)
        if header.members != self._members:
            self._members = header.members
            if self.session.greeted:
                self.submit(Call(ClusterMembers(), _MEMBERS, READ, Learning(self._rotation)))
        if self.session.told_endpoints:
            self._rotation.learn(self.session.told_endpoints)
            self.session.told_endpoints = []
        # Callers woken by these answers run before this flush, in the same turn of the loop.
        self.wake()

    # ------------------------------------------------------------- time

    def _arm(self, delay: float) -> None:
        if self._loop is not None and not self._loop.is_closed() and not self.closed:
            if self._ticker is not None:
                self._ticker.cancel()
            self._ticker = self._loop.call_later(delay, self._tick)

    def look_after(self) -> None:
        """Look again when the next lease is due; called after one was added."""
        self._tick()

    def _tick(self) -> None:
        if self._ticker is not None:
            self._ticker.cancel()
            self._ticker = None
        at, session, renewals = now(), self.session, self.renewals
        session.tick(at)
        renewals.expire(at)
        if session.greeted:
            self._proving.look(at)
            self._renew(at)
            self._listen(at)
            self._leave(at)
        if session.wants_flush():
            self.wake()
        watched = session.busy() or session.has_streams()
        nexts = (session.next_at(), renewals.next_at(), self._proving.next_at())
        moments = [moment for moment in nexts if moment]
        if watched or len(renewals):
            moments.append(at + TICK_SECONDS)
        if moments:
            self._arm(max(0.002, min(moments) - at))

    def _renew(self, at: float) -> None:
        leases = self.renewals.due(at)
        if leases:
            beat = _Beat(self.renewals, leases)
            ttl = self.renewals.shortest_ttl() or SILENCE_SECONDS_MAX
            beat.call = Call(LeaseKeepAlive(leases), _KEEPALIVE, BEAT, beat, None, ttl / 2)
            self.session.submit(beat.call)

    def _listen(self, at: float) -> None:
        """Ask a silent member for a sign of life; drop the connection if none comes."""
        session = self.session
        if not (session.busy() or session.has_streams() or len(self.renewals)):
            self._pinged_at = 0.0
            return
        limit = min(SILENCE_SECONDS_MAX, (self.renewals.shortest_ttl() or 60.0) / 2)
        if self._pinged_at <= self._heard_at:
            if at - self._heard_at > limit / 2:
                self._pinged_at = at
                session.submit(Call(Ping(), nothing, BEAT, NOBODY, None, limit))
        elif at - self._pinged_at > limit / 2 and self._socket is not None:
            self._socket.abort(ConnectionLost(f"{self.endpoint.url} does not answer any more"))

    def _leave(self, at: float) -> None:
        """Go on to another member, if there is one, and this one can't reach the cluster."""
        is_stuck = self.session.stuck(at) or self.renewals.is_failing
        if is_stuck and len(self._rotation.all) > 1 and self._socket is not None:
            url = self.endpoint.url
            self._socket.abort(ConnectionLost(f"{url} gets no answer from the cluster"))

    # ------------------------------------------------------------- connections

    async def start(self) -> None:
        """Connect; returns after the greeting.

        Raises:
            ConnectFailed: No endpoint answered in time.
            CoordinatorError: Every endpoint refused this client.
        """
        if self.closed:
            raise self.not_connected()
        if self._ready is not None:  # another task has begun to connect
            await asyncio.shield(self._ready)
            return
        self._loop = asyncio.get_running_loop()
        self._ready = self._loop.create_future()
        self._task = self._loop.create_task(self._run(), name="coordinator-client")
        try:
            async with asyncio.timeout(self._connect_timeout):
                await asyncio.shield(self._ready)
        except TimeoutError:
            error = self._no_answer()
            await self.stop()
            raise error from self.session.trouble
        except BaseException:
            await self.stop()
            raise

    def _no_answer(self) -> ConnectFailed:
        urls = ", ".join(endpoint.url for endpoint in self._rotation.given)
        trouble = self.session.trouble
        why = f" ({str(trouble) or type(trouble).__name__})" if trouble is not None else ""
        return ConnectFailed(
            f"no coordinator answers at {urls}{why}; "
            "start one with `make run` or `coordinator serve`",
            endpoints=[endpoint.url for endpoint in self._rotation.given],
        )

    async def stop(self) -> None:
        """Drop everything; takes half a second at most."""
        if self.closed:
            return
        self.closed = True
        error = ClientClosed("the client has been closed")
        if self._ticker is not None:
            self._ticker.cancel()
        self.renewals.lose_all("the client was closed")
        self.session.fail_all(error)
        self._proving.stop()
        if self._ready is not None and not self._ready.done():
            self._ready.cancel()
        if self._socket is not None and self._gone is not None:
            self._socket.close()
            await asyncio.wait([self._gone], timeout=0.25)
            if self._socket is not None:
                self._socket.abort(error)
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task], timeout=0.25)
        await asyncio.sleep(0)  # an aborted transport closes its socket in the next turn

    async def _run(self) -> None:
        rounds, refusals = 0, list[CoordinatorError]()
        while not self.closed:
            try:
                await self._attempt()
                rounds, refusals = 0, []
                error: Exception = await self._serve()
            except (OSError, TimeoutError, ValueError, CoordinatorError) as failure:
                error, is_certain = explained(failure, self.endpoint)
                if self._is_final(error, is_certain):
                    refusals.append(error)
            self._down(error)
            if self._rotation.advance() or rounds == 0:
                rounds += 1
                if len(refusals) >= len(self._rotation.all):
                    self._refused(refusals[-1])
                    if isinstance(refusals[-1], Unauthenticated):
                        await self._asked()
                refusals = []
                await asyncio.sleep(self._policy.pause(rounds, random.random))

    def _is_final(self, error: Exception, is_tls: bool) -> TypeGuard[CoordinatorError]:
        """Whether an endpoint will not have us, however often it is asked."""
        if is_tls:  # A client that has been connected waits for the certificate to be mended.
            return not self.session.client
        return isinstance(error, CoordinatorError) and not (
            error.retryable or isinstance(error, Exhausted)
        )

    async def _asked(self) -> None:
        """Wait until somebody wants something: a credential that was refused is not tried on."""
        assert self._loop is not None
        self._demand = self._loop.create_future()
        await self._demand
        self._demand = None

    def _refused(self, error: CoordinatorError) -> None:
        """Every endpoint has answered, and none will have us."""
        self.session.fail_all(error)
        if self._ready is not None and not self._ready.done():
            self._ready.set_exception(error)
            self._ready.exception()

    async def _attempt(self) -> None:
        """Connect to the current endpoint and exchange greetings."""
        assert self._loop is not None
        endpoint = self.endpoint
        context, name = self.trust.context(endpoint), self.trust.name(endpoint)
        proof = await self.prover.proof(now())
        count = len(self._rotation.all)
        limit = max(self._connect_timeout / count, min(1.0, self._connect_timeout))
        self._gone = gone = self._loop.create_future()

        def on_lost(error: Exception) -> None:
            if not gone.done():
                gone.set_result(error)
            if self._socket is socket:
                self._down(error)

        socket = WebSocket(endpoint, self._message, on_lost, self.wake)
        try:
            async with asyncio.timeout(limit):
                await socket.dial(context, name)
                self._socket, self._heard_at = socket, now()
                result = await self._proving.introduce(socket, proof)
        except BaseException as error:
            socket.abort(ConnectionLost("the connection was not established"))
            if isinstance(error, TimeoutError):
                raise TimeoutError(f"{endpoint.url} did not answer within {limit:g} s") from None
            raise
        self._greeted(result)

    def _greeted(self, result: HelloResult) -> None:
        at = now()
        self.session.greet(result, at)
        self.hello = result
        self._request_bytes_max = result.max_request_bytes
        self._rotation.learn(result.endpoints)
        self.renewals.resume(at)
        self._heard_at, self._pinged_at = at, 0.0
        if self._ready is not None and not self._ready.done():
            self._ready.set_result(None)
        self._tick()
        self.wake()

    async def _serve(self) -> Exception:
        assert self._gone is not None
        return await self._gone

    def _down(self, error: Exception) -> None:
        socket, self._socket = self._socket, None
        if socket is not None:
            socket.abort(error)
        self.session.disconnect(error)
        self.renewals.suspend()


def _name_of(body: Struct) -> str:
    return str(body.__struct_config__.tag)
