"""Operations for operators: alarms, and the hash of what a member holds."""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from coordinator.api.connection import Connection
from coordinator.api.dispatch import guarded
from coordinator.api.http import Routes
from coordinator.api.registry import Live, Operation
from coordinator.wire.command import AlarmSet
from coordinator_sdk.errors import InvalidRequest
from coordinator_sdk.protocol.maintenance import (
    Alarm,
    AlarmDisarm,
    AlarmList,
    AlarmListResult,
    HashKeys,
    HashKeysResult,
    RevisionAt,
    RevisionAtResult,
)

if TYPE_CHECKING:
    from coordinator.node.node import Node

ALARMS: Final = ("NOSPACE", "CORRUPT")
SLICE_SECONDS: Final = 0.005
"""How long a hash is computed before others get their turn."""


def operations() -> Mapping[type[Any], Operation]:
    """Give the operations by request type."""
    return {
        AlarmList: Live(_list),
        AlarmDisarm: Live(_disarm, _check_disarm),
        HashKeys: Live(_hash, _check_hash),
        RevisionAt: Live(_revision_at, _check_moment),
    }


def raised_alarms(node: Node) -> list[tuple[int, str]]:
    """Give the alarms that are raised, with their members; that of the quota is this one's."""
    found = list(node.machine.alarms)
    own = node.member_id
    if "NOSPACE" in node.alarms() and (own, "NOSPACE") not in found:
        found.append((own, "NOSPACE"))
    return sorted(one for one in found if one[1] in ALARMS)


def _told(alarms: list[tuple[int, str]]) -> AlarmListResult:
    return AlarmListResult([Alarm(member, alarm) for member, alarm in alarms])


def _list(connection: Connection, id: int, op: AlarmList) -> None:
    node = connection.node
    connection.answer(id, node.revision, _told(raised_alarms(node)))


def _check_disarm(op: AlarmDisarm) -> None:
    if op.alarm not in ("", *ALARMS):
        raise InvalidRequest(f"alarm: one of {', '.join(ALARMS)}", field="alarm")


def _disarm(connection: Connection, id: int, op: AlarmDisarm) -> None:
    connection.spawn(guarded(connection, id, _disarmed(connection, id, op)))


async def _disarmed(connection: Connection, id: int, op: AlarmDisarm) -> None:
    node, caller = connection.node, connection.caller
    wanted = [
        (member, alarm)
        for member, alarm in raised_alarms(node)
        if op.member in (0, member) and op.alarm in ("", alarm)
    ]
    for member, alarm in wanted:
        await node.execute(
            AlarmSet(member, alarm, False),
            actor=caller.actor,
            origin=caller.origin,
            auth_revision=caller.auth_revision,
            scope=caller.scope,
        )
    connection.answer(id, node.revision, _told(wanted))


def _check_moment(op: RevisionAt) -> None:
    if op.clock_ms < 0:
        raise InvalidRequest("clock_ms: at least 0", field="clock_ms")


def _revision_at(connection: Connection, id: int, op: RevisionAt) -> None:
    node = connection.node
    times, revision = node.keyspace.times, node.revision
    if op.clock_ms:
        revision = min(times.revision_at(op.clock_ms), revision)
    now_ms = round(time.time() * 1000)
    clock_ms = times.clock_of(revision) if revision else 0
    connection.answer(id, node.revision, RevisionAtResult(revision, clock_ms, now_ms))


def _check_hash(op: HashKeys) -> None:
    if op.revision < 0:
        raise InvalidRequest("revision: at least 0", field="revision")


def _hash(connection: Connection, id: int, op: HashKeys) -> None:
    connection.spawn(guarded(connection, id, _hashed(connection, id, op)))


async def _hashed(connection: Connection, id: int, op: HashKeys) -> None:
    node = connection.node
    revision = op.revision or node.revision
    found = await hash_at(node, revision)
    compacted = node.keyspace.compact_revision
    connection.answer(id, node.revision, HashKeysResult(found, revision, compacted))


async def hash_at(node: Node, revision: int) -> int:
    """Compute the hash of what was live at a revision, in slices, in 32 bits; 0 is now.

    Raises:
        FutureRevision: The member has not come so far.
        Compacted: The history there is gone.
    """
    loop = asyncio.get_running_loop()
    steps = node.keyspace.digest_steps(revision)
    deadline = loop.time() + SLICE_SECONDS
    values: list[bytes | None] | None = None
    while True:
        try:
            wanted = steps.send(values)
        except StopIteration as done:
            return zlib.crc32(int(done.value).to_bytes(16, "big"))
        values = await node.old_values(wanted) if wanted else None
        if loop.time() > deadline:
            await asyncio.sleep(0)
            deadline = loop.time() + SLICE_SECONDS


def routes() -> Routes:
    """Make the HTTP face."""
    made = Routes("Maintenance")
    made.add(
        "GET", "/maintenance/alarms", AlarmList, AlarmListResult, summary="List the alarms raised"
    )
    made.add(
        "POST",
        "/maintenance/alarms/disarm",
        AlarmDisarm,
        AlarmListResult,
        summary="End alarms",
        example={"alarm": "NOSPACE"},
        descriptions={"member": "Whose; all unless given.", "alarm": "All unless given."},
    )
    made.add(
        "GET",
        "/maintenance/hash",
        HashKeys,
        HashKeysResult,
        summary="A hash of everything that was live at a revision",
        descriptions={"revision": "0 for now."},
    )
    made.add(
        "GET",
        "/cluster/revision",
        RevisionAt,
        RevisionAtResult,
        summary="The newest revision at a moment",
        descriptions={"clock_ms": "Unix time in milliseconds; 0 for now."},
    )
    return made
