"""Commands are judged where they are applied, by the state at their place in the log."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.domains import DOMAINS
from coordinator.replica.machine import Machine
from coordinator.replica.permissions import MEMBERS_OWN
from coordinator.wire.command import AlarmSet, LeaseExpire, QuotaSet, TokenKeyAdd
from coordinator.wire.raft import ConfState
from coordinator_sdk.errors import (
    CoordinatorError,
    NotApplied,
    NotHeld,
    OutcomeUnknown,
    PermissionDenied,
    Unauthenticated,
)
from coordinator_sdk.protocol import auth
from coordinator_sdk.protocol.auth import DomainPermission
from coordinator_sdk.protocol.cluster import ClientRegister, MemberAdd, MemberRemove
from coordinator_sdk.protocol.elections import ElectionCampaign, ElectionCancel
from coordinator_sdk.protocol.kv import (
    Compact,
    Compare,
    Delete,
    Guard,
    LeaseGrant,
    LeaseRevoke,
    Put,
    Range,
    Txn,
)
from coordinator_sdk.protocol.locks import (
    LockAcquire,
    LockCancel,
    LockForceRelease,
    LockRelease,
)
from coordinator_sdk.protocol.services import (
    ServiceDeregister,
    ServiceRegister,
    ServiceSetStatus,
)
from coordinator_sdk.protocol.sessions import SessionClose, SessionOpen
from coordinator_sdk.protocol.topics import TopicCreate, TopicPublish
from tests.replica.auth.people import ROOT, allow, both, guarded, read, who, write
from tests.replica.commands import struct_of
from tests.replica.member import Member, state_of

BODIES = sorted(Machine(DOMAINS).applies, key=lambda kind: kind.__name__)


def may(member: Member, user: str, body: Any, scope: str = "") -> bool:
    """Tell whether a user may; whatever else is wrong with the command does not count."""
    answer = member.propose(body, **who(member, user, scope))
    member.settle()
    assert not member.faults, member.faults
    error = answer.outcome.error
    assert error is None or error[0] != "internal"
    if error is not None and error[0] == "permission_denied":
        assert error[1:] == (auth.PERMISSION_DENIED, {}), "a refusal tells nothing"
        return False
    return True


# ---------------------------------------------------------------- denied unless allowed


@pytest.mark.parametrize("kind", BODIES, ids=lambda kind: kind.__name__)
@settings(max_examples=15)
@given(data=st.data())
def test_whoever_has_no_role_changes_nothing(kind: type[Any], data: st.DataObject):
    """Every command of a user without a role, and of nobody, is denied and changes nothing."""
    member = guarded()
    allow(member, "a")
    body = data.draw(struct_of(kind))
    before = state_of(member.machine)
    own = (auth.ApiKeyCreate, ClientRegister)
    refused = member.propose(body, origin="10.0.0.9:1")
    member.settle()
    assert refused.outcome.error is not None
    assert refused.outcome.error[0] == Unauthenticated.code
    if kind not in own and not (kind is Txn and not effective(body)):
        assert not may(member, "a", body) or harmless(body)
    else:
        member.propose(body, **who(member, "a"))
        member.settle()
    if kind not in own:
        after = state_of(member.machine)
        for name in ("index", "chain", "clock"):
            before.pop(name)
            after.pop(name)
        assert after == before


def effective(txn: Txn) -> bool:
    """Tell whether a transaction has anything in it."""
    return bool(txn.compare or txn.success or txn.failure or txn.guard)


def harmless(body: Any) -> bool:
    """Tell whether it is a transaction of nothing but empty ones."""
    if not isinstance(body, Txn):
        return False
    inner = [*body.success, *body.failure]
    return not (body.compare or body.guard) and all(map(harmless, inner))


def test_root_may_everything():
    """Root is refused nothing for want of a right, whatever the state says otherwise."""
    member = guarded()
    for body in (
        Put(b"k"),
        Range(b"k"),
        Compact(1),
        LeaseGrant(5000, 7),
        SessionOpen(5000, 9, "app"),
        LockForceRelease("default", "x", "why"),
        TopicPublish("default", "t", b""),
        auth.RoleAdd("r"),
        QuotaSet(1 << 30),
    ):
        if not isinstance(body, Range):
            assert may(member, ROOT, body)


def test_members_go_on():
    """What a member does by itself is not judged: leases end, timers run, the quota changes."""
    member = guarded()
    allow(member, "a", both(b"k"))
    member.execute(LeaseGrant(1000, 7), **who(member, "a"))
    member.execute(Put(b"k", b"1", 7), **who(member, "a"))
    member.advance(3000)
    assert member.value(b"k") is None
    member.execute(QuotaSet(1 << 30))
    member.execute(TokenKeyAdd("1", b"s"))
    for body in (QuotaSet(1), AlarmSet(1, "NOSPACE", True), LeaseExpire(1, 1, 1)):
        assert type(body) in MEMBERS_OWN
        assert not may(member, "a", body)


def test_off_means_off():
    """While authentication is off everything is allowed to everybody, also after it was on."""
    member = guarded()
    assert isinstance(member.refusal(Put(b"k")), Unauthenticated)
    member.execute(auth.AuthDisable(), **who(member, ROOT))
    member.execute(Put(b"k", b"1"))
    assert member.value(b"k") == b"1"


# ---------------------------------------------------------------- keys


def test_key_permissions():
    """Reading, writing and both are three things; a delete needs its whole range."""
    member = guarded()
    allow(member, "a", read(b"r"), write(b"w", b"x"), both(b"m"))
    assert may(member, "a", Put(b"w"))
    assert may(member, "a", Put(b"m", prev_kv=True))
    assert not may(member, "a", Put(b"r"))
    assert not may(member, "a", Put(b"w", prev_kv=True))
    assert may(member, "a", Delete(b"w", b"x"))
    assert not may(member, "a", Delete(b"w", b"x", prev_kv=True))
    assert not may(member, "a", Delete(b"w", b"x\0"))
    assert not may(member, "a", Delete(b"w", b"\0"))


def nested(op: Any, depth: int, in_failure: bool) -> Txn:
    """Wrap an operation into transactions."""
    for _ in range(depth):
        op = Txn([], [], [op]) if in_failure else Txn([], [op])
    return op


@pytest.mark.parametrize("in_failure", [False, True])
@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize(
    ("op", "is_allowed"),
    [
        (Put(b"w"), True),
        (Put(b"w", prev_kv=True), False),
        (Put(b"r"), False),
        (Range(b"r"), True),
        (Range(b"w"), False),
        (Range(b"r", b"s"), False),
        (Range(b"r", space=1), False),
        (Delete(b"w"), True),
        (Delete(b"w", prev_kv=True), False),
        (Delete(b"r"), False),
        (Txn([Compare(0, 0, b"r")]), True),
        (Txn([Compare(0, 0, b"w")]), False),
        (Txn([Compare(0, 0, b"r", range_end=b"s")]), False),
    ],
    ids=repr,
)
def test_transactions_need_every_right(op: Any, is_allowed: bool, depth: int, in_failure: bool):
    """Each operation of both branches counts, however deep, whether it would run or not."""
    member = guarded()
    allow(member, "a", read(b"r"), write(b"w"))
    assert may(member, "a", nested(op, depth, in_failure)) == is_allowed
    beside = Txn([], [Put(b"w", b"1"), nested(op, depth, in_failure)])
    if not is_allowed:
        assert not may(member, "a", beside)
        assert member.value(b"w") is None


def test_large_commands_are_judged_before_their_first_slice():
    """A range too large for one go is refused as a whole."""
    member = guarded()
    allow(member, "a", write(b"k", b"l"))
    for number in range(1100):
        member.propose(Put(b"k%d" % number), **who(member, "a"))
    member.settle()
    assert not may(member, "a", Delete(b"a", b"z"))
    assert len(member.machine.keyspace.stores[0].live) == 1100
    assert may(member, "a", Delete(b"k", b"l"))
    assert len(member.machine.keyspace.stores[0].live) == 0


# ---------------------------------------------------------------- leases and sessions


def test_leases_are_used_by_whoever_may_write_their_keys():
    """A key may be tied to a lease, and a lease ended, only by who may write all its keys."""
    member = guarded()
    allow(member, "a", both(b"a", b"b"))
    allow(member, "b", both(b"b", b"c"))
    allow(member, "c", read(b"a", b"z"))
    allow(member, "d", "lease:use")
    assert may(member, "a", LeaseGrant(60_000, 7))
    assert may(member, "d", LeaseGrant(60_000, 8))
    assert not may(member, "c", LeaseGrant(60_000, 9))
    assert may(member, "a", Put(b"a1", b"", 7))
    assert not may(member, "b", Put(b"b1", b"", 7))
    assert not may(member, "b", Txn([], [Put(b"b1", b"", 7)]))
    assert not may(member, "b", LeaseRevoke(7))
    assert not may(member, "d", LeaseRevoke(7))
    assert member.value(b"a1") == b""
    assert may(member, "b", Put(b"b1", b"", 8))
    assert may(member, "a", LeaseRevoke(7))
    assert member.value(b"a1") is None


def test_sessions_belong_to_who_opened_them():
    """Nobody but the opener and those who may operate sessions closes one or hangs keys on it."""
    member = guarded()
    allow(member, "a", DomainPermission("session:open", "*", "app"), both(b"k"))
    allow(member, "b", "session:open", both(b"k"))
    allow(member, "o", DomainPermission("session:operate", "*", "app"))
    assert not may(member, "a", SessionOpen(60_000, 10, "other"))
    assert may(member, "a", SessionOpen(60_000, 11, "app"))
    assert not may(member, "b", SessionClose(11))
    assert not may(member, "b", Put(b"k", b"", 11))
    assert not may(member, "b", LeaseRevoke(11))
    assert may(member, "a", Put(b"k", b"", 11))
    assert may(member, "o", SessionClose(11))
    assert 11 not in member.machine.keyspace.leases
    assert may(member, "b", SessionOpen(60_000, 12, "other"))
    assert not may(member, "o", SessionClose(12))
    assert may(member, ROOT, SessionClose(12))


def with_locks() -> Member:
    """Give a member with a session 1 of user a, who holds `x`, and a session 2 of user b."""
    member = guarded()
    jobs = DomainPermission("lock:acquire", "default", "x*")
    allow(member, "a", "session:open", jobs)
    allow(member, "b", "session:open", jobs)
    allow(member, "o", "lock:force-release")
    for session, user in ((1, "a"), (2, "b")):
        assert may(member, user, SessionOpen(60_000, session, user))
    state = member.execute(LockAcquire("default", "x", 1, "me", "t1"), **who(member, "a"))
    assert state.state == "granted"
    return member


def test_locks_belong_to_the_session_of_their_user():
    """Another user can't acquire, release or cancel with a session and ticket that it knows."""
    member = with_locks()
    token = member.execute(LockAcquire("default", "x", 1, "me", "t1"), **who(member, "a")).token
    assert not may(member, "b", LockAcquire("default", "x", 1, "me", "t1"))
    assert not may(member, "b", LockRelease("default", "x", 1, "me", token))
    assert not may(member, "b", LockCancel("default", "x", "t1"))
    assert not may(member, "b", LockForceRelease("default", "x", "mine"))
    assert not may(member, "a", LockAcquire("default", "y", 1, "me", "t2"))
    assert not may(member, "a", LockAcquire("other", "x", 1, "me", "t2"))
    waits = member.execute(LockAcquire("default", "x", 2, "me", "t3"), **who(member, "b"))
    assert waits.state == "queued"
    assert not may(member, "a", LockCancel("default", "x", "t3"))
    assert may(member, "b", LockCancel("default", "x", "t3"))
    assert may(member, "o", LockCancel("default", "x", "t1"))
    assert isinstance(
        member.refusal(LockRelease("default", "x", 1, "me", token), **who(member, "a")), NotHeld
    )


