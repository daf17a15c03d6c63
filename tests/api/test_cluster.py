"""Members over HTTP and the WebSocket: added, changed, removed, refused by name."""

from typing import Any

import pytest

from coordinator.api.cluster import client_urls
from coordinator.replica.members import Member
from coordinator_sdk.protocol.cluster import (
    ClusterMembers,
    ClusterMembersResult,
    LeaderMove,
    MemberAdd,
    MemberChangeResult,
    MemberRemove,
)
from tests.api.member import Running

URL = "http://127.0.0.1:31999"
pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_members_come_and_go_over_http(member: Running) -> None:
    """A learner is added, listed, moved and removed over HTTP; its id never comes back."""
    body: dict[str, Any] = {"peer_urls": [URL + "/"], "name": "second"}
    added = await member.ask("POST", "/v1/cluster/members", body)
    assert added.status == 201
    new = added.json["member"]
    assert new["peer_urls"] == [URL]
    assert (new["name"], new["is_learner"], new["is_started"]) == ("second", True, False)
    assert [one["member"] for one in added.json["members"]] == sorted(
        [new["member"], f"{member.node.member_id:016x}"]
    )
    path = f"/v1/cluster/members/{new['member']}"

    again = await member.ask("POST", "/v1/cluster/members", body)
    assert (again.status, again.json["error"]["code"]) == (409, "already_exists")
    early = await member.ask("POST", f"{path}/promote")
    assert early.status == 409

    moved = await member.ask("PUT", path, {"peer_urls": ["http://127.0.0.1:31998"]})
    assert moved.json["member"]["peer_urls"] == ["http://127.0.0.1:31998"]
    listed = (await member.ask("GET", "/v1/cluster/members")).json["members"]
    assert moved.json["member"] in listed

    removed = await member.ask("DELETE", path)
    assert removed.status == 200
    assert [one["member"] for one in removed.json["members"]] == [f"{member.node.member_id:016x}"]
    for method, target in (("DELETE", path), ("POST", f"{path}/promote")):
        gone = await member.ask(method, target)
        assert (gone.status, gone.json["error"]["code"]) == (404, "not_found")
    back = await member.ask("POST", "/v1/cluster/members", body | {"member": new["member"]})
    assert back.json["error"]["details"]["removed"] is True


WRONG = [
    ([], "peer_urls"),
    (["notaurl"], "peer_urls[0]"),
    ([URL, "http://127.0.0.1"], "peer_urls[1]"),
    (["http://127.0.0.1:1/path"], "peer_urls[0]"),
    ([f"http://127.0.0.1:{port}" for port in range(1, 18)], "peer_urls"),
]


@pytest.mark.parametrize(("urls", "field"), WRONG)
async def test_urls_that_are_none_are_refused(member: Running, urls: list[str], field: str) -> None:
    """Peer URLs that are none are refused by the name of the field, before the log."""
    index = member.node.machine.index
    answer = await member.ask("POST", "/v1/cluster/members", {"peer_urls": urls})
    assert answer.status == 400
    assert answer.json["error"]["details"]["field"] == field
    assert member.node.machine.index == index


async def test_the_last_member_stays(member: Running) -> None:
    """The only voter is not removed, and has nobody to hand leadership over to."""
    path = f"/v1/cluster/members/{member.node.member_id:016x}"
    answer = await member.ask("DELETE", path)
    assert answer.status == 409
    assert "not enough started members" in answer.json["error"]["message"]
    moved = await member.ask("POST", "/v1/cluster/move-leader", {})
    assert (moved.status, moved.json["error"]["code"]) == (503, "unavailable")
    itself = {"member": f"{member.node.member_id:016x}"}
    stays = await member.ask("POST", "/v1/cluster/move-leader", itself)
    assert stays.json == {"former": itself["member"], "leader": itself["member"]}


async def test_members_change_over_the_web_socket(member: Running) -> None:
    """The WebSocket serves the same operations; a repeated request adds no second member."""
    async with member.web_socket() as socket:
        added = await socket.call(MemberAdd([URL]), MemberChangeResult)
        socket.next_id -= 1
        again = await socket.call(MemberAdd([URL]), MemberChangeResult)
        assert again == added
        listed = await socket.call(ClusterMembers(), ClusterMembersResult)
        assert listed.members == added.members
        refused = await socket.call(LeaderMove(9))
        assert refused.message == "etcdserver: bad leader transferee"
        removed = await socket.call(MemberRemove(added.member.member), MemberChangeResult)
        assert removed.member == added.member


async def test_frames_tell_that_members_changed(member: Running) -> None:
    """Frames carry a number that is another one once the members have changed."""
    async with member.web_socket() as socket:
        added = await socket.call(MemberAdd([URL]), MemberChangeResult)
        assert socket.header is not None
        before = socket.header.members
        await socket.call(ClusterMembers())
        assert socket.header.members == before
        await socket.call(MemberRemove(added.member.member))
        assert socket.header.members != before


async def test_the_greeting_tells_of_all_members(member: Running) -> None:
    """A client is told the client URLs of all members: those of its own first, then in turn."""
    node = member.node
    own = list(node.config.advertise_client_urls)
    table = node.machine.members
    others = {node.member_id - 1: "http://b:1", node.member_id + 1: "http://a:1"}
    for number, url in others.items():
        table[number] = Member(number, "", [url], 1, 1)
    try:
        assert client_urls(node) == [*own, "http://a:1", "http://b:1"]
        assert client_urls(node, others_only=True) == ["http://a:1", "http://b:1"]
        async with member.web_socket(greet=False) as socket:
            hello = await socket.greet()
            assert hello.endpoints == [*own, "http://a:1", "http://b:1"]
    finally:
        for number in others:
            del table[number]


async def test_who_asks_for_nothing_learns_of_members_too(hasty: Running) -> None:
    """A client that sends nothing gets a frame without items when the members have changed."""
    async with hasty.web_socket() as socket:
        assert socket.header is not None
        before = socket.header.members
        hasty.node.machine.members_version += 1
        header, items = socket.codec.decode_frame(await socket.inner.recv())
        assert items == []
        assert header.members != before
