"""How a replica goes over to the state machine of a snapshot. Pure.

The order, as the caller keeps it:

1. The consensus core is given the snapshot; if it takes it, `stop_applying` at once.
2. The snapshot is noted in the log, durably, and put in the place of the state database.
3. `take_over`, and only then `Replica.persisted` for the append that carried the snapshot.

Between 1 and 3 the replica answers from the old state, which is a state the group has had.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordinator.replica.deadlines import LeaderClock
from coordinator.wire.command import FORMAT, Envelope
from coordinator_sdk.errors import OutcomeUnknown, Unavailable

if TYPE_CHECKING:
    from coordinator.replica.effects import Proposal
    from coordinator.replica.machine import Machine
    from coordinator.replica.replica import Replica
    from coordinator.replica.requests import Outcome


def wants(replica: Replica, index: int) -> bool:
    """Tell whether the core has taken the snapshot at an index and waits for it."""
    pending = replica.raw.raft.log.unstable.snapshot
    return pending is not None and pending.metadata.index == index


def stop_applying(replica: Replica) -> None:
    """Drop what is committed but not applied: the snapshot contains it.

    To be called in the same step in which the core took the snapshot. It has the configuration of
    the snapshot by then, so a change of the configuration from before must not reach it any more;
    and it commits nothing further before the snapshot is in place.
    """
    # A large entry half way through is given up: the old state is not read past its revision.
    replica._steps = None
    responses = list(replica._after_apply) if replica._entries else []
    for _, after in replica._committed:
        responses += after
    replica._committed.clear()
    replica._entries = []
    replica._after_apply = []
    for message in responses:
        replica.raw.step(message)


def take_over(replica: Replica, machine: Machine) -> None:
    """Go over to a machine that stands at the snapshot which the core has taken.

    Proposals that wait for an entry which the snapshot contains are answered by the machine's
    request table, or with `OutcomeUnknown` if they have no request id; reads that waited for it
    are answered. The caller tells whoever watches.

    Args:
        replica: The replica; it does not lead.
        machine: Takes the place of the replica's, at a later index.
    """
    assert machine.index > replica.machine.index, (machine.index, replica.machine.index)
    assert not replica.has_committed, "nothing is applied once a snapshot was taken"
    machine.on_fault = replica.machine.on_fault
    replica.machine = replica.log.machine = machine
    replica.clock.leave_office()
    replica.clock = LeaderClock(machine)
    replica.clock.set_time(replica.now_ms)
    _settle_proposals(replica)
    waiting = replica._awaiting_apply
    while waiting and waiting[0][0] <= machine.index:
        waiting.popleft()[1](None)


def _settle_proposals(replica: Replica) -> None:
    in_flight = replica._in_flight
    for index in [index for index in in_flight if index <= replica.machine.index]:
        proposal = in_flight.pop(index)
        if proposal.done is not None:
            proposal.done(_outcome(replica.machine, proposal))


def _outcome(machine: Machine, proposal: Proposal) -> Outcome:
    """Tell what became of a proposal whose entry, or another in its place, was not seen here."""
    if not proposal.client:
        return machine.refusal(
            OutcomeUnknown(
                "this member fell behind and caught up by a snapshot: the change may have been "
                "applied; only a request id would tell"
            )
        )
    known = machine.known(
        Envelope(
            FORMAT,
            proposal.client,
            proposal.sequence,
            proposal.floor,
            proposal.actor,
            proposal.origin,
            proposal.cause,
            proposal.trace,
            machine.clock_ms,
            proposal.body,
            proposal.auth_revision,
            proposal.scope,
        )
    )
    if known is not None:
        return known
    # The table keeps every outcome that its client may still ask for: there was none.
    return machine.refusal(Unavailable("leadership changed before the commit; try again"))
