"""The hash chain: equal where the same entries had the same effects, different everywhere else."""

import pytest

from coordinator.keyspace.keyspace import Keyspace
from coordinator.replica.machine import Machine
from coordinator.wire.raft import Entry
from coordinator_sdk.protocol.kv import Compact, Delete, LeaseGrant, Put, Txn
from coordinator_sdk.protocol.locks import LockAcquire
from tests.replica.member import Member, state_of

BODIES = [
    Put(b"a", b"1"),
    Put(b"a", b"2", lease=404),
    LeaseGrant(60_000, 5),
    Put(b"b", b"1", lease=5),
    Txn(success=[Put(b"c", b"1"), Delete(b"a")]),
    LockAcquire("default", "l", 6, "me", "t"),
    Compact(4),
    Put(b"c", b"2"),
]


def written() -> tuple[Member, list[Entry]]:
    """Give a member that has applied a few commands, and its log."""
    member = Member()
    member.open_session(6, 60_000)
    for body in BODIES:
        member.propose(body)
        member.settle()
    log = member.replica.log
    return member, log.entries(log.first_index(), log.last_index() + 1, 1 << 60)


def replayed(member: Member, entries: list[Entry]) -> Machine:
    """Apply a log to a new machine."""
    machine = Machine(member.domains)
    machine.begin(1, 1, member.machine.conf_state)
    for entry in entries:
        applied = machine.apply(entry)
        assert not hasattr(applied, "send")
    return machine


def test_replay_gives_the_same_chain():
    """Two members that apply the same log have the same chain and the same state."""
    member, entries = written()
    assert state_of(replayed(member, entries)) == state_of(member.machine)


def test_chain_continues_after_a_restart():
    """A restart from any state of the database leads to the same chain."""
    for saved_after in range(len(BODIES) + 1):
        member = Member()
        member.open_session(6, 60_000)
        for number, body in enumerate(BODIES):
            if number == saved_after:
                member.save()
            member.propose(body)
            member.settle()
        expected = state_of(member.machine)
        member.stop()
        member.replay_to(member.machine.index)
        assert state_of(member.machine) == expected


# What changes no key itself shows in the entries that depend on it.
@pytest.mark.parametrize(
    "number", [n for n, body in enumerate(BODIES) if not isinstance(body, (LeaseGrant, Compact))]
)
def test_lost_effect_changes_the_chain(number: int):
    """A member that left out the effect of one entry has another chain from there on."""
    member, entries = written()
    position = len(entries) - len(BODIES) + number
    entries[position] = Entry(entries[position].term, entries[position].index)
    assert replayed(member, entries).chain != member.machine.chain


def test_wrong_value_changes_the_chain(monkeypatch: pytest.MonkeyPatch):
    """A member whose memory altered one byte of one value has another chain."""
    member, entries = written()
    machine = Machine(member.domains)
    machine.begin(1, 1, member.machine.conf_state)
    begin = Keyspace.begin

    def altered(keyspace: Keyspace, clock_ms: int = 0):
        txn = begin(keyspace, clock_ms)
        put = type(txn).put

        def wrong(txn, space, key, value, lease=0):
            return put(txn, space, key, b"3" if value == b"2" else value, lease)

        monkeypatch.setattr(type(txn), "put", wrong)
        return txn

    monkeypatch.setattr(Keyspace, "begin", altered)
    for entry in entries:
        machine.apply(entry)
        monkeypatch.undo()
        monkeypatch.setattr(Keyspace, "begin", altered)
    assert machine.chain != member.machine.chain


def test_every_entry_moves_the_chain():
    """Every entry gives another chain, also one that changes nothing."""
    member = Member()
    chains = [member.machine.chain]
    for body in (Put(b"a", b"1"), Put(b"a", b"1", lease=404), Delete(b"zz"), LeaseGrant(1000, 5)):
        member.propose(body)
        member.settle()
        chains.append(member.machine.chain)
    assert len(dict.fromkeys(chains)) == len(chains)
