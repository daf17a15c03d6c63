"""The way between clients and members: slow, and cut when the member dies.

A client's `Link` leads to one member at a time. What it sends may arrive and be answered, may
arrive and not be answered, or may not arrive; the client only learns that the link broke.
"""

from __future__ import annotations

import asyncio
import contextvars
import random
from collections.abc import Callable
from typing import Any

from coordinator.node.node import Node
from coordinator.replica.requests import Outcome
from coordinator_sdk.errors import CoordinatorError
from coordinator_sdk.protocol.kv import Event, Watch
from tests.simulation.clock import Life, VirtualLoop
from tests.simulation.cluster import Host

LATENCY_SECONDS = 0.002
NOTICE_SECONDS = 0.05
"""How long it takes at most until somebody notices that the other side is gone."""

LOST_SHARE = 0.01
"""Share of the requests, and of the answers, that get lost with their connection."""
SILENCE_SECONDS = 1.0
"""How long a client may take to notice that."""


class Broken(Exception):
    """The link broke; what was under way may have happened or not."""


class Link:
    """A connection of one client, opened anew after every break, to whichever member."""

    def __init__(self, loop: VirtualLoop, rng: random.Random, hosts: list[Host]) -> None:
        self._loop = loop
        self._rng = rng
        self._hosts = hosts
        self._life: Life | None = None
        self._node: Node | None = None
        self._patience = rng.choice((0.7, 2.0, 5.0))

    async def connect(self) -> None:
        """Wait until some member serves, and connect to it.

        Whoever takes itself for a member does, be it cut off, deposed or removed.
        """
        while True:
            serving = [host for host in self._hosts if host.is_serving]
            if serving:
                host = self._rng.choice(serving)
                self._life, self._node = host.life, host.node
                return
            await asyncio.sleep(0.01 + self._rng.random() * 0.05)

    def drop(self) -> None:
        """Close the connection; the next call needs a new one."""
        self._life = self._node = None

    def _delay(self) -> float:
        return self._rng.random() * LATENCY_SECONDS

    async def _ask(self, deliver: Callable[[Node, Callable[[Any], None]], None]) -> Any:
        """Send something to the member and wait for its answer.

        Raises:
            Broken: The member ended, or has been silent for too long.
        """
        if self._node is None or self._life is None or self._life.is_over:
            await self.connect()
        life, node = self._life, self._node
        assert life is not None
        assert node is not None
        future: asyncio.Future[Any] = self._loop.create_future()
        token = object()

        def settle(answer: Any) -> None:
            if not future.done():
                future.set_result(answer)

        def answer(value: Any) -> None:
            life.not_at_end(token)
            if self._rng.random() < LOST_SHARE:
                outside.run(self._loop.call_later, self._rng.random() * SILENCE_SECONDS, fail)
            else:
                outside.run(self._loop.call_later, self._delay(), settle, value)

        def broken() -> None:
            outside.run(self._loop.call_later, self._rng.random() * NOTICE_SECONDS, fail)

        def fail() -> None:
            if not future.done():
                future.set_exception(Broken())

        outside = _context()
        life.at_end(token, broken)
        if self._rng.random() < LOST_SHARE:
            self._loop.call_later(self._rng.random() * SILENCE_SECONDS, fail)
        else:
            self._loop.call_later(self._delay(), life.send, deliver, node, answer)
        try:
            async with asyncio.timeout(self._patience):
                return await future
        except TimeoutError:
            self.drop()
            raise Broken from None
        except Broken:
            self.drop()
            raise

    async def propose(self, body: Any, client: int, sequence: int, floor: int) -> Outcome:
        """Propose a change."""

        def deliver(node: Node, answer: Callable[[Any], None]) -> None:
            node.propose(
                body,
                done=answer,
                origin="simulation",
                client=client,
                sequence=sequence,
                floor=floor,
            )

        outcome: Outcome = await self._ask(deliver)
        return outcome

    async def read(
        self, view: Callable[[Node], Any], *, min_revision: int = 0, serializable: bool = False
    ) -> Any:
        """Read linearizably, unless told otherwise; gives what ``view`` makes of the state.

        Raises:
            CoordinatorError: The member can't answer.
        """

        def deliver(node: Node, answer: Callable[[Any], None]) -> None:
            node.read(
                lambda error: answer(error if error is not None else view(node)),
                min_revision=min_revision,
                serializable=serializable,
            )

        result = await self._ask(deliver)
        if isinstance(result, CoordinatorError):
            raise result
        return result

    async def keepalive(self, lease: int) -> int:
        """Renew a lease; gives its TTL in milliseconds, 0 if it is gone.

        Raises:
            CoordinatorError: The member can't answer.
        """

        def deliver(node: Node, answer: Callable[[Any], None]) -> None:
            node.keepalive([lease], answer)

        result = await self._ask(deliver)
        if isinstance(result, CoordinatorError):
            raise result
        ttl: int = result[0]
        return ttl

    async def watch(self, op: Watch, queue: asyncio.Queue[Any]) -> None:
        """Open a watch whose items go to a queue: (revision, events), or the error at its end."""
        outside = _context()
        alive = True

        def put(item: Any) -> None:
            if alive:
                queue.put_nowait(item)

        def deliver(node: Node, answer: Callable[[Any], None]) -> None:
            def on_events(revision: int, events: list[Event]) -> None:
                outside.run(self._loop.call_later, LATENCY_SECONDS, put, (revision, events))

            def on_lost(compact_revision: int) -> None:
                outside.run(self._loop.call_later, LATENCY_SECONDS, put, compact_revision)

            node.hub.watch_local(op, on_events, on_lost)
            node.catch_up()
            answer(None)

        await self._ask(deliver)
        life = self._life
        assert life is not None

        def broken() -> None:
            nonlocal alive
            alive = False
            outside.run(self._loop.call_later, NOTICE_SECONDS, queue.put_nowait, Broken())

        if life.is_over:
            raise Broken
        life.at_end(queue, broken)


def _context() -> contextvars.Context:
    """Give a context outside of every life, for what comes back to the client."""
    return contextvars.copy_context()
