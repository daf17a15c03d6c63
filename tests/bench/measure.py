"""Measuring: repeated calls, percentiles, the disk, the machine."""

from __future__ import annotations

import asyncio
import os
import platform
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median
from typing import Any

import psutil

Figures = dict[str, float]

WARM_SECONDS = 0.5
SYNCS = 400
SYNC_BYTES = 2300


def percentile(values: list[float], share: float) -> float:
    """Give the value below which that share of the values lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def latencies(seconds: list[float]) -> Figures:
    """Give median and 99th percentile in milliseconds."""
    return {"p50_ms": 1000 * median(seconds), "p99_ms": 1000 * percentile(seconds, 0.99)}


async def closed_loop(
    call: Callable[[int], Awaitable[Any]],
    *,
    callers: int,
    seconds: float,
    calls_max: int = 1_000_000,
) -> tuple[float, list[float]]:
    """Let callers call again and again, each waiting for its answer.

    Args:
        call: Called with a number that nobody else gets.
        callers: How many call at the same time.
        seconds: How long, after a short warm-up.
        calls_max: When to end in any case.

    Returns:
        Calls per second, and how long each took.
    """
    counter = 0
    taken: list[float] = []
    clock = time.perf_counter
    warm_until = clock() + WARM_SECONDS
    end = warm_until + seconds

    async def caller() -> None:
        nonlocal counter
        now = clock()
        while now < end and counter < calls_max:
            counter += 1
            await call(counter)
            done = clock()
            if now >= warm_until:
                taken.append(done - now)
            now = done

    await asyncio.gather(*(caller() for _ in range(callers)))
    return len(taken) / (clock() - warm_until), taken


def disk_sync(directory: Path) -> Figures:
    """Measure a small write and fdatasync in a directory, as the log does them."""
    path = directory / "sync-probe"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    taken: list[float] = []
    try:
        os.pwrite(descriptor, bytes(SYNCS * SYNC_BYTES), 0)
        os.fsync(descriptor)
        data = os.urandom(SYNC_BYTES)
        for number in range(SYNCS):
            began = time.perf_counter()
            os.pwrite(descriptor, data, number * SYNC_BYTES)
            os.fdatasync(descriptor)
            taken.append(time.perf_counter() - began)
    finally:
        os.close(descriptor)
        path.unlink()
    return latencies(taken)


def machine_facts(directory: Path) -> dict[str, Any]:
    """Tell on what was measured."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "filesystem": _filesystem(directory),
        "load_before": os.getloadavg()[0],
    }


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _filesystem(directory: Path) -> str:
    best = max(
        (part for part in psutil.disk_partitions(all=True) if _is_under(directory, part)),
        key=lambda part: len(part.mountpoint),
        default=None,
    )
    return best.fstype if best else "unknown"


def _is_under(directory: Path, part: Any) -> bool:
    return directory.resolve().is_relative_to(part.mountpoint)


class Idleness:
    """How much of the machine others took meanwhile: without that no figure means much."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._busy = _busy_seconds()
        self._own = _own_seconds()

    def others_percent(self, server_seconds: float) -> float:
        """Give the share of one core that other processes used, in percent."""
        elapsed = time.perf_counter() - self._began
        others = _busy_seconds() - self._busy - (_own_seconds() - self._own) - server_seconds
        return max(0.0, round(100 * others / elapsed, 1))


def _busy_seconds() -> float:
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0))


def _own_seconds() -> float:
    times = os.times()
    return times.user + times.system
