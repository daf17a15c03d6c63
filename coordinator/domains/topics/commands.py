"""What changes topics, as the state machine applies it. Pure.

Retention deletes in bounded slices. Publishing deletes a few messages beyond the limits, so
that it keeps up with itself; what it cannot keep up with, and what a deleted topic leaves
behind, goes slice by slice on the timer ``trim``.

Age never looks at a clock. While a topic holds messages the timer ``age`` ticks
`AGE_TICKS` times per maximum age, and each tick notes the last sequence. What was noted
that many ticks ago is older than the maximum age, whatever clocks say, and at most one tick
older, plus one tick for each change of leader, which starts the running tick anew.
"""

from __future__ import annotations

from typing import Any

from coordinator.domains.topics import model
from coordinator.domains.topics.model import MessageRecord, TopicRecord
from coordinator.replica.domain import Domain, DomainTxn
from coordinator.replica.permission import Place, Records, Rule, allowed, empty_means_all, listing
from coordinator.replica.tickets import check_guard
from coordinator.wire import systemkey
from coordinator_sdk.protocol.topics import (
    Retention,
    TopicCreate,
    TopicDelete,
    TopicGet,
    TopicList,
    TopicPublish,
    TopicPublishResult,
    TopicRead,
    TopicResult,
    TopicSubscribe,
    TopicSubscribers,
)

AGE_TICKS = 8
AGE_TICK_MIN_MS = 1000
PUBLISH_TRIM_MAX = 4
"""Messages that one publish deletes at most; more than one, so that it catches up."""
SLICE_MAX = 100
"""Messages that one other entry deletes at most."""
SLICE_PAUSE_MS = 5
DELETED_KEPT_MS = 86_400_000
"""How long a deleted topic's last sequence is remembered."""
HEADER_BYTES = 16
"""What a message counts for the limit in bytes beside payload and headers."""


def apply_create(txn: DomainTxn, command: TopicCreate) -> TopicResult:
    """Create a topic, or change the retention of one that exists."""
    namespace, topic = command.namespace, command.topic
    record = _read(txn, namespace, topic)
    if record is None or record.is_deleted:
        record = _new(txn, namespace, topic, record, command.retention or Retention())
        _write(txn, namespace, topic, record)
        return TopicResult(txn.revision)
    if command.retention is None or command.retention == record.retention:
        return TopicResult(txn.revision - 1, changed=False)
    old, record.retention = record.retention, command.retention
    if old.max_age_ms != record.retention.max_age_ms:
        record.marks = []
        _start_aging(txn, namespace, topic, record)
    _trim(txn, namespace, topic, record)
    _write(txn, namespace, topic, record)
    return TopicResult(txn.revision)


def apply_delete(txn: DomainTxn, command: TopicDelete) -> TopicResult:
    """Delete a topic. Its messages count as gone at once; they go in slices."""
    namespace, topic = command.namespace, command.topic
    record = _read(txn, namespace, topic)
    if record is None or record.is_deleted:
        return TopicResult(txn.revision - 1, changed=False)
    record.is_deleted = True
    record.marks = []
    _drop_up_to(txn, namespace, topic, record, sequence=None)
    txn.cancel_timer(model.timer_key("age", namespace, topic))
    _write(txn, namespace, topic, record)
    txn.set_timer(model.timer_key("forget", namespace, topic), DELETED_KEPT_MS)
    return TopicResult(txn.revision)


def apply_publish(txn: DomainTxn, command: TopicPublish) -> TopicPublishResult:
    """Append a message; an unknown topic is created with the default retention.

    Raises:
        GuardFailed: The guard's token is not the live one.
    """
    if command.guard is not None:
        check_guard(txn, command.guard)
    namespace, topic = command.namespace, command.topic
    record = _read(txn, namespace, topic)
    if record is None or record.is_deleted:
        record = _new(txn, namespace, topic, record, Retention())
        _write(txn, namespace, topic, record)
    last = model.last_message(txn, namespace, topic, record.first_sequence)
    if last is None:
        sequence, before, revision = record.first_sequence, 0, record.last_revision
    else:
        sequence, revision = model.sequence_of(last.key) + 1, last.mod_revision
        before = model.decode_head(last.value).cumulative
    cumulative = before + message_bytes(command)
    message = MessageRecord(
        txn.meta.clock_ms, cumulative, before, revision, command.payload, command.headers
    )
    txn.put(model.message_key(namespace, topic, sequence), model.encode(message))
    if last is None:
        _start_aging(txn, namespace, topic, record)
    else:
        _keep_up(txn, namespace, topic, record, sequence, cumulative)
    return TopicPublishResult(txn.revision, sequence)


