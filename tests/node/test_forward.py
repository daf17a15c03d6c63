"""Commands of members that do not lead: applied once, answered once, and never denied in doubt."""

from __future__ import annotations

from coordinator.node import forward
from coordinator.node.membership import NOT_READY
from coordinator.raft.messages import NO_ONE
from coordinator.replica.requests import Outcome
from coordinator.wire.peer import Forward, Placed
from coordinator_sdk.errors import Conflict, Exhausted, NoLeader, OutcomeUnknown, UnknownOperation
from coordinator_sdk.protocol.cluster import ClientRegister, MemberAdd, MemberPromote
from coordinator_sdk.protocol.kv import Put
from tests.node.exchange import PATIENCE_MS, Exchange, Thing
from tests.node.replicas import TICK_MS

PATIENCE_TICKS = PATIENCE_MS // TICK_MS
PUT = Put(b"a", b"1")


def code(outcomes: list[Outcome]) -> str:
    """Give the code of the one outcome, empty if it went well."""
    [outcome] = outcomes
    return "" if outcome.error is None else outcome.error[0]


def registered(voters: int = 3) -> Exchange:
    """Give a group that knows client 5."""
    group = Exchange(voters)
    group.execute(ClientRegister(5))
    return group


def loses_answers(sender: int, to: int, thing: Thing) -> bool:
    return type(thing) is Placed


def revisions(group: Exchange) -> set[int]:
    """Give the revisions of all members that can be reached."""
    found = [one for member, one in group.by_id.items() if member not in group.down]
    return {one.machine.keyspace.revision for one in found}


def test_a_follower_passes_a_command_on():
    """A command given to a follower is proposed by the leader, applied, and answered there."""
    group = Exchange()
    outcomes = group.submit(2, PUT)
    assert code(outcomes) == ""
    assert outcomes[0].revision == 2
    assert revisions(group) == {2}


def test_it_waits_for_a_leader():
    """Without a leader a command waits, and is sent once there is one."""
    group = Exchange()
    group.by_id[2].raw.forget_leader()
    outcomes = group.submit(2, PUT)
    assert (outcomes, group.count(Forward)) == ([], 0)
    group.tick()
    assert code(outcomes) == ""


def test_without_a_leader_it_is_refused():
    """A command that was never sent is refused when it has waited long enough."""
    group = Exchange()
    group.down = {1, 3}
    group.tick(30)
    assert group.by_id[2].raw.lead == NO_ONE
    outcomes = group.submit(2, PUT, client=5, sequence=1)
    group.tick(PATIENCE_TICKS)
    assert outcomes == []
    group.tick(2)
    assert code(outcomes) == NoLeader.code


def test_it_waits_for_the_link():
    """A command is not sent, nor in doubt, while the link to the leader is down."""
    group = Exchange()
    group.unlinked = {(2, 1)}
    outcomes = group.submit(2, PUT)
    assert (outcomes, group.count(Forward)) == ([], 0)
    group.unlinked.clear()
    group.settle()
    assert code(outcomes) == ""


def test_a_lost_answer_is_asked_for_with_a_request_id():
    """A command with a request id is sent again if no answer comes, and applied once."""
    group = registered()
    group.loses = loses_answers
    outcomes = group.submit(2, PUT, client=5, sequence=1)
    group.loses = lambda *_: False
    group.tick(PATIENCE_TICKS)
    assert code(outcomes) == ""
    assert group.count(Forward) == 2
    assert (outcomes[0].revision, revisions(group)) == (2, {2})


def test_a_lost_answer_without_a_request_id_is_told():
    """A command without a request id is never sent twice: its outcome is told to be unknown."""
    group = Exchange()
    group.loses = loses_answers
    outcomes = group.submit(2, PUT)
    group.tick(PATIENCE_TICKS + 2)
    assert code(outcomes) == OutcomeUnknown.code
    assert group.count(Forward) == 1


def test_a_broken_link_leaves_doubt():
    """When the link ends, what has no answer is sent again only if it has a request id."""
    group = registered()
    group.loses = lambda *_: True
    with_id = group.submit(2, PUT, client=5, sequence=1)
    without = group.submit(2, PUT)
    group.loses = lambda *_: False
    group.forwardings[2].lost(1)
    group.settle()
    assert (code(with_id), code(without)) == ("", OutcomeUnknown.code)
    assert group.count(Forward) == 3


def test_a_link_to_somebody_else_is_none_of_its_business():
    """When another link ends, nothing is in doubt."""
    group = Exchange()
    group.loses = lambda *_: True
    outcomes = group.submit(2, PUT)
    group.forwardings[2].lost(3)
    assert outcomes == []


def test_a_new_leader_is_asked_for_what_may_be_asked_twice():
    """When leadership moves, what has a request id goes to the new leader at once."""
    group = registered()
    group.loses = lambda sender, to, thing: 1 in (sender, to)
    outcomes = group.submit(2, PUT, client=5, sequence=1)
    group.depose(3)
    assert code(outcomes) == ""
    assert revisions(group) == {2}


def test_a_new_leader_here_takes_what_waits():
    """A member that is elected proposes by itself what it had for the former leader."""
    group = registered()
    group.loses = lambda *_: True
    outcomes = group.submit(2, PUT, client=5, sequence=1)
    group.depose(2)
    assert code(outcomes) == ""


