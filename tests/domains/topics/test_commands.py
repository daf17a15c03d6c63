"""Topics as the state machine applies them, on a machine in miniature."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from coordinator.domains.topics import commands, model
from coordinator.domains.topics.commands import (
    AGE_TICKS,
    DELETED_KEPT_MS,
    DOMAIN,
    HEADER_BYTES,
    PUBLISH_TRIM_MAX,
    SLICE_MAX,
    SLICE_PAUSE_MS,
)
from coordinator_sdk.errors import GuardFailed
from coordinator_sdk.protocol.kv import Guard
from coordinator_sdk.protocol.topics import (
    Retention,
    TopicCreate,
    TopicDelete,
    TopicInfo,
    TopicPublish,
)
from tests.domains.fake_txn import FakeMachine

NS, TOPIC = "default", "orders.created"
UNLIMITED = Retention(0, 0, 0)


@pytest.fixture
def machine() -> FakeMachine:
    return FakeMachine(DOMAIN)


def create(machine: FakeMachine, **limits: int) -> None:
    values = {"max_age_ms": 0, "max_messages": 0, "max_bytes": 0} | limits
    machine.apply(TopicCreate(NS, TOPIC, Retention(**values)))


def publish(machine: FakeMachine, payload: bytes = b"x", **fields: Any) -> int:
    sequence: int = machine.apply(TopicPublish(NS, TOPIC, payload, **fields)).sequence
    return sequence


def info(machine: FakeMachine) -> TopicInfo:
    (found,) = model.topics_view(machine, NS, TOPIC)
    return found


def sequences(machine: FakeMachine) -> list[int]:
    """Every message that is stored, whether it counts as gone or not."""
    return [model.sequence_of(kv.key) for kv in machine.scan(*model.messages(NS, TOPIC))]


def run(machine: FakeMachine, kind: str) -> None:
    machine.run_timer(model.timer_key(kind, NS, TOPIC))


def run_slices(machine: FakeMachine) -> int:
    count = 0
    while model.timer_key("trim", NS, TOPIC) in machine.timers:
        before = len(machine.keys)
        run(machine, "trim")
        assert before - len(machine.keys) <= SLICE_MAX
        count += 1
    return count


def test_publishing_creates_the_topic(machine):
    """Publishing to an unknown topic creates it with the default retention."""
    assert publish(machine) == 1
    assert publish(machine) == 2
    found = info(machine)
    assert found.retention == Retention()
    assert (found.first_sequence, found.last_sequence, found.messages) == (1, 2, 2)
    assert found.created_ms == 1_000_000


def test_a_message_is_written_once(machine):
    """Publishing to a topic writes the message's key and nothing else."""
    publish(machine)
    publish(machine, b"payload", headers={"k": "v"})
    (event,) = machine.log[machine.published]
    shown = model.message_view(TOPIC, event.kv)
    assert (shown.sequence, shown.payload, shown.headers) == (2, b"payload", {"k": "v"})
    assert (shown.revision, shown.timestamp_ms) == (machine.published, 1_000_000)


def test_bytes_are_counted(machine):
    """A topic's bytes are those of the payloads and headers it holds, plus a fixed part."""
    create(machine)
    publish(machine, b"12345", headers={"ab": "cde"})
    publish(machine, b"123")
    assert info(machine).bytes == 5 + 5 + 3 + 2 * HEADER_BYTES


def test_the_number_of_messages_is_bounded(machine):
    """With a limit of messages the oldest goes as a new one comes."""
    create(machine, max_messages=3)
    for _ in range(10):
        publish(machine)
    assert sequences(machine) == [8, 9, 10]
    assert info(machine).messages == 3


def test_the_bytes_are_bounded(machine):
    """With a limit of bytes the oldest go as new ones come; the newest always stays."""
    create(machine, max_bytes=10 * (HEADER_BYTES + 1))
    for _ in range(30):
        publish(machine)
    assert info(machine).messages == 10
    publish(machine, b"x" * 1000)
    run_slices(machine)
    assert sequences(machine) == [31]


def test_a_publish_deletes_a_few_messages_at_most(machine):
    """A message that pushes out many leaves the rest to slices on a timer, started once."""
    create(machine, max_bytes=500 * (HEADER_BYTES + 1))
    for _ in range(500):
        publish(machine)
    publish(machine, b"x" * 400 * (HEADER_BYTES + 1))
    assert len(machine.log[machine.published]) == 1 + PUBLISH_TRIM_MAX + 1
    timer = model.timer_key("trim", NS, TOPIC)
    assert machine.timers[timer] == SLICE_PAUSE_MS
    machine.timers[timer] = 1
    publish(machine)
    assert machine.timers[timer] == 1, "a publish does not put the timer off"
    assert run_slices(machine) == 4
    assert info(machine).bytes <= 500 * (HEADER_BYTES + 1)
    assert info(machine).first_sequence == sequences(machine)[0]


