"""Locks as they lie in the keyspace, and as the API shows them. Pure.

The records and their keys are those of `coordinator.replica.tickets`, in the domain `locks`.
"""

from __future__ import annotations

from typing import Protocol

from coordinator.replica import tickets
from coordinator.replica.tickets import POSITION_MAX
from coordinator.wire import systemkey
from coordinator_sdk.protocol.kv import KeyValue
from coordinator_sdk.protocol.locks import LockHolder, LockInfo, LockWaiter
from coordinator_sdk.protocol.tickets import TicketState

DOMAIN = "locks"
QUEUE_SHOWN_MAX = 1000
"""How many waiters a view lists; ``waiting`` counts them all."""


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


def holder_key(namespace: str, name: str) -> bytes:
    """Give the key of the record of a lock's holder."""
    return tickets.holder_key(DOMAIN, namespace, name)


def ticket_key(namespace: str, name: str, ticket: str) -> bytes:
    """Give the key of the record of a ticket that waits, or has ended."""
    return tickets.ticket_key(DOMAIN, namespace, name, ticket)


def holders(namespace: str, prefix: str = "") -> tuple[bytes, bytes]:
    """Give the range of the holder records of the locks whose name starts with ``prefix``."""
    return systemkey.text_prefix(namespace, DOMAIN, "holder", prefix=prefix)


def waiters(namespace: str, name: str) -> tuple[bytes, bytes]:
    """Give the range of the waiters of a lock, in the order of service."""
    return systemkey.children(namespace, DOMAIN, "waiter", name)


def every_waiter(namespace: str, prefix: str = "") -> tuple[bytes, bytes]:
    """Give the range of the waiters of the locks whose name starts with ``prefix``."""
    return systemkey.text_prefix(namespace, DOMAIN, "waiter", prefix=prefix)


def holder_view(record: KeyValue) -> LockHolder:
    """Show who holds a lock."""
    holder = tickets.decode_holder(record.value)
    return LockHolder(
        token=record.create_revision,
        session=record.lease,
        owner=holder.owner,
        ticket=holder.ticket,
        since_ms=holder.since_ms,
        reason=holder.reason,
        application=holder.application,
        host=holder.host,
        pid=holder.pid,
    )


def waiter_view(record: KeyValue) -> LockWaiter:
    """Show who waits for a lock."""
    waiter = tickets.decode_waiter(record.value)
    return LockWaiter(
        ticket=waiter.ticket,
        session=record.lease,
        owner=waiter.owner,
        since_ms=waiter.since_ms,
        timeout_ms=waiter.timeout_ms,
        reason=waiter.reason,
        application=waiter.application,
        host=waiter.host,
        pid=waiter.pid,
    )


def lock_view(records: Records, namespace: str, name: str) -> LockInfo:
    """Show one lock with its queue. A name that nobody holds or awaits is a free lock."""
    held = records.get(holder_key(namespace, name))
    queue = waiters(namespace, name)
    return LockInfo(
        namespace,
        name,
        holder_view(held) if held is not None else None,
        [waiter_view(record) for record in records.scan(*queue, limit=QUEUE_SHOWN_MAX)],
        records.count(*queue),
    )


def locks_view(records: Records, namespace: str, prefix: str) -> list[LockInfo]:
    """Show the locks that are held, with the length of each queue but not the waiters."""
    shown = []
    for record in records.scan(*holders(namespace, prefix)):
        name = str(systemkey.unpack(record.key)[3])
        waiting = records.count(*waiters(namespace, name))
        shown.append(LockInfo(namespace, name, holder_view(record), [], waiting))
    return shown


def ticket_view(records: Records, namespace: str, name: str, ticket: str) -> TicketState:
    """Tell where a ticket stands."""
    held = records.get(holder_key(namespace, name))
    record = records.get(ticket_key(namespace, name, ticket))
    position = 0
    if record is not None:
        order = tickets.decode_ticket(record.value).order
        start, _ = waiters(namespace, name)
        ahead = records.count(start, systemkey.pack(namespace, DOMAIN, "waiter", name, order))
        position = min(ahead + 1, POSITION_MAX)
    return tickets.ticket_state(held, record, ticket, position)
