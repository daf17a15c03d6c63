"""Locks as they lie in the keyspace, and as the API shows them. Pure.

The records and their keys are those of `coordinator.replica.tickets`, in the domain `locks`.
"""

from __future__ import annotations

from coordinator.replica import tickets
from coordinator.replica.domain import Records
from coordinator.replica.queues import Queues
from coordinator_sdk.protocol.kv import KeyValue
from coordinator_sdk.protocol.locks import LockHolder, LockInfo, LockWaiter

DOMAIN = "locks"
QUEUES = Queues(DOMAIN)
holder_key = QUEUES.holder_key
waiters = QUEUES.waiters
ticket_view = QUEUES.state


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
    held, queue, waiting = QUEUES.one(records, namespace, name)
    holder = holder_view(held) if held is not None else None
    return LockInfo(namespace, name, holder, [waiter_view(record) for record in queue], waiting)


def locks_view(records: Records, namespace: str, prefix: str) -> list[LockInfo]:
    """Show the locks that are held, with the length of each queue but not the waiters."""
    return [
        LockInfo(namespace, name, holder_view(held), [], waiting)
        for name, held, waiting in QUEUES.all_held(records, namespace, prefix)
    ]
