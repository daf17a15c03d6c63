"""What stands before a change of the members, and what the leader does on its own.

All members judge a committed change alike, by the replicated state. What only the leader knows
comes before: who can be reached, and how far each one's log reaches. That is asked here, before
the change is proposed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

from coordinator.node.bootstrap import own_peer_urls
from coordinator.raft import ProgressState
from coordinator.replica import membership, permissions
from coordinator.replica.effects import no_leader
from coordinator.wire.command import FORMAT, MemberPublish
from coordinator_sdk.errors import (
    Conflict,
    CoordinatorError,
    NotApplied,
    OutcomeUnknown,
    Unavailable,
)
from coordinator_sdk.protocol.cluster import MemberAdd, MemberPromote, MemberRemove

if TYPE_CHECKING:
    from coordinator.config import Config
    from coordinator.replica.effects import Proposal
    from coordinator.replica.machine import Machine
    from coordinator.replica.replica import Replica
    from coordinator.storage.identity import Identity

READY_SHARE: Final = 0.9
"""Of the leader's log, which a learner must have to be promoted."""
CAUGHT_UP_ENTRIES: Final = 1000
"""How far a learner that is promoted by itself may lag behind."""

NOT_READY: Final = "etcdserver: can only promote a learner member which is in sync with leader"
TOO_MANY_LEARNERS: Final = "etcdserver: too many learner members in cluster"
UNHEALTHY: Final = "etcdserver: unhealthy cluster"
BAD_TRANSFEREE: Final = "etcdserver: bad leader transferee"
TRANSFER_TOOK_TOO_LONG: Final = "etcdserver: request timed out, leader transfer took too long"

Transferred = Callable[["int | CoordinatorError"], None]
"""Told who leads now, or why the former leader still does."""


class _Transfer(Struct):
    former: int
    deadline_ms: int
    done: Transferred


