"""Users, roles and API keys: etcd's rules, and every change against a naive model."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.keyspace.auth import AuthStore
from coordinator.keyspace.auth_records import ApiKeyRecord
from coordinator.keyspace.deciding import rights_of
from coordinator_sdk.errors import CoordinatorError, PermissionDenied, Unauthenticated
from coordinator_sdk.protocol import auth
from coordinator_sdk.protocol.auth import DomainPermission, KeyPermission

USERS = st.sampled_from(["root", "a", "b"])
ROLES = st.sampled_from(["root", "r", "s"])
KEYS = st.sampled_from([b"", b"a", b"b", b"c"])
ENDS = st.sampled_from([b"", b"b", b"d", b"\0"])
ACTIONS = st.sampled_from(["lock:acquire", "lock:*", "topic:publish"])
NAMES = st.sampled_from(["*", "x", "x*"])

STEPS = st.one_of(
    st.tuples(st.just("enable")),
    st.tuples(st.just("disable")),
    st.tuples(st.just("user_add"), USERS),
    st.tuples(st.just("user_delete"), USERS),
    st.tuples(st.just("user_change_password"), USERS),
    st.tuples(st.just("user_grant_role"), USERS, ROLES),
    st.tuples(st.just("user_revoke_role"), USERS, ROLES),
    st.tuples(st.just("role_add"), ROLES),
    st.tuples(st.just("role_delete"), ROLES),
    st.tuples(st.just("role_grant_key"), ROLES, st.sampled_from([0, 1, 2]), KEYS, ENDS),
    st.tuples(st.just("role_revoke_key"), ROLES, KEYS, ENDS),
    st.tuples(st.just("role_grant_domain"), ROLES, ACTIONS, NAMES, NAMES),
    st.tuples(st.just("role_revoke_domain"), ROLES, ACTIONS, NAMES, NAMES),
    st.tuples(st.just("key_create"), st.integers(1, 3), USERS, st.one_of(st.just(""), ROLES)),
    st.tuples(st.just("key_revoke"), st.integers(1, 3)),
)


class Model:
    """The same with sets, and texts for what is refused."""

    def __init__(self) -> None:
        self.enabled = False
        self.users: dict[str, set[str]] = {}
        self.roles: dict[str, tuple[dict[tuple[bytes, bytes], int], set[tuple[str, str, str]]]]
        self.roles = {}
        self.keys: dict[int, tuple[str, str]] = {}

    def enable(self) -> str:
        if self.enabled:
            return ""
        if "root" not in self.users:
            return auth.ROOT_USER_MISSING
        if "root" not in self.users["root"]:
            return auth.ROOT_ROLE_MISSING
        self.enabled = True
        return ""

    def disable(self) -> str:
        self.enabled = False
        return ""

    def user_add(self, user: str) -> str:
        if user in self.users:
            return auth.USER_EXISTS
        self.users[user] = set()
        return ""

    def user_delete(self, user: str) -> str:
        if self.enabled and user == "root":
            return auth.INVALID_MANAGEMENT
        if user not in self.users:
            return auth.USER_NOT_FOUND
        del self.users[user]
        self.keys = {key: facts for key, facts in self.keys.items() if facts[0] != user}
        return ""

    def user_change_password(self, user: str) -> str:
        return "" if user in self.users else auth.USER_NOT_FOUND

    def user_grant_role(self, user: str, role: str) -> str:
        if user not in self.users:
            return auth.USER_NOT_FOUND
        if role not in self.roles and role != "root":
            return auth.ROLE_NOT_FOUND
        self.users[user].add(role)
        return ""

    def user_revoke_role(self, user: str, role: str) -> str:
        if self.enabled and user == role == "root":
            return auth.INVALID_MANAGEMENT
        if user not in self.users:
            return auth.USER_NOT_FOUND
        if role not in self.users[user]:
            return auth.ROLE_NOT_GRANTED
        self.users[user].remove(role)
        return ""

    def role_add(self, role: str) -> str:
        if role in self.roles:
            return auth.ROLE_EXISTS
        self.roles[role] = ({}, set())
        return ""

    def role_delete(self, role: str) -> str:
        if self.enabled and role == "root":
            return auth.INVALID_MANAGEMENT
        if role not in self.roles:
            return auth.ROLE_NOT_FOUND
        del self.roles[role]
        for roles in self.users.values():
            roles.discard(role)
        return ""

    def role_grant_key(self, role: str, access: int, key: bytes, end: bytes) -> str:
        if role not in self.roles:
            return auth.ROLE_NOT_FOUND
        if (not key and not end) or (end not in (b"", b"\0") and key >= end):
            return auth.INVALID_MANAGEMENT
        self.roles[role][0][key, end] = access
        return ""

    def role_revoke_key(self, role: str, key: bytes, end: bytes) -> str:
        if role not in self.roles:
            return auth.ROLE_NOT_FOUND
        found = self.roles[role][0].pop((key, end), None)
        return auth.PERMISSION_NOT_GRANTED if found is None else ""

    def role_grant_domain(self, role: str, *facts: str) -> str:
        if role not in self.roles:
            return auth.ROLE_NOT_FOUND
        self.roles[role][1].add(facts)  # type: ignore[arg-type]
        return ""

    def role_revoke_domain(self, role: str, *facts: str) -> str:
        if role not in self.roles:
            return auth.ROLE_NOT_FOUND
        if facts not in self.roles[role][1]:
            return auth.PERMISSION_NOT_GRANTED
        self.roles[role][1].remove(facts)
        return ""

    def key_create(self, key: int, user: str, role: str) -> str:
        if user not in self.users:
            return auth.USER_NOT_FOUND
        if role and role not in self.users[user]:
            return auth.ROLE_NOT_GRANTED
        if key in self.keys:
            return "key: there is an API key of this id"
        self.keys[key] = (user, role)
        return ""

    def key_revoke(self, key: int) -> str:
        return "" if self.keys.pop(key, None) else "no such API key"

    def may_read(self, user: str, key: bytes) -> bool:
        roles = self.users[user]
        return "root" in roles or any(
            access != 1 and (start or b"\0") <= key and (key < end or end == b"\0" or key == start)
            for role in roles & set(self.roles)
            for (start, end), access in self.roles[role][0].items()
        )


def call(store: AuthStore, verb: str, args: tuple[Any, ...]) -> str:
    """Take a step; gives the text of its refusal."""
    made: tuple[Any, ...] = args
    if verb in ("user_add", "user_change_password"):
        made = (*args, "hash")
    elif verb == "role_grant_key":
        made = (args[0], KeyPermission(*args[1:]))
    elif verb in ("role_grant_domain", "role_revoke_domain"):
        made = (args[0], DomainPermission(*args[1:]))
    elif verb == "key_create":
        made = (ApiKeyRecord(args[0], args[1], args[2], b"s" * 32, 0, "", 0),)
    try:
        getattr(store, verb)(*made)
    except CoordinatorError as error:
        return error.message
    return ""


@given(st.lists(STEPS, max_size=40))
def test_every_change_against_a_model(steps):
    """Whatever is done in whatever order: the same users, roles, keys, rights and refusals."""
    store, model = AuthStore(), Model()
    for verb, *args in steps:
        revision = store.revision
        refused = call(store, verb, tuple(args))
        assert refused == getattr(model, verb)(*args)
        assert store.revision == revision or not refused
        assert store.enabled == model.enabled
        assert {name: set(one.roles) for name, one in store.users.items()} == model.users
        assert all(one.roles == sorted(one.roles) for one in store.users.values())
        assert {key: (one.user, one.role) for key, one in store.api_keys.items()} == model.keys
        for name, (keys, domains) in model.roles.items():
            role = store.roles[name]
            assert [(one.key, one.range_end, one.access) for one in role.keys] == [
                (*span, access) for span, access in sorted(keys.items())
            ]
            facts = [(one.action, one.namespace, one.name) for one in role.domains]
            assert facts == sorted(domains)
        for user in model.users:
            rights = rights_of(store, user, store.revision, "", 0)
            for key in (b"a", b"aa", b"b", b"c", b"z"):
                assert rights.may_read(key) == model.may_read(user, key)


@given(st.lists(STEPS, max_size=30), st.integers(0, 30))
def test_what_is_stored_is_everything(steps, at):
    """Loading what was dumped, whenever, gives the same store."""
    store = AuthStore()
    tables: dict[str, dict[Any, Any]] = {"users": {}, "roles": {}, "api_keys": {}}

    def dump() -> None:
        for table, rows in store.dump_changes().items():
            tables[table].update(rows)

    for number, (verb, *args) in enumerate(steps):
        call(store, verb, tuple(args))
        if number == at:
            dump()
    dump()
    kept = {
        table: {name: data for name, data in rows.items() if data is not None}
        for table, rows in tables.items()
    }
    loaded = AuthStore()
    loaded.load(store.meta(), kept)
    for name in ("enabled", "revision", "users", "roles", "api_keys", "token_keys"):
        assert getattr(loaded, name) == getattr(store, name)


def with_user() -> AuthStore:
    """Give a store with a user `a` that may read the key `k`."""
    store = AuthStore()
    store.user_add("a", "hash")
    store.role_add("r")
    store.role_grant_key("r", KeyPermission(0, b"k"))
    store.user_grant_role("a", "r")
    return store


def test_who_proved_it_before_the_password_changed_has_to_again():
    """A token from before a change of the password, or of another user of that name, is void."""
    store = with_user()
    known = store.revision
    assert rights_of(store, "a", known, "", 0).may_read(b"k")
    store.user_change_password("a", "other")
    with pytest.raises(Unauthenticated, match=auth.OLD_REVISION):
        rights_of(store, "a", known, "", 0)
    assert rights_of(store, "a", store.revision, "", 0).may_read(b"k")
    known = store.revision
    store.user_delete("a")
    with pytest.raises(PermissionDenied):
        rights_of(store, "a", known, "", 0)
    store.user_add("a", "hash")
    with pytest.raises(Unauthenticated, match=auth.OLD_REVISION):
        rights_of(store, "a", known, "", 0)


def test_a_scope_only_takes_away():
    """A scope limits to one role that the user has; an unknown one to nothing."""
    store = with_user()
    store.role_add("s")
    store.role_grant_key("s", KeyPermission(0, b"other"))
    store.user_grant_role("a", "s")
    now = store.revision
    assert rights_of(store, "a", now, "", 0).may_read(b"other")
    assert rights_of(store, "a", now, "role:r", 0).may_read(b"k")
    assert not rights_of(store, "a", now, "role:r", 0).may_read(b"other")
    assert not rights_of(store, "a", now, "role:root", 0).is_root
    assert not rights_of(store, "a", now, "nonsense", 0).may_read(b"k")
    store.user_revoke_role("a", "r")
    assert not rights_of(store, "a", now, "role:r", 0).may_read(b"k")


def test_an_api_key_stands_for_its_user_until_it_ends():
    """An API key allows what its role allows; not after its end, nor revoked, nor another's."""
    store = with_user()
    store.user_add("b", "hash")
    store.key_create(ApiKeyRecord(10, "a", "r", b"s" * 32, 5000, "", 0))
    scope = "key:000000000000000a"
    assert rights_of(store, "a", 0, scope, 4999).may_read(b"k")
    store.user_change_password("a", "other")
    assert rights_of(store, "a", 0, scope, 4999).may_read(b"k")
    with pytest.raises(Unauthenticated):
        rights_of(store, "a", 0, scope, 5000)
    with pytest.raises(Unauthenticated):
        rights_of(store, "b", store.revision, scope, 0)
    for wrong in ("key:", "key:zz", "key:b"):
        with pytest.raises(Unauthenticated):
            rights_of(store, "a", store.revision, wrong, 0)
    store.key_revoke(10)
    with pytest.raises(Unauthenticated):
        rights_of(store, "a", store.revision, scope, 0)


