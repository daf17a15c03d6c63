"""endpoint: how each member stands, with etcdctl's output."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from coordinator.cli import output
from coordinator.cli.command import ERROR, Context, Nouns
from coordinator_sdk import CoordinatorError, PermissionDenied

if TYPE_CHECKING:
    from coordinator_sdk.protocol.cluster import ClusterStatusResult

HEALTH_KEY = b"health"


def add(nouns: Nouns) -> None:
    """Add the commands."""
    group = nouns.group("endpoint", "endpoints: how each member stands")
    for name, run, summary in (
        ("health", health, "ask each endpoint for a linearizable read"),
        ("status", status, "tell version, size, term and indexes of each endpoint"),
    ):
        parser = group.command(name, run, "", summary)
        parser.add_argument(
            "--cluster", action="store_true", help="ask all members, not only the endpoints"
        )


async def _endpoints(context: Context) -> list[str]:
    context.arguments(0, 0, "endpoint commands take no argument")
    if not context.flags.cluster:
        return context.endpoints
    async with context.client() as client:
        members = await client.cluster.members()
    return [url for member in members for url in member.client_urls]


async def health(context: Context) -> int:
    """Ask each endpoint for a linearizable read."""
    found = []
    for endpoint in await _endpoints(context):
        begun, reason = time.monotonic(), ""
        try:
            async with context.client(endpoint) as client:
                begun = time.monotonic()
                await client.kv.get(HEALTH_KEY)
        except PermissionDenied:
            pass
        except CoordinatorError as error:
            reason = str(error)
        took = f"{(time.monotonic() - begun) * 1000:.6g}ms"
        found.append((endpoint, reason, took))
    if context.is_json:
        output.say_json([_health_json(*one) for one in found])
    else:
        for endpoint, reason, took in found:
            if reason:
                failed = f"{endpoint} is unhealthy: failed to commit proposal: {reason}"
                output.tell(failed)
            else:
                output.tell(
                    f"{endpoint} is healthy: successfully committed proposal: took = {took}"
                )
    if any(reason for _, reason, _ in found):
        output.tell("Error: unhealthy cluster")
        return ERROR
    return 0


def _health_json(endpoint: str, reason: str, took: str) -> dict[str, Any]:
    made: dict[str, Any] = {"endpoint": endpoint, "health": not reason, "took": took}
    return made | ({"error": reason} if reason else {})


async def status(context: Context) -> int:
    """Tell how each endpoint stands."""
    failed = 0
    shown: list[tuple[str, ClusterStatusResult]] = []
    for endpoint in await _endpoints(context):
        try:
            async with context.client(endpoint) as client:
                shown.append((endpoint, await client.cluster.status()))
        except CoordinatorError as error:
            failed = ERROR
            output.tell(f"Failed to get the status of endpoint {endpoint} ({error})")
    if context.is_json:
        output.say_json([_status_json(endpoint, one) for endpoint, one in shown])
    for endpoint, one in [] if context.is_json else shown:
        size = _size(one.bytes_used)
        leads, learns = one.leader == one.member, one.role == "learner"
        output.say(
            f"{endpoint}, {one.member:x}, {one.version}, {size}, {_go(leads)}, {_go(learns)}, "
            f"{one.term}, {one.index}, {one.applied_index}, {' '.join(one.alarms)}"
        )
    return failed


def _go(flag: bool) -> str:
    return "true" if flag else "false"


def _size(count: int) -> str:
    """Give a size as etcdctl does: in decimal units, two digits if below ten."""
    size, units = float(count), ["B", "kB", "MB", "GB", "TB"]
    while size >= 1000 and len(units) > 1:
        size /= 1000
        units.pop(0)
    whole = units[0] == "B" or size >= 10
    return f"{size:.0f} {units[0]}" if whole else f"{size:.1f} {units[0]}"


def _status_json(endpoint: str, one: ClusterStatusResult) -> dict[str, Any]:
    """Give what etcdctl gives, and under ``coordinator`` everything there is."""
    head = {
        "cluster_id": one.cluster,
        "member_id": one.member,
        "revision": one.revision,
        "raft_term": one.term,
    }
    facts = {
        "header": head,
        "version": one.version,
        "dbSize": one.bytes_used,
        "leader": one.leader,
        "raftIndex": one.index,
        "raftTerm": one.term,
        "raftAppliedIndex": one.applied_index,
        "dbSizeInUse": one.bytes_used,
        "coordinator": output.plain(one),
    }
    return {"Endpoint": endpoint, "Status": facts}
