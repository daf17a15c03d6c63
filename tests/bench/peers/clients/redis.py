"""Redis through redis-py's asynchronous client, with hiredis.

`Client` is redis-py as it is: a pool of connections, one for each call under way. `Pipelined` does
by hand what redis-py does not: all calls of one turn of the loop leave in one pipeline. Locks are
redis-py's `Lock`: SET NX PX, a script for the release, and waiters that ask again and again.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections.abc import Callable
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.lock import Lock

from tests.bench.load import CALLERS
from tests.bench.peers.clients import loops
from tests.bench.peers.clients.running import run


class Client:
    """A pool of as many connections as there are callers."""

    poll_seconds = 0.1
    """Between two attempts at a lock: redis-py's default."""

    def __init__(self, port: int) -> None:
        self._redis = Redis(host="127.0.0.1", port=port, max_connections=CALLERS + 1)
        self.put = self._redis.set
        self.get = self._redis.get
        self._reading: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Client:
        await self._redis.ping()
        return self

    async def __aexit__(self, *failure: object) -> None:
        if self._reading is not None:
            self._reading.cancel()
        await self._redis.aclose()

    def lock(self) -> Lock:
        return Lock(self._redis, "bench", timeout=60, sleep=self.poll_seconds)

    async def publish(self, payload: bytes) -> None:
        await self._redis.publish("bench", payload)

    async def subscribe(self, each: Callable[[bytes], None]) -> None:
        subscription = self._redis.pubsub(ignore_subscribe_messages=True)
        await subscription.subscribe("bench")
        # The answer to the subscription itself.
        await subscription.get_message(timeout=5)

        async def read() -> None:
            async for message in subscription.listen():
                each(message["data"])

        self._reading = asyncio.ensure_future(read())

    async def register(self, number: int, value: bytes) -> None:
        await self._redis.sadd("bench/instances", b"bench/instances/%d" % number)
        await self._redis.set(b"bench/instances/%d" % number, value, ex=60)

    async def instances(self) -> list[Any]:
        names = await self._redis.smembers("bench/instances")
        values = await self._redis.mget(names)
        return json.loads(b"[" + b",".join([value for value in values if value]) + b"]")


class Impatient(Client):
    """Asks for a lock ten times as often as redis-py does by itself."""

    poll_seconds = 0.01


class Spread(Lock):
    """A waiter among many who came at different times, so that they do not all ask at once.

    Waiters that came at the same time ask at the same time ever after, which only a test does, and
    which would cost each hand-over the whole pause between two attempts.
    """

    async def acquire(self, *arguments: Any, **more: Any) -> bool:
        """Wait for a part of the pause between two attempts, then ask."""
        await asyncio.sleep(random.random() * self.sleep)
        return await super().acquire(*arguments, **more)


class Standing(Client):
    """Stands in line, as far as Redis has one."""

    def lock(self) -> Lock:
        return Spread(self._redis, "bench", timeout=60, sleep=self.poll_seconds)


class StandingImpatient(Standing):
    """Stands in line and asks ten times as often as redis-py does by itself."""

    poll_seconds = 0.01


class Pipelined(Client):
    """All calls of one turn of the loop leave in one pipeline."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self._waiting: list[tuple[tuple[Any, ...], asyncio.Future[Any]]] = []
        self._sending: asyncio.Task[None] | None = None
        self.put = lambda at, value: self._ask("SET", at, value)
        self.get = lambda at: self._ask("GET", at)
        self.publish = lambda payload: self._ask("PUBLISH", "bench", payload)

    def _ask(self, *command: Any) -> asyncio.Future[Any]:
        answer = asyncio.get_running_loop().create_future()
        self._waiting.append((command, answer))
        if self._sending is None:
            self._sending = asyncio.ensure_future(self._send())
        return answer

    async def _send(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            pipeline = self._redis.pipeline(transaction=False)
            for command, _ in batch:
                pipeline.execute_command(*command)
            for (_, answer), outcome in zip(batch, await pipeline.execute(), strict=True):
                answer.set_result(outcome)
            # Those who got their answers ask again before the next batch leaves.
            await asyncio.sleep(0)
        self._sending = None


class Streams(Client):
    """Messages as entries of a stream, which are written to the disk like everything else."""

    async def publish(self, payload: bytes) -> None:
        await self._redis.xadd("bench/stream", {b"p": payload})

    async def subscribe(self, each: Callable[[bytes], None]) -> None:
        async def read() -> None:
            last: Any = "0"
            while True:
                for _, entries in await self._redis.xread(
                    {"bench/stream": last}, block=10_000, count=1000
                ):
                    for _, fields in entries:
                        each(fields[b"p"])
                    last = entries[-1][0]

        self._reading = asyncio.ensure_future(read())


MEASURED = {
    "put_c1": loops.put(Client, 1),
    "put_c64": loops.put(Client, 64),
    "put_c64/pipelined": loops.put(Pipelined, 64),
    "get_c64": loops.get(Client, 64),
    "get_c64/pipelined": loops.get(Pipelined, 64),
    "lock_uncontended": loops.lock_uncontended(Client),
    "lock_handover": loops.lock_handover(Standing),
    "lock_handover/impatient": loops.lock_handover(StandingImpatient),
    "lock_closed": loops.lock_closed(Client),
    "lock_closed/impatient": loops.lock_closed(Impatient),
    "list_1000": loops.list_1000(Client),
    "pubsub": loops.pubsub(Client),
    "pubsub/pipelined": loops.pubsub(Pipelined),
    "pubsub/streams": loops.pubsub(Streams),
}

if __name__ == "__main__":
    run(MEASURED, sys.argv[1:])
