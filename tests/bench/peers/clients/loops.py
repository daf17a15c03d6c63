"""The workloads of `make bench`, as `tests/bench/workloads.py` has them, for any async client.

What differs between servers is an `Asked`: how to write, to read, to lock, to publish.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, Protocol

from tests.bench.load import CALLERS, VALUE, key
from tests.bench.measure import Figures, closed_loop, latencies

clock = time.perf_counter


class Lock(Protocol):
    """A lock of one client."""

    async def acquire(self) -> Any:
        """Wait until it is ours."""

    async def release(self) -> Any:
        """Give it back."""


class Asked(Protocol):
    """A client of a server; an asynchronous context manager."""

    async def __aenter__(self) -> Asked:
        """Connect."""

    async def __aexit__(self, *failure: object) -> None:
        """Leave."""

    async def put(self, at: bytes, value: bytes) -> Any:
        """Write a key."""

    async def get(self, at: bytes) -> Any:
        """Read a key."""

    def lock(self) -> Lock:
        """Give a lock of the one name that all share."""

    async def publish(self, payload: bytes) -> Any:
        """Tell subscribers."""

    async def subscribe(self, each: Callable[[bytes], None]) -> None:
        """Have each message handed over, until cancelled; returns once subscribed."""

    async def register(self, number: int, value: bytes) -> Any:
        """Make an instance of a service known."""

    async def instances(self) -> list[Any]:
        """List the instances."""


Opening = Callable[[int], Asked]


def put(opening: Opening, callers: int) -> Callable[[int, float], Awaitable[Figures]]:
    """Callers write."""

    async def measured(port: int, seconds: float) -> Figures:
        async with opening(port) as client:
            rate, taken = await closed_loop(
                lambda number: client.put(key(number), VALUE), callers=callers, seconds=seconds
            )
        return {"puts_per_s": rate, **latencies(taken)}

    return measured


def get(opening: Opening, callers: int) -> Callable[[int, float], Awaitable[Figures]]:
    """Callers read, linearizably."""

    async def measured(port: int, seconds: float) -> Figures:
        async with opening(port) as client:
            for number in range(1000):
                await client.put(key(number), VALUE)
            rate, taken = await closed_loop(
                lambda number: client.get(key(number % 1000)), callers=callers, seconds=seconds
            )
        return {"gets_per_s": rate, **latencies(taken)}

    return measured


def lock_uncontended(opening: Opening) -> Callable[[int, float], Awaitable[Figures]]:
    """One caller takes and gives back a lock that nobody else wants."""

    async def measured(port: int, seconds: float) -> Figures:
        async with opening(port) as client:

            async def pair(number: int) -> None:
                lock = client.lock()
                await lock.acquire()
                await lock.release()

            rate, taken = await closed_loop(pair, callers=1, seconds=seconds)
        return {"pairs_per_s": rate, **latencies(taken)}

    return measured


def lock_handover(
    opening: Opening, waiters: int = 10, rounds: int = 40
) -> Callable[[int, float], Awaitable[Figures]]:
    """A standing queue of waiters: from one's call of release to the next one's return."""

    async def measured(port: int, seconds: float) -> Figures:
        gaps: list[float] = []
        released_at = 0.0
        standing = finished = 0
        ready, granted = asyncio.Event(), asyncio.Event()

        async def waiter(client: Asked) -> None:
            nonlocal released_at, standing, finished
            lock = client.lock()
            for _ in range(rounds):
                standing += 1
                if standing == waiters:
                    ready.set()
                await lock.acquire()
                if released_at:
                    gaps.append(clock() - released_at)
                granted.set()
                await ready.wait()
                await asyncio.sleep(0.002)
                granted.clear()
                released_at = clock()
                await lock.release()
                # Where there is no queue, whoever gives it back would take it again at once.
                if finished < waiters - 1:
                    await granted.wait()
            finished += 1

        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(opening(port)) for _ in range(waiters)]
            await asyncio.gather(*(waiter(client) for client in clients))
        # As with ours: the first ones came while the queue was being made.
        return {"handovers": float(len(gaps[waiters:])), **latencies(gaps[waiters:])}

    return measured


def lock_closed(opening: Opening, clients: int = 10) -> Callable[[int, float], Awaitable[Figures]]:
    """Clients loop on one lock; only grants to another client than before count."""

    async def measured(port: int, seconds: float) -> Figures:
        counts = [0] * clients
        handovers, last, measuring = 0, -1, False
        end = 0.0

        async def loop(client: Asked, number: int) -> None:
            nonlocal handovers, last
            lock = client.lock()
            while clock() < end:
                await lock.acquire()
                if measuring:
                    counts[number] += 1
                    handovers += number != last
                last = number
                await lock.release()

        async with AsyncExitStack() as stack:
            opened = [await stack.enter_async_context(opening(port)) for _ in range(clients)]
            end = clock() + 0.5 + seconds
            tasks = [asyncio.ensure_future(loop(client, n)) for n, client in enumerate(opened)]
            await asyncio.sleep(0.5)
            measuring, began = True, clock()
            await asyncio.gather(*tasks)
            elapsed = clock() - began
        return {
            "handovers_per_s": handovers / elapsed,
            "acquisitions_per_s": sum(counts) / elapsed,
            "max_to_min": max(counts) / max(1, min(counts)),
        }

    return measured


def pubsub(opening: Opening, callers: int = CALLERS) -> Callable[[int, float], Awaitable[Figures]]:
    """64 callers publish, one subscriber gets every message."""

    async def measured(port: int, seconds: float) -> Figures:
        delays: list[float] = []
        published = 0
        everything = asyncio.Event()
        done = False
        end = 0.0

        def received(payload: bytes) -> None:
            delays.append(clock() - float(payload))
            if done and len(delays) == published:
                everything.set()

        async def publish(publisher: Asked) -> None:
            nonlocal published
            while clock() < end:
                await publisher.publish(repr(clock()).encode().ljust(64))
                published += 1

        async with opening(port) as publisher, opening(port) as reader:
            await reader.subscribe(received)
            began = clock()
            end = began + 0.5 + seconds
            await asyncio.gather(*(publish(publisher) for _ in range(callers)))
            done = True
            if len(delays) < published:
                await asyncio.wait_for(everything.wait(), 30)
            elapsed = clock() - began
        return {"messages_per_s": len(delays) / elapsed, **latencies(delays)}

    return measured


def list_1000(opening: Opening, count: int = 1000) -> Callable[[int, float], Awaitable[Figures]]:
    """One caller lists a service of 1,000 instances."""

    async def measured(port: int, seconds: float) -> Figures:
        async with opening(port) as client:
            for n in range(count):
                address = f'{{"address": "10.0.{n // 250}.{n % 250}", "port": 8080}}'
                await client.register(n, address.encode())
            found = await client.instances()
            assert len(found) == count, len(found)
            rate, taken = await closed_loop(
                lambda number: client.instances(), callers=1, seconds=seconds
            )
        return {"lists_per_s": rate, **latencies(taken)}

    return measured