def test_candidacies_belong_to_their_user():
    """As with locks; who may operate elections may withdraw any candidacy."""
    member = guarded()
    allow(member, "a", "session:open", "election:campaign")
    allow(member, "b", "session:open", "election:campaign")
    allow(member, "o", "election:operate")
    assert may(member, "a", SessionOpen(60_000, 1))
    campaign = ElectionCampaign("default", "e", 1, "me", b"v", "t1")
    assert not may(member, "b", campaign)
    assert may(member, "a", campaign)
    assert not may(member, "b", ElectionCancel("default", "e", "t1"))
    assert may(member, "o", ElectionCancel("default", "e", "t1"))


def test_registrations_belong_to_their_user():
    """Nobody replaces, removes or drains the instance of another, unless it operates services."""
    member = guarded()
    allow(member, "a", "session:open", DomainPermission("service:register", "*", "web"))
    allow(member, "b", "session:open", "service:register")
    allow(member, "o", DomainPermission("service:operate", "*", "web"))
    assert may(member, "a", SessionOpen(60_000, 1))
    assert may(member, "b", SessionOpen(60_000, 2))
    assert not may(member, "a", ServiceRegister("default", "db", 1, "i"))
    assert may(member, "a", ServiceRegister("default", "web", 1, "i"))
    assert not may(member, "b", ServiceRegister("default", "web", 2, "i"))
    assert not may(member, "b", ServiceRegister("default", "web", 1, "j"))
    assert not may(member, "b", ServiceSetStatus("default", "web", "i", "critical"))
    assert not may(member, "b", ServiceDeregister("default", "web", "i"))
    assert may(member, "a", ServiceSetStatus("default", "web", "i", "warning"))
    assert may(member, "o", ServiceSetStatus("default", "web", "i", "maintenance"))
    assert may(member, "o", ServiceDeregister("default", "web", "i"))


