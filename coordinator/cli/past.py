"""at: any listing as it was at a revision or a moment of the past."""

from __future__ import annotations

import argparse
import time
from datetime import datetime
from typing import TYPE_CHECKING

from coordinator.cli.command import BAD_ARGUMENTS, CommandError, context_of, seconds

if TYPE_CHECKING:
    from collections.abc import Callable

    from coordinator.cli.command import Context, Nouns, Parser

USAGE = "<revision | 10m | 2030-01-31T12:00> <command …>"


def add(nouns: Nouns, build: Callable[[], Parser]) -> None:
    """Add the command.

    Args:
        nouns: Where to.
        build: Makes the parser of all commands.
    """

    async def run(context: Context) -> int | None:
        return await at(context, build())

    parser = nouns.command("at", run, USAGE, "run a listing as of a revision or a time in the past")
    parser.is_raw = True
    parser.epilog = (
        "A bare number is a revision, a length of time such as 10m is that long ago, a date with "
        "time is local unless it names a zone. For get, and for ls and show of lock, election, "
        "service and topic."
    )


async def at(context: Context, parser: Parser) -> int | None:
    """Run a listing as of a revision or a time."""
    words = context.args
    if len(words) < 2:
        raise CommandError(f"at needs a revision or a time, and a command: {USAGE}", BAD_ARGUMENTS)
    found, _ = parser.parse_known_args(words[1:], _globals(context.flags))
    if not getattr(found, "reads_past", False):
        raise CommandError(
            "at: only get, and ls and show of lock, election, service and topic can look back",
            BAD_ARGUMENTS,
        )
    inner = context_of(found)
    inner.signals, inner.credential = context.signals, context.credential
    if context.domain:
        inner.endpoints = context.endpoints
    inner.revision = await _revision(inner, words[0])
    status: int | None = await found.run(inner)
    return status


def _globals(flags: argparse.Namespace) -> argparse.Namespace:
    own = {"args", "dashed", "run", "text_args"}
    return argparse.Namespace(**{name: v for name, v in vars(flags).items() if name not in own})


async def _revision(context: Context, text: str) -> int:
    if text.isascii() and text.isdigit():
        if not 0 < int(text) < 1 << 63:
            raise CommandError(f"at: {text} is no revision; they count from 1", BAD_ARGUMENTS)
        return int(text)
    moment = moment_of(text, time.time())
    async with context.client() as client:
        found = await client.cluster.revision_at(moment)
    if not found.revision:
        raise CommandError(f"at: the history does not reach back to {text}")
    return found.revision


def moment_of(text: str, now: float) -> float:
    """Give the Unix time that a word means: a length of time ago, or a date with time."""
    try:
        return now - seconds(text.removeprefix("-"))
    except argparse.ArgumentTypeError:
        pass
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise CommandError(
            f"at: {text!r} is neither a revision, nor a length of time such as 10m, nor a date "
            "with time such as 2030-01-31T12:00",
            BAD_ARGUMENTS,
        ) from None
