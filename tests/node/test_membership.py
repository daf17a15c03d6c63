"""What only the leader knows of the members: who is there, who has caught up, who takes over."""

from pathlib import Path

import pytest

from coordinator.node.membership import (
    BAD_TRANSFEREE,
    NOT_READY,
    TOO_MANY_LEARNERS,
    TRANSFER_TOOK_TOO_LONG,
    UNHEALTHY,
    Membership,
    publication,
)
from coordinator.replica.effects import Proposal
from coordinator.replica.membership import NOT_ENOUGH_STARTED, NOT_FOUND, NOT_LEARNER
from coordinator.replica.requests import Outcome
from coordinator.storage.identity import Identity
from coordinator.wire.command import MemberPublish
from coordinator_sdk.errors import Conflict, CoordinatorError, NoLeader, Unavailable
from coordinator_sdk.protocol.cluster import (
    ClientRegister,
    MemberAdd,
    MemberPromote,
    MemberRemove,
    MemberUpdate,
)
from coordinator_sdk.protocol.kv import Put
from tests.node.replicas import Replicas
from tests.node.running import config, running

URL = "http://127.0.0.1:2390"
LEARNER = MemberAdd([URL], member=4)
VOTER = MemberAdd([URL], is_learner=False, member=4)


def unstarted(group: Replicas, *members: int) -> None:
    """Let members be some that never came."""
    for replica in group.by_id.values():
        for member in members:
            replica.machine.members[member].data_directory = 0


# ---------------------------------------------------------------- before a change


def test_a_healthy_group_may_change():
    """With everybody there, learners and voters may be added and members removed."""
    group = Replicas(3)
    for body in (LEARNER, VOTER, MemberRemove(2), MemberRemove(1)):
        assert group.refusal(body) == ""


def test_one_that_is_alone_may_grow_and_not_shrink():
    """A lone voter may get a second one, and is never removed."""
    group = Replicas(1)
    assert group.refusal(VOTER) == ""
    assert group.refusal(LEARNER) == ""
    assert group.refusal(MemberRemove(1)) == NOT_ENOUGH_STARTED


def test_adding_needs_everybody():
    """While a voter can't be reached, nobody is added."""
    group = Replicas(3)
    group.down = {3}
    assert group.refusal(VOTER) == UNHEALTHY
    assert group.refusal(LEARNER) == UNHEALTHY


def test_a_voter_is_added_only_to_members_that_came():
    """A voter more must not make a quorum impossible: too few of the members ever came."""
    group = Replicas(3)
    unstarted(group, 3)
    group.execute(Put(b"a", b"1"))
    assert group.refusal(VOTER) == NOT_ENOUGH_STARTED
    assert group.refusal(LEARNER) == ""


def test_a_second_learner_is_one_too_many():
    """There are never more learners than allowed."""
    group = Replicas(3)
    group.execute(LEARNER)
    assert group.refusal(MemberAdd(["http://127.0.0.1:1"], member=5)) == TOO_MANY_LEARNERS
    assert group.refusal(MemberAdd(["http://127.0.0.1:1"], is_learner=False, member=5)) == ""


def test_a_working_voter_stays_while_another_is_down():
    """What is left after a removal must have a quorum; one that is down may go."""
    group = Replicas(3)
    group.down = {3}
    assert group.refusal(MemberRemove(2)) == UNHEALTHY
    assert group.refusal(MemberRemove(3)) == ""
    unstarted(group, 3)
    assert group.refusal(MemberRemove(2)) == NOT_ENOUGH_STARTED


def test_a_learner_may_always_go():
    """Removing a learner costs no quorum, whoever is down."""
    group = Replicas(3)
    group.execute(LEARNER)
    group.down = {3}
    assert group.refusal(MemberRemove(4)) == ""


def test_the_check_can_be_switched_off():
    """Without the strict check only what all members agree on is refused."""
    group = Replicas(3)
    group.down = {3}
    leader = group.leader
    lenient = Membership(
        leader,
        is_linked=lambda other: False,
        schedule=lambda: None,
        election_timeout_ms=1000,
        strict=False,
    )
    assert lenient.refusal(Proposal(VOTER, None)) is None
    assert lenient.refusal(Proposal(MemberRemove(2), None)) is None
    error = lenient.refusal(Proposal(MemberRemove(9), None))
    assert error is not None
    assert error.message == NOT_FOUND


