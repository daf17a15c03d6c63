"""No session ends early, and none is revived."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordinator.keyspace.records import SYSTEM
from coordinator.sessions import records
from tests.simulation.cluster import DRIFT_MAX

if TYPE_CHECKING:
    from tests.simulation.client import Session
    from tests.simulation.record import Record

TOLERANCE_SECONDS = 0.002
"""Times are counted in whole milliseconds."""


def live_sessions(record: Record) -> set[bytes]:
    """Give the keys of the sessions that the history has begun and not ended."""
    alive: set[bytes] = set()
    first, end = records.every()
    for revision in record.revisions:
        for space, event in revision.events:
            if space == SYSTEM and first <= event.kv.key < end:
                if event.kv.version:
                    alive.add(event.kv.key)
                else:
                    alive.discard(event.kv.key)
    return alive


def check_leases(record: Record, sessions: list[Session]) -> list[str]:
    """A session ends no earlier than its TTL after the last acknowledged renewal was sent."""
    ended: dict[bytes, float] = {}
    for revision in record.revisions:
        for space, event in revision.events:
            if space == SYSTEM and not event.kv.version:
                ended[event.kv.key] = revision.at
    found = []
    for session in sessions:
        at = ended.get(records.key(session.id))
        if at is None or session.is_closing:
            continue
        for sent_at in session.renewals:
            if at + TOLERANCE_SECONDS < sent_at + session.ttl_ms / 1000 * (1 - DRIFT_MAX):
                found.append(
                    f"session {session.id:x} ended at {at:.3f}, but was renewed at {sent_at:.3f} "
                    f"for {session.ttl_ms} ms"
                )
                break
    return found
