"""discovery: tokens under which the members of a cluster to be find each other."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from coordinator.cli import output
from coordinator.cli.command import whole
from coordinator_sdk.discovery import split_url

if TYPE_CHECKING:
    from coordinator.cli.command import Context, Nouns
    from coordinator_sdk.protocol.discovery import DiscoveryInfo


def add(nouns: Nouns) -> None:
    """Add the commands."""
    group = nouns.group("discovery", "tokens by which a new cluster forms itself")
    new = group.command("new", make, "", "make a token and print its URL")
    new.add_argument("--size", type=whole, default=3, help="members that the cluster begins with")
    group.command("status", status, "<url or token>", "tell who has come, and who is awaited")


async def make(context: Context) -> None:
    """Make a token."""
    context.arguments(0, 0, "discovery new takes no argument, but --size")
    async with context.client() as client:
        url = await client.discovery.new(context.flags.size)
    if context.is_json:
        output.say_json({"url": url, "size": context.flags.size})
    else:
        output.say(url)


async def status(context: Context) -> None:
    """Tell who has come."""
    given = context.arguments(1, 1, "discovery status takes the URL of a token")[0]
    endpoint = split_url(given)[0]
    async with context.client(*([endpoint] if endpoint else [])) as client:
        found = await client.discovery.get(given)
    if context.is_json:
        output.say_json(output.plain(found))
        return
    output.say(_summary(found))
    rows = [
        (one.name, f"{one.member:016x}", ",".join(one.peer_urls), output.since(one.registered_ms))
        for one in found.members
    ]
    if rows:
        output.say(*output.columns(("MEMBER", "ID", "PEER URLS", "CAME"), rows))


def _summary(found: DiscoveryInfo) -> str:
    left = output.span(max(0.0, found.expires_ms / 1000 - time.time()))
    awaited = found.size - len(found.members)
    state = "complete" if found.complete else f"{awaited} awaited"
    return f"{len(found.members)} of {found.size} have come, {state}; expires in {left}"
