"""The Auth service of a member without users: authentication is off, and stays off."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from coordinator.etcd.messages import METHODS
from coordinator.etcd.status import (
    AUTH_NOT_ENABLED,
    ROLE_NOT_FOUND,
    USER_NOT_FOUND,
    Code,
    StatusError,
    told,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from coordinator.etcd.calls import Call, Shared, Unary
    from coordinator.etcd.messages import Message

_SERVICE = "/etcdserverpb.Auth/"
NOT_SERVED = "coordinator: users and roles are not supported by this release"
_Status = METHODS[f"{_SERVICE}AuthStatus"].response


class Auth:
    """Answers as etcd does while authentication is off and there is neither user nor role."""

    def __init__(self, shared: Shared) -> None:
        self._headers = shared.headers

    def calls(self) -> Mapping[str, Unary]:
        """Give the calls of the service by path."""
        found: dict[str, Unary] = {
            path: self._not_served for path in METHODS if path.startswith(_SERVICE)
        }
        empty = ("AuthDisable", "UserList", "RoleList")
        found |= dict.fromkeys((_SERVICE + name for name in empty), self._nothing)
        no_user = ("UserGet", "UserDelete", "UserChangePassword", "UserGrantRole", "UserRevokeRole")
        unknown = partial(self._refuse, USER_NOT_FOUND)
        found |= dict.fromkeys((_SERVICE + name for name in no_user), unknown)
        no_role = ("RoleGet", "RoleDelete", "RoleGrantPermission", "RoleRevokePermission")
        unknown = partial(self._refuse, ROLE_NOT_FOUND)
        found |= dict.fromkeys((_SERVICE + name for name in no_role), unknown)
        found[f"{_SERVICE}Authenticate"] = partial(self._refuse, AUTH_NOT_ENABLED)
        found[f"{_SERVICE}AuthStatus"] = self._status
        return found

    def _nothing(self, call: Call, m: Message) -> None:
        call.reply(self._headers.now())

    def _status(self, call: Call, m: Message) -> None:
        call.reply(self._headers.now() + _Status(authRevision=1).SerializeToString())

    def _refuse(self, text: str, call: Call, m: Message) -> None:
        raise told(text)

    def _not_served(self, call: Call, m: Message) -> None:
        raise StatusError(Code.UNIMPLEMENTED, NOT_SERVED)