def message_bytes(command: TopicPublish) -> int:
    """Give what a message counts for the limit in bytes."""
    headers = sum([len(name) + len(value) for name, value in command.headers.items()])
    return HEADER_BYTES + len(command.payload) + headers


def on_timer(txn: DomainTxn, key: bytes) -> None:
    """A tick of the age of messages, the next slice, or the end of a deleted topic's memory."""
    namespace, _, kind, topic = map(str, systemkey.unpack(key))
    record = _read(txn, namespace, topic)
    if record is None:
        return
    if kind == "age":
        _tick(txn, namespace, topic, record)
    elif kind == "trim":
        _trim(txn, namespace, topic, record)
        _write(txn, namespace, topic, record)
    elif kind == "forget" and record.is_deleted:
        if record.is_trimming:
            txn.set_timer(key, DELETED_KEPT_MS)
        else:
            _forget(txn, namespace, topic, record)


def _read(txn: DomainTxn, namespace: str, topic: str) -> TopicRecord | None:
    record = txn.get(model.topic_key(namespace, topic))
    return None if record is None else model.decode_topic(record.value)


def _write(txn: DomainTxn, namespace: str, topic: str, record: TopicRecord) -> None:
    """Write a topic's record if it differs."""
    key, value = model.topic_key(namespace, topic), model.encode(record)
    old = txn.get(key)
    if old is None or old.value != value:
        txn.put(key, value)


def _new(
    txn: DomainTxn, namespace: str, topic: str, old: TopicRecord | None, retention: Retention
) -> TopicRecord:
    """Make a topic; one that was deleted goes on where it ended."""
    record = TopicRecord(retention, txn.meta.clock_ms)
    if old is not None:
        record.first_sequence, record.last_revision = old.first_sequence, old.last_revision
        record.is_trimming = old.is_trimming
        txn.cancel_timer(model.timer_key("forget", namespace, topic))
    elif (floor := txn.get(model.floor_key(namespace))) is not None:
        record.first_sequence = model.decode_floor(floor.value) + 1
    return record


def _forget(txn: DomainTxn, namespace: str, topic: str, record: TopicRecord) -> None:
    """Forget a deleted topic; should it be created again, it begins above what it has used."""
    txn.delete(model.topic_key(namespace, topic))
    key, used = model.floor_key(namespace), record.first_sequence - 1
    floor = txn.get(key)
    if used > (0 if floor is None else model.decode_floor(floor.value)):
        txn.put(key, model.encode(used))


def _drop_up_to(
    txn: DomainTxn, namespace: str, topic: str, record: TopicRecord, sequence: int | None
) -> None:
    """Let messages count as gone up to a sequence, or all of them, and delete a slice."""
    last = model.last_message(txn, namespace, topic, record.first_sequence)
    if last is not None:
        end = model.sequence_of(last.key)
        record.first_sequence = (end if sequence is None else min(sequence, end)) + 1
        if record.first_sequence > end:
            record.last_revision = last.mod_revision
    _trim(txn, namespace, topic, record)


# ---------------------------------------------------------------- age