def test_a_lower_limit_takes_effect_in_slices(machine):
    """Lowering a limit deletes a slice at once and the rest on the timer."""
    create(machine)
    for _ in range(3 * SLICE_MAX):
        publish(machine)
    create(machine, max_messages=5)
    assert len(sequences(machine)) == 2 * SLICE_MAX
    run_slices(machine)
    assert sequences(machine) == list(range(3 * SLICE_MAX - 4, 3 * SLICE_MAX + 1))
    assert machine.timers == {}


def test_creating_again_changes_only_the_retention(machine):
    """Creating a topic that exists changes its retention, or nothing."""
    create(machine, max_messages=3)
    publish(machine)
    before = machine.published
    assert not machine.apply(TopicCreate(NS, TOPIC)).changed
    assert not machine.apply(TopicCreate(NS, TOPIC, Retention(0, 3, 0))).changed
    assert machine.published == before
    assert machine.apply(TopicCreate(NS, TOPIC, UNLIMITED)).changed
    assert (info(machine).retention, info(machine).messages) == (UNLIMITED, 1)


def test_messages_go_by_age_on_ticks(machine):
    """A message goes after at least the maximum age and at most one tick more."""
    create(machine, max_age_ms=8000)
    age = model.timer_key("age", NS, TOPIC)
    assert age not in machine.timers, "an empty topic does not tick"
    publish(machine)
    assert machine.timers[age] == 1000
    for _ in range(AGE_TICKS):
        run(machine, "age")
    assert sequences(machine) == [1]
    publish(machine)
    run(machine, "age")
    assert sequences(machine) == [2]
    for _ in range(AGE_TICKS):
        assert sequences(machine) == [2]
        run(machine, "age")
    assert sequences(machine) == []
    assert machine.timers == {}, "an empty topic does not tick"
    assert publish(machine) == 3, "sequences go on"


def test_age_ignores_the_clock(machine):
    """A clock that jumps ages no message."""
    create(machine, max_age_ms=8000)
    publish(machine)
    machine.meta.clock_ms += 1_000_000_000
    run(machine, "age")
    publish(machine)
    assert sequences(machine) == [1, 2]


def test_many_messages_that_age_together_go_in_slices(machine):
    """Aged messages count as gone at once and are deleted in slices."""
    create(machine, max_age_ms=8000)
    for _ in range(250):
        publish(machine)
    for _ in range(AGE_TICKS + 1):
        run(machine, "age")
    assert info(machine).messages == 0
    assert len(sequences(machine)) == 250 - SLICE_MAX
    assert publish(machine) == 251
    assert info(machine).bytes == HEADER_BYTES + 1
    run_slices(machine)
    assert sequences(machine) == [251]


def test_another_maximum_age_starts_aging_anew(machine):
    """Setting or clearing the maximum age starts or stops the ticks."""
    create(machine)
    publish(machine)
    assert machine.timers == {}
    create(machine, max_age_ms=80_000)
    assert machine.timers == {model.timer_key("age", NS, TOPIC): 10_000}
    run(machine, "age")
    create(machine, max_age_ms=1500)
    for _ in range(2):
        run(machine, "age")
        assert sequences(machine) == [1]
    run(machine, "age")
    assert sequences(machine) == []
    publish(machine)
    create(machine)
    assert machine.timers == {}


def test_deleting_a_topic_takes_all_messages_in_slices(machine):
    """A deleted topic is gone at once; its messages follow in slices."""
    create(machine, max_age_ms=8000)
    for _ in range(250):
        publish(machine)
    assert machine.apply(TopicDelete(NS, TOPIC)).changed
    assert model.topics_view(machine, NS, ">") == []
    assert not machine.apply(TopicDelete(NS, TOPIC)).changed
    run_slices(machine)
    assert sequences(machine) == []
    assert list(machine.timers.values()) == [DELETED_KEPT_MS]


def test_a_topic_created_again_goes_on_with_its_sequences(machine):
    """A topic that is created again after it was deleted does not repeat a sequence."""
    create(machine)
    for _ in range(150):
        publish(machine)
    machine.apply(TopicDelete(NS, TOPIC))
    assert publish(machine) == 151
    assert info(machine).messages == 1
    assert info(machine).retention == Retention()
    run_slices(machine)
    assert sequences(machine) == [151]
    assert set(machine.timers) == {model.timer_key("age", NS, TOPIC)}


