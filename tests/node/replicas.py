"""Replicas that talk to each other directly: no disk, no network, and time by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from coordinator.config import Config
from coordinator.domains import DOMAINS
from coordinator.node import boot
from coordinator.node.membership import Membership
from coordinator.raft import RawNode
from coordinator.raft.errors import StepPeerNotFound
from coordinator.replica.effects import Proposal
from coordinator.replica.log import ReplicaLog
from coordinator.replica.machine import Machine
from coordinator.replica.members import Member
from coordinator.replica.replica import Replica
from coordinator.replica.requests import Outcome
from coordinator.wire.raft import ConfState, HardState, Snapshot, SnapshotMetadata
from coordinator_sdk.errors import error_from_wire

TICK_MS = 100


class Replicas:
    """A group with the voters ``1..voters``, all started; further ids have not been added yet.

    Attributes:
        down: Members that neither send nor receive.
        by_id: The replicas.
        memberships: The membership of each, all linked but those that are down.
    """

    def __init__(self, voters: int = 3, others: Sequence[int] = ()) -> None:
        self.down: set[int] = set()
        self.now_ms = 1000
        self.by_id: dict[int, Replica] = {}
        self.memberships: dict[int, Membership] = {}
        ids = tuple(range(1, voters + 1))
        for member in (*ids, *others):
            machine = Machine(DOMAINS)
            machine.begin(1, 1, ConfState(voters=ids))
            for each in ids:
                machine.members[each] = Member(each, f"m{each}", [], each, 1, [f"http://h{each}:1"])
            storage = ReplicaLog()
            storage.apply_snapshot(Snapshot(b"", SnapshotMetadata(machine.conf_state, 1, 1)))
            storage.set_hard_state(HardState(1, 0, 1))
            raw = RawNode(boot.raft_config(Config(), member, storage, 1, member))
            replica = Replica(raw, storage, machine, incarnation=1, on_events=lambda *_: None)
            replica.set_time(self.now_ms, 0)
            self.by_id[member] = replica
            self.memberships[member] = Membership(
                replica,
                is_linked=lambda other: other not in self.down,
                schedule=lambda: None,
                election_timeout_ms=1000,
            )
        self.by_id[1].raw.campaign()
        self.settle()
        assert self.leader.raw.id == 1

    @property
    def leader(self) -> Replica:
        """The one that leads in the newest term."""
        leaders = [each for each in self.by_id.values() if each.is_leader]
        return max(leaders, key=lambda each: each.raw.term)

    def settle(self) -> None:
        """Let turns pass until nothing is left to do."""
        busy = True
        while busy:
            busy = False
            for member, replica in self.by_id.items():
                effects = replica.turn()
                for append in effects.appends:
                    replica.persisted(append)
                for message in effects.messages:
                    self._deliver(member, message)
                while replica.apply():
                    pass
                self.memberships[member].observe()
                busy = busy or bool(effects.appends or effects.messages) or replica.raw.has_ready()

    def _deliver(self, sender: int, message: Any) -> None:
        receiver = self.by_id.get(message.to)
        if receiver is None or {sender, message.to} & self.down:
            return
        try:
            receiver.step(message)
        except StepPeerNotFound:
            return  # An answer from one that has been removed meanwhile.

    def tick(self, count: int = 1) -> None:
        """Let time pass."""
        for _ in range(count):
            self.now_ms += TICK_MS
            for member, replica in self.by_id.items():
                replica.set_time(self.now_ms, 0)
                replica.tick()
                self.memberships[member].tick()
            self.settle()

    def propose(self, body: Any, member: int = 0, **who: Any) -> list[Outcome]:
        """Propose a command; gives the list that its outcome comes to."""
        outcomes: list[Outcome] = []
        replica = self.by_id[member] if member else self.leader
        replica.propose(Proposal(body, outcomes.append, **who))
        self.settle()
        return outcomes

    def execute(self, body: Any, **who: Any) -> Any:
        """Propose a command; gives its result or raises its error."""
        [outcome] = self.propose(body, **who)
        if outcome.error is not None:
            raise error_from_wire(*outcome.error)
        return outcome.result

    def refusal(self, body: Any, **who: Any) -> str:
        """Give the text with which the leader refuses to propose a change; empty if it does not."""
        membership = self.memberships[self.leader.raw.id]
        error = membership.refusal(Proposal(body, None, **who))
        return "" if error is None else error.message
