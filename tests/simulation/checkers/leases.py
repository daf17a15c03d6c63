"""No session ends early, and none is revived."""

from __future__ import annotations

from coordinator.keyspace.records import SYSTEM
from coordinator.sessions import records
from tests.simulation.client import Session
from tests.simulation.record import Record

TOLERANCE_SECONDS = 0.002
"""Times are counted in whole milliseconds."""


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
            if at + TOLERANCE_SECONDS < sent_at + session.ttl_ms / 1000:
                found.append(
                    f"session {session.id:x} ended at {at:.3f}, but was renewed at {sent_at:.3f} "
                    f"for {session.ttl_ms} ms"
                )
                break
    return found
