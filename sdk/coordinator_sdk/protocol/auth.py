"""Authentication and permissions: users, roles, API keys, tokens.

Passwords and secrets travel to a member and no further: the member replaces them by their
hash before the change reaches the log. The fields that carry them show nothing in a repr.

The texts of refusals are those of etcd, whose clients compare them.
"""

from __future__ import annotations

from enum import IntEnum

from msgspec import Struct
from msgspec.structs import fields as fields_of

from .kv import Id

ROOT = "root"
"""The user and the role that may do everything."""

ROOT_USER_MISSING = "etcdserver: root user does not exist"
ROOT_ROLE_MISSING = "etcdserver: root user does not have root role"
USER_EXISTS = "etcdserver: user name already exists"
USER_EMPTY = "etcdserver: user name is empty"
USER_NOT_FOUND = "etcdserver: user name not found"
ROLE_EXISTS = "etcdserver: role name already exists"
ROLE_NOT_FOUND = "etcdserver: role name not found"
ROLE_EMPTY = "etcdserver: role name is empty"
AUTH_FAILED = "etcdserver: authentication failed, invalid user ID or password"
PERMISSION_NOT_GIVEN = "etcdserver: permission not given"
PERMISSION_DENIED = "etcdserver: permission denied"
ROLE_NOT_GRANTED = "etcdserver: role is not granted to the user"
PERMISSION_NOT_GRANTED = "etcdserver: permission is not granted to the role"
AUTH_NOT_ENABLED = "etcdserver: authentication is not enabled"
INVALID_TOKEN = "etcdserver: invalid auth token"
INVALID_MANAGEMENT = "etcdserver: invalid auth management"
OLD_REVISION = "etcdserver: revision of auth store is old"

ACTIONS = (
    "lock:acquire",
    "lock:read",
    "lock:force-release",
    "service:register",
    "service:read",
    "service:operate",
    "topic:publish",
    "topic:subscribe",
    "topic:operate",
    "election:campaign",
    "election:read",
    "election:operate",
    "discovery:create",
    "discovery:join",
    "session:open",
    "session:read",
    "session:operate",
    "lease:use",
    "cluster:read",
    "cluster:admin",
    "auth:admin",
)
"""What a role may be allowed besides keys. ``lock:*`` stands for all that begin so."""

_SECRETS = frozenset(("password", "password_hash", "secret", "secret_hash", "token"))


class _Discreet:
    """Shows that a secret is there, and not what it is."""

    __slots__ = ()

    def __repr__(self) -> str:
        shown = [
            f"{part.name}={'***' if part.name in _SECRETS and value else repr(value)}"
            for part in fields_of(self)  # type: ignore[arg-type]
            for value in (getattr(self, part.name),)
        ]
        return f"{type(self).__name__}({', '.join(shown)})"


class Access(IntEnum):
    """What a key permission allows, numbered as in etcd."""

    READ = 0
    WRITE = 1
    READWRITE = 2


class KeyPermission(Struct, array_like=True):
    r"""A right on one key, or on the keys from ``key`` up to but not including ``range_end``.

    ``range_end`` as in `kv.Range`: empty means one key, ``b"\0"`` every key from ``key`` on.
    ``access`` is an `Access`.
    """

    access: int
    key: bytes
    range_end: bytes = b""


class DomainPermission(Struct, array_like=True):
    """A right to an action on what is named so, in the namespaces that are named so.

    ``action`` is one of `ACTIONS`, or ``lock:*`` for all that begin so. ``namespace`` and
    ``name`` stand for themselves, or with ``*`` at the end for everything that begins so.
    """

    action: str
    namespace: str = "*"
    name: str = "*"


# ---------------------------------------------------------------- on and off


class AuthEnable(Struct, array_like=True, tag="auth.enable"):
    """Deny by default from now on. The user `root` must exist and have the role `root`."""


class AuthDisable(Struct, array_like=True, tag="auth.disable"):
    """Allow everything to everybody again."""