class Membership:
    """The leader's part in changes of the members, and the transfer of leadership.

    Args:
        replica: Whose members.
        is_linked: Whether another member can be reached at the moment.
        schedule: Asks for a turn of the loop.
        election_timeout_ms: How long the core tries to hand leadership over.
        strict: Whether changes that would cost the quorum are refused.
        learners_max: Learners there may be at a time.
    """

    def __init__(
        self,
        replica: Replica,
        *,
        is_linked: Callable[[int], bool],
        schedule: Callable[[], None],
        election_timeout_ms: int,
        strict: bool = True,
        learners_max: int = 1,
    ) -> None:
        self._replica = replica
        self._is_linked = is_linked
        self._schedule = schedule
        self._election_timeout_ms = election_timeout_ms
        self._strict = strict
        self._learners_max = learners_max
        self._promoted_ms: dict[int, int] = {}
        self._transfers: list[_Transfer] = []

    # ------------------------------------------------------------ before a change

    @staticmethod
    def concerns(body: Any) -> bool:
        """Whether a command has to be given to `admit` on the leader."""
        return type(body) in membership.CHANGES

    def admit(self, proposal: Proposal, go_on: Callable[[Proposal], None]) -> None:
        """Look at a change of the members on the leader, before it is proposed.

        A leader that is to be removed hands leadership over first; the new one removes it.

        Args:
            proposal: The change. Refused, its ``done`` is told.
            go_on: Takes what may be proposed: by this member if it still leads, else by the
                one that leads then.
        """
        error = self.refusal(proposal)
        if error is not None:
            self._refuse(proposal, error)
        elif self._removes_leader(proposal.body):

            def transferred(answer: int | CoordinatorError) -> None:
                if isinstance(answer, CoordinatorError):
                    self._refuse(proposal, answer)
                else:
                    go_on(proposal)

            self.transfer(0, transferred)
        else:
            go_on(proposal)

    def refusal(self, proposal: Proposal) -> CoordinatorError | None:
        """Say why a change must not be proposed now; None if it may."""
        if self._was_applied(proposal):
            return None  # The log gives the outcome of the first try.
        machine, body = self._replica.machine, proposal.body
        try:
            if machine.auth.enabled:
                permissions.judge(machine, proposal)
            membership.check(machine, body)
            if type(body) is MemberAdd:
                self._check_add(machine, body)
            elif type(body) is MemberRemove:
                self._check_remove(machine, body.member)
            elif type(body) is MemberPromote:
                self._check_promote(machine, body.member)
        except NotApplied as error:
            return error
        return None

    def _was_applied(self, proposal: Proposal) -> bool:
        if not proposal.client:
            return False
        table = self._replica.machine.requests
        try:
            stored = table.find(proposal.client, proposal.sequence, proposal.body)
        except (NotApplied, OutcomeUnknown):
            return True
        return stored is not None

    def _check_add(self, machine: Machine, body: MemberAdd) -> None:
        voters, learners = machine.conf_state.voters, machine.conf_state.learners
        if body.is_learner and len(learners) >= self._learners_max:
            raise Conflict(TOO_MANY_LEARNERS, limit=self._learners_max)
        if not self._strict:
            return
        started = self._started(machine, voters)
        # One that is alone may get a second: there is no other way to grow.
        if not body.is_learner and started <= (len(voters) + 1) // 2 and len(voters) > 1:
            raise Conflict(membership.NOT_ENOUGH_STARTED)
        silent = [voter for voter in voters if not self._is_active(voter)]
        if silent:
            raise Unavailable(UNHEALTHY, silent=[f"{voter:016x}" for voter in silent])

    def _check_remove(self, machine: Machine, member: int) -> None:
        voters = machine.conf_state.voters
        if not self._strict or member not in voters:
            return
        left = [voter for voter in voters if voter != member]
        if self._started(machine, left) <= len(left) // 2:
            raise Conflict(membership.NOT_ENOUGH_STARTED, member=f"{member:016x}")
        if not self._is_active(member):
            return  # It is no part of the quorum that works.
        if sum(map(self._is_active, left)) <= len(left) // 2:
            silent = [voter for voter in left if not self._is_active(voter)]
            raise Unavailable(UNHEALTHY, silent=[f"{voter:016x}" for voter in silent])

    def _check_promote(self, machine: Machine, member: int) -> None:
        progress = self._replica.raw.raft.tracker.progress
        its, own = progress.get(member), progress.get(self._replica.raw.id)
        if its is None or own is None or its.match < own.match * READY_SHARE:
            raise Conflict(NOT_READY, member=f"{member:016x}")
        voters = machine.conf_state.voters
        # The learner counts as started: it could not have caught up otherwise.
        if self._strict and self._started(machine, voters) < (len(voters) + 1) // 2:
            raise Conflict(membership.NOT_ENOUGH_STARTED, member=f"{member:016x}")

    def _started(self, machine: Machine, members: tuple[int, ...] | list[int]) -> int:
        """Count who has taken part; this member does, whatever the table says."""
        own, table = self._replica.raw.id, machine.members
        return sum(
            member == own or (member in table and table[member].is_started) for member in members
        )

    def _is_active(self, member: int) -> bool:
        return member == self._replica.raw.id or self._is_linked(member)

    def _removes_leader(self, body: Any) -> bool:
        raw = self._replica.raw
        return type(body) is MemberRemove and body.member == raw.id and raw.is_leader

    def _refuse(self, proposal: Proposal, error: CoordinatorError) -> None:
        self._replica.refuse(proposal, error)

    # ------------------------------------------------------------ transfer

    def transfer(self, to: int, done: Transferred) -> None:
        """Hand leadership over. Works on any member: a follower asks its leader.

        Args:
            to: A voter; 0 for the one that is the most up to date, or for this member if it
                does not lead.
            done: Called once: with the new leader, or with the error for which there is none.
        """
        raw = self._replica.raw
        former = raw.lead
        try:
            if former == 0:
                raise no_leader()
            to = to or self._successor()
            if to not in self._replica.machine.conf_state.voters:
                raise Conflict(BAD_TRANSFEREE, member=f"{to:016x}")
        except CoordinatorError as error:
            done(error)
            return
        if to == former:
            done(former)
            return
        deadline_ms = self._replica.now_ms + 2 * self._election_timeout_ms
        self._transfers.append(_Transfer(former, deadline_ms, done))
        raw.transfer_leader(to)
        self._schedule()

    async def hand_over(self, to: int = 0) -> int:
        """Hand leadership over and wait until another member leads.

        Args:
            to: As for `transfer`.

        Returns:
            Who leads now.

        Raises:
            NoLeader: Nobody leads.
            Conflict: ``to`` is no voter.
            Unavailable: It took too long, or there is nobody to take over.
        """
        answer: asyncio.Future[int | CoordinatorError] = asyncio.get_running_loop().create_future()

        def done(found: int | CoordinatorError) -> None:
            if not answer.done():
                answer.set_result(found)

        self.transfer(to, done)
        found = await answer
        if isinstance(found, CoordinatorError):
            raise found
        return found

    def _successor(self) -> int:
        """Choose who is to lead: the reachable voter with the longest log.

        Raises:
            Unavailable: There is none.
        """
        raw = self._replica.raw
        voters = self._replica.machine.conf_state.voters
        if not raw.is_leader and raw.id in voters:
            return raw.id
        progress = raw.raft.tracker.progress
        able = [
            (progress[voter].match, -voter)
            for voter in voters
            if voter not in (raw.id, raw.lead) and voter in progress and self._is_linked(voter)
        ]
        if not able:
            raise Unavailable("no other voter can be reached: there is nobody to take over")
        return -max(able)[1]

    def observe(self) -> None:
        """See whether a transfer has come to its end; to be called after every turn."""
        if not self._transfers:
            return
        raw, now_ms = self._replica.raw, self._replica.now_ms
        waiting, self._transfers = self._transfers, []
        for transfer in waiting:
            if raw.lead not in (0, transfer.former):
                transfer.done(raw.lead)
            elif now_ms >= transfer.deadline_ms or (
                raw.is_leader and raw.raft.lead_transferee == 0
            ):
                transfer.done(Unavailable(TRANSFER_TOOK_TOO_LONG))
            else:
                self._transfers.append(transfer)

    # ------------------------------------------------------------ on its own

    def tick(self) -> None:
        """Promote the learners that asked for it and have caught up; to be called every tick."""
        self.observe()
        replica = self._replica
        if not replica.is_leader:
            self._promoted_ms.clear()
            return
        learners = replica.machine.conf_state.learners
        for member in learners:
            known = replica.machine.members.get(member)
            if known is None or not (known.promote_when_ready and known.is_started):
                continue
            if replica.now_ms < self._promoted_ms.get(member, 0) or not self._is_caught_up(member):
                continue
            self._promoted_ms[member] = replica.now_ms + self._election_timeout_ms
            replica.propose_internal(MemberPromote(member), "the learner has caught up")

    def _is_caught_up(self, member: int) -> bool:
        raw = self._replica.raw
        its = raw.raft.tracker.progress.get(member)
        return (
            its is not None
            and its.state == ProgressState.REPLICATE
            and its.match + CAUGHT_UP_ENTRIES >= raw.last_index
            and self._is_linked(member)
        )


def publication(config: Config, identity: Identity, machine: Machine) -> MemberPublish | None:
    """Give what a member has to make known of itself; None if all know it already."""
    known = machine.members.get(identity.member_id)
    urls = list(config.advertise_client_urls or config.listen_client_urls)
    told = MemberPublish(
        identity.member_id,
        config.name,
        urls,
        identity.directory_id,
        FORMAT,
        sorted(own_peer_urls(config)),
    )
    if known is not None and known.peer_urls:
        facts = (known.name, known.client_urls, known.data_directory, known.format)
        if facts == (told.name, told.client_urls, told.data_directory, told.format):
            return None
    return told
