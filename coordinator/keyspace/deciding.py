"""Whom the state of authorisation lets do what. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from coordinator_sdk.errors import PermissionDenied, Unauthenticated
from coordinator_sdk.protocol import auth as texts
from coordinator_sdk.protocol.auth import ROOT

from .auth_records import KEY_SCOPE, ROLE_SCOPE
from .rights import Rights

if TYPE_CHECKING:
    from .auth import AuthStore
    from .auth_records import ApiKeyRecord, UserRecord

RIGHTS_MAX: Final = 4096
"""Callers whose rights are remembered."""


def rights_of(
    store: AuthStore, actor: str, auth_revision: int, scope: str, clock_ms: int
) -> Rights:
    """Give what a caller may do.

    Args:
        store: The users, roles and keys.
        actor: The user that it has proved to be; empty for none.
        auth_revision: The revision at which it did.
        scope: What limits it: nothing, a `ROLE_SCOPE` or a `KEY_SCOPE`.
        clock_ms: Unix time by which API keys expire.

    Raises:
        Unauthenticated: It is nobody, or has to prove again who it is.
        PermissionDenied: There is no such user any more.
    """
    if not actor:
        raise Unauthenticated(texts.USER_EMPTY)
    user = store.users.get(actor)
    if user is None:
        raise PermissionDenied(texts.PERMISSION_DENIED)
    if scope.startswith(KEY_SCOPE):
        _check_key(store, actor, scope, clock_ms)
    elif auth_revision < user.since:
        raise Unauthenticated(texts.OLD_REVISION)
    known = store.rights.get((actor, scope))
    if known is None:
        if len(store.rights) >= RIGHTS_MAX:
            store.rights.clear()
        known = store.rights[actor, scope] = _rights_of(store, user, scope)
    return known


def _check_key(store: AuthStore, actor: str, scope: str, clock_ms: int) -> None:
    record = _key_of(store, scope)
    if record is None or record.user != actor:
        raise Unauthenticated(texts.INVALID_TOKEN)
    if record.expires_ms and record.expires_ms <= clock_ms:
        raise Unauthenticated(texts.INVALID_TOKEN, reason="expired")


def _key_of(store: AuthStore, scope: str) -> ApiKeyRecord | None:
    try:
        return store.api_keys.get(int(scope.removeprefix(KEY_SCOPE), 16))
    except ValueError:
        return None


def _rights_of(store: AuthStore, user: UserRecord, scope: str) -> Rights:
    roles = roles_of(store, user, scope)
    found = [store.roles[role] for role in roles if role in store.roles]
    return Rights(
        [one for role in found for one in role.keys],
        [one for role in found for one in role.domains],
        is_root=ROOT in roles,
    )


def roles_of(store: AuthStore, user: UserRecord, scope: str) -> list[str]:
    """Give the roles with which a user acts within a scope."""
    limit = ""
    if scope.startswith(KEY_SCOPE):
        record = _key_of(store, scope)
        limit = record.role if record is not None else ""
    elif scope.startswith(ROLE_SCOPE):
        limit = scope.removeprefix(ROLE_SCOPE)
    elif scope:
        return []
    return [role for role in user.roles if not limit or role == limit]
