"""What the roles do with the messages that are not the main story: late, odd, or out of place."""

import pytest

from coordinator.raft import (
    InvariantBroken,
    ProgressState,
    ProposalDropped,
    RawNode,
    StateType,
    follower,
    membership,
)
from coordinator.wire.raft import (
    ConfChange,
    ConfChangeSingle,
    ConfChangeTransition,
    ConfChangeType,
    ConfChangeV2,
    ConfState,
    Entry,
    Message,
    MessageType,
    Snapshot,
    SnapshotMetadata,
)
from tests.raft.group import Member, config_of, entry, group_of, storage_of

APP = MessageType.MSG_APP
APP_RESP = MessageType.MSG_APP_RESP
READ_INDEX = MessageType.MSG_READ_INDEX
SNAP = MessageType.MSG_SNAP
VOTE_RESP = MessageType.MSG_VOTE_RESP
REMOVE = ConfChangeType.REMOVE_NODE
LEARN = ConfChangeType.ADD_LEARNER_NODE


def snapshot_at(index: int, term: int, voters: tuple[int, ...] = (1, 2, 3)) -> Snapshot:
    return Snapshot(b"", SnapshotMetadata(ConfState(voters), index, term))


def lead(member: Member) -> Member:
    member.node.campaign()
    member.work()
    for voter in (2, 3):
        if voter in member.node.raft.tracker.progress and not member.node.is_leader:
            member.step(Message(VOTE_RESP, 1, voter, member.node.term))
    assert member.node.is_leader
    return member


@pytest.mark.parametrize(
    "message",
    [
        Message(MessageType.MSG_HEARTBEAT, 1, 2, 1),
        Message(SNAP, 1, 2, 1, snapshot=snapshot_at(5, 1)),
    ],
)
def test_a_candidate_gives_way_to_whatever_a_leader_sends(message: Message) -> None:
    """A heartbeat or a snapshot of its term makes a candidate a follower."""
    member = Member(1, storage_of())
    member.node.campaign()
    member.work()
    member.step(message)
    assert (member.node.raft.state, member.node.lead) == (StateType.FOLLOWER, 2)


def test_a_transfer_can_be_asked_for_anywhere() -> None:
    """A follower passes the wish for another leader on; without a leader it is dropped."""
    group = group_of(3)
    group[2].node.transfer_leader(3)
    group.elect(1)
    group[2].node.transfer_leader(3)
    group.settle()
    assert group.leaders() == [3]


def test_a_transfer_can_be_changed() -> None:
    """Another successor replaces the one before; the same one again changes nothing."""
    group = group_of(3)
    group.elect(1)
    group.isolated = [2, 3]
    node = group[1].node
    node.propose([b"x"])
    for successor, expected in ((2, 2), (2, 2), (3, 3), (1, 0)):
        node.transfer_leader(successor)
        assert node.basic_status().lead_transferee == expected


def test_a_transfer_ends_when_its_target_is_removed() -> None:
    """A successor that loses its vote is waited for no longer."""
    group = group_of(3)
    group.elect(1)
    group.isolated = [3]
    group[1].node.propose_conf_change(ConfChange(REMOVE, 3))
    sent = group[1].work()
    group[1].node.transfer_leader(3)
    assert group[1].node.basic_status().lead_transferee == 3
    group[1].step(*group[2].step(*[message for message in sent if message.to == 2]))
    assert group[1].node.basic_status().lead_transferee == 0


def test_a_joint_configuration_is_left_after_a_failed_transfer() -> None:
    """The way out of a joint configuration waits for a transfer, and is taken afterwards."""
    group = group_of(3)
    group.elect(1)
    change = ConfChangeV2(ConfChangeTransition.JOINT_IMPLICIT, (ConfChangeSingle(LEARN, 3),))
    group[1].node.propose_conf_change(change)
    group.lost = lambda message: message.to == 3
    sent = group[1].work()
    group[1].node.transfer_leader(3)
    group[1].step(*group[2].step(*[message for message in sent if message.to == 2]))
    assert group[1].node.raft.tracker.config.is_joint
    assert group[1].log[-1].data
    group.lost = lambda message: False
    group.tick(10, 1)
    group[1].node.propose([b"x"])
    group.settle()
    assert group[1].conf_states[-1] == ConfState((1, 2), (3,))


