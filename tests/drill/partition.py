"""The leader is cut off while clients talk to both sides."""

from __future__ import annotations

import asyncio
import itertools
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from coordinator_sdk import Client
from tests.chaos.load import Load, outage
from tests.chaos.running import START_SECONDS, cuttable, leader_of
from tests.drill.failover import summary

ROUNDS = 5
CHANGES_BETWEEN = 300
CUT_SECONDS = 4.0
"""How long the leader is cut off, at least: so long its clients keep asking."""
ELECTION_TIMEOUT_MS = 1000
PINNED = 4
"""Clients that write, and as many that read, at each member and at no other."""
TIMEOUT_SECONDS = 2.0


@dataclass
class Pinned:
    """Clients of one member that never ask another one.

    Attributes:
        writes: (key, value, revision, sent at) of every acknowledged write.
        reads: When each answered read was sent.
    """

    url: str
    writes: list[tuple[str, str, int, float]] = field(default_factory=list)
    reads: list[float] = field(default_factory=list)
    is_ending: bool = False

    async def write(self, http: httpx.AsyncClient, number: int) -> None:
        """Write a key of one's own again and again."""
        key = f"pinned/{self.url.rpartition(':')[2]}/{number}"
        for count in itertools.count(1):
            if self.is_ending:
                return
            sent = time.monotonic()
            answer = await self._ask(http, "PUT", f"/v1/kv/{key}", content=str(count))
            if answer is not None:
                revision = int(answer.headers["coordinator-revision"])
                self.writes.append((key, str(count), revision, sent))

    async def read(self, http: httpx.AsyncClient) -> None:
        """Read, linearizably, again and again."""
        while not self.is_ending:
            sent = time.monotonic()
            if await self._ask(http, "GET", "/v1/kv/chaos/begin") is not None:
                self.reads.append(sent)

    async def _ask(
        self, http: httpx.AsyncClient, method: str, path: str, **more: Any
    ) -> httpx.Response | None:
        """Ask; gives the answer if it is a good one."""
        try:
            answer = await http.request(method, self.url + path, **more)
        except httpx.HTTPError:
            answer = None
        # Hardly a pause, but the load is to be the other clients'.
        await asyncio.sleep(0.01)
        return answer if answer is not None and answer.status_code == 200 else None


async def partition(scratch: Path, rounds: int = ROUNDS) -> dict[str, Any]:
    """Cut the leader off from the others, and look at what each side answers."""
    spans: list[tuple[float, float]] = []
    minority = {"writes": 0, "reads": 0}
    async with AsyncExitStack() as stack:
        cluster, network = await stack.enter_async_context(cuttable(scratch / "cluster"))
        http = await stack.enter_async_context(
            httpx.AsyncClient(timeout=TIMEOUT_SECONDS, trust_env=False)
        )
        pinned = {member.name: Pinned(member.url) for member in cluster.members}
        load = await stack.enter_async_context(Load(cluster.url))
        tasks = [
            asyncio.ensure_future(work)
            for one in pinned.values()
            for number in range(PINNED)
            for work in (one.write(http, number), one.read(http))
        ]
        for _ in range(rounds):
            await load.until_acknowledged(CHANGES_BETWEEN)
            leader = await leader_of(cluster)
            network.isolate(leader.name)
            cut = time.monotonic()
            await asyncio.sleep(CUT_SECONDS)
            await load.until_acknowledged(CHANGES_BETWEEN)
            healed = time.monotonic()
            network.heal()
            spans.append((cut, healed))
            await asyncio.to_thread(leader.wait_until_ready, START_SECONDS)
            one = pinned[leader.name]
            minority["writes"] += sum(cut < sent < healed for *_, sent in one.writes)
            minority["reads"] += sum(cut < sent < healed for sent in one.reads)
        for one in pinned.values():
            one.is_ending = True
        await asyncio.gather(*tasks)
        violations = await load.finish()
        async with load.client() as client:
            violations += await lost(client, pinned)
        moments = [sorted(at) for at in load.notes.acknowledged_at.values()]
        everybody = sorted(moment for at in moments for moment in at)
    outages_ms = [1000 * outage(everybody, *span) for span in spans]
    # One whose member was cut off has to give up on it first.
    writer_ms = [max(1000 * outage(at, *span) for at in moments) for span in spans]
    report: dict[str, Any] = {
        "rounds": rounds,
        "election_timeout_ms": ELECTION_TIMEOUT_MS,
        "outage_ms": summary(outages_ms),
        "outage_of_the_unluckiest_writer_ms": summary(writer_ms),
        "acknowledged_by_the_minority": minority["writes"],
        "read_from_the_minority": minority["reads"],
        "acknowledged_changes": load.notes.acknowledged,
        "pinned_writes": sum(len(one.writes) for one in pinned.values()),
        "pinned_reads": sum(len(one.reads) for one in pinned.values()),
        "sessions_lost": load.notes.sessions_lost,
        "violations": violations,
    }
    report["passed"] = (
        not violations
        and minority == {"writes": 0, "reads": 0}
        and load.notes.sessions_lost == 0
        and max(outages_ms) < 2 * ELECTION_TIMEOUT_MS
        and all(one.writes and one.reads for one in pinned.values())
    )
    return report


async def lost(client: Client, pinned: dict[str, Pinned]) -> list[str]:
    """Name the writes acknowledged to pinned clients that are not in the history."""
    wanted = {
        (revision, key, value) for one in pinned.values() for key, value, revision, _ in one.writes
    }
    found: set[tuple[int, str, str]] = set()
    first, last = min(wanted)[0], max(wanted)[0]
    async with client.kv.watch(prefix="pinned/", start_revision=first) as watch:
        async for event in watch:
            kv = event.kv
            found.add((kv.mod_revision, bytes(kv.key).decode(), bytes(kv.value).decode()))
            if kv.mod_revision >= last:
                break
    gone = sorted(wanted - found)
    return (
        [f"{len(gone)} writes acknowledged to pinned clients are lost: {gone[:3]}"] if gone else []
    )
