"""A server under raw-socket nonsense: it stays up, small, and quick for everybody else."""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from coordinator_sdk import Client
from coordinator_sdk.testing import CoordinatorProcess
from tests.drill.attacks import ATTACKS, LONGEST_S, Attack
from tests.drill.wire import Target

SEED = 1
GROWTH_MIB_MAX = 64
STALL_MS_MAX = 1000
SAMPLE_S = 0.05
BROKEN = ("Traceback", "a request broke", "ERROR")


class Memory:
    """The most resident memory of a process since the last look."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self.peak = 0

    def now(self) -> int:
        return int(self._process.memory_info().rss)

    async def watch(self) -> None:
        while True:
            self.peak = max(self.peak, self.now())
            await asyncio.sleep(SAMPLE_S)


async def fuzz(
    scratch: Path, attacks: tuple[Attack, ...] = ATTACKS, seed: int = SEED
) -> dict[str, Any]:
    """Attack a server in every way, one after the other, while an honest client goes on.

    Args:
        scratch: Where the server keeps its data.
        attacks: What is done to it.
        seed: Of everything that is left to chance.
    """
    with CoordinatorProcess(scratch / "data") as server:
        async with Client(server.url) as client:
            for number in range(200):  # what it allocates once is no cost of the attacks
                await client.kv.put(f"warm/{number}", "x" * 1000)
        target = Target("127.0.0.1", server.port)
        memory = Memory(server.pid)
        observer = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.drill.observer",
            server.url,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert observer.stdin
        assert observer.stdout
        assert await observer.stdout.readline() == b"ready\n"
        base = memory.now()
        watching = asyncio.ensure_future(memory.watch())
        rounds = [await _round(one, target, memory, seed) for one in attacks]
        observer.stdin.close()
        seen = json.loads(await observer.stdout.readline())
        await observer.wait()
        watching.cancel()
        is_up = server.is_running
        log = server.log.read_text()
    growth = (memory.peak - base) / (1 << 20)
    for one in rounds:
        began, ended = one.pop("span")
        slow = [took for at, took in seen["slow"] if began <= at <= ended + took]
        one["stall_ms"] = round(1000 * max(slow, default=0.0))
    del seen["slow"]
    failures = {status: n for status, n in target.statuses.items() if status in (500, 502, 504)}
    report: dict[str, Any] = {
        "seed": seed,
        "attacks": rounds,
        "base_mib": round(base / (1 << 20), 1),
        "growth_mib": round(growth, 1),
        "observer": seen,
        "statuses": dict(sorted(target.statuses.items())),
        "close_codes": dict(sorted(target.closes.items())),
        "cut_without_a_word": target.cut,
        "broken": [line[:300] for line in log.splitlines() if any(map(line.count, BROKEN))][:10],
    }
    report["passed"] = (
        is_up
        and growth < GROWTH_MIB_MAX
        and max(seen["stall_ms"].values()) < STALL_MS_MAX
        and not seen["problems"]
        and not failures
        and not report["broken"]
    )
    return report


async def _round(attack: Attack, target: Target, memory: Memory, seed: int) -> dict[str, Any]:
    began, before = time.monotonic(), memory.now()
    memory_before, memory.peak = memory.peak, before
    async with asyncio.timeout(LONGEST_S):
        await attack(target, random.Random(f"{attack.__name__} {seed}"))
    peak = memory.peak
    memory.peak = max(peak, memory_before)
    return {
        "attack": attack.__name__,
        "span": (began, time.monotonic()),
        "seconds": round(time.monotonic() - began, 1),
        "growth_mib": round((peak - before) / (1 << 20), 1),
    }
