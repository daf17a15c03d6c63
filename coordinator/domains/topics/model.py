"""Topics and messages as they lie in the keyspace, and as the API shows them. Pure.

=============================================  ===========================================
``(ns, topics, topic, name)``                  the topic: retention and where it begins
``(ns, topics, message, name, sequence)``      a message, written once
``(ns, topics, floor)``                        the highest sequence of forgotten topics
``(ns, topics, age|trim|forget, name)``        keys of timers; no records
=============================================  ===========================================

Invariants:

- Messages below the topic's ``first_sequence`` count as gone, even while slices that delete
  them are still to come; the others have sequences without a gap.
- The next sequence is that of the last message plus one, or ``first_sequence`` if there is
  none. What deletes the last message sets ``first_sequence`` behind it, a deleted topic keeps
  its record for a while, and when that is forgotten its last sequence goes into the floor,
  above which new topics begin: no topic uses a sequence twice.
- Each message tells the revision of the one before it, and a topic without messages that of
  its last one, so that it can be told whether messages after a revision are gone.
- Each message carries the bytes of all messages up to and including itself, so that what is
  retained is a difference of two records.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Protocol

import msgspec
from msgspec import Struct

from coordinator.wire import systemkey
from coordinator_sdk.protocol.kv import KeyValue
from coordinator_sdk.protocol.topics import Retention, TopicInfo, TopicMessage

DOMAIN = "topics"


class TopicRecord(Struct, array_like=True):
    """A topic.

    Attributes:
        retention: What it keeps.
        created_ms: When it was created, by the cluster's clock.
        first_sequence: Messages below are gone.
        last_revision: Revision of the last message, if there is none any more.
        marks: For the age of messages: the last sequence at each of the latest ticks.
        is_trimming: Whether a timer for the next slice of deletions runs.
        is_deleted: Whether this is only the memory of where a deleted topic ended.
    """

    retention: Retention
    created_ms: int
    first_sequence: int = 1
    last_revision: int = 0
    marks: list[int] = []
    is_trimming: bool = False
    is_deleted: bool = False


class MessageRecord(Struct, array_like=True, gc=False):
    """A message.

    Attributes:
        timestamp_ms: When it was published, by the cluster's clock.
        cumulative: Bytes of all messages up to and including this one.
        bytes_before: ``cumulative`` of the message before it.
        revision_before: Revision of the message before it, 0 for the first one ever.
        payload: What was published.
        headers: Beside it.
    """

    timestamp_ms: int
    cumulative: int
    bytes_before: int
    revision_before: int
    payload: bytes
    headers: dict[str, str]


class MessageHead(Struct, array_like=True, gc=False):
    """The numbers of a message, read without its payload."""

    timestamp_ms: int
    cumulative: int
    bytes_before: int
    revision_before: int


encode = msgspec.msgpack.Encoder().encode
decode_topic = msgspec.msgpack.Decoder(TopicRecord).decode
decode_message = msgspec.msgpack.Decoder(MessageRecord).decode
decode_head = msgspec.msgpack.Decoder(MessageHead).decode
decode_floor = msgspec.msgpack.Decoder(int).decode


class Records(Protocol):
    """The system keyspace at one revision."""

    def get(self, key: bytes) -> KeyValue | None:
        """Read one record."""

    def scan(
        self, start: bytes, end: bytes, limit: int = 1, reverse: bool = False
    ) -> list[KeyValue]:
        """Read the records with start <= key < end."""


# ---------------------------------------------------------------- keys


@lru_cache(maxsize=4096)
def topic_key(namespace: str, topic: str) -> bytes:
    """Give the key of a topic."""
    return systemkey.pack(namespace, DOMAIN, "topic", topic)


@lru_cache(maxsize=4096)
def _messages(namespace: str, topic: str) -> tuple[bytes, bytes]:
    return systemkey.children(namespace, DOMAIN, "message", topic)


def message_key(namespace: str, topic: str, sequence: int) -> bytes:
    """Give the key of a message."""
    return _messages(namespace, topic)[0] + systemkey.pack(sequence)


def floor_key(namespace: str) -> bytes:
    """Give the key of the highest sequence that a forgotten topic has used."""
    return systemkey.pack(namespace, DOMAIN, "floor")


def timer_key(kind: str, namespace: str, topic: str) -> bytes:
    """Give the key of one of a topic's timers: ``age``, ``trim`` or ``forget``."""
    return systemkey.pack(namespace, DOMAIN, kind, topic)


def messages(namespace: str, topic: str, first: int = 0) -> tuple[bytes, bytes]:
    """Give the range of a topic's messages from a sequence on."""
    start, end = _messages(namespace, topic)
    return (start + systemkey.pack(first) if first else start), end


