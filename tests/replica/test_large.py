"""Large entries: applied slice by slice, seen only as a whole."""

import pytest

from coordinator.keyspace.records import USER
from coordinator.replica.commands import LARGE
from coordinator_sdk.errors import Conflict, CoordinatorError, GuardFailed, SessionNotFound
from coordinator_sdk.protocol.kv import (
    Compare,
    Delete,
    Guard,
    LeaseRevoke,
    Put,
    Range,
    RangeResult,
    Txn,
)
from coordinator_sdk.protocol.sessions import SessionClose
from tests.replica import probe
from tests.replica.member import Member, state_of
from tests.replica.probe import PROBE, Do

COUNT = 3 * LARGE
ALL = Range(b"k/", b"k0")


def filled(lease: int = 0) -> Member:
    """Make a member with many keys."""
    member = Member((PROBE,))
    if lease:
        member.open_session(lease, 600_000)
    for start in range(0, COUNT, 100):
        member.execute(puts(b"k", start, lease))
    return member


def puts(prefix: bytes, start: int, lease: int) -> Txn:
    """Write a hundred keys."""
    return Txn(success=[Put(prefix + b"/%06d" % n, b"v", lease) for n in range(start, start + 100)])


def count(member: Member) -> int:
    """Count the published keys."""
    found = member.machine.keyspace.range(ALL)
    assert isinstance(found, RangeResult)
    return found.count


def begin(member: Member, body: object):
    """Propose a large command and apply its first slice."""
    answer = member.propose(body)
    member.turn()
    member.turn()
    assert member.replica.apply()
    assert not answer.outcomes
    return answer


def test_reads_between_slices_see_the_published_state():
    """Between the slices of a large delete every read sees all keys, at the old revision."""
    member = filled()
    before = member.machine.keyspace.range(ALL)
    assert isinstance(before, RangeResult)
    answer = begin(member, Delete(b"k/", b"k0"))
    slices = 0
    while not answer.outcomes:
        slices += 1
        keyspace = member.machine.keyspace
        assert keyspace.range(ALL) == before
        assert keyspace.get(USER, b"k/000000") is not None
        assert keyspace.revision == before.revision
        assert not member.published or member.published[-1][0] <= before.revision
        member.replica.apply()
    assert slices > 3
    assert answer.result().deleted == COUNT
    assert count(member) == 0
    assert len(member.published[-1][1]) == COUNT


def test_ticks_and_proposals_pass_between_slices():
    """Between slices time passes, reads are confirmed and proposals are taken in, in order."""
    member = filled()
    answer = begin(member, Delete(b"k/", b"k0"))
    seen: list[int] = []
    confirmed: list[CoordinatorError | None] = []
    later = member.propose(Put(b"k/later", b"1"))
    member.replica.read(lambda error: seen.append(count(member)))
    member.replica.read(confirmed.append, applied=False)
    member.advance(300, settles=False)
    member.turn()
    member.turn()
    assert confirmed == [None]
    assert not seen, "a read waits for the entries committed before it"
    member.settle()
    assert answer.result().deleted == COUNT
    assert later.result().revision == answer.outcome.revision + 1
    assert len(seen) == 1


def test_member_catches_up_with_a_half_applied_entry_after_a_crash():
    """A crash in the middle of a large entry leaves nothing of it; the restart applies it whole."""
    member = filled()
    member.save()
    begin(member, Delete(b"k/", b"k0"))
    member.crash()
    member.start()
    assert count(member) == 0
    assert len(member.published[-1][1]) == COUNT


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (Delete(b"k/", b"k0", guard=Guard("locks", "default", "l", 1, 1, "x")), GuardFailed),
        (Txn(success=[Delete(b"k/", b"k0"), Put(b"a", b"1", lease=404)]), CoordinatorError),
    ],
    ids=["guard", "lease"],
)
def test_refused_large_command_changes_nothing(body: object, error: type[Exception]):
    """A large command that is refused, early or late, changes nothing."""
    member = filled()
    before = state_of(member.machine)
    assert isinstance(member.refusal(body), error)
    after = state_of(member.machine)
    for name in ("meta", "live", "history", "queues", "subs", "leases"):
        assert after[name] == before[name]


@pytest.mark.parametrize("kind", ["revoke", "close", "expire"])
def test_large_lease_ends_in_slices(kind: str):
    """A lease with many keys ends in slices, with all its keys and hooks in one revision."""
    member = Member((PROBE,))
    if kind == "revoke":
        member.grant(6, 5000)
    else:
        member.open_session(6, 5000)
    for start in range(0, COUNT, 100):
        member.execute(puts(b"k", start, 6))
    member.execute(Do(puts=["one", "two"], lease=6))
    member.published.clear()
    if kind == "expire":
        member.advance(6000)
    else:
        result = member.execute(LeaseRevoke(6) if kind == "revoke" else SessionClose(6))
        # A session's own record goes as well.
        assert result.deleted == COUNT + 2 + (kind == "close")
    assert len(member.published) == 1
    assert member.machine.keyspace.leases.get(6) is None
    assert count(member) == 0
    gone = [member.machine.keyspace.get(1, probe.key(name, "gone")) for name in ("one", "two")]
    assert all(gone)
    assert state_of(member.reloaded()) == state_of(member.machine)


@pytest.mark.parametrize(
    "body",
    [
        Txn(success=[Delete(b"k/", b"k/000600"), Delete(b"k/000600", b"k/001200")]),
        Txn(success=[Put(b"a", b""), Range(b"k/", b"k/000600"), Range(b"k/", b"k/000600")]),
        Txn([Compare(0, 1, b"k/", 0, b"", b"k0")], [Put(b"a", b"")]),
        Txn(success=[Txn([Compare(0, 1, b"k/", 0, b"", b"k0")], [Put(b"a", b"")])]),
    ],
    ids=["deletes", "ranges", "compare", "nested"],
)
def test_sum_of_ranges_makes_a_transaction_large(body: Txn):
    """A transaction is applied in slices if its ranges together are large, whatever they do."""
    member = filled()
    answer = begin(member, body)
    member.settle()
    assert answer.result().succeeded


def test_large_lease_keeps_its_kind():
    """Closing a plain lease as a session, or revoking a session, is refused at any size."""
    member = filled(lease=6)
    assert isinstance(member.refusal(LeaseRevoke(6)), CoordinatorError)
    member.grant(5, 600_000)
    for start in range(0, COUNT, 100):
        member.execute(puts(b"p", start, 5))
    assert isinstance(member.refusal(SessionClose(5)), SessionNotFound)
    assert count(member) == COUNT


def test_slices_and_whole_give_the_same(monkeypatch: pytest.MonkeyPatch):
    """An entry applied in slices leaves the same state and chain as one applied at once."""
    sliced, whole = filled(lease=6), filled(lease=6)
    bodies = [
        Txn(success=[Delete(b"k/000", b"k/001"), Put(b"k/000500", b"again"), Range(b"k/", b"l")]),
        Do(puts=["a"], fails=True),
        SessionClose(6),
        Delete(b"k/", b"k0", prev_kv=True),
    ]
    for body in bodies:
        answer = sliced.propose(body)
        sliced.settle()
        with monkeypatch.context() as patch:
            patch.setattr("coordinator.replica.commands.LARGE", 1 << 40)
            other = whole.propose(body)
            whole.settle()
        assert answer.outcome == other.outcome
    assert isinstance(sliced.refusal(Do(fails=True)), Conflict)
    whole.refusal(Do(fails=True))
    assert state_of(sliced.machine) == state_of(whole.machine)
