"""The leader's clock: nothing ends early, nothing is revived, nothing is forgotten."""

import pytest

from coordinator.keyspace.records import SYSTEM, USER
from coordinator.replica.domain import Meta
from coordinator.replica.entry import EntryTxn, granted_at
from coordinator.replica.machine import HOOKS_PER_ENTRY
from coordinator.wire.command import LeaseContinue, LeaseExpire
from coordinator_sdk.protocol.kv import LeaseGrant, LeaseRevoke, Put
from coordinator_sdk.protocol.locks import LockAcquire
from coordinator_sdk.protocol.sessions import SessionClose
from tests.replica import probe
from tests.replica.member import TICK_MS, Member, state_of
from tests.replica.probe import PROBE, Do


def expiries(member: Member) -> list[LeaseExpire]:
    """Give the expiry entries in the log, in order."""
    log = member.replica.log
    entries = log.entries(log.first_index(), log.last_index() + 1, 1 << 60)
    bodies = [member.machine.codec.decode(entry.data).body for entry in entries if entry.data]
    return [body for body in bodies if isinstance(body, LeaseExpire)]


def test_expiry_is_an_entry_with_the_term():
    """A lease ends by an entry that carries the term of the leader that saw it end."""
    member = Member()
    member.grant(5, 1000)
    member.execute(Put(b"a", b"1", lease=5))
    member.advance(1000 + TICK_MS)
    assert [(body.lease, body.term) for body in expiries(member)] == [(5, member.replica.raw.term)]
    assert member.value(b"a") is None
    assert member.machine.keyspace.leases.get(5) is None


def test_expiry_of_another_term_is_void():
    """An expiry that an earlier leader proposed, or for an earlier lease, does nothing."""
    member = Member()
    member.grant(5, 60_000)
    granted = granted_at(member.machine.keyspace.leases.get(5))
    member.execute(LeaseExpire(5, member.replica.raw.term - 1, granted))
    assert member.machine.keyspace.leases.get(5) is not None
    member.execute(LeaseExpire(5, member.replica.raw.term, granted - 1))
    assert member.machine.keyspace.leases.get(5) is not None


def test_nothing_ends_early():
    """A lease lives until its TTL after the last renewal has passed, and not much longer."""
    member = Member()
    member.grant(5, 3000)
    for _ in range(20):
        member.advance(2900)
        assert member.replica.clock.renew(5, member.now_ms) == 3000
    ended_at = 0
    start = member.now_ms
    while not ended_at:
        member.advance(50)
        if member.machine.keyspace.leases.get(5) is None:
            ended_at = member.now_ms
    assert 3000 <= ended_at - start <= 3000 + 1000


def test_keepalive_never_revives():
    """A lease whose end has been proposed is not renewed, although it still exists."""
    member = Member()
    member.grant(5, 1000)
    while member.replica.clock.remaining_ms(5, member.now_ms):
        member.advance(TICK_MS, settles=False)
    assert member.machine.keyspace.leases.get(5) is not None
    assert member.replica.clock.renew(5, member.now_ms) == 0
    member.settle()
    assert member.machine.keyspace.leases.get(5) is None
    assert member.replica.clock.renew(5, member.now_ms) == 0


def test_new_leader_gives_the_full_ttl():
    """After taking office every lease gets its full TTL again, also one that was nearly over."""
    member = Member()
    member.grant(5, 5000)
    member.advance(4900)
    member.restart()
    member.advance(4900)
    assert member.machine.keyspace.leases.get(5) is not None
    member.advance(200)
    assert member.machine.keyspace.leases.get(5) is None


def test_lease_of_a_stalled_member_is_not_lost():
    """A pause of the whole member ends a lease at most once, by one entry."""
    member = Member()
    member.grant(5, 1000)
    member.now_ms += 3_600_000
    member.advance(TICK_MS)
    assert member.machine.keyspace.leases.get(5) is None
    member.advance(20_000)
    assert len(expiries(member)) == 1


def test_reborn_lease_is_not_ended_by_an_old_expiry():
    """An expiry that waits behind a stalled disk does not end a lease made anew meanwhile."""
    member = Member()
    member.grant(5, 1000)
    member.advance(12_000, settles=False)
    answer = member.propose(LeaseGrant(60_000, 5))
    member.advance(12_000, settles=False)
    member.settle()
    assert answer.result().lease == 5
    assert member.machine.keyspace.leases.get(5) is not None


