"""Names, patterns and ranges of topics."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.domains.topics import model
from coordinator.domains.topics.commands import DOMAIN
from coordinator_sdk.protocol.topics import TopicCreate, TopicPublish
from tests.domains.fake_txn import FakeMachine

NS = "default"
tokens = st.sampled_from(["a", "b", "ab"])
topic_names = st.lists(tokens, min_size=1, max_size=4).map(".".join)
patterns = st.lists(st.sampled_from(["a", "b", "*"]), max_size=3).flatmap(
    lambda head: st.sampled_from([[*head, ">"], [*head, "a"], [*head, "*"]]).map(".".join)
)


@pytest.mark.parametrize(
    ("pattern", "topic", "matching"),
    [
        ("a.b", "a.b", True),
        ("a.b", "a.b.c", False),
        ("a.*", "a.b", True),
        ("a.*", "a", False),
        ("a.*", "a.b.c", False),
        ("*.b", "a.b", True),
        ("a.>", "a.b.c", True),
        ("a.>", "a", False),
        (">", "a", True),
        ("*.*.>", "a.b", False),
        ("*.*.>", "a.b.c", True),
        ("a.*.c", "a.b.c", True),
        ("a.*.c", "a.b.d", False),
    ],
)
def test_wildcards_stand_for_tokens(pattern, topic, matching):
    """`*` is exactly one token, `>` one or more at the end, all else itself."""
    assert model.matches(pattern, topic) is matching


@given(topics=st.sets(topic_names, max_size=8), pattern=patterns)
def test_the_range_of_a_pattern_misses_no_topic(topics, pattern):
    """Listing a pattern gives exactly the topics that match it."""
    machine = FakeMachine(DOMAIN)
    for topic in sorted(topics):
        machine.apply(TopicCreate(NS, topic))
        machine.apply(TopicCreate("other", topic + ".x"))
    found = [topic for topic, _ in model.live_topics(machine, NS, pattern)]
    assert sorted(found) == sorted(t for t in topics if model.matches(pattern, t))


def test_messages_of_other_topics_are_outside_the_range():
    """The range of a topic's messages holds those of no other topic."""
    machine = FakeMachine(DOMAIN)
    for topic in ("a", "a.b", "ab", "a.b.c"):
        machine.apply(TopicPublish(NS, topic, topic.encode()))
    for topic in ("a", "a.b", "ab"):
        (record,) = machine.scan(*model.messages(NS, topic))
        assert model.message_view(topic, record).payload == topic.encode()
        assert model.topic_of(record.key) == topic
    assert machine.count(*model.every_message(NS)) == 4


def test_a_range_begins_at_a_sequence():
    """The messages from a sequence on begin with that sequence."""
    machine = FakeMachine(DOMAIN)
    for _ in range(5):
        machine.apply(TopicPublish(NS, "a", b""))
    found = machine.scan(*model.messages(NS, "a", 4))
    assert [model.sequence_of(record.key) for record in found] == [4, 5]
