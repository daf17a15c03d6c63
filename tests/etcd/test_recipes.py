"""v3lock and v3election: etcd's recipes on user keys."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from coordinator.etcd.recipes import prefix_end
from tests.api.member import Running, until
from tests.etcd.client import Grpc, Refused, connected

pytestmark = pytest.mark.asyncio(loop_scope="module")

KV = "/etcdserverpb.KV/"
LOCK = "/v3lockpb.Lock/"
ELECTION = "/v3electionpb.Election/"


async def lease(grpc: Grpc, number: int, ttl: int = 60) -> int:
    """Grant a lease."""
    answer = await grpc.call("/etcdserverpb.Lease/LeaseGrant", ID=number, TTL=ttl)
    return int(answer.ID)


async def keys(grpc: Grpc, prefix: bytes) -> list[bytes]:
    """List the keys of a prefix in the order in which they were made."""
    found = await grpc.call(
        f"{KV}Range", key=prefix, range_end=prefix_end(prefix), sort_target=2, sort_order=1
    )
    return [kv.key for kv in found.kvs]


async def queued(grpc: Grpc, prefix: bytes, count: int) -> None:
    """Wait until so many stand in a queue."""
    while len(await keys(grpc, prefix)) != count:
        pass


async def test_a_lock_goes_from_one_to_the_next(grpc: Grpc) -> None:
    """Whoever asked first holds it; its unlock lets the next one in."""
    first, second = await lease(grpc, 0xA1), await lease(grpc, 0xA2)
    held = await grpc.call(f"{LOCK}Lock", name=b"lock", lease=first)
    assert held.key == b"lock/a1"
    waiting = asyncio.ensure_future(grpc.call(f"{LOCK}Lock", name=b"lock", lease=second))
    await queued(grpc, b"lock/", 2)
    assert not waiting.done()
    again = await grpc.call(f"{LOCK}Lock", name=b"lock", lease=first)
    assert again.key == held.key
    unlocked = await grpc.call(f"{LOCK}Unlock", key=held.key)
    answer = await waiting
    assert answer.key == b"lock/a2"
    assert answer.header.revision >= unlocked.header.revision


async def test_a_lock_without_a_lease_brings_its_own(grpc: Grpc) -> None:
    """Lease 0 makes a lease of 60 seconds, which stays."""
    answer = await grpc.call(f"{LOCK}Lock", name=b"own")
    number = int(answer.key.rpartition(b"/")[2], 16)
    told = await grpc.call("/etcdserverpb.Lease/LeaseTimeToLive", ID=number)
    assert told.grantedTTL == 60


async def test_who_gives_up_leaves_the_queue(grpc: Grpc, member: Running) -> None:
    """A waiter whose call ends takes its key away again."""
    await grpc.call(f"{LOCK}Lock", name=b"given", lease=await lease(grpc, 0xB1))
    async with connected(member.port) as other:
        number = await lease(grpc, 0xB2)
        waiting = asyncio.ensure_future(other.call(f"{LOCK}Lock", name=b"given", lease=number))
        await queued(grpc, b"given/", 2)
    with pytest.raises(Refused):
        await waiting
    await queued(grpc, b"given/", 1)


async def test_a_waiter_whose_lease_ends_is_told(grpc: Grpc) -> None:
    """Who loses its key while it waits does not get the lock."""
    await grpc.call(f"{LOCK}Lock", name=b"ended", lease=await lease(grpc, 0xC1))
    number = await lease(grpc, 0xC2)
    waiting = asyncio.ensure_future(grpc.call(f"{LOCK}Lock", name=b"ended", lease=number))
    await queued(grpc, b"ended/", 2)
    await grpc.call("/etcdserverpb.Lease/LeaseRevoke", ID=0xC2)
    await grpc.call(f"{LOCK}Unlock", key=b"ended/c1")
    with pytest.raises(Refused, match="2: mutex: session is expired"):
        await waiting


async def test_unknown_leases_get_no_lock(grpc: Grpc) -> None:
    """A lease that does not exist is refused in etcd's words; so is an empty key."""
    for path in (f"{LOCK}Lock", f"{ELECTION}Campaign"):
        with pytest.raises(Refused, match="5: etcdserver: requested lease not found"):
            await grpc.call(path, name=b"unknown", lease=0xDEAD)
    with pytest.raises(Refused, match="3: etcdserver: key is not provided"):
        await grpc.call(f"{LOCK}Unlock")


async def test_an_election_has_one_leader_at_a_time(grpc: Grpc) -> None:
    """Campaign, proclaim, leader and resign follow etcd's recipe."""
    first, second = await lease(grpc, 0xE1), await lease(grpc, 0xE2)
    with pytest.raises(Refused, match="2: election: no leader"):
        await grpc.call(f"{ELECTION}Leader", name=b"vote")
    won = await grpc.call(f"{ELECTION}Campaign", name=b"vote", lease=first, value=b"one")
    leader = won.leader
    assert (leader.name, leader.key, leader.lease) == (b"vote", b"vote/e1", first)
    waiting = asyncio.ensure_future(
        grpc.call(f"{ELECTION}Campaign", name=b"vote", lease=second, value=b"two")
    )
    await queued(grpc, b"vote/", 2)
    await grpc.call(f"{ELECTION}Proclaim", leader=leader, value=b"more")
    told = await grpc.call(f"{ELECTION}Leader", name=b"vote")
    assert (told.kv.value, told.kv.create_revision) == (b"more", leader.rev)
    await grpc.call(f"{ELECTION}Resign", leader=leader)
    assert (await waiting).leader.key == b"vote/e2"
    with pytest.raises(Refused, match="2: election: not leader"):
        await grpc.call(f"{ELECTION}Proclaim", leader=leader, value=b"late")


async def test_leaders_are_observed(grpc: Grpc, member: Running) -> None:
    """Observe tells each leader and each proclamation, also of those that come later."""
    talk = grpc.talk(f"{ELECTION}Observe")
    talk.say(name=b"seen", last=True)
    hub = member.node.hub
    before = len(hub)
    await until(lambda: len(hub) > before)

    async def heard() -> Any:
        kv = (await talk.hear()).kv
        return kv.key, kv.value

    one = await grpc.call(
        f"{ELECTION}Campaign", name=b"seen", lease=await lease(grpc, 0xF1), value=b"1"
    )
    assert await heard() == (b"seen/f1", b"1")
    await grpc.call(f"{ELECTION}Proclaim", leader=one.leader, value=b"2")
    assert await heard() == (b"seen/f1", b"2")
    waiting = asyncio.ensure_future(
        grpc.call(f"{ELECTION}Campaign", name=b"seen", lease=await lease(grpc, 0xF2), value=b"3")
    )
    await queued(grpc, b"seen/", 2)
    await grpc.call(f"{ELECTION}Resign", leader=one.leader)
    assert (await waiting).leader.key == b"seen/f2"
    assert await heard() == (b"seen/f2", b"3")
    talk.reset()
    await until(lambda: len(hub) <= before)


async def test_the_end_of_a_prefix_covers_it() -> None:
    """The end of a prefix is the first key behind it, or none."""
    assert prefix_end(b"a/") == b"a0"
    assert prefix_end(b"a\xff") == b"b"
    assert prefix_end(b"\xff\xff") == b"\0"
