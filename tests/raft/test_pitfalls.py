"""Mistakes that other implementations have made, each with the test that would have shown it."""

import random
from collections.abc import Callable

import pytest

from coordinator.raft import (
    LOCAL_APPEND,
    LOCAL_APPLY,
    ConfigInvalid,
    InvariantBroken,
    MemoryStorage,
    ProgressState,
    ProposalDropped,
    RawNode,
    ReadOnlyOption,
    SnapshotTemporarilyUnavailable,
    StateType,
    StepLocalMessage,
    StepPeerNotFound,
    hard_state_of,
)
from coordinator.wire.raft import (
    ConfChange,
    ConfChangeSingle,
    ConfChangeTransition,
    ConfChangeType,
    ConfChangeV2,
    ConfState,
    Entry,
    HardState,
    Message,
    MessageType,
    Snapshot,
    SnapshotMetadata,
)
from tests.raft.group import (
    ELECTION_TICK,
    Group,
    Member,
    config_of,
    entry,
    group_of,
    storage_of,
)

APP = MessageType.MSG_APP
APP_RESP = MessageType.MSG_APP_RESP
HEARTBEAT = MessageType.MSG_HEARTBEAT
PRE_VOTE = MessageType.MSG_PRE_VOTE
PRE_VOTE_RESP = MessageType.MSG_PRE_VOTE_RESP
VOTE = MessageType.MSG_VOTE
VOTE_RESP = MessageType.MSG_VOTE_RESP
SNAP = MessageType.MSG_SNAP
APPEND = MessageType.MSG_STORAGE_APPEND

PROTECTED = {"pre_vote": True, "check_quorum": True}


def async_node(storage: MemoryStorage | None = None, **settings: object) -> RawNode:
    storage = storage or storage_of()
    return RawNode(config_of(1, storage, async_storage_writes=True, **settings))


def sent_by(node: RawNode) -> list[Message]:
    return node.ready().messages


def test_a_vote_leaves_after_it_is_durable() -> None:
    """Term and vote are stored before a granted vote leaves."""
    node = async_node()
    node.step(Message(VOTE, 1, 2, 5))
    [append] = sent_by(node)
    assert (append.type, append.to) == (APPEND, LOCAL_APPEND)
    assert hard_state_of(append) == HardState(5, 2, 0)
    assert append.responses == [Message(VOTE_RESP, 2, 1, 5)]


def test_a_candidate_counts_its_own_vote_after_it_is_durable() -> None:
    """A candidate, even a lone one, does not lead before its own vote is stored."""
    node = async_node(storage_of((1,)))
    node.campaign()
    [append] = sent_by(node)
    assert hard_state_of(append) == HardState(1, 1, 0)
    assert not node.is_leader
    for response in append.responses:
        node.step(response)
    assert node.is_leader


def test_entries_are_acknowledged_after_they_are_durable() -> None:
    """An acknowledgement leaves only after the entries, and those before them, are stored."""
    node = async_node()
    node.step(Message(APP, 1, 2, 1, entries=[entry(1, 1)]))
    [first] = sent_by(node)
    # A repeat finds the entries in memory: its answer has to wait for the same write all the same.
    node.step(Message(APP, 1, 2, 1, entries=[entry(1, 1)]))
    [second] = sent_by(node)
    for append in (first, second):
        assert append.to == LOCAL_APPEND
        assert append.responses[0] == Message(APP_RESP, 2, 1, 1, index=1)


def test_a_leader_counts_itself_after_its_entries_are_durable() -> None:
    """A leader that has not stored an entry does not count itself for its commit."""
    node = async_node()
    node.campaign()
    for response in sent_by(node)[-1].responses:
        node.step(response)
    node.step(Message(VOTE_RESP, 1, 2, 1))
    append = sent_by(node)[-1]
    node.step(Message(APP_RESP, 1, 2, 1, index=1))
    assert node.committed == 0
    for response in append.responses:
        node.step(response)
    assert node.committed == 1


def test_rewritten_entries_are_not_taken_for_durable() -> None:
    """A write confirmed in an earlier term does not make later entries at its positions durable."""
    storage = storage_of((1, 2, 3, 4, 5))
    node = async_node(storage)
    appends = []
    for leader, term, its_term in ((2, 1, 1), (3, 2, 2), (2, 3, 1)):
        node.step(Message(APP, 1, leader, term, entries=[entry(its_term, 1)]))
        appends.append(sent_by(node)[-1])
    for append in appends[:2]:
        storage.append(append.entries)
        node.step(append.responses[-1])
        # The same entry is at hand again, but what storage has may yet change.
        assert node.raft.log.unstable.entries == [entry(1, 1)]
    storage.append(appends[2].entries)
    node.step(appends[2].responses[-1])
    assert node.raft.log.unstable.entries == []
    assert node.raft.log.term(1) == 1


