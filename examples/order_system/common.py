"""Names that all parts agree on, and how each of them begins and ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable

from coordinator_sdk import Client, ConnectFailed

SERVICE = "orders"
LOCK = "settlement"
ELECTION = "scheduler"
CREATED = "orders.created"
SETTLED = "orders.settled"
DUE = "settlement.due"

POSITION_KEY = "demo/position"
"""The last sequence of CREATED that was settled."""
ROUND_KEY = "demo/round"
"""The number of the last round."""
SETTLED_PREFIX = "demo/settled/"
"""Below it, one receipt for each order, by the order's id."""

TTL_SECONDS = 3.0
"""So quickly a process that was killed is replaced; longer where pauses must be survived."""


def say(text: str) -> None:
    """Print one line under this part's name."""
    print(f"{name():<12} {text}\n", end="", flush=True)  # one write, one line


def name() -> str:
    """This part's name; holders and candidates show it as their application."""
    return os.environ.get("COORDINATOR_APPLICATION", "part")


@contextlib.asynccontextmanager
async def stopping() -> AsyncIterator[asyncio.Event]:
    """Give an event that is set on SIGINT or SIGTERM, or when the parent is gone."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    parent = os.getppid()

    async def watch_parent() -> None:
        while not stop.is_set():
            await asyncio.sleep(1)
            if os.getppid() != parent:
                stop.set()

    watching = asyncio.create_task(watch_parent())
    try:
        yield stop
    finally:
        watching.cancel()


async def until_stopped(work: Callable[[Client], Awaitable[None]]) -> None:
    """Connect, and do the work of a part until it is told to stop."""
    async with stopping() as stop, Client() as client:
        working = asyncio.ensure_future(work(client))
        told = asyncio.ensure_future(stop.wait())
        await asyncio.wait({working, told}, return_when=asyncio.FIRST_COMPLETED)
        told.cancel()
        if not working.done():
            working.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await working


def run(work: Callable[[Client], Awaitable[None]]) -> None:
    """Be a part: the main function of each module."""
    try:
        asyncio.run(until_stopped(work))
    except ConnectFailed as error:
        sys.exit(f"{name()}: {error}")