def test_topics():
    """Publishing and creating are two things, by namespace and name."""
    member = guarded()
    allow(member, "a", DomainPermission("topic:publish", "default", "orders.*"))
    assert may(member, "a", TopicPublish("default", "orders.eu", b""))
    assert not may(member, "a", TopicPublish("default", "orders", b""))
    assert not may(member, "a", TopicPublish("other", "orders.eu", b""))
    assert not may(member, "a", TopicCreate("default", "orders.eu"))


def test_a_guard_tells_strangers_nothing():
    """A guard with a foreign lock is refused alike, whether its token lives or not."""
    member = with_locks()
    allow(member, "c", both(b"k"), "topic:publish")
    allow(member, "r", both(b"k"), "lock:read")
    allow(member, "a", both(b"k"))
    token = member.execute(LockAcquire("default", "x", 1, "me", "t1"), **who(member, "a")).token
    live = Guard("locks", "default", "x", token, 1, "me")
    stale = Guard("locks", "default", "x", token + 1, 1, "me")
    for guard in (live, stale, Guard("locks", "default", "none", 1, 99, "me")):
        assert not may(member, "c", Put(b"k", b"1", guard=guard))
        assert not may(member, "c", Delete(b"k", guard=guard))
        assert not may(member, "c", Txn([], [Put(b"k")], guard=guard))
        assert not may(member, "c", TopicPublish("default", "t", b"", guard=guard))
    member.execute(Put(b"k", b"1", guard=live), **who(member, "a"))
    member.execute(Put(b"k", b"2", guard=live), **who(member, "r"))
    assert member.refusal(Put(b"k", guard=stale), **who(member, "a")).code == "guard_failed"