def test_a_commit_index_ahead_of_the_log_is_refused() -> None:
    """A member whose stored commit index lies beyond its log does not start."""
    with pytest.raises(InvariantBroken, match="out of range"):
        Member(1, storage_of(entries=[entry(1, 1)], hard_state=HardState(1, 0, 2)))


def test_the_hard_state_never_runs_ahead_of_the_entries() -> None:
    """In every bundle the commit index is at most the last entry stored by then."""
    group = group_of(3)
    behind: list[tuple[int, int]] = []
    original = MemoryStorage.set_hard_state

    class Watched(MemoryStorage):
        __slots__ = ()

        def set_hard_state(self, state: HardState) -> None:
            if state.commit > self.last_index():
                behind.append((state.commit, self.last_index()))
            original(self, state)

    watched = Watched()
    watched.apply_snapshot(storage_of().snapshot())
    group.members[2] = Member(2, watched)
    group.elect(1)
    for number in range(20):
        group.propose(1, b"%d" % number)
    assert group[2].node.committed == 21
    assert behind == []


def test_a_new_leader_appends_an_entry_of_its_term() -> None:
    """Entries of earlier terms become committed without any new command."""
    storages = [
        storage_of(entries=[entry(1, 1, b"left over")], hard_state=HardState(1)) for _ in range(3)
    ]
    group = Group(Member(number, one) for number, one in enumerate(storages, 1))
    group.elect(1)
    assert [member.applied_data() for member in group.members.values()] == [[b"left over"]] * 3


def test_a_late_append_does_not_cut_the_log() -> None:
    """A message that arrives late or twice, or has no entries, cuts off nothing."""
    member = Member(1, storage_of())
    entries = [entry(1, index) for index in range(1, 6)]
    member.step(Message(APP, 1, 2, 1, entries=entries))
    for late in (
        Message(APP, 1, 2, 1, entries=entries[:2]),
        Message(APP, 1, 2, 1, log_term=1, index=1, entries=entries[1:2]),
        Message(APP, 1, 2, 1, log_term=1, index=2),
        Message(HEARTBEAT, 1, 2, 1),
    ):
        member.step(late)
        assert member.log == entries


def test_committed_entries_are_never_replaced() -> None:
    """A conflict at or below the commit index stops the member instead of changing its log."""
    member = Member(1, storage_of())
    member.step(Message(APP, 1, 2, 1, entries=[entry(1, 1), entry(1, 2)], commit=1))
    [answer] = member.step(Message(APP, 1, 3, 2, entries=[entry(2, 1)]))
    assert answer == Message(APP_RESP, 3, 1, 2, index=1)
    with pytest.raises(InvariantBroken, match="conflicts with committed"):
        member.node.raft.log.maybe_append(0, 0, [entry(2, 1)], 0)


def test_a_heartbeat_beyond_the_log_stops_the_member() -> None:
    """A member that has lost what it acknowledged stops instead of committing what it lacks."""
    member = Member(1, storage_of())
    with pytest.raises(InvariantBroken, match="lost"):
        member.step(Message(HEARTBEAT, 1, 2, 1, commit=5))


def test_a_member_that_comes_back_does_not_disturb() -> None:
    """With pre-vote and check-quorum a member that was cut off rejoins without an election."""
    group = group_of(3, **PROTECTED)
    group.elect(1)
    group.isolated = [3]
    group.tick(5 * ELECTION_TICK, 3)
    group.tick(3, 1)
    assert group[3].node.raft.state == StateType.PRE_CANDIDATE
    assert group[3].node.term == 1
    group.isolated = []
    group.forget_sent()
    group.tick(3, 1)
    group.tick(2 * ELECTION_TICK)
    assert group.leaders() == [1]
    assert {member.node.term for member in group.members.values()} == {1}


def test_a_member_that_hears_nothing_does_not_disturb() -> None:
    """A member that is as up to date as any and hears no leader, but is heard, deposes nobody whom
    the others hear."""
    group = group_of(3, **PROTECTED)
    group.elect(1)
    group.tick(2)
    group.lost = lambda message: (message.from_, message.to) == (1, 3)
    for _ in range(5):
        group.tick(ELECTION_TICK)
        assert group.leaders() == [1]
    assert group[1].node.term == 1


def test_without_pre_vote_a_member_ahead_is_set_free() -> None:
    """A member stuck in a higher term makes the leader move on, instead of staying stuck."""
    group = group_of(3, check_quorum=True)
    group.elect(1)
    group.isolated = [3]
    group.tick(2 * ELECTION_TICK, 3)
    assert group[3].node.term > 1
    group.isolated = []
    group.tick(4 * ELECTION_TICK)
    assert len(group.leaders()) == 1
    assert len({member.node.term for member in group.members.values()}) == 1


