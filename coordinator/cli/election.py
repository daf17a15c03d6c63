"""elect, election: stand for election, listen to who leads, list elections."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from coordinator.cli import kv, output, recipe, tables
from coordinator.cli.child import Child, loss_flags
from coordinator.cli.command import BAD_ARGUMENTS, CommandError, Context, Nouns, seconds

if TYPE_CHECKING:
    from coordinator_sdk import Client
    from coordinator_sdk.elections import Leadership
    from coordinator_sdk.protocol.elections import ElectionLeader


DEFAULT_TTL = 10.0


def add(nouns: Nouns) -> None:
    """Add the commands."""
    summary = "stand for election and lead until a signal; with -l, listen to who leads"
    usage = "<name> [value] [-- command [arguments]]"
    parser = nouns.command("elect", elect, usage, summary, 1)
    parser.epilog = (
        "A command after -- runs while this process leads, with the token in COORD_ELECTION_TOKEN. "
        "With ETCDCTL_API=3 in the environment the election is one of keys, as with etcdctl."
    )
    parser.add_argument("-l", "--listen", action="store_true", help="print every new leader")
    parser.add_argument(
        "--ttl", type=seconds, help="seconds that leading outlives this process; 10 unless given"
    )
    parser.add_argument(
        "--timeout", type=seconds, help="how long to wait to be elected; for ever unless given"
    )
    loss_flags(parser)
    group = nouns.group("election", "elections: one leader out of many candidates")
    listing = group.command("ls", list_all, "[prefix]", "list the elections that have a leader")
    listing.set_defaults(formats=tables.FORMATS, reads_past=True)
    group.command("observe", observe, "<name>", "print every new leader, the present one first")
    one = group.command("show", show, "<name>", "tell the leader and the candidates, in order")
    one.set_defaults(reads_past=True)


async def elect(context: Context) -> int | None:
    """Campaign or listen."""
    flags = context.flags
    complaint = "elect takes one election name argument and an optional proposal argument"
    dashed = len(context.args) if context.dashed is None else context.dashed
    given, command = context.args[:dashed], context.args[dashed:]
    if not 1 <= len(given) <= 2:
        raise CommandError(complaint, BAD_ARGUMENTS)
    name, *rest = given
    if flags.listen:
        if rest:
            raise CommandError("elect -l takes one election name argument", BAD_ARGUMENTS)
        async with context.client() as client:
            if recipe.is_wanted():
                return await recipe.listen(context, client, name)
            return await listen(context, client, name)
    value = kv.encode(rest[0]) if rest else b""
    async with context.client() as client:
        if recipe.is_wanted() and not command:
            return await recipe.elect(context, client, name, value)
        return await campaign(context, client, name, value, command)


async def campaign(
    context: Context, client: Client, name: str, value: bytes, command: list[str]
) -> int | None:
    """Lead until a signal comes or a command has ended, then resign."""
    flags = context.flags
    ttl = DEFAULT_TTL if flags.ttl is None else flags.ttl
    term = client.elections.lead(name, value=value, timeout=flags.timeout, ttl=ttl)
    await term.campaign()
    if command:
        return await _run_leading(context, term, command)
    signals = context.signals.catch()
    assert term.session is not None
    if context.is_json:
        output.say_json(
            {
                "name": name,
                "token": term.token,
                "session": f"{term.session.id:016x}",
                "value": output.text64(value),
            }
        )
    else:
        output.write(_lines(name, term.session.id, value, context.hex))
        output.tell(f"leading {name!r} with fencing token {term.token}; Ctrl-C resigns")
    ending = asyncio.ensure_future(signals.get())
    losing = asyncio.ensure_future(term.lost.wait())
    await asyncio.wait({ending, losing}, return_when=asyncio.FIRST_COMPLETED)
    ending.cancel()
    losing.cancel()
    if term.lost.is_set():
        raise CommandError(f"leadership {name!r} was lost: {term.reason_lost}")
    await term.resign()
    return None


async def _run_leading(context: Context, term: Leadership, command: list[str]) -> int:
    """Run a command while this process leads; stop it if leadership is lost."""
    flags = context.flags
    environment = {"COORD_ELECTION_TOKEN": str(term.token), "COORD_ELECTION_NAME": term.name}
    child = await Child.start(command, environment)
    code = await child.wait_while_held(
        context, term.lost, lambda: f"leadership {term.name!r} was lost: {term.reason_lost}"
    )
    if term.lost.is_set():
        what = "went on without it" if flags.on_lost == "ignore" else "was stopped"
        raise CommandError(f"leadership {term.name!r} was lost, {command[0]!r} {what}")
    await term.resign()
    if code:
        output.tell(f"Error: exit status {code}")
    return code


async def listen(context: Context, client: Client, name: str) -> int | None:
    """Print every new leader, the present one first."""
    last: tuple[int, bytes] | None = None
    async for change in client.elections.observe(name):
        if context.is_json:
            output.say_json(output.plain(change))
            continue
        leader = change.leader
        if leader is not None and (leader.token, leader.value) != last:
            output.write(_lines(name, leader.session, leader.value, context.hex))
        last = (leader.token, leader.value) if leader is not None else None
    return None


def _lines(name: str, session: int, value: bytes, as_hex: bool) -> bytes:
    key = output.shown(f"{name}/{session:x}".encode("utf-8", "surrogateescape"), as_hex)
    return b"%b\n%b\n" % (key, output.shown(value, as_hex))


async def observe(context: Context) -> int | None:
    """Print every new leader."""
    name = context.arguments(1, 1, "election observe takes an election name")[0]
    async with context.client() as client:
        return await listen(context, client, name)


async def list_all(context: Context) -> None:
    """List the elections."""
    prefix = (context.arguments(0, 1, "election ls takes at most a prefix") or [""])[0]
    async with context.client() as client:
        elections = await client.elections.list(prefix, revision=context.revision)
        rows = [
            (one.name, one.leader.token, _who(one.leader), output.since(one.leader.since_ms))
            + (one.waiting, _value(one.leader))
            for one in elections
            if one.leader is not None
        ]
        titles = ("ELECTION", "TOKEN", "LEADER", "SINCE", "WAITING", "VALUE")
        tables.show(context, titles, rows, elections)


async def show(context: Context) -> None:
    """Tell the leader and the candidates."""
    name = context.arguments(1, 1, "election show takes an election name")[0]
    async with context.client() as client:
        one = await client.elections.get(name, revision=context.revision)
        if context.is_json:
            output.say_json(output.plain(one))
            return
        shown = output.clean(one.name)
        if one.leader is None:
            output.say(f"{shown} has no leader")
            return
        output.say(
            f"{shown} is led by {output.clean(_who(one.leader))}, token {one.leader.token}, "
            f"for {output.since(one.leader.since_ms)}: {output.clean(_value(one.leader))}"
        )
        for place, candidate in enumerate(one.candidates, 1):
            who = output.process(candidate.application, candidate.host, candidate.pid)
            output.say(
                f"  {place}. {output.clean(who)}, waiting for {output.since(candidate.since_ms)}"
            )


def _who(leader: ElectionLeader) -> str:
    return output.process(leader.application, leader.host, leader.pid)


def _value(leader: ElectionLeader) -> str:
    return leader.value.decode("utf-8", "backslashreplace")
