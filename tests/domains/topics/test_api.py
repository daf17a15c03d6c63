"""Topics as clients use them: operations, subscriptions over the hub, routes."""

from __future__ import annotations

from typing import Any

import pytest

from coordinator.domains.topics import api, model, serving
from coordinator_sdk.errors import (
    FutureRevision,
    GuardFailed,
    InvalidRequest,
    NoLeader,
    NotFound,
    SessionNotFound,
)
from coordinator_sdk.protocol.kv import Guard
from coordinator_sdk.protocol.locks import LockAcquire
from coordinator_sdk.protocol.topics import (
    Retention,
    TopicCreate,
    TopicDelete,
    TopicGap,
    TopicGet,
    TopicItem,
    TopicList,
    TopicMessages,
    TopicPublish,
    TopicRead,
    TopicReady,
    TopicSubscribe,
    TopicSubscribers,
)
from tests.domains.small_node import Small, TestedConnection, turns

NS = "default"


def publish(small: Small, topic: str = "a", payload: bytes = b"x") -> int:
    sequence: int = small.node.execute(TopicPublish(NS, topic, payload)).sequence
    return sequence


def items(connection: TestedConnection, id: int) -> list[Any]:
    return connection.items(id, TopicItem)


def sequences(connection: TestedConnection, id: int) -> list[int]:
    batches = [item for item in items(connection, id) if isinstance(item, TopicMessages)]
    return [message.sequence for batch in batches for message in batch.messages]


async def test_a_subscription_is_answered_then_ready_then_fed(small):
    """A subscription's request is answered, its first item says ready, then messages come."""
    connection = small.connect()
    publish(small)
    id = connection.send_request(TopicSubscribe(NS, "a", "earliest"))
    await turns()
    publish(small)
    publish(small)
    await turns()
    assert connection.order[:2] == [("answer", id), ("item", id)]
    assert items(connection, id)[0] == TopicReady(small.node.revision - 2)
    assert sequences(connection, id) == [1, 2, 3]
    last = items(connection, id)[-1]
    assert last.revision == last.messages[-1].revision == small.node.revision
    assert len(last.messages) == 2, "one turn is one batch"


async def test_a_subscription_obeys_its_credit(small):
    """Messages come as far as credit goes."""
    connection = small.connect()
    id = connection.send_request(TopicSubscribe(NS, ">", credit=2))
    await turns()
    for _ in range(5):
        publish(small)
    await turns()
    assert sequences(connection, id) == [1, 2]
    connection.give_credit(id, 2)
    await turns()
    assert sequences(connection, id) == [1, 2, 3, 4]
    connection.give_credit(id, 9)
    await turns()
    publish(small)
    await turns()
    assert sequences(connection, id) == [1, 2, 3, 4, 5, 6]


async def test_compaction_takes_nothing_from_a_subscription(small):
    """Replay reads live messages: a compaction leaves no gap."""
    connection = small.connect()
    for _ in range(5):
        publish(small)
    small.node.compact()
    id = connection.send_request(TopicSubscribe(NS, "a", "earliest"))
    await turns()
    assert sequences(connection, id) == [1, 2, 3, 4, 5]


async def test_retention_leaves_a_gap(small):
    """Messages that retention took before they were sent are told as a gap."""
    connection = small.connect()
    small.node.execute(TopicCreate(NS, "a", Retention(0, 2, 0)))
    id = connection.send_request(TopicSubscribe(NS, "a", credit=1))
    await turns()
    for _ in range(5):
        publish(small)
    await turns()
    connection.give_credit(id, 9)
    await turns()
    gaps = [item for item in items(connection, id) if isinstance(item, TopicGap)]
    assert gaps == [TopicGap("a", 4, 0)]
    assert sequences(connection, id) == [4, 5]


async def test_one_watch_feeds_all_subscriptions_of_a_namespace(small):
    """A namespace's subscriptions share a watch, which ends with the last of them."""
    one, other = small.connect(), small.connect()
    ids = [one.send_request(TopicSubscribe(NS, pattern)) for pattern in ("a", "b.*", ">")]
    ids.append(other.send_request(TopicSubscribe(NS, "a")))
    elsewhere = other.send_request(TopicSubscribe("elsewhere", ">"))
    await turns()
    assert len(small.node.hub) == 2
    publish(small)
    await turns()
    assert [sequences(one, id) for id in ids[:3]] == [[1], [], [1]]
    assert (sequences(other, ids[3]), sequences(other, elsewhere)) == ([1], [])
    one.end()
    other.cancel_stream(elsewhere)
    assert len(small.node.hub) == 1
    other.end()
    assert len(small.node.hub) == 0
    assert serving.feeds(small.node) == {}


