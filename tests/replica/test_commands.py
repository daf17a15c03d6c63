"""What a command does to a member, and what a refused one does not."""

import pytest

from coordinator.keyspace.records import SYSTEM
from coordinator.wire.command import QuotaSet
from coordinator_sdk.errors import (
    Conflict,
    GuardFailed,
    NoSpace,
    SessionNotFound,
)
from coordinator_sdk.protocol.kv import (
    Compact,
    Compare,
    CompareResult,
    CompareTarget,
    Delete,
    Guard,
    LeaseGrant,
    LeaseRevoke,
    Put,
    Txn,
)
from coordinator_sdk.protocol.locks import LockAcquire, LockRelease
from coordinator_sdk.protocol.sessions import SessionClose
from coordinator_sdk.protocol.topics import TopicPublish
from tests.replica import probe
from tests.replica.member import Member, state_of
from tests.replica.probe import PROBE, Do

KEPT = ("meta", "live", "subs", "history", "queues", "leases", "timers", "requests", "hooks")


def kept(member: Member) -> dict:
    """Give what a refused command must leave alone: all but index, clock and chain."""
    state = state_of(member.machine)
    return {name: state[name] for name in KEPT}


def full(member: Member) -> None:
    """Use the quota up."""
    member.execute(QuotaSet(2_000))
    while not member.machine.is_full:
        member.execute(Put(b"ballast", b"x" * 200))


def test_one_entry_is_one_revision():
    """A command that changes a key makes one revision, and its outcome names it."""
    member = Member()
    first = member.machine.keyspace.revision
    assert member.execute(Put(b"a", b"1")).revision == first + 1
    txn = Txn(success=[Put(b"b", b"2"), Put(b"c", b"3"), Delete(b"a")])
    assert member.execute(txn).revision == first + 2
    assert [revision for revision, _ in member.published] == [first + 1, first + 2]
    assert len(member.published[-1][1]) == 3


def test_commands_of_one_turn_stay_apart():
    """Commands proposed in one turn are entries of their own, answered in their order."""
    member = Member()
    answers = [member.propose(Put(b"k", b"%d" % number)) for number in range(5)]
    member.settle()
    revisions = [answer.result().revision for answer in answers]
    assert revisions == list(range(revisions[0], revisions[0] + 5))


@pytest.mark.parametrize(
    "body",
    [
        Put(b"a", b"2", lease=99),
        Put(b"a", b"2", guard=Guard("locks", "default", "nobody", 5, 1, "x")),
        Put(b"missing", ignore_value=True),
        Txn(success=[Delete(b"a"), Put(b"b", b"2", lease=99)]),
        Txn(
            success=[Put(b"b", b"2")],
            failure=[Put(b"c", guard=Guard("locks", "default", "nobody", 5, 1, "x"))],
        ),
        LeaseGrant(1000, 5),
        LeaseGrant(1 << 62, 9),
        LeaseRevoke(99),
        LeaseRevoke(6),
        SessionClose(5),
        SessionClose(99),
        LockAcquire("default", "l", 99, "me"),
        LockRelease("default", "l", 6, "me", 1),
        Compact(1 << 40),
        Do(puts=["a", "b"], deletes=["c"], timers=["t", "u"], cancels=["v"], fails=True),
        Do(puts=["a", "x"], lease=99),
    ],
    ids=lambda body: type(body).__name__,
)
def test_refused_command_changes_nothing(body: object):
    """A refused command leaves keys, history, leases, timers and sessions as they were."""
    member = Member((*Member().domains, PROBE))
    member.execute(Put(b"a", b"1"))
    member.grant(5)
    member.open_session(6)
    member.execute(Do(puts=["a", "c"], timers=["t", "v"]))
    before = kept(member)
    revision = member.machine.keyspace.revision
    answer = member.propose(body)
    member.settle()
    assert answer.outcome.error is not None
    assert answer.outcome.revision == revision
    assert kept(member) == before
    assert member.machine.keyspace.open is None
    assert state_of(member.reloaded()) == state_of(member.machine)


def test_timer_survives_a_refused_restart_of_it():
    """A timer that a refused command set anew still runs out when it would have."""
    member = Member((PROBE,))
    member.execute(Do(timers=["t"], duration_ms=1000))
    member.advance(600)
    assert isinstance(member.refusal(Do(timers=["t"], duration_ms=9000, fails=True)), Conflict)
    member.advance(500)
    fired = member.machine.keyspace.get(SYSTEM, probe.key("t", "fired"))
    assert fired is not None
    assert fired.value == b"1"


