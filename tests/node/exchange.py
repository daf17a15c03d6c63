"""Replicas that forward commands and renewals to their leader; what lies between is by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from coordinator.node.forward import Forwarding
from coordinator.node.keepalive import Keepalive
from coordinator.node.membership import Membership
from coordinator.replica.effects import Proposal
from coordinator.replica.requests import Outcome
from coordinator.wire.peer import Forward, Placed, Renew, Renewed
from coordinator_sdk.errors import CoordinatorError
from tests.node.replicas import Replicas

PATIENCE_MS = 4000
Thing = Forward | Placed | Renew | Renewed


class Outbox:
    """What one member has for the others."""

    def __init__(self, unlinked: Callable[[int], bool]) -> None:
        self._unlinked = unlinked
        self.things: list[tuple[int, Thing]] = []

    def forward(self, member: int, forward: Forward) -> bool:
        return self._ask(member, forward)

    def renew(self, member: int, renew: Renew) -> bool:
        return self._ask(member, renew)

    def place(self, member: int, placed: Placed) -> None:
        self.things.append((member, placed))

    def renewed(self, member: int, renewed: Renewed) -> None:
        self.things.append((member, renewed))

    def _ask(self, member: int, thing: Thing) -> bool:
        if self._unlinked(member):
            return False
        self.things.append((member, thing))
        return True


class Exchange(Replicas):
    """A group whose members pass on what only the leader can do.

    Attributes:
        forwardings: Of each member.
        keepalives: Of each member.
        unlinked: Links (from, to) that are known to be down.
        loses: Decides whether something gets lost, given (from, to, thing).
        carried: Everything that was sent, lost or not.
    """

    def __init__(self, voters: int = 3, others: Sequence[int] = ()) -> None:
        self.forwardings: dict[int, Forwarding] = {}
        self.keepalives: dict[int, Keepalive] = {}
        self._outboxes: dict[int, Outbox] = {}
        self.unlinked: set[tuple[int, int]] = set()
        self.loses: Callable[[int, int, Thing], bool] = lambda *_: False
        self.carried: list[Thing] = []
        super().__init__(voters, others)
        for member, replica in self.by_id.items():
            outbox = Outbox(lambda to, member=member: (member, to) in self.unlinked)  # type: ignore[misc]
            self._outboxes[member] = outbox
            self.forwardings[member] = Forwarding(
                replica,
                outbox,
                propose=self._proposing(member),
                first_call=member * 1000,
                patience_ms=PATIENCE_MS,
            )
            self.keepalives[member] = Keepalive(
                replica, outbox, first_call=member * 1000, patience_ms=PATIENCE_MS
            )
        self.settle()

    def _proposing(self, member: int) -> Callable[[Proposal], None]:
        replica, membership = self.by_id[member], self.memberships[member]

        def propose(proposal: Proposal) -> None:
            if Membership.concerns(proposal.body):
                membership.admit(proposal, replica.propose)
            else:
                replica.propose(proposal)

        return propose

    def settle(self) -> None:
        """Let turns pass until nothing is left to do."""
        busy = True
        while busy:
            busy = False
            for member, replica in self.by_id.items():
                if member in self.forwardings:
                    self.forwardings[member].dispatch()
                    self.keepalives[member].dispatch()
                effects = replica.turn()
                busy = self._carry(member) or busy
                for append in effects.appends:
                    replica.persisted(append)
                for message in effects.messages:
                    self._deliver(member, message)
                while replica.apply():
                    pass
                busy = self._carry(member) or busy
                self.memberships[member].observe()
                busy = busy or bool(effects.appends or effects.messages) or replica.has_work

    def _carry(self, sender: int) -> bool:
        """Bring what a member has for others; tells whether there was anything."""
        if sender not in self._outboxes:
            return False
        box = self._outboxes[sender]
        found, box.things = box.things, []
        for to, thing in found:
            self.carried.append(thing)
            if not ({sender, to} & self.down or self.loses(sender, to, thing)):
                self.bring(sender, to, thing)
        return bool(found)

    def bring(self, sender: int, to: int, thing: Thing) -> None:
        """Deliver something."""
        if isinstance(thing, Forward):
            self.forwardings[to].take(sender, thing)
        elif isinstance(thing, Placed):
            self.forwardings[to].placed(thing)
        elif isinstance(thing, Renew):
            self.keepalives[to].take(sender, thing)
        else:
            self.keepalives[to].told(thing)

    def tick(self, count: int = 1) -> None:
        """Let time pass."""
        for _ in range(count):
            for member, forwarding in self.forwardings.items():
                forwarding.tick()
                self.keepalives[member].tick()
            super().tick()

    def submit(self, member: int, body: Any, **who: Any) -> list[Outcome]:
        """Give a member that does not lead a command; gives the list that its outcome comes to."""
        outcomes: list[Outcome] = []
        self.forwardings[member].submit(Proposal(body, outcomes.append, **who))
        self.settle()
        return outcomes

    def ask(
        self, member: int, *leases: int, only_look: bool = False
    ) -> list[list[int] | CoordinatorError]:
        """Have leases renewed by way of a member; gives the list that the answer comes to."""
        answers: list[list[int] | CoordinatorError] = []
        self.keepalives[member].ask(list(leases), answers.append, only_look=only_look)
        self.settle()
        return answers

    def count(self, kind: type[Thing]) -> int:
        """Count what was sent of a kind."""
        return sum(type(thing) is kind for thing in self.carried)

    def depose(self, successor: int) -> None:
        """Cut the leader off, and let another be elected; the links still seem to be up."""
        self.down = {self.leader.raw.id}
        for member, replica in self.by_id.items():
            if member not in self.down:
                replica.raw.forget_leader()
        self.by_id[successor].raw.campaign()
        self.settle()
        assert self.leader.raw.id == successor

    def heal(self) -> None:
        """Let everybody be reached again, and learn who leads."""
        self.down = set()
        self.tick(2)