def test_pre_vote_switched_on_does_not_deadlock() -> None:
    """A candidate of a lower term with the better log is told the higher term, and wins."""
    old = Member(
        1,
        storage_of((1, 2), [entry(1, 1), entry(1, 2)], hard_state=HardState(1)),
        pre_vote=True,
    )
    new = Member(2, storage_of((1, 2), [entry(1, 1)], hard_state=HardState(5)), pre_vote=True)
    group = Group([old, new])
    group.tick(6 * ELECTION_TICK)
    assert group.leaders() == [1]
    assert old.node.term > 5


def test_a_pre_vote_is_no_sign_of_life_of_a_leader() -> None:
    """Granting a pre-vote neither resets the election timer nor makes anyone a leader."""
    member = Member(1, storage_of(), pre_vote=True)
    member.tick(ELECTION_TICK - 1)
    before = member.node.raft.election_elapsed
    [answer] = member.step(Message(PRE_VOTE, 1, 2, 1))
    assert answer == Message(PRE_VOTE_RESP, 2, 1, 1)
    assert member.node.raft.election_elapsed == before
    assert member.node.lead == 0


def test_a_pre_vote_changes_neither_term_nor_vote() -> None:
    """Pre-votes are granted to several members, and leave the one vote of the term alone."""
    member = Member(1, storage_of(hard_state=HardState(3, 2, 0)), pre_vote=True)
    answers = member.step(Message(PRE_VOTE, 1, 2, 4), Message(PRE_VOTE, 1, 3, 4))
    assert [(one.to, one.reject, one.term) for one in answers] == [(2, False, 4), (3, False, 4)]
    assert (member.node.term, member.node.raft.vote) == (3, 2)


def test_pre_vote_answers_are_not_votes() -> None:
    """A candidate does not count late answers to its own pre-vote."""
    member = Member(1, storage_of((1, 2, 3, 4, 5)), pre_vote=True)
    member.node.campaign()
    member.work()
    granted = [Message(PRE_VOTE_RESP, 1, voter, 1) for voter in (2, 3, 4, 5)]
    member.step(*granted[:2])
    assert member.node.raft.state == StateType.CANDIDATE
    member.step(*granted[2:])
    assert member.node.raft.state == StateType.CANDIDATE
    assert member.node.raft.tracker.votes == {1: True}


def test_a_vote_counts_once() -> None:
    """An answer that arrives twice, or changes, is the first answer."""
    member = Member(1, storage_of((1, 2, 3, 4, 5)))
    member.node.campaign()
    member.work()
    member.step(Message(VOTE_RESP, 1, 2, 1), Message(VOTE_RESP, 1, 2, 1))
    assert not member.node.is_leader
    member.step(Message(VOTE_RESP, 1, 2, 1, reject=True), Message(VOTE_RESP, 1, 3, 1))
    assert member.node.is_leader


def test_a_removed_member_is_ignored() -> None:
    """A removed member that does not know it cannot depose a leader the others hear from."""
    group = group_of(3, **PROTECTED)
    group.elect(1)
    group.isolated = [3]
    group[1].node.propose_conf_change(ConfChange(ConfChangeType.REMOVE_NODE, 3))
    group.settle()
    assert group[1].conf_states == [ConfState(voters=(1, 2))]
    group.isolated = []
    for _ in range(5 * ELECTION_TICK):
        group[3].node.tick()
        group.tick(1, 1, 2)
    assert group.leaders() == [1]
    assert group[1].node.term == 1


def read(group: Group, member: int, context: bytes) -> int | None:
    group[member].node.read_index(context)
    group.settle()
    return group[member].reads.get(context)


def test_reads_wait_for_an_entry_of_the_term() -> None:
    """A new leader answers reads only once it has committed an entry of its own term."""
    group = group_of(3)
    group.elect(1)
    group.propose(1, b"x")
    group.isolated = [1]
    group.lost = lambda message: message.type == APP
    group[2].node.campaign()
    group.settle()
    assert group[2].node.is_leader
    assert read(group, 2, b"early") is None
    group.lost = lambda message: False
    group.tick(1, 2)
    assert group[2].reads == {b"early": 3}


def test_reads_need_a_quorum() -> None:
    """A leader that has been cut off answers no read, however long it is asked."""
    group = group_of(3)
    group.elect(1)
    assert read(group, 1, b"before") == 1
    group.isolated = [1]
    group[2].node.campaign()
    group.settle()
    group.propose(2, b"newer")
    assert group.leaders() == [1, 2]
    assert read(group, 1, b"cut off") is None
    group.isolated = []
    group.tick(2)
    assert group[1].reads == {b"before": 1}


def test_a_read_joins_only_later_rounds() -> None:
    """An acknowledgement of a heartbeat sent before a read arrived does not confirm that read."""
    member = Member(1, storage_of())
    member.node.campaign()
    member.work()
    member.step(Message(VOTE_RESP, 1, 2, 1))
    member.step(Message(APP_RESP, 1, 2, 1, index=1))
    member.node.read_index(b"first")
    heartbeat = next(one for one in member.work() if one.type == HEARTBEAT and one.to == 2)
    member.node.read_index(b"second")
    later = next(one for one in member.work() if one.type == HEARTBEAT and one.to == 2)

    def answer(one: Message) -> Message:
        return Message(MessageType.MSG_HEARTBEAT_RESP, 1, 2, 1, context=one.context)

    member.step(answer(heartbeat))
    assert member.reads == {b"first": 1}
    member.step(answer(later))
    assert member.reads == {b"first": 1, b"second": 1}