def test_changes_that_do_not_fit_become_empty() -> None:
    """In a joint configuration only leaving is appended, outside of one only changing."""
    member = lead(Member(1, storage_of((1,))))
    node = member.node
    node.propose_conf_change(ConfChangeV2())
    member.work()
    assert member.log[-1] == entry(1, 2)
    node.propose_conf_change(
        ConfChangeV2(ConfChangeTransition.JOINT_EXPLICIT, (ConfChangeSingle(LEARN, 2),))
    )
    member.work()
    node.propose_conf_change(ConfChange(LEARN, 3))
    member.work()
    assert member.log[-1] == entry(1, 4)


def test_commands_and_changes_may_be_mixed() -> None:
    """A proposal may hold both; the change is noted at its own position."""
    member = lead(Member(1, storage_of((1,))))
    change = ConfChange(LEARN, 2)
    source = lead(Member(1, storage_of((1,))))
    source.node.propose_conf_change(change)
    encoded = source.node.raft.log.entries(2, 1 << 20)[0]
    mixed = [Entry(data=b"x"), Entry(type=encoded.type, data=encoded.data), Entry(data=b"y")]
    member.step(Message(MessageType.MSG_PROP, 1, 1, entries=mixed))
    assert member.node.raft.pending_conf_index == 3
    assert member.conf_states == [ConfState((1,), (2,))]


def test_a_cancelled_change_changes_nothing() -> None:
    """A change whose member has been set to 0 is applied to nothing."""
    node = Member(1, storage_of()).node
    assert node.apply_conf_change(ConfChange(REMOVE, 0)) == ConfState((1, 2, 3))
    assert node.apply_conf_change(ConfChange(ConfChangeType.UPDATE_NODE, 2)) == ConfState((1, 2, 3))


def test_strangers_are_ignored() -> None:
    """A leader ignores reports about those who are no members."""
    node = lead(Member(1, storage_of((1,)))).node
    node.report_unreachable(9)
    node.report_snapshot(9, delivered=False)
    node.raft.step(Message(APP_RESP, 1, 9, 1, index=5))
    assert list(node.status().progress) == [1]


def test_an_unreachable_follower_is_probed() -> None:
    """After a lost message a follower is probed, and streamed to again once it answers."""
    group = group_of(3)
    group.elect(1)
    node = group[1].node
    node.report_unreachable(2)
    assert node.status().progress[2].state == ProgressState.PROBE
    node.report_unreachable(2)
    group.tick(1, 1)
    assert node.status().progress[2].state == ProgressState.REPLICATE


def test_an_answer_during_a_snapshot_may_come_too_early() -> None:
    """A follower that is still behind the log keeps waiting for its snapshot."""
    member = lead(Member(1, storage_of(index=5, term=1)))
    member.step(Message(APP_RESP, 1, 2, 1, index=5, reject=True))
    assert member.node.status().progress[2].state == ProgressState.SNAPSHOT
    member.step(Message(APP_RESP, 1, 2, 1, index=3))
    its = member.node.status().progress[2]
    assert (its.state, its.match) == (ProgressState.SNAPSHOT, 3)


def test_a_read_without_leader_is_lost() -> None:
    """A read is dropped without a leader, and malformed reads and answers are ignored."""
    group = group_of(3)
    group[1].node.read_index(b"lost")
    group.elect(1)
    group[1].step(Message(READ_INDEX, 1, 2, entries=[]))
    group[2].step(Message(MessageType.MSG_READ_INDEX_RESP, 2, 1, 1, index=5))
    assert [member.reads for member in group.members.values()] == [{}, {}, {}]


def test_a_lone_member_reads_at_once() -> None:
    """A group of one needs no round of heartbeats."""
    member = lead(Member(1, storage_of((1,))))
    member.node.read_index(b"alone")
    member.work()
    assert member.reads == {b"alone": 1}


def test_repeated_answers_to_a_round_confirm_nothing_new() -> None:
    """An answer that arrives again confirms no other read."""
    member = lead(Member(1, storage_of()))
    member.step(Message(APP_RESP, 1, 2, 1, index=1))
    member.node.read_index(b"first")
    pulse = next(one for one in member.work() if one.to == 2 and one.context)
    answer = Message(MessageType.MSG_HEARTBEAT_RESP, 1, 2, 1, context=pulse.context)
    member.step(answer, answer)
    assert member.reads == {b"first": 1}