def test_what_is_in_doubt_is_not_denied():
    """A command that may have been applied is not refused for want of a leader, however long that
    lasts; it gets its true outcome."""
    group = registered()
    group.loses = loses_answers
    outcomes = group.submit(2, PUT, client=5, sequence=1)
    group.forwardings[2].lost(1)
    group.down = {2}
    group.tick(3 * PATIENCE_TICKS)
    assert group.by_id[2].raw.lead == NO_ONE
    assert outcomes == []
    group.loses = lambda *_: False
    group.heal()
    assert code(outcomes) == ""
    assert (outcomes[0].revision, revisions(group)) == (2, {2})


def test_a_leader_that_takes_nothing_is_not_asked_without_pause():
    """While the leader proposes nothing, as during a transfer, it is asked once in a tick."""
    group = Exchange()
    group.leader.raw.raft.lead_transferee = 3
    outcomes = group.submit(2, PUT)
    assert (outcomes, group.count(Forward)) == ([], 1)
    group.tick()
    assert group.count(Forward) == 2
    group.leader.raw.raft.lead_transferee = NO_ONE
    group.tick()
    assert code(outcomes) == ""


def test_one_that_does_not_lead_takes_nothing():
    """A member that does not lead says so, and the command is tried again."""
    group = Exchange()
    group.forwardings[3].take(2, Forward(9, b""))
    group.settle()
    assert group.carried == [Placed(9, 0, 0)]


def test_a_change_of_members_is_looked_at_by_the_leader():
    """A change of the members that comes from a follower passes the leader's check, whose refusal
    is told to whoever asked."""
    group = Exchange(3, others=(4,))
    group.down = {4}
    group.execute(MemberAdd(["http://127.0.0.1:1"], member=4))
    outcomes = group.submit(2, MemberPromote(4))
    assert code(outcomes) == Conflict.code
    assert outcomes[0].error is not None
    assert outcomes[0].error[1] == NOT_READY


def test_a_change_of_members_that_may_be_made():
    """A change of the members that passes is made, whoever was asked."""
    group = Exchange()
    assert code(group.submit(2, MemberAdd(["http://127.0.0.1:1"], member=4))) == ""
    assert group.leader.machine.conf_state.learners == (4,)


def test_a_command_that_the_leader_does_not_know():
    """A command of a newer program is refused, and breaks nothing on the leader."""
    group = Exchange()
    outcomes = group.submit(2, PUT)
    call = group.carried[0]
    assert isinstance(call, Forward)
    group.carried.clear()
    group.forwardings[1].take(2, Forward(77, b"\x93garbage"))
    group.settle()
    [answer] = group.carried
    assert isinstance(answer, Placed)
    assert answer.error is not None
    assert (answer.call, answer.index, answer.error[0]) == (77, 0, UnknownOperation.code)
    assert code(outcomes) == ""


def test_a_command_that_arrives_twice():
    """Should a command without a request id arrive twice, it is proposed once."""
    group = Exchange()
    group.submit(2, PUT)
    [call, _] = group.carried
    group.bring(2, 1, call)
    group.settle()
    assert revisions(group) == {2}
    group.bring(3, 1, call)  # The same number from another member is another command.
    group.settle()
    assert revisions(group) == {3}


def test_an_answer_to_an_earlier_run():
    """An answer to a call that this run did not make is ignored."""
    group = Exchange()
    group.loses = loses_answers
    outcomes = group.submit(2, PUT)
    group.forwardings[2].placed(Placed(1, 3, 2))
    group.settle()
    assert outcomes == []


def test_an_answer_after_its_entry():
    """An answer that comes after the entry was applied tells nothing: its outcome is gone."""
    group = registered()
    late: list[Placed] = []

    def loses(sender: int, to: int, thing: object) -> bool:
        if type(thing) is Placed:
            late.append(thing)
        return type(thing) is Placed

    group.loses = loses
    with_id = group.submit(2, PUT, client=5, sequence=1)
    without = group.submit(2, PUT)
    group.loses = lambda *_: False
    for answer in late:
        group.forwardings[2].placed(answer)
    group.settle()
    assert (code(with_id), with_id[0].revision) == ("", 2)
    assert code(without) == OutcomeUnknown.code


def test_what_never_left_is_tried_again():
    """What a full link dropped was not sent: it is tried again with the next tick."""
    group = Exchange()
    group.loses = lambda *_: True
    outcomes = group.submit(2, PUT)
    [call] = group.carried
    assert isinstance(call, Forward)
    group.loses = lambda *_: False
    group.forwardings[2].unsent([call.call])
    group.settle()
    assert outcomes == []
    group.tick()
    assert code(outcomes) == ""


def test_what_waits_is_bounded(monkeypatch):
    """Beyond a limit commands are refused at once."""
    monkeypatch.setattr(forward, "QUEUE_MAX", 3)
    group = Exchange()
    group.unlinked = {(2, 1)}
    waiting = [group.submit(2, PUT) for _ in range(3)]
    assert code(group.submit(2, PUT)) == Exhausted.code
    assert waiting == [[], [], []]


def test_what_is_remembered_of_others_is_bounded(monkeypatch):
    """A leader remembers a bounded number of calls without a request id."""
    monkeypatch.setattr(forward, "TAKEN_MAX", 3)
    group = Exchange()
    for _ in range(10):
        assert code(group.submit(2, PUT)) == ""
    assert len(group.forwardings[1]._taken) == 3