def test_reads_of_followers_and_learners_go_to_the_leader() -> None:
    """A follower or learner gets its read answered by the leader, and nobody else's."""
    group = Group(Member(member, storage_of((1, 2), learners=(3,))) for member in (1, 2, 3))
    group.elect(1)
    assert read(group, 2, b"of two") == 1
    assert read(group, 3, b"of three") == 1
    assert [group[member].reads for member in (1, 2, 3)] == [{}, {b"of two": 1}, {b"of three": 1}]


def test_reads_are_confirmed_by_voters_only() -> None:
    """Learners do not count for the quorum of a read."""
    group = Group(Member(member, storage_of((1, 2), learners=(3, 4))) for member in (1, 2, 3, 4))
    group.elect(1)
    group.isolated = [2]
    assert read(group, 1, b"learners only") is None


def test_reads_are_bounded() -> None:
    """A leader that cannot confirm reads keeps a bounded number of them."""
    group = group_of(3, max_pending_reads=4)
    group.lost = lambda message: message.type in (APP, HEARTBEAT)
    group.elect(1)
    for number in range(20):
        group[1].node.read_index(b"%d" % number)
    assert len(group[1].node.raft.pending_reads) == 4
    group.lost = lambda message: message.type == MessageType.MSG_HEARTBEAT_RESP
    group.tick(1, 1)
    group.settle()
    for number in range(20, 40):
        group[1].node.read_index(b"%d" % number)
    group.lost = lambda message: False
    group.tick(2, 1)
    assert len(group[1].reads) == 4


def test_lease_reads_have_to_be_asked_for() -> None:
    """Reads are confirmed by a quorum unless told otherwise, and a lease needs check-quorum."""
    config = config_of(1, storage_of())
    assert config.read_only_option == ReadOnlyOption.SAFE
    with pytest.raises(ConfigInvalid, match="check_quorum"):
        RawNode(config_of(1, storage_of(), read_only_option=ReadOnlyOption.LEASE_BASED))


LEASE = {"check_quorum": True, "read_only_option": ReadOnlyOption.LEASE_BASED}


def test_a_leader_with_a_lease_answers_alone() -> None:
    """With a lease a leader answers reads without asking, and is not forgotten."""
    group = group_of(3, **LEASE)
    group.elect(1)
    group.isolated = [1]
    assert read(group, 1, b"local") == 1
    group[2].node.forget_leader()
    assert group[2].node.lead == 1


def test_the_lease_ends_with_a_transfer() -> None:
    """Whoever has told a successor to stand for election answers no read from its lease."""
    group = group_of(3, **LEASE)
    group.elect(1)
    # The order reaches the successor late, when the leader has long given up on it.
    group.lost = lambda message: message.type == MessageType.MSG_TIMEOUT_NOW
    group[1].node.transfer_leader(2)
    group.settle()
    late = group.sent[-1]
    assert late.type == MessageType.MSG_TIMEOUT_NOW
    group.tick(ELECTION_TICK, 1)
    group.isolated = [1]
    group[2].node.step(late)
    group.settle()
    group.propose(2, b"newer")
    assert group.leaders() == [1, 2]
    assert read(group, 1, b"stale") is None


def compacted_leader(**settings: object) -> Group:
    """Return a group whose third member lacks entries the leader has compacted away."""
    group = group_of(3, **settings)
    group.elect(1)
    group.isolated = [3]
    for number in range(5):
        group.propose(1, b"%d" % number)
    group[1].storage.create_snapshot(6, ConfState(voters=(1, 2, 3)), b"state")
    group[1].storage.compact(6)
    group.isolated = []
    return group


def test_a_snapshot_brings_a_member_back() -> None:
    """A member that lacks compacted entries gets a snapshot, and then entries again."""
    group = compacted_leader()
    group.tick(2, 1)
    assert SNAP in group.kinds_sent()
    group.propose(1, b"after")
    assert group[3].storage.snapshot().data == b"state"
    assert group[3].applied_data() == [b"after"]
    assert group[1].node.status().progress[3].state == ProgressState.REPLICATE


def test_a_lost_snapshot_is_sent_again_when_reported() -> None:
    """Replication waits for a snapshot until it is reported; after a failure it is sent again."""
    group = compacted_leader()
    group.lost = lambda message: message.type == SNAP
    group.tick(5, 1)
    assert group.kinds_sent().count(SNAP) == 1
    assert group[1].node.status().progress[3].state == ProgressState.SNAPSHOT
    group.lost = lambda message: False
    group[1].node.report_snapshot(3, delivered=False)
    its = group[1].node.status().progress[3]
    # Not from behind the snapshot, which never arrived; and not before the next heartbeat.
    assert (its.state, its.next, its.is_paused()) == (ProgressState.PROBE, its.match + 1, True)
    group.tick(2, 1)
    assert group[3].node.committed == 6


