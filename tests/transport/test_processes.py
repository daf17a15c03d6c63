"""What a member learns when the process of another one is killed or stopped."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest

from tests.shape.source import ROOT
from tests.transport.member import Machine, Member

pytestmark = [pytest.mark.asyncio, pytest.mark.process]


@asynccontextmanager
async def process(peer: Member) -> AsyncIterator[asyncio.subprocess.Process]:
    """Start member 2 in a process of its own, linked both ways with a peer."""
    command = [sys.executable, "-m", "tests.transport.lonely", "2", str(peer.member), peer.url]
    greeted = len(peer.greeted)  # It may dial before we have read where it listens.
    started = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert started.stdout
        url = (await started.stdout.readline()).decode().strip()
        peer.network.set_peers({2: [url]})
        await peer.until(lambda: peer.network.is_linked(2))
        await peer.until(lambda: len(peer.greeted) >= greeted + 2)  # it answered and dialled
        yield started
    finally:
        if started.returncode is None:
            started.kill()
        await started.communicate()


def has(member: Member, times: int, *event: object) -> bool:
    """Whether something has happened so often."""
    return member.count(*event) == times


async def test_a_killed_process_has_deserted(machine: Machine) -> None:
    """The peer of a killed process is told that it deserted, each time."""
    one = await machine.member(1)
    for times in range(1, 6):
        async with process(one) as other:
            other.kill()
            await one.until(partial(has, one, times, "deserted", 2))
            await one.until(partial(has, one, times, "unreachable", 2))
    assert one.count("deserted", 2) == 5


async def test_a_stopped_process_has_not_deserted(machine: Machine) -> None:
    """A process that stands still is silent, not dead; when it goes on it is linked again."""
    one = await machine.member(1)
    async with process(one) as other:
        linked = one.count("linked", 2)
        other.send_signal(signal.SIGSTOP)
        await one.until_event("unreachable", 2)
        assert not one.network.is_linked(2)
        other.send_signal(signal.SIGCONT)
        await one.until(lambda: one.count("linked", 2) == linked + 1)
        assert ("deserted", 2) not in one.events
