"""Elections as they lie in the keyspace, and as the API shows them. Pure.

The records and their keys are those of `coordinator.replica.tickets`, in the domain
`elections`: the holder is the leader, the waiters are the candidates.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from coordinator.replica import tickets
from coordinator.replica.domain import Records
from coordinator.replica.queues import Queues
from coordinator_sdk.protocol.elections import (
    ElectionCandidate,
    ElectionChange,
    ElectionInfo,
    ElectionLeader,
)
from coordinator_sdk.protocol.kv import Event, EventType, KeyValue

DOMAIN = "elections"
ELECTED = "elected"
PROCLAIMED = "proclaimed"
VACANT = "vacant"

encode_holder = msgspec.msgpack.Encoder().encode

QUEUES = Queues(DOMAIN)
leader_key = QUEUES.holder_key
ticket_view = QUEUES.state


def leader_view(record: KeyValue) -> ElectionLeader:
    """Show who leads."""
    holder = tickets.decode_holder(record.value)
    return ElectionLeader(
        token=record.create_revision,
        session=record.lease,
        owner=holder.owner,
        ticket=holder.ticket,
        since_ms=holder.since_ms,
        value=holder.value,
        application=holder.application,
        host=holder.host,
        pid=holder.pid,
    )


def candidate_view(record: KeyValue) -> ElectionCandidate:
    """Show who stands for election."""
    waiter = tickets.decode_waiter(record.value)
    return ElectionCandidate(
        ticket=waiter.ticket,
        session=record.lease,
        owner=waiter.owner,
        since_ms=waiter.since_ms,
        timeout_ms=waiter.timeout_ms,
        application=waiter.application,
        host=waiter.host,
        pid=waiter.pid,
    )


def election_view(records: Records, namespace: str, name: str) -> ElectionInfo:
    """Show one election with its candidates. A name nobody stands for is a vacant election."""
    held, standing, waiting = QUEUES.one(records, namespace, name)
    leader = leader_view(held) if held is not None else None
    candidates = [candidate_view(record) for record in standing]
    return ElectionInfo(namespace, name, leader, candidates, waiting)


def elections_view(records: Records, namespace: str, prefix: str) -> list[ElectionInfo]:
    """Show the elections that have a leader, with how many stand but not who."""
    return [
        ElectionInfo(namespace, name, leader_view(held), [], waiting)
        for name, held, waiting in QUEUES.all_held(records, namespace, prefix)
    ]


def state_change(records: Records, revision: int, namespace: str, name: str) -> ElectionChange:
    """Show the state at ``revision`` as a change, for an observer that begins."""
    held = records.get(leader_key(namespace, name))
    return _change(revision, held)


def change(revision: int, events: Sequence[Event]) -> ElectionChange:
    """Show what one revision did to the leader's record.

    A leader that goes and its successor that comes are one change: the last event counts.
    """
    last = events[-1]
    return _change(revision, last.kv if last.type == EventType.PUT else None)


def _change(revision: int, held: KeyValue | None) -> ElectionChange:
    if held is None:
        return ElectionChange(revision, VACANT)
    kind = ELECTED if held.version == 1 else PROCLAIMED
    return ElectionChange(revision, kind, leader_view(held))