def every_message(namespace: str) -> tuple[bytes, bytes]:
    """Give the range of all messages of a namespace."""
    return systemkey.children(namespace, DOMAIN, "message")


def topics(namespace: str, pattern: str = ">") -> tuple[bytes, bytes]:
    """Give a range of topics that holds all those that match a pattern."""
    literal = ""
    for token in pattern.split("."):
        if token in ("*", ">"):
            return systemkey.text_prefix(namespace, DOMAIN, "topic", prefix=literal)
        literal += token + "."
    key = topic_key(namespace, pattern)
    return key, key + b"\0"


def sequence_of(key: bytes) -> int:
    """Give the sequence of the message with this key."""
    return int.from_bytes(key[-8:], "big")


def topic_of(key: bytes) -> str:
    """Give the topic that a record of a topic or message belongs to."""
    return str(systemkey.unpack(key)[3])


# ---------------------------------------------------------------- patterns


def is_wildcard(pattern: str) -> bool:
    """Tell whether a pattern may match more than the topic of the same name."""
    return "*" in pattern or ">" in pattern


def matches(pattern: str, topic: str) -> bool:
    """Tell whether a topic matches: ``*`` is one token, ``>`` at the end one or more."""
    wanted, tokens = pattern.split("."), topic.split(".")
    if wanted[-1] == ">":
        wanted.pop()
        if len(tokens) <= len(wanted):
            return False
        tokens = tokens[: len(wanted)]
    return len(wanted) == len(tokens) and all(
        want in ("*", token) for want, token in zip(wanted, tokens, strict=True)
    )


# ---------------------------------------------------------------- views


def first_message(records: Records, namespace: str, topic: str, first: int) -> KeyValue | None:
    """Give the oldest message from sequence ``first`` on."""
    found = records.scan(*messages(namespace, topic, first), limit=1)
    return found[0] if found else None


def last_message(records: Records, namespace: str, topic: str, first: int) -> KeyValue | None:
    """Give the newest message, if its sequence is at least ``first``."""
    found = records.scan(*messages(namespace, topic, first), limit=1, reverse=True)
    return found[0] if found else None


def retained(first: KeyValue, last: KeyValue) -> tuple[int, int]:
    """Give number and bytes of the messages from ``first`` to ``last``."""
    count = sequence_of(last.key) - sequence_of(first.key) + 1
    size = decode_head(last.value).cumulative - decode_head(first.value).bytes_before
    return count, size


def message_view(topic: str, record: KeyValue) -> TopicMessage:
    """Show a message."""
    message = decode_message(record.value)
    return TopicMessage(
        topic,
        sequence_of(record.key),
        record.mod_revision,
        message.timestamp_ms,
        message.payload,
        message.headers,
    )


def bounds(records: Records, namespace: str, topic: str, record: TopicRecord) -> tuple[int, int]:
    """Give the first sequence that can be read and the last one that was published."""
    first = first_message(records, namespace, topic, record.first_sequence)
    if first is None:
        return record.first_sequence, record.first_sequence - 1
    last = last_message(records, namespace, topic, record.first_sequence)
    assert last is not None
    return sequence_of(first.key), sequence_of(last.key)


def topic_view(records: Records, namespace: str, topic: str, record: TopicRecord) -> TopicInfo:
    """Show a topic."""
    shown = TopicInfo(namespace, topic, record.retention, created_ms=record.created_ms)
    first = first_message(records, namespace, topic, record.first_sequence)
    if first is None:
        shown.first_sequence = record.first_sequence
        shown.last_sequence = record.first_sequence - 1
        return shown
    last = last_message(records, namespace, topic, record.first_sequence)
    assert last is not None
    shown.first_sequence, shown.last_sequence = sequence_of(first.key), sequence_of(last.key)
    shown.messages, shown.bytes = retained(first, last)
    return shown


def topics_view(records: Records, namespace: str, pattern: str) -> list[TopicInfo]:
    """Show the topics that match a pattern."""
    return [
        topic_view(records, namespace, topic, record)
        for topic, record in live_topics(records, namespace, pattern)
    ]


def live_topics(
    records: Records, namespace: str, pattern: str, with_deleted: bool = False
) -> list[tuple[str, TopicRecord]]:
    """Give the topics that match a pattern, in the order of their names."""
    found = []
    for record in records.scan(*topics(namespace, pattern), limit=0):
        topic = topic_of(record.key)
        if matches(pattern, topic):
            content = decode_topic(record.value)
            if with_deleted or not content.is_deleted:
                found.append((topic, content))
    return found
