"""Subscriptions: what was published, in order, without gap or double, or told as gone."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from coordinator.domains.topics import fanout, model, replay
from coordinator_sdk.protocol.codec import JSON, MSGPACK
from coordinator_sdk.protocol.topics import (
    Retention,
    TopicCreate,
    TopicDelete,
    TopicGap,
    TopicMessages,
    TopicReady,
)
from tests.domains.topics.bench import NS, Bench, FakeOutlet


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_latest_begins_with_what_comes(bench):
    """A subscription from the latest gets what is published after its first item says so."""
    bench.publish("a")
    subscription = bench.subscribe("a")
    ready = bench.items(subscription)[0]
    assert ready == TopicReady(bench.machine.published)
    bench.publish("a")
    bench.settle()
    bench.publish("a")
    bench.publish("b")
    bench.settle()
    assert bench.seen(subscription) == [("a", 2), ("a", 3)]


def test_earliest_begins_with_what_is_kept(bench):
    """A subscription from the earliest gets what is kept, and of what is gone no gap."""
    bench.machine.apply(TopicCreate(NS, "a", Retention(0, 2, 0)))
    for _ in range(5):
        bench.publish("a")
    subscription = bench.subscribe("a", start="earliest")
    bench.settle()
    bench.publish("a")
    bench.settle()
    assert bench.seen(subscription) == [("a", 4), ("a", 5), ("a", 6)]
    assert bench.gaps(subscription) == []


def test_a_sequence_begins_there_and_tells_what_is_gone(bench):
    """From a sequence on the first message has it, or a gap tells which one comes first."""
    bench.machine.apply(TopicCreate(NS, "a", Retention(0, 3, 0)))
    for _ in range(5):
        bench.publish("a")
    later = bench.subscribe("a", start="sequence", position=4)
    earlier = bench.subscribe("a", start="sequence", position=1)
    future = bench.subscribe("a", start="sequence", position=7)
    bench.settle()
    bench.publish("a")
    bench.publish("a")
    bench.settle()
    assert [sequence for _, sequence in bench.seen(later)] == [4, 5, 6, 7]
    assert bench.gaps(later) == []
    assert [sequence for _, sequence in bench.seen(earlier)] == [3, 4, 5, 6, 7]
    assert bench.gaps(earlier) == [TopicGap("a", 3, 0)]
    assert [sequence for _, sequence in bench.seen(future)] == [7]


@pytest.mark.parametrize("count", [1, 2, 3, 17, 100])
def test_a_revision_begins_behind_it(bench, count):
    """After a revision every message with a higher one comes, of every topic, and no other."""
    revisions = [bench.publish("a" if n % 3 else "b") for n in range(count)]
    wanted = [revisions[0] - 1, revisions[0], revisions[count // 2], revisions[-1]]
    for revision in wanted:
        subscription = bench.subscribe(">", start="revision", position=revision)
        bench.settle()
        got = [message.revision for message in bench.messages(subscription)]
        assert got == [r for r in revisions if r > revision]
        assert bench.gaps(subscription) == []


def test_a_revision_that_retention_has_passed_is_told(bench):
    """Behind a revision whose next messages are gone comes a gap; otherwise none does."""
    bench.machine.apply(TopicCreate(NS, "a", Retention(0, 2, 0)))
    revisions = [bench.publish("a") for _ in range(5)]
    exact = bench.subscribe("a", start="revision", position=revisions[2])
    late = bench.subscribe("a", start="revision", position=revisions[1])
    bench.machine.apply(TopicDelete(NS, "b"))
    bench.settle()
    assert bench.gaps(exact) == []
    assert bench.gaps(late) == [TopicGap("a", 4, 0)]
    assert [s for _, s in bench.seen(exact)] == [s for _, s in bench.seen(late)] == [4, 5]


def test_a_topic_that_emptied_is_told_after_a_revision(bench):
    """Behind a revision, a topic whose messages are all gone is a gap as well."""
    before = bench.publish("b")
    bench.publish("a")
    bench.machine.apply(TopicDelete(NS, "a"))
    missed = bench.subscribe("a", start="revision", position=before)
    had = bench.subscribe("a", start="revision", position=before + 2)
    bench.settle()
    assert bench.gaps(missed) == [TopicGap("a", 2, 0)]
    assert bench.gaps(had) == []


def test_what_was_seen_wins_over_the_start(bench):
    """A subscription that resumes goes on behind the sequences it names, topic by topic."""
    for _ in range(3):
        bench.publish("a")
        bench.publish("b")
    subscription = bench.subscribe(">", start="earliest", after={"a": 2})
    latest = bench.subscribe(">", after={"a": 2})
    bench.settle()
    assert bench.seen(subscription) == [("b", 1), ("b", 2), ("a", 3), ("b", 3)]
    assert bench.seen(latest) == [("a", 3)]


def test_a_resumed_subscription_is_told_what_went_meanwhile(bench):
    """What retention removed between two connections is told as a gap."""
    bench.machine.apply(TopicCreate(NS, "a", Retention(0, 2, 0)))
    for _ in range(6):
        bench.publish("a")
    subscription = bench.subscribe("a", after={"a": 1})
    bench.settle()
    assert bench.items(subscription)[1] == TopicGap("a", 5, 1)
    assert bench.seen(subscription) == [("a", 5), ("a", 6)]


def test_a_position_beyond_the_end_is_told(bench):
    """A position that the topic never reached is told as a gap, and messages still come."""
    bench.publish("a")
    subscription = bench.subscribe("a", after={"a": 9})
    bench.settle()
    bench.publish("a")
    bench.settle()
    assert bench.gaps(subscription) == [TopicGap("a", 2, 9)]
    assert bench.seen(subscription) == [("a", 2)]


def test_a_deleted_topic_ends_in_a_gap(bench):
    """Messages that a deletion took before they were sent are told as gone."""
    for _ in range(5):
        bench.publish("a")
    subscription = bench.subscribe("a", start="earliest", credit=2)
    bench.settle()
    bench.machine.apply(TopicDelete(NS, "a"))
    subscription.credit(10)
    bench.settle()
    bench.publish("a")
    bench.settle()
    received = [sequence for _, sequence in bench.seen(subscription)]
    told = [
        sequence
        for gap in bench.gaps(subscription)
        for sequence in range(gap.after_sequence + 1, gap.first_sequence)
    ]
    assert sorted(received + told) == [1, 2, 3, 4, 5, 6]


def test_messages_come_in_the_order_of_revisions(bench):
    """Over all topics of a pattern, replayed and live messages are ordered by revision."""
    topics = ["a.x", "b.x", "a.y.z", "c.x"]
    for n in range(40):
        bench.publish(topics[n * 7 % 4])
    subscription = bench.subscribe("*.x", start="earliest")
    for n in range(40):
        bench.publish(topics[n * 3 % 4])
        bench.turn()
    bench.settle()
    messages = bench.messages(subscription)
    revisions = [message.revision for message in messages]
    assert revisions == sorted(set(revisions))
    assert len(messages) == 60
    assert all(message.topic != "a.y.z" for message in messages)


def test_a_turn_is_one_batch_for_all(bench):
    """What one turn publishes is encoded once and sent once per connection, with all ids."""
    other = FakeOutlet()
    for outlet in (bench.outlet, bench.outlet, other):
        bench.subscribe("a", outlet=outlet)
    bench.settle()
    bench.outlet.deliveries.clear()
    other.deliveries.clear()
    for _ in range(10):
        bench.publish("a")
    bench.settle()
    ((ids, value),) = bench.outlet.deliveries
    ((other_ids, other_value),) = other.deliveries
    assert (ids, other_ids) == ([1, 2], [3])
    assert value is other_value


def test_each_codec_gets_its_own_bytes(bench, monkeypatch):
    """Subscriptions in different codecs get the same batch, each in its own."""
    text = FakeOutlet(JSON)
    monkeypatch.setattr(text, "items", None)
    received: list[bytes] = []
    monkeypatch.setattr(text, "deliver", lambda ids, revision, batch: received.append(batch))
    bench.subscribe("a", outlet=text)
    binary = bench.subscribe("a")
    bench.settle()
    bench.publish("a")
    bench.settle()
    decoded = JSON.decode_value(received[-1], TopicMessages)
    assert decoded.messages == bench.messages(binary)
    assert bench.outlet.codec is MSGPACK


def test_large_turns_are_split(bench, monkeypatch):
    """A batch has a bounded number of messages and bytes."""
    monkeypatch.setattr(fanout, "BATCH_MESSAGES_MAX", 4)
    monkeypatch.setattr(fanout, "BATCH_BYTES_MAX", 100)
    subscription = bench.subscribe("a")
    bench.settle()
    for size in [1] * 9 + [60, 60, 200, 1]:
        bench.publish("a", b"x" * size)
    bench.settle()
    sizes = [[len(m.payload) for m in item.messages] for item in bench.items(subscription)[1:]]
    assert sizes == [[1] * 4, [1] * 4, [1, 60], [60], [200], [1]]


def test_credit_is_counted_in_messages(bench):
    """No more messages are sent than credit was given; the rest follows without a gap."""
    subscription = bench.subscribe("a", credit=3)
    bench.settle()
    for _ in range(10):
        bench.publish("a")
        bench.settle()
    assert len(bench.seen(subscription)) == 3
    subscription.credit(2)
    bench.settle()
    assert len(bench.seen(subscription)) == 5
    subscription.credit(100)
    bench.settle()
    bench.publish("a")
    bench.settle()
    assert bench.seen(subscription) == [("a", n) for n in range(1, 12)]
    assert bench.gaps(subscription) == []


def test_a_full_connection_buffers_nothing(bench):
    """While a connection is full nothing is sent to it; then it catches up from the messages."""
    subscription = bench.subscribe("a")
    quick = bench.subscribe("a", outlet=FakeOutlet())
    bench.settle()
    bench.outlet.set_full(True)
    sent = len(bench.outlet.deliveries)
    for _ in range(2000):
        bench.publish("a")
    bench.settle()
    assert len(bench.outlet.deliveries) == sent
    assert len(bench.seen(quick)) == 2000
    bench.outlet.set_full(False)
    bench.settle()
    assert bench.seen(subscription) == bench.seen(quick)


def test_a_subscription_that_ended_gets_nothing(bench):
    """After its end a subscription gets nothing, replaying or live."""
    bench.publish("a")
    replaying = bench.subscribe("a", start="earliest")
    replaying.cancel()
    live = bench.subscribe("a")
    bench.settle()
    live.cancel()
    live.cancel()
    bench.publish("a")
    bench.settle()
    assert len(bench.items(replaying)) == len(bench.items(live)) == 1, "only that it is ready"
    assert bench.fanout.subscriptions == {}


def test_lost_track_loses_nothing(bench):
    """When events may have been missed, every subscription reads on from where it is."""
    subscription = bench.subscribe(">", start="earliest")
    bench.settle()
    bench.publish("a")
    bench.settle()
    bench.publish("a")
    bench.machine.watchers.clear()
    bench.publish("a")
    bench.publish("b")
    bench.fanout.lose_track()
    bench.settle()
    assert bench.seen(subscription) == [("a", 1), ("a", 2), ("a", 3), ("b", 1)]


def test_topics_are_looked_at_in_steps(bench, monkeypatch):
    """A pattern with many topics is prepared in steps, and every message still comes once."""
    monkeypatch.setattr(replay, "TOPICS_PER_STEP", 3)
    monkeypatch.setattr(replay, "READ_AHEAD_TOTAL", 8)
    for n in range(30):
        bench.publish(f"t{n % 10}")
    subscription = bench.subscribe(">", start="earliest")
    for n in range(30):
        bench.turn()
        bench.publish(f"t{n % 15}")
    bench.settle()
    messages = bench.messages(subscription)
    assert len(messages) == 60
    revisions = [message.revision for message in messages]
    assert revisions == sorted(revisions)


def test_position_and_lag_are_visible(bench):
    """A subscription shows its positions, and how many messages it has still to get."""
    for _ in range(5):
        bench.publish("a")
    subscription = bench.subscribe(">", start="earliest", credit=2, name="mailer", session=7)
    live = bench.subscribe(">")
    bench.settle()
    shown = subscription.info(bench.machine)
    assert (shown.positions, shown.lag, shown.name, shown.session) == ({"a": 2}, 3, "mailer", 7)
    assert (live.info(bench.machine).positions, live.info(bench.machine).lag) == ({}, 0)
    bench.publish("b")
    assert live.info(bench.machine).lag == 1
    bench.settle()
    assert (live.info(bench.machine).positions, live.info(bench.machine).lag) == ({"b": 1}, 0)
    assert subscription.info(bench.machine).lag == 4


class Subscriptions(RuleBasedStateMachine):
    """Random publishing, retention, credit, slow connections and reconnects.

    Beside the subscription under test a witness with the same pattern, which takes everything,
    keeps the group alive. Every run ends with a check that nothing is missing.
    """

    topics = st.sampled_from(["a", "a", "b", "a.b"])
    turns = st.sampled_from([0, 0, 1, 3])

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench()
        self.published: list[tuple[str, int, int]] = []
        self.outlet = FakeOutlet()
        self.subscription: Any = None
        self.received: list[tuple[str, int, int]] = []
        self.gone: set[tuple[str, int]] = set()
        self.begin_at = 0

    @initialize(
        pattern=st.sampled_from([">", "a", "*", "a.>"]),
        start=st.sampled_from(["earliest", "latest"]),
        before=st.integers(0, 5),
        credit=st.sampled_from([0, 5, 50]),
    )
    def begin(self, pattern: str, start: str, before: int, credit: int) -> None:
        self.pattern, self.start = pattern, start
        for n in range(before):
            self.publish(["a", "b", "a.b"][n % 3], 1, 0)
        if start == "latest":
            self.begin_at = self.bench.machine.published
        self.position = 0
        self.witness = self.bench.subscribe(pattern, outlet=FakeOutlet())
        self.bench.settle()
        self.connect({}, credit)

    def connect(self, after: dict[str, int], credit: int) -> None:
        self.outlet = FakeOutlet()
        self.subscription = self.bench.subscribe(
            self.pattern,
            outlet=self.outlet,
            start=self.start,
            position=self.position,
            after=after,
            credit=credit,
        )
        if self.start == "latest":
            self.start, self.position = "revision", self.begin_at

    def run_turns(self, count: int) -> None:
        for _ in range(count):
            self.bench.turn()

    @rule(topic=topics, count=st.sampled_from([1, 1, 3, 30]), turns=turns)
    def publish(self, topic: str, count: int, turns: int) -> None:
        for _ in range(count):
            revision = self.bench.publish(topic)
            last = model.last_message(self.bench.machine, NS, topic, 0)
            assert last is not None
            self.published.append((topic, model.sequence_of(last.key), revision))
        self.run_turns(turns)

    @rule(topic=topics, messages=st.sampled_from([0, 1, 2, 10]), turns=turns)
    def set_retention(self, topic: str, messages: int, turns: int) -> None:
        self.bench.machine.apply(TopicCreate(NS, topic, Retention(1000, messages, 0)))
        self.run_turns(turns)

    @rule(topic=topics)
    def delete(self, topic: str) -> None:
        self.bench.machine.apply(TopicDelete(NS, topic))

    @rule(data=st.data())
    def run_a_timer(self, data: st.DataObject) -> None:
        timers = [key for key in sorted(self.bench.machine.timers) if b"forget" not in key]
        if timers:
            self.bench.machine.run_timer(data.draw(st.sampled_from(timers)))

    @rule(amount=st.sampled_from([1, 2, 20]), turns=turns)
    def credit(self, amount: int, turns: int) -> None:
        self.subscription.credit(amount)
        self.run_turns(turns)

    @rule(is_full=st.booleans(), turns=turns)
    def fill(self, is_full: bool, turns: int) -> None:
        self.outlet.set_full(is_full)
        self.run_turns(turns)

    @rule(credit=st.sampled_from([0, 1, 7]), turns=turns)
    def reconnect(self, credit: int, turns: int) -> None:
        self.take_in()
        self.subscription.cancel()
        after: dict[str, int] = {}
        for topic, sequence, _ in self.received:
            after[topic] = sequence
        for topic, sequence in self.gone:
            after[topic] = max(after.get(topic, 0), sequence)
        self.connect(after, credit)
        self.run_turns(turns)

    @rule()
    def lose_track(self) -> None:
        self.bench.fanout.lose_track()

    @rule()
    def catch_up(self) -> None:
        """With credit and room, nothing is missing and the lag is 0."""
        self.outlet.set_full(False)
        self.subscription.credit(100_000)
        self.bench.settle()
        self.take_in()
        seen = {entry[:2] for entry in self.received}
        for topic, sequence, revision in self.published:
            if model.matches(self.pattern, topic) and revision > self.begin_at:
                assert (topic, sequence) in seen or (topic, sequence) in self.told(topic)
        assert self.subscription.info(self.bench.machine).lag == 0

    def told(self, topic: str) -> set[tuple[str, int]]:
        found = {entry for entry in self.gone if entry[0] == topic}
        if self.start == "earliest":
            # What was gone before the subscription saw the topic first is no gap.
            first = min([s for t, s, _ in self.received if t == topic], default=1 << 40)
            found |= {(topic, s) for t, s, _ in self.published if t == topic and s < first}
        return found

    @invariant()
    def take_in(self) -> None:
        items = self.outlet.items.get(self.bench.ids, [])
        for item in items:
            if isinstance(item, TopicMessages):
                assert item.revision == item.messages[-1].revision
                for message in item.messages:
                    entry = (message.topic, message.sequence, message.revision)
                    assert entry in self.published
                    assert message.revision > self.begin_at
                    assert (message.topic, message.sequence) not in self.gone
                    if self.received:
                        assert message.revision > self.received[-1][2], "in order"
                    self.received.append(entry)
            elif isinstance(item, TopicGap):
                gap = range(item.after_sequence + 1, item.first_sequence)
                self.gone |= {(item.topic, sequence) for sequence in gap}
        items.clear()
        assert len({entry[:2] for entry in self.received}) == len(self.received), "no double"

    def teardown(self) -> None:
        if self.subscription is not None:
            self.catch_up()


Subscriptions.TestCase.settings = settings(max_examples=250, stateful_step_count=40)
TestSubscriptions = Subscriptions.TestCase
