"""This project's client, with the workloads of `make bench` as they are."""

from __future__ import annotations

import functools
import sys

from tests.bench import workloads
from tests.bench.measure import Figures
from tests.bench.peers.clients.running import run


async def measure(name: str, port: int, seconds: float) -> Figures:
    """Run a workload of `make bench`."""
    workloads.SECONDS = seconds
    return await workloads.WORKLOADS[name](f"http://127.0.0.1:{port}")


if __name__ == "__main__":
    run({name: functools.partial(measure, name) for name in workloads.WORKLOADS}, sys.argv[1:])
