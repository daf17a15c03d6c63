"""Registrations, watches of services, topics, leases and sessions over a socket."""

from __future__ import annotations

import asyncio

import pytest

from coordinator_sdk import Client, InvalidRequest, LeaseNotFound, NotFound, TopicTruncated
from coordinator_sdk._renewal import LOST
from coordinator_sdk._streams import SubscriptionStream
from coordinator_sdk.protocol import topics
from coordinator_sdk.protocol.codec import MSGPACK
from coordinator_sdk.protocol.frames import Stream
from tests.sdk.server import FakeServer


async def test_an_instance_is_registered_in_its_body(client: Client) -> None:
    """An instance can be found while its body runs, and not after it."""
    async with client.services.register("web", address="10.0.0.5", port=8080) as registration:
        assert registration.state == "registered"
        [found] = await client.services.discover("web")
        assert (found.address, found.port) == ("10.0.0.5", 8080)
        assert found.instance == registration.instance
    assert registration.state == "deregistered"
    assert await client.services.discover("web") == []


async def test_a_registration_is_a_handle(client: Client) -> None:
    """A registration can be awaited; its status can be set; deregistering twice is fine."""
    registration = await client.services.register("web", instance="one")
    await registration.maintenance("new disk")
    assert await client.services.discover("web") == []
    [found] = await client.services.discover("web", statuses=["*"])
    assert (found.status, found.status_reason) == ("maintenance", "new disk")
    await registration.drain()
    await registration.passing()
    assert registration.status == "passing"
    await registration.deregister()
    await registration.deregister()
    with pytest.raises(NotFound):
        await registration.set_status("passing")


async def test_an_instance_registers_again(server: FakeServer, client: Client) -> None:
    """An instance whose session is lost registers again by itself, as it was."""
    registration = await client.services.register("web", instance="one")
    await registration.maintenance("new disk")
    session = registration.session
    assert session is not None
    server.cluster.expire(session.id)
    assert server.cluster.instances == {}
    session._renewal.lose("test")
    assert registration.state == "lost"
    await server.until(lambda: registration.state == "registered")
    await client.cluster.ping()
    [found] = server.cluster.instances.values()
    assert (found.instance, found.status, found.status_reason) == (
        "one",
        "maintenance",
        "new disk",
    )
    assert registration.registrations == 2
    await registration.deregister()


async def test_registering_again_is_repeated(server: FakeServer, client: Client) -> None:
    """Registering again is tried until it succeeds."""
    registration = await client.services.register("web", instance="one")
    assert registration.session is not None
    refusals = iter([InvalidRequest("not yet")] * 3)
    server.cluster.refuse = lambda body: (
        next(refusals, None) if type(body).__name__ == "ServiceRegister" else None
    )
    registration.session._renewal.lose("test")
    await server.until(lambda: registration.state == "registered")
    assert next(refusals, None) is None
    await registration.deregister()


async def test_a_service_is_followed(server: FakeServer, client: Client) -> None:
    """A watch gives the whole list, first at once and then after every change."""
    seen = []
    async with client.services.watch("web") as watch:
        seen.append([one.instance for one in await anext(watch)])
        first = await client.services.register("web", instance="one")
        seen.append([one.instance for one in await anext(watch)])
        server.drop()
        second = await client.services.register("web", instance="two")
        seen.append([one.instance for one in await anext(watch)])
        await second.drain()
        seen.append([one.instance for one in await anext(watch)])
        await first.deregister()
        seen.append([one.instance for one in await anext(watch)])
    assert seen == [[], ["one"], ["one", "two"], ["one"], []]


async def test_messages_are_followed(server: FakeServer, client: Client) -> None:
    """A subscription gets every message once and in order, however often it is cut."""
    seen = []
    async with client.topics.subscribe("orders.>", credit=4) as subscription:
        for number in range(60):
            result = await client.topics.publish(f"orders.{number % 3}", str(number))
            assert result.sequence == number // 3 + 1
            if number % 10 == 5:
                server.drop()
        async for message in subscription:
            seen.append(int(message.payload))
            if len(seen) == 60:
                break
        assert subscription.resumes > 0
        assert subscription.positions == {f"orders.{kind}": 20 for kind in range(3)}
    assert seen == list(range(60))


async def test_a_subscription_replays(client: Client) -> None:
    """A subscription from the earliest message replays what is kept, then goes on."""
    await client.topics.publish("t", "1", headers={"kind": "test"})
    async with client.topics.subscribe("t", start="earliest") as subscription:
        first = await anext(subscription)
        assert (first.payload, first.headers) == (b"1", {"kind": "test"})
        await client.topics.publish("t", "2")
        assert (await anext(subscription)).payload == b"2"


