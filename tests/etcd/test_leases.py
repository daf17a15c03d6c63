"""The Lease service over gRPC."""

from __future__ import annotations

from typing import Any

import pytest

from coordinator_sdk.protocol.sessions import SessionOpen
from tests.api.member import Running
from tests.etcd.client import Grpc, Refused

pytestmark = pytest.mark.asyncio(loop_scope="module")

LEASE = "/etcdserverpb.Lease/Lease"
KV = "/etcdserverpb.KV/"


async def refused(grpc: Grpc, name: str, **fields: Any) -> tuple[int, str]:
    """Give code and text of a call that is refused."""
    with pytest.raises(Refused) as error:
        await grpc.call(LEASE + name, **fields)
    return error.value.code, error.value.message


async def test_a_lease_is_granted_asked_and_revoked(grpc: Grpc, member: Running) -> None:
    """A grant changes no revision; a revocation deletes the keys in one."""
    before = member.node.revision
    granted = await grpc.call(f"{LEASE}Grant", TTL=60)
    assert (granted.TTL, granted.header.revision, granted.error) == (60, before, "")
    for key in (b"l/a", b"l/b"):
        await grpc.call(f"{KV}Put", key=key, lease=granted.ID)
    told = await grpc.call(f"{LEASE}TimeToLive", ID=granted.ID, keys=True)
    assert (told.ID, told.grantedTTL, list(told.keys)) == (granted.ID, 60, [b"l/a", b"l/b"])
    assert 0 < told.TTL <= 60
    assert (await grpc.call(f"{KV}Range", key=b"l/a")).kvs[0].lease == granted.ID
    assert granted.ID in [one.ID for one in (await grpc.call(f"{LEASE}Leases")).leases]
    revoked = await grpc.call(f"{LEASE}Revoke", ID=granted.ID)
    assert revoked.header.revision == before + 3
    assert (await grpc.call(f"{KV}Range", key=b"l/", range_end=b"l0")).count == 0
    assert (await grpc.call(f"{LEASE}TimeToLive", ID=granted.ID)).TTL == -1


@pytest.mark.parametrize("ttl", [-1, 0, 1, 2])
async def test_short_leases_are_raised(grpc: Grpc, ttl: int) -> None:
    """A lease lives for at least one and a half election timeouts."""
    granted = await grpc.call(f"{LEASE}Grant", TTL=ttl)
    assert granted.TTL == 2
    await grpc.call(f"{LEASE}Revoke", ID=granted.ID)


async def test_wrong_leases_get_etcds_words(grpc: Grpc) -> None:
    """An id in use, one that is unknown and a TTL without end are refused as etcd does."""
    await grpc.call(f"{LEASE}Grant", TTL=60, ID=777)
    assert await refused(grpc, "Grant", TTL=60, ID=777) == (9, "etcdserver: lease already exists")
    assert await refused(grpc, "Revoke", ID=778) == (5, "etcdserver: requested lease not found")
    assert await refused(grpc, "Revoke", ID=-1) == (5, "etcdserver: requested lease not found")
    too_large = (11, "etcdserver: too large lease TTL")
    assert await refused(grpc, "Grant", TTL=9_000_000_001) == too_large
    assert await refused(grpc, "Grant", TTL=(1 << 63) - 1) == too_large


async def test_renewals_are_answered_one_by_one(grpc: Grpc) -> None:
    """Each renewal on a stream is answered with the TTL, or without one if there is no lease."""
    await grpc.call(f"{LEASE}Grant", TTL=60, ID=900)
    talk = grpc.talk(f"{LEASE}KeepAlive")
    talk.say(ID=900)
    answer = await talk.hear()
    assert (answer.ID, answer.TTL) == (900, 60)
    assert answer.header.cluster_id
    talk.say(ID=901)
    answer = await talk.hear()
    assert (answer.ID, answer.TTL) == (901, 0)
    talk.say(ID=900, last=True)
    assert (await talk.hear()).TTL == 60
    with pytest.raises(StopAsyncIteration):
        await talk.hear()


async def test_sessions_are_no_leases_of_these_calls(grpc: Grpc, member: Running) -> None:
    """The lease behind a session is neither listed nor told, renewed or revoked."""
    await member.node.execute(SessionOpen(60_000, 4242, "app", "host", 1))
    assert 4242 not in [one.ID for one in (await grpc.call(f"{LEASE}Leases")).leases]
    assert (await grpc.call(f"{LEASE}TimeToLive", ID=4242)).TTL == -1
    assert await refused(grpc, "Revoke", ID=4242) == (5, "etcdserver: requested lease not found")
    talk = grpc.talk(f"{LEASE}KeepAlive")
    talk.say(ID=4242)
    assert (await talk.hear()).TTL == 0


async def test_leases_are_listed_by_their_end(grpc: Grpc) -> None:
    """The lease that ends first comes first."""
    await grpc.call(f"{LEASE}Grant", TTL=5000, ID=11)
    await grpc.call(f"{LEASE}Grant", TTL=3000, ID=12)
    listed = [one.ID for one in (await grpc.call(f"{LEASE}Leases")).leases]
    assert listed.index(12) < listed.index(11)
