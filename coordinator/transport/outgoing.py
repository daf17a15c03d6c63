"""The link to one other member: dials it until it answers, and again when the link breaks."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import msgspec

from coordinator.transport.errors import PeerRefused, PeerUnreachable
from coordinator.transport.greeting import problem_of_answer
from coordinator.transport.notices import log_failure, logger
from coordinator.transport.ports import PeerHandler, PeerHello, Purpose

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from coordinator.transport.connection import Connection
    from coordinator.transport.dialling import Dialler
    from coordinator.transport.limits import Limits


class Caller:
    """Dials one member at any of its URLs, for whatever purpose, and checks who answers.

    Attributes:
        member: Whom.
        urls: Where it listens; each try begins with the next one.
    """

    def __init__(self, member: int, dialler: Dialler, handler: PeerHandler) -> None:
        self.member = member
        self.urls: tuple[str, ...] = ()
        self.handler = handler
        self._dialler = dialler
        self._tries = 0

    @property
    def limits(self) -> Limits:
        """The bounds."""
        return self._dialler.limits

    def hello(self, purpose: Purpose) -> PeerHello:
        """Say what we say to it."""
        own = self.handler.hello()
        return msgspec.structs.replace(own, purpose=purpose, target=self.member, refusal="")

    async def call(
        self, purpose: Purpose, on_frame: Callable[[int, bytes], None] | None = None
    ) -> Connection:
        """Connect to the next URL; return the connection, established.

        Raises:
            PeerUnreachable: Nobody answers there.
            PeerRefused: We do not belong together, for whichever side's reason.
        """
        if not self.urls:
            raise PeerUnreachable(f"no address of member {self.member:x} is known")
        url = self.urls[self._tries % len(self.urls)]
        self._tries += 1
        connection, answer = await self._dialler.dial(url, self.hello(purpose), on_frame)
        problem = answer.refusal or problem_of_answer(answer, self.member)
        if problem := problem or self.handler.admit(answer):
            connection.abort()
            raise PeerRefused(problem)
        if not connection.is_open:
            raise PeerUnreachable(f"{url}: {connection.detail}")
        connection.establish()
        return connection

    async def call_any(
        self, purpose: Purpose, on_frame: Callable[[int, bytes], None] | None = None
    ) -> Connection:
        """Connect to the first URL that answers, each tried once.

        Raises:
            PeerUnreachable: Nobody answers anywhere.
            PeerRefused: We do not belong together, for whichever side's reason.
        """
        error = PeerUnreachable(f"no address of member {self.member:x} is known")
        for _ in self.urls:
            try:
                return await self.call(purpose, on_frame)
            except PeerUnreachable as unreachable:
                error = unreachable
        raise error


class Backoff:
    """Pauses between tries: twice as long each time, and never in step with others."""

    def __init__(self, limits: Limits, random: random.Random) -> None:
        self._limits = limits
        self._random = random
        self._next_s = limits.backoff_s_min

    def reset(self) -> None:
        """Begin with the shortest pause again."""
        self._next_s = self._limits.backoff_s_min

    def next_s(self) -> float:
        """Return the next pause: between half of what it would be and all of it."""
        pause_s = self._next_s * (0.5 + self._random.random() / 2)
        self._next_s = min(self._next_s * 2, self._limits.backoff_s_max)
        return pause_s


class OutgoingLink:
    """The link on which frames go out to one member.

    Args:
        caller: Dials the member.
        links: The connections of all links that are up, by member; this one is kept in it.
        random: Jitter.
        tell: Calls a method of the handler's in the next turn of the loop.
    """

    def __init__(
        self,
        caller: Caller,
        links: dict[int, Connection],
        random: random.Random,
        tell: Callable[..., None],
    ) -> None:
        self.caller = caller
        self._handler = caller.handler
        self._tell = tell
        self._links = links
        self._backoff = Backoff(caller.limits, random)
        self._connection: Connection | None = None
        self._nudged = asyncio.Event()
        self._has_overflowed = False
        self._refusal = ""
        self._is_stopped = False
        self._task = asyncio.get_running_loop().create_task(self._keep_up())
        self._task.add_done_callback(log_failure)

    def nudge(self) -> None:
        """Dial now if the link is down: the member shows that it is there."""
        if self._connection is None:
            self._nudged.set()

    def overflow(self) -> None:
        """Take note that a frame was dropped because too much is unsent."""
        if not self._has_overflowed:
            self._has_overflowed = True
            self._tell(self._handler.unreachable, self.caller.member)

    def stop(self) -> asyncio.Task[None]:
        """End the link after what was sent has left; return what has to be waited for."""
        self._is_stopped = True
        if self._links.get(self.caller.member) is self._connection:
            self._links.pop(self.caller.member, None)
        if self._connection:
            self._connection.close()
        self._task.cancel()
        return self._task

    async def _keep_up(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._is_stopped:
            self._nudged.clear()
            try:
                connection = await self.caller.call(Purpose.LINK)
            except PeerRefused as refused:
                self._tell_refusal(refused.reason)
            except PeerUnreachable as unreachable:
                logger.debug("member %x is not reached: %s", self.caller.member, unreachable)
            else:
                self._refusal = ""
                since_s = loop.time()
                await self._use(connection)
                if loop.time() - since_s > self.caller.limits.backoff_s_max:
                    self._backoff.reset()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._backoff.next_s()):
                    await self._nudged.wait()

    async def _use(self, connection: Connection) -> None:
        """Offer a connection for sending until it ends."""
        member = self.caller.member
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def end() -> None:
            if self._links.get(member) is connection:
                del self._links[member]
            self._connection = None
            if not ended.done():
                ended.set_result(None)
            if not self._is_stopped:
                logger.info("the link to member %x ended: %s", member, connection.detail)
                self._tell(self._handler.unreachable, member)

        connection.on_end = end
        connection.on_drained = self._drained
        self._has_overflowed = False
        self._connection = connection
        self._links[member] = connection
        logger.info("linked to member %x at %s", member, connection.other)
        self._tell(self._handler.linked, member)
        await ended

    def _drained(self) -> None:
        self._has_overflowed = False

    def _tell_refusal(self, reason: str) -> None:
        if reason != self._refusal:
            self._refusal = reason
            logger.warning("no link to member %x: %s", self.caller.member, reason)
            self._tell(self._handler.refused, self.caller.member, reason)
