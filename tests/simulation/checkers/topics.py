"""Messages: numbered without gaps, each acknowledged one there, none there twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordinator.domains.topics import model
from coordinator.keyspace.records import SYSTEM
from coordinator.wire import systemkey
from coordinator_sdk.protocol.topics import TopicPublish

if TYPE_CHECKING:
    from tests.simulation.record import Record


def check_topics(record: Record) -> list[str]:
    """Follow every topic through the history."""
    found: list[str] = []
    last: dict[str, int] = {}
    messages: dict[tuple[str, int], bytes] = {}
    payloads: dict[bytes, int] = {}
    for revision in record.revisions:
        for space, event in revision.events:
            if space != SYSTEM or not event.kv.version or event.kv.version > 1:
                continue
            parts = systemkey.unpack(event.kv.key)
            if parts[1:3] != ("topics", "message"):
                continue
            topic, sequence = str(parts[3]), int(parts[4])
            if sequence != last.get(topic, 0) + 1:
                found.append(f"{topic}: message {sequence} follows {last.get(topic, 0)}")
            last[topic] = sequence
            payload = model.decode_message(event.kv.value).payload
            messages[topic, sequence] = payload
            payloads[payload] = payloads.get(payload, 0) + 1
    found += [f"{payload[:12]!r} was published twice" for payload, n in payloads.items() if n > 1]
    for told in record.told:
        if type(told.body) is TopicPublish:
            place = told.body.topic, told.result.sequence
            if messages.get(place) != told.body.payload:
                found.append(f"acknowledged message {place} is lost")
    return found
