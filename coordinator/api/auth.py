"""The operations and routes of users, roles and API keys."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from msgspec import Struct

from coordinator.api import login
from coordinator.api.checks import refuse_controls
from coordinator.api.connection import Connection
from coordinator.api.dispatch import broken
from coordinator.api.http import Routes
from coordinator.api.identity import Identity as Asked
from coordinator.api.identity import now_ms
from coordinator.api.permits import authorize
from coordinator.api.registry import Caller, Change, Live, Operation, chosen_id
from coordinator.credentials.credentials import api_key_text, new_api_secret
from coordinator.credentials.passwords import check_password
from coordinator.keyspace.deciding import roles_of
from coordinator.node.node import Node
from coordinator.replica.auth_commands import check_action, check_lengths, check_names
from coordinator_sdk.errors import (
    AlreadyExists,
    Conflict,
    CoordinatorError,
    InvalidRequest,
    NotFound,
)
from coordinator_sdk.protocol import auth
from coordinator_sdk.protocol.auth import (
    ROOT,
    Access,
    ApiKeyCreateResult,
    ApiKeyInfo,
    ApiKeyListResult,
    AuthResult,
    AuthStatusResult,
    Identity,
    KeyPermission,
    RoleInfo,
    RoleListResult,
    UserInfo,
    UserListResult,
)

CERTIFICATE_NAMES_MAX = 64
SECRET = re.compile(r"[A-Za-z0-9_-]{43,128}")
"""What a client may choose as the secret of an API key."""


def operations(asked: Asked) -> Mapping[type[Any], Operation]:
    """Give the operations of users, roles and keys by request type.

    Args:
        asked: Tells who asks.
    """
    hashes = partial(_hash, asked)
    return {
        auth.Login: Live(partial(login.serve_login, asked), judges_itself=True),
        auth.Reauthenticate: Live(partial(login.serve_reauthenticate, asked), judges_itself=True),
        auth.AuthEnable: Change(instead=_refuse_enable, before=partial(_be_ready, asked)),
        auth.AuthDisable: Change(),
        auth.AuthStatus: _reading(lambda node, caller, op: status(node)),
        auth.AuthInit: Change(_check_secret, before=hashes),
        auth.WhoAmI: _reading(lambda node, caller, op: identity(node, caller)),
        auth.UserAdd: Change(_check_secret, before=hashes),
        auth.UserDelete: Change(check_names),
        auth.UserChangePassword: Change(_check_secret, before=hashes),
        auth.UserSetCertificates: Change(_check_certificates),
        auth.UserGrantRole: Change(check_names),
        auth.UserRevokeRole: Change(check_names),
        auth.UserGet: _reading(lambda node, caller, op: user_info(node, op.user)),
        auth.UserList: _reading(lambda node, caller, op: user_list(node)),
        auth.RoleAdd: Change(_check_role),
        auth.RoleDelete: Change(check_names),
        auth.RoleGrant: Change(_check_right),
        auth.RoleRevoke: Change(_check_right),
        auth.RoleGet: _reading(lambda node, caller, op: role_info(node, op.role)),
        auth.RoleList: _reading(lambda node, caller, op: role_list(node)),
        auth.ApiKeyCreate: Change(_check_secret, _choose_key, before=_make_secret),
        auth.ApiKeyRevoke: Change(),
        auth.ApiKeyList: _reading(lambda node, caller, op: key_list(node, op.user)),
    }


# ---------------------------------------------------------------- checks


def _refuse_enable(connection: Connection, id: int, op: auth.AuthEnable) -> bool:
    """Keep everybody from being locked out: root must be able to prove that it is root."""
    state = connection.node.machine.auth
    root = state.users.get(ROOT)
    if state.enabled or root is None or ROOT not in root.roles:
        return False  # The log has words of its own for that.
    proves = (
        root.password_hash
        or root.certificate_names
        or connection.node.config.client_cert_auth
        or any(one.user == ROOT for one in state.api_keys.values())
    )
    if not proves:
        raise Conflict(
            "authentication can't be turned on while nobody could log in as root: give root a "
            "password, a name in certificates or an API key"
        )
    return False


def _check_secret(op: Any) -> None:
    """What is compared with a secret is worked out here, and taken from nobody.

    Raises:
        InvalidRequest: The request brings it along, or its password or secret can be none.
    """
    for field in ("password_hash", "secret_hash"):
        if getattr(op, field, None):
            raise InvalidRequest(f"{field}: is filled by the member", field=field)
    if type(op) is auth.ApiKeyCreate:
        if op.secret and not SECRET.fullmatch(op.secret):
            raise InvalidRequest(
                "secret: 43 to 128 letters, digits, dashes and underscores", field="secret"
            )
    elif not getattr(op, "no_password", False):
        check_password(op.password)
    if type(op) is auth.UserAdd:
        refuse_controls("user", op.user)
        _check_certificates(op)
    check_lengths(op)


async def _hash(asked: Asked, connection: Connection, id: int, op: Any) -> None:
    """Put what is kept of a password in its place."""
    password, op.password = op.password, ""
    if not getattr(op, "no_password", False):
        client = connection.caller.client
        op.password_hash = await asked.credentials.hashed(password, client, id)
    if type(op) is auth.AuthInit:
        await asked.credentials.be_ready()


async def _be_ready(asked: Asked, connection: Connection, id: int, op: auth.AuthEnable) -> None:
    """Have something to sign tokens with before anybody needs one."""
    await asked.credentials.be_ready()


async def _make_secret(
    connection: Connection, id: int, op: auth.ApiKeyCreate
) -> Callable[[ApiKeyCreateResult], ApiKeyCreateResult]:
    """Put what is kept of a secret in its place; only whoever asked is told it, this once."""
    secret, op.secret = op.secret or new_api_secret(), ""
    op.secret_hash = hashlib.sha256(secret.encode()).digest()

    def told(result: ApiKeyCreateResult) -> ApiKeyCreateResult:
        text = api_key_text(result.key, secret)
        return ApiKeyCreateResult(result.key, text, result.auth_revision)

    return told


def _check_certificates(op: auth.UserAdd | auth.UserSetCertificates) -> None:
    if len(op.certificate_names) > CERTIFICATE_NAMES_MAX:
        raise InvalidRequest(
            f"certificate_names: at most {CERTIFICATE_NAMES_MAX} of them",
            field="certificate_names",
        )
    for index, name in enumerate(op.certificate_names):
        if not name:
            field = f"certificate_names[{index}]"
            raise InvalidRequest(f"{field}: must not be empty", field=field)


def _check_role(op: auth.RoleAdd) -> None:
    refuse_controls("role", op.role)
    check_names(op)


def _check_right(op: auth.RoleGrant | auth.RoleRevoke) -> None:
    check_names(op)
    if (op.key is None) == (op.domain is None):
        raise InvalidRequest(auth.PERMISSION_NOT_GIVEN, field="key")
    if op.key is not None and op.key.access not in (0, 1, 2):
        raise InvalidRequest("key.access: 0 reads, 1 writes, 2 does both", field="key.access")
    if op.domain is not None:
        check_action(op.domain.action)
        for field in ("namespace", "name"):
            if "*" in getattr(op.domain, field)[:-1]:
                raise InvalidRequest(
                    f"domain.{field}: `*` stands at the end only", field=f"domain.{field}"
                )


def _choose_key(op: auth.ApiKeyCreate, caller: Caller, id: int) -> None:
    if not op.key:
        op.key = chosen_id(caller, id)


# ---------------------------------------------------------------- reading


def status(node: Node) -> AuthStatusResult:
    """Tell whether authentication is on."""
    store = node.machine.auth
    return AuthStatusResult(store.enabled, store.revision)


def user_info(node: Node, name: str) -> UserInfo:
    """Give a user.

    Raises:
        NotFound: There is none of that name.
    """
    user = node.machine.auth.user(name)
    return UserInfo(user.user, list(user.roles), user.no_password, list(user.certificate_names))


def user_list(node: Node) -> UserListResult:
    """Give the names of the users, sorted."""
    return UserListResult(sorted(node.machine.auth.users))


def role_info(node: Node, name: str) -> RoleInfo:
    """Give a role; root's is shown with every key, as in etcd.

    Raises:
        NotFound: There is none of that name.
    """
    role = node.machine.auth.role(name)
    if name == ROOT:
        return RoleInfo(name, [KeyPermission(Access.READWRITE, b"", b"\0")])
    return RoleInfo(name, list(role.keys), list(role.domains))


def role_list(node: Node) -> RoleListResult:
    """Give the names of the roles, sorted."""
    return RoleListResult(sorted(node.machine.auth.roles))


def key_list(node: Node, user: str = "") -> ApiKeyListResult:
    """Give the API keys of a user, or of all users, by id."""
    found = [
        ApiKeyInfo(key, one.user, one.role, one.expires_ms, one.label, one.created_ms)
        for key, one in sorted(node.machine.auth.api_keys.items())
        if user in ("", one.user)
    ]
    return ApiKeyListResult(found)


def identity(node: Node, caller: Caller) -> Identity:
    """Tell whom the member takes a caller for, and what that one may do."""
    store = node.machine.auth
    user = store.users.get(caller.actor)
    roles = [] if user is None else roles_of(store, user, caller.scope)
    found = [store.roles[role] for role in roles if role in store.roles]
    return Identity(
        caller.actor,
        roles,
        caller.scope,
        caller.expires_ms,
        now_ms(),
        store.enabled,
        [one for role in found for one in role.keys],
        [one for role in found for one in role.domains],
        node.config.insecure_open,
    )


def _reading(find: Callable[[Node, Caller, Any], Struct]) -> Live:
    """Answer from a state that is new enough, if the caller may know."""

    def serve(connection: Connection, id: int, op: Any) -> None:
        connection.node.read(partial(_answer, connection, id, op, find))

    return Live(serve, judges_itself=True)


def _answer(
    connection: Connection,
    id: int,
    op: Any,
    find: Callable[[Node, Caller, Any], Struct],
    error: CoordinatorError | None,
) -> None:
    if error is not None:
        connection.fail(id, error)
        return
    node, caller = connection.node, connection.caller
    try:
        authorize(node, caller, op)
        connection.answer(id, node.revision, find(node, caller, op))
    except CoordinatorError as refused:
        connection.fail(id, refused)
    except Exception as failure:
        broken(connection, id, failure)


# ---------------------------------------------------------------- routes


def routes() -> Routes:
    """Make the HTTP face of users, roles and keys."""
    made = Routes("Auth")
    made.add("POST", "/auth/enable", auth.AuthEnable, AuthResult, summary="Turn it on")
    made.add("POST", "/auth/disable", auth.AuthDisable, AuthResult, summary="Turn it off")
    made.add("GET", "/auth/status", auth.AuthStatus, AuthStatusResult, summary="Whether it is on")
    made.add(
        "POST",
        "/auth/init",
        auth.AuthInit,
        AuthResult,
        summary="Make root and turn it on",
        exclude=("password_hash",),
        raises=(Conflict,),
    )
    made.add("GET", "/auth/whoami", auth.WhoAmI, Identity, summary="Who the caller is")
    login.add_routes(made)
    _user_routes(made)
    _role_routes(made)
    made.add(
        "POST",
        "/api-keys",
        auth.ApiKeyCreate,
        auth.ApiKeyCreateResult,
        summary="Make an API key",
        status=201,
        exclude=("secret_hash",),
        raises=(NotFound, Conflict),
        example={"user": "deployer", "label": "pipeline"},
    )
    made.add("GET", "/api-keys", auth.ApiKeyList, ApiKeyListResult, summary="List API keys")
    made.add(
        "DELETE",
        "/api-keys/{key}",
        auth.ApiKeyRevoke,
        AuthResult,
        summary="Revoke an API key",
        raises=(NotFound,),
    )
    return made


def _user_routes(made: Routes) -> None:
    made.add(
        "POST",
        "/users",
        auth.UserAdd,
        AuthResult,
        summary="Add a user",
        status=201,
        exclude=("password_hash",),
        raises=(AlreadyExists,),
        example={"user": "deployer", "no_password": True},
    )
    made.add("GET", "/users", auth.UserList, UserListResult, summary="List the users")
    made.add(
        "GET", "/users/{user}", auth.UserGet, UserInfo, summary="Read a user", raises=(NotFound,)
    )
    for method, path, kind, summary in (
        ("DELETE", "/users/{user}", auth.UserDelete, "Delete a user"),
        ("PUT", "/users/{user}/password", auth.UserChangePassword, "Change a password"),
        (
            "PUT",
            "/users/{user}/certificates",
            auth.UserSetCertificates,
            "Change the names in certificates that stand for a user",
        ),
        ("PUT", "/users/{user}/roles/{role}", auth.UserGrantRole, "Give a user a role"),
        ("DELETE", "/users/{user}/roles/{role}", auth.UserRevokeRole, "Take a role from a user"),
    ):
        made.add(
            method,
            path,
            kind,
            AuthResult,
            summary=summary,
            exclude=("password_hash",),
            raises=(NotFound, Conflict),
        )


def _role_routes(made: Routes) -> None:
    made.add(
        "POST",
        "/roles",
        auth.RoleAdd,
        AuthResult,
        summary="Add a role",
        status=201,
        raises=(AlreadyExists,),
        example={"role": "deploying"},
    )
    made.add("GET", "/roles", auth.RoleList, RoleListResult, summary="List the roles")
    made.add(
        "GET", "/roles/{role}", auth.RoleGet, RoleInfo, summary="Read a role", raises=(NotFound,)
    )
    made.add(
        "DELETE",
        "/roles/{role}",
        auth.RoleDelete,
        AuthResult,
        summary="Delete a role",
        raises=(NotFound,),
    )
    for verb, kind, summary in (
        ("grant", auth.RoleGrant, "Let a role allow something"),
        ("revoke", auth.RoleRevoke, "Take a right from a role"),
    ):
        made.add(
            "POST",
            f"/roles/{{role}}/{verb}",
            kind,
            AuthResult,
            summary=summary,
            raises=(NotFound, Conflict),
            example={
                "domain": {"action": "lock:acquire", "namespace": "default", "name": "jobs/*"}
            },
        )
