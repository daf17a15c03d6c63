"""Users, roles and keys are part of the replicated state: stored, chained, and of no revision."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.keyspace.deciding import rights_of
from coordinator.replica import trail
from coordinator.replica.restore import begin_anew
from coordinator.replica.trail import decode_record
from coordinator.wire.command import TokenKeyAdd
from coordinator.wire.raft import Entry
from coordinator_sdk.errors import Unauthenticated
from coordinator_sdk.protocol import auth
from coordinator_sdk.protocol.auth import DomainPermission, KeyPermission
from coordinator_sdk.protocol.kv import Compact, LeaseGrant, Put
from tests.replica.auth.people import ROOT, allow, both, guarded, who
from tests.replica.commands import MEETING
from tests.replica.member import Member, state_of

NAMES = st.sampled_from(["a", "b", "root"])
CHANGES = st.one_of(
    st.builds(auth.UserAdd, NAMES, password_hash=st.sampled_from(["", "h"])),
    st.builds(auth.UserDelete, NAMES),
    st.builds(auth.UserChangePassword, NAMES, password_hash=st.just("i")),
    st.builds(auth.UserGrantRole, NAMES, NAMES),
    st.builds(auth.UserRevokeRole, NAMES, NAMES),
    st.builds(auth.RoleAdd, NAMES),
    st.builds(auth.RoleDelete, NAMES),
    st.builds(
        auth.RoleGrant,
        NAMES,
        st.builds(KeyPermission, st.integers(0, 2), st.sampled_from([b"a", b"b"]), st.just(b"c")),
    ),
    st.builds(auth.RoleGrant, NAMES, st.none(), st.just(DomainPermission("lock:*"))),
    st.builds(auth.ApiKeyCreate, NAMES, key=st.integers(1, 2), secret_hash=st.just(b"h" * 32)),
    st.builds(TokenKeyAdd, st.sampled_from(["1", "2"]), st.just(b"secret")),
    st.just(auth.AuthEnable()),
    st.just(auth.AuthInit(password_hash="h")),
)
ASKERS = st.sampled_from(["", "a", "b", ROOT])


@given(
    st.lists(st.tuples(st.one_of(CHANGES, MEETING), ASKERS), max_size=30),
    st.integers(0, 30),
    st.booleans(),
)
def test_replay_and_reload_give_the_same(
    steps: list[tuple[Any, str]], saved_at: int, registers: bool
):
    """Whoever did what: a restart from any saved state has the same users, rights and chain."""
    member = Member()
    if registers:
        member.register(21)
    for number, (body, user) in enumerate(steps, 1):
        if number == saved_at:
            member.save()
        ids = {"client": 21, "sequence": number} if registers and number % 2 else {}
        member.propose(body, **who(member, user), **ids)
        member.settle()
        assert not member.faults
    before = state_of(member.machine)
    assert state_of(member.reloaded()) == before
    member.crash()
    member.replay_to(before["index"])
    assert state_of(member.machine) == before


def test_no_change_of_users_takes_a_revision():
    """Users and roles come and go, and the keyspace stays at its revision."""
    member = Member()
    member.execute(Put(b"k", b"1"))
    revision = member.machine.keyspace.revision
    guarded(member)
    allow(member, "a", both(b"k"), "lock:acquire")
    member.execute(auth.UserDelete("a"), **who(member, ROOT))
    assert member.machine.keyspace.revision == revision


def test_the_chain_tells_of_users_and_roles():
    """Two members that differ in a password, a right or a secret have different chains."""
    chains = []
    for changes in (
        [auth.UserAdd("a", password_hash="x"), auth.RoleAdd("r")],
        [auth.UserAdd("a", password_hash="y"), auth.RoleAdd("r")],
        [auth.UserAdd("a", password_hash="x"), auth.RoleAdd("s")],
        [auth.UserAdd("a", no_password=True), auth.RoleAdd("r")],
        [TokenKeyAdd("1", b"s"), TokenKeyAdd("2", b"s")],
        [TokenKeyAdd("1", b"s"), TokenKeyAdd("2", b"t")],
    ):
        member = Member()
        for body in changes:
            member.execute(body)
        chains.append(member.machine.chain)
    assert len(dict.fromkeys(chains)) == len(chains)


def test_a_restored_group_keeps_users_and_no_tokens():
    """Users, roles and API keys are in a backup; what tokens were signed with counts no more."""
    member = guarded()
    allow(member, "a", both(b"k"))
    member.execute(TokenKeyAdd("1", b"s"))
    member.execute(Put(b"k", b"1"), **who(member, "a"))
    begin_anew(member.machine, [9], [])
    assert member.machine.auth.enabled
    assert member.machine.auth.token_keys == {}
    assert sorted(member.machine.auth.users) == ["a", "root"]
    loaded = member.reloaded()
    assert sorted(loaded.auth.users) == ["a", "root"]
    assert loaded.trail.begins() == []
    assert loaded.auth.revision == member.machine.auth.revision
    assert loaded.auth.users == member.machine.auth.users


def test_a_restored_group_believes_no_login_from_before():
    """Whoever proved to be a user before, even after the backup was made, must do so again."""
    member = guarded()
    allow(member, "a", both(b"k"))
    before = member.machine.auth.revision
    begin_anew(member.machine, [9], [])
    assert member.machine.auth.revision > before + 1000
    for machine in (member.machine, member.reloaded()):
        for revision in (before, before + 1000):
            for user in ("a", "root"):
                rights = rights_of(machine.auth, user, machine.auth.revision, "", 0)
                assert rights.may_write(b"k")
                with pytest.raises(Unauthenticated):
                    rights_of(machine.auth, user, revision, "", 0)
    chains = []
    for machine in (member.machine, member.reloaded()):
        machine.auth.role_add("r")
        chains.append(machine.auth.take_effects())
    assert chains[0] == chains[1]


# ---------------------------------------------------------------- the audit trail


def told(member: Member) -> list[tuple[int, str, str, str, str]]:
    """Give what is stored of the trail: begin, actor, origin, cause, operation."""
    member.save()
    rows = sorted(member.database.rows.tables["audit"].items())
    found = [(int(begin), decode_record(data)) for begin, data in rows]
    return [(begin, one.actor, one.origin, one.cause, one.operation) for begin, one in found]


def test_the_trail_tells_whose_doing_each_revision_was():
    """User, address and operation of each change; for a member's own doing, the cause."""
    member = guarded()
    allow(member, "a", both(b"k"))
    allow(member, "b", both(b"k"))
    member.execute(LeaseGrant(1000, 5), **who(member, "a"))
    first = member.machine.keyspace.revision + 1
    member.execute(Put(b"k", b"1", 5), **who(member, "a"))
    member.execute(Put(b"k", b"2", 5), **who(member, "a"))
    member.execute(Put(b"k", b"3", 5), **who(member, "b"))
    member.refusal(Put(b"other"), **who(member, "b"))
    member.advance(3000)
    lines = [line for line in told(member) if line[0] >= first]
    assert lines[0] == (first, "a", "10.0.0.9:1", "", "kv.put")
    assert lines[1] == (first + 2, "b", "10.0.0.9:1", "", "kv.put")
    assert lines[2][:3] == (first + 3, "", "")
    assert lines[2][4] == "leases.expire"
    assert lines[2][3], "a member says why"
    assert [member.machine.trail.find(first + n) for n in range(4)] == [
        first,
        first,
        first + 2,
        first + 3,
    ]


