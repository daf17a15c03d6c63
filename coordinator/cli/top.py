"""top: how all members stand, live in a terminal, or line by line in a pipe."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from typing import TYPE_CHECKING

from coordinator.cli import endpoint, output, tables
from coordinator.cli.command import BAD_ARGUMENTS, CommandError, seconds, whole
from coordinator_sdk import CoordinatorError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.live import Live

    from coordinator.cli.command import Context, Nouns
    from coordinator_sdk import Client
    from coordinator_sdk.protocol.cluster import ClusterStatusResult

TITLES = (
    *("MEMBER", "ROLE", "TERM", "REVISION", "BEHIND", "READS/S", "WRITES/S"),
    *("KEYS", "SPACE", "CLIENTS", "WATCHES", "LEASES", "UP", "ALARMS"),
)

Standing = tuple[float, "ClusterStatusResult | None"]


def add(nouns: Nouns) -> None:
    """Add the command."""
    parser = nouns.command("top", top, "", "show how all members stand, again and again")
    parser.add_argument("--interval", type=seconds, default=1.0, help="seconds between two looks")
    parser.add_argument("--count", type=whole, default=0, help="end after so many looks")


async def top(context: Context) -> None:
    """Show how all members stand until a signal comes."""
    context.arguments(0, 0, "top takes no argument")
    flags = context.flags
    if flags.interval <= 0:
        raise CommandError("--interval: must be positive", BAD_ARGUMENTS)
    async with contextlib.AsyncExitStack() as stack:
        first = await stack.enter_async_context(context.client())
        members = await first.cluster.members()
        clients = {
            one.name or f"{one.member:x}": context.unconnected(*one.client_urls)
            for one in members
            if one.client_urls
        }
        for client in clients.values():
            stack.push_async_callback(client.close)
        screen = stack.enter_context(_screen()) if _is_live(context) else None
        before: dict[str, Standing] = {}
        looks = 0
        while True:
            now = await _look(clients, context.dial_timeout)
            rows = [_row(name, before.get(name), one) for name, one in now.items()]
            if screen is not None:
                screen.update(tables.drawn(TITLES, rows), refresh=True)
            elif context.is_json:
                output.say_json({name: output.plain(one) for name, (_, one) in now.items()})
            else:
                output.say(*output.columns(TITLES, rows), "")
            before, looks = now, looks + 1
            if looks == flags.count:
                return
            await asyncio.sleep(flags.interval)


def _is_live(context: Context) -> bool:
    return sys.stdout.isatty() and context.write_out == "simple"


async def _look(clients: Mapping[str, Client], timeout: float) -> dict[str, Standing]:
    async def one(client: Client) -> Standing:
        try:
            async with asyncio.timeout(timeout):
                await client.connect()
                return time.monotonic(), await client.cluster.status()
        except (CoordinatorError, TimeoutError):
            return time.monotonic(), None

    found = await asyncio.gather(*map(one, clients.values()))
    return dict(zip(clients, found, strict=True))


def _row(name: str, before: Standing | None, now: Standing) -> tuple[object, ...]:
    at, status = now
    if status is None:
        return (name, "unreachable", *[""] * (len(TITLES) - 2))
    reads = writes = "-"
    if before is not None and before[1] is not None and at > before[0]:
        spent = at - before[0]
        reads = f"{max(status.reads - before[1].reads, 0) / spent:.0f}"
        writes = f"{max(status.writes - before[1].writes, 0) / spent:.0f}"
    share = status.bytes_used / max(status.bytes_quota, 1)
    return (
        *(name, status.role, status.term, status.revision, status.index - status.applied_index),
        *(reads, writes, status.live_keys),
        f"{share:.0%} ({endpoint.size(status.bytes_used)})",
        *(status.connections, status.watches, status.leases),
        *(output.span(status.uptime_ms / 1000), " ".join(status.alarms)),
    )


def _screen() -> Live:
    from rich.live import Live

    return Live(auto_refresh=False, screen=True)
