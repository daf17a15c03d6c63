"""A follower that was away past the end of the log, and a million keys it has to be sent."""

from __future__ import annotations

import asyncio
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from coordinator_sdk import Client
from coordinator_sdk.testing import ClusterProcess, CoordinatorProcess
from tests.bench.million import KEYS, million_keys
from tests.chaos.running import START_SECONDS, leader_of, start

CACHE = Path(__file__).resolve().parents[2] / ".data" / "bench"
CALLERS = 64
ENTRIES_KEPT = 2000
"""Kept in the log of each member for those that lag."""
BASE_SECONDS = 8.0
INSTALL_SECONDS_MAX = 240.0
SHARE_MIN = 0.5
"""Of the writes per second before, while the snapshot is sent and installed."""


class Writers:
    """Callers that write as fast as they can, and note when."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._is_ending = False
        self.count = 0
        self.revisions: list[int] = []

    async def run(self) -> None:
        """Write until `end`."""
        async with Client(self._url, connect_timeout=60) as client:
            await asyncio.gather(*(self._write(client, number) for number in range(CALLERS)))

    async def _write(self, client: Client, number: int) -> None:
        while not self._is_ending:
            put = await client.kv.put(b"load/%d" % number, b"%d" % self.count)
            self.revisions.append(put.revision)
            self.count += 1

    def end(self) -> None:
        """Write no more."""
        self._is_ending = True

    async def rate(self, seconds: float) -> float:
        """Measure writes per second for a while."""
        began, before = time.monotonic(), self.count
        await asyncio.sleep(seconds)
        return (self.count - before) / (time.monotonic() - began)

    async def until(self, count: int) -> None:
        """Wait for so many writes in all."""
        while self.count < count:  # noqa: ASYNC110 - it counts up thousands of times a second
            await asyncio.sleep(0.05)


async def catchup(scratch: Path) -> dict[str, Any]:
    """Bring a follower back by a snapshot of a million keys, while writes go on."""
    directory = await asyncio.to_thread(million_keys, CACHE)
    options = ("--snapshot-count", str(ENTRIES_KEPT), "--log-level", "info")
    cluster = ClusterProcess(scratch / "cluster", 1, options=options)
    first = cluster.members[0]
    await asyncio.to_thread(shutil.copytree, directory, first.data_dir)
    try:
        await start(first)
        async with Client(first.url, connect_timeout=60) as client:
            # The directory was made with other addresses.
            (alone,) = await client.cluster.members()
            await client.cluster.update_member(alone.member, [first.peer_url])
            for _ in range(2):
                await grow(cluster, client)
        return await measure(cluster)
    finally:
        cluster.kill()


async def grow(cluster: ClusterProcess, client: Client) -> None:
    """Add a member and wait until it is a voter; it gets its million keys as a snapshot too."""
    joiner = cluster.joiner()
    added = await client.cluster.add_member([joiner.peer_url], promote_when_ready=True)
    await asyncio.to_thread(joiner.start, INSTALL_SECONDS_MAX)
    async with asyncio.timeout(START_SECONDS):
        while True:
            members = await client.cluster.members()
            if added.member.member not in [one.member for one in members if one.is_learner]:
                return
            await asyncio.sleep(0.1)


async def measure(cluster: ClusterProcess) -> dict[str, Any]:
    """Take a follower away under load, cut the log behind it, and bring it back."""
    leader = await leader_of(cluster)
    follower = next(member for member in cluster.members if member is not leader)
    seen: list[int] = []
    writers = Writers(leader.url)
    is_watching = asyncio.Event()
    watching = asyncio.ensure_future(watch(follower.url, leader.url, seen, is_watching))
    await is_watching.wait()
    writing = asyncio.ensure_future(writers.run())
    try:
        await writers.until(1000)
        base = await writers.rate(BASE_SECONDS)
        follower.kill()
        await writers.until(writers.count + 12_000)
        began, before = time.monotonic(), writers.count
        await asyncio.to_thread(follower.start, INSTALL_SECONDS_MAX)
        taken = time.monotonic() - began
        rate = (writers.count - before) / taken
        by_snapshot = "snapshot" in follower.output() or "snapshot" in leader.output()
        index = await caught_up(leader, follower)
        writers.end()
        await writing
        missed = await missing(writers.revisions, seen)
    finally:
        writers.end()
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
    share = rate / base
    return {
        "keys": KEYS,
        "writes_per_s_before": round(base),
        "writes_per_s_meanwhile": round(rate),
        "share": round(share, 2),
        "ready_again_s": round(taken, 1),
        "applied_index": index,
        "by_snapshot": by_snapshot,
        "events_missed": missed,
        "passed": by_snapshot and share > SHARE_MIN and missed == 0,
    }


async def watch(url: str, other: str, seen: list[int], is_watching: asyncio.Event) -> None:
    """Watch the load, at first on the follower."""
    async with (
        Client(url, other, connect_timeout=60) as client,
        client.kv.watch(prefix=b"load/") as events,
    ):
        is_watching.set()
        async for event in events:
            seen.append(event.kv.mod_revision)


async def caught_up(leader: CoordinatorProcess, follower: CoordinatorProcess) -> int:
    """Wait until the follower has applied what the leader had; gives that index."""
    index = int((await asyncio.to_thread(leader.status))["applied_index"])
    async with asyncio.timeout(START_SECONDS):
        while True:
            status = await asyncio.to_thread(follower.status)
            if int(status["applied_index"]) >= index:
                return index
            await asyncio.sleep(0.05)


async def missing(revisions: list[int], seen: list[int]) -> int:
    """Wait for the watch to have told everything; gives how much it never told."""
    wanted = set(revisions)
    with suppress(TimeoutError):
        async with asyncio.timeout(START_SECONDS):
            while not wanted <= set(seen):  # noqa: ASYNC110 - as in `Writers.until`
                await asyncio.sleep(0.2)
    return len(wanted - set(seen)) + (len(seen) - len(set(seen)))
