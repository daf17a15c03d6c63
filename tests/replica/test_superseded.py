"""Proposals whose entries another leader has replaced: each is told once, and told the truth."""

from __future__ import annotations

from coordinator.replica.effects import Proposal
from coordinator.replica.requests import Outcome
from coordinator_sdk.errors import NoLeader, OutcomeUnknown, Unavailable
from coordinator_sdk.protocol.cluster import ClientRegister
from coordinator_sdk.protocol.kv import Put
from tests.node.replicas import TICK_MS, Replicas

PATIENCE_TICKS = 5000 // TICK_MS
PUT = Put(b"a", b"1")


def code(outcomes: list[Outcome]) -> str:
    """Give the code of the one outcome, empty if it went well."""
    [outcome] = outcomes
    return "" if outcome.error is None else outcome.error[0]


def cut_off(group: Replicas, count: int, **who: int) -> list[list[Outcome]]:
    """Let the leader propose what reaches nobody."""
    group.down = {group.leader.raw.id}
    return [group.propose(PUT, 1, **who) for _ in range(count)]


def elect(group: Replicas, member: int) -> None:
    """Have one of those that are not down lead."""
    for other, replica in group.by_id.items():
        if other not in group.down:
            replica.raw.forget_leader()
    group.by_id[member].raw.campaign()
    group.settle()
    assert group.leader.raw.id == member


def test_replaced_proposals_are_refused():
    """What a deposed leader had proposed, and nobody else has, is refused as not applied: the one
    whose place another entry took, and all behind it."""
    group = Replicas(3)
    lost = cut_off(group, 5)
    elect(group, 2)
    group.execute(Put(b"b", b"1"))
    assert lost == [[]] * 5
    group.down = set()
    group.tick(2)
    assert [code(outcomes) for outcomes in lost] == [Unavailable.code] * 5
    assert {one.machine.keyspace.revision for one in group.by_id.values()} == {2}
    assert group.by_id[1]._in_flight == {}


def test_a_successor_that_has_them_commits_them():
    """What has reached the successor is applied, and its proposer gets the outcome."""
    group = Replicas(3)
    former = group.by_id[1]
    outcomes: list[Outcome] = []
    former.propose(Proposal(PUT, outcomes.append))
    effects = former.turn()
    for append in effects.appends:
        former.persisted(append)
    for message in effects.messages:
        if message.to == 2:
            group.by_id[2].step(message)
    group.down = {1}
    group.settle()
    elect(group, 2)
    assert outcomes == []
    group.down = set()
    group.tick(2)
    assert code(outcomes) == ""
    assert {one.machine.keyspace.revision for one in group.by_id.values()} == {2}


def test_no_outcome_is_mistaken_for_another():
    """An entry of another leader at the same index does not answer a proposal."""
    group = Replicas(3)
    [lost] = cut_off(group, 1)
    elect(group, 2)
    group.down = set()
    group.tick(2)
    assert code(lost) == Unavailable.code
    assert lost[0].result is None


def test_without_a_quorum_the_outcome_is_unknown():
    """A proposal without a request id is told after a while that its outcome is unknown; one with
    a request id waits, as only the log can tell."""
    group = Replicas(3)
    group.execute(ClientRegister(5))
    [without] = cut_off(group, 1)
    with_id = group.propose(PUT, 1, client=5, sequence=1)
    group.tick(PATIENCE_TICKS + 2)
    assert code(without) == OutcomeUnknown.code
    assert with_id == []
    group.down = set()
    group.tick(40)
    assert len(without) == len(with_id) == 1


def test_a_deposed_leader_refuses():
    """Who does not lead proposes nothing, and says so at once; so does one deposed in between."""
    group = Replicas(3)
    assert code(group.propose(PUT, 2)) == NoLeader.code
    outcomes: list[Outcome] = []
    leader = group.leader
    leader.propose(Proposal(PUT, outcomes.append))
    leader.raw.raft.become_follower(leader.raw.term, 0)
    leader.turn()
    assert code(outcomes) == Unavailable.code


def test_an_entry_expected_too_late():
    """What is said to be at an index is believed only while that can still be found out."""
    group = Replicas(3)
    follower = group.by_id[2]
    outcomes: list[Outcome] = []
    proposal = Proposal(PUT, outcomes.append)
    index, term = follower.machine.index, follower.machine.term
    assert not follower.expect(proposal, index, term)
    assert outcomes == []


def test_an_entry_of_a_term_that_is_over():
    """An entry of an earlier term can't be committed any more behind a later one: its proposer is
    told without waiting for another entry there."""
    group = Replicas(3)
    follower = group.by_id[3]
    old_term = group.leader.raw.term
    group.down = {1}
    elect(group, 2)
    outcomes: list[Outcome] = []
    assert follower.expect(Proposal(PUT, outcomes.append), follower.machine.index + 5, old_term)
    assert code(outcomes) == Unavailable.code


def test_two_that_expect_the_same_place():
    """Of two proposals said to be at one index the one of the later term may be there."""
    group = Replicas(3)
    follower = group.by_id[2]
    index, term = follower.machine.index + 1, follower.machine.term
    first: list[Outcome] = []
    second: list[Outcome] = []
    assert follower.expect(Proposal(PUT, first.append), index, term)
    assert not follower.expect(Proposal(PUT, second.append), index, term)
    assert follower.expect(Proposal(PUT, second.append), index, term + 1)
    assert (code(first), second) == (Unavailable.code, [])
    assert not follower.expect(Proposal(PUT, first.append), index, term)


def test_what_is_in_doubt_is_not_called_refused():
    """A proposal of which an earlier try may be in the log is never said not to be applied."""
    group = Replicas(3)
    replica = group.by_id[2]
    outcomes: list[Outcome] = []
    again: list[Proposal] = []
    proposal = Proposal(PUT, outcomes.append, client=5, sequence=1, in_doubt=True)
    replica.ask_again = again.append
    replica.refuse(proposal, Unavailable("try again"))
    assert (outcomes, again) == ([], [proposal])
    replica.ask_again = None
    replica.refuse(proposal, Unavailable("try again"))
    assert code(outcomes) == OutcomeUnknown.code