def test_reads_beyond_the_bound_are_dropped() -> None:
    """A leader whose rounds are not answered keeps a bounded number of reads."""
    member = lead(Member(1, storage_of(), max_pending_reads=2))
    member.step(Message(APP_RESP, 1, 2, 1, index=1))
    for number in range(5):
        member.node.read_index(b"%d" % number)
    sent = [one for one in member.work() if one.to == 2 and one.context]
    last = Message(MessageType.MSG_HEARTBEAT_RESP, 1, 2, 1, context=sent[-1].context)
    member.step(last)
    assert member.reads == {b"0": 1, b"1": 1}


def test_a_snapshot_for_others_is_refused() -> None:
    """A snapshot whose configuration lacks this member, or that is old, is not taken up."""
    member = Member(1, storage_of(index=5, term=1))
    for snapshot in (snapshot_at(9, 1, (2, 3)), snapshot_at(4, 1), None):
        [answer] = member.step(Message(SNAP, 1, 2, 1, snapshot=snapshot))
        assert answer == Message(APP_RESP, 2, 1, 1, index=5)


def test_a_leader_takes_no_snapshot() -> None:
    """Should a leader ever be given a snapshot, it steps down instead of installing it."""
    member = lead(Member(1, storage_of()))
    assert not follower.restore(member.node.raft, snapshot_at(9, 9))
    assert (member.node.raft.state, member.node.term) == (StateType.FOLLOWER, 2)


def test_a_snapshot_stored_in_an_earlier_term_counts() -> None:
    """The confirmation of a snapshot is valid whatever happened to the term meanwhile."""
    storage = storage_of()
    node = RawNode(config_of(1, storage, async_storage_writes=True))
    node.step(Message(SNAP, 1, 2, 1, snapshot=snapshot_at(5, 1)))
    append = node.ready().messages[-1]
    assert not node.raft.promotable()
    node.step(Message(MessageType.MSG_HEARTBEAT, 1, 3, 2))
    node.ready()
    storage.apply_snapshot(snapshot_at(5, 1))
    assert append.responses[-1].term == 1
    node.step(append.responses[-1])
    assert (node.applied, node.raft.log.unstable.snapshot) == (5, None)
    assert node.raft.promotable()


def test_an_empty_snapshot_is_never_sent() -> None:
    """A storage that compacts without having a snapshot stops the leader."""
    storage = storage_of(entries=[entry(1, 1), entry(1, 2)])
    member = lead(Member(1, storage))
    storage.compact(2)
    with pytest.raises(InvariantBroken, match="non-empty"):
        member.step(Message(APP_RESP, 1, 2, 1, index=2, reject=True, log_term=0))


def test_impossible_transitions_stop_the_member() -> None:
    """No leader becomes a candidate, and no follower a leader, without an election."""
    raft = lead(Member(1, storage_of((1,)))).node.raft
    with pytest.raises(InvariantBroken):
        raft.become_candidate()
    with pytest.raises(InvariantBroken):
        raft.become_pre_candidate()
    with pytest.raises(InvariantBroken):
        Member(1, storage_of()).node.raft.become_leader()


def test_messages_are_checked_before_they_leave() -> None:
    """A message with a term where none belongs, without one, or to its sender, is a mistake."""
    raft = lead(Member(1, storage_of())).node.raft
    with pytest.raises(InvariantBroken, match="should be set"):
        raft.send(Message(MessageType.MSG_VOTE, 2))
    with pytest.raises(InvariantBroken, match="should not be set"):
        raft.send(Message(APP, 2, term=1))
    with pytest.raises(InvariantBroken, match="sender"):
        raft.send(Message(MessageType.MSG_HEARTBEAT, 1))


def test_a_configuration_that_comes_back_changed_is_refused() -> None:
    """A stored configuration that cannot be restored as it is stops the member."""
    raft = Member(1, storage_of()).node.raft
    for state in (
        ConfState((1,), voters_outgoing=(1, 2), learners_next=(3,)),
        ConfState((), learners=(1,)),
    ):
        with pytest.raises(InvariantBroken):
            membership.restore(raft, state)


def test_a_demoted_leader_takes_no_commands() -> None:
    """A leader that has removed itself leads on, but takes no new commands."""
    group = group_of(2)
    group.elect(1)
    group[1].node.propose_conf_change(ConfChange(REMOVE, 1))
    group.settle()
    with pytest.raises(ProposalDropped):
        group[1].node.propose([b"x"])
    group[1].node.campaign()
    group.tick(25, 2)
    assert group[2].node.is_leader