def test_alike_is_one_record_for_a_second():
    """A thousand changes alike within a second are one record; a second later another begins."""
    member = Member()
    for number in range(1000):
        member.propose(Put(b"k%d" % number), origin="x:1")
    member.settle()
    assert len(told(member)) == 1
    member.advance(1000)
    member.execute(Put(b"k"), origin="x:1")
    assert len(told(member)) == 2


def test_the_trail_goes_with_the_history():
    """Compaction drops the records that tell of nothing any more, and keeps the one in use."""
    member = Member()
    for number in range(20):
        member.execute(Put(b"k", b"%d" % number), origin=f"x:{number}")
    begins = [line[0] for line in told(member)]
    assert len(begins) == 20
    at = begins[10]
    member.execute(Compact(at))
    assert [line[0] for line in told(member)] == begins[10:]
    assert member.machine.trail.find(at) == at
    assert state_of(member.reloaded()) == state_of(member.machine)


def test_the_trail_tells_who_changed_users():
    """Each change of users and roles has its record: who, from where, whom; never a secret."""
    member = guarded()
    allow(member, "a", both(b"k"))
    member.refusal(auth.RoleAdd("r"), **who(member, "a"))
    member.execute(auth.UserGrantRole("a", "a"), **who(member, ROOT))
    member.save()
    rows = member.database.rows.tables["audit"]
    found = [(-int(key), decode_record(rows[key])) for key in sorted(rows) if int(key) < 0]
    assert [(one.actor, one.operation, one.about) for _, one in found] == [
        (ROOT, "roles.grant", "role a"),
        (ROOT, "users.grant_role", "user a, role a"),
        (ROOT, "roles.add", "role a"),
        (ROOT, "users.add", "user a"),
        ("", "auth.init", ""),
    ]
    assert found[0][0] == member.machine.auth.revision
    assert all(b"hash" not in data for data in rows.values())


def test_the_trail_of_users_is_bounded(monkeypatch: pytest.MonkeyPatch):
    """Only the newest revisions of users and roles are remembered."""
    monkeypatch.setattr(trail, "AUTH_KEPT", 5)
    member = Member()
    for number in range(12):
        member.execute(auth.RoleAdd(f"r{number}"))
        if number % 3 == 0:
            member.save()
    member.save()
    newest = member.machine.auth.revision
    kept = sorted(-int(key) for key in member.database.rows.tables["audit"])
    assert kept == list(range(newest - 4, newest + 1))


def test_an_entry_without_a_sender_leaves_no_record():
    """An empty entry, as a new leader writes it, is nobody's doing."""
    member = Member()
    before = member.machine.trail.begins()
    member.machine.apply(Entry(member.machine.term, member.machine.index + 1))
    assert member.machine.trail.begins() == before