class AuthStatus(Struct, array_like=True, tag="auth.status"):
    """Ask whether authentication is on, and for the revision of users and roles."""


class AuthInit(_Discreet, Struct, array_like=True, tag="auth.init"):
    """Create the user and the role `root` and turn authentication on, in one step.

    ``password_hash`` is filled by the member.
    """

    password: str = ""
    password_hash: str = ""


class AuthStatusResult(Struct, array_like=True):
    """Answer to `AuthStatus`."""

    enabled: bool
    auth_revision: int


class AuthResult(Struct, array_like=True):
    """Answer to a change of users, roles or keys: the revision of users and roles."""

    auth_revision: int


# ---------------------------------------------------------------- who is it


class Login(_Discreet, Struct, array_like=True, tag="auth.login"):
    """Prove to be a user; answers with a token, and a WebSocket goes on as that user.

    ``cookie``, over HTTP only, puts the token into a cookie instead of the answer.
    """

    user: str
    password: str
    cookie: bool = False


class Reauthenticate(_Discreet, Struct, array_like=True, tag="auth.reauthenticate"):
    """Go on with another token or an API key on this connection; its streams go on too."""

    token: str


class WhoAmI(Struct, array_like=True, tag="auth.whoami"):
    """Ask whom the member takes the caller for."""


class LoginResult(_Discreet, Struct, array_like=True):
    """Answer to `Login`.

    ``expires_ms`` is Unix time, 0 for never; ``clock_ms`` is the Unix time of the member, so that
    a client whose clock is wrong still knows how long the token lives.
    """

    token: str
    user: str
    expires_ms: int = 0
    auth_revision: int = 0
    clock_ms: int = 0


class Identity(Struct, array_like=True):
    """Answer to `WhoAmI` and `Reauthenticate`.

    Attributes:
        user: The user; empty for nobody.
        roles: The roles that it acts with.
        scope: What limits it: ``key:`` and the id of an API key, ``role:`` and a role, or nothing.
        expires_ms: As in `LoginResult`.
        clock_ms: As in `LoginResult`.
        enabled: Whether authentication is on; everybody may do everything otherwise.
        keys: What it may do with keys; with the role `root` everything, whatever stands here.
        domains: What it may do besides.
        insecure_open: Whether the member was told to serve openly whoever reaches it.
    """

    user: str
    roles: list[str] = []
    scope: str = ""
    expires_ms: int = 0
    clock_ms: int = 0
    enabled: bool = False
    keys: list[KeyPermission] = []
    domains: list[DomainPermission] = []
    insecure_open: bool = False


# ---------------------------------------------------------------- users


class UserAdd(_Discreet, Struct, array_like=True, tag="users.add"):
    """Add a user.

    Attributes:
        user: Its name.
        password: Its password; empty only with ``no_password``.
        no_password: Whether it can't log in by password: only by certificate or API key.
        certificate_names: Names in client certificates that stand for it, beside its own.
        password_hash: Filled by the member.
    """

    user: str
    password: str = ""
    no_password: bool = False
    certificate_names: list[str] = []
    password_hash: str = ""


class UserDelete(Struct, array_like=True, tag="users.delete"):
    """Delete a user, with its API keys."""

    user: str


class UserChangePassword(_Discreet, Struct, array_like=True, tag="users.change_password"):
    """Change a password. Tokens given before are void. ``password_hash``: see `UserAdd`."""

    user: str
    password: str = ""
    password_hash: str = ""


class UserSetCertificates(Struct, array_like=True, tag="users.set_certificates"):
    """Change the names in client certificates that stand for a user, beside its own."""

    user: str
    certificate_names: list[str]


class UserGrantRole(Struct, array_like=True, tag="users.grant_role"):
    """Give a user a role."""

    user: str
    role: str


class UserRevokeRole(Struct, array_like=True, tag="users.revoke_role"):
    """Take a role from a user."""

    user: str
    role: str


class UserGet(Struct, array_like=True, tag="users.get"):
    """Read a user."""

    user: str


