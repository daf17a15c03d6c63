"""Users, roles, API keys, and whether all that counts: the state of authorisation.

Pure, and part of the replicated state. Rules and texts are those of etcd. A change takes no
revision of the keyspace, but one of its own, ``revision``. Invariants:

- A change is refused before it has changed anything.
- The permissions of a role are sorted, and so are the roles of a user and every listing.
- While it is enabled, the user `root` exists and has the role `root`.
"""

from __future__ import annotations

from bisect import insort
from typing import TYPE_CHECKING, Any

from coordinator_sdk.errors import (
    AlreadyExists,
    Conflict,
    Exhausted,
    InvalidRequest,
    NotFound,
)
from coordinator_sdk.protocol import auth as texts
from coordinator_sdk.protocol.auth import ROOT, DomainPermission, KeyPermission

from .auth_records import (
    API_KEYS_MAX,
    PERMISSIONS_MAX,
    ROLES_MAX,
    TOKEN_KEYS_MAX,
    USERS_MAX,
    ApiKeyRecord,
    AuthMeta,
    RoleRecord,
    UserRecord,
    decode_key,
    decode_meta,
    decode_role,
    decode_user,
    encode,
)
from .rights import interval_of

if TYPE_CHECKING:
    from .rights import Rights


class AuthStore:
    """The users, the roles and the API keys.

    Attributes:
        enabled: Whether anything is denied to anybody.
        revision: Counts the changes.
        users: By name.
        roles: By name.
        api_keys: By id.
        token_keys: Secrets that tokens are signed with, by id, the newest last.
        changed: Per table of the state database, the records that changed since somebody asked.
        rights: What was worked out since the last change, by user and scope.
    """

    __slots__ = (
        "_effects",
        "api_keys",
        "changed",
        "enabled",
        "revision",
        "rights",
        "roles",
        "token_keys",
        "users",
    )

    def __init__(self) -> None:
        self.enabled = False
        self.revision = 1
        self.users: dict[str, UserRecord] = {}
        self.roles: dict[str, RoleRecord] = {}
        self.api_keys: dict[int, ApiKeyRecord] = {}
        self.token_keys: dict[str, bytes] = {}
        self.changed: dict[str, dict[str | int, None]] = {"users": {}, "roles": {}, "api_keys": {}}
        self._effects: dict[tuple[str, str | int], None] = {}
        self.rights: dict[tuple[str, str], Rights] = {}

    # ------------------------------------------------------------ the state as a whole

    def meta(self) -> bytes:
        """Give what is kept beside the records."""
        return encode(AuthMeta(self.enabled, self.revision, self.token_keys))

    def load(self, meta: bytes | None, tables: dict[str, dict[Any, bytes]]) -> None:
        """Take in what `meta` and `dump_changes` gave."""
        if meta is not None:
            facts = decode_meta(meta)
            self.enabled, self.revision = facts.enabled, facts.revision
            self.token_keys = facts.token_keys
        self.users = {name: decode_user(data) for name, data in tables["users"].items()}
        self.roles = {name: decode_role(data) for name, data in tables["roles"].items()}
        self.api_keys = {key: decode_key(data) for key, data in tables["api_keys"].items()}

    def take_effects(self) -> bytes:
        """Give what changed since the last call, in a form that members can compare."""
        effects, self._effects = self._effects, {}
        held = self._tables()
        rows = [[table, name, held[table].get(name)] for table, name in effects]
        return encode([self.revision, self.enabled, list(self.token_keys.items()), rows])

    def _tables(self) -> dict[str, dict[Any, Any]]:
        return {"users": self.users, "roles": self.roles, "api_keys": self.api_keys}

    def dump_changes(self) -> dict[str, dict[Any, bytes | None]]:
        """Give, per table, the records that changed since the last call; None for one gone."""
        dumped: dict[str, dict[Any, bytes | None]] = {}
        held = self._tables()
        for table, names in self.changed.items():
            if names:
                records = held[table]
                dumped[table] = {
                    name: encode(records[name]) if name in records else None for name in names
                }
                names.clear()
        return dumped

    def _commit(self) -> int:
        self.revision += 1
        self.rights.clear()
        return self.revision

    def _touch(self, table: str, name: str | int) -> None:
        self.changed[table][name] = None
        self._effects[table, name] = None

    # ------------------------------------------------------------ on and off

    def enable(self) -> int:
        """Deny by default from now on.

        Raises:
            Conflict: There is no root user, or it lacks the role root.
        """
        if self.enabled:
            return self.revision
        root = self.users.get(ROOT)
        if root is None:
            raise Conflict(texts.ROOT_USER_MISSING)
        if ROOT not in root.roles:
            raise Conflict(texts.ROOT_ROLE_MISSING)
        self.enabled = True
        return self._commit()

    def disable(self) -> int:
        """Allow everything to everybody."""
        if not self.enabled:
            return self.revision
        self.enabled = False
        return self._commit()

    def begin_with_root(self, password_hash: str) -> int:
        """Make the user and the role root, and enable, at once.

        Raises:
            Conflict: It is enabled already.
            InvalidRequest: There is no password.
        """
        if self.enabled:
            raise Conflict("authentication is enabled already")
        if not password_hash:
            raise InvalidRequest("password: must not be empty", field="password")
        if ROOT not in self.users:
            self.user_add(ROOT, password_hash)
        else:
            self.user_change_password(ROOT, password_hash)
        if ROOT not in self.roles:
            # Beyond the limit if need be: nothing may be refused half way.
            self.roles[ROOT] = RoleRecord(ROOT)
            self._touch("roles", ROOT)
        if ROOT not in self.users[ROOT].roles:
            insort(self.users[ROOT].roles, ROOT)
            self._touch("users", ROOT)
        return self.enable()

    def add_token_key(self, name: str, secret: bytes) -> int:
        """Sign tokens with another secret from now on; the former ones still verify."""
        if name not in self.token_keys:
            self.token_keys[name] = secret
            while len(self.token_keys) > TOKEN_KEYS_MAX:
                del self.token_keys[next(iter(self.token_keys))]
            return self._commit()
        return self.revision

    # ------------------------------------------------------------ users

    def user(self, name: str) -> UserRecord:
        """Give a user.

        Raises:
            NotFound: There is none of that name.
        """
        user = self.users.get(name)
        if user is None:
            raise NotFound(texts.USER_NOT_FOUND, user=name)
        return user

    def user_add(
        self,
        name: str,
        password_hash: str,
        *,
        no_password: bool = False,
        certificate_names: list[str] | None = None,
    ) -> int:
        """Add a user.

        Raises:
            InvalidRequest: It has no name, or no password and may have one.
            AlreadyExists: There is one of that name, or a name in certificates is another's.
            Exhausted: There are too many.
        """
        if not name:
            raise InvalidRequest(texts.USER_EMPTY, field="user")
        if name in self.users:
            raise AlreadyExists(texts.USER_EXISTS, user=name)
        if not password_hash and not no_password:
            raise InvalidRequest("password: must not be empty", field="password")
        if len(self.users) >= USERS_MAX:
            raise Exhausted(f"at most {USERS_MAX} users", limit="users")
        names = sorted(certificate_names or [])
        self.check_certificates(name, names)
        revision = self._commit()
        hashed = "" if no_password else password_hash
        self.users[name] = UserRecord(name, hashed, [], no_password, names, revision)
        self._touch("users", name)
        return revision

    def user_delete(self, name: str) -> int:
        """Delete a user and its API keys.

        Raises:
            InvalidRequest: It is root, which is needed while authentication is on.
            NotFound: There is none of that name.
        """
        if self.enabled and name == ROOT:
            raise InvalidRequest(texts.INVALID_MANAGEMENT, field="user")
        self.user(name)
        del self.users[name]
        self._touch("users", name)
        for key in [key for key, record in self.api_keys.items() if record.user == name]:
            del self.api_keys[key]
            self._touch("api_keys", key)
        return self._commit()

    def user_change_password(self, name: str, password_hash: str) -> int:
        """Give a user another password; who proved to be it before has to do so again.

        Raises:
            NotFound: There is none of that name.
            InvalidRequest: The password is empty.
        """
        user = self.user(name)
        if not password_hash:
            raise InvalidRequest("password: must not be empty", field="password")
        user.since = self._commit()
        user.password_hash, user.no_password = password_hash, False
        self._touch("users", name)
        return self.revision

    def user_set_certificates(self, name: str, certificate_names: list[str]) -> int:
        """Change the names in certificates that stand for a user.

        Raises:
            NotFound: There is none of that name.
            AlreadyExists: One of them stands for another user.
        """
        user = self.user(name)
        self.check_certificates(name, certificate_names)
        user.certificate_names = sorted(certificate_names)
        self._touch("users", name)
        return self._commit()

    def check_certificates(self, name: str, certificate_names: list[str]) -> None:
        """Refuse a name in a certificate that stands for another user.

        Raises:
            AlreadyExists: One does.
        """
        for other in self.users.values():
            if other.user != name:
                taken = [one for one in certificate_names if one in other.certificate_names]
                if taken:
                    raise AlreadyExists(
                        f"certificate_names: {taken[0]!r} stands for user {other.user!r}",
                        field="certificate_names",
                    )

    def user_grant_role(self, name: str, role: str) -> int:
        """Give a user a role; it may have it already.

        Raises:
            NotFound: There is no such user, or no such role.
            Exhausted: It has too many.
        """
        user = self.user(name)
        if role != ROOT:
            self.role(role)
        if role in user.roles:
            return self.revision
        if len(user.roles) >= PERMISSIONS_MAX:
            raise Exhausted(f"a user has at most {PERMISSIONS_MAX} roles", limit="roles")
        insort(user.roles, role)
        self._touch("users", name)
        return self._commit()

    def user_revoke_role(self, name: str, role: str) -> int:
        """Take a role from a user.

        Raises:
            InvalidRequest: It is root's, which is needed while authentication is on.
            NotFound: There is no such user.
            Conflict: It does not have the role.
        """
        if self.enabled and name == ROOT and role == ROOT:
            raise InvalidRequest(texts.INVALID_MANAGEMENT, field="role")
        user = self.user(name)
        if role not in user.roles:
            raise Conflict(texts.ROLE_NOT_GRANTED, user=name, role=role)
        user.roles.remove(role)
        self._touch("users", name)
        return self._commit()

    # ------------------------------------------------------------ roles

    def role(self, name: str) -> RoleRecord:
        """Give a role.

        Raises:
            NotFound: There is none of that name.
        """
        role = self.roles.get(name)
        if role is None:
            raise NotFound(texts.ROLE_NOT_FOUND, role=name)
        return role

    def role_add(self, name: str) -> int:
        """Add a role.

        Raises:
            InvalidRequest: It has no name.
            AlreadyExists: There is one of that name.
            Exhausted: There are too many.
        """
        if not name:
            raise InvalidRequest(texts.ROLE_EMPTY, field="role")
        if name in self.roles:
            raise AlreadyExists(texts.ROLE_EXISTS, role=name)
        if len(self.roles) >= ROLES_MAX:
            raise Exhausted(f"at most {ROLES_MAX} roles", limit="roles")
        self.roles[name] = RoleRecord(name)
        self._touch("roles", name)
        return self._commit()

    def role_delete(self, name: str) -> int:
        """Delete a role; whoever has it loses it.

        Raises:
            InvalidRequest: It is root, which is needed while authentication is on.
            NotFound: There is none of that name.
        """
        if self.enabled and name == ROOT:
            raise InvalidRequest(texts.INVALID_MANAGEMENT, field="role")
        self.role(name)
        del self.roles[name]
        self._touch("roles", name)
        for user in self.users.values():
            if name in user.roles:
                user.roles.remove(name)
                self._touch("users", user.user)
        return self._commit()

    def role_grant_key(self, name: str, wanted: KeyPermission) -> int:
        """Let a role allow access to keys; access to the same keys is replaced.

        Raises:
            NotFound: There is no such role.
            InvalidRequest: The range names no keys.
            Exhausted: It allows too much already.
        """
        role = self.role(name)
        if not wanted.key and not wanted.range_end:
            raise InvalidRequest(texts.INVALID_MANAGEMENT, field="key.key")
        if interval_of(wanted.key, wanted.range_end) is None or not 0 <= wanted.access <= 2:
            raise InvalidRequest(texts.INVALID_MANAGEMENT, field="key.range_end")
        same = [one for one in role.keys if _span(one) == _span(wanted)]
        if not same:
            self._check_room(role)
        role.keys = sorted([*(one for one in role.keys if one not in same), wanted], key=_span)
        self._touch("roles", name)
        return self._commit()

    def role_revoke_key(self, name: str, key: bytes, range_end: bytes) -> int:
        """Take access to keys from a role.

        Raises:
            NotFound: There is no such role.
            Conflict: It has no permission on exactly these keys.
        """
        role = self.role(name)
        kept = [one for one in role.keys if _span(one) != (key, range_end)]
        if len(kept) == len(role.keys):
            raise Conflict(texts.PERMISSION_NOT_GRANTED, role=name)
        role.keys = kept
        self._touch("roles", name)
        return self._commit()

    def role_grant_domain(self, name: str, wanted: DomainPermission) -> int:
        """Let a role allow an action; it may do so already.

        Raises:
            NotFound: There is no such role.
            Exhausted: It allows too much already.
        """
        role = self.role(name)
        if wanted in role.domains:
            return self.revision
        self._check_room(role)
        role.domains = sorted([*role.domains, wanted], key=_facts)
        self._touch("roles", name)
        return self._commit()

    def role_revoke_domain(self, name: str, unwanted: DomainPermission) -> int:
        """Take an action from a role.

        Raises:
            NotFound: There is no such role.
            Conflict: It has no such permission.
        """
        role = self.role(name)
        if unwanted not in role.domains:
            raise Conflict(texts.PERMISSION_NOT_GRANTED, role=name)
        role.domains = [one for one in role.domains if one != unwanted]
        self._touch("roles", name)
        return self._commit()

    def _check_room(self, role: RoleRecord) -> None:
        if len(role.keys) + len(role.domains) >= PERMISSIONS_MAX:
            raise Exhausted(
                f"a role has at most {PERMISSIONS_MAX} permissions", limit="permissions"
            )

    # ------------------------------------------------------------ API keys

    def key_create(self, record: ApiKeyRecord) -> int:
        """Add an API key.

        Raises:
            NotFound: There is no such user.
            InvalidRequest: It has no secret.
            Conflict: The user lacks the role that the key is to be limited to.
            AlreadyExists: There is one of that id.
            Exhausted: There are too many.
        """
        user = self.user(record.user)
        if len(record.secret_hash) != 32:
            raise InvalidRequest("secret: must not be empty", field="secret")
        if record.role and record.role not in user.roles:
            raise Conflict(texts.ROLE_NOT_GRANTED, user=record.user, role=record.role)
        if record.key in self.api_keys:
            raise AlreadyExists("key: there is an API key of this id", field="key")
        if len(self.api_keys) >= API_KEYS_MAX:
            raise Exhausted(f"at most {API_KEYS_MAX} API keys", limit="api_keys")
        self.api_keys[record.key] = record
        self._touch("api_keys", record.key)
        return self._commit()

    def key_revoke(self, key: int) -> int:
        """Make an API key void.

        Raises:
            NotFound: There is no such key.
        """
        if key not in self.api_keys:
            raise NotFound("no such API key", key=f"{key:016x}")
        del self.api_keys[key]
        self._touch("api_keys", key)
        return self._commit()


def _span(permission: KeyPermission) -> tuple[bytes, bytes]:
    return permission.key, permission.range_end


def _facts(permission: DomainPermission) -> tuple[str, str, str]:
    return permission.action, permission.namespace, permission.name
