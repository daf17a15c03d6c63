"""Who changed what: the audit trail as operators ask for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from heapq import nlargest
from typing import TYPE_CHECKING, Any, Final

from coordinator.api.connection import Connection
from coordinator.api.dispatch import guarded
from coordinator.api.http import Routes
from coordinator.api.permits import authorize
from coordinator.api.registry import Live, Operation
from coordinator.keyspace.records import SYSTEM, USER
from coordinator.replica.trail import AUTH_KEPT, TrailRecord
from coordinator.wire import systemkey
from coordinator_sdk.errors import CoordinatorError, InvalidRequest
from coordinator_sdk.protocol.audit import Blame, BlameLine, BlameResult

if TYPE_CHECKING:
    from coordinator.keyspace.space import Space
    from coordinator.node.node import Node

AUTH: Final = "auth"
"""Stands for users, roles and API keys in the place of a domain."""
LINES_MAX: Final = 1000
"""Changes in one answer."""

_Change = tuple[int, int, str, str]
"""Revision, position in it, kind, and what of a domain's object it was about."""
_NOTHING: Final = TrailRecord("", "", "", "", "", 0)


def operations(domains: tuple[str, ...]) -> Mapping[type[Any], Operation]:
    """Give the operations of the audit trail by request type.

    Args:
        domains: The names of the domains there are.
    """

    def check(op: Blame) -> None:
        if bool(op.key) == bool(op.domain):
            raise InvalidRequest("key: either a key or a domain is needed", field="key")
        if op.domain and op.domain not in (*domains, AUTH):
            known = ", ".join((*domains, AUTH))
            raise InvalidRequest(f"domain: one of {known}", field="domain")

    return {Blame: Live(_blame, check, judges_itself=True)}


def _blame(connection: Connection, id: int, op: Blame) -> None:
    connection.node.read(partial(_begin, connection, id, op))


def _begin(connection: Connection, id: int, op: Blame, error: CoordinatorError | None) -> None:
    if error is not None:
        connection.fail(id, error)
    elif not connection.is_closed:
        connection.spawn(guarded(connection, id, _answer(connection, id, op)))


async def _answer(connection: Connection, id: int, op: Blame) -> None:
    node = connection.node
    authorize(node, connection.caller, op)
    result = await blame(node, op)
    connection.answer(id, node.revision, result)


async def blame(node: Node, op: Blame) -> BlameResult:
    """Tell who made the changes that a request asks for, as far as the history reaches."""
    limit = min(op.limit or LINES_MAX, LINES_MAX)
    if op.domain == AUTH:
        return await _blame_auth(node, op, limit)
    keyspace, trail = node.keyspace, node.machine.trail
    changes = _of_key(keyspace.stores[USER], op.key, "") if op.key else _of_object(node, op)
    first, before = keyspace.compact_revision, op.before or keyspace.revision + 1
    found = nlargest(limit + 1, (one for one in changes if first <= one[0] < before))
    begins = {one[0]: trail.find(one[0]) for one in found}
    records = await node.trail_records(sorted(dict.fromkeys(begins.values())))
    lines = []
    for revision, _, kind, what in found[:limit]:
        by = records.get(begins[revision], _NOTHING)
        lines.append(
            BlameLine(
                revision,
                kind,
                what,
                by.actor,
                by.origin,
                by.cause,
                by.operation,
                by.trace,
                by.clock_ms,
            )
        )
    return BlameResult(lines, first, len(found) > limit)


async def _blame_auth(node: Node, op: Blame, limit: int) -> BlameResult:
    """Tell who changed users, roles and API keys, by the revisions of those."""
    newest = node.machine.auth.revision
    first = max(1, newest + 1 - AUTH_KEPT)
    before = min(op.before or newest + 1, newest + 1)
    lines: list[BlameLine] = []
    while before > first and len(lines) <= limit:
        start = max(first, before - LINES_MAX)
        records = await node.trail_records([-one for one in range(start, before)])
        for key in sorted(records):
            by = records[key]
            if op.name and op.name not in _names(by.about):
                continue
            lines.append(
                BlameLine(
                    -key,
                    "change",
                    by.about,
                    by.actor,
                    by.origin,
                    by.cause,
                    by.operation,
                    by.trace,
                    by.clock_ms,
                )
            )
        before = start
    return BlameResult(lines[:limit], first if first > 1 else 0, len(lines) > limit)


def _names(about: str) -> list[str]:
    return [part.partition(" ")[2] for part in about.split(", ")]


def _of_key(store: Space, key: bytes, what: str) -> Iterator[_Change]:
    """Give the changes of one key that are remembered."""
    live = store.live.get(key)
    if live is not None:
        yield live.mod_revision, store.subs.get(key, 0), "put", what
    for version in store.history.get(key, ()):
        kind = "put" if version.version else "delete"
        yield version.mod_revision, version.sub, kind, what


def _of_object(node: Node, op: Blame) -> Iterator[_Change]:
    """Give the changes of all records of one object of a domain."""
    store = node.keyspace.stores[SYSTEM]
    start, end = systemkey.children(op.namespace, op.domain)
    while True:
        # From one kind of record to the next, without walking those of other objects.
        names = next(store.all_chunks(start, end, 1), None)
        if names is None:
            return
        kind = systemkey.unpack(names[0])[2]
        of_object = systemkey.children(op.namespace, op.domain, kind, op.name)
        for chunk in store.all_chunks(*of_object, 1000):
            for key in chunk:
                rest = systemkey.unpack(key)[4:]
                yield from _of_key(store, key, "/".join(map(str, (kind, *rest))))
        start = systemkey.children(op.namespace, op.domain, kind)[1]


def routes() -> Routes:
    """Make the HTTP face of the audit trail."""
    made = Routes("Cluster")
    made.add(
        "GET",
        "/cluster/blame",
        Blame,
        BlameResult,
        summary="Who changed a key, a lock, a service, a topic or an election",
        descriptions={
            "key": "The key, unless `domain` is given.",
            "domain": "locks, services, topics, elections, discovery or auth; with `name`.",
        },
    )
    return made
