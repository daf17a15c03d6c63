"""A client that was given one endpoint learns of the others while it is connected."""

from __future__ import annotations

from coordinator_sdk import Client, RetryPolicy
from coordinator_sdk.errors import Stopping
from coordinator_sdk.protocol.cluster import ClusterMembers, MemberInfo
from coordinator_sdk.protocol.codec import MSGPACK
from tests.sdk.server import FakeServer, fake_server


def asked(server: FakeServer) -> int:
    """Count how often a server was asked for the members."""
    seen = [body for member in server.members for body in member.seen]
    return sum(isinstance(body, ClusterMembers) for body in seen)


def knows(client: Client, server: FakeServer) -> bool:
    """Whether a client would go to a server."""
    return any(endpoint.url == server.url for endpoint in client._link._rotation.all)


async def test_members_that_changed_are_asked_for(server: FakeServer, client: Client) -> None:
    """When frames tell of other members, the client asks once, and goes to them later."""
    await client.kv.put("a", "1")
    assert asked(server) == 0
    async with fake_server(server.cluster) as other:
        server.cluster.members = [MemberInfo(2, "second", [], [other.url])]
        server.cluster.members_version = 5
        await client.kv.put("a", "2")
        await client.kv.put("a", "3")
        await server.until(lambda: knows(client, other))
        assert asked(server) == 1
        server.before = lambda member, data: server.drop()
        await client.kv.put("a", "4")
        assert client.endpoint == other.url
        assert asked(other) == 0


async def test_a_greeting_is_no_news(server: FakeServer, fast: RetryPolicy) -> None:
    """The members that the greeting tells of are not asked for again."""
    server.cluster.members_version = 5
    async with Client(server.url, retry=fast) as client:
        await client.kv.put("a", "1")
        await client.kv.put("a", "2")
    assert asked(server) == 0


async def test_a_member_that_goes_tells_of_the_others(server: FakeServer, client: Client) -> None:
    """The notice that a connection is about to be closed says where to go on."""
    await client.kv.put("a", "1")
    async with fake_server(server.cluster) as other:
        [socket] = server.connections
        notice = MSGPACK.encode_closing(Stopping("the member is shutting down"), [other.url])
        await socket.send(server.connections[socket].frame([notice]))
        await server.until(lambda: knows(client, other))
        server.before = lambda member, data: server.drop()
        await client.kv.put("a", "2")
        assert client.endpoint == other.url