def test_a_deleted_topic_is_forgotten_in_the_end(machine):
    """The memory of a deleted topic goes once its time is over and its messages are gone."""
    create(machine)
    for _ in range(150):
        publish(machine)
    machine.apply(TopicDelete(NS, TOPIC))
    run(machine, "forget")
    assert machine.get(model.topic_key(NS, TOPIC)) is not None, "messages are still there"
    run_slices(machine)
    run(machine, "forget")
    assert (machine.keys, machine.timers) == ([model.floor_key(NS)], {})
    assert publish(machine) == 151, "but none of its sequences is used again"


def test_a_message_tells_the_revision_before(machine):
    """Each message knows the revision of the one before it, even if that is gone."""
    create(machine, max_age_ms=8000)
    publish(machine)
    first = machine.published
    publish(machine)
    second = machine.published

    def before() -> int:
        last = model.last_message(machine, NS, TOPIC, 0)
        assert last is not None
        return model.decode_head(last.value).revision_before

    assert before() == first
    for _ in range(AGE_TICKS + 1):
        run(machine, "age")
    assert publish(machine) == 3
    assert before() == second
    machine.apply(TopicDelete(NS, TOPIC))
    third = machine.published - 1
    publish(machine)
    assert before() == third


def test_a_late_timer_of_a_forgotten_topic_does_nothing(machine):
    """A timer whose topic is gone changes nothing."""
    commands.on_timer(machine, model.timer_key("age", NS, TOPIC))
    assert machine.keys == []


def test_a_guard_is_checked(machine):
    """A guarded publish is refused while the lock is not held by who says so."""
    with pytest.raises(GuardFailed):
        publish(machine, guard=Guard("locks", NS, "l", 5, 1, "o"))
    assert machine.keys == []


class Topic(RuleBasedStateMachine):
    """A topic against a list of sequences with sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.machine = FakeMachine(DOMAIN)
        self.published: list[int] = []
        self.retention: Retention | None = None
        self.sizes: dict[int, int] = {}

    @rule(
        messages=st.sampled_from([0, 1, 3, 20]),
        size=st.sampled_from([0, 100, 2000]),
        age=st.sampled_from([0, 3000]),
    )
    def create(self, messages: int, size: int, age: int) -> None:
        self.retention = Retention(age, messages, size)
        self.machine.apply(TopicCreate(NS, TOPIC, self.retention))

    @rule(count=st.sampled_from([1, 2, 120]), size=st.integers(0, 300))
    def publish(self, count: int, size: int) -> None:
        for _ in range(count):
            sequence = publish(self.machine, b"x" * size)
            self.published.append(sequence)
            self.sizes[sequence] = HEADER_BYTES + size
        if self.retention is None:
            self.retention = Retention()

    @rule(data=st.data())
    def run_a_timer(self, data: st.DataObject) -> None:
        timers = [key for key in sorted(self.machine.timers) if b"forget" not in key]
        if timers:
            self.machine.run_timer(data.draw(st.sampled_from(timers)))

    @rule()
    def run_all_slices(self) -> None:
        run_slices(self.machine)
        if self.retention is None:
            return
        found = info(self.machine)
        if self.retention.max_messages:
            assert found.messages <= self.retention.max_messages
        if self.retention.max_bytes and found.messages > 1:
            assert found.bytes <= self.retention.max_bytes

    @rule()
    def delete(self) -> None:
        self.machine.apply(TopicDelete(NS, TOPIC))
        self.retention = None

    @invariant()
    def sequences_have_no_gap_and_no_double(self) -> None:
        assert self.published == list(range(1, len(self.published) + 1))
        stored = sequences(self.machine)
        assert stored == list(range(stored[0], stored[0] + len(stored))) if stored else True

    @invariant()
    def the_view_is_what_is_stored(self) -> None:
        if self.retention is None:
            assert model.topics_view(self.machine, NS, TOPIC) == []
            return
        found = info(self.machine)
        assert found.last_sequence == len(self.published)
        alive = [s for s in sequences(self.machine) if s >= found.first_sequence]
        assert found.messages == len(alive)
        assert found.bytes == sum(self.sizes[sequence] for sequence in alive)
        assert not alive or alive[0] == found.first_sequence

    @invariant()
    def a_topic_with_messages_ages(self) -> None:
        ticking = model.timer_key("age", NS, TOPIC) in self.machine.timers
        wanted = self.retention is not None and self.retention.max_age_ms > 0
        assert ticking == (wanted and info(self.machine).messages > 0)


Topic.TestCase.settings = settings(max_examples=25, stateful_step_count=30)
TestTopic = Topic.TestCase
