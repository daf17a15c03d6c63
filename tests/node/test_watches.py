"""Watches of the past on a running node: fed from the state database while it goes on writing."""

import asyncio
from pathlib import Path

from coordinator.node.node import Node
from coordinator_sdk.protocol.kv import Event, Put, Watch
from tests.node.running import running

REVISIONS = 3000


async def follow(node: Node, first: int, last: int) -> list[int]:
    """Watch from a revision to another one, and give the revisions seen."""
    seen: list[int] = []
    done = asyncio.Event()

    def take(revision: int, events: list[Event]) -> None:
        seen.extend(event.kv.mod_revision for event in events)
        # As a tick does that comes between the end of a fetch and the start of the next one.
        asyncio.get_running_loop().call_soon(node.catch_up)
        if seen and seen[-1] >= last:
            done.set()

    watcher = node.hub.watch_local(Watch(b"k", b"l", first, prev_kv=first % 2 == 0), take)
    node.catch_up()
    async with asyncio.timeout(30):
        await done.wait()
    node.hub.cancel(watcher.sink, watcher.stream)
    return seen


async def test_watches_of_the_past_end_in_the_present(tmp_path: Path):
    """Watches that begin in a past that only the database has get every revision once, in order,
    while writes and other such watches come and go."""
    async with running(tmp_path) as node:
        for number in range(REVISIONS):
            node.propose(Put(b"k%d" % (number % 10), b"%d" % number), done=lambda outcome: None)
            if number % 100 == 0:
                await asyncio.sleep(0)
        await node.execute(Put(b"k", b"end"))
    async with running(tmp_path) as node:
        assert node.keyspace.log.first > REVISIONS, "the past has left the memory"
        last = node.revision

        async def write() -> None:
            while True:
                await node.execute(Put(b"other", b"1"))

        async def read(number: int) -> None:
            first = 2 + number * 37 % 2000
            seen = await follow(node, first, last)
            assert seen == [revision for revision in range(first, last + 1) if revision in keys]

        rows = await node._persistence.old_revisions(2, last)
        keys = {row[0] for row in rows if row[3].startswith(b"k")}
        writing = [asyncio.ensure_future(write()) for _ in range(4)]
        for start in range(0, 40, 8):
            await asyncio.gather(*(read(number) for number in range(start, start + 8)))
        for task in writing:
            task.cancel()