def test_a_delivered_snapshot_is_probed_behind() -> None:
    """After a snapshot was delivered, the leader goes on behind it, even without an answer."""
    group = compacted_leader()
    group.lost = lambda message: message.type == SNAP
    group.tick(2, 1)
    group.lost = lambda message: False
    group[1].node.report_snapshot(3, delivered=True)
    its = group[1].node.status().progress[3]
    assert (its.state, its.next, its.is_paused()) == (ProgressState.PROBE, 7, True)
    group[1].node.report_snapshot(3, delivered=False)
    assert group[1].node.status().progress[3].next == 7
    # It was not: the follower says so, and gets it again.
    group.tick(3, 1)
    assert group[3].node.committed == 6


def test_no_snapshot_is_sent_into_the_void() -> None:
    """A member that has not been heard from is sent no snapshot until it has been."""
    group = compacted_leader()
    group.isolated = [3]
    group[1].node.raft.tracker.progress[3].recent_active = False
    group.forget_sent()
    group[1].node.raft.tracker.progress[3].next = 2
    group.propose(1, b"x")
    assert SNAP not in group.kinds_sent()
    group.isolated = []
    group.tick(3, 1)
    assert group[3].applied_data() == [b"x"]


def test_a_snapshot_from_elsewhere_ends_the_wait() -> None:
    """A follower that got a snapshot of another index goes on from where it is."""
    group = compacted_leader()
    group.lost = lambda message: message.type == SNAP
    group.tick(2, 1)
    assert group[1].node.status().progress[3].pending_snapshot == 6
    group.lost = lambda message: False
    metadata = SnapshotMetadata(ConfState(voters=(1, 2, 3)), 6, 1)
    group[1].node.propose([b"more"])
    group.settle()
    group[3].node.step(Message(SNAP, 3, 1, 1, snapshot=Snapshot(b"elsewhere", metadata)))
    group.settle()
    assert group[1].node.status().progress[3].state == ProgressState.REPLICATE
    assert group[3].applied_data() == [b"more"]


def test_a_snapshot_discards_a_conflicting_log() -> None:
    """Entries that conflict with a snapshot go, instead of being kept behind it."""
    entries = [entry(1, index) for index in range(1, 9)]
    member = Member(1, storage_of(entries=entries, hard_state=HardState(1)))
    metadata = SnapshotMetadata(ConfState(voters=(1, 2, 3)), 5, 2)
    [answer] = member.step(Message(SNAP, 1, 2, 2, snapshot=Snapshot(b"", metadata)))
    assert answer == Message(APP_RESP, 2, 1, 2, index=5)
    assert member.log == []
    assert (member.node.last_index, member.node.committed) == (5, 5)


def test_a_snapshot_keeps_a_matching_log() -> None:
    """A snapshot of an entry the log has commits it, and discards nothing."""
    entries = [entry(1, index) for index in range(1, 9)]
    member = Member(1, storage_of(entries=entries, hard_state=HardState(1)))
    metadata = SnapshotMetadata(ConfState(voters=(1, 2, 3)), 5, 1)
    [answer] = member.step(Message(SNAP, 1, 2, 1, snapshot=Snapshot(b"", metadata)))
    assert answer == Message(APP_RESP, 2, 1, 1, index=5)
    assert member.log == entries


def test_compacted_entries_do_not_come_back() -> None:
    """An old message after a snapshot brings back nothing that the snapshot contains."""
    member = Member(1, storage_of(index=5, term=2, hard_state=HardState(2, 0, 5)))
    member.step(Message(APP, 1, 2, 2, entries=[entry(1, index) for index in range(1, 5)]))
    assert member.log == []
    member.storage.append([entry(1, index) for index in range(1, 5)])
    assert member.storage.last_index() == 5


def test_a_snapshot_being_prepared_is_asked_for_again() -> None:
    """A storage that has no snapshot yet is asked again with the next heartbeat."""

    class Slow(MemoryStorage):
        is_ready = False

        def snapshot(self) -> Snapshot:
            if not self.is_ready:
                raise SnapshotTemporarilyUnavailable
            return super().snapshot()

    storage = Slow()
    metadata = SnapshotMetadata(ConfState(voters=(1, 2)), 5, 1)
    storage.apply_snapshot(Snapshot(b"", metadata))
    member = Member(1, storage, applied=5)
    member.node.campaign()
    member.work()
    member.step(Message(VOTE_RESP, 1, 2, 1))
    member.step(Message(APP_RESP, 1, 2, 1, index=5, reject=True))
    pulse = Message(MessageType.MSG_HEARTBEAT_RESP, 1, 2, 1)
    assert SNAP not in [one.type for one in member.step(pulse)]
    storage.is_ready = True
    assert SNAP in [one.type for one in member.step(pulse)]


