"""The Cluster, Maintenance and Auth services, and what no service has."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from coordinator.etcd.messages import METHODS
from coordinator.storage.backup import verify_backup
from coordinator.wire.command import AlarmSet
from tests.api.member import Running
from tests.etcd.client import Grpc, Refused

pytestmark = pytest.mark.asyncio(loop_scope="module")

CLUSTER = "/etcdserverpb.Cluster/Member"
MAINTENANCE = "/etcdserverpb.Maintenance/"
AUTH = "/etcdserverpb.Auth/"


async def refused(grpc: Grpc, path: str, **fields: Any) -> tuple[int, str]:
    """Give code and text of a call that is refused."""
    with pytest.raises(Refused) as error:
        await grpc.call(path, **fields)
    return error.value.code, error.value.message


# ---------------------------------------------------------------- Cluster


async def test_members_are_listed_without_a_revision(grpc: Grpc, member: Running) -> None:
    """The list names every member; its header has ids and term, and no revision."""
    answer = await grpc.call(f"{CLUSTER}List")
    (one,) = answer.members
    assert (one.ID, one.name, one.isLearner) == (member.node.member_id, "default", False)
    assert list(one.clientURLs) == ["http://127.0.0.1:0"]
    header = answer.header
    assert (header.member_id, header.revision) == (member.node.member_id, 0)
    assert header.raft_term == member.node.term
    assert len((await grpc.call(f"{CLUSTER}List", linearizable=True)).members) == 1


async def test_a_learner_comes_and_goes(grpc: Grpc) -> None:
    """A learner is added, changed and removed; what cannot be has etcd's words."""
    url = "http://127.0.0.1:31999"
    added = await grpc.call(f"{CLUSTER}Add", peerURLs=[url], isLearner=True)
    learner = added.member
    assert (learner.isLearner, learner.name, list(learner.peerURLs)) == (True, "", [url])
    assert len(added.members) == 2
    exists = (9, "etcdserver: member ID already exist")
    assert await refused(grpc, f"{CLUSTER}Add", peerURLs=[url], isLearner=True) == exists
    not_ready = (9, "etcdserver: can only promote a learner member which is in sync with leader")
    assert await refused(grpc, f"{CLUSTER}Promote", ID=learner.ID) == not_ready
    other = "http://127.0.0.1:31998"
    changed = await grpc.call(f"{CLUSTER}Update", ID=learner.ID, peerURLs=[other])
    assert [list(one.peerURLs) for one in changed.members if one.isLearner] == [[other]]
    assert len((await grpc.call(f"{CLUSTER}Remove", ID=learner.ID)).members) == 1
    unknown = (5, "etcdserver: member not found")
    assert await refused(grpc, f"{CLUSTER}Remove", ID=learner.ID) == unknown
    assert await refused(grpc, f"{CLUSTER}Remove", ID=(1 << 64) - 1) == unknown
    bad = (3, "etcdserver: given member URLs are invalid")
    assert await refused(grpc, f"{CLUSTER}Add", peerURLs=["nonsense"]) == bad
    assert await refused(grpc, f"{CLUSTER}Add") == bad


# ---------------------------------------------------------------- Maintenance


async def test_status_tells_how_the_member_stands(grpc: Grpc, member: Running) -> None:
    """Status has etcd's version, the sizes, and where the member stands in the log."""
    answer = await grpc.call(f"{MAINTENANCE}Status")
    node = member.node
    assert (answer.version, answer.leader, answer.isLearner) == ("3.4.23", node.member_id, False)
    assert answer.raftTerm == answer.header.raft_term == node.term
    assert answer.raftIndex >= answer.raftAppliedIndex > 0
    assert answer.dbSize > 0
    assert list(answer.errors) == []


async def test_alarms_are_raised_listed_and_cleared(grpc: Grpc, member: Running) -> None:
    """An alarm is listed and shown by Status until it is disarmed; disarming tells which."""
    own = member.node.member_id
    alarm = f"{MAINTENANCE}Alarm"
    assert len((await grpc.call(alarm)).alarms) == 0
    assert len((await grpc.call(alarm, action=2, memberID=own, alarm=2)).alarms) == 0
    raised = await grpc.call(alarm, action=1, memberID=own, alarm=2)
    assert [(one.memberID, one.alarm) for one in raised.alarms] == [(own, 2)]
    assert [one.alarm for one in (await grpc.call(alarm)).alarms] == [2]
    status = await grpc.call(f"{MAINTENANCE}Status")
    assert list(status.errors) == [f"memberID:{own} alarm:CORRUPT "]
    cleared = await grpc.call(alarm, action=2, memberID=own, alarm=2)
    assert [one.alarm for one in cleared.alarms] == [2]
    assert len((await grpc.call(alarm)).alarms) == 0
    await member.node.execute(AlarmSet(own, "CORRUPT", False))