@pytest.mark.parametrize("how", [LeaseRevoke(5), None], ids=["revoked", "expired"])
def test_keys_go_with_their_lease_in_one_revision(how: object):
    """All keys of a lease go in one revision, whether it is revoked or expires."""
    member = Member()
    member.grant(5, 1000)
    for number in range(10):
        member.execute(Put(b"%d" % number, b"1", lease=5))
    member.execute(Put(b"0", b"taken off the lease"))
    member.published.clear()
    if how is not None:
        member.execute(how)
    else:
        member.advance(1200)
    assert len(member.published) == 1
    assert [event.kv.key for _, event in member.published[0][1]] == [
        b"%d" % number for number in range(1, 10)
    ]


def test_hooks_beyond_a_thousand_continue():
    """Beyond 1,000 records the hooks go on in continuation entries, in order, across a restart."""
    member = Member((PROBE,))
    member.open_session(6, 60_000)
    count = 2 * HOOKS_PER_ENTRY + 500
    names = [f"{number:05}" for number in range(count)]
    for start in range(0, count, 500):
        member.execute(Do(puts=names[start : start + 500], lease=6))
    member.execute(SessionClose(6))
    assert len(member.machine.hooks) == count - HOOKS_PER_ENTRY
    member.restart(saves=True)
    assert len(member.machine.hooks) == count - HOOKS_PER_ENTRY
    member.advance(10 * TICK_MS)
    assert not member.machine.hooks
    gone = [member.machine.keyspace.get(SYSTEM, probe.key(name, "gone")) for name in names]
    assert all(record is not None and record.version == 1 for record in gone)
    keys = [
        event.kv.key
        for _, events in member.published
        for _, event in events
        if event.kv.version  # the traces, not the deletions
    ]
    assert keys == [probe.key(name, "gone") for name in names[HOOKS_PER_ENTRY:]]
    assert state_of(member.reloaded()) == state_of(member.machine)


def test_continuation_without_work_does_nothing():
    """A continuation that comes once too often changes nothing."""
    member = Member((PROBE,))
    before = member.machine.keyspace.meta
    member.execute(LeaseContinue())
    assert member.machine.keyspace.meta == before


def test_session_that_ends_hands_its_locks_on():
    """When a session expires, its lock goes to the next waiter in the same revision."""
    member = Member()
    member.open_session(6, 1000)
    member.open_session(8, 60_000)
    member.execute(LockAcquire("default", "l", 6, "me", "t6"))
    queued = member.execute(LockAcquire("default", "l", 8, "you", "t8"))
    assert queued.state == "queued"
    member.published.clear()
    member.advance(1200)
    assert len(member.published) == 1
    again = member.execute(LockAcquire("default", "l", 8, "you", "t8"))
    assert (again.state, again.token) == ("granted", member.published[0][0])


def test_lease_bookkeeping_is_exact_after_reload():
    """After a reload leases hold the keys they held before."""
    member = Member()
    member.grant(5)
    member.grant(7)
    member.execute(Put(b"a", b"1", lease=5))
    member.execute(Put(b"b", b"1", lease=5))
    member.execute(Put(b"b", b"1", lease=7))
    member.restart(saves=True)
    leases = member.machine.keyspace.leases.by_id
    assert {lease: sorted(leases[lease].keys[USER]) for lease in leases} == {5: [b"a"], 7: [b"b"]}


def test_undone_ends_and_grants_leave_the_clock_alone():
    """An entry that is undone has neither stopped the clock of a lease nor started one."""
    member = Member()
    member.grant(5, 1000)
    txn = EntryTxn(member.machine, Meta(member.machine.index + 1, 1, 0, 0, "", "", 0))
    txn.end_lease(5)
    txn.grant_lease(6, 1000, "plain")
    txn.rollback()
    assert member.replica.clock.remaining_ms(6, member.replica.now_ms) == -1
    member.advance(1000 + TICK_MS)
    assert member.machine.keyspace.leases.get(5) is None
    assert [body.lease for body in expiries(member)] == [5]