def test_refused_timer_hook_changes_nothing_and_ends():
    """A timer whose hook is refused is gone, changes nothing, and is not tried for ever."""
    member = Member((PROBE,))
    member.execute(Do(timers=["refuse"], duration_ms=1000))
    before = member.machine.keyspace.meta
    member.advance(20_000)
    assert member.machine.keyspace.meta == before
    index = member.machine.index
    member.advance(20_000)
    assert member.machine.index == index


def test_guard_passes_only_with_the_live_token():
    """A guarded write passes with the live holder's token and with no other."""
    member = Member()
    member.open_session(6)
    member.open_session(8)
    ticket = member.execute(LockAcquire("default", "l", 6, "me", "t1"))
    guard = Guard("locks", "default", "l", ticket.token, 6, "me")
    member.execute(Put(b"a", b"1", guard=guard))
    wrong = [
        Guard("locks", "default", "l", ticket.token + 1, 6, "me"),
        Guard("locks", "default", "l", ticket.token, 8, "me"),
        Guard("locks", "default", "l", ticket.token, 6, "you"),
        Guard("locks", "other", "l", ticket.token, 6, "me"),
        Guard("elections", "default", "l", ticket.token, 6, "me"),
    ]
    for other in wrong:
        for body in (
            Put(b"a", b"2", guard=other),
            Delete(b"a", guard=other),
            Delete(b"a", b"b", guard=other),
            Txn(success=[Put(b"a", b"2", guard=other)]),
            Txn(success=[Txn(failure=[Delete(b"a", guard=other)])]),
            TopicPublish("default", "t", b"", guard=other),
        ):
            assert isinstance(member.refusal(body), GuardFailed), body
    assert member.value(b"a") == b"1"
    member.execute(SessionClose(6))
    assert isinstance(member.refusal(Put(b"a", b"2", guard=guard)), GuardFailed)


def test_session_that_ended_cannot_acquire():
    """A session that has ended gets no lock."""
    member = Member()
    member.open_session(6)
    member.execute(SessionClose(6))
    assert isinstance(member.refusal(LockAcquire("default", "l", 6, "me")), SessionNotFound)


def test_full_keyspace_refuses_what_grows_it():
    """At the quota writes are refused with NOSPACE, in every form and whatever their size."""
    member = Member()
    for number in range(1200):
        member.execute(Put(b"many/%04d" % number, b""))
    full(member)
    for body in (
        Put(b"a", b"1"),
        Txn(success=[Put(b"a", b"1")]),
        Txn(success=[Txn(failure=[Put(b"a", b"1")])]),
        Txn(success=[Delete(b"many/", b"many0"), Put(b"a", b"1")]),
        TopicPublish("default", "t", b"1"),
    ):
        assert isinstance(member.refusal(body), NoSpace), body
    assert member.value(b"a") is None


def test_full_keyspace_still_gives_back():
    """At the quota release, revoke, expiry, delete, compaction and lock leases still work."""
    member = Member()
    member.open_session(6)
    member.grant(5)
    ticket = member.execute(LockAcquire("default", "l", 6, "me", "t1"))
    member.execute(Put(b"leased", b"1", lease=5))
    full(member)
    member.execute(LockRelease("default", "l", 6, "me", ticket.token))
    member.execute(LeaseRevoke(5))
    assert member.value(b"leased") is None
    member.execute(Delete(b"ballast"))
    member.execute(Txn(success=[Delete(b"ballast")]))
    assert member.execute(LeaseGrant(10_000, 77)).lease == 77
    member.open_session(9)
    assert member.execute(LockAcquire("default", "l", 9, "me", "t2")).token > ticket.token
    member.execute(SessionClose(9))


def test_no_space_clears_by_itself():
    """Once compaction has dropped enough, writes pass again without anyone's doing."""
    member = Member()
    full(member)
    member.execute(Delete(b"ballast"))
    assert isinstance(member.refusal(Put(b"a", b"1")), NoSpace)
    member.execute(Compact(member.machine.keyspace.revision))
    member.advance(1000)
    assert not member.machine.is_full
    member.execute(Put(b"a", b"1"))


def test_transaction_takes_one_branch():
    """A transaction applies the branch that its compares choose, and nothing of the other."""
    member = Member()
    absent = Compare(CompareTarget.VERSION, CompareResult.EQUAL, b"a", 0)
    create = Txn([absent], success=[Put(b"a", b"1")], failure=[Put(b"b", b"1")])
    assert member.execute(create).succeeded
    assert not member.execute(create).succeeded
    assert (member.value(b"a"), member.value(b"b")) == (b"1", b"1")
