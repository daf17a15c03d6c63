"""What is read is judged like what is written: queries, streams, listings, the past."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from msgspec import inspect

from coordinator.api.permits import authorize, require_root
from coordinator.domains import apis
from coordinator_sdk.errors import CoordinatorError, PermissionDenied, Unauthenticated
from coordinator_sdk.protocol import REQUESTS, auth
from coordinator_sdk.protocol.audit import Blame
from coordinator_sdk.protocol.auth import DomainPermission, KeyPermission
from coordinator_sdk.protocol.cluster import ClusterStatus, LeaderMove, MemberRemove
from coordinator_sdk.protocol.elections import (
    ElectionCampaign,
    ElectionChange,
    ElectionList,
    ElectionObserve,
)
from coordinator_sdk.protocol.kv import (
    Compare,
    LeaseGrant,
    LeaseKeepAlive,
    LeaseList,
    LeaseTimeToLive,
    Put,
    Range,
    Txn,
    Watch,
    WatchItem,
)
from coordinator_sdk.protocol.locks import LockAcquire, LockGet, LockList, LockTicket
from coordinator_sdk.protocol.services import (
    ServiceChange,
    ServiceList,
    ServiceRegister,
    ServiceSnapshot,
    ServiceWatch,
)
from coordinator_sdk.protocol.sessions import SessionGet, SessionList, SessionOpen
from coordinator_sdk.protocol.topics import TopicItem, TopicList, TopicPublish, TopicSubscribe
from tests.api.member import Running, running
from tests.api.people import ROOT, Person, allow, ask, caller, propose
from tests.shape.test_permissions import ANYBODY

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def member(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    """A member with authentication on."""
    async with running(tmp_path_factory.mktemp("guarded"), domains=apis()) as made:
        await made.node.execute(auth.AuthInit(password_hash="hash"))
        await allow(made, "nothing")
        yield made


# ---------------------------------------------------------------- everything has a door


def body_of(kind: type[Any]) -> Any:
    """Make a request that is right in itself."""
    own: dict[str, Any] = {
        "cluster.blame": {"key": b"k"},
        "discovery.new": {"token": "0" * 32},
        "discovery.get": {"token": "0" * 32},
        "discovery.register": {"token": "0" * 32, "peer_urls": ["http://h:1"]},
        "members.add": {"peer_urls": ["http://h:1"]},
        "members.update": {"peer_urls": ["http://h:1"]},
        "roles.grant": {"key": KeyPermission(0, b"k")},
        "roles.revoke": {"key": KeyPermission(0, b"k")},
        "auth.init": {"password": "x"},
        "users.add": {"password": "x"},
        "users.change_password": {"password": "x"},
    }
    fields = {}
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    for part in info.fields:
        if not part.required:
            continue
        inner = part.type.type if isinstance(part.type, inspect.Metadata) else part.type
        values: dict[Any, Any] = {
            inspect.IntType: 1,
            inspect.StrType: "passing" if part.name == "status" else "x",
            inspect.BytesType: b"x",
            inspect.ListType: [],
        }
        fields[part.name] = values[type(inner)]
    return kind(**fields | own.get(str(kind.__struct_config__.tag), {}))


WHOLE = [kind for kind in REQUESTS if str(kind.__struct_config__.tag) not in ANYBODY]


@pytest.mark.parametrize("kind", WHOLE, ids=lambda kind: kind.__struct_config__.tag)
async def test_every_operation_has_a_door(member: Running, kind: type[Any]) -> None:
    """Nobody is asked who it is; a user without a role is denied; neither learns more."""
    with pytest.raises(Unauthenticated) as unknown:
        await ask(member, "", body_of(kind))
    assert (unknown.value.message, unknown.value.details) == (auth.USER_EMPTY, {})
    if kind in (auth.AuthStatus, Txn):
        return  # For every user; an empty transaction touches nothing.
    with pytest.raises(PermissionDenied) as refused:
        await ask(member, "nothing", body_of(kind))
    assert (refused.value.message, refused.value.details) == (auth.PERMISSION_DENIED, {})


async def test_what_is_open_is_open(member: Running) -> None:
    """Who has proved nothing may steer its own connection, and ask who it is."""
    assert (await ask(member, "", auth.WhoAmI())).user == ""
    found = await ask(member, "nothing", auth.WhoAmI())
    assert (found.user, found.roles) == ("nothing", ["nothing"])


async def test_http_asks_who_it_is(member: Running) -> None:
    """Routes, streams and the backup included, answer 401 to nobody."""
    for method, target in (
        ("GET", "/v1/kv/plain/a"),
        ("GET", "/v1/locks"),
        ("GET", "/v1/watch?key=a"),
        ("GET", "/v1/services/watch"),
        ("GET", "/v1/maintenance/snapshot"),
        ("GET", "/v1/cluster/status"),
        ("GET", "/v1/users"),
        ("POST", "/v1/auth/disable"),
    ):
        answer = await member.ask(method, target)
        assert (answer.status, answer.error["code"]) == (401, "unauthenticated"), target


async def test_one_function_for_other_faces(member: Running) -> None:
    """`authorize` tells whoever speaks another protocol the same."""
    await allow(member, "face", KeyPermission(0, b"face"))
    authorize(member.node, caller(member, "face"), Range(b"face"))
    with pytest.raises(PermissionDenied):
        authorize(member.node, caller(member, "face"), Range(b"other"))
    with pytest.raises(Unauthenticated):
        authorize(member.node, caller(member, ""), Range(b"face"))
    require_root(member.node, caller(member, ROOT))
    with pytest.raises(PermissionDenied):
        require_root(member.node, caller(member, "face"))


# ---------------------------------------------------------------- keys


async def test_ranges_are_whole_or_denied(member: Running) -> None:
    """A range, its count and its keys alone need the right on all of it, however fresh."""
    await allow(member, "reader", KeyPermission(0, b"r/", b"r0"), KeyPermission(1, b"w"))
    for key in (b"r/1", b"r/2", b"s"):
        await ask(member, ROOT, Put(key, b"v"))
    for serializable in (False, True):
        for facts in ({}, {"count_only": True}, {"keys_only": True}, {"limit": 1}):
            good = Range(b"r/", b"r0", serializable=serializable, **facts)
            assert (await ask(member, "reader", good)).count == 2
            for key, end in ((b"r/", b"s\0"), (b"a", b"\0"), (b"s", b""), (b"w", b"")):
                with pytest.raises(PermissionDenied):
                    await ask(member, "reader", Range(key, end, serializable=serializable, **facts))
    with pytest.raises(PermissionDenied):
        await ask(member, "reader", Range(b"s", revision=2))


async def test_transactions_that_read(member: Running) -> None:
    """A transaction that only reads is judged too, its compares and both branches."""
    await allow(member, "reader", KeyPermission(0, b"r/", b"r0"))
    assert (await ask(member, "reader", Txn([], [Range(b"r/1")]))).succeeded
    for txn in (
        Txn([Compare(0, 0, b"s")], [Range(b"r/1")]),
        Txn([], [Range(b"s")]),
        Txn([], [], [Range(b"s")]),
        Txn([], [Txn([], [], [Range(b"s")])]),
    ):
        with pytest.raises(PermissionDenied):
            await ask(member, "reader", txn)


async def test_system_keys_are_for_operators(member: Running) -> None:
    """The inspection of what domains keep needs the right to administer the cluster."""
    await allow(member, "everything", KeyPermission(2, b"", b"\0"))
    await allow(member, "operator", "cluster:admin")
    for body in (Range(b"\0", b"\0", space=1), Watch(b"\0", b"\0", space=1)):
        person = Person(member, "everything")
        with pytest.raises(PermissionDenied):
            await person.ask(body)
        person.leave()
    await ask(member, "operator", Range(b"\0", b"\0", space=1))
    with pytest.raises(PermissionDenied):
        await ask(member, "operator", Range(b"\0", b"\0"))


async def test_leases_show_no_foreign_keys(member: Running) -> None:
    """A lease with keys that the asker may not read is not listed, and its keys are not shown."""
    await allow(member, "la", KeyPermission(2, b"la", b"lb"))
    await allow(member, "lb", KeyPermission(2, b"lb", b"lc"))
    await ask(member, "la", LeaseGrant(60_000, 71))
    await ask(member, "la", Put(b"la1", b"", 71))
    await ask(member, "lb", LeaseGrant(60_000, 72))
    await ask(member, "lb", Put(b"lb1", b"", 72))
    listed = [one.lease for one in (await ask(member, "la", LeaseList())).leases]
    assert (71 in listed, 72 in listed) == (True, False)
    assert (await ask(member, "la", LeaseTimeToLive(71, True))).keys == [b"la1"]
    with pytest.raises(PermissionDenied):
        await ask(member, "la", LeaseTimeToLive(72, True))
    assert (await ask(member, "lb", LeaseKeepAlive([72]))).ttls_ms == [60_000]


# ---------------------------------------------------------------- domains


async def test_listings_show_what_may_be_seen(member: Running) -> None:
    """Lists leave out, and do not count, what the asker may not read; past ones alike."""
    await ask(member, ROOT, SessionOpen(60_000, 500, "app"))
    for name in ("mine/1", "other"):
        await ask(member, ROOT, LockAcquire("default", name, 500, "o", f"t-{name}"))
        await ask(member, ROOT, ElectionCampaign("default", name, 500, "o", b"", f"e-{name}"))
        await ask(member, ROOT, ServiceRegister("default", name, 500, "i"))
        await ask(member, ROOT, TopicPublish("default", name.replace("/", "."), b""))
    await allow(
        member,
        "lister",
        *(
            DomainPermission(action, "default", "mine*")
            for action in ("lock:read", "election:read", "service:read", "topic:subscribe")
        ),
    )
    revision = member.node.revision
    for body, field, name in (
        (LockList("default"), "locks", "name"),
        (LockList("default", revision=revision), "locks", "name"),
        (ElectionList("default"), "elections", "name"),
        (ServiceList("default"), "services", "service"),
        (TopicList("default"), "topics", "topic"),
    ):
        names = [getattr(one, name) for one in getattr(await ask(member, "lister", body), field)]
        assert names in (["mine/1"], ["mine.1"]), body
        every = getattr(await ask(member, ROOT, body), field)
        assert len(every) >= 2
    for refused in (LockList("elsewhere"), LockGet("default", "other")):
        with pytest.raises(PermissionDenied):
            await ask(member, "lister", refused)


async def test_sessions_show_their_own(member: Running) -> None:
    """A user sees its own sessions, and those of applications it may read."""
    await allow(member, "sa", "session:open")
    await allow(member, "sr", DomainPermission("session:read", "*", "web"))
    await ask(member, "sa", SessionOpen(60_000, 601, "db"))
    await ask(member, ROOT, SessionOpen(60_000, 602, "web"))

    async def listed(user: str) -> set[int]:
        return {one.session for one in (await ask(member, user, SessionList())).sessions}

    assert await listed("sa") == {601}
    assert 602 in await listed("sr")
    assert 601 not in await listed("sr")
    assert (await ask(member, "sa", SessionGet(601))).actor == "sa"
    with pytest.raises(PermissionDenied):
        await ask(member, "sa", SessionGet(602))
    with pytest.raises(PermissionDenied):
        await ask(member, "sr", LeaseKeepAlive([601]))


async def test_a_session_is_kept_alive_by_its_user(member: Running) -> None:
    """Knowing the id of a session is not enough to keep it alive."""
    await allow(member, "ka", "session:open")
    await allow(member, "kb", "session:open", "lease:use")
    await ask(member, "ka", SessionOpen(60_000, 610, "db"))
    assert (await ask(member, "ka", LeaseKeepAlive([610]))).ttls_ms == [60_000]
    with pytest.raises(PermissionDenied):
        await ask(member, "kb", LeaseKeepAlive([610]))


async def test_patterns_are_subscribed_to_as_a_whole(member: Running) -> None:
    """A subscription needs the right on every topic that its pattern may ever match."""
    await allow(member, "sub", DomainPermission("topic:subscribe", "default", "orders.*"))
    person = Person(member, "sub")
    for pattern in ("orders.>", "orders.*", "orders.eu", "orders.eu.>"):
        assert await person.open(TopicSubscribe("default", pattern))
    for pattern in (">", "*.eu", "orders", "other.>"):
        with pytest.raises(PermissionDenied):
            await person.ask(TopicSubscribe("default", pattern))
    person.leave()


# ---------------------------------------------------------------- users, roles and members


async def test_nobody_else_makes_a_leader_step_down(member: Running) -> None:
    """A change of the members is judged before the leader does anything about it."""
    own = member.node.member_id
    with pytest.raises(PermissionDenied):
        await ask(member, "nothing", MemberRemove(own))
    with pytest.raises(PermissionDenied):
        await ask(member, "nothing", MemberRemove(404))
    with pytest.raises(PermissionDenied):
        await ask(member, "nothing", LeaderMove(own))
    assert member.node.replica.is_leader


async def test_users_and_roles_are_read_by_themselves_and_administrators(member: Running) -> None:
    """A user may read itself and its roles; hashes are shown to nobody."""
    await allow(member, "ua", "lock:read")
    await allow(member, "admin", "auth:admin")
    assert (await ask(member, "ua", auth.UserGet("ua"))).roles == ["ua"]
    assert (await ask(member, "ua", auth.RoleGet("ua"))).domains == [DomainPermission("lock:read")]
    for body in (auth.UserGet("admin"), auth.RoleGet("admin"), auth.UserList(), auth.RoleList()):
        with pytest.raises(PermissionDenied):
            await ask(member, "ua", body)
        assert b"hash" not in msgspec.msgpack.encode(await ask(member, "admin", body))
    assert "ua" in (await ask(member, "admin", auth.UserList())).users
    await propose(member, "ua", auth.ApiKeyCreate("ua", key=77, secret_hash=b"h" * 32))
    assert [one.key for one in (await ask(member, "ua", auth.ApiKeyList("ua"))).keys] == [77]
    with pytest.raises(PermissionDenied):
        await ask(member, "ua", auth.ApiKeyList())


async def test_hashes_are_taken_from_nobody(member: Running) -> None:
    """A request that brings the hash of a password or secret along is refused at the edge."""
    for body in (
        auth.UserAdd("x", password_hash="h"),
        auth.UserChangePassword("root", password_hash="h"),
        auth.ApiKeyCreate("root", secret_hash=b"h" * 32),
        auth.AuthInit(password_hash="h"),
    ):
        with pytest.raises(CoordinatorError, match="is filled by the member"):
            await ask(member, ROOT, body)


# ---------------------------------------------------------------- streams


async def test_streams_end_with_the_right_to_them(member: Running) -> None:
    """A revocation ends every stream that it forbids, of that user alone, and says so."""
    await ask(member, ROOT, SessionOpen(600_000, 700, "app"))
    await ask(member, ROOT, LockAcquire("default", "st", 700, "o", "st-1"))
    rights = (
        KeyPermission(0, b"st"),
        "lock:read",
        "service:read",
        "election:read",
        "topic:subscribe",
    )
    for user in ("sta", "stb"):
        await allow(member, user, *rights)
    bodies = [
        Watch(b"st"),
        LockTicket("default", "st", "st-1", follow=True),
        ServiceWatch("default"),
        ElectionObserve("default", "st"),
        TopicSubscribe("default", "st.>"),
    ]
    first, second = Person(member, "sta"), Person(member, "stb")
    opened = [(await first.open(body), await second.open(body)) for body in bodies]
    assert [first.is_open(id) for id, _ in opened] == [True] * len(bodies)
    await propose(member, ROOT, auth.UserRevokeRole("sta", "sta"))
    for id, _ in opened:
        error = await first.ended(id)
        assert isinstance(error, PermissionDenied)
        assert not first.is_open(id)
    assert all(second.is_open(id) for _, id in opened)
    await ask(member, ROOT, Put(b"st", b"1"))
    assert (await second.item(opened[0][1], WatchItem)).events[0].kv.value == b"1"
    assert isinstance(
        await second.item(opened[2][1], ServiceSnapshot | ServiceChange), ServiceSnapshot
    )
    assert (await second.item(opened[3][1], ElectionChange)).kind == "vacant"
    assert await second.item(opened[4][1], TopicItem)
    # A narrower right ends only what it does not reach.
    await propose(member, ROOT, auth.RoleRevoke("stb", domain=DomainPermission("service:read")))
    assert isinstance(await second.ended(opened[2][1]), PermissionDenied)
    assert [second.is_open(id) for _, id in opened] == [True, True, False, True, True]
    for person in (first, second):
        person.leave()


async def test_streams_end_when_the_password_changes(member: Running) -> None:
    """Who proved it by the former password loses its streams; a new proof goes on with them."""
    await allow(member, "pw", KeyPermission(0, b"pw"))
    stays, goes = Person(member, "pw"), Person(member, "pw")
    kept, lost = await stays.open(Watch(b"pw")), await goes.open(Watch(b"pw"))
    revision = member.node.machine.auth.revision + 1
    stays.caller = replace(stays.caller, auth_revision=revision)
    await propose(member, ROOT, auth.UserChangePassword("pw", password_hash="new"))
    assert isinstance(await goes.ended(lost), PermissionDenied)
    assert stays.is_open(kept)
    for person in (stays, goes):
        person.leave()


async def test_watches_are_judged_when_opened(member: Running) -> None:
    """A watch that reaches beyond what may be read is refused, with previous values or not."""
    await allow(member, "wa", KeyPermission(0, b"wa/", b"wa0"), KeyPermission(1, b"ww"))
    person = Person(member, "wa")
    assert await person.open(Watch(b"wa/", b"wa0", prev_kv=True))
    for key, end in ((b"wa/", b"wb"), (b"", b"\0"), (b"ww", b""), (b"other", b"")):
        with pytest.raises(PermissionDenied):
            await person.ask(Watch(key, end))
    person.leave()


# ---------------------------------------------------------------- blame


async def test_blame_tells_who_did_it(member: Running) -> None:
    """Of a key and of a lock: who, from where, with what, the newest first, page by page."""
    await allow(member, "bl", KeyPermission(2, b"bl"), "cluster:read", "lock:acquire")
    await allow(member, "bm", KeyPermission(2, b"bl"), "session:open")
    await ask(member, "bl", Put(b"bl", b"1"))
    await ask(member, "bm", Put(b"bl", b"2"))
    found = await ask(member, "bl", Blame(b"bl"))
    assert [(one.actor, one.kind, one.operation) for one in found.lines] == [
        ("bm", "put", "kv.put"),
        ("bl", "put", "kv.put"),
    ]
    assert {one.origin for one in found.lines} == {"10.0.0.9:1"}
    assert all(one.clock_ms for one in found.lines)
    newest = await ask(member, "bl", Blame(b"bl", limit=1))
    assert (len(newest.lines), newest.more) == (1, True)
    older = await ask(member, "bl", Blame(b"bl", before=newest.lines[0].revision))
    assert [one.actor for one in older.lines] == ["bl"]
    await ask(member, ROOT, SessionOpen(60_000, 801, "app"))
    await ask(member, ROOT, LockAcquire("default", "bl", 801, "o", "t"))
    held = await ask(member, "bl", Blame(domain="locks", name="bl"))
    assert [(one.actor, one.what, one.operation) for one in held.lines] == [
        (ROOT, "holder", "locks.acquire")
    ]
    assert (await ask(member, "bl", Blame(domain="locks", name="b"))).lines == []
    with pytest.raises(PermissionDenied):
        await ask(member, "bm", Blame(b"bl"))
    with pytest.raises(PermissionDenied):
        await ask(member, "bl", Blame(b"other"))
    with pytest.raises(CoordinatorError, match="either a key or a domain"):
        await ask(member, ROOT, Blame())


async def test_blame_tells_who_changed_users(member: Running) -> None:
    """Who granted what to whom, for administrators only, by user or role, page by page."""
    await allow(member, "bu", "lock:read")
    await allow(member, "ba", "auth:admin")
    found = await ask(member, "ba", Blame(domain="auth", name="bu"))
    assert [(one.operation, one.what, one.actor) for one in found.lines] == [
        ("roles.grant", "role bu", ROOT),
        ("users.grant_role", "user bu, role bu", ROOT),
        ("roles.add", "role bu", ROOT),
        ("users.add", "user bu", ROOT),
    ]
    every = await ask(member, ROOT, Blame(domain="auth"))
    assert len(every.lines) > 4
    newest = await ask(member, ROOT, Blame(domain="auth", limit=2))
    assert (newest.lines, newest.more) == (every.lines[:2], True)
    older = await ask(member, ROOT, Blame(domain="auth", before=newest.lines[-1].revision))
    assert older.lines == every.lines[2:]
    await allow(member, "bc", "cluster:read")
    with pytest.raises(PermissionDenied):
        await ask(member, "bc", Blame(domain="auth"))


async def test_operators_need_the_right(member: Running) -> None:
    """How a member stands is for those who may read the cluster."""
    await allow(member, "op", "cluster:read")
    assert (await ask(member, "op", ClusterStatus())).member == member.node.member_id
