"""Acknowledged writes survive, and happen once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordinator.keyspace.records import USER
from coordinator_sdk.protocol.kv import Put, Txn

if TYPE_CHECKING:
    from tests.simulation.record import Record, Told

GUARDED = b"guarded/"


def check_writes(record: Record) -> list[str]:
    """Every acknowledged write is in the history at its revision; no value is there twice."""
    found: list[str] = []
    places: dict[bytes, list[tuple[int, bytes]]] = {}
    for revision in record.revisions:
        for space, event in revision.events:
            if space == USER and event.kv.version and not event.kv.key.startswith(GUARDED):
                places.setdefault(event.kv.value, []).append((revision.number, event.kv.key))
    for value, at in places.items():
        if len(at) > 1:
            found.append(f"{value[:12]!r} was written {len(at)} times: {at}")
    guarded = {
        (revision.number, event.kv.key): event.kv.value
        for revision in record.revisions
        for space, event in revision.events
        if space == USER and event.kv.key.startswith(GUARDED)
    }
    for told in record.told:
        found += _check_told(told, places, guarded)
    for body in record.denied:
        ops = body.success + body.failure if type(body) is Txn else [body]
        found += [
            f"{op.value[:12]!r} was written, but its client was told that it is not applied"
            for op in ops
            if type(op) is Put and not op.key.startswith(GUARDED) and op.value in places
        ]
    return found


def _check_told(
    told: Told,
    places: dict[bytes, list[tuple[int, bytes]]],
    guarded: dict[tuple[int, bytes], bytes],
) -> list[str]:
    body = told.body
    found = []
    if type(body) is Put and body.key.startswith(GUARDED):
        if guarded.get((told.revision, body.key)) != body.value:
            found.append(f"guarded write {body.key!r} of revision {told.revision} is lost")
    elif type(body) is Put:
        if places.get(body.value) != [(told.revision, body.key)]:
            found.append(f"acknowledged {body.value[:12]!r} at {told.revision} is lost")
    elif type(body) is Txn:
        taken, other = body.success, body.failure
        if not told.result.succeeded:
            taken, other = other, taken
        for op in taken:
            if type(op) is Put and places.get(op.value) != [(told.revision, op.key)]:
                found.append(f"acknowledged {op.value[:12]!r} at {told.revision} is lost")
        for op in other:
            if type(op) is Put and op.value in places:
                found.append(f"the branch not taken wrote {op.value[:12]!r}")
    return found