def test_a_learner_must_have_caught_up():
    """A learner is promoted when it has nine tenths of the leader's log, and not before."""
    group = Replicas(3, others=[4])
    group.down = {4}
    group.execute(LEARNER)
    assert group.refusal(MemberPromote(4)) == NOT_READY
    assert group.refusal(MemberPromote(2)) == NOT_LEARNER
    assert group.refusal(MemberPromote(9)) == NOT_FOUND
    group.down = set()
    group.tick(2)
    assert group.refusal(MemberPromote(4)) == ""
    group.down = {4}
    for _ in range(20):
        group.execute(Put(b"a", b"1"))
    assert group.refusal(MemberPromote(4)) == NOT_READY


def test_a_retry_is_let_through():
    """A change that was applied is no longer judged: its retry gets the first outcome."""
    group = Replicas(3)
    group.execute(ClientRegister(11))
    who = {"client": 11, "sequence": 1}
    first = group.execute(MemberRemove(3), **who)
    assert group.refusal(MemberRemove(3)) == NOT_FOUND
    assert group.refusal(MemberRemove(3), **who) == ""
    assert group.execute(MemberRemove(3), **who) == first


def test_other_commands_are_not_concerned():
    """Only what changes the configuration is looked at."""
    assert Membership.concerns(MemberRemove(1))
    assert not Membership.concerns(MemberUpdate(1, [URL]))
    assert not Membership.concerns(Put(b"a", b"1"))


# ---------------------------------------------------------------- promotion


def test_a_learner_is_promoted_by_itself():
    """A learner that asked for it becomes a voter once it has come and caught up."""
    group = Replicas(3, others=[4])
    group.down = {4}
    group.execute(MemberAdd([URL], promote_when_ready=True, member=4))
    group.tick(5)
    assert group.leader.machine.conf_state.learners == (4,)
    group.down = set()
    group.tick(3)
    assert group.leader.machine.conf_state.learners == (4,)
    group.execute(MemberPublish(4, "fourth", [], 44))
    group.tick(1)
    for replica in group.by_id.values():
        assert replica.machine.conf_state.voters == (1, 2, 3, 4)
    index = group.leader.machine.index
    group.tick(30)
    assert group.leader.machine.index == index


def test_a_learner_stays_one():
    """A learner that did not ask for it is not promoted."""
    group = Replicas(3, others=[4])
    group.execute(LEARNER)
    group.execute(MemberPublish(4, "fourth", [], 44))
    group.tick(20)
    assert group.leader.machine.conf_state.learners == (4,)


# ---------------------------------------------------------------- transfer


def transfer(group: Replicas, to: int = 0, member: int = 1) -> list[int | CoordinatorError]:
    """Ask a member to hand leadership over; gives the list that the answer comes to."""
    answers: list[int | CoordinatorError] = []
    group.memberships[member].transfer(to, answers.append)
    group.settle()
    return answers


def test_leadership_goes_to_the_chosen_one():
    """Leadership moves to the voter that was named, asked at the leader or elsewhere."""
    group = Replicas(3)
    assert transfer(group, 3) == [3]
    assert group.leader.raw.id == 3
    assert transfer(group, 2, member=1) == [2]
    assert transfer(group, 2, member=2) == [2]
    assert transfer(group, 0, member=3) == [3]


def test_leadership_goes_to_the_best_one():
    """Without a name it goes to the reachable voter with the longest log."""
    group = Replicas(3)
    group.down = {2}
    group.execute(Put(b"a", b"1"))
    group.down = set()
    progress = group.leader.raw.raft.tracker.progress
    assert progress[2].match < progress[3].match
    assert transfer(group) == [3]
    group.down = {1}
    assert transfer(group, member=3) == [2]


def test_nobody_to_take_over():
    """A leader whom nobody can follow says so, and goes on."""
    group = Replicas(1)
    [error] = transfer(group)
    assert isinstance(error, Unavailable)
    group = Replicas(3)
    group.down = {2, 3}
    [error] = transfer(group)
    assert isinstance(error, Unavailable)
    group.down = set()
    group.execute(Put(b"a", b"1"))