# ---------------------------------------------------------------- who it is


def test_a_command_counts_by_the_state_at_its_place():
    """What was proposed before a revocation and comes after it in the log is denied."""
    member = guarded()
    allow(member, "a", both(b"k"))
    known = who(member, "a")
    member.propose(Put(b"k", b"1"), **known)
    member.propose(auth.UserRevokeRole("a", "a"), **who(member, ROOT))
    late = member.propose(Put(b"k", b"2"), **known)
    member.settle()
    assert member.value(b"k") == b"1"
    with pytest.raises(PermissionDenied):
        late.result()


def test_an_old_proof_is_void():
    """Who proved it before the password changed, or whose user is gone, is refused."""
    member = guarded()
    allow(member, "a", both(b"k"))
    known = who(member, "a")
    member.execute(auth.UserChangePassword("a", password_hash="new"), **who(member, ROOT))
    assert member.refusal(Put(b"k"), **known).message == auth.OLD_REVISION
    assert may(member, "a", Put(b"k"))
    member.execute(auth.UserDelete("a"), **who(member, ROOT))
    assert isinstance(member.refusal(Put(b"k"), **who(member, "a")), PermissionDenied)


def test_api_keys_are_limited_expire_and_are_revoked():
    """A key does what its one role allows, until its time by the clock of the log."""
    member = guarded()
    allow(member, "a", both(b"k"))
    allow(member, "b", both(b"other"))
    member.execute(auth.UserGrantRole("a", "b"), **who(member, ROOT))
    expires = member.wall_ms + 5000
    create = auth.ApiKeyCreate("a", "a", expires, key=5, secret_hash=b"h" * 32)
    assert may(member, "a", create)
    scope = "key:5"
    assert may(member, "a", Put(b"k"), scope)
    assert not may(member, "a", Put(b"other"), scope)
    assert not may(member, "a", auth.ApiKeyCreate("a", key=6, secret_hash=b"h" * 32), scope)
    member.advance(6000)
    error = member.refusal(Put(b"k"), **who(member, "a", scope))
    assert isinstance(error, Unauthenticated)
    assert may(member, "a", auth.ApiKeyRevoke(5))


