"""The operations of sessions, and their routes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from coordinator.api.connection import Connection
from coordinator.api.dispatch import timed_first
from coordinator.api.holdings import admit_lease
from coordinator.api.http import Routes
from coordinator.api.permits import shown
from coordinator.api.registry import Caller, Change, Live, Operation, chosen_id
from coordinator.keyspace import SYSTEM
from coordinator.sessions import records
from coordinator.wire import systemkey
from coordinator_sdk.errors import AlreadyExists, SessionNotFound
from coordinator_sdk.protocol.kv import LeaseRevokeResult
from coordinator_sdk.protocol.sessions import (
    SessionClose,
    SessionGet,
    SessionInfo,
    SessionList,
    SessionListResult,
    SessionOpen,
    SessionOpenResult,
)

if TYPE_CHECKING:
    from coordinator.node.node import Node


def operations() -> Mapping[type[Any], Operation]:
    """Give the operations of sessions by request type."""
    return {
        SessionOpen: Change(prepare=_choose_session, instead=admit_lease),
        SessionClose: Change(),
        SessionGet: Live(_get),
        SessionList: Live(_list),
    }


def _choose_session(op: SessionOpen, caller: Caller, id: int) -> None:
    if not op.session:
        op.session = chosen_id(caller, id)


def _get(connection: Connection, id: int, op: SessionGet) -> None:
    node = connection.node

    def found() -> list[SessionInfo]:
        record = node.keyspace.get(SYSTEM, records.key(op.session))
        if record is None:
            raise SessionNotFound(
                f"session {op.session:016x} does not exist or has ended",
                session=f"{op.session:016x}",
            )
        return [_info(node, records.decode(record.value))]

    node.read(partial(timed_first, connection, id, found, _session_of, lambda infos: infos[0]))


def _list(connection: Connection, id: int, op: SessionList) -> None:
    node = connection.node

    def found() -> list[SessionInfo]:
        start, end = records.every()
        every = (
            record for chunk in node.keyspace.record_chunks(SYSTEM, start, end) for record in chunk
        )
        return [_info(node, records.decode(one.value)) for one in every]

    def answer(infos: list[SessionInfo]) -> SessionListResult:
        return shown(node, connection.caller, op, SessionListResult(infos))

    node.read(partial(timed_first, connection, id, found, _session_of, answer))


def _session_of(info: SessionInfo) -> int:
    return info.session


def _info(node: Node, record: records.SessionRecord) -> SessionInfo:
    return SessionInfo(
        record.session,
        record.ttl_ms,
        0,
        record.application,
        record.host,
        record.pid,
        record.actor,
        record.opened_ms,
        record.metadata,
        _holds(node, record.session),
    )


def _holds(node: Node, session: int) -> list[str]:
    """Name what hangs on a session, as ``domain/namespace/name``."""
    found: dict[str, None] = {}
    for key in node.keyspace.lease_keys(session, SYSTEM):
        namespace, domain, _, name, *_ = systemkey.unpack(key)
        if domain != records.DOMAIN:
            found[f"{domain}/{namespace}/{name}"] = None
    return list(found)


def routes() -> Routes:
    """Make the HTTP face of sessions."""
    made = Routes("Sessions")
    made.add(
        "POST",
        "/sessions",
        SessionOpen,
        SessionOpenResult,
        summary="Open a session",
        status=201,
        raises=(AlreadyExists,),
        example={"ttl_ms": 10_000, "application": "orders", "host": "web-1", "pid": 4711},
        descriptions={"session": "Its id; left out, the server chooses one."},
    )
    made.add("GET", "/sessions", SessionList, SessionListResult, summary="List the sessions")
    made.add(
        "GET",
        "/sessions/{session}",
        SessionGet,
        SessionInfo,
        summary="Read a session",
        raises=(SessionNotFound,),
    )
    made.add(
        "DELETE",
        "/sessions/{session}",
        SessionClose,
        LeaseRevokeResult,
        summary="Close a session",
        raises=(SessionNotFound,),
    )
    return made
