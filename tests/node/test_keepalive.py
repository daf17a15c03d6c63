"""Renewals: answered by a leader that has proved that it leads, whoever was asked."""

from __future__ import annotations

from coordinator.node import keepalive
from coordinator.replica.effects import Proposal
from coordinator.replica.entry import granted_at
from coordinator.wire.command import LeaseExpire
from coordinator.wire.peer import Renew, Renewed
from coordinator.wire.raft import MessageType
from coordinator_sdk.errors import CoordinatorError, NoLeader
from coordinator_sdk.protocol.kv import LeaseGrant
from tests.node.exchange import PATIENCE_MS, Exchange, Thing
from tests.node.replicas import TICK_MS

TTL_MS = 5000
LEASE = 9
PATIENCE_TICKS = PATIENCE_MS // TICK_MS


def granted() -> Exchange:
    """Give a group with a lease."""
    group = Exchange()
    group.execute(LeaseGrant(TTL_MS, LEASE))
    return group


def refused(answers: list[list[int] | CoordinatorError]) -> bool:
    """Tell whether the one answer is that there is no leader."""
    [answer] = answers
    return isinstance(answer, NoLeader)


def test_any_member_renews():
    """A renewal goes to the leader, whoever was asked, and gives the full TTL again."""
    group = granted()
    for member in (1, 2, 3):
        group.tick(20)
        assert group.ask(member, LEASE, only_look=True) == [[TTL_MS - 2000]]
        assert group.ask(member, LEASE) == [[TTL_MS]]
        assert group.ask(member, LEASE, only_look=True) == [[TTL_MS]]


def test_what_does_not_exist():
    """A lease that does not exist is not renewed, nor looked at; others beside it are."""
    group = granted()
    assert group.ask(2, LEASE, 77) == [[TTL_MS, 0]]
    assert group.ask(2, LEASE, 77, only_look=True) == [[TTL_MS, -1]]
    assert group.ask(2) == [[]]


def test_an_end_on_its_way():
    """A lease whose end has been proposed is not renewed any more."""
    group = granted()
    group.down = {2, 3}
    group.tick(4)
    group.leader.clock._expiring[LEASE] = None
    group.down = set()
    assert group.ask(2, LEASE) == [[0]]


def test_a_deposed_leader_renews_nothing():
    """A leader that has been replaced, and does not know it, answers nothing; when it knows, it
    says that it does not lead."""
    group = granted()
    former = group.leader
    group.depose(2)
    assert former.is_leader
    answers = group.ask(1, LEASE)
    group.tick(3)
    assert answers == []
    group.heal()
    assert refused(answers)
    assert group.ask(1, LEASE) == [[TTL_MS]]


def test_a_quorum_that_answered_before_does_not_count():
    """A renewal is confirmed by a round that began after it came."""
    group = granted()
    group.down = {2, 3}
    answers = group.ask(1, LEASE)
    group.tick(2)
    assert answers == []
    group.down = set()
    group.tick(2)
    assert answers == [[TTL_MS]]


def test_what_the_last_leader_ended():
    """A new leader renews no lease before it has applied all that is from before it, such as the
    end of that very lease."""
    group = granted()
    leader, successor = group.leader, group.by_id[2]
    term = leader.raw.term
    applying = successor.apply
    successor.apply = lambda entries_max=64: False  # type: ignore[method-assign]
    record = leader.machine.keyspace.leases.by_id[LEASE]
    assert record is not None
    leader.propose(Proposal(LeaseExpire(LEASE, term, granted_at(record)), None))
    group.settle()
    assert LEASE not in leader.machine.keyspace.leases.by_id
    group.depose(2)
    answers = group.ask(2, LEASE)
    group.tick()
    assert LEASE in successor.machine.keyspace.leases.by_id
    assert answers == []
    successor.apply = applying  # type: ignore[method-assign]
    group.tick()
    assert answers == [[0]]