def test_one_configuration_change_at_a_time() -> None:
    """A change proposed while another may be pending becomes an empty entry."""
    group = group_of(3)
    group.elect(1)
    group[1].node.propose_conf_change(ConfChange(ConfChangeType.REMOVE_NODE, 3))
    group[1].node.propose_conf_change(ConfChange(ConfChangeType.REMOVE_NODE, 2))
    group.settle()
    assert group[1].conf_states == [ConfState(voters=(1, 2))]
    assert [one.type for one in group[1].log[1:]] == [1, 0]


def test_a_new_leader_waits_for_changes_of_its_predecessor() -> None:
    """A new leader proposes no change until it has applied everything it found in its log."""
    member = Member(1, storage_of(entries=[entry(1, 1)], hard_state=HardState(1)))
    member.node.campaign()
    member.work()
    member.step(Message(VOTE_RESP, 1, 2, 2))
    member.node.propose_conf_change(ConfChange(ConfChangeType.REMOVE_NODE, 3))
    member.work()
    assert member.log[-1].type == 0


def test_a_removal_can_commit_what_waits() -> None:
    """Entries that lack the acknowledgement of a removed member are committed with its removal."""
    group = group_of(2)
    group.elect(1)
    group[1].node.propose_conf_change(ConfChange(ConfChangeType.REMOVE_NODE, 2))
    sent = group[1].work()
    # Member 2 acknowledges the removal, but nothing that comes after it.
    group[1].node.propose([b"waiting"])
    group[1].work()
    group[2].step(*sent)
    group[1].step(Message(APP_RESP, 1, 2, 1, index=2))
    assert group[1].conf_states == [ConfState(voters=(1,))]
    assert group[1].applied_data()[-1] == b"waiting"


def test_a_joint_configuration_survives_a_restart() -> None:
    """A member that starts in a joint configuration leaves it only by a committed change."""
    state = ConfState(voters=(1, 2), voters_outgoing=(1, 2, 3), auto_leave=True)
    storages = []
    for _ in range(3):
        storage = MemoryStorage()
        storage.apply_snapshot(Snapshot(b"", SnapshotMetadata(state, 5, 1)))
        storages.append(storage)
    group = Group(Member(number, one, applied=5) for number, one in enumerate(storages, 1))
    # Two of three are no majority of the incoming half.
    group.isolated = [2]
    group[1].node.campaign()
    group.settle()
    assert group.leaders() == []
    assert group[1].node.raft.tracker.config.is_joint
    group.isolated = [3]
    group.elect(1)
    assert not group[1].node.raft.tracker.config.is_joint
    assert group[1].conf_states == [ConfState(voters=(1, 2))]
    assert [one.type for one in group[1].applied] == [0, 2]


def test_changes_of_several_voters_are_joint() -> None:
    """Replacing a voter goes through both majorities, and ends by itself."""
    group = group_of(4)
    for member in group.members.values():
        member.storage = storage_of((1, 2, 3))
        member.restart()
    group.elect(1)
    changes = (
        ConfChangeSingle(ConfChangeType.ADD_NODE, 4),
        ConfChangeSingle(ConfChangeType.REMOVE_NODE, 3),
    )
    group[1].node.propose_conf_change(ConfChangeV2(changes=changes))
    group.settle()
    assert group[1].conf_states == [
        ConfState(voters=(1, 2, 4), voters_outgoing=(1, 2, 3), auto_leave=True),
        ConfState(voters=(1, 2, 4)),
    ]


def test_an_explicit_joint_configuration_stays_until_told() -> None:
    """With an explicit transition the joint configuration is left on demand."""
    group = group_of(3)
    group.elect(1)
    change = ConfChangeV2(
        ConfChangeTransition.JOINT_EXPLICIT,
        (ConfChangeSingle(ConfChangeType.ADD_LEARNER_NODE, 3),),
    )
    group[1].node.propose_conf_change(change)
    group.settle()
    assert group[1].node.raft.tracker.config.is_joint
    group[1].node.propose_conf_change(ConfChangeV2())
    group.settle()
    assert group[1].conf_states[-1] == ConfState(voters=(1, 2), learners=(3,))


def test_a_change_that_does_not_fit_stops_the_member() -> None:
    """A committed change that contradicts the configuration is not ignored."""
    node = Member(1, storage_of((1,))).node
    with pytest.raises(InvariantBroken, match="removed all voters"):
        node.apply_conf_change(ConfChange(ConfChangeType.REMOVE_NODE, 1))


def test_no_election_with_unapplied_changes() -> None:
    """A member does not stand for election while it has committed changes to apply."""
    change = ConfChange(ConfChangeType.ADD_NODE, 4)
    source = Member(1, storage_of((1,)))
    source.node.campaign()
    source.work()
    source.node.propose_conf_change(change)
    proposed = source.node.raft.log.entries(2, 1 << 20)
    storage = storage_of((1, 2), [entry(1, 1), *proposed], hard_state=HardState(1, 0, 2))
    node = RawNode(config_of(1, storage))
    node.campaign()
    assert node.raft.state == StateType.FOLLOWER


