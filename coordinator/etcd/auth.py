"""The Auth service: users, roles, tokens."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from coordinator.api import auth as knowing
from coordinator.api.permits import authorize
from coordinator.etcd.messages import METHODS
from coordinator.etcd.permits import propose
from coordinator_sdk.errors import CoordinatorError, error_from_wire
from coordinator_sdk.protocol import auth

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from coordinator.api.identity import Identity
    from coordinator.etcd.calls import Call, Shared, Unary
    from coordinator.etcd.messages import Message
    from coordinator.replica.requests import Outcome

_SERVICE = "/etcdserverpb.Auth/"


def _response(name: str) -> Any:
    return METHODS[_SERVICE + name].response()


class Auth:
    """Users and roles as etcd's clients see them; what a role allows beyond keys is not shown."""

    def __init__(self, shared: Shared, identity: Identity) -> None:
        self._node = shared.node
        self._headers = shared.headers
        self._identity = identity

    def calls(self) -> Mapping[str, Unary]:
        """Give the calls of the service by path."""
        found: dict[str, Unary] = {
            "Authenticate": self._authenticate,
            "UserAdd": self._user_add,
            "UserChangePassword": self._change_password,
            "AuthStatus": partial(self._read, lambda m: auth.AuthStatus(), self._status),
            "UserGet": partial(self._read, lambda m: auth.UserGet(m.name), self._user),
            "UserList": partial(self._read, lambda m: auth.UserList(), self._users),
            "RoleGet": partial(self._read, lambda m: auth.RoleGet(m.role), self._role),
            "RoleList": partial(self._read, lambda m: auth.RoleList(), self._roles),
        }
        found |= {name: partial(self._change, make) for name, make in _CHANGES.items()}
        return {_SERVICE + name: call for name, call in found.items()}

    # ------------------------------------------------------------- who is it

    def _authenticate(self, call: Call, m: Message) -> None:
        call.spawn(self._logged_in(call, m.name, m.password))

    async def _logged_in(self, call: Call, name: str, password: str) -> None:
        result = await self._identity.login(name, password, call.caller.origin)
        answer = _response("Authenticate")
        answer.token = result.token
        call.reply(self._headers.now() + answer.SerializeToString())

    # ------------------------------------------------------------- changes

    def _change(self, make: Callable[[Message], Any], call: Call, m: Message) -> None:
        self._propose(call, make(m))

    def _user_add(self, call: Call, m: Message) -> None:
        body = auth.UserAdd(m.name, no_password=m.options.no_password)
        if not m.name or body.no_password:
            self._propose(call, body)
        else:
            call.spawn(self._hashed(call, body, m.password))

    def _change_password(self, call: Call, m: Message) -> None:
        call.spawn(self._hashed(call, auth.UserChangePassword(m.name), m.password))

    async def _hashed(self, call: Call, body: Any, password: str) -> None:
        """Judge first: nobody makes a member hash without being allowed to."""
        authorize(self._node, call.caller, body)
        body.password_hash = await self._identity.credentials.hashed(password, 0, 0)
        self._propose(call, body)

    def _propose(self, call: Call, body: Any) -> None:
        def done(outcome: Outcome) -> None:
            if outcome.error is not None:
                call.fail(error_from_wire(*outcome.error))
            else:
                call.reply(self._headers.now())

        propose(self._node, call.caller, body, done)

    # ------------------------------------------------------------- reading

    def _read(
        self,
        make: Callable[[Any], Any],
        tell: Callable[[Any], Any],
        call: Call,
        m: Message,
    ) -> None:
        """Answer from a state that is new enough, if the caller may know."""
        op = make(m)

        def ready(error: CoordinatorError | None) -> None:
            try:
                if error is not None:
                    raise error
                authorize(self._node, call.caller, op)
                call.reply(self._headers.now() + tell(op).SerializeToString())
            except Exception as refused:
                call.fail(refused)

        self._node.read(ready)

    def _status(self, op: auth.AuthStatus) -> Any:
        found = knowing.status(self._node)
        answer = _response("AuthStatus")
        answer.enabled, answer.authRevision = found.enabled, found.auth_revision
        return answer

    def _user(self, op: auth.UserGet) -> Any:
        answer = _response("UserGet")
        answer.roles.extend(knowing.user_info(self._node, op.user).roles)
        return answer

    def _users(self, op: auth.UserList) -> Any:
        answer = _response("UserList")
        answer.users.extend(knowing.user_list(self._node).users)
        return answer

    def _role(self, op: auth.RoleGet) -> Any:
        answer = _response("RoleGet")
        # As etcd 3.4, which tells nothing of what root may: everything.
        found = knowing.role_info(self._node, op.role)
        for right in () if op.role == auth.ROOT else found.keys:
            answer.perm.add(permType=right.access, key=right.key, range_end=right.range_end)
        return answer

    def _roles(self, op: auth.RoleList) -> Any:
        answer = _response("RoleList")
        answer.roles.extend(knowing.role_list(self._node).roles)
        return answer


def _role_grant(m: Message) -> auth.RoleGrant:
    right = m.perm
    return auth.RoleGrant(
        m.name, key=auth.KeyPermission(int(right.permType), right.key, right.range_end)
    )


def _role_revoke(m: Message) -> auth.RoleRevoke:
    return auth.RoleRevoke(m.role, key=auth.KeyPermission(0, m.key, m.range_end))


_CHANGES: dict[str, Callable[[Any], Any]] = {
    "AuthEnable": lambda m: auth.AuthEnable(),
    "AuthDisable": lambda m: auth.AuthDisable(),
    "UserDelete": lambda m: auth.UserDelete(m.name),
    "UserGrantRole": lambda m: auth.UserGrantRole(m.user, m.role),
    "UserRevokeRole": lambda m: auth.UserRevokeRole(m.name, m.role),
    "RoleAdd": lambda m: auth.RoleAdd(m.name),
    "RoleDelete": lambda m: auth.RoleDelete(m.role),
    "RoleGrantPermission": _role_grant,
    "RoleRevokePermission": _role_revoke,
}
