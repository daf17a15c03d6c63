"""The feed of how all members stand, as dashboards watch it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from coordinator_sdk.protocol.cluster import ClusterSample, ClusterWatch
from coordinator_sdk.protocol.codec import JSON, MSGPACK
from coordinator_sdk.protocol.kv import Put, PutResult
from tests.api.member import Socket, running
from tests.api.together import together


async def sample(socket: Socket, *, leads: bool = True) -> ClusterSample:
    """Wait for a sample in which every member that is reached has told how it stands."""
    while True:
        found: ClusterSample = await socket.stream_item(ClusterSample)
        told = [one for one in found.members if one.status is not None]
        if bool(found.leader) == leads and len(told) == len(found.members):
            return found


async def test_a_follower_tells_how_all_stand(tmp_path: Path) -> None:
    """A watcher at any member gets role, log and requests of all of them, and who leads."""
    async with together(tmp_path) as cluster, asyncio.timeout(30):
        member = cluster.members[cluster.follower()]
        async with member.web_socket() as socket:
            await socket.call(Put(b"a", b"1"), PutResult)
            await socket.call(ClusterWatch())
            found = await sample(socket)
            assert found.member == member.node.member_id
            leader = cluster.members[cluster.leader()].node.member_id
            assert found.leader == leader
            for one in found.members:
                assert one.status is not None
                assert one.status.role == ("leader" if one.member.member == leader else "follower")
                assert one.status.index >= one.status.commit_index >= one.status.applied_index > 0
                assert one.heard_ms >= 0
                assert bool(one.round_trip_us) == (one.member.member != found.member)
            assert [one.status.writes for one in found.members if one.status] == [
                int(one.member.member == found.member) for one in found.members
            ]


async def test_another_leader_is_told_at_once(tmp_path: Path) -> None:
    """When leadership moves, the next sample says so, with the new term."""
    async with together(tmp_path) as cluster, asyncio.timeout(30):
        former = cluster.leader()
        member = cluster.members[cluster.follower()]
        async with member.web_socket() as socket:
            await socket.call(ClusterWatch())
            before = await sample(socket)
            cluster.cut_off(former)
            while (now := await socket.stream_item(ClusterSample)).leader in (0, before.leader):
                pass
            assert now.term > before.term
            assert now.leader != before.leader


async def test_a_sample_is_made_once_for_all(tmp_path: Path) -> None:
    """Watchers get the same sample, whichever codec they speak, and none costs a revision."""
    async with running(tmp_path) as member, asyncio.timeout(30):
        revision = member.node.revision
        async with member.web_socket(JSON) as one, member.web_socket(MSGPACK) as other:
            for socket in (one, other):
                await socket.call(ClusterWatch())
                await socket.stream_item(ClusterSample)
            first, second = await sample(one), await sample(other)
            assert first == second
        assert member.node.revision == revision
