"""Clients that use a few registers and note what happened, for the checker."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress

from coordinator_sdk import Client, RetryPolicy, ops
from coordinator_sdk.errors import CoordinatorError, NotApplied
from tests.linearizability.checker import FOREVER, GET, PUT, SWAP, Operation, Violation, violations

KEYS = 4
CLIENTS_PER_MEMBER = 3
DEADLINE_SECONDS = 1.5
"""After which a client gives an operation up, and may never know whether it happened."""
PREFIX = "register/"


class Registers:
    """Clients of all members, from ``async with`` on until `finish`.

    Attributes:
        history: What was done, with its outcome as far as it is known.
    """

    def __init__(self, urls: Sequence[str], seed: int = 0, with_swaps: bool = False) -> None:
        self.history: list[Operation] = []
        self._urls = list(urls)
        self._draw = random.Random(seed)
        self._with_swaps = with_swaps
        self._numbers = itertools.count(1)
        self._is_ending = False
        self._tasks: list[asyncio.Task[None]] = []
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Registers:
        policy = RetryPolicy(deadline=DEADLINE_SECONDS, base=0.02, cap=0.1)
        for number in range(len(self._urls) * CLIENTS_PER_MEMBER):
            first = number % len(self._urls)
            urls = self._urls[first:] + self._urls[:first]
            client = Client(*urls, retry=policy, connect_timeout=30)
            await self._stack.enter_async_context(client)
            self._tasks.append(asyncio.ensure_future(self._work(client, number)))
        return self

    async def __aexit__(self, *exc: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with suppress(CoordinatorError, TimeoutError):
            await self._stack.aclose()

    async def finish(self) -> list[Violation]:
        """Let every client come to its end, and judge the history."""
        self._is_ending = True
        await asyncio.gather(*self._tasks)
        return await asyncio.to_thread(violations, self.history)

    async def until_done(self, more: int) -> None:
        """Wait until so many more operations are known to have happened."""
        wanted = len(self.history) + more
        while len(self.history) < wanted:
            for task in self._tasks:
                if task.done():
                    task.result()
            await asyncio.sleep(0.005)

    async def _work(self, client: Client, number: int) -> None:
        draw = random.Random(self._draw.getrandbits(32))
        seen: dict[str, bytes | None] = {}
        kinds = (PUT, GET, GET, SWAP) if self._with_swaps else (PUT, GET)
        while not self._is_ending:
            key = f"{PREFIX}{draw.randrange(KEYS)}"
            kind = draw.choice(kinds)
            value = b"%d" % next(self._numbers)
            called = time.monotonic()
            try:
                made = await self._do(client, kind, key, value, seen)
            except NotApplied:
                await asyncio.sleep(0.02)  # it certainly did not happen: nothing to note
                continue
            except CoordinatorError:
                expected = seen.get(key)
                self._note(kind, key, called, FOREVER, value, expected, True, number)
                continue
            self._note(kind, key, called, time.monotonic(), *made, number)
            # Hardly a pause, but a turn for the others.
            await asyncio.sleep(0.002)

    async def _do(
        self, client: Client, kind: str, key: str, value: bytes, seen: dict[str, bytes | None]
    ) -> tuple[bytes | None, bytes | None, bool]:
        """Do one operation; give value, expected value, and whether it wrote."""
        if kind == PUT:
            await client.kv.put(key, value)
            return value, None, True
        if kind == GET:
            record = await client.kv.get(key)
            seen[key] = bytes(record.value) if record is not None else None
            return seen[key], None, True
        expected = seen.get(key)
        condition = ops.version(key) == 0 if expected is None else ops.value(key) == expected
        result = await client.kv.txn(compare=[condition], success=[ops.put(key, value)])
        return value, expected, result.succeeded

    def _note(
        self,
        kind: str,
        key: str,
        called: float,
        returned: float,
        value: bytes | None,
        expected: bytes | None,
        succeeded: bool,
        client: int,
    ) -> None:
        self.history.append(
            Operation(kind, key, called, returned, value, expected, succeeded, client)
        )