def test_the_uncommitted_tail_is_bounded() -> None:
    """A leader that cannot commit drops proposals instead of growing without limit."""
    group = group_of(3, max_uncommitted_size=100)
    group.elect(1)
    group.isolated = [2, 3]
    group.propose(1, b"x" * 400)  # an empty tail takes anything
    for _ in range(3):
        with pytest.raises(ProposalDropped):
            group[1].node.propose([b"y"])
    group[1].node.propose([b""])
    group.isolated = []
    group.tick(2, 1)
    group.propose(1, b"y")
    assert group[2].applied_data() == [b"x" * 400, b"y"]


def test_the_window_of_a_follower_is_bounded() -> None:
    """No more messages, and no more bytes, are on their way to a follower than allowed."""
    for settings, expected in (
        ({"max_inflight_msgs": 3}, 3),
        ({"max_inflight_bytes": 250, "max_size_per_msg": 1}, 3),
    ):
        group = group_of(2, **settings)
        group.elect(1)
        group.isolated = [2]
        for _ in range(10):
            group[1].node.propose([b"x" * 100])
        sent = [one for one in group[1].work() if one.type == APP and one.entries]
        assert len(sent) == expected
        group.isolated = []
        group.tick(10, 1)
        assert group[2].node.committed == 11


def test_what_is_handed_out_to_apply_is_bounded() -> None:
    """Entries handed out and not yet applied stay below the limit, over several bundles."""
    node = async_node(storage_of((1,)), max_committed_size_per_ready=300)
    storage = node.raft.config.storage
    assert isinstance(storage, MemoryStorage)
    node.campaign()
    waiting: list[Message] = []
    handed: list[int] = []

    def turn() -> None:
        while node.has_ready():
            for message in node.ready().messages:
                if message.to == LOCAL_APPLY:
                    waiting.append(message)
                    handed.append(len(message.entries))
                    continue
                storage.append(message.entries)
                for response in message.responses:
                    node.step(response)

    turn()
    node.propose([b"x" * 100] * 10)
    turn()
    assert sum(handed) == 3  # the first entry, and two of about 107 bytes
    while waiting:
        for response in waiting.pop(0).responses:
            node.step(response)
        turn()
    assert node.applied == 11
    assert max(handed) == 2


def test_a_stalled_follower_catches_up() -> None:
    """A follower whose messages were all lost gets them again, also with a full window."""
    group = group_of(3, max_inflight_msgs=2)
    group.elect(1)
    group.isolated = [3]
    for number in range(10):
        group.propose(1, b"%d" % number)
    group.isolated = []
    group.tick(4, 1)
    assert group[3].log == group[1].log


def test_a_transfer_drops_proposals_and_ends() -> None:
    """Proposals fail at once during a transfer, and work again when it has timed out."""
    group = group_of(3)
    group.elect(1)
    group.isolated = [3]
    group[1].node.transfer_leader(3)
    group.settle()
    with pytest.raises(ProposalDropped):
        group[1].node.propose([b"x"])
    group.tick(ELECTION_TICK, 1)
    group.propose(1, b"x")
    assert group[2].applied_data() == [b"x"]


def test_a_transfer_to_a_lagging_member_waits_for_it() -> None:
    """A successor that lags behind catches up before it is told to stand for election."""
    group = group_of(3, **PROTECTED)
    group.elect(1)
    group.isolated = [3]
    group.propose(1, b"x")
    group.isolated = []
    group[1].node.transfer_leader(3)
    group.tick(1, 1)
    assert group.leaders() == [3]
    assert group[3].node.term == 2


def test_leadership_is_never_transferred_to_a_learner() -> None:
    """A learner, a stranger and the leader itself are no successors."""
    group = Group(Member(member, storage_of((1, 2), learners=(3,))) for member in (1, 2, 3))
    group.elect(1)
    for successor in (3, 7, 1):
        group[1].node.transfer_leader(successor)
        assert group[1].node.basic_status().lead_transferee == 0
    group[3].node.campaign()
    group.settle()
    assert group.leaders() == [1]


@pytest.mark.parametrize("state", ["no leader", "candidate", "forwarding disabled"])
def test_proposals_fail_fast(state: str) -> None:
    """A proposal that cannot be appended is refused at once."""
    member = Member(1, storage_of(), disable_proposal_forwarding=True)
    if state == "candidate":
        member.node.campaign()
        member.work()
    elif state == "forwarding disabled":
        member.step(Message(HEARTBEAT, 1, 2, 1))
    with pytest.raises(ProposalDropped):
        member.node.propose([b"x"])


