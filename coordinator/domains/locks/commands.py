"""What changes a lock, as the state machine applies it. Pure.

The queue itself, with its invariants, is `coordinator.replica.tickets`.
"""

from __future__ import annotations

from typing import Any

from coordinator.domains.locks import model
from coordinator.replica.domain import Domain, DomainTxn
from coordinator.replica.permission import Rule, allowed, listing
from coordinator.replica.tickets import TicketQueue, Waiter, owner_of
from coordinator_sdk.protocol.locks import (
    LockAcquire,
    LockCancel,
    LockForceRelease,
    LockGet,
    LockList,
    LockRelease,
    LockReleaseResult,
    LockTicket,
)
from coordinator_sdk.protocol.tickets import TicketState

QUEUE = TicketQueue(model.DOMAIN)


def apply_acquire(txn: DomainTxn, command: LockAcquire) -> TicketState:
    """Grant the lock at once or join its queue; with a known ticket, tell its state."""
    waiter = Waiter(
        owner=command.owner,
        ticket=command.ticket,
        since_ms=0,
        timeout_ms=command.timeout_ms,
        reason=command.reason,
        application="",
        host="",
        pid=0,
        value=b"",
    )
    return QUEUE.enqueue(txn, command.namespace, command.name, command.session, waiter)


def apply_release(txn: DomainTxn, command: LockRelease) -> LockReleaseResult:
    """Give the lock back and grant the next waiter."""
    QUEUE.release(
        txn, command.namespace, command.name, command.session, command.owner, command.token
    )
    return LockReleaseResult(txn.revision)


def apply_cancel(txn: DomainTxn, command: LockCancel) -> LockReleaseResult:
    """Withdraw a ticket, whether it waits or holds."""
    if QUEUE.cancel(txn, command.namespace, command.name, command.ticket):
        return LockReleaseResult(txn.revision)
    return LockReleaseResult(txn.revision - 1, released=False)


def apply_force_release(txn: DomainTxn, command: LockForceRelease) -> LockReleaseResult:
    """Take the lock from its holder, whose ticket then tells the reason."""
    QUEUE.force_release(txn, command.namespace, command.name, command.token, command.reason)
    return LockReleaseResult(txn.revision)


RULES: dict[type[Any], Rule] = {
    LockAcquire: allowed("lock:acquire", owners=owner_of),
    LockRelease: allowed("lock:acquire", owners=owner_of),
    LockCancel: allowed("lock:acquire", owners=QUEUE.owners, operate="lock:force-release"),
    LockForceRelease: allowed("lock:force-release"),
    LockTicket: allowed("lock:acquire", "lock:read"),
    LockGet: allowed("lock:read"),
    LockList: listing("lock:read", "locks", "name"),
}

DOMAIN = Domain(
    model.DOMAIN,
    commands={
        LockAcquire: apply_acquire,
        LockRelease: apply_release,
        LockCancel: apply_cancel,
        LockForceRelease: apply_force_release,
    },
    on_lease_end=QUEUE.on_lease_end,
    on_timer=QUEUE.on_timer,
    rules=RULES,
)