def gap_stream(gaps: bool) -> tuple[SubscriptionStream, list[topics.TopicGap]]:
    """A subscription that was told of a gap between two messages."""
    told: list[topics.TopicGap] = []
    stream = SubscriptionStream(topics.TopicSubscribe("n", "t"), gaps, on_gap=told.append)
    stream.id = 1
    for value in (
        topics.TopicMessages([topics.TopicMessage("t", 1, 1, 0, b"")]),
        topics.TopicGap("t", 10, 1),
        topics.TopicMessages([topics.TopicMessage("t", 10, 12, 0, b"")]),
    ):
        item = MSGPACK.encode_stream([1], MSGPACK.encode_value(value))
        _, [found] = MSGPACK.decode_frame(b"\x92\x94\x01\x01\x01\x01\x91" + item)
        assert isinstance(found, Stream)
        if not stream.done():
            stream.deliver(found.item)
    return stream, told


async def test_a_gap_is_an_error_by_default() -> None:
    """Messages lost to retention end a subscription with TopicTruncated, which says which."""
    stream, _ = gap_stream(gaps=False)
    assert isinstance(stream.error, TopicTruncated)
    assert stream.error.details == {"topic": "t", "first_sequence": 10, "after_sequence": 1}
    assert [message.sequence for message in stream.items] == [1]


async def test_a_gap_can_be_passed_over() -> None:
    """A subscription that continues over gaps notes them, and resumes after them."""
    stream, told = gap_stream(gaps=True)
    assert [message.sequence for message in stream.items] == [1, 10]
    assert [gap.first_sequence for gap in told] == [10]
    refused = TopicTruncated("gone", topic="t", first_sequence=20)
    assert stream.survives(refused)
    assert stream.request().after == {"t": 19}  # type: ignore[attr-defined]
    assert not stream.survives(refused)


async def test_a_session_is_kept_alive(server: FakeServer, client: Client) -> None:
    """A session is renewed in the background, and ended by the end of its body."""
    async with client.sessions.open(ttl=1.5) as session:
        await server.until(lambda: server.cluster.renewals >= 2)
        assert (session.state, session.alive) == ("connected", True)
        [found] = await client.sessions.list()
        assert found.session == session.id
    assert server.cluster.sessions == {}
    assert session.state == LOST
    assert session.lost.is_set()


async def test_renewals_of_one_moment_share_a_request(server: FakeServer, client: Client) -> None:
    """Leases and sessions that are due together are renewed by one request."""
    for _ in range(20):
        await client.leases.grant(3)
    before = server.cluster.renewals
    await server.until(lambda: server.cluster.renewals > before)
    batches = [
        len(body.leases)
        for member in server.members
        for body in member.seen
        if type(body).__name__ == "LeaseKeepAlive"
    ]
    assert max(batches) == 20


async def test_a_lease_lives_and_ends(server: FakeServer, client: Client) -> None:
    """A lease is kept alive until it is revoked; its loss is told."""
    async with client.leases.grant(1.5) as lease:
        await client.kv.put("k", lease=lease)
        assert server.cluster.keys[b"k"].lease == lease.id
        await server.until(lambda: server.cluster.renewals >= 2)
        assert lease.state == "connected"
    assert server.cluster.sessions == {}
    idle = await client.leases.grant(5, keepalive=False)
    assert (idle.state, await idle.keepalive()) == ("idle", 5.0)
    server.cluster.sessions.clear()
    with pytest.raises(LeaseNotFound):
        await idle.keepalive()
    lost = await client.leases.grant(0.3)
    server.cluster.sessions.clear()
    async with asyncio.timeout(5):
        await lost.lost.wait()


async def test_a_ttl_is_positive(client: Client) -> None:
    """A TTL of nothing is refused by name before anything is sent."""
    for opening in (client.sessions.open(0), client.leases.grant(0)):
        with pytest.raises(InvalidRequest) as caught:
            await opening
        assert caught.value.details == {"field": "ttl"}


async def test_an_abandoned_opening_leaves_nothing(server: FakeServer, client: Client) -> None:
    """A session whose opener was cancelled meanwhile is ended again."""
    server.hold.clear()
    for opening in (client.sessions.open(9), client.leases.grant(9)):
        task = asyncio.ensure_future(opening._start())
        await server.until(lambda: bool(server.cluster.sessions))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        server.hold.set()
        await server.until(lambda: not server.cluster.sessions)
        server.hold.clear()
    server.hold.set()
