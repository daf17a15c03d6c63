"""endpoint: how each member stands, with etcdctl's output."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, TypeVar

from coordinator.cli import fields, output, tables
from coordinator.cli.command import ERROR, Context, Nouns, whole
from coordinator.cli.credentials import words_of
from coordinator_sdk import CoordinatorError, PermissionDenied

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from coordinator_sdk import Client
    from coordinator_sdk.protocol.cluster import ClusterStatusResult
    from coordinator_sdk.protocol.maintenance import HashKeysResult

T = TypeVar("T")

HEALTH_KEY = b"health"
HEALTH_TITLES = ("ENDPOINT", "HEALTH", "TOOK", "ERROR")
STATUS_TITLES = (
    *("ENDPOINT", "ID", "VERSION", "DB SIZE", "IS LEADER", "IS LEARNER"),
    *("RAFT TERM", "RAFT INDEX", "RAFT APPLIED INDEX", "ERRORS"),
)


def add(nouns: Nouns) -> None:
    """Add the commands."""
    group = nouns.group("endpoint", "endpoints: how each member stands")
    group.command("health", health, "", "ask each endpoint for a linearizable read")
    group.command("status", status, "", "tell version, size, term and indexes of each endpoint")
    hashes = group.command("hashkv", hashkv, "", "tell the hash of what each endpoint holds")
    hashes.add_argument(
        "--rev", type=whole, default=0, help="hash what was live at this revision; now unless given"
    )
    for parser in group.parsers:
        parser.set_defaults(formats=tables.FORMATS)
        cluster_flag(parser)


def cluster_flag(parser: Any) -> None:
    """Add the flag that asks all members."""
    parser.add_argument(
        "--cluster", action="store_true", help="ask all members, not only the endpoints"
    )


async def endpoints_of(context: Context) -> list[str]:
    """Give the endpoints to ask: those given, or with ``--cluster`` those of all members."""
    if not context.flags.cluster:
        return context.endpoints
    async with context.client() as client:
        members = await client.cluster.members()
    return [url for member in members for url in member.client_urls]


async def of_each(
    context: Context, endpoints: list[str], ask: Callable[[Client], Awaitable[T]]
) -> list[tuple[str, T | CoordinatorError]]:
    """Ask every endpoint at once; gives the answer or the error of each, in their order."""

    async def one(endpoint: str) -> T | CoordinatorError:
        try:
            async with context.client(endpoint) as client:
                return await ask(client)
        except CoordinatorError as error:
            return error

    found = await asyncio.gather(*map(one, endpoints))
    return list(zip(endpoints, found, strict=True))


# ---------------------------------------------------------------- health


async def _read(client: Client) -> float:
    begun = time.monotonic()
    try:
        await client.kv.get(HEALTH_KEY)
    except PermissionDenied:
        pass  # Who is refused was answered.
    return time.monotonic() - begun


async def health(context: Context) -> int:
    """Ask each endpoint for a linearizable read."""
    context.arguments(0, 0, "endpoint health takes no argument")
    begun = time.monotonic()
    asked = await of_each(context, await endpoints_of(context), _read)
    found = []
    for endpoint, took in asked:
        reason = words_of(took) if isinstance(took, CoordinatorError) else ""
        taken = time.monotonic() - begun if isinstance(took, CoordinatorError) else took
        found.append((endpoint, reason, f"{taken * 1000:.6g}ms"))
    if context.is_json:
        output.say_json([_health_json(*one) for one in found])
    elif context.write_out == "simple":
        for endpoint, reason, spent in found:
            output.tell(
                f"{endpoint} is unhealthy: failed to commit proposal: {reason}"
                if reason
                else f"{endpoint} is healthy: successfully committed proposal: took = {spent}"
            )
    elif context.write_out == "fields":
        for endpoint, reason, spent in found:
            told = fields.lines(Endpoint=endpoint, Health=not reason)
            output.say(*told, f'"Took" : {spent}', f'"Error" : {reason}', "")
    else:
        rows = [(endpoint, _go(not reason), spent, reason) for endpoint, reason, spent in found]
        tables.show(context, HEALTH_TITLES, rows, None)
    if any(reason for _, reason, _ in found):
        output.tell("Error: unhealthy cluster")
        return ERROR
    return 0


def _health_json(endpoint: str, reason: str, took: str) -> dict[str, Any]:
    made: dict[str, Any] = {"endpoint": endpoint, "health": not reason, "took": took}
    return made | ({"error": reason} if reason else {})


# ---------------------------------------------------------------- status


async def status(context: Context) -> int:
    """Tell how each endpoint stands."""
    context.arguments(0, 0, "endpoint status takes no argument")
    asked = await of_each(
        context, await endpoints_of(context), lambda client: client.cluster.status()
    )
    found = _answered(asked, "Failed to get the status of endpoint")
    if context.is_json:
        output.say_json([_status_json(endpoint, one) for endpoint, one in found])
    elif context.write_out == "fields":
        for endpoint, one in found:
            output.say(*_status_fields(endpoint, one))
    elif context.write_out == "table":
        output.say(*tables.boxed(STATUS_TITLES, (_row(*one) for one in found)))
    else:
        output.say(*(", ".join(_row(*one)) for one in found))
    return ERROR if len(found) < len(asked) else 0


def _answered(asked: list[tuple[str, T | CoordinatorError]], failed: str) -> list[tuple[str, T]]:
    """Give the answers; errors are told."""
    found = []
    for endpoint, answer in asked:
        if isinstance(answer, CoordinatorError):
            output.tell(f"{failed} {endpoint} ({answer})")
        else:
            found.append((endpoint, answer))
    return found


def _row(endpoint: str, one: ClusterStatusResult) -> tuple[str, ...]:
    leads, learns = one.leader == one.member, one.role == "learner"
    return (
        *(endpoint, f"{one.member:x}", one.version, size(one.bytes_used), _go(leads)),
        *(_go(learns), str(one.term), str(one.index), str(one.applied_index)),
        " ".join(one.alarms),
    )


def _status_fields(endpoint: str, one: ClusterStatusResult) -> list[str]:
    return [
        *fields.head_lines(_head(one)),
        *fields.lines(Version=one.version, DBSize=one.bytes_used, Leader=one.leader),
        *fields.lines(IsLearner=one.role == "learner", RaftIndex=one.index, RaftTerm=one.term),
        *fields.lines(RaftAppliedIndex=one.applied_index),
        f'"Errors" : [{" ".join(one.alarms)}]',
        *fields.lines(Endpoint=endpoint),
        "",
    ]


def _go(flag: bool) -> str:
    return "true" if flag else "false"


def size(count: int) -> str:
    """Give a size as etcdctl does: in decimal units, two digits if below ten."""
    size, units = float(count), ["B", "kB", "MB", "GB", "TB"]
    while size >= 1000 and len(units) > 1:
        size /= 1000
        units.pop(0)
    is_whole = units[0] == "B" or size >= 10
    return f"{size:.0f} {units[0]}" if is_whole else f"{size:.1f} {units[0]}"


def _head(one: ClusterStatusResult) -> dict[str, int]:
    return {
        "cluster_id": one.cluster,
        "member_id": one.member,
        "revision": one.revision,
        "raft_term": one.term,
    }


def _status_json(endpoint: str, one: ClusterStatusResult) -> dict[str, Any]:
    """Give what etcdctl gives, and under ``coordinator`` everything there is."""
    facts = {
        "header": _head(one),
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


# ---------------------------------------------------------------- hashes


async def hashkv(context: Context) -> int:
    """Tell the hash of what each endpoint holds."""
    context.arguments(0, 0, "endpoint hashkv takes no argument")
    revision = max(context.flags.rev, 0)

    async def ask(client: Client) -> tuple[HashKeysResult, dict[str, int]]:
        found = await client.cluster.hash_keys(revision)
        return found, await output.header(client, found.revision)

    asked = await of_each(context, await endpoints_of(context), ask)
    answered = _answered(asked, "Failed to get the hash of endpoint")
    if context.is_json:
        output.say_json([_hash_json(endpoint, *one) for endpoint, one in answered])
    elif context.write_out == "fields":
        for endpoint, (found, head) in answered:
            facts = fields.lines(Endpoint=endpoint, Hash=found.hash)
            output.say(*fields.head_lines(head), *facts, "")
    elif context.write_out == "table":
        rows = [(endpoint, found.hash) for endpoint, (found, _) in answered]
        output.say(*tables.boxed(("ENDPOINT", "HASH"), rows))
    else:
        output.say(*(f"{endpoint}, {found.hash}" for endpoint, (found, _) in answered))
    return ERROR if len(answered) < len(asked) else 0


def _hash_json(endpoint: str, found: HashKeysResult, head: dict[str, int]) -> dict[str, Any]:
    facts = {"header": head, "hash": found.hash, "compact_revision": found.compact_revision}
    return {"Endpoint": endpoint, "HashKV": facts}
