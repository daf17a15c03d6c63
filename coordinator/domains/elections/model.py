"""Elections as they lie in the keyspace, and as the API shows them. Pure.

The records and their keys are those of `coordinator.replica.tickets`, in the domain
`elections`: the holder is the leader, the waiters are the candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from coordinator.replica import tickets
from coordinator.replica.tickets import POSITION_MAX
from coordinator.wire import systemkey
from coordinator_sdk.protocol.elections import (
    ElectionCandidate,
    ElectionChange,
    ElectionInfo,
    ElectionLeader,
)
from coordinator_sdk.protocol.kv import Event, EventType, KeyValue
from coordinator_sdk.protocol.tickets import TicketState

DOMAIN = "elections"
ELECTED = "elected"
PROCLAIMED = "proclaimed"
VACANT = "vacant"
CANDIDATES_SHOWN_MAX = 1000
"""How many candidates a view lists; ``waiting`` counts them all."""

encode_holder = msgspec.msgpack.Encoder().encode


class Records(Protocol):
    """The system keyspace at one revision."""

    def get(self, key: bytes) -> KeyValue | None:
        """Read one record."""

    def scan(
        self, start: bytes, end: bytes, limit: int = 0, reverse: bool = False
    ) -> list[KeyValue]:
        """Read the records with start <= key < end."""

    def count(self, start: bytes, end: bytes) -> int:
        """Count the records with start <= key < end."""


def leader_key(namespace: str, name: str) -> bytes:
    """Give the key of the record of an election's leader."""
    return tickets.holder_key(DOMAIN, namespace, name)


def ticket_key(namespace: str, name: str, ticket: str) -> bytes:
    """Give the key of the record of a ticket that waits, or has ended."""
    return tickets.ticket_key(DOMAIN, namespace, name, ticket)


def leaders(namespace: str, prefix: str = "") -> tuple[bytes, bytes]:
    """Give the range of the leaders of the elections whose name starts with ``prefix``."""
    return systemkey.text_prefix(namespace, DOMAIN, "holder", prefix=prefix)


def candidates(namespace: str, name: str) -> tuple[bytes, bytes]:
    """Give the range of the candidates of an election, in the order of succession."""
    return systemkey.children(namespace, DOMAIN, "waiter", name)


def every_candidate(namespace: str, prefix: str = "") -> tuple[bytes, bytes]:
    """Give the range of the candidates of all elections whose name starts with ``prefix``."""
    return systemkey.text_prefix(namespace, DOMAIN, "waiter", prefix=prefix)


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
    held = records.get(leader_key(namespace, name))
    standing = candidates(namespace, name)
    return ElectionInfo(
        namespace,
        name,
        leader_view(held) if held is not None else None,
        [candidate_view(record) for record in records.scan(*standing, limit=CANDIDATES_SHOWN_MAX)],
        records.count(*standing),
    )


def elections_view(records: Records, namespace: str, prefix: str) -> list[ElectionInfo]:
    """Show the elections that have a leader, with how many stand but not who."""
    shown = []
    for record in records.scan(*leaders(namespace, prefix)):
        name = str(systemkey.unpack(record.key)[3])
        waiting = records.count(*candidates(namespace, name))
        shown.append(ElectionInfo(namespace, name, leader_view(record), [], waiting))
    return shown


def ticket_view(records: Records, namespace: str, name: str, ticket: str) -> TicketState:
    """Tell where a candidacy stands."""
    held = records.get(leader_key(namespace, name))
    record = records.get(ticket_key(namespace, name, ticket))
    position = 0
    if record is not None:
        order = tickets.decode_ticket(record.value).order
        start, _ = candidates(namespace, name)
        ahead = records.count(start, systemkey.pack(namespace, DOMAIN, "waiter", name, order))
        position = min(ahead + 1, POSITION_MAX)
    return tickets.ticket_state(held, record, ticket, position)


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
