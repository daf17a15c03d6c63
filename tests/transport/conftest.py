"""Both event loops, and proof after each test that nothing was left behind."""

from __future__ import annotations

import asyncio
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


def sockets() -> int:
    """Count the TCP sockets of this process."""
    return len(psutil.Process().net_connections(kind="tcp"))


@pytest_asyncio.fixture
async def machine(caplog: pytest.LogCaptureFixture) -> AsyncIterator[Machine]:
    """Start members and proxies; in the end everything is closed and nothing remains."""
    before, tasks = sockets(), asyncio.all_tasks()
    one = Machine()
    yield one
    await one.close()
    async with asyncio.timeout(10):
        while sockets() > before:  # noqa: ASYNC110 - the loop closes them in its next turns
            await asyncio.sleep(0)
    assert asyncio.all_tasks() - tasks - {asyncio.current_task()} == set()
    assert [r for r in caplog.records if r.name == "asyncio"] == []
