"""Nothing is said in a term, or about a vote, that a crash would make this member forget."""

from __future__ import annotations

import pytest

from coordinator.replica.effects import Append, Effects, Proposal
from coordinator.replica.replica import Replica
from coordinator.wire.raft import Entry, Message, MessageType
from coordinator_sdk.protocol.kv import Put
from tests.node.replicas import Replicas

AT_ONCE = {MessageType.MSG_APP, MessageType.MSG_HEARTBEAT, MessageType.MSG_SNAP}


def member_of_three() -> tuple[Replica, int]:
    """Give a follower and the term of its leader."""
    group = Replicas(3)
    return group.by_id[2], group.leader.raw.term


def kinds(messages: list[Message]) -> list[MessageType]:
    return [message.type for message in messages]


def durable(replica: Replica, effects: Effects) -> list[Message]:
    """Make what a turn asked for durable; give what leaves then."""
    for append in effects.appends:
        replica.persisted(append)
    return replica.turn().messages


def test_a_vote_waits_for_the_disk():
    """A vote leaves when it is durable, not before."""
    replica, term = member_of_three()
    replica.raw.forget_leader()
    last = replica.raw.last_index
    replica.step(Message(MessageType.MSG_VOTE, 2, 3, term + 1, log_term=term, index=last))
    effects = replica.turn()
    assert effects.messages == []
    [append] = effects.appends
    assert append.must_sync
    assert append.hard_state is not None
    assert (append.hard_state.term, append.hard_state.vote) == (term + 1, 3)
    assert kinds(durable(replica, effects)) == [MessageType.MSG_VOTE_RESP]


def test_a_candidate_waits_for_the_disk():
    """A candidate asks for votes when its own is durable."""
    replica, term = member_of_three()
    replica.raw.forget_leader()
    replica.raw.campaign()
    granted = Message(MessageType.MSG_PRE_VOTE_RESP, 2, 3, term + 1)
    first = replica.turn()
    assert set(kinds(first.messages)) == {MessageType.MSG_PRE_VOTE}, "it promises nothing yet"
    durable(replica, first)
    replica.step(granted)
    effects = replica.turn()
    assert replica.raw.term == term + 1
    assert effects.messages == []
    assert set(kinds(durable(replica, effects))) == {MessageType.MSG_VOTE}


def test_an_answer_in_a_new_term_waits_for_the_disk():
    """A follower that has met a new term answers heartbeats of it when the term is durable."""
    replica, term = member_of_three()
    replica.step(Message(MessageType.MSG_HEARTBEAT, 2, 3, term + 1, context=b"round"))
    effects = replica.turn()
    assert effects.messages == []
    assert kinds(durable(replica, effects)) == [MessageType.MSG_HEARTBEAT_RESP]


def test_what_comes_later_waits_as_well():
    """While a new term is not durable, answers of later turns wait behind it, in order."""
    replica, term = member_of_three()
    appends: list[Append] = []
    for number in range(3):
        beat = Message(MessageType.MSG_HEARTBEAT, 2, 3, term + 1, context=b"%d" % number)
        replica.step(beat)
        effects = replica.turn()
        assert effects.messages == []
        appends += effects.appends
    replica.read(lambda error: None)
    assert replica.turn().messages == []
    for append in appends:
        replica.persisted(append)
    left = replica.turn().messages
    assert [message.context for message in left[:3]] == [b"0", b"1", b"2"]
    assert kinds(left[3:]) == [MessageType.MSG_READ_INDEX]


def test_of_two_terms_the_later_counts():
    """With two new terms on their way to the disk, the first that is durable releases nothing of
    the second."""
    replica, term = member_of_three()
    replica.step(Message(MessageType.MSG_HEARTBEAT, 2, 3, term + 1, context=b"1"))
    first = replica.turn()
    replica.step(Message(MessageType.MSG_HEARTBEAT, 2, 1, term + 2, context=b"2"))
    second = replica.turn()
    assert first.messages == second.messages == []
    assert [message.context for message in durable(replica, first)] == [b"1"]
    assert [message.context for message in durable(replica, second)] == [b"2"]


def test_nothing_waits_for_what_is_no_promise():
    """A commit index that has moved holds nothing back: it may be forgotten."""
    replica, term = member_of_three()
    last = replica.raw.last_index
    entry = Entry(term, last + 1)
    replica.step(
        Message(MessageType.MSG_APP, 2, 1, term, log_term=term, index=last, entries=[entry])
    )
    durable(replica, replica.turn())
    replica.step(Message(MessageType.MSG_HEARTBEAT, 2, 1, term, commit=last + 1))
    effects = replica.turn()
    assert any(append.hard_state is not None for append in effects.appends)
    assert kinds(effects.messages) == [MessageType.MSG_HEARTBEAT_RESP]


def test_entries_are_acknowledged_when_durable():
    """An acknowledgement of entries leaves after them, while they leave at once from the leader."""
    replica, term = member_of_three()
    last = replica.raw.last_index
    entry = Entry(term, last + 1)
    replica.step(
        Message(MessageType.MSG_APP, 2, 1, term, log_term=term, index=last, entries=[entry])
    )
    effects = replica.turn()
    assert effects.messages == []
    assert kinds(durable(replica, effects)) == [MessageType.MSG_APP_RESP]


@pytest.mark.parametrize("voters", [3, 5])
def test_a_leader_sends_before_its_own_disk(voters: int):
    """What a leader sends while nothing of it is durable is appends, heartbeats and snapshots."""
    group = Replicas(voters)
    leader = group.leader
    group.propose(Put(b"a", b"1"))
    leader.propose(Proposal(Put(b"a", b"2"), None))
    leader.tick()
    effects = leader.turn()
    assert len(effects.messages) >= 2 * (voters - 1)
    assert set(kinds(effects.messages)) <= AT_ONCE
    assert effects.appends
