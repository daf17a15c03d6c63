"""A member with authentication on, and users who may this and that."""

from __future__ import annotations

from typing import Any

from coordinator_sdk.protocol import auth
from coordinator_sdk.protocol.auth import DomainPermission, KeyPermission
from tests.replica.member import Member

ROOT = "root"


def who(member: Member, user: str, scope: str = "") -> dict[str, Any]:
    """Give what a proposal of a user carries, who has proved it just now."""
    revision = member.machine.auth.revision
    return {"actor": user, "origin": "10.0.0.9:1", "auth_revision": revision, "scope": scope}


def guarded(member: Member | None = None) -> Member:
    """Turn authentication on."""
    member = member or Member()
    member.execute(auth.AuthInit(password_hash="hash"))
    return member


def allow(member: Member, user: str, *rights: KeyPermission | DomainPermission | str) -> None:
    """Let a user do something, by a role of the same name; a word is an action on everything."""
    root = who(member, ROOT)
    if user not in member.machine.auth.users:
        member.execute(auth.UserAdd(user, password_hash="hash"), **root)
        member.execute(auth.RoleAdd(user), **root)
        member.execute(auth.UserGrantRole(user, user), **root)
    for right in rights:
        if isinstance(right, KeyPermission):
            body = auth.RoleGrant(user, key=right)
        else:
            one = DomainPermission(right) if isinstance(right, str) else right
            body = auth.RoleGrant(user, domain=one)
        member.execute(body, **root)


def read(key: bytes, end: bytes = b"") -> KeyPermission:
    """A right to read."""
    return KeyPermission(0, key, end)


def write(key: bytes, end: bytes = b"") -> KeyPermission:
    """A right to write."""
    return KeyPermission(1, key, end)


def both(key: bytes, end: bytes = b"") -> KeyPermission:
    """A right to read and write."""
    return KeyPermission(2, key, end)
