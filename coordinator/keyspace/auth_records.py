"""Users, roles and API keys as they are stored. Pure."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Struct

from coordinator_sdk.protocol.auth import DomainPermission, KeyPermission

ROLE_SCOPE: Final = "role:"
"""Scope of a caller that acts with one of its roles only: ``role:NAME``."""
KEY_SCOPE: Final = "key:"
"""Scope of a caller that came with an API key: ``key:`` and its id in hexadecimal digits."""

USERS_MAX: Final = 10_000
ROLES_MAX: Final = 10_000
PERMISSIONS_MAX: Final = 1_000
"""Of one role, and roles of one user."""
API_KEYS_MAX: Final = 10_000
TOKEN_KEYS_MAX: Final = 8


class UserRecord(Struct, array_like=True):
    """A user.

    Attributes:
        user: Its name.
        password_hash: What its password is compared with; empty if it has none.
        roles: The names of its roles, sorted.
        no_password: Whether it can't log in by password.
        certificate_names: Names in client certificates that stand for it.
        since: Revision at which it came, or its password changed: who proved to be it before
            that has to do so again.
    """

    user: str
    password_hash: str = ""
    roles: list[str] = []
    no_password: bool = False
    certificate_names: list[str] = []
    since: int = 0


class RoleRecord(Struct, array_like=True):
    """A role and what it allows, sorted."""

    role: str
    keys: list[KeyPermission] = []
    domains: list[DomainPermission] = []


class ApiKeyRecord(Struct, array_like=True):
    """An API key. ``secret_hash`` is the SHA-256 of its secret; times are Unix time."""

    key: int
    user: str
    role: str
    secret_hash: bytes
    expires_ms: int
    label: str
    created_ms: int


class AuthMeta(Struct, array_like=True):
    """What the state database keeps beside users, roles and keys.

    ``token_keys`` are what tokens are signed with where the configuration names no key.
    """

    enabled: bool = False
    revision: int = 1
    token_keys: dict[str, bytes] = {}


encode: Final = msgspec.msgpack.Encoder().encode
decode_user: Final = msgspec.msgpack.Decoder(UserRecord).decode
decode_role: Final = msgspec.msgpack.Decoder(RoleRecord).decode
decode_key: Final = msgspec.msgpack.Decoder(ApiKeyRecord).decode
decode_meta: Final = msgspec.msgpack.Decoder(AuthMeta).decode