async def test_a_subscription_ends_with_its_session(small):
    """A subscription that names a session needs a live one, and ends with it."""
    connection = small.connect()
    with pytest.raises(SessionNotFound):
        connection.ask(TopicSubscribe(NS, "a", session=99))
    id = connection.send_request(TopicSubscribe(NS, "a", session=1))
    await turns()
    small.node.end_session(1)
    assert isinstance(connection.failures[id], SessionNotFound)
    publish(small)
    await turns()
    assert sequences(connection, id) == []
    assert len(small.node.hub) == 0


async def test_lost_history_of_the_hub_is_no_loss(small):
    """When the hub cannot go on, the subscriptions of the namespace read on by themselves."""
    connection = small.connect()
    id = connection.send_request(TopicSubscribe(NS, "a"))
    await turns()
    publish(small)
    await turns()
    feed = serving.feeds(small.node)[NS]
    watcher = feed._watcher
    assert watcher is not None
    small.node.hub.cancel(watcher.sink, watcher.stream)
    publish(small)
    feed._lost(small.node.revision)
    await turns()
    publish(small)
    await turns()
    assert sequences(connection, id) == [1, 2, 3]


async def test_subscribers_are_shown_with_position_and_lag(small):
    """The subscriptions of a member are listed with pattern, peer, positions and lag."""
    connection = small.connect()
    connection.send_request(TopicSubscribe(NS, "a", "earliest", credit=1, name="mailer", session=1))
    connection.send_request(TopicSubscribe(NS, "b.>"))
    for _ in range(3):
        publish(small)
    await turns()
    every = connection.ask(TopicSubscribers(NS)).subscriptions
    assert [one.pattern for one in every] == ["a", "b.>"]
    (mine,) = connection.ask(TopicSubscribers(NS, "a")).subscriptions
    assert (mine.name, mine.session, mine.peer) == ("mailer", 1, "127.0.0.1:5")
    assert (mine.positions, mine.lag) == ({"a": 1}, 2)
    assert connection.ask(TopicSubscribers("elsewhere")).subscriptions == []


async def test_the_future_and_an_unready_member_are_refused(small):
    """A revision still to come is refused, and so is everything without a leader."""
    connection = small.connect()
    with pytest.raises(FutureRevision):
        connection.ask(TopicSubscribe(NS, "a", "revision", 10_000))
    small.node.refusal = NoLeader("nobody leads")
    for body in (TopicSubscribe(NS, "a"), TopicSubscribers(NS)):
        with pytest.raises(NoLeader):
            connection.ask(body)
    assert connection.streams == {}


async def test_a_topic_is_shown_and_read(small):
    """A topic shows what it holds, and messages can be read from any sequence."""
    connection = small.connect()
    for n in range(5):
        publish(small, "a.b", b"%d" % n)
    shown = connection.ask(TopicGet(NS, "a.b"))
    assert (shown.first_sequence, shown.last_sequence, shown.messages) == (1, 5, 5)
    assert [t.topic for t in connection.ask(TopicList(NS, "a.*")).topics] == ["a.b"]
    read = connection.ask(TopicRead(NS, "a.b", 3, 2))
    assert (read.first_sequence, read.last_sequence) == (1, 5)
    assert [(m.sequence, m.payload) for m in read.messages] == [(3, b"2"), (4, b"3")]
    assert len(connection.ask(TopicRead(NS, "a.b", limit=0)).messages) == 5
    connection.ask(TopicDelete(NS, "a.b"))
    for body in (TopicGet(NS, "a.b"), TopicRead(NS, "a.b")):
        with pytest.raises(NotFound):
            connection.ask(body)
    assert connection.ask(TopicList(NS)).topics == []


async def test_a_read_is_bounded_in_bytes(small, monkeypatch):
    """A read gives no further message once it has given its share of bytes."""
    monkeypatch.setattr(api, "READ_BYTES_MAX", 10)
    for _ in range(5):
        publish(small, "a", b"12345")
    assert len(small.connect().ask(TopicRead(NS, "a")).messages) == 2


