"""Who may do what: users, roles, permissions and API keys."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING

from ._connection import Connection, decoder
from ._keys import key_range
from ._modes import CHANGE, READ
from .errors import Conflict, InvalidRequest
from .protocol.auth import (
    AUTH_NOT_ENABLED,
    Access,
    ApiKeyCreate,
    ApiKeyCreateResult,
    ApiKeyInfo,
    ApiKeyList,
    ApiKeyListResult,
    ApiKeyRevoke,
    AuthDisable,
    AuthEnable,
    AuthInit,
    AuthResult,
    AuthStatus,
    AuthStatusResult,
    DomainPermission,
    Identity,
    KeyPermission,
    RoleAdd,
    RoleDelete,
    RoleGet,
    RoleGrant,
    RoleInfo,
    RoleList,
    RoleListResult,
    RoleRevoke,
    UserAdd,
    UserChangePassword,
    UserDelete,
    UserGet,
    UserGrantRole,
    UserInfo,
    UserList,
    UserListResult,
    UserRevokeRole,
    UserSetCertificates,
    WhoAmI,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from msgspec import Struct

    from ._keys import Bytes

__all__ = ["Auth"]

_CHANGED = decoder(AuthResult)
_STATUS = decoder(AuthStatusResult)
_IDENTITY = decoder(Identity)
_USER = decoder(UserInfo)
_USERS = decoder(UserListResult)
_ROLE = decoder(RoleInfo)
_ROLES = decoder(RoleListResult)
_KEY = decoder(ApiKeyCreateResult)
_KEYS = decoder(ApiKeyListResult)

SECRET_BYTES = 32
ACCESS = {"read": Access.READ, "write": Access.WRITE, "readwrite": Access.READWRITE}


class Auth:
    """Users, roles, permissions and API keys; `Client.auth`.

    Once authentication is on, all of it needs the permission ``auth:admin``, except that users may
    ask about themselves and make and revoke their own API keys.
    """

    def __init__(self, link: Connection) -> None:
        self._link = link

    # ------------------------------------------------------------- on and off

    async def init(self, password: str) -> int:
        """Create the user and the role ``root`` and turn authentication on, in one step.

        Args:
            password: Of the user ``root``; a new one if there is one already.

        Returns:
            The revision of users and roles.

        Raises:
            Conflict: Authentication is on already.
            InvalidRequest: The password is empty or too long.
        """
        return await self._change(AuthInit(password))

    async def enable(self) -> int:
        """Turn authentication on: deny by default from now on.

        Raises:
            Conflict: The user ``root`` is missing, does not have the role ``root``, or could not
                log in.
        """
        return await self._change(AuthEnable())

    async def disable(self) -> int:
        """Turn authentication off: everybody may do everything again."""
        return await self._change(AuthDisable())

    async def status(self) -> AuthStatusResult:
        """Tell whether authentication is on, and the revision of users and roles."""
        return await self._link.call(AuthStatus(), _STATUS)

    async def whoami(self) -> Identity:
        """Tell whom the cluster takes this client for; a user without a name is nobody."""
        return await self._link.call(WhoAmI(), _IDENTITY)

    async def token(self) -> str:
        """Give the bearer token or API key that this client goes by, for requests over HTTP.

        `whoami` tells when it expires.

        Raises:
            Conflict: It goes by none: it has no credential, or authentication is off.
        """
        if not (token := self._link.prover.token):
            raise Conflict(AUTH_NOT_ENABLED)
        return token

    # ------------------------------------------------------------- users

    async def add_user(
        self,
        user: str,
        password: str = "",
        *,
        no_password: bool = False,
        certificate_names: Sequence[str] = (),
    ) -> int:
        """Add a user, which has no roles yet.

        Args:
            user: Its name.
            password: Its password.
            no_password: Whether it has none, and comes with a certificate or an API key only.
            certificate_names: Names in client certificates that stand for it, beside its own.

        Raises:
            AlreadyExists: There is one of that name.
            InvalidRequest: A name or the password is not acceptable.
        """
        return await self._change(UserAdd(user, password, no_password, list(certificate_names)))

    async def delete_user(self, user: str) -> int:
        """Delete a user and its API keys. What it has open ends within seconds.

        Raises:
            NotFound: There is none of that name.
            Conflict: It is ``root``, and authentication is on.
        """
        return await self._change(UserDelete(user))

    async def change_password(self, user: str, password: str) -> int:
        """Change a password. Tokens of the user count no more; its API keys do.

        Raises:
            NotFound: There is no such user.
            InvalidRequest: The password is not acceptable.
        """
        return await self._change(UserChangePassword(user, password))

    async def set_certificate_names(self, user: str, names: Sequence[str]) -> int:
        """Set the names in client certificates that stand for a user, beside its own.

        Raises:
            NotFound: There is no such user.
        """
        return await self._change(UserSetCertificates(user, list(names)))

    async def grant_role(self, user: str, role: str) -> int:
        """Give a user a role; nothing happens if it has it.

        Raises:
            NotFound: There is no such user, or no such role.
        """
        return await self._change(UserGrantRole(user, role))

    async def revoke_role(self, user: str, role: str) -> int:
        """Take a role from a user. What it has open and may not have ends within seconds.

        Raises:
            NotFound: There is no such user.
            Conflict: It does not have the role, or is ``root`` while authentication is on.
        """
        return await self._change(UserRevokeRole(user, role))

    async def user(self, user: str) -> UserInfo:
        """Read a user.

        Raises:
            NotFound: There is none of that name.
        """
        return await self._link.call(UserGet(user), _USER)

    async def users(self) -> list[str]:
        """List the names of the users, sorted."""
        return (await self._link.call(UserList(), _USERS)).users

    # ------------------------------------------------------------- roles

    async def add_role(self, role: str) -> int:
        """Add a role, which allows nothing yet.

        Raises:
            AlreadyExists: There is one of that name.
        """
        return await self._change(RoleAdd(role))

    async def delete_role(self, role: str) -> int:
        """Delete a role; whoever has it loses it.

        Raises:
            NotFound: There is none of that name.
        """
        return await self._change(RoleDelete(role))

    async def allow_keys(
        self,
        role: str,
        access: str,
        key: Bytes | None = None,
        *,
        prefix: Bytes | None = None,
        range_end: Bytes | None = None,
    ) -> int:
        r"""Let a role read or write keys. A right on the very same keys is replaced.

        Args:
            role: The role.
            access: ``read``, ``write`` or ``readwrite``.
            key: One key, or the first of a range.
            prefix: In its place: all keys that begin so; empty for all there are.
            range_end: The end of the range, which is not in it; ``b"\0"`` for no end.

        Raises:
            NotFound: There is no such role.
            InvalidRequest: The access or the keys are not acceptable.
        """
        if access not in ACCESS:
            raise InvalidRequest(f"access: is {', '.join(ACCESS)}; not {access!r}", field="access")
        right = KeyPermission(ACCESS[access], *key_range(key, prefix, range_end))
        return await self._change(RoleGrant(role, right))

    async def disallow_keys(
        self,
        role: str,
        key: Bytes | None = None,
        *,
        prefix: Bytes | None = None,
        range_end: Bytes | None = None,
    ) -> int:
        """Take the right on exactly these keys from a role; see `allow_keys`.

        Raises:
            NotFound: There is no such role.
            Conflict: It has no right on exactly these keys.
        """
        right = KeyPermission(Access.READ, *key_range(key, prefix, range_end))
        return await self._change(RoleRevoke(role, right))

    async def allow(self, role: str, action: str, namespace: str = "*", name: str = "*") -> int:
        """Let a role do something besides reading and writing keys.

        Args:
            role: The role.
            action: Such as ``lock:acquire``, or ``lock:*`` for all that begin so.
            namespace: Where; with ``*`` at its end all that begin so.
            name: The lock, service, topic or election; with ``*`` at its end likewise.

        Raises:
            NotFound: There is no such role.
            InvalidRequest: There is no such action, or ``*`` stands elsewhere.
        """
        right = DomainPermission(action, namespace, name)
        return await self._change(RoleGrant(role, None, right))

    async def disallow(self, role: str, action: str, namespace: str = "*", name: str = "*") -> int:
        """Take exactly this right from a role; see `allow`.

        Raises:
            NotFound: There is no such role.
            Conflict: It has no right of exactly these words.
        """
        right = DomainPermission(action, namespace, name)
        return await self._change(RoleRevoke(role, None, right))

    async def role(self, role: str) -> RoleInfo:
        """Read a role and what it allows.

        Raises:
            NotFound: There is none of that name.
        """
        return await self._link.call(RoleGet(role), _ROLE)

    async def roles(self) -> list[str]:
        """List the names of the roles, sorted."""
        return (await self._link.call(RoleList(), _ROLES)).roles

    # ------------------------------------------------------------- API keys

    async def create_key(
        self, user: str, *, role: str = "", ttl: float | None = None, label: str = ""
    ) -> ApiKeyCreateResult:
        """Make an API key that stands for a user.

        Args:
            user: Whom it stands for.
            role: The one role of the user that it is limited to; all of them unless given.
            ttl: Seconds until it is void; None for never.
            label: For people.

        Returns:
            The key; its ``secret`` is what `ApiKey` takes. Nobody can read that again.

        Raises:
            NotFound: There is no such user, or it does not have that role.
            InvalidRequest: The time or the label is not acceptable.
        """
        if ttl is not None and not ttl > 0:
            raise InvalidRequest("ttl: must be positive, or None", field="ttl")
        expires_ms = 0
        if ttl is not None:  # by the cluster's clock; this one may be wrong
            clock_ms = (await self.whoami()).clock_ms or time.time() * 1000
            expires_ms = round(clock_ms + ttl * 1000)
        secret = secrets.token_urlsafe(SECRET_BYTES)  # chosen here: a retry makes the same key
        body = ApiKeyCreate(user, role, expires_ms, label, secret)
        return await self._link.call(body, _KEY, CHANGE)

    async def revoke_key(self, key: int) -> int:
        """Make an API key void at once.

        Args:
            key: Its id.

        Raises:
            NotFound: There is none of that id.
        """
        return await self._change(ApiKeyRevoke(key))

    async def keys(self, user: str = "") -> list[ApiKeyInfo]:
        """List the API keys of a user, or of all users; their secrets are known to nobody."""
        return (await self._link.call(ApiKeyList(user), _KEYS, READ)).keys

    async def _change(self, body: Struct) -> int:
        return (await self._link.call(body, _CHANGED, CHANGE)).auth_revision