async def test_hashes_depend_on_the_data_alone(grpc: Grpc) -> None:
    """The hash of a revision stays the same while other revisions follow."""
    put = await grpc.call("/etcdserverpb.KV/Put", key=b"hashed", value=b"1")
    at = put.header.revision
    first = await grpc.call(f"{MAINTENANCE}HashKV", revision=at)
    await grpc.call("/etcdserverpb.KV/Put", key=b"hashed", value=b"2")
    assert (await grpc.call(f"{MAINTENANCE}HashKV", revision=at)).hash == first.hash
    now = await grpc.call(f"{MAINTENANCE}HashKV")
    assert now.hash != first.hash
    assert now.header.revision == at + 1
    assert (await grpc.call(f"{MAINTENANCE}Hash")).hash == now.hash
    code, text = await refused(grpc, f"{MAINTENANCE}HashKV", revision=at + 9)
    assert (code, text) == (11, "etcdserver: mvcc: required revision is a future revision")


async def test_defragmenting_changes_nothing(grpc: Grpc) -> None:
    """Defragment answers without a header, as etcd 3.4 does."""
    assert not (await grpc.call(f"{MAINTENANCE}Defragment")).HasField("header")


async def test_leadership_has_nobody_to_go_to(grpc: Grpc) -> None:
    """Only a voter can become the leader."""
    bad = (9, "etcdserver: bad leader transferee")
    assert await refused(grpc, f"{MAINTENANCE}MoveLeader", targetID=5) == bad
    assert await refused(grpc, f"{MAINTENANCE}MoveLeader") == bad


async def test_a_snapshot_is_a_backup(grpc: Grpc, tmp_path: Path) -> None:
    """The stream is a backup that can be restored: whole blocks, then their SHA-256."""
    talk = grpc.talk(f"{MAINTENANCE}Snapshot")
    talk.say(last=True)
    content, left = b"", 1
    while left:
        answer = await talk.hear()
        content += answer.blob
        left = answer.remaining_bytes
    with pytest.raises(StopAsyncIteration):
        await talk.hear()
    assert len(content) % 512 == hashlib.sha256().digest_size
    assert hashlib.sha256(content[:-32]).digest() == content[-32:]
    backup = tmp_path / "backup.db"
    backup.write_bytes(content)
    assert verify_backup(backup).keys >= 1


# ---------------------------------------------------------------- Auth


async def test_authentication_is_off(grpc: Grpc) -> None:
    """Without users, the calls answer as etcd does while authentication is off."""
    not_enabled = (9, "etcdserver: authentication is not enabled")
    assert await refused(grpc, f"{AUTH}Authenticate", name="root", password="x") == not_enabled
    status = await grpc.call(f"{AUTH}AuthStatus")
    assert (status.enabled, status.authRevision) == (False, 1)
    assert list((await grpc.call(f"{AUTH}UserList")).users) == []
    assert list((await grpc.call(f"{AUTH}RoleList")).roles) == []
    assert await refused(grpc, f"{AUTH}UserGet", name="u") == (9, "etcdserver: user name not found")
    assert await refused(grpc, f"{AUTH}RoleGet", role="r") == (9, "etcdserver: role name not found")
    code, text = await refused(grpc, f"{AUTH}AuthEnable")
    assert (code, text) == (9, "etcdserver: root user does not exist")
    await grpc.call(f"{AUTH}AuthDisable")


# ---------------------------------------------------------------- what is not there


async def test_every_call_of_the_table_is_served(member: Running) -> None:
    """The table of calls and the services have the same paths."""
    assert set(member.app.state.etcd.served) == set(METHODS)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/etcdserverpb.KV/Nope", "unknown method Nope for service etcdserverpb.KV"),
        ("/etcdserverpb.Nope/Put", "unknown service etcdserverpb.Nope"),
        ("/nonsense", 'malformed method name: "/nonsense"'),
    ],
)
async def test_unknown_calls_are_named(grpc: Grpc, path: str, text: str) -> None:
    """A call that does not exist is UNIMPLEMENTED, with the words of gRPC's Go server."""
    stream = grpc.open(path)
    grpc.write(stream, b"", last=True)
    with pytest.raises(Refused) as error:
        [payload async for payload in grpc.payloads(stream)]
    assert (error.value.code, error.value.message) == (12, text)