async def test_the_past_of_a_topic_is_readable(small):
    """A topic and the list of topics can be read as of a past revision."""
    connection = small.connect()
    publish(small)
    publish(small)
    then = small.node.revision
    publish(small, "b")
    connection.ask(TopicDelete(NS, "a"))
    get = connection.send_request(TopicGet(NS, "a", then))
    listed = connection.send_request(TopicList(NS, revision=then))
    await turns()
    assert connection.answers[get][1].messages == 2
    assert [t.topic for t in connection.answers[listed][1].topics] == ["a"]


async def test_a_guarded_publish_needs_the_live_token(small):
    """A publish guarded by a lock passes with its live token only."""
    connection = small.connect()
    token = connection.ask(LockAcquire(NS, "l", 1, "o")).token
    good = Guard("locks", NS, "l", token, 1, "o")
    assert connection.ask(TopicPublish(NS, "a", b"", guard=good)).sequence == 1
    stale = Guard("locks", NS, "l", token - 1, 1, "o")
    with pytest.raises(GuardFailed):
        connection.ask(TopicPublish(NS, "a", b"", guard=stale))


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (TopicPublish(NS, "", b""), "topic"),
        (TopicPublish(NS, "a..b", b""), "topic"),
        (TopicPublish(NS, "a b", b""), "topic"),
        (TopicPublish(NS, "a.*", b""), "topic"),
        (TopicPublish(NS, "a.>", b""), "topic"),
        (TopicPublish(NS, ".".join("a" * 33), b""), "topic"),
        (TopicPublish(NS, "a", b"", {str(n): "" for n in range(65)}), "headers"),
        (TopicPublish(NS, "a", b"", {"k": "x" * 1025}), "headers.k"),
        (TopicCreate(NS, "a", Retention(max_age_ms=1)), "retention.max_age_ms"),
        (TopicCreate(NS, "a", Retention(max_messages=-1)), "retention.max_messages"),
        (TopicSubscribe(NS, ""), "pattern"),
        (TopicSubscribe(NS, "a.>.b"), "pattern"),
        (TopicSubscribe(NS, "a*"), "pattern"),
        (TopicSubscribe(NS, "a", "newest"), "start"),
        (TopicSubscribe(NS, "a", "sequence", 0), "position"),
        (TopicList(NS, "a..b"), "pattern"),
        (TopicSubscribers(NS, "a.*"), "topic"),
        (TopicRead(NS, "a", -1), "first"),
    ],
)
async def test_a_wrong_request_is_refused_before_the_log(small, body, field):
    """A request that can never be right names its field and leaves no entry."""
    connection = small.connect()
    before = small.node.machine.index
    with pytest.raises(InvalidRequest) as refused:
        connection.ask(body)
    assert refused.value.details["field"] == field
    assert small.node.machine.index == before


async def test_every_operation_has_its_route(small):
    """Over HTTP a topic is made, published to, read, listed and deleted."""
    async with small.http() as http:
        path = "/v1/topics/orders.created"
        retention = {"max_age_ms": 0, "max_messages": 2, "max_bytes": 0}
        assert (await http.put(path, json={"retention": retention})).json()["changed"]
        for n in range(3):
            body = {"payload": f"{n}", "headers": {"k": "v"}}
            made = await http.post(f"{path}/messages", json=body)
            assert (made.status_code, made.json()["sequence"]) == (201, n + 1)
        read = (await http.get(f"{path}/messages", params={"first": 3})).json()
        assert [(m["payload"], m["headers"]) for m in read["messages"]] == [("2", {"k": "v"})]
        assert (await http.get(path)).json()["messages"] == 2
        listed = (await http.get("/v1/topics", params={"pattern": "orders.*"})).json()
        assert [one["topic"] for one in listed["topics"]] == ["orders.created"]
        assert (await http.get("/v1/subscriptions")).json() == {"subscriptions": []}
        refused = await http.get("/v1/topics/a.*/subscribe", params={"start": "newest"})
        assert refused.json()["error"]["details"]["field"] == "start"
        assert (await http.delete(path)).json()["changed"]
        assert (await http.get(path)).status_code == 404
    assert model.topics_view(small_view(small), NS, ">") == []


def small_view(small: Small) -> Any:
    from coordinator.api.reading import NowView

    return NowView(small.node.keyspace)