def test_retries_of_another_user_learn_nothing():
    """The outcome of a request belongs to its user; another one does not even learn of it."""
    member = guarded()
    allow(member, "a", both(b"k"))
    allow(member, "b", both(b"k"))
    member.register(21, **who(member, "a"))
    first = member.execute(Put(b"k", b"1"), client=21, sequence=1, **who(member, "a"))
    error = member.refusal(Put(b"k", b"1"), client=21, sequence=1, **who(member, "b"))
    assert isinstance(error, OutcomeUnknown)
    nobody = member.refusal(Put(b"k", b"1"), client=21, sequence=1, origin="x:1")
    assert isinstance(nobody, Unauthenticated)
    member.execute(auth.UserRevokeRole("a", "a"), **who(member, ROOT))
    again = member.execute(Put(b"k", b"1"), client=21, sequence=1, **who(member, "a"))
    assert again == first
    taken = member.execute(ClientRegister(21), **who(member, "b"))
    assert taken.agent == "new"


def test_changes_of_the_members_are_judged():
    """A change of the members is refused to who may not, on its own kind of entry too."""
    member = guarded()
    allow(member, "a", "cluster:read")
    allow(member, "o", "cluster:admin")
    add = MemberAdd(["http://h:1"], member=77)
    assert not may(member, "a", add)
    assert member.machine.conf_state == ConfState(voters=(7,))
    member.execute(add, **who(member, "o"))
    assert not may(member, "a", MemberRemove(77))
    assert 77 in member.machine.members


def test_administrators_are_not_root():
    """Who may administer users may not become root, nor touch whoever is."""
    member = guarded()
    allow(member, "adm", "auth:admin")
    allow(member, "a")
    root = who(member, ROOT)
    member.execute(auth.UserAdd("deputy", password_hash="h"), **root)
    member.execute(auth.UserGrantRole("deputy", "root"), **root)
    for body in (
        auth.UserGrantRole("adm", "root"),
        auth.UserChangePassword("root", password_hash="x"),
        auth.UserChangePassword("deputy", password_hash="x"),
        auth.UserDelete("deputy"),
        auth.UserRevokeRole("deputy", "root"),
        auth.UserSetCertificates("deputy", ["x"]),
        auth.RoleGrant("root", domain=DomainPermission("lock:read")),
        auth.ApiKeyCreate("deputy", key=9, secret_hash=b"h" * 32),
        auth.AuthDisable(),
    ):
        assert not may(member, "adm", body), body
    assert may(member, "adm", auth.UserAdd("new", password_hash="h"))
    assert may(member, "adm", auth.UserGrantRole("new", "a"))
    assert may(member, ROOT, auth.UserDelete("deputy"))


def test_no_clear_secret_is_applied():
    """A password or secret that nobody has hashed is refused, and is not in the state."""
    member = guarded()
    root = who(member, ROOT)
    for body in (
        auth.UserAdd("x", "geheim"),
        auth.UserChangePassword("root", "geheim"),
        auth.ApiKeyCreate("root", secret="geheim", key=4),
    ):
        error = member.refusal(body, **root)
        assert isinstance(error, NotApplied)
        assert "geheim" not in str(error.__dict__)
        assert "geheim" not in repr(body)


def test_etcd_texts_reach_the_proposer():
    """The refusals have etcd's texts."""
    member = Member()
    refusals: list[tuple[Any, str]] = [
        (auth.AuthEnable(), auth.ROOT_USER_MISSING),
        (auth.UserAdd("", password_hash="h"), auth.USER_EMPTY),
        (auth.RoleAdd(""), auth.ROLE_EMPTY),
        (auth.UserGrantRole("x", "r"), auth.USER_NOT_FOUND),
        (auth.RoleDelete("r"), auth.ROLE_NOT_FOUND),
        (auth.RoleGrant("r"), auth.PERMISSION_NOT_GIVEN),
    ]
    for body, text in refusals:
        assert member.refusal(body).message == text
    member.execute(auth.UserAdd("root", password_hash="h"))
    assert member.refusal(auth.AuthEnable()).message == auth.ROOT_ROLE_MISSING
    member.execute(auth.RoleAdd("root"))
    member.execute(auth.UserGrantRole("root", "root"))
    member.execute(auth.AuthEnable())
    root = who(member, ROOT)
    for body in (
        auth.UserDelete("root"),
        auth.RoleDelete("root"),
        auth.UserRevokeRole("root", "root"),
    ):
        error = member.refusal(body, **root)
        assert isinstance(error, CoordinatorError)
        assert error.message == auth.INVALID_MANAGEMENT
