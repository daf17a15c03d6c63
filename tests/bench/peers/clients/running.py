"""``python -m tests.bench.peers.clients.NAME WORKLOAD PORT SECONDS``: how every client is run."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

import uvloop

from tests.bench.measure import Figures

Measured = Callable[[int, float], Awaitable[Figures]]
"""Given the port of a server and for how many seconds to measure."""

CALL_SECONDS_MAX = 60


def run(measured: dict[str, Measured], argv: list[str]) -> None:
    """Measure what the command line names; print the figures as JSON."""
    name, port, seconds = argv
    work = measured[name](int(port), float(seconds))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        figures = runner.run(_limited(work))
    print(json.dumps(figures))


async def _limited(work: Awaitable[Figures]) -> Figures:
    return await asyncio.wait_for(work, CALL_SECONDS_MAX)
