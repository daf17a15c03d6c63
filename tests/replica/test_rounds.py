"""Reads in a group: one round for many, lost rounds asked again, and nothing answered too early."""

from __future__ import annotations

from collections.abc import Callable

from coordinator.replica.replica import ROUND_RETRY_MS
from coordinator.wire.raft import Message, MessageType
from coordinator_sdk.errors import CoordinatorError, NoLeader, Unavailable
from coordinator_sdk.protocol.kv import Put
from tests.node.replicas import TICK_MS, Replicas

PATIENCE_TICKS = 5000 // TICK_MS
RETRY_TICKS = -(-ROUND_RETRY_MS // TICK_MS)
Answers = list[CoordinatorError | None]
ASK, ANSWER = MessageType.MSG_READ_INDEX, MessageType.MSG_READ_INDEX_RESP


class Watched(Replicas):
    """A group whose messages are seen, and may get lost.

    Attributes:
        seen: Everything sent.
        loses: Decides about each message.
    """

    def __init__(self, voters: int = 3) -> None:
        self.seen: list[Message] = []
        self.loses: Callable[[Message], bool] = lambda message: False
        super().__init__(voters)

    def _deliver(self, sender: int, message: Message) -> None:
        self.seen.append(message)
        if not self.loses(message):
            super()._deliver(sender, message)

    def contexts(self, kind: MessageType) -> list[bytes]:
        """Give the contexts of the questions or answers sent, in order."""
        return [message.entries[0].data for message in self.seen if message.type == kind]

    def read(self, member: int, count: int = 1, *, applied: bool = True) -> Answers:
        """Begin reads; gives the list that their answers come to."""
        answers: Answers = []
        for _ in range(count):
            self.by_id[member].read(answers.append, applied=applied)
        return answers


def test_one_round_for_many():
    """All reads that arrive in one turn share one question to the leader, and one answer."""
    group = Watched()
    answers = group.read(2, 100)
    group.settle()
    assert answers == [None] * 100
    assert len(group.contexts(ASK)) == len(group.contexts(ANSWER)) == 1


def test_reads_gather_while_a_round_is_under_way():
    """A read never joins a round that began before it: it waits for the next one."""
    group = Watched()
    first = group.read(2)
    kept: list[Message] = []

    def loses(message: Message) -> bool:
        if message.type == ANSWER:
            kept.append(message)
        return message.type == ANSWER

    group.loses = loses
    group.settle()
    late = group.read(2)
    group.settle()
    assert len(group.contexts(ASK)) == 1
    group.loses = lambda message: False
    group.by_id[2].step(kept[0])
    effects = group.by_id[2].turn()
    assert (first, late) == ([None], [])
    for message in effects.messages:
        group._deliver(2, message)
    group.settle()
    assert late == [None]
    assert len(set(group.contexts(ASK))) == 2


def test_a_lost_round_is_asked_again():
    """A question or answer that got lost is asked again, with another context, for all that wait
    by then."""
    for lost in (ASK, ANSWER):
        group = Watched()
        group.loses = lambda message, lost=lost: message.type == lost  # type: ignore[misc]
        answers = group.read(2)
        group.settle()
        group.loses = lambda message: False
        answers_of_later = group.read(2)
        group.settle()
        assert (answers, answers_of_later) == ([], [])
        group.tick(RETRY_TICKS)
        assert (answers, answers_of_later) == ([None], [None])
        contexts = group.contexts(ASK)
        assert len(contexts) == len(set(contexts)) == 2


def test_a_late_answer_of_an_old_round():
    """An answer to a question that has been asked anew confirms nobody."""
    group = Watched()
    kept: list[Message] = []

    def loses(message: Message) -> bool:
        if message.type == ANSWER:
            kept.append(message)
        return message.type == ANSWER

    group.loses = loses
    group.read(2)
    group.settle()
    later = group.read(2)
    group.tick(RETRY_TICKS)
    assert len(kept) == 2
    group.by_id[2].step(kept[0])
    group.by_id[2].turn()
    assert later == []
    group.by_id[2].step(kept[1])
    group.by_id[2].turn()
    assert later == [None]


def test_contexts_differ_between_members_and_runs():
    """Nobody takes the answer to another member's question, or to one of an earlier run, as its
    own."""
    group = Watched()
    for member in (2, 3):
        group.read(member)
    group.settle()
    contexts = group.contexts(ASK)
    assert {context[:8] for context in contexts} == {(1).to_bytes(8, "big")}
    assert {context[8:16] for context in contexts} == {n.to_bytes(8, "big") for n in (2, 3)}


def test_reads_wait_for_the_applied_state():
    """A read is answered when the entries up to its index are applied, not before; one that only
    asks whether somebody leads does not wait for them."""
    group = Watched()
    replica = group.by_id[2]
    apply = replica.apply
    replica.apply = lambda entries_max=64: False  # type: ignore[method-assign]
    group.execute(Put(b"a", b"1"))
    answers = group.read(2)
    at_once = group.read(2, applied=False)
    group.settle()
    assert (answers, at_once) == ([], [None])
    replica.apply = apply  # type: ignore[method-assign]
    group.settle()
    assert answers == [None]
    assert replica.machine.keyspace.revision == 2


def test_entries_that_never_come():
    """A read does not wait for ever for entries that are committed and do not arrive."""
    group = Watched()
    group.loses = lambda message: message.type == MessageType.MSG_APP and message.to == 2
    group.execute(Put(b"a", b"1"))
    answers = group.read(2)
    group.settle()
    assert group.contexts(ANSWER)
    group.down = {2}
    group.tick(PATIENCE_TICKS)
    assert answers == []
    group.tick(2)
    [error] = answers
    assert isinstance(error, Unavailable)


def test_reads_wait_for_a_leader():
    """Without a leader reads wait, and are answered once there is one."""
    group = Watched()
    group.by_id[2].raw.forget_leader()
    answers = group.read(2)
    group.settle()
    assert (answers, group.contexts(ASK)) == ([], [])
    group.tick(RETRY_TICKS + 1)
    assert answers == [None]


def test_reads_give_up():
    """Without a leader reads are refused when they have waited long enough: those under way, those
    that gathered behind them, and none twice."""
    group = Watched()
    group.down = {2}
    asked = group.read(2)
    group.settle()
    gathered = group.read(2)
    group.tick(PATIENCE_TICKS)
    assert (asked, gathered) == ([], [])
    group.tick(2)
    for answers in (asked, gathered):
        [error] = answers
        assert isinstance(error, NoLeader)
    group.down = set()
    group.tick(10)
    assert len(asked) == len(gathered) == 1


def test_reads_at_a_new_leader():
    """A new leader answers no read before it has committed an entry of its own term."""
    group = Watched()
    group.execute(Put(b"a", b"1"))
    group.down = {1}
    group.by_id[3].raw.forget_leader()
    group.by_id[2].raw.forget_leader()
    group.loses = lambda message: message.type == MessageType.MSG_APP
    group.by_id[2].raw.campaign()
    group.settle()
    assert group.by_id[2].is_leader
    at_leader, at_follower = group.read(2), group.read(3)
    group.tick()
    assert (at_leader, at_follower) == ([], [])
    group.loses = lambda message: False
    group.tick(RETRY_TICKS + 1)
    assert (at_leader, at_follower) == ([None], [None])


def test_a_leader_that_was_replaced():
    """A leader that does not know of its successor answers no read; when it knows, the read goes
    there and sees what was written meanwhile."""
    group = Watched()
    former = group.by_id[1]
    group.down = {1}
    for member in (2, 3):
        group.by_id[member].raw.forget_leader()
    group.by_id[2].raw.campaign()
    group.settle()
    group.execute(Put(b"a", b"1"))
    answers = group.read(1)
    group.tick(3)
    assert former.is_leader
    assert answers == []
    group.down = set()
    group.tick(RETRY_TICKS + 1)
    assert not former.is_leader
    assert answers == [None]
    assert former.machine.keyspace.revision == 2


def test_a_round_moves_with_the_leader():
    """When leadership moves, a round under way is asked anew at once."""
    group = Watched()
    group.loses = lambda message: message.type == ASK
    answers = group.read(3)
    group.settle()
    group.loses = lambda message: False
    group.down = {1}
    for member in (2, 3):
        group.by_id[member].raw.forget_leader()
    group.by_id[2].raw.campaign()
    group.settle()
    group.settle()  # The turn after the one that brought the news.
    assert group.by_id[3].raw.lead == 2
    assert answers == [None]
