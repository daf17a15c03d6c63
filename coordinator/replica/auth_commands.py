"""Changes of users, roles and API keys, as the state machine applies them. Pure.

None takes a revision of the keyspace. Passwords and secrets have been replaced by their hashes
before they came here; one that was not is refused, so that it changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, Final

from coordinator.keyspace.auth_records import ApiKeyRecord
from coordinator.replica.entry import EntryTxn, check_id
from coordinator.replica.trail import TrailRecord
from coordinator.wire.command import TokenKeyAdd
from coordinator_sdk.errors import InvalidRequest
from coordinator_sdk.protocol import auth
from coordinator_sdk.protocol.auth import ApiKeyCreateResult, AuthResult

if TYPE_CHECKING:
    from coordinator.keyspace.auth import AuthStore

NAME_BYTES_MAX: Final = 256
LABEL_BYTES_MAX: Final = 256


Apply = Callable[[EntryTxn, Any], Any]


def _store(txn: EntryTxn) -> AuthStore:
    return txn.machine.auth


def _chained(apply: Apply) -> Apply:
    """Have what a command changed told by the hash chain and by the audit trail."""

    @wraps(apply)
    def applied(txn: EntryTxn, command: Any) -> Any:
        machine, meta = txn.machine, txn.meta
        former = machine.auth.revision
        result = apply(txn, command)
        machine.chain_auth()
        revision = machine.auth.revision
        if revision != former:
            operation = str(type(command).__struct_config__.tag)
            record = TrailRecord(
                meta.actor, meta.origin, "", operation, "", meta.clock_ms, _about(command)
            )
            machine.trail.note_auth(former, revision, record)
        return result

    return applied


def _about(command: Any) -> str:
    """Name what a change is about, without any secret."""
    key = getattr(command, "key", 0)
    parts = {
        "user": getattr(command, "user", ""),
        "role": getattr(command, "role", ""),
        "key": f"{key:016x}" if isinstance(key, int) and key else "",
    }
    return ", ".join(f"{kind} {name}" for kind, name in parts.items() if name)


def check_names(command: Any) -> None:
    """Refuse names that are too long, and secrets that nobody has replaced by their hash.

    Raises:
        InvalidRequest: It names the field.
    """
    check_lengths(command)
    for field in ("password", "secret"):
        if getattr(command, field, ""):
            raise InvalidRequest(f"{field}: must have been hashed", field=field)


def check_lengths(command: Any) -> None:
    """Refuse names that are too long.

    Raises:
        InvalidRequest: It names the field.
    """
    for field in ("user", "role"):
        if len(getattr(command, field, "").encode()) > NAME_BYTES_MAX:
            raise InvalidRequest(f"{field}: at most {NAME_BYTES_MAX} bytes", field=field)


def check_action(action: str) -> None:
    """Refuse a permission for something that there is not.

    Raises:
        InvalidRequest: There is no such action.
    """
    kind, _, rest = action.partition(":")
    known = action in auth.ACTIONS or (
        rest == "*" and any(one.startswith(f"{kind}:") for one in auth.ACTIONS)
    )
    if not known:
        raise InvalidRequest("domain.action: there is no such action", field="domain.action")


def apply_enable(txn: EntryTxn, command: auth.AuthEnable) -> AuthResult:
    """Turn authentication on."""
    return AuthResult(_store(txn).enable())


def apply_disable(txn: EntryTxn, command: auth.AuthDisable) -> AuthResult:
    """Turn authentication off."""
    return AuthResult(_store(txn).disable())


def apply_init(txn: EntryTxn, command: auth.AuthInit) -> AuthResult:
    """Make root and turn authentication on."""
    check_names(command)
    return AuthResult(_store(txn).begin_with_root(command.password_hash))


def apply_user_add(txn: EntryTxn, command: auth.UserAdd) -> AuthResult:
    """Add a user."""
    check_names(command)
    return AuthResult(
        _store(txn).user_add(
            command.user,
            command.password_hash,
            no_password=command.no_password,
            certificate_names=command.certificate_names,
        )
    )


def apply_user_delete(txn: EntryTxn, command: auth.UserDelete) -> AuthResult:
    """Delete a user."""
    return AuthResult(_store(txn).user_delete(command.user))


def apply_user_change_password(txn: EntryTxn, command: auth.UserChangePassword) -> AuthResult:
    """Change a password."""
    check_names(command)
    return AuthResult(_store(txn).user_change_password(command.user, command.password_hash))


def apply_user_set_certificates(txn: EntryTxn, command: auth.UserSetCertificates) -> AuthResult:
    """Change the names in certificates that stand for a user."""
    return AuthResult(_store(txn).user_set_certificates(command.user, command.certificate_names))


def apply_user_grant_role(txn: EntryTxn, command: auth.UserGrantRole) -> AuthResult:
    """Give a user a role."""
    return AuthResult(_store(txn).user_grant_role(command.user, command.role))


def apply_user_revoke_role(txn: EntryTxn, command: auth.UserRevokeRole) -> AuthResult:
    """Take a role from a user."""
    return AuthResult(_store(txn).user_revoke_role(command.user, command.role))


def apply_role_add(txn: EntryTxn, command: auth.RoleAdd) -> AuthResult:
    """Add a role."""
    check_names(command)
    return AuthResult(_store(txn).role_add(command.role))


def apply_role_delete(txn: EntryTxn, command: auth.RoleDelete) -> AuthResult:
    """Delete a role."""
    return AuthResult(_store(txn).role_delete(command.role))


def _check_one_right(command: auth.RoleGrant | auth.RoleRevoke) -> None:
    if (command.key is None) == (command.domain is None):
        raise InvalidRequest(auth.PERMISSION_NOT_GIVEN, field="key")


def apply_role_grant(txn: EntryTxn, command: auth.RoleGrant) -> AuthResult:
    """Give a role a right."""
    store = _store(txn)
    _check_one_right(command)
    if command.key is not None:
        return AuthResult(store.role_grant_key(command.role, command.key))
    assert command.domain is not None
    check_action(command.domain.action)
    return AuthResult(store.role_grant_domain(command.role, command.domain))


def apply_role_revoke(txn: EntryTxn, command: auth.RoleRevoke) -> AuthResult:
    """Take a right from a role."""
    store, key = _store(txn), command.key
    _check_one_right(command)
    if key is not None:
        return AuthResult(store.role_revoke_key(command.role, key.key, key.range_end))
    assert command.domain is not None
    return AuthResult(store.role_revoke_domain(command.role, command.domain))


def apply_key_create(txn: EntryTxn, command: auth.ApiKeyCreate) -> ApiKeyCreateResult:
    """Add an API key."""
    check_names(command)
    check_id(command.key, "key")
    if command.expires_ms < 0:
        raise InvalidRequest("expires_ms: must not be negative", field="expires_ms")
    if len(command.label.encode()) > LABEL_BYTES_MAX:
        raise InvalidRequest(f"label: at most {LABEL_BYTES_MAX} bytes", field="label")
    record = ApiKeyRecord(
        command.key,
        command.user,
        command.role,
        command.secret_hash,
        command.expires_ms,
        command.label,
        txn.meta.clock_ms,
    )
    return ApiKeyCreateResult(command.key, "", _store(txn).key_create(record))


def apply_key_revoke(txn: EntryTxn, command: auth.ApiKeyRevoke) -> AuthResult:
    """Make an API key void."""
    return AuthResult(_store(txn).key_revoke(command.key))


def apply_token_key_add(txn: EntryTxn, command: TokenKeyAdd) -> AuthResult:
    """Take up a secret that tokens are signed with."""
    return AuthResult(_store(txn).add_token_key(command.name, command.secret))


_CHANGES: dict[type[Any], Apply] = {
    auth.AuthEnable: apply_enable,
    auth.AuthDisable: apply_disable,
    auth.AuthInit: apply_init,
    auth.UserAdd: apply_user_add,
    auth.UserDelete: apply_user_delete,
    auth.UserChangePassword: apply_user_change_password,
    auth.UserSetCertificates: apply_user_set_certificates,
    auth.UserGrantRole: apply_user_grant_role,
    auth.UserRevokeRole: apply_user_revoke_role,
    auth.RoleAdd: apply_role_add,
    auth.RoleDelete: apply_role_delete,
    auth.RoleGrant: apply_role_grant,
    auth.RoleRevoke: apply_role_revoke,
    auth.ApiKeyCreate: apply_key_create,
    auth.ApiKeyRevoke: apply_key_revoke,
    TokenKeyAdd: apply_token_key_add,
}

AUTH: dict[type[Any], Apply] = {kind: _chained(apply) for kind, apply in _CHANGES.items()}
"""Command type → function that applies it."""
