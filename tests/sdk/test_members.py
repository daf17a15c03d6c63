"""Members come and go under load: real processes, one client that never notices."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

import pytest

from coordinator_sdk import Client
from coordinator_sdk.protocol.cluster import MemberInfo
from coordinator_sdk.testing import ClusterProcess, CoordinatorProcess

pytestmark = [pytest.mark.slow, pytest.mark.process, pytest.mark.timeout(300)]


async def ready(member: CoordinatorProcess) -> None:
    """Wait until a member serves."""
    await asyncio.to_thread(member.wait_until_ready, 60.0)


class Load:
    """Writes without a pause, each once; a call that fails ends it.

    Attributes:
        written: How many writes were acknowledged.
    """

    def __init__(self, client: Client) -> None:
        self.client = client
        self.written = 0
        self._more = asyncio.Event()
        self._stops = False

    async def run(self) -> None:
        """Write until told to stop."""
        for number in itertools.count(1):
            if self._stops:
                return
            result = await self.client.kv.put("load", str(number), prev_kv=True)
            # A write that was applied twice would find itself.
            assert number == 1 or result.prev_kv is not None
            if result.prev_kv is not None:
                assert result.prev_kv.value == str(number - 1).encode()
            self.written = number
            self._more.set()

    async def goes_on(self, count: int = 20) -> None:
        """Wait for some more writes."""
        target = self.written + count
        while self.written < target:
            self._more.clear()
            await self._more.wait()

    def stop(self) -> None:
        """Let the write under way be the last."""
        self._stops = True


async def grow(cluster: ClusterProcess, client: Client) -> None:
    """Add a member as a learner, start it, and wait until it is a voter."""
    member = cluster.joiner()
    assert member.peer_url is not None
    added = await client.cluster.add_member([member.peer_url], promote_when_ready=True)
    member.spawn()
    await ready(member)
    while True:
        [info] = [
            one for one in await client.cluster.members() if one.member == added.member.member
        ]
        if not info.is_learner:
            assert info.name == member.name
            return


async def id_of(client: Client, member: CoordinatorProcess) -> int:
    """Find the id of a member by its name."""
    [found] = [one for one in await client.cluster.members() if one.name == member.name]
    return found.member


async def shrink(cluster: ClusterProcess, client: Client, member: CoordinatorProcess) -> None:
    """Remove a member; it ends by itself."""
    await client.cluster.remove_member(await id_of(client, member))
    assert member._process is not None
    await asyncio.to_thread(member._process.wait, 60.0)
    cluster.remove(member)


def names(members: list[MemberInfo]) -> set[str]:
    """Give the names of members."""
    return {one.name for one in members}


async def test_a_cluster_grows_and_shrinks_under_load(tmp_path: Path) -> None:
    """From one member to three to five and back to three, the first one and the leader removed:
    a client that was given one endpoint writes on, and no call of it fails."""
    cluster = ClusterProcess(tmp_path, 1)
    first = cluster.members[0]
    try:
        await asyncio.to_thread(cluster.start)
        async with Client(first.url) as client, Client(cluster.url) as admin:
            load = Load(client)
            task = asyncio.create_task(load.run())
            for _ in range(4):
                await grow(cluster, admin)
                await load.goes_on()
            assert len(await admin.cluster.members()) == 5
            await shrink(cluster, admin, first)
            await load.goes_on()
            leader = await asyncio.to_thread(cluster.leader)
            await shrink(cluster, admin, leader)
            await load.goes_on()
            load.stop()
            await task
            left = await admin.cluster.members()
            assert names(left) == {member.name for member in cluster.members}
            assert len(left) == 3
            kept = await client.kv.get("load")
            assert kept is not None
            assert kept.value == str(load.written).encode()
    finally:
        await asyncio.to_thread(cluster.kill)


async def test_leadership_moves_on_request(tmp_path: Path) -> None:
    """Leadership goes to the member that was named, whichever member is asked."""
    cluster = ClusterProcess(tmp_path, 3)
    try:
        await asyncio.to_thread(cluster.start)
        async with Client(cluster.members[0].url) as client:
            for member in cluster.members:
                wanted = await id_of(client, member)
                moved = await client.cluster.move_leader(wanted)
                assert moved.leader == wanted
                await client.kv.put("a", member.name or "")
            moved = await client.cluster.move_leader()
            assert moved.leader != moved.former
    finally:
        await asyncio.to_thread(cluster.kill)
