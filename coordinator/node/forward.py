"""Commands on their way from a member that does not lead to the one that does.

The leader proposes them and says at which index and in which term; this member applies the same
log, so it finds the outcome by itself. A command that may have been sent is sent again only if it
carries a request id: then the state machine sees to it that it is applied once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from coordinator.replica.effects import Proposal, no_leader
from coordinator.replica.replica import QUEUE_MAX
from coordinator.wire.command import UnknownCommand
from coordinator.wire.peer import Forward, Placed
from coordinator_sdk.errors import (
    CoordinatorError,
    Exhausted,
    OutcomeUnknown,
    UnknownOperation,
    error_from_wire,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from coordinator.replica.replica import Replica
    from coordinator.replica.requests import Outcome

TAKEN_MAX: Final = 4096
"""Commands of others without a request id that are known again should they arrive twice."""
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
        propose: Proposes a command here, after whatever a leader has to look at before.
        first_call: Where the numbers of calls begin. It must not be near that of an earlier run of
            this member: the leader may still answer the calls of that one.
        patience_ms: How long a command waits for a leader.
    """

    def __init__(
        self,
        replica: Replica,
        outbox: Outbox,
        *,
        propose: Callable[[Proposal], None],
        first_call: int,
        patience_ms: int,
    ) -> None:
        self._replica = replica
        self._outbox = outbox
        self._propose = propose
        self._patience_ms = patience_ms
        self._waiting: list[Proposal] = []
        self._sent: dict[int, tuple[int, Proposal, int]] = {}
        self._next_call = first_call
        self._lead = 0
        self._is_held = False
        self._taken: dict[tuple[int, int], None] = {}
        replica.ask_again = self._ask_again

    def submit(self, proposal: Proposal) -> None:
        """Pass a command on to the leader, now or when there is one."""
        replica = self._replica
        if len(self._waiting) + len(self._sent) >= QUEUE_MAX:
            replica.refuse(proposal, Exhausted("too many requests", limit="proposals"))
            return
        proposal.since_ms = replica.now_ms
        self._waiting.append(proposal)

    def _ask_again(self, proposal: Proposal) -> None:
        proposal.since_ms = self._replica.now_ms
        self._waiting.append(proposal)
        self._is_held = True

    def dispatch(self) -> None:
        """Send what waits, if there is a leader to send it to."""
        replica, lead = self._replica, self._replica.raw.lead
        if lead != self._lead:
            self._lead = lead
            self._is_held = False
            self._turn_away(lead)
        if not self._waiting or self._is_held:
            return
        if replica.raw.is_leader:
            waiting, self._waiting = self._waiting, []
            for proposal in waiting:
                self._propose(proposal)
        elif lead:
            self._send(lead)

    def _turn_away(self, lead: int) -> None:
        """Ask the new leader for what may be asked for twice."""
        for call, (whom, proposal, _) in list(self._sent.items()):
            if whom != lead and proposal.client:
                del self._sent[call]
                self._in_doubt(proposal)

    def _send(self, lead: int) -> None:
        now_ms = self._replica.now_ms
        for position, proposal in enumerate(self._waiting):
            call = self._next_call
            forward = Forward(call, self._replica.encode(proposal), proposal.in_doubt)
            if not self._outbox.forward(lead, forward):
                del self._waiting[:position]
                return
            self._next_call += 1
            self._sent[call] = (lead, proposal, now_ms)
        self._waiting = []

    def unsent(self, calls: Iterable[int]) -> None:
        """Hear that commands never left: the link was full. They are tried with the next tick."""
        kept = [self._sent.pop(call)[1] for call in calls if call in self._sent]
        self._waiting[:0] = kept
        self._is_held = True

    def placed(self, placed: Placed) -> None:
        """Hear from the leader what became of a command."""
        found = self._sent.pop(placed.call, None)
        if found is None:
            return
        proposal = found[1]
        if placed.error is not None:
            error = error_from_wire(*placed.error)
            assert isinstance(error, CoordinatorError)
            self._replica.refuse(proposal, error)
        elif not placed.index:
            # Not proposed: whoever leads next may have it, or this one, but not at once.
            self._waiting.append(proposal)
            self._is_held = True
        elif not self._replica.expect(proposal, placed.index, placed.term):
            known = self._known(proposal, placed.index)
            if known is None or proposal.done is None:
                self._in_doubt(proposal)
            else:
                proposal.done(known)

    def _known(self, proposal: Proposal, index: int) -> Outcome | None:
        """Give the outcome of a command whose entry was applied before it was known whose it is."""
        replica = self._replica
        if not proposal.client or index > replica.machine.index:
            return None
        return replica.machine.known(replica.machine.codec.decode(replica.encode(proposal)))

    def lost(self, member: int) -> None:
        """The link to a member has ended: what it has not answered is in doubt."""
        calls = [call for call, (whom, _, _) in self._sent.items() if whom == member]
        for call in calls:
            self._in_doubt(self._sent.pop(call)[1])

    def _in_doubt(self, proposal: Proposal) -> None:
        if proposal.client:
            proposal.in_doubt = True
            self._waiting.append(proposal)
        else:
            self._replica.refuse(proposal, OutcomeUnknown(_LOST))

    def tick(self) -> None:
        """Give up what has waited too long, and what the leader has not answered.

        A command in doubt is not given up: it can't be said that it was not applied.
        """
        self._is_held = False
        oldest_ms = self._replica.now_ms - self._patience_ms
        late = [p for p in self._waiting if p.since_ms < oldest_ms and not p.in_doubt]
        if late:
            self._waiting = [p for p in self._waiting if p.since_ms >= oldest_ms or p.in_doubt]
            for proposal in late:
                self._replica.refuse(proposal, no_leader())
        # The answer got lost, if it was not the question: only the former can be asked for again.
        again_ms = self._replica.now_ms - self._patience_ms // 2
        for call, (_, proposal, sent_ms) in list(self._sent.items()):
            if sent_ms < (again_ms if proposal.client else oldest_ms):
                del self._sent[call]
                self._in_doubt(proposal)

    def take(self, member: int, forward: Forward) -> None:
        """Propose a command for a follower."""
        outbox, call = self._outbox, forward.call

        def placed(index: int, term: int, error: CoordinatorError | None) -> None:
            told = None if error is None else (error.code, error.message, error.details)
            outbox.place(member, Placed(call, index, term, told))

        if not self._replica.raw.is_leader:
            placed(0, 0, None)
            return
        try:
            envelope = self._replica.machine.codec.decode(forward.command)
        except UnknownCommand:
            placed(0, 0, UnknownOperation("the leader runs a program too old for this command"))
            return
        if not envelope.client and self._has_taken(member, call):
            return
        self._propose(
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
                auth_revision=envelope.auth_revision,
                scope=envelope.scope,
                placed=placed,
                in_doubt=forward.in_doubt,
            )
        )

    def _has_taken(self, member: int, call: int) -> bool:
        """Tell whether a command has come before. A link repeats nothing, but it is not asked."""
        taken = self._taken
        if (member, call) in taken:
            return True
        taken[member, call] = None
        if len(taken) > TAKEN_MAX:
            del taken[next(iter(taken))]
        return False
