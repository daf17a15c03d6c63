"""``python -m tests.bench [--check] [--json FILE] [names...]``: measure one member, and three.

Each workload runs in this process against a fresh server process on an empty data directory
of the same disk, over the loopback, and its result is the median of a few runs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import uvloop

from tests.bench.measure import Figures, Idleness, disk_sync, machine_facts
from tests.bench.million import million_keys
from tests.bench.server import Cluster, Server
from tests.bench.workloads import WORKLOADS

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
RESULTS = ROOT / "bench-results"
CACHE = ROOT / ".data" / "bench"
RUNS = 3
WORKLOAD_SECONDS_MAX = 90


def start_empty(directory: Path) -> Figures:
    """Start on an empty data directory; once before, so that it is compiled."""
    first = Server(directory / "first")
    try:
        first.start()
    finally:
        first.kill()
    server = Server(directory / "data")
    try:
        seconds = server.start()
        return {"ready_s": seconds, "rss_mb": server.memory_mb()}
    finally:
        server.kill()


def start_million(directory: Path) -> Figures:
    """Start on a data directory with a million keys."""
    server = Server(million_keys(CACHE))
    try:
        seconds = server.start()
        figures = {"ready_s": seconds, "rss_mb": server.memory_mb()}
        server.stop()
        return figures
    finally:
        server.kill()


STARTS: dict[str, Callable[[Path], Figures]] = {
    "start_empty": start_empty,
    "start_million": start_million,
}
ON_THREE = {
    f"{name}_on_three": (name, url)
    for name, url in (
        ("put_c1", "url"),
        ("put_c64", "url"),
        ("get_c1", "url"),
        ("get_c64", "url"),
        ("lock_uncontended", "url"),
        ("lock_handover", "url"),
    )
} | {"put_c64_on_a_follower": ("put_c64", "follower_url")}
"""Workloads on a cluster of three members: what runs, and against which of them."""
NAMES = (*WORKLOADS, *STARTS, *ON_THREE)


def run_once(name: str, directory: Path) -> Figures:
    """Run one workload on a fresh server."""
    if name in STARTS:
        return STARTS[name](directory)
    workload, url = ON_THREE.get(name, (name, "url"))
    server = Cluster(directory) if name in ON_THREE else Server(directory / "data")
    try:
        server.start()
        idleness, before = Idleness(), server.cpu_seconds()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            running = WORKLOADS[workload](getattr(server, url))
            work = asyncio.wait_for(running, WORKLOAD_SECONDS_MAX)
            figures = runner.run(work)
        used = server.cpu_seconds() - before
        return {
            **figures,
            "server_cpu_s": used,
            "server_rss_mb": server.memory_mb(),
            "other_cpu_percent": idleness.others_percent(used),
        }
    finally:
        server.kill()


def measure(name: str, runs: int, scratch: Path) -> dict[str, Any]:
    """Run a workload a few times; give the median of each figure, and every run."""
    results: list[Figures] = []
    for number in range(runs):
        directory = scratch / f"{name}-{number}"
        directory.mkdir()
        results.append(run_once(name, directory))
        shutil.rmtree(directory, ignore_errors=True)
    medians = {figure: median(run[figure] for run in results) for figure in results[0]}
    return {"median": medians, "runs": results}


def breaches(workloads: dict[str, Any]) -> list[str]:
    """Compare with the floors; only what was measured counts."""
    floors = tomllib.loads((HERE / "floors.toml").read_text())
    found = []
    for name, limits in floors.items():
        for figure, limit in limits.items() if name in workloads else ():
            value = workloads[name]["median"][figure]
            if value < limit.get("min", value):
                found.append(f"{name} {figure}: {value:,.2f}, the floor is {limit['min']:,}")
            if value > limit.get("max", value):
                found.append(f"{name} {figure}: {value:,.2f}, the limit is {limit['max']:,}")
    return found


def parse(argv: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--check", action="store_true", help="exit 1 below a floor")
    parser.add_argument("--json", type=Path, default=RESULTS / "bench.json", metavar="FILE")
    parser.add_argument("--runs", type=int, default=RUNS)
    arguments = parser.parse_args(argv)
    unknown = [name for name in arguments.names if name not in NAMES]
    if unknown:
        parser.error(f"no such workload: {', '.join(unknown)}; there are {', '.join(NAMES)}")
    return arguments


def main(argv: list[str]) -> int:
    """Measure, print, write the JSON, and compare with the floors if asked."""
    arguments = parse(argv)
    RESULTS.mkdir(exist_ok=True)
    began = time.time()
    with tempfile.TemporaryDirectory(dir=RESULTS, prefix="run-") as scratch:
        directory = Path(scratch)
        report: dict[str, Any] = {
            "taken_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(began)),
            "machine": machine_facts(directory),
            "disk_before": disk_sync(directory),
            "workloads": {},
        }
        for name in arguments.names or NAMES:
            result = measure(name, arguments.runs, directory)
            report["workloads"][name] = result
            figures = "  ".join(f"{k} {v:,.2f}" for k, v in result["median"].items())
            print(f"{name:18} {figures}", flush=True)
        report["disk_after"] = disk_sync(directory)
        report["load_after"] = os.getloadavg()[0]
    report["seconds"] = round(time.time() - began, 1)
    found = breaches(report["workloads"])
    report["below_floors"] = found
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(report, indent=2) + "\n")
    disk = report["disk_before"]["p50_ms"], report["disk_after"]["p50_ms"]
    print(f"fdatasync p50 {disk[0]:.2f} ms before, {disk[1]:.2f} ms after; {report['seconds']} s")
    print(f"written to {arguments.json}")
    for line in found:
        print(f"BELOW THE FLOOR: {line}")
    return 1 if found and arguments.check else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
