"""What is measured: each workload is one client process against one fresh server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from statistics import median

from coordinator_sdk import Client
from tests.bench.load import CALLERS, SECONDS, VALUE, key
from tests.bench.measure import Figures, closed_loop, latencies, percentile

Workload = Callable[[str], Awaitable[Figures]]


async def put_c1(url: str) -> Figures:
    """One caller writes."""
    async with Client(url) as client:
        rate, taken = await closed_loop(
            lambda number: client.kv.put(key(number), VALUE), callers=1, seconds=SECONDS
        )
    return {"puts_per_s": rate, **latencies(taken)}


async def put_c64(url: str) -> Figures:
    """64 callers write."""
    async with Client(url) as client:
        rate, taken = await closed_loop(
            lambda number: client.kv.put(key(number), VALUE), callers=CALLERS, seconds=SECONDS
        )
    return {"puts_per_s": rate, **latencies(taken)}


async def get_c1(url: str) -> Figures:
    """One caller reads, linearizably."""
    async with Client(url) as client:
        await client.kv.put(key(0), VALUE)
        rate, taken = await closed_loop(
            lambda number: client.kv.get(key(0)), callers=1, seconds=SECONDS
        )
    return {"gets_per_s": rate, **latencies(taken)}


async def get_c64(url: str) -> Figures:
    """64 callers read, linearizably."""
    async with Client(url) as client:
        for number in range(1000):
            await client.kv.put(key(number), VALUE)
        rate, taken = await closed_loop(
            lambda number: client.kv.get(key(number % 1000)), callers=CALLERS, seconds=SECONDS
        )
    return {"gets_per_s": rate, **latencies(taken)}


async def lock_uncontended(url: str) -> Figures:
    """One caller takes and gives back a lock that nobody else wants."""
    async with Client(url) as client:

        async def pair(number: int) -> None:
            lock = client.locks.lock("bench")
            await lock.acquire()
            await lock.release()

        rate, taken = await closed_loop(pair, callers=1, seconds=SECONDS)
    return {"pairs_per_s": rate, **latencies(taken)}


async def lock_handover(url: str, waiters: int = 10, rounds: int = 40) -> Figures:
    """A standing queue of waiters: from one's call of release to the next one's return."""
    gaps: list[float] = []
    released_at = 0.0
    order: list[int] = []
    expected: list[int] = []

    async def waiter(client: Client, number: int, ready: asyncio.Event) -> None:
        nonlocal released_at
        lock = client.locks.lock("bench")
        for _ in range(rounds):
            expected.append(number)
            if len(expected) == waiters:
                ready.set()
            await lock.acquire()
            if released_at:
                gaps.append(time.perf_counter() - released_at)
            order.append(number)
            await ready.wait()
            # The others stand in line already: nothing but the hand-over is measured.
            await asyncio.sleep(0.002)
            released_at = time.perf_counter()
            await lock.release()

    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(Client(url)) for _ in range(waiters)]
        ready = asyncio.Event()
        await asyncio.gather(
            *(waiter(client, number, ready) for number, client in enumerate(clients))
        )
    gaps = gaps[waiters:]
    return {"handovers": float(len(gaps)), **latencies(gaps)}


async def lock_closed(url: str, clients: int = 10) -> Figures:
    """Clients loop on one lock; only grants to another client than before count."""
    counts = [0] * clients
    handovers = 0
    last = -1
    measuring = False
    end = time.perf_counter() + 0.5 + SECONDS

    async def loop(client: Client, number: int) -> None:
        nonlocal handovers, last
        lock = client.locks.lock("bench")
        while time.perf_counter() < end:
            await lock.acquire()
            if measuring:
                counts[number] += 1
                handovers += number != last
            last = number
            await lock.release()

    async with AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(Client(url)) for _ in range(clients)]
        tasks = [asyncio.ensure_future(loop(client, n)) for n, client in enumerate(opened)]
        await asyncio.sleep(0.5)
        measuring = True
        began = time.perf_counter()
        await asyncio.gather(*tasks)
        elapsed = time.perf_counter() - began
    return {
        "handovers_per_s": handovers / elapsed,
        "acquisitions_per_s": sum(counts) / elapsed,
        "max_to_min": max(counts) / max(1, min(counts)),
    }


async def pubsub(url: str, callers: int = CALLERS) -> Figures:
    """64 callers publish to one topic, one subscriber gets every message."""
    delays: list[float] = []
    received = 0
    end = time.perf_counter() + 0.5 + SECONDS
    clock = time.perf_counter

    async with Client(url) as publisher, Client(url) as reader:
        await publisher.topics.create("bench")
        subscription = reader.topics.subscribe("bench", start="earliest")
        published = 0
        done = asyncio.Event()

        async def publish() -> None:
            nonlocal published
            while clock() < end:
                await publisher.topics.publish("bench", repr(clock()).encode().ljust(64))
                published += 1

        async def consume() -> None:
            nonlocal received
            async for message in subscription:
                received += 1
                delays.append(clock() - float(message.payload))
                if done.is_set() and received == published:
                    return

        consuming = asyncio.ensure_future(consume())
        began = clock()
        await asyncio.gather(*(publish() for _ in range(callers)))
        done.set()
        if received < published:
            await asyncio.wait_for(consuming, 30)
        elapsed = clock() - began
        consuming.cancel()
    return {"messages_per_s": received / elapsed, **latencies(delays)}


async def fanout(url: str, connections: int = 10, watches: int = 100, writes: int = 100) -> Figures:
    """1,000 watchers over 10 connections see every write to one key."""
    total = connections * watches
    delays: list[float] = []
    finished = asyncio.Event()
    seen = 0

    async def follow(client: Client, ready: asyncio.Semaphore) -> None:
        nonlocal seen
        async with client.kv.watch(b"bench/fan") as watch:
            ready.release()
            count = 0
            async for event in watch:
                delays.append(time.perf_counter() - float(event.kv.value))
                seen += 1
                count += 1
                if seen == total * writes:
                    finished.set()
                if count == writes:
                    return

    async with AsyncExitStack() as stack:
        writer = await stack.enter_async_context(Client(url))
        clients = [await stack.enter_async_context(Client(url)) for _ in range(connections)]
        ready = asyncio.Semaphore(0)
        tasks = [
            asyncio.ensure_future(follow(client, ready))
            for client in clients
            for _ in range(watches)
        ]
        for _ in range(total):
            await ready.acquire()
        began = time.perf_counter()
        for _ in range(writes):
            await writer.kv.put(b"bench/fan", repr(time.perf_counter()).encode())
        await asyncio.wait_for(finished.wait(), 60)
        elapsed = time.perf_counter() - began
        await asyncio.gather(*tasks)
    return {"deliveries_per_s": seen / elapsed, **latencies(delays)}


async def list_1000(url: str, instances: int = 1000) -> Figures:
    """One caller lists a service of 1,000 instances."""
    async with Client(url) as client, AsyncExitStack() as stack:
        registering = [
            stack.enter_async_context(
                client.services.register("bench", address=f"10.0.{n // 250}.{n % 250}", port=8080)
            )
            for n in range(instances)
        ]
        began = time.perf_counter()
        await asyncio.gather(*registering)
        registered = time.perf_counter() - began
        found = await client.services.discover("bench")
        assert len(found) == instances, len(found)
        rate, taken = await closed_loop(
            lambda number: client.services.discover("bench"), callers=1, seconds=SECONDS
        )
    return {
        "lists_per_s": rate,
        "registrations_per_s": instances / registered,
        **latencies(taken),
    }


async def watch_latency(url: str, writes: int = 1500) -> Figures:
    """One writer, one watcher: from the call of put to the event."""
    delays: list[float] = []
    async with Client(url) as writer, Client(url) as reader:
        async with reader.kv.watch(b"bench/watch") as watch:
            for _ in range(writes):
                began = time.perf_counter()
                put = asyncio.ensure_future(writer.kv.put(b"bench/watch", VALUE))
                await anext(watch)
                delays.append(time.perf_counter() - began)
                await put
    return {
        "events_per_s": 1 / median(delays),
        "p50_ms": 1000 * median(delays),
        "p99_ms": 1000 * percentile(delays, 0.99),
    }


WORKLOADS: dict[str, Workload] = {
    "put_c1": put_c1,
    "put_c64": put_c64,
    "get_c1": get_c1,
    "get_c64": get_c64,
    "lock_uncontended": lock_uncontended,
    "lock_handover": lock_handover,
    "lock_closed": lock_closed,
    "watch_latency": watch_latency,
    "pubsub": pubsub,
    "fanout": fanout,
    "list_1000": list_1000,
}
