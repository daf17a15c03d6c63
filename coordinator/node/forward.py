"""Commands on their way from a member that does not lead to the one that does.

The leader proposes them and says at which index and in which term; this member applies the same
log, so it finds the outcome by itself. A command that may have been sent is sent again only if it
carries a request id: then the state machine sees to it that it is applied once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from coordinator.replica.replica import QUEUE_MAX, Proposal
from coordinator.wire.peer import Forward, Placed
from coordinator_sdk.errors import Exhausted, NoLeader, OutcomeUnknown

if TYPE_CHECKING:
    from coordinator.replica.replica import Replica

_LOST: Final = "etcdserver: request timed out, possibly due to connection lost"


class Outbox(Protocol):
    """What leaves for the peers at the end of the turn."""

    def forward(self, member: int, forward: Forward) -> bool:
        """Send a command to the leader; False if there is no link to it."""

    def place(self, member: int, placed: Placed) -> None:
        """Tell a follower what became of its command."""


class Forwarding:
    """The commands that this member has for the leader, and those that others have for it.

    Args:
        replica: This member's.
        outbox: Takes what leaves for the peers.
        patience_ms: How long a command waits for a leader.
    """

    def __init__(self, replica: Replica, outbox: Outbox, *, patience_ms: int) -> None:
        self._replica = replica
        self._outbox = outbox
        self._patience_ms = patience_ms
        self._waiting: list[Proposal] = []
        self._sent: dict[int, tuple[int, Proposal]] = {}
        self._next_call = 1
        self._lead = 0

    def submit(self, proposal: Proposal) -> None:
        """Pass a command on to the leader, now or when there is one."""
        replica = self._replica
        if len(self._waiting) + len(self._sent) >= QUEUE_MAX:
            replica.refuse(proposal, Exhausted("too many requests", limit="proposals"))
            return
        proposal.since_ms = replica.now_ms
        self._waiting.append(proposal)

    def dispatch(self) -> None:
        """Send what waits, if there is a leader to send it to."""
        replica, lead = self._replica, self._replica.raw.lead
        if lead != self._lead:
            self._lead = lead
            self._turn_away(lead)
        if not self._waiting:
            return
        if replica.raw.is_leader:
            waiting, self._waiting = self._waiting, []
            for proposal in waiting:
                replica.propose(proposal)
        elif lead:
            self._send(lead)

    def _turn_away(self, lead: int) -> None:
        """Ask the new leader for what may be asked for twice."""
        for call, (whom, proposal) in list(self._sent.items()):
            if whom != lead and proposal.client:
                del self._sent[call]
                self._waiting.append(proposal)

    def _send(self, lead: int) -> None:
        for position, proposal in enumerate(self._waiting):
            call = self._next_call
            if not self._outbox.forward(lead, Forward(call, self._replica.encode(proposal))):
                del self._waiting[:position]
                return
            self._next_call += 1
            self._sent[call] = (lead, proposal)
        self._waiting = []

    def placed(self, placed: Placed) -> None:
        """Hear from the leader what became of a command."""
        found = self._sent.pop(placed.call, None)
        if found is None:
            return
        proposal = found[1]
        if not placed.index:
            self._waiting.append(proposal)  # Not proposed: whoever leads next may have it.
        elif not self._replica.expect(proposal, placed.index, placed.term):
            self._in_doubt(proposal)

    def lost(self, member: int) -> None:
        """The link to a member has ended: what it has not answered is in doubt."""
        calls = [call for call, (whom, _) in self._sent.items() if whom == member]
        for call in calls:
            self._in_doubt(self._sent.pop(call)[1])

    def _in_doubt(self, proposal: Proposal) -> None:
        if proposal.client:
            self._waiting.append(proposal)
        else:
            self._replica.refuse(proposal, OutcomeUnknown(_LOST))

    def tick(self) -> None:
        """Give up what has waited too long, and what the leader has not answered."""
        oldest_ms = self._replica.now_ms - self._patience_ms
        late = [proposal for proposal in self._waiting if proposal.since_ms < oldest_ms]
        if late:
            self._waiting = [each for each in self._waiting if each.since_ms >= oldest_ms]
            for proposal in late:
                error = NoLeader("the cluster has no leader at the moment")
                self._replica.refuse(proposal, error)
        for call in [c for c, (_, each) in self._sent.items() if each.since_ms < oldest_ms]:
            proposal = self._sent.pop(call)[1]
            proposal.since_ms = self._replica.now_ms
            self._in_doubt(proposal)

    def take(self, member: int, forward: Forward) -> None:
        """Propose a command for a follower.

        Raises:
            UnknownCommand: The follower runs a newer program.
        """
        envelope = self._replica.machine.codec.decode(forward.command)
        outbox, call = self._outbox, forward.call

        def placed(index: int, term: int) -> None:
            outbox.place(member, Placed(call, index, term))

        self._replica.propose(
            Proposal(
                envelope.body,
                None,
                envelope.client,
                envelope.sequence,
                envelope.floor,
                envelope.actor,
                envelope.origin,
                envelope.cause,
                envelope.trace,
                placed=placed,
            )
        )
