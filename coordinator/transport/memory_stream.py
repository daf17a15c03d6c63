"""Questions and snapshots in memory: connections that are over once they are answered."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from coordinator.transport.errors import PeerRefused, PeerUnreachable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from coordinator.transport.memory import MemoryNetwork
    from coordinator.transport.ports import PeerHello, SnapshotSink

END = object()
BROKEN = object()


def _settle(future: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
    if not future.done():
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)


async def ask(source: MemoryNetwork, target: MemoryNetwork, answer: Callable[[], bytes]) -> bytes:
    """Have something answered by another member.

    Args:
        source: Who asks.
        target: Who answers.
        answer: Gives the answer; runs there.

    Raises:
        PeerUnreachable: There is no answer.
        PeerRefused: It can't be answered.
    """
    future: asyncio.Future[bytes] = source.loop.create_future()

    def answer_there() -> None:
        try:
            result, error = answer(), None
        except Exception as failure:
            refused = failure if isinstance(failure, PeerRefused) else PeerRefused(str(failure))
            result, error = b"", refused
        target.post(source, _settle, future, result, error)

    source.post(target, answer_there)
    try:
        async with asyncio.timeout(source.switchboard.silence_seconds):
            return await future
    except TimeoutError:
        raise PeerUnreachable("there was no answer") from None


class Stream:
    """One snapshot on its way from a member to another.

    Each piece is sent when the one before it has been taken: the sender keeps the pace of the
    receiver.
    """

    def __init__(self, source: MemoryNetwork, target: MemoryNetwork) -> None:
        self._source = source
        self._target = target
        self._inbox: asyncio.Queue[Any] = asyncio.Queue()
        self._answer: asyncio.Future[None] | None = None
        self._is_broken = False
        self._is_lost = False
        """Whether a piece or its answer met a cut: it is not sent again."""
        self._receiving: asyncio.Task[None] | None = None
        source.streams[self] = target.streams[self] = None

    async def send(self, hello: PeerHello, head: bytes, chunks: AsyncIterator[bytes]) -> None:
        """Send all of it; see `PeerNetwork.send_snapshot`."""
        receiving = self._receive(hello, head)
        # It lives in the receiver's context, and ends with it.
        self._receiving = self._source.loop.create_task(receiving, context=self._target.context)
        is_complete = False
        try:
            await self._pass_on(head)
            async for chunk in chunks:
                await self._pass_on(chunk)
            await self._pass_on(END)
            is_complete = True
        finally:
            self._forget()
            if not is_complete and not self._is_broken:
                self._is_broken = True
                self._source.post(self._target, self._inbox.put_nowait, BROKEN)

    def end_of(self, network: MemoryNetwork, *, is_silent: bool) -> None:
        """Learn that one of the two has died; the other notices sooner or later."""
        self._is_broken = True
        self._forget()
        other = self._source if network is self._target else self._target
        if other.is_over:
            return
        switchboard = network.switchboard
        delay = (
            switchboard.silence_seconds
            if is_silent
            else switchboard.latency(network.place, other.place)
        )
        if other is self._target:
            other.later(delay, self._inbox.put_nowait, BROKEN)
        elif self._answer is not None:
            other.later(delay, _settle, self._answer, None, PeerUnreachable("it has died"))

    def _forget(self) -> None:
        self._source.streams.pop(self, None)
        self._target.streams.pop(self, None)

    async def _pass_on(self, piece: Any) -> None:
        """Send one piece and wait until it has been taken."""
        source, target = self._source, self._target
        if self._is_broken:
            raise PeerUnreachable("the connection broke")
        self._answer = answer = source.loop.create_future()
        if not source.post(target, self._inbox.put_nowait, piece):
            self._is_lost = True
        silence = source.switchboard.silence_seconds
        while True:
            done, _ = await asyncio.wait((answer,), timeout=silence)
            if done:
                answer.result()
                return
            way = source.place, target.place
            is_open = source.switchboard.is_open
            if self._is_lost or not (is_open(*way) and is_open(*reversed(way))):
                raise PeerUnreachable("the connection fell silent")

    # At the receiver.

    def _reply(self, refusal: str = "") -> None:
        answer = self._answer
        if answer is not None:
            error = PeerRefused(refusal) if refusal else None
            if not self._target.post(self._source, _settle, answer, None, error):
                self._is_lost = True

    async def _receive(self, hello: PeerHello, head: bytes) -> None:
        sink: SnapshotSink | None = None
        try:
            if await self._inbox.get() is BROKEN:
                return
            refusal = self._target.check_caller(hello)
            if refusal:
                self._reply(refusal)
                return
            sink = self._target.handler.open_snapshot(hello.member, head)
            self._reply()
            while True:
                piece = await self._inbox.get()
                if piece is BROKEN:
                    await sink.abort()
                    return
                if piece is END:
                    await sink.finish()
                    self._reply()
                    return
                await sink.write(piece)
                self._reply()
        except Exception as error:
            if sink is not None:
                await sink.abort()
            self._reply(str(error) or type(error).__name__)
