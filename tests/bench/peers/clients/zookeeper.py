"""ZooKeeper through kazoo, which is made for threads: one per waiter, none for a call under way.

Writes go to 1,000 nodes that exist already. A read is a member's own; with three members `sync`
goes before it on the same connection, or it would not be linearizable.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from kazoo.client import KazooClient

from tests.bench.load import CALLERS, VALUE
from tests.bench.measure import WARM_SECONDS, Figures, latencies
from tests.bench.peers.clients.running import Measured, run

NODES = 1000
PATHS = [f"/bench/{number:08d}" for number in range(NODES)]

clock = time.perf_counter


@contextlib.contextmanager
def connected(port: int) -> Iterator[KazooClient]:
    """Open a session."""
    client = KazooClient(hosts=f"127.0.0.1:{port}")
    client.start()
    try:
        yield client
    finally:
        client.stop()
        client.close()


def nodes(client: KazooClient) -> None:
    """Make the nodes that are written."""
    client.ensure_path("/bench")
    for answer in [client.create_async(path, VALUE) for path in PATHS]:
        answer.get()


def repeated(call: Callable[[int], Any], callers: int, seconds: float) -> tuple[float, list[float]]:
    """As `closed_loop`: each caller makes its next call in the callback of the one before."""
    taken: list[float] = []
    ended = threading.Semaphore(0)
    warm_until = clock() + WARM_SECONDS
    end = warm_until + seconds
    counter = 0

    def begin() -> None:
        nonlocal counter
        counter += 1
        began = clock()

        def answered(answer: Any) -> None:
            answer.get_nowait()
            now = clock()
            if began >= warm_until:
                taken.append(now - began)
            if now < end:
                begin()
            else:
                ended.release()

        call(counter).rawlink(answered)

    for _ in range(callers):
        begin()
    for _ in range(callers):
        assert ended.acquire(timeout=30), "a call got no answer"
    return len(taken) / (clock() - warm_until), taken


def put(callers: int) -> Callable[[int, float], Figures]:
    """Callers write."""

    def measured(port: int, seconds: float) -> Figures:
        with connected(port) as client:
            nodes(client)
            if callers == 1:
                rate, taken = one_by_one(lambda n: client.set(PATHS[n % NODES], VALUE), seconds)
            else:
                rate, taken = repeated(
                    lambda n: client.set_async(PATHS[n * 7919 % NODES], VALUE), callers, seconds
                )
        return {"puts_per_s": rate, **latencies(taken)}

    return measured


def one_by_one(call: Callable[[int], Any], seconds: float) -> tuple[float, list[float]]:
    """Call and wait, in the thread that calls."""
    taken: list[float] = []
    warm_until = clock() + WARM_SECONDS
    now, number = clock(), 0
    while now < warm_until + seconds:
        number += 1
        call(number)
        done = clock()
        if now >= warm_until:
            taken.append(done - now)
        now = done
    return len(taken) / (clock() - warm_until), taken


def get(callers: int, synced: bool) -> Callable[[int, float], Figures]:
    """Callers read."""

    def measured(port: int, seconds: float) -> Figures:
        with connected(port) as client:
            nodes(client)

            def ask(number: int) -> Any:
                path = PATHS[number * 7919 % NODES]
                if synced:
                    client.sync_async(path)
                return client.get_async(path)

            rate, taken = repeated(ask, callers, seconds)
        return {"gets_per_s": rate, **latencies(taken)}

    return measured


def lock_uncontended(port: int, seconds: float) -> Figures:
    """One caller takes and gives back a lock that nobody else wants."""
    with connected(port) as client:
        lock = client.Lock("/bench/lock", "one")

        def pair(number: int) -> None:
            lock.acquire()
            lock.release()

        rate, taken = one_by_one(pair, seconds)
    return {"pairs_per_s": rate, **latencies(taken)}


def together(work: Callable[[KazooClient, int], None], port: int, count: int) -> None:
    """Run a thread with a session of its own for each of them."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connected(port)) for _ in range(count)]
        threads = [
            threading.Thread(target=work, args=(client, number))
            for number, client in enumerate(clients)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def lock_handover(port: int, seconds: float, waiters: int = 10, rounds: int = 40) -> Figures:
    """A standing queue of waiters: from one's call of release to the next one's return."""
    gaps: list[float] = []
    standing: list[int] = []
    released_at = 0.0
    ready = threading.Event()

    def waiter(client: KazooClient, number: int) -> None:
        nonlocal released_at
        lock = client.Lock("/bench/lock", str(number))
        for _ in range(rounds):
            standing.append(number)
            if len(standing) == waiters:
                ready.set()
            lock.acquire()
            if released_at:
                gaps.append(clock() - released_at)
            ready.wait()
            time.sleep(0.002)
            released_at = clock()
            lock.release()

    together(waiter, port, waiters)
    return {"handovers": float(len(gaps[waiters:])), **latencies(gaps[waiters:])}


def lock_closed(port: int, seconds: float, clients: int = 10) -> Figures:
    """Clients loop on one lock; only grants to another client than before count."""
    grants: list[tuple[float, int]] = []
    all_there = threading.Barrier(clients)

    def loop(client: KazooClient, number: int) -> None:
        lock = client.Lock("/bench/lock", str(number))
        all_there.wait()
        end = clock() + WARM_SECONDS + seconds
        while clock() < end:
            lock.acquire()
            grants.append((clock(), number))
            lock.release()

    together(loop, port, clients)
    warm_until = grants[0][0] + WARM_SECONDS
    counted = [(at, number) for at, number in grants if at >= warm_until]
    elapsed = counted[-1][0] - warm_until
    changes = sum(
        before[1] != after[1] for before, after in zip(counted, counted[1:], strict=False)
    )
    counts = [sum(number == one for _, number in counted) for one in range(clients)]
    return {
        "handovers_per_s": changes / elapsed,
        "acquisitions_per_s": len(counted) / elapsed,
        "max_to_min": max(counts) / max(1, min(counts)),
    }


def list_1000(port: int, seconds: float, count: int = 1000) -> Figures:
    """One caller lists a service of 1,000 instances: their names, then all of them at once."""
    with connected(port) as client:
        client.ensure_path("/bench/instances")
        for answer in [
            client.create_async(
                f"/bench/instances/{n}",
                f'{{"address": "10.0.{n // 250}.{n % 250}", "port": 8080}}'.encode(),
                ephemeral=True,
            )
            for n in range(count)
        ]:
            answer.get()

        def listed(number: int) -> list[Any]:
            names = client.get_children("/bench/instances")
            asked = [client.get_async(f"/bench/instances/{name}") for name in names]
            return json.loads(b"[" + b",".join([answer.get()[0] for answer in asked]) + b"]")

        assert len(listed(0)) == count
        rate, taken = one_by_one(listed, seconds)
    return {"lists_per_s": rate, **latencies(taken)}


def threaded(measured: Callable[[int, float], Figures]) -> Measured:
    """Run in a thread, beside a loop that has nothing to do."""

    async def running(port: int, seconds: float) -> Figures:
        return await asyncio.to_thread(measured, port, seconds)

    return running


MEASURED = {
    "put_c1": threaded(put(1)),
    "put_c64": threaded(put(CALLERS)),
    "get_c64": threaded(get(CALLERS, synced=False)),
    "get_c64/synced": threaded(get(CALLERS, synced=True)),
    "lock_uncontended": threaded(lock_uncontended),
    "lock_handover": threaded(lock_handover),
    "lock_closed": threaded(lock_closed),
    "list_1000": threaded(list_1000),
}

if __name__ == "__main__":
    run(MEASURED, sys.argv[1:])
