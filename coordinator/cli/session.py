"""session: who is there, and what hangs on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordinator.cli import output, tables

if TYPE_CHECKING:
    from coordinator.cli.command import Context, Nouns


def add(nouns: Nouns) -> None:
    """Add the commands."""
    group = nouns.group("session", "sessions: what locks, leaderships and instances hang on")
    listing = group.command("ls", list_all, "", "list the sessions and what they hold")
    listing.set_defaults(formats=tables.FORMATS)


async def list_all(context: Context) -> None:
    """List the sessions."""
    context.arguments(0, 0, "session ls takes no argument")
    async with context.client() as client:
        sessions = await client.sessions.list()
        rows = [
            (
                f"{one.session:016x}",
                output.process(one.application, one.host, one.pid),
                f"{one.ttl_ms / 1000:g}s",
                f"{one.remaining_ms / 1000:.1f}s" if one.remaining_ms >= 0 else "-",
                output.since(one.opened_ms),
                ", ".join(one.holds),
            )
            for one in sessions
        ]
        titles = ("SESSION", "PROCESS", "TTL", "LEFT", "SINCE", "HOLDS")
        tables.show(context, titles, rows, sessions)
