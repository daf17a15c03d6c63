"""Rules: what somebody needs to be allowed something. Pure.

Every command and every query has one rule. Those of the core stand in
`coordinator.replica.permissions`, those of a domain in its `Domain`. The state machine asks the
rule of a command when it applies it; whoever answers a query asks the rule of the query.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from coordinator.sessions import records
from coordinator_sdk.errors import PermissionDenied
from coordinator_sdk.protocol.auth import PERMISSION_DENIED

if TYPE_CHECKING:
    from coordinator.keyspace.auth import AuthStore
    from coordinator.keyspace.keyspace import Keyspace
    from coordinator.keyspace.rights import Rights
    from coordinator.sessions.records import SessionRecord
    from coordinator_sdk.protocol.kv import Guard, KeyValue


class Records(Protocol):
    """The system keyspace as it is now."""

    def get(self, key: bytes) -> KeyValue | None:
        """Read one record."""


class Asker:
    """Who asks, and the state by which it is judged.

    Attributes:
        actor: The user; empty for none.
        scope: What limits it; see `coordinator.keyspace.deciding`.
        rights: What it may do.
        auth: Users and roles.
        keyspace: The published state.
    """

    __slots__ = ("actor", "auth", "keyspace", "rights", "scope")

    def __init__(
        self, actor: str, scope: str, rights: Rights, auth: AuthStore, keyspace: Keyspace
    ) -> None:
        self.actor = actor
        self.scope = scope
        self.rights = rights
        self.auth = auth
        self.keyspace = keyspace

    def get(self, key: bytes) -> KeyValue | None:
        """Read one system record."""
        return self.keyspace.get(1, key)

    def owns(self, session: int) -> bool:
        """Tell whether a session is the asker's; one that does not exist is nobody else's."""
        found = self.session(session)
        return found is None or self.is_own(found.actor)

    def session(self, session: int) -> SessionRecord | None:
        """Give the record of a session; None if there is none."""
        record = self.get(records.key(session)) if 0 <= session < 1 << 63 else None
        return None if record is None else records.decode(record.value)

    def is_own(self, actor: str) -> bool:
        """Tell whether what a user made is the asker's."""
        return actor == self.actor or self.rights.is_root


def denied() -> PermissionDenied:
    """Give the refusal. It says nothing about what there is."""
    return PermissionDenied(PERMISSION_DENIED)


Check = Callable[[Asker, Any], None]
Owners = Callable[[Records, Any], Iterable[int]]
Shows = Callable[[Asker, Any, Any], None]


@dataclass(frozen=True)
class Rule:
    """What a request needs.

    Attributes:
        needs: For people, in one phrase.
        check: Raises `PermissionDenied` unless the asker may; None if everybody may, even
            without having proved who it is.
        shows: Takes out of the result of a listing what the asker may not see; given the asker,
            the request and the result.
    """

    needs: str
    check: Check | None
    shows: Shows | None = None


OPEN = Rule("nothing", None)
"""For everybody, known or not."""


def _anybody(asker: Asker, request: Any) -> None:
    """Whoever has proved to be a user may."""


KNOWN = Rule("to be a user", _anybody)
"""For every user."""


@dataclass(frozen=True)
class Place:
    """Where in a request the name stands that a permission is about.

    Attributes:
        name: The field of the name; empty if there is none.
        namespace: The field of the namespace; empty if there is none.
        is_prefix: Whether the request is about all names that begin so.
        prefix_of: Makes of the name what all names that the request is about begin with, and
            tells whether it is about more than one.
    """

    name: str = "name"
    namespace: str = "namespace"
    prefix_of: Callable[[str], tuple[str, bool]] = field(default=lambda name: (name, False))

    def of(self, request: Any) -> tuple[str, str, bool]:
        """Give namespace and name, and whether it is about all names that begin so."""
        namespace = getattr(request, self.namespace) if self.namespace else ""
        name, is_prefix = self.prefix_of(getattr(request, self.name) if self.name else "")
        return namespace, name, is_prefix


NAMED = Place()
NAMELESS = Place("", "")


def empty_means_all(name: str) -> tuple[str, bool]:
    """Read a name whose absence means all of them."""
    return name, not name


def allowed(
    *actions: str,
    at: Place = NAMED,
    owners: Owners | None = None,
    operate: str = "",
    guarded: bool = False,
) -> Rule:
    """Make the rule of a request that one of some actions allows.

    Args:
        actions: The actions; one of them is enough.
        at: Where the name stands.
        owners: The sessions that the request is about: they have to be the asker's.
        operate: The action that allows it, whosever the sessions are.
        guarded: Whether the request may carry a guard.
    """

    def check(asker: Asker, request: Any) -> None:
        rights = asker.rights
        namespace, name, is_prefix = at.of(request)
        may = rights.may_all if is_prefix else rights.may
        if operate and may(operate, namespace, name):
            return
        if not any(may(action, namespace, name) for action in actions):
            raise denied()
        if owners is not None and not all(map(asker.owns, owners(asker, request))):
            raise denied()
        if guarded and request.guard is not None:
            check_guard_use(asker, request.guard)

    needs = " or ".join(f"`{action}`" for action in actions)
    if owners is not None:
        needs += ", own session"
    if operate:
        needs += f"; or `{operate}`"
    return Rule(needs, check)


def listing(action: str, field: str, name: str, *, namespace: str = "namespace") -> Rule:
    """Make the rule of a listing, which shows what an action is allowed on.

    Args:
        action: The action.
        field: The list in the result.
        name: The field of its items that names them.
        namespace: The field of the request; empty if there is none.
    """

    def check(asker: Asker, request: Any) -> None:
        if not asker.rights.may_some(action, getattr(request, namespace) if namespace else ""):
            raise denied()

    def shows(asker: Asker, request: Any, result: Any) -> None:
        at = getattr(request, namespace) if namespace else ""
        found = getattr(result, field)
        found[:] = [one for one in found if asker.rights.may(action, at, getattr(one, name))]

    return Rule(f"`{action}`; shows what it is allowed on", check, shows)


def check_guard_use(asker: Asker, guard: Guard) -> None:
    """Let only those be told whether a token lives who may know: its owner and its readers.

    Raises:
        PermissionDenied: The asker is neither.
    """
    if asker.session(guard.session) is not None and asker.owns(guard.session):
        return
    if not asker.rights.may(f"{guard.kind.removesuffix('s')}:read", guard.namespace, guard.name):
        raise denied()
