"""etcd through aetcd. Locks are those of etcd's lock service: queued, fair, fenced by a revision.

`Own` has aetcd's own `Lock`: its waiters all wake up at every release and are served in no order,
and each attempt leaves a lease behind.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import aetcd

from tests.bench.measure import Figures, latencies
from tests.bench.peers.clients import loops
from tests.bench.peers.clients.running import run


def _plain(raw: bytes) -> bytes:
    return raw


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint(len(content)) + content


def _fields(raw: bytes) -> Iterator[tuple[int, bytes]]:
    """Read a message all of whose fields have a length; both of a lock's answer do."""
    at = 0
    while at < len(raw):
        number, size, shift = raw[at] >> 3, 0, 0
        while True:
            at += 1
            size |= (raw[at] & 127) << shift
            shift += 7
            if raw[at] < 128:
                break
        yield number, raw[at + 1 : at + 1 + size]
        at += 1 + size


class ServerLock:
    """The calls `Lock` and `Unlock` of etcd's lock service; aetcd has no methods for them."""

    def __init__(self, channel: Any, lease: int) -> None:
        plain = {"request_serializer": _plain, "response_deserializer": _plain}
        self._lock = channel.unary_unary("/v3lockpb.Lock/Lock", **plain)
        self._unlock = channel.unary_unary("/v3lockpb.Lock/Unlock", **plain)
        self._asking = _field(1, b"bench") + b"\x10" + _varint(lease)
        self._key = b""

    async def acquire(self) -> None:
        self._key = dict(_fields(await self._lock(self._asking)))[2]

    async def release(self) -> None:
        await self._unlock(_field(1, self._key))


class Client:
    """One client, one connection, one lease for all its locks, as a session has."""

    def __init__(self, port: int) -> None:
        self._client = aetcd.Client(host="127.0.0.1", port=port)
        self.put = self._client.put
        self.get = self._client.get
        self._following: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Client:
        await self._client.connect()
        self._lease = await self._client.lease(60)
        self._held = ServerLock(self._client.channel, self._lease.id)
        return self

    async def __aexit__(self, *failure: object) -> None:
        for task in self._following:
            task.cancel()
        await self._client.close()

    def lock(self) -> ServerLock:
        return self._held

    async def publish(self, payload: bytes) -> None:
        await self._client.put(b"bench/topic", payload)

    async def subscribe(self, each: Callable[[bytes], None]) -> None:
        await self.follow(b"bench/topic", each)

    async def follow(self, at: bytes, each: Callable[[bytes], None]) -> None:
        """Hand over every value of a key from now on; each call is a watch of its own."""
        watch = await self._client.watch(at)

        async def read() -> None:
            async for event in watch:
                each(event.kv.value)

        self._following.append(asyncio.ensure_future(read()))

    async def register(self, number: int, value: bytes) -> None:
        await self._client.put(b"bench/instances/%d" % number, value, lease=self._lease)

    async def instances(self) -> list[Any]:
        found = await self._client.get_prefix(b"bench/instances/")
        return json.loads(b"[" + b",".join([each.value for each in found]) + b"]")


class OwnLock:
    """aetcd's lock, without a limit to waiting."""

    def __init__(self, client: aetcd.Client) -> None:
        self._lock = client.lock(b"bench/own")
        self.release = self._lock.release

    async def acquire(self) -> None:
        await self._lock.acquire(timeout=None)


class Own(Client):
    """Locks as aetcd offers them by itself."""

    def lock(self) -> OwnLock:
        return OwnLock(self._client)


async def fanout(
    port: int, seconds: float, connections: int = 10, watches: int = 100, writes: int = 100
) -> Figures:
    """1,000 watchers over 10 connections see every write to one key."""
    delays: list[float] = []
    finished = asyncio.Event()
    total = connections * watches * writes
    clock = time.perf_counter

    def seen(value: bytes) -> None:
        delays.append(clock() - float(value))
        if len(delays) == total:
            finished.set()

    async with AsyncExitStack() as stack:
        writer = await stack.enter_async_context(Client(port))
        clients = [await stack.enter_async_context(Client(port)) for _ in range(connections)]
        for client in clients:
            for _ in range(watches):
                await client.follow(b"bench/fan", seen)
        began = clock()
        for _ in range(writes):
            await writer.put(b"bench/fan", repr(clock()).encode())
        await asyncio.wait_for(finished.wait(), 60)
        elapsed = clock() - began
    return {"deliveries_per_s": len(delays) / elapsed, **latencies(delays)}


MEASURED = {
    "put_c1": loops.put(Client, 1),
    "put_c64": loops.put(Client, 64),
    "get_c64": loops.get(Client, 64),
    "lock_uncontended": loops.lock_uncontended(Client),
    "lock_handover": loops.lock_handover(Client),
    "lock_closed": loops.lock_closed(Client),
    "lock_uncontended/own": loops.lock_uncontended(Own),
    "lock_handover/own": loops.lock_handover(Own),
    "lock_closed/own": loops.lock_closed(Own),
    "fanout": fanout,
    "list_1000": loops.list_1000(Client),
    "pubsub": loops.pubsub(Client),
}

if __name__ == "__main__":
    run(MEASURED, sys.argv[1:])
