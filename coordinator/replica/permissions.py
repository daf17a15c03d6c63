"""The table of permissions: what each command and query of the core needs. Pure.

Keys follow etcd: a transaction needs the rights of all its compares and of the operations of
both branches, asking for previous values needs the right to read them, and a lease may be used
by whoever may write all keys that hang on it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coordinator.keyspace.auth_records import KEY_SCOPE
from coordinator.keyspace.deciding import rights_of, roles_of
from coordinator.keyspace.leases import SESSION
from coordinator.keyspace.records import SYSTEM, USER
from coordinator.replica import permission
from coordinator.replica.permission import (
    KNOWN,
    OPEN,
    Asker,
    Place,
    Rule,
    allowed,
    check_guard_use,
    denied,
)
from coordinator.wire import command as members_own
from coordinator_sdk.protocol import audit, auth, cluster, kv, maintenance, sessions
from coordinator_sdk.protocol.auth import ROOT

if TYPE_CHECKING:
    from coordinator.replica.effects import Proposal
    from coordinator.replica.machine import Machine
    from coordinator.wire.command import Envelope

# ---------------------------------------------------------------- keys


def _check_put(asker: Asker, op: kv.Put) -> None:
    rights = asker.rights
    if op.prev_kv and not rights.may_read(op.key):
        raise denied()
    if not rights.may_write(op.key):
        raise denied()
    if op.lease:
        _check_attaching(asker, op.lease)
    if op.guard is not None:
        check_guard_use(asker, op.guard)


def _check_range(asker: Asker, op: kv.Range | kv.Watch) -> None:
    if op.space == SYSTEM:
        if not asker.rights.may("cluster:admin"):
            raise denied()
    elif not asker.rights.may_read(op.key, op.range_end):
        raise denied()


def _check_delete(asker: Asker, op: kv.Delete) -> None:
    rights = asker.rights
    if op.prev_kv and not rights.may_read(op.key, op.range_end):
        raise denied()
    if not rights.may_write(op.key, op.range_end):
        raise denied()
    if op.guard is not None:
        check_guard_use(asker, op.guard)


def _check_txn(asker: Asker, txn: kv.Txn) -> None:
    pending: list[Any] = [txn]
    while pending:
        op = pending.pop()
        kind = type(op)
        if kind is kv.Txn:
            for compare in op.compare:
                if not asker.rights.may_read(compare.key, compare.range_end):
                    raise denied()
            if op.guard is not None:
                check_guard_use(asker, op.guard)
            pending += op.success
            pending += op.failure
        elif kind is kv.Put:
            _check_put(asker, op)
        elif kind is kv.Delete:
            _check_delete(asker, op)
        else:
            _check_range(asker, op)


# ---------------------------------------------------------------- leases and sessions


def _may_use_leases(asker: Asker) -> bool:
    """Whoever may write keys may let them expire."""
    return bool(asker.rights.writable) or asker.rights.may("lease:use")


def _check_attaching(asker: Asker, lease: int) -> None:
    """Nobody may tie a key to what it could not end by itself."""
    found = asker.keyspace.leases.get(lease)
    if found is None:
        return
    if found.kind == SESSION:
        if not asker.owns(lease):
            raise denied()
    elif not (asker.rights.is_root or asker.rights.writable.covers_all(found.keys[USER])):
        raise denied()


def _check_grant(asker: Asker, op: kv.LeaseGrant) -> None:
    if not _may_use_leases(asker):
        raise denied()


def _check_revoke(asker: Asker, op: kv.LeaseRevoke) -> None:
    if not _may_use_leases(asker):
        raise denied()
    _check_attaching(asker, op.lease)


def _check_keep_alive(asker: Asker, op: kv.LeaseKeepAlive) -> None:
    is_user = _may_use_leases(asker)
    if not (is_user or asker.rights.may_some("session:open")):
        raise denied()
    for lease in op.leases:
        found = asker.keyspace.leases.get(lease)
        if found is None:
            continue
        if found.kind == SESSION:
            if not asker.owns(lease):
                raise denied()
        elif not is_user:
            raise denied()


def _check_time_to_live(asker: Asker, op: kv.LeaseTimeToLive) -> None:
    if not _may_use_leases(asker):
        raise denied()
    found = asker.keyspace.leases.get(op.lease)
    if op.keys and found is not None and found.kind != SESSION and not _sees(asker, op.lease):
        raise denied()


def _sees(asker: Asker, lease: int) -> bool:
    found = asker.keyspace.leases.get(lease)
    return (
        found is None or asker.rights.is_root or asker.rights.readable.covers_all(found.keys[USER])
    )


def _check_lease_list(asker: Asker, op: kv.LeaseList) -> None:
    if not _may_use_leases(asker):
        raise denied()


def _show_leases(asker: Asker, op: kv.LeaseList, result: kv.LeaseListResult) -> None:
    result.leases[:] = [one for one in result.leases if _sees(asker, one.lease)]


def _check_session_get(asker: Asker, op: sessions.SessionGet) -> None:
    found = asker.session(op.session)
    if found is None:
        # That there is none says nothing about others: ids can't be guessed.
        _check_session_list(asker, op)
        return
    if not _sees_session(asker, found.actor, found.application):
        raise denied()


def _sees_session(asker: Asker, actor: str, application: str) -> bool:
    return asker.is_own(actor) or asker.rights.may("session:read", "", application)


def _check_session_list(asker: Asker, op: sessions.SessionList | sessions.SessionGet) -> None:
    rights = asker.rights
    if not (rights.may_some("session:read") or rights.may_some("session:open")):
        raise denied()


def _show_sessions(
    asker: Asker, op: sessions.SessionList, result: sessions.SessionListResult
) -> None:
    result.sessions[:] = [
        one for one in result.sessions if _sees_session(asker, one.actor, one.application)
    ]


def _check_session_close(asker: Asker, op: sessions.SessionClose) -> None:
    found = asker.session(op.session)
    if found is None:
        if not asker.rights.may_some("session:open"):
            raise denied()
        return
    if asker.is_own(found.actor):
        return
    if not asker.rights.may("session:operate", "", found.application):
        raise denied()


# ---------------------------------------------------------------- users and roles


def _is_admin(asker: Asker) -> bool:
    return asker.rights.may("auth:admin")


def _check_admin(asker: Asker, op: Any) -> None:
    if not _is_admin(asker):
        raise denied()


def _check_root(asker: Asker, op: Any) -> None:
    if not asker.rights.is_root:
        raise denied()


def _check_about_user(asker: Asker, op: Any) -> None:
    """Only root may change whoever is root, or make somebody so."""
    _check_admin(asker, op)
    found = asker.auth.users.get(op.user)
    is_about_root = (found is not None and ROOT in found.roles) or ROOT in (
        op.user,
        getattr(op, "role", ""),
    )
    if is_about_root:
        _check_root(asker, op)


def _check_about_role(asker: Asker, op: Any) -> None:
    _check_admin(asker, op)
    if op.role == ROOT:
        _check_root(asker, op)


def _check_user_get(asker: Asker, op: auth.UserGet) -> None:
    if op.user != asker.actor:
        _check_admin(asker, op)


def _check_role_get(asker: Asker, op: auth.RoleGet) -> None:
    own = asker.auth.users.get(asker.actor)
    if own is None or op.role not in roles_of(asker.auth, own, asker.scope):
        _check_admin(asker, op)


def _check_key_create(asker: Asker, op: auth.ApiKeyCreate) -> None:
    """Whoever is limited to a role may not make a key that is not."""
    if op.user != asker.actor or asker.scope:
        _check_about_user(asker, op)


def _check_key_revoke(asker: Asker, op: auth.ApiKeyRevoke) -> None:
    """As for making one; but whoever came with a key may always make that one void."""
    found = asker.auth.api_keys.get(op.key)
    if found is None:
        _check_admin(asker, op)
    elif found.user != asker.actor or asker.scope not in ("", f"{KEY_SCOPE}{op.key:x}"):
        _check_about_user(asker, found)


def _check_key_list(asker: Asker, op: auth.ApiKeyList) -> None:
    if op.user != asker.actor:
        _check_admin(asker, op)


# ---------------------------------------------------------------- the cluster


def _check_blame(asker: Asker, op: audit.Blame) -> None:
    """Who did what is for operators; for keys only for those who may read them."""
    if op.domain == "auth":
        _check_admin(asker, op)
    elif op.domain:
        if not asker.rights.may("cluster:read", op.namespace, op.name):
            raise denied()
    elif not (asker.rights.may_some("cluster:read") and asker.rights.may_read(op.key)):
        raise denied()


_APPLICATION = Place("application", "")
_SYSTEM = "; system keys: `cluster:admin`"
_KEYS_WRITTEN = "`lease:use`, or to write any key"
_ADMIN = Rule("`auth:admin`", _check_admin)
_ABOUT_USER = Rule("`auth:admin`; about `root` the role `root`", _check_about_user)
_ABOUT_ROLE = Rule("`auth:admin`; about `root` the role `root`", _check_about_role)
_ROOT_ONLY = Rule("the role `root`", _check_root)
_CLUSTER_READ = allowed("cluster:read", at=permission.NAMELESS)
_CLUSTER_ADMIN = allowed("cluster:admin", at=permission.NAMELESS)
_MEMBERS_OWN = Rule("to be a member, or `cluster:admin`", _CLUSTER_ADMIN.check)

CORE_RULES: dict[type[Any], Rule] = {
    kv.Put: Rule(
        "to write the key; with `prev_kv` to read it; with a lease to write all its keys",
        _check_put,
    ),
    kv.Range: Rule("to read the range" + _SYSTEM, _check_range),
    kv.Delete: Rule("to write the range; with `prev_kv` to read it", _check_delete),
    kv.Txn: Rule(
        "to read what is compared, and what each operation of both branches needs", _check_txn
    ),
    kv.Compact: _CLUSTER_ADMIN,
    kv.Watch: Rule("to read the range" + _SYSTEM, _check_range),
    kv.Credit: OPEN,
    kv.Cancel: OPEN,
    kv.Progress: OPEN,
    kv.LeaseGrant: Rule(_KEYS_WRITTEN, _check_grant),
    kv.LeaseRevoke: Rule(_KEYS_WRITTEN + "; and to write all its keys", _check_revoke),
    kv.LeaseKeepAlive: Rule(_KEYS_WRITTEN + "; sessions: own", _check_keep_alive),
    kv.LeaseTimeToLive: Rule(
        _KEYS_WRITTEN + "; with `keys` to read all its keys", _check_time_to_live
    ),
    kv.LeaseList: Rule(
        _KEYS_WRITTEN + "; shows leases all of whose keys may be read",
        _check_lease_list,
        _show_leases,
    ),
    sessions.SessionOpen: allowed("session:open", at=_APPLICATION),
    sessions.SessionClose: Rule("own session; or `session:operate`", _check_session_close),
    sessions.SessionGet: Rule("own session; or `session:read`", _check_session_get),
    sessions.SessionList: Rule(
        "`session:read` or `session:open`; shows own ones and what `session:read` is allowed on",
        _check_session_list,
        _show_sessions,
    ),
    cluster.Hello: OPEN,
    cluster.Ping: OPEN,
    cluster.ClientRegister: KNOWN,
    cluster.ClusterStatus: _CLUSTER_READ,
    cluster.ClusterMembers: _CLUSTER_READ,
    cluster.ClusterWatch: _CLUSTER_READ,
    cluster.StreamList: _CLUSTER_READ,
    cluster.MemberAdd: _CLUSTER_ADMIN,
    cluster.MemberRemove: _CLUSTER_ADMIN,
    cluster.MemberPromote: _CLUSTER_ADMIN,
    cluster.MemberUpdate: _CLUSTER_ADMIN,
    cluster.LeaderMove: _CLUSTER_ADMIN,
    maintenance.AlarmList: _CLUSTER_READ,
    maintenance.AlarmDisarm: _CLUSTER_ADMIN,
    maintenance.HashKeys: _CLUSTER_READ,
    maintenance.RevisionAt: _CLUSTER_READ,
    audit.Blame: Rule(
        "`cluster:read`; of a key also to read it; of users and roles `auth:admin` instead",
        _check_blame,
    ),
    auth.AuthEnable: _ROOT_ONLY,
    auth.AuthDisable: _ROOT_ONLY,
    auth.AuthStatus: KNOWN,
    auth.AuthInit: _ROOT_ONLY,
    auth.Login: OPEN,
    auth.Reauthenticate: OPEN,
    auth.WhoAmI: OPEN,
    auth.UserAdd: _ABOUT_USER,
    auth.UserDelete: _ABOUT_USER,
    auth.UserChangePassword: _ABOUT_USER,
    auth.UserSetCertificates: _ABOUT_USER,
    auth.UserGrantRole: _ABOUT_USER,
    auth.UserRevokeRole: _ABOUT_USER,
    auth.UserGet: Rule("to be the user; or `auth:admin`", _check_user_get),
    auth.UserList: _ADMIN,
    auth.RoleAdd: _ABOUT_ROLE,
    auth.RoleDelete: _ABOUT_ROLE,
    auth.RoleGrant: _ABOUT_ROLE,
    auth.RoleRevoke: _ABOUT_ROLE,
    auth.RoleGet: Rule("to have the role; or `auth:admin`", _check_role_get),
    auth.RoleList: _ADMIN,
    auth.ApiKeyCreate: Rule(
        "to be the user, without a limit; or `auth:admin`, for `root` the role `root`",
        _check_key_create,
    ),
    auth.ApiKeyRevoke: Rule(
        "to be its user, without a limit, or to come with it; or `auth:admin`, for `root` the role "
        "`root`",
        _check_key_revoke,
    ),
    auth.ApiKeyList: Rule("to be the user; or `auth:admin`", _check_key_list),
    members_own.LeaseExpire: _MEMBERS_OWN,
    members_own.LeaseContinue: _MEMBERS_OWN,
    members_own.TimerFire: _MEMBERS_OWN,
    members_own.Sweep: _MEMBERS_OWN,
    members_own.MemberPublish: _MEMBERS_OWN,
    members_own.QuotaSet: _MEMBERS_OWN,
    members_own.AlarmSet: _MEMBERS_OWN,
    members_own.TokenKeyAdd: _MEMBERS_OWN,
}
"""The rule of each command and query of the core."""

MEMBERS_OWN = frozenset(kind for kind, rule in CORE_RULES.items() if rule is _MEMBERS_OWN)
"""Commands that no client sends."""


def judge(machine: Machine, envelope: Envelope[Any] | Proposal) -> None:
    """Refuse a command whose sender may not give it, by the state at its place in the log.

    To be asked only while authentication is enabled. A leader asks it of a proposal as well where
    it would do something before the command is in the log.

    Raises:
        Unauthenticated: It has to prove who it is.
        PermissionDenied: It may not.
    """
    kind = type(envelope.body)
    if envelope.cause or (kind in MEMBERS_OWN and not envelope.origin):
        return  # A member's own.
    authorize(
        machine,
        kind,
        envelope.body,
        envelope.actor,
        envelope.auth_revision,
        envelope.scope,
        machine.clock_ms,
    )


def authorize(
    machine: Machine,
    kind: type[Any],
    request: Any,
    actor: str,
    auth_revision: int,
    scope: str,
    clock_ms: int,
) -> Asker | None:
    """Refuse a command or query that its sender may not give, by the state as it is now.

    To be asked only while authentication is enabled.

    Returns:
        Who asks; None if everybody may.

    Raises:
        Unauthenticated: It has to prove who it is.
        PermissionDenied: It may not.
    """
    rule = machine.rules.get(kind)
    if rule is None:
        raise denied()
    if rule.check is None:
        return None
    rights = rights_of(machine.auth, actor, auth_revision, scope, clock_ms)
    asker = Asker(actor, scope, rights, machine.auth, machine.keyspace)
    rule.check(asker, request)
    return asker
