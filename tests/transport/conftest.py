"""Both event loops, and proof after each test that nothing was left behind."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import AsyncIterator, Callable

import psutil
import pytest
import pytest_asyncio
import uvloop

from tests.transport.member import Machine


def pytest_asyncio_loop_factories(
    item: pytest.Item,
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run the tests with real sockets on the standard loop and on uvloop."""
    loops = {"asyncio": asyncio.new_event_loop}
    if "machine" in getattr(item, "fixturenames", ()):
        loops["uvloop"] = uvloop.new_event_loop
    return loops


TURNS = 100
"""After so many, what remains is not on its way to be closed."""


def sockets() -> int:
    """Count the TCP sockets of this process."""
    return len(psutil.Process().net_connections(kind="tcp"))


def collect_dropped() -> None:
    """Close what asyncio has dropped.

    A connection that it accepts in the turn in which the server closes is left to the collector:
    https://github.com/python/cpython/issues/109564. Members run on uvloop, which closes it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest_asyncio.fixture
async def machine(caplog: pytest.LogCaptureFixture) -> AsyncIterator[Machine]:
    """Start members and proxies; in the end everything is closed and nothing remains."""
    before, tasks = sockets(), asyncio.all_tasks()
    one = Machine()
    yield one
    await one.close()
    async with asyncio.timeout(10):
        turns = 0
        while sockets() > before:  # the loop closes them in its next turns
            await asyncio.sleep(0)
            turns += 1
            if turns % TURNS == 0:
                collect_dropped()
    assert asyncio.all_tasks() - tasks - {asyncio.current_task()} == set()
    assert [r for r in caplog.records if r.name == "asyncio"] == []
