"""blame: who changed a key, a lock, a service, a topic or an election."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from coordinator.cli import kv, output, tables
from coordinator.cli.command import CommandError, whole

if TYPE_CHECKING:
    from coordinator.cli.command import Context, Nouns

KINDS = {
    "lock": "locks",
    "service": "services",
    "topic": "topics",
    "election": "elections",
    "discovery": "discovery",
    "auth": "auth",
}
WRONG_ARGUMENTS = 128


def add(nouns: Nouns) -> None:
    """Add the command."""
    words = f"<key> | {'|'.join(KINDS)} <name>"
    one = nouns.command("blame", blame, words, "tell who changed something, the newest first", 0)
    one.set_defaults(formats=tables.FORMATS)
    one.add_argument("--limit", type=whole, default=0, help="the newest so many changes")
    one.add_argument("--before", type=whole, default=0, help="only changes below this revision")


async def blame(context: Context) -> None:
    """Tell who changed something."""
    words = context.arguments(1, 2, "blame takes a key, or a kind and a name")
    flags = context.flags
    facts = {"limit": flags.limit, "before": flags.before}
    if len(words) == 2:
        if words[0] not in KINDS:
            raise CommandError(f"blame: a kind is one of {', '.join(KINDS)}", WRONG_ARGUMENTS)
        name = "" if words[1] == "*" and words[0] == "auth" else words[1]
        if not name.isprintable():
            raise CommandError("blame: the name is not UTF-8", WRONG_ARGUMENTS)
        facts |= {"domain": KINDS[words[0]], "name": name, "namespace": context.namespace}
        key = b""
    else:
        key = kv.encode(words[0])
    async with context.client() as client:
        found = await client.cluster.blame(key, **facts)
    rows = [
        (
            one.revision,
            _moment(one.clock_ms),
            one.actor or "-",
            one.origin or "-",
            one.operation or "-",
            one.kind,
            one.what or "-",
            one.cause or "-",
        )
        for one in found.lines
    ]
    titles = ("REVISION", "TIME", "USER", "FROM", "OPERATION", "CHANGE", "RECORD", "CAUSE")
    tables.show(context, titles, rows, found)
    if context.write_out != "simple":
        return
    if found.more:
        output.say(f"older changes: --before {found.lines[-1].revision}")
    elif found.compact_revision:
        output.say(f"the history begins at revision {found.compact_revision}")


def _moment(milliseconds: int) -> str:
    if not milliseconds:
        return "-"
    return datetime.fromtimestamp(milliseconds // 1000).astimezone().isoformat(sep=" ")
