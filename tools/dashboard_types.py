"""Writes the dashboard's view of the protocol: `python -m tools.dashboard_types --write`.

From the structs that server and SDK share come the TypeScript types of all operations, and the
order of their fields, by which the client makes arrays of requests and objects of answers.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Struct, inspect

from coordinator_sdk.protocol import (
    REQUESTS,
    audit,
    auth,
    cluster,
    discovery,
    elections,
    kv,
    locks,
    maintenance,
    services,
    sessions,
    tickets,
    topics,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PAGE: Final = "dashboards/web/src/lib/protocol.ts"

ANSWERS: Final[dict[type[Any], type[Any]]] = {
    kv.Put: kv.PutResult,
    kv.Range: kv.RangeResult,
    kv.Delete: kv.DeleteResult,
    kv.Txn: kv.TxnResult,
    kv.Compact: kv.CompactResult,
    kv.LeaseGrant: kv.LeaseGrantResult,
    kv.LeaseRevoke: kv.LeaseRevokeResult,
    kv.LeaseKeepAlive: kv.LeaseKeepAliveResult,
    kv.LeaseTimeToLive: kv.LeaseInfo,
    kv.LeaseList: kv.LeaseListResult,
    sessions.SessionOpen: sessions.SessionOpenResult,
    sessions.SessionGet: sessions.SessionInfo,
    sessions.SessionClose: kv.LeaseRevokeResult,
    sessions.SessionList: sessions.SessionListResult,
    services.ServiceRegister: services.ServiceRegisterResult,
    services.ServiceDeregister: services.ServiceResult,
    services.ServiceSetStatus: services.ServiceResult,
    services.ServiceDiscover: services.ServiceDiscoverResult,
    services.ServiceList: services.ServiceListResult,
    topics.TopicCreate: topics.TopicResult,
    topics.TopicDelete: topics.TopicResult,
    topics.TopicPublish: topics.TopicPublishResult,
    topics.TopicGet: topics.TopicInfo,
    topics.TopicList: topics.TopicListResult,
    topics.TopicRead: topics.TopicReadResult,
    topics.TopicSubscribers: topics.TopicSubscribersResult,
    locks.LockAcquire: tickets.TicketState,
    locks.LockRelease: locks.LockReleaseResult,
    locks.LockCancel: locks.LockReleaseResult,
    locks.LockForceRelease: locks.LockReleaseResult,
    locks.LockTicket: tickets.TicketState,
    locks.LockGet: locks.LockInfo,
    locks.LockList: locks.LockListResult,
    elections.ElectionCampaign: tickets.TicketState,
    elections.ElectionProclaim: elections.ElectionResult,
    elections.ElectionResign: elections.ElectionResult,
    elections.ElectionCancel: elections.ElectionResult,
    elections.ElectionTicket: tickets.TicketState,
    elections.ElectionGet: elections.ElectionInfo,
    elections.ElectionList: elections.ElectionListResult,
    discovery.DiscoveryNew: discovery.DiscoveryNewResult,
    discovery.DiscoveryRegister: discovery.DiscoveryInfo,
    discovery.DiscoveryGet: discovery.DiscoveryInfo,
    cluster.Hello: cluster.HelloResult,
    cluster.ClusterStatus: cluster.ClusterStatusResult,
    cluster.ClusterMembers: cluster.ClusterMembersResult,
    cluster.StreamList: cluster.StreamListResult,
    cluster.MemberAdd: cluster.MemberChangeResult,
    cluster.MemberRemove: cluster.MemberChangeResult,
    cluster.MemberPromote: cluster.MemberChangeResult,
    cluster.MemberUpdate: cluster.MemberChangeResult,
    cluster.LeaderMove: cluster.LeaderMoveResult,
    maintenance.AlarmList: maintenance.AlarmListResult,
    maintenance.AlarmDisarm: maintenance.AlarmListResult,
    maintenance.HashKeys: maintenance.HashKeysResult,
    maintenance.RevisionAt: maintenance.RevisionAtResult,
    audit.Blame: audit.BlameResult,
    auth.AuthEnable: auth.AuthResult,
    auth.AuthDisable: auth.AuthResult,
    auth.AuthStatus: auth.AuthStatusResult,
    auth.AuthInit: auth.AuthResult,
    auth.Login: auth.LoginResult,
    auth.Reauthenticate: auth.Identity,
    auth.WhoAmI: auth.Identity,
    auth.UserGet: auth.UserInfo,
    auth.UserList: auth.UserListResult,
    auth.RoleGet: auth.RoleInfo,
    auth.RoleList: auth.RoleListResult,
    auth.ApiKeyCreate: auth.ApiKeyCreateResult,
    auth.ApiKeyList: auth.ApiKeyListResult,
}
"""What answers a request; a change of users, roles or keys that is not named: `AuthResult`."""

ITEMS: Final[dict[type[Any], tuple[type[Any], ...]]] = {
    kv.Watch: (kv.WatchEvents, kv.WatchProgress, kv.WatchCancelled),
    topics.TopicSubscribe: (topics.TopicMessages, topics.TopicGap, topics.TopicReady),
    services.ServiceWatch: (services.ServiceSnapshot, services.ServiceChange),
    elections.ElectionObserve: (elections.ElectionChange,),
    cluster.ClusterWatch: (cluster.ClusterSample,),
}
"""The items of the streams that requests open."""

NOTHING: Final = (cluster.Ping, kv.Credit, kv.Cancel, kv.Progress)
"""Requests whose answer says nothing, or that have none."""

HEAD: Final = """\
// Written by tools/dashboard_types.py from the server's structs; `make fix` writes it anew.