def test_a_forwarded_proposal_reaches_the_leader() -> None:
    """A follower passes proposals on, unless it is told not to."""
    group = group_of(3)
    group.elect(1)
    group.propose(2, b"x", b"y")
    assert [member.applied_data() for member in group.members.values()] == [[b"x", b"y"]] * 3


def test_a_proposal_that_arrives_twice_is_appended_twice() -> None:
    """Two arrivals of one forwarded proposal get two sets of positions of their own."""
    member = Member(1, storage_of((1,)))
    member.node.campaign()
    member.work()
    forwarded = Message(MessageType.MSG_PROP, 1, 2, entries=[Entry(data=b"x"), Entry(data=b"y")])
    member.step(forwarded, forwarded)
    assert [one.index for one in member.log] == [1, 2, 3, 4, 5]
    assert member.applied_data() == [b"x", b"y", b"x", b"y"]


def test_a_leader_without_quorum_steps_down() -> None:
    """With check-quorum a leader that hears from nobody steps down within two timeouts."""
    group = group_of(3, check_quorum=True)
    group.elect(1)
    group.isolated = [1]
    group.tick(2 * ELECTION_TICK, 1)
    assert group[1].node.raft.state == StateType.FOLLOWER
    assert group[1].node.lead == 0


def test_followers_that_forget_their_leader_elect_another_at_once() -> None:
    """A quorum that has other evidence of the leader's death need not wait for its lease."""
    group = group_of(3, **PROTECTED)
    group.elect(1)
    group.isolated = [1]
    group[3].node.campaign()
    group.settle()
    assert group.leaders() == [1]
    for member in (2, 3):
        group[member].node.forget_leader()
    group[3].node.campaign()
    group.settle()
    assert group.leaders() == [1, 3]


@pytest.mark.parametrize("removed", [True, False])
def test_a_removed_leader_steps_down_if_told_to(removed: bool) -> None:
    """A leader that is removed steps down, or leads on without counting itself."""
    group = group_of(3, step_down_on_removal=removed)
    group.elect(1)
    group[1].node.propose_conf_change(ConfChange(ConfChangeType.REMOVE_NODE, 1))
    group.settle()
    assert group[1].node.is_leader is not removed
    with pytest.raises(ProposalDropped):
        group[1].node.propose([b"x"])


def test_local_messages_come_from_here_only() -> None:
    """What a member tells itself is refused from others, and so are answers of strangers."""
    node = Member(1, storage_of()).node
    with pytest.raises(StepLocalMessage):
        node.step(Message(MessageType.MSG_HUP, 1, 2))
    with pytest.raises(StepLocalMessage):
        node.step(Message(MessageType.MSG_STORAGE_APPEND_RESP, 1, 2, index=5))
    with pytest.raises(StepPeerNotFound):
        node.step(Message(VOTE_RESP, 1, 9, 1))


def crash_points() -> list[Callable[[Group], None]]:
    return [
        lambda group: group[2].restart(),
        lambda group: group[1].restart(),
        lambda group: [member.restart() for member in group.members.values()] and None,
    ]


@pytest.mark.parametrize("crash", crash_points(), ids=["follower", "leader", "all"])
def test_nothing_committed_is_lost_by_a_restart(crash: Callable[[Group], None]) -> None:
    """Whoever restarts from storage, what was committed stays, and the term does not go back."""
    group = group_of(3)
    group.elect(1)
    group.propose(1, b"before")
    terms = {number: member.node.term for number, member in group.members.items()}
    crash(group)
    assert all(group[number].node.term == term for number, term in terms.items())
    group.elect(3)
    group.propose(3, b"after")
    assert [one.applied_data() for one in group.members.values()] == [[b"before", b"after"]] * 3


@pytest.mark.parametrize("seed", range(30))
def test_members_agree_under_loss_and_reordering(seed: int) -> None:
    """Whatever is lost, repeated, reordered or restarted, all members apply the same entries."""
    rng = random.Random(seed)
    group = group_of(3, rng=rng, max_size_per_msg=64, max_inflight_msgs=4, **PROTECTED)
    queue: list[Message] = []
    proposed = 0
    for _ in range(600):
        roll = rng.randrange(100)
        member = group[rng.randrange(3) + 1]
        if roll < 35:
            member.node.tick()
        elif roll < 45 and member.node.is_leader:
            proposed += 1
            member.node.propose([b"%d" % proposed])
        elif roll < 47:
            member.restart()
        elif roll < 50 and queue:
            queue.append(rng.choice(queue))
        elif queue:
            message = queue.pop(rng.randrange(min(len(queue), 5)))
            if rng.randrange(10):
                group[message.to].node.step(message)
        for one in group.members.values():
            queue.extend(one.work())
    queue.clear()
    for _ in range(6 * ELECTION_TICK):
        group.tick()
    logs = [member.applied for member in group.members.values()]
    assert logs[0] == logs[1] == logs[2]
    assert len(group.leaders()) == 1
    assert [one.index for one in logs[0]] == list(range(1, len(logs[0]) + 1))
