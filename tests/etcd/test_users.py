"""Streams and tokens of users: what ends when rights, passwords and users change."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from coordinator_sdk.protocol.audit import Blame
from tests.api.member import Running, running
from tests.api.people import ask
from tests.etcd.client import Grpc, Refused, connected

pytestmark = pytest.mark.asyncio(loop_scope="module")

API = "/etcdserverpb."
AUTH = f"{API}Auth/"
DENIED = "rpc error: code = PermissionDenied desc = etcdserver: permission denied"


class People:
    """Root's connection to a member, and what it does to others."""

    def __init__(self, member: Running, grpc: Grpc, root: str) -> None:
        self.member, self.grpc = member, grpc
        self.root = ("token", root)

    async def auth(self, call: str, /, **fields: Any) -> Any:
        """Make a call of the Auth service as root."""
        return await self.grpc.call(AUTH + call, self.root, **fields)

    async def join(self, user: str, *spans: tuple[bytes, bytes]) -> tuple[str, str]:
        """Add a user who may read and write some keys; give its token."""
        await self.auth("UserAdd", name=user, password="pw")
        await self.auth("RoleAdd", name=user)
        await self.auth("UserGrantRole", user=user, role=user)
        for key, end in spans:
            perm = {"permType": 2, "key": key, "range_end": end}
            await self.auth("RoleGrantPermission", name=user, perm=perm)
        return await self.login(user)

    async def login(self, user: str, password: str = "pw") -> tuple[str, str]:
        """Log in; give the header that says so."""
        found = await self.grpc.call(f"{AUTH}Authenticate", name=user, password=password)
        return "token", found.token


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def people(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[People]:
    """A member with authentication on."""
    folder = tmp_path_factory.mktemp("people")
    async with running(folder, password_cost=10) as member, connected(member.port) as grpc:
        await grpc.call(f"{AUTH}UserAdd", name="root", password="pw")
        await grpc.call(f"{AUTH}UserGrantRole", user="root", role="root")
        await grpc.call(f"{AUTH}AuthEnable")
        token = (await grpc.call(f"{AUTH}Authenticate", name="root", password="pw")).token
        yield People(member, grpc, token)


async def test_a_watch_ends_with_the_right_to_it(people: People) -> None:
    """Revoking a right ends the watches that need it, and no others of the stream."""
    token = await people.join("watcher", (b"a", b""), (b"b", b""))
    talk = people.grpc.talk(f"{API}Watch/Watch", token)
    for key in (b"a", b"b"):
        talk.say(create_request={"key": key})
        assert (await talk.hear()).created
    await people.auth("RoleRevokePermission", role="watcher", key=b"a")
    async with asyncio.timeout(5):
        ended = await talk.hear()
    assert (ended.watch_id, ended.canceled, ended.cancel_reason) == (0, True, DENIED)
    for key in (b"a", b"b"):
        await people.grpc.call(f"{API}KV/Put", people.root, key=key)
    (event,) = (await talk.hear()).events
    assert event.kv.key == b"b"
    talk.reset()


async def test_observing_ends_with_the_right_to_it(people: People) -> None:
    """Whoever observes an election is cut off when it may no longer read its keys."""
    token = await people.join("observer", (b"e/", b"e0"))
    campaign = "/v3electionpb.Election/"
    won = await people.grpc.call(f"{campaign}Campaign", token, name=b"e", value=b"me")
    talk = people.grpc.talk(f"{campaign}Observe", token)
    talk.say(name=b"e")
    assert (await talk.hear()).kv.key == won.leader.key
    await people.auth("UserRevokeRole", name="observer", role="observer")
    with pytest.raises(Refused, match="2: etcdserver: permission denied"):
        async with asyncio.timeout(5):
            await talk.hear()


async def test_renewals_end_with_the_right_to_them(people: People) -> None:
    """A stream of renewals is refused the next one once its user may not write any more."""
    token = await people.join("renewer", (b"r", b""))
    lease = await people.grpc.call(f"{API}Lease/LeaseGrant", token, TTL=60)
    talk = people.grpc.talk(f"{API}Lease/LeaseKeepAlive", token)
    talk.say(ID=lease.ID)
    assert (await talk.hear()).TTL == 60
    await people.auth("RoleDelete", role="renewer")
    talk.say(ID=lease.ID)
    with pytest.raises(Refused, match="7: etcdserver: permission denied"):
        await talk.hear()


async def test_a_new_password_makes_tokens_void(people: People) -> None:
    """After a change of the password, clients are told to log in again, in etcd's words."""
    token = await people.join("changer", (b"c", b""))
    await people.grpc.call(f"{API}KV/Put", token, key=b"c")
    talk = people.grpc.talk(f"{API}Watch/Watch", token)
    talk.say(create_request={"key": b"c"})
    assert (await talk.hear()).created
    await people.auth("UserChangePassword", name="changer", password="new")
    for call, fields in (("Put", {"key": b"c"}), ("Range", {"key": b"c"})):
        with pytest.raises(Refused, match="16: etcdserver: invalid auth token"):
            await people.grpc.call(f"{API}KV/{call}", token, **fields)
    async with asyncio.timeout(5):
        assert "invalid auth token" in (await talk.hear()).cancel_reason
    await people.grpc.call(f"{API}KV/Put", await people.login("changer", "new"), key=b"c")


async def test_leases_are_listed_for_those_who_may_read_their_keys(people: People) -> None:
    """A listing shows leases all of whose keys may be read; their keys are told to nobody else."""
    token = await people.join("lister", (b"l/", b"l0"))
    made = [await people.grpc.call(f"{API}Lease/LeaseGrant", people.root, TTL=60) for _ in "ab"]
    for lease, key in zip(made, (b"l/k", b"secret"), strict=True):
        await people.grpc.call(f"{API}KV/Put", people.root, key=key, lease=lease.ID)
    listed = await people.grpc.call(f"{API}Lease/LeaseLeases", token)
    seen = {one.ID for one in listed.leases}
    assert made[0].ID in seen
    assert made[1].ID not in seen
    path = f"{API}Lease/LeaseTimeToLive"
    assert list((await people.grpc.call(path, token, ID=made[0].ID, keys=True)).keys) == [b"l/k"]
    with pytest.raises(Refused, match="7: etcdserver: permission denied"):
        await people.grpc.call(path, token, ID=made[1].ID, keys=True)


async def test_who_did_it_is_remembered(people: People) -> None:
    """A change over gRPC carries its user, like one over every other face."""
    token = await people.join("author", (b"w", b""))
    revision = (await people.grpc.call(f"{API}KV/Put", token, key=b"w")).header.revision
    found = await ask(people.member, "root", Blame(key=b"w"))
    assert [(one.revision, one.actor) for one in found.lines] == [(revision, "author")]