def _tick_ms(retention: Retention) -> int:
    return max(retention.max_age_ms // AGE_TICKS, AGE_TICK_MIN_MS)


def _start_aging(txn: DomainTxn, namespace: str, topic: str, record: TopicRecord) -> None:
    """Start the ticks, of a topic that has got its first message or another maximum age."""
    key = model.timer_key("age", namespace, topic)
    if record.retention.max_age_ms <= 0:
        txn.cancel_timer(key)
    elif model.first_message(txn, namespace, topic, record.first_sequence) is not None:
        txn.set_timer(key, _tick_ms(record.retention))


def _tick(txn: DomainTxn, namespace: str, topic: str, record: TopicRecord) -> None:
    _, last = model.bounds(txn, namespace, topic, record)
    tick_ms = _tick_ms(record.retention)
    record.marks.append(last)
    if len(record.marks) > -(-record.retention.max_age_ms // tick_ms):
        aged = record.marks.pop(0)
        if aged >= record.first_sequence:
            _drop_up_to(txn, namespace, topic, record, aged)
    if last < record.first_sequence:
        record.marks = []
    else:
        txn.set_timer(model.timer_key("age", namespace, topic), tick_ms)
    _write(txn, namespace, topic, record)


# ---------------------------------------------------------------- slices


def _keep_up(
    txn: DomainTxn, namespace: str, topic: str, record: TopicRecord, sequence: int, cumulative: int
) -> None:
    """Delete what one more message pushes out, up to `PUBLISH_TRIM_MAX` messages."""
    retention = record.retention
    oldest = model.first_message(txn, namespace, topic, 0)
    deleted = 0
    while oldest is not None and _is_over(record, oldest.key, oldest.value, sequence, cumulative):
        if deleted == PUBLISH_TRIM_MAX:
            _start_trimming(txn, namespace, topic, record, retention)
            return
        txn.delete(oldest.key)
        deleted += 1
        oldest = model.first_message(txn, namespace, topic, 0)


def _start_trimming(
    txn: DomainTxn, namespace: str, topic: str, record: TopicRecord, retention: Retention
) -> None:
    if not record.is_trimming:
        record.is_trimming = True
        txn.set_timer(model.timer_key("trim", namespace, topic), SLICE_PAUSE_MS)
        _write(txn, namespace, topic, record)


def _is_over(record: TopicRecord, key: bytes, value: bytes, last: int, cumulative: int) -> bool:
    """Tell whether a message is to go: it is gone already, or beyond a limit.

    The newest message is never beyond a limit.
    """
    sequence, retention = model.sequence_of(key), record.retention
    if sequence < record.first_sequence:
        return True
    if sequence == last:
        return False
    if retention.max_messages and last - sequence >= retention.max_messages:
        return True
    if not retention.max_bytes:
        return False
    return cumulative - model.decode_head(value).bytes_before > retention.max_bytes


def _trim(txn: DomainTxn, namespace: str, topic: str, record: TopicRecord) -> None:
    """Delete a slice of what is to go, and have the timer come back if there is more.

    Changes ``first_sequence`` and ``is_trimming`` of the record; the caller writes it.
    """
    newest = model.last_message(txn, namespace, topic, record.first_sequence)
    last = record.first_sequence - 1 if newest is None else model.sequence_of(newest.key)
    cumulative = 0 if newest is None else model.decode_head(newest.value).cumulative
    oldest = txn.scan(*model.messages(namespace, topic), limit=SLICE_MAX + 1)
    over = 0
    while over < len(oldest) and _is_over(
        record, oldest[over].key, oldest[over].value, last, cumulative
    ):
        over += 1
    for message in oldest[:SLICE_MAX][:over]:
        txn.delete(message.key)
    if over:
        gone = model.sequence_of(oldest[min(over, SLICE_MAX) - 1].key)
        record.first_sequence = max(record.first_sequence, gone + 1)
    record.is_trimming = over > SLICE_MAX
    key = model.timer_key("trim", namespace, topic)
    if record.is_trimming:
        txn.set_timer(key, SLICE_PAUSE_MS)
    else:
        txn.cancel_timer(key)


def pattern_prefix(pattern: str) -> tuple[str, bool]:
    """Give what all topics begin with that a pattern may stand for, and whether it is one."""
    for position, token in enumerate(tokens := pattern.split(".")):
        if token in ("*", ">"):
            return "".join(f"{one}." for one in tokens[:position]), True
    return pattern, False


def _session(records: Records, request: TopicSubscribe) -> list[int]:
    return [request.session] if request.session else []


_TOPIC = Place("topic")

RULES: dict[type[Any], Rule] = {
    TopicCreate: allowed("topic:operate", at=_TOPIC),
    TopicDelete: allowed("topic:operate", at=_TOPIC),
    TopicPublish: allowed("topic:publish", at=_TOPIC, guarded=True),
    TopicSubscribe: allowed(
        "topic:subscribe", at=Place("pattern", prefix_of=pattern_prefix), owners=_session
    ),
    TopicGet: allowed("topic:subscribe", "topic:operate", at=_TOPIC),
    TopicList: listing("topic:subscribe", "topics", "topic"),
    TopicRead: allowed("topic:subscribe", at=_TOPIC),
    TopicSubscribers: allowed("topic:operate", at=Place("topic", prefix_of=empty_means_all)),
}

DOMAIN = Domain(
    model.DOMAIN,
    commands={
        TopicCreate: apply_create,
        TopicDelete: apply_delete,
        TopicPublish: apply_publish,
    },
    on_timer=on_timer,
    consuming=(TopicCreate, TopicPublish),
    rules=RULES,
)