/** Bytes, as base64. */
export type Bytes = string;
/** An id: 16 hexadecimal digits. */
export type Id = string;
"""

NO_ID: Final = "0000000000000000"


def requests() -> list[type[Any]]:
    """List every operation that a client may send."""
    made: list[type[Any]] = [*REQUESTS]
    return made + [kind for kind in (auth.Login, auth.Reauthenticate) if kind not in made]


def answer_of(request: type[Any]) -> type[Any] | None:
    """Return the struct that answers a request; None if the answer says nothing."""
    if request in ANSWERS:
        return ANSWERS[request]
    if request in auth.REQUESTS:
        return auth.AuthResult
    assert request in ITEMS or request in NOTHING, f"{request.__name__}: what answers it?"
    return None


def structs() -> list[type[Any]]:
    """List the structs of all operations and of what they are made of, by name."""
    found: dict[type[Any], None] = {}

    def visit(kind: inspect.Type) -> None:
        if isinstance(kind, inspect.StructType):
            if kind.cls not in found:
                found[kind.cls] = None
                for part in kind.fields:
                    visit(part.type)
        for inner in _inner(kind):
            visit(inner)

    wanted: list[type[Any]] = [*requests(), *(ANSWERS.values()), auth.AuthResult]
    wanted += [item for items in ITEMS.values() for item in items]
    for kind in wanted:
        visit(inspect.type_info(kind))
    return sorted(found, key=lambda kind: kind.__name__)


def _inner(kind: inspect.Type) -> Iterable[inspect.Type]:
    if isinstance(kind, inspect.Metadata):
        return (kind.type,)
    if isinstance(kind, inspect.ListType):
        return (kind.item_type,)
    if isinstance(kind, inspect.DictType):
        return (kind.value_type,)
    if isinstance(kind, inspect.UnionType):
        return kind.types
    return ()


def _is_id(kind: inspect.Type) -> bool:
    return isinstance(kind, inspect.Metadata) and bool((kind.extra or {}).get("id"))


def typescript(kind: inspect.Type) -> str:
    """Return the TypeScript type of a field."""
    if _is_id(kind):
        return "Id"
    if isinstance(kind, inspect.Metadata):
        return typescript(kind.type)
    if isinstance(kind, inspect.StructType):
        return kind.cls.__name__
    if isinstance(kind, inspect.ListType):
        inner = typescript(kind.item_type)
        return f"({inner})[]" if "|" in inner else f"{inner}[]"
    if isinstance(kind, inspect.DictType):
        return f"Record<string, {typescript(kind.value_type)}>"
    if isinstance(kind, inspect.UnionType):
        return " | ".join(typescript(one) for one in kind.types)
    names: dict[type[inspect.Type], str] = {
        inspect.IntType: "number",
        inspect.FloatType: "number",
        inspect.StrType: "string",
        inspect.BytesType: "Bytes",
        inspect.BoolType: "boolean",
        inspect.NoneType: "null",
    }
    return names[type(kind)]


def nested(kind: inspect.Type) -> str:
    """Return the structs that a field may hold, such as ``KeyValue`` or ``Put|Range``."""
    if isinstance(kind, inspect.StructType):
        return kind.cls.__name__
    return "|".join(dict.fromkeys(name for one in _inner(kind) if (name := nested(one))))


def default_of(part: inspect.Field) -> str | None:
    """Return the default of a field as JSON; None if it is required."""
    if part.required:
        return None
    value = part.default
    if value is msgspec.NODEFAULT:
        value = part.default_factory()
    if _is_id(part.type):
        return json.dumps(NO_ID)
    if isinstance(value, bytes):
        return json.dumps("")
    return json.dumps(value, separators=(",", ":"))


def fields(kind: type[Struct]) -> tuple[inspect.Field, ...]:
    """Return the fields of a struct, in the order of its array."""
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    return info.fields


def render() -> str:
    """Return the module."""
    return HEAD + "\n".join(("", *_interfaces(), *_calls(), *_tables())) + "\n"


def _interfaces() -> Iterator[str]:
    asked = {*requests(), kv.Guard, kv.Compare, auth.KeyPermission, auth.DomainPermission}
    for kind in structs():
        yield f"export interface {kind.__name__} {{"
        tag = kind.__struct_config__.tag
        if tag is not None:
            yield f"  tag{'?' if kind in asked else ''}: {json.dumps(tag)};"
        for part in fields(kind):
            mark = "?" if kind in asked and not part.required else ""
            yield f"  {part.name}{mark}: {typescript(part.type)};"
        yield "}"
        yield ""


def _calls() -> Iterator[str]:
    yield "/** What each operation is asked with, and what it answers. */"
    yield "export interface Calls {"
    for kind in requests():
        if kind not in ITEMS:
            answer = answer_of(kind)
            name = answer.__name__ if answer else "null"
            yield f'  "{kind.__struct_config__.tag}": [{kind.__name__}, {name}];'
    yield "}"
    yield ""
    yield "/** What each stream is opened with, and what its items are. */"
    yield "export interface Streams {"
    for kind, items in ITEMS.items():
        names = " | ".join(item.__name__ for item in items)
        yield f'  "{kind.__struct_config__.tag}": [{kind.__name__}, {names}];'
    yield "}"
    yield ""


def _tables() -> Iterator[str]:
    yield "/** For each operation its request, and the struct of its answer or of its items. */"
    yield "export const OPERATIONS: Record<string, [string, string]> = {"
    for kind in requests():
        answer = answer_of(kind)
        names = [item.__name__ for item in ITEMS.get(kind, ())] or (
            [answer.__name__] if answer else []
        )
        yield f'  "{kind.__struct_config__.tag}": ["{kind.__name__}", "{"|".join(names)}"],'
    yield "};"
    yield ""
    yield "/**"
    yield " * The fields of each struct in the order of its array: `#tag`, `name`, `name:Struct`"
    yield " * for a field of structs, `=` and the default as JSON."
    yield " */"
    yield "export const FIELDS: Record<string, string> = {"
    for kind in structs():
        tag = kind.__struct_config__.tag
        words = [] if tag is None else [f"#{tag}"]
        for part in fields(kind):
            inner, default = nested(part.type), default_of(part)
            assert " " not in (default or ""), (kind, part.name)
            held = f":{inner}" if inner else ""
            words.append(part.name + held + ("" if default is None else f"={default}"))
        yield f"  {kind.__name__}: {json.dumps(' '.join(words))},"
    yield "};"


def main(arguments: list[str]) -> int:
    """Print the module, or write it."""
    if arguments == ["--write"]:
        Path(__file__).resolve().parent.parent.joinpath(PAGE).write_text(render(), encoding="utf-8")
    else:
        print(render(), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
