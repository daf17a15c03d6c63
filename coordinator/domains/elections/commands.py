"""What changes an election, as the state machine applies it. Pure.

The queue of candidates, with its invariants, is `coordinator.replica.tickets`.
"""

from __future__ import annotations

from typing import Any

from coordinator.domains.elections import model
from coordinator.replica.domain import Domain, DomainTxn
from coordinator.replica.permission import Rule, allowed, listing
from coordinator.replica.tickets import TicketQueue, Waiter, decode_holder, owner_of
from coordinator_sdk.protocol.elections import (
    ElectionCampaign,
    ElectionCancel,
    ElectionGet,
    ElectionList,
    ElectionObserve,
    ElectionProclaim,
    ElectionResign,
    ElectionResult,
    ElectionTicket,
)
from coordinator_sdk.protocol.tickets import TicketState

QUEUE = TicketQueue(model.DOMAIN)


def apply_campaign(txn: DomainTxn, command: ElectionCampaign) -> TicketState:
    """Elect the candidate at once or let it wait; with a known ticket, tell its state."""
    waiter = Waiter(
        owner=command.owner,
        ticket=command.ticket,
        since_ms=0,
        timeout_ms=command.timeout_ms,
        reason="",
        application="",
        host="",
        pid=0,
        value=command.value,
    )
    return QUEUE.enqueue(txn, command.namespace, command.name, command.session, waiter)


def apply_proclaim(txn: DomainTxn, command: ElectionProclaim) -> ElectionResult:
    """Change the leader's value; the token, its create revision, stays."""
    held = QUEUE.held_by(
        txn, command.namespace, command.name, command.session, command.owner, command.token
    )
    leader = decode_holder(held.value)
    leader.value = command.value
    txn.put(held.key, model.encode_holder(leader), held.lease)
    return ElectionResult(txn.revision)


def apply_resign(txn: DomainTxn, command: ElectionResign) -> ElectionResult:
    """Give leadership up and elect the next candidate."""
    QUEUE.release(
        txn, command.namespace, command.name, command.session, command.owner, command.token
    )
    return ElectionResult(txn.revision)


def apply_cancel(txn: DomainTxn, command: ElectionCancel) -> ElectionResult:
    """Withdraw a candidacy, whether it waits or leads."""
    if QUEUE.cancel(txn, command.namespace, command.name, command.ticket):
        return ElectionResult(txn.revision)
    return ElectionResult(txn.revision - 1, done=False)


RULES: dict[type[Any], Rule] = {
    ElectionCampaign: allowed("election:campaign", owners=owner_of),
    ElectionProclaim: allowed("election:campaign", owners=owner_of),
    ElectionResign: allowed("election:campaign", owners=owner_of),
    ElectionCancel: allowed("election:campaign", owners=QUEUE.owners, operate="election:operate"),
    ElectionTicket: allowed("election:campaign", "election:read"),
    ElectionGet: allowed("election:read"),
    ElectionList: listing("election:read", "elections", "name"),
    ElectionObserve: allowed("election:read"),
}

DOMAIN = Domain(
    model.DOMAIN,
    commands={
        ElectionCampaign: apply_campaign,
        ElectionProclaim: apply_proclaim,
        ElectionResign: apply_resign,
        ElectionCancel: apply_cancel,
    },
    on_lease_end=QUEUE.on_lease_end,
    on_timer=QUEUE.on_timer,
    rules=RULES,
)