def test_nobody_is_told_to_say_who_it_is():
    """Without a user there is nothing but etcd's text for that."""
    with pytest.raises(Unauthenticated, match=auth.USER_EMPTY):
        rights_of(with_user(), "", 99, "", 0)


def test_first_run_in_one_step():
    """Root, its role and authentication come in one step, once."""
    store = AuthStore()
    with pytest.raises(CoordinatorError):
        store.begin_with_root("")
    assert store.users == {}
    store.begin_with_root("hash")
    assert store.enabled
    assert rights_of(store, "root", store.revision, "", 0).is_root
    with pytest.raises(CoordinatorError):
        store.begin_with_root("hash")


def test_a_certificate_stands_for_one_user():
    """A name in certificates that stands for one user is refused to another."""
    store = with_user()
    store.user_set_certificates("a", ["web-1"])
    store.user_set_certificates("a", ["web-1", "web-2"])
    for refused in (
        lambda: store.user_add("c", "", no_password=True, certificate_names=["web-2"]),
        lambda: store.user_set_certificates("b", ["web-1"]),
    ):
        with pytest.raises(CoordinatorError):
            refused()
    assert "c" not in store.users


def test_token_keys_are_bounded():
    """A new secret for tokens drops the oldest, and comes once."""
    store = AuthStore()
    for number in range(10):
        store.add_token_key(str(number), b"s")
    revision = store.revision
    store.add_token_key("9", b"other")
    assert (store.revision, list(store.token_keys)) == (revision, [str(n) for n in range(2, 10)])
    assert store.token_keys["9"] == b"s"