def test_a_new_leader_gives_the_full_ttl():
    """Whoever is elected counts every lease anew: none ends early because leadership moved."""
    group = granted()
    group.tick(40)
    assert group.ask(2, LEASE, only_look=True) == [[TTL_MS - 4000]]
    group.depose(3)
    assert group.ask(2, LEASE, only_look=True) == [[TTL_MS]]
    group.tick(TTL_MS // TICK_MS - 1)
    assert LEASE in group.leader.machine.keyspace.leases.by_id
    group.tick(2)
    assert LEASE not in group.leader.machine.keyspace.leases.by_id


def test_lost_answers_are_asked_for_again():
    """A question or answer that got lost is asked again."""
    group = granted()
    for kind in (Renew, Renewed):
        group.loses = lambda sender, to, thing, kind=kind: type(thing) is kind  # type: ignore[misc]
        answers = group.ask(2, LEASE)
        group.loses = lambda *_: False
        group.tick(keepalive.AGAIN_MS // TICK_MS)
        assert answers == []
        group.tick(2)
        assert answers == [[TTL_MS]]


def test_a_late_answer_is_ignored():
    """Each question is answered once, and an answer to an earlier run not at all."""
    group = granted()
    answers = group.ask(2, LEASE)
    for thing in [thing for thing in group.carried if isinstance(thing, Renewed)]:
        group.bring(1, 2, thing)
    group.keepalives[2].told(Renewed(1, [77]))
    assert answers == [[TTL_MS]]


def test_a_broken_link_is_waited_for():
    """When the link ends, questions wait for it, and are asked again."""
    group = granted()
    group.loses = lambda *_: True
    answers = group.ask(2, LEASE)
    group.loses = lambda *_: False
    group.unlinked = {(2, 1)}
    group.keepalives[2].lost(3)
    group.keepalives[2].lost(1)
    group.settle()
    assert answers == []
    group.unlinked.clear()
    group.settle()
    assert answers == [[TTL_MS]]


def test_what_never_left_is_asked_again():
    """What a full link dropped is asked again with the next tick."""
    group = granted()
    group.loses = lambda *_: True
    answers = group.ask(2, LEASE)
    [question] = group.carried
    assert isinstance(question, Renew)
    group.loses = lambda *_: False
    group.keepalives[2].unsent([question.call])
    group.settle()
    assert answers == []
    group.tick()
    assert answers == [[TTL_MS]]


def test_a_new_leader_is_asked():
    """When leadership moves, the question moves."""
    group = granted()
    group.loses = lambda sender, to, thing: 1 in (sender, to)
    answers = group.ask(2, LEASE)
    group.depose(3)
    assert answers == [[TTL_MS]]


def test_one_that_does_not_lead_is_not_asked_without_pause():
    """A member that is taken for the leader and is none is asked once in a tick."""
    group = granted()
    asked: list[Thing] = []

    def misled(sender: int, to: int, thing: Thing) -> bool:
        if isinstance(thing, Renew):
            asked.append(thing)
            group.bring(3, 2, Renewed(thing.call, None))
        return True

    group.loses = misled
    answers = group.ask(2, LEASE)
    assert (answers, len(asked)) == ([], 1)
    group.tick()
    assert len(asked) == 2


def test_without_a_leader_it_is_refused():
    """Whoever waits long enough is told that there is no leader, asked or not."""
    group = granted()
    group.loses = lambda *_: True
    asked = group.ask(2, LEASE)
    group.unlinked = {(3, 1)}
    waiting = group.ask(3, LEASE)
    group.tick(PATIENCE_TICKS)
    assert (asked, waiting) == ([], [])
    group.tick(2)
    assert refused(asked)
    assert refused(waiting)


def test_what_waits_is_bounded(monkeypatch):
    """Beyond a limit questions are refused at once."""
    monkeypatch.setattr(keepalive, "WAITING_MAX", 2)
    group = granted()
    group.unlinked = {(2, 1)}
    waiting = [group.ask(2, LEASE) for _ in range(2)]
    assert refused(group.ask(2, LEASE))
    assert waiting == [[], []]


def test_a_deposed_leader_tells_who_asked():
    """A renewal that another member passed on to a leader just deposed goes to the next one."""
    group = granted()
    beats = MessageType.MSG_HEARTBEAT_RESP
    deliver = group._deliver
    group._deliver = lambda sender, message: (  # type: ignore[method-assign]
        None if message.type == beats else deliver(sender, message)
    )
    answers = group.ask(3, LEASE)
    assert answers == []
    group._deliver = deliver  # type: ignore[method-assign]
    for member in (2, 3):
        group.by_id[member].raw.forget_leader()
    group.by_id[2].raw.campaign()
    group.settle()
    assert group.leader.raw.id == 2
    group.tick(2)
    assert answers == [[TTL_MS]]