def test_a_learner_does_not_lead():
    """Leadership goes to a voter or nobody."""
    group = Replicas(3, others=[4])
    group.execute(LEARNER)
    for to in (4, 9):
        [error] = transfer(group, to)
        assert isinstance(error, Conflict)
        assert error.message == BAD_TRANSFEREE


def test_a_transfer_to_a_silent_member_times_out():
    """A successor that does not answer costs an election timeout, and the leader goes on."""
    group = Replicas(3)
    group.down = {3}
    answers = transfer(group, 3)
    assert answers == []
    group.tick(12)
    [error] = answers
    assert isinstance(error, Unavailable)
    assert error.message == TRANSFER_TOOK_TOO_LONG
    assert group.leader.raw.id == 1
    group.execute(Put(b"a", b"1"))


async def test_a_transfer_can_be_awaited():
    """Awaited, a transfer gives the new leader or raises."""
    group = Replicas(3)
    with pytest.raises(Conflict, match="bad leader transferee"):
        await group.memberships[1].hand_over(9)
    assert await group.memberships[1].hand_over(1) == 1


def test_without_a_leader_there_is_nothing_to_hand_over():
    """A member that knows no leader says so."""
    group = Replicas(3)
    group.by_id[2].raw.forget_leader()
    [error] = transfer(group, 3, member=2)
    assert isinstance(error, NoLeader)


# ---------------------------------------------------------------- admission


def admitted(group: Replicas, body: object) -> tuple[list[Proposal], list[Outcome]]:
    """Give a change to the leader; gives what it let through and what it told the proposer."""
    passed: list[Proposal] = []
    told: list[Outcome] = []
    membership = group.memberships[group.leader.raw.id]
    membership.admit(Proposal(body, told.append), passed.append)
    group.settle()
    return passed, told


def test_a_change_is_let_through_or_refused():
    """The proposer of a change that does not fit is told so; others go on to the log."""
    group = Replicas(3)
    passed, told = admitted(group, MemberRemove(2))
    assert [one.body for one in passed] == [MemberRemove(2)]
    assert told == []
    passed, told = admitted(group, MemberRemove(9))
    assert passed == []
    [outcome] = told
    assert outcome.error is not None
    assert outcome.error[:2] == ("not_found", NOT_FOUND)


def test_a_leader_is_removed_by_its_successor():
    """A leader that is to be removed hands leadership over, and then lets the change go on."""
    group = Replicas(3)
    passed, told = admitted(group, MemberRemove(1))
    assert told == []
    [proposal] = passed
    assert group.leader.raw.id != 1
    group.execute(proposal.body)
    assert group.leader.machine.conf_state.voters == (2, 3)
    group.execute(Put(b"a", b"1"))


def test_a_leader_without_successor_is_not_removed():
    """When the transfer fails, so does the removal, and the leader goes on."""
    group = Replicas(3)
    membership = group.memberships[1]
    membership._strict = False
    group.down = {2, 3}
    passed, told = admitted(group, MemberRemove(1))
    assert passed == []
    assert [outcome.error is not None for outcome in told] == [True]


# ---------------------------------------------------------------- publication


async def test_a_member_makes_itself_known_once(tmp_path: Path):
    """A member tells its name, addresses and directory, and again only when they change."""
    settings = config(tmp_path, name="first", advertise_client_urls=("http://127.0.0.1:2379",))
    machine = Replicas(1).leader.machine
    identity = Identity(member_id=1, directory_id=1, cluster_id=5)
    told = publication(settings, identity, machine)
    assert told is not None
    assert told.peer_urls == ["http://127.0.0.1:2380"]
    machine.members[1].name, machine.members[1].client_urls = told.name, told.client_urls
    assert publication(settings, identity, machine) is None
    machine.members[1].client_urls = []
    assert publication(settings, identity, machine) == told
    other = Identity(member_id=1, directory_id=2, cluster_id=5)
    machine.members[1].client_urls = told.client_urls
    assert publication(settings, other, machine) is not None


async def test_a_running_member_is_known(tmp_path: Path):
    """A member that runs alone stands in its own table with its addresses."""
    async with running(tmp_path) as node:
        [known] = node.machine.members.values()
        assert known.is_started
        assert (known.member, known.format) == (node.member_id, 1)
        assert node.machine.conf_state.voters == (node.member_id,)
