"""Holders stopped for longer than their session lives, which then go on as if nothing was."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path

import pytest

from coordinator_sdk import Client
from tests.bench.server import serving

pytestmark = pytest.mark.process

PROCESSES = 10
LOCKS_PER_PROCESS = 10
TTL = 2.0


class Holders:
    """One process of holders, and what it has said."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.said: list[list] = []
        self._news = asyncio.Condition()
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, url: str, first: int) -> "Holders":
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.chaos.holders",
            *map(str, (url, first, LOCKS_PER_PROCESS, TTL)),
            stdout=PIPE,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
        return cls(process)

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            async with self._news:
                self.said.append(json.loads(line))
                self._news.notify_all()

    def names(self, what: str) -> set[str]:
        """Give the locks to which something happened."""
        return {line[1] for line in self.said if line[0] == what}

    async def until(self, what: str) -> None:
        """Wait until it has happened to every lock of the process."""
        async with self._news:
            await self._news.wait_for(lambda: len(self.names(what)) == LOCKS_PER_PROCESS)

    def send(self, number: int) -> None:
        """Stop the process, or let it go on."""
        self.process.send_signal(number)

    async def end(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        await self._reading


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_paused_holders_are_refused_and_cancelled(tmp_path: Path):
    """100 holders stopped past their TTL and resumed: every guarded write is refused, and every
    body of `async with` sees its cancellation."""
    with serving(tmp_path / "data") as server:
        holders = [
            await Holders.start(server.url, number * LOCKS_PER_PROCESS)
            for number in range(PROCESSES)
        ]
        try:
            await asyncio.gather(*(each.until("written") for each in holders))
            for each in holders:
                each.send(signal.SIGSTOP)
            async with Client(server.url) as client:
                taken = await take_over(client)
                for each in holders:
                    each.send(signal.SIGCONT)
                for what in ("refused", "cancelled", "lost"):
                    await asyncio.gather(*(each.until(what) for each in holders))
                for name, (_, revision) in taken.items():
                    record = await client.kv.get(f"holders/{name}")
                    assert record is not None
                    assert record.mod_revision == revision, f"{name}: a stale holder wrote"
            for each in holders:
                for what, name, *rest in each.said:
                    if what == "written":
                        assert rest[0] < taken[name][0], "a stale token was accepted"
                    if what == "held":
                        assert rest[0] < taken[name][0], "tokens rise"
                assert await each.process.wait() == 0
        finally:
            await asyncio.gather(*(each.end() for each in holders))


async def take_over(client: Client) -> dict[str, tuple[int, int]]:
    """Get every lock in the stopped holders' place, and write under it.

    Returns:
        By lock, the new token and the revision of the write.
    """

    async def one(name: str) -> tuple[str, tuple[int, int]]:
        lock = await client.locks.lock(name, timeout=60).acquire()
        result = await client.kv.put(f"holders/{name}", b"%d" % lock.token, guard=lock)
        return name, (lock.token, result.revision)

    names = [f"lock-{number}" for number in range(PROCESSES * LOCKS_PER_PROCESS)]
    return dict(await asyncio.gather(*map(one, names)))
