"""A cluster that grows and shrinks under load."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from coordinator_sdk import Client
from coordinator_sdk.testing import ClusterProcess
from tests.chaos.load import Load
from tests.chaos.running import START_SECONDS, leader_of, running, start

pytestmark = [pytest.mark.slow, pytest.mark.process, pytest.mark.timeout(600)]

CHANGES = 200


async def grow(cluster: ClusterProcess, client: Client, to: int) -> None:
    """Add members one by one; each becomes a voter by itself once it has caught up."""
    while len(cluster.members) < to:
        joiner = cluster.joiner()
        added = await client.cluster.add_member([joiner.peer_url], promote_when_ready=True)
        await start(joiner)
        async with asyncio.timeout(START_SECONDS):
            await until_voter(client, added.member.member)


async def until_voter(client: Client, member: int) -> None:
    while True:
        members = {one.member: one for one in await client.cluster.members()}
        if not members[member].is_learner:
            return
        await asyncio.sleep(0.05)


async def shrink(cluster: ClusterProcess, client: Client, to: int) -> None:
    """Remove the leader, again and again."""
    while len(cluster.members) > to:
        leader = await leader_of(cluster)
        gone = int(leader.status()["member"], 16)
        after = await client.cluster.remove_member(gone)
        assert gone not in [one.member for one in after.members]
        await asyncio.to_thread(leader.wait_until_ended, START_SECONDS)
        assert "was removed from the cluster" in leader.output()
        cluster.remove(leader)


async def test_growing_and_shrinking_fails_no_call(tmp_path: Path):
    """From one member to three, to five and back to three under load, with each removal that of
    the leader: no call of the SDK fails, and every promise holds."""
    async with (
        running(tmp_path, 1) as cluster,
        Load(cluster.url) as load,
        Client(cluster.url) as client,
    ):
        await load.until_acknowledged(CHANGES)
        for size in (3, 5):
            await grow(cluster, client, size)
            await load.until_acknowledged(CHANGES)
        await shrink(cluster, client, 3)
        await load.until_acknowledged(CHANGES)
        assert len(await client.cluster.members()) == 3
        await leader_of(cluster)
        assert await load.finish(cluster.url) == []
        assert load.notes.sessions_lost == 0