class UserList(Struct, array_like=True, tag="users.list"):
    """List the users."""


class UserInfo(Struct, array_like=True):
    """A user."""

    user: str
    roles: list[str] = []
    no_password: bool = False
    certificate_names: list[str] = []


class UserListResult(Struct, array_like=True):
    """Answer to `UserList`: the names, sorted."""

    users: list[str]


# ---------------------------------------------------------------- roles


class RoleAdd(Struct, array_like=True, tag="roles.add"):
    """Add a role, which allows nothing yet."""

    role: str


class RoleDelete(Struct, array_like=True, tag="roles.delete"):
    """Delete a role; whoever has it loses it."""

    role: str


class RoleGrant(Struct, array_like=True, tag="roles.grant"):
    """Give a role one right: ``key`` or ``domain``. One on the same keys is replaced."""

    role: str
    key: KeyPermission | None = None
    domain: DomainPermission | None = None


class RoleRevoke(Struct, array_like=True, tag="roles.revoke"):
    """Take one right from a role; the access of ``key`` does not matter."""

    role: str
    key: KeyPermission | None = None
    domain: DomainPermission | None = None


class RoleGet(Struct, array_like=True, tag="roles.get"):
    """Read a role."""

    role: str


class RoleList(Struct, array_like=True, tag="roles.list"):
    """List the roles."""


class RoleInfo(Struct, array_like=True):
    """A role and what it allows, sorted."""

    role: str
    keys: list[KeyPermission] = []
    domains: list[DomainPermission] = []


class RoleListResult(Struct, array_like=True):
    """Answer to `RoleList`: the names, sorted."""

    roles: list[str]


# ---------------------------------------------------------------- API keys


class ApiKeyCreate(_Discreet, Struct, array_like=True, tag="api_keys.create"):
    """Make a key that stands for a user.

    Attributes:
        user: Whom it stands for.
        role: The one role of the user that it is limited to; empty for all.
        expires_ms: Unix time from which on it is void; 0 for never.
        label: For people.
        secret: The secret, chosen by the client, so that a retry makes the same key; empty lets
            the member choose.
        key: Its id; 0 lets the member choose.
        secret_hash: SHA-256 of the secret, filled by the member.
    """

    user: str
    role: str = ""
    expires_ms: int = 0
    label: str = ""
    secret: str = ""
    key: Id = 0
    secret_hash: bytes = b""


class ApiKeyRevoke(Struct, array_like=True, tag="api_keys.revoke"):
    """Make a key void at once."""

    key: Id


class ApiKeyList(Struct, array_like=True, tag="api_keys.list"):
    """List the keys of a user, or of all users if ``user`` is empty."""

    user: str = ""


class ApiKeyInfo(Struct, array_like=True):
    """An API key, without its secret. Times are Unix time."""

    key: Id
    user: str
    role: str = ""
    expires_ms: int = 0
    label: str = ""
    created_ms: int = 0


class ApiKeyCreateResult(_Discreet, Struct, array_like=True):
    """Answer to `ApiKeyCreate`.

    ``secret`` is the whole key as it is presented, ``ck_ID_SECRET``. It is shown this once; nobody
    can read it again.
    """

    key: Id
    secret: str
    auth_revision: int = 0


class ApiKeyListResult(Struct, array_like=True):
    """Answer to `ApiKeyList`, by id."""

    keys: list[ApiKeyInfo]


REQUESTS = (
    AuthEnable,
    AuthDisable,
    AuthStatus,
    AuthInit,
    Login,
    Reauthenticate,
    WhoAmI,
    UserAdd,
    UserDelete,
    UserChangePassword,
    UserSetCertificates,
    UserGrantRole,
    UserRevokeRole,
    UserGet,
    UserList,
    RoleAdd,
    RoleDelete,
    RoleGrant,
    RoleRevoke,
    RoleGet,
    RoleList,
    ApiKeyCreate,
    ApiKeyRevoke,
    ApiKeyList,
)
