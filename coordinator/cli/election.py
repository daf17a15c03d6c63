"""elect, election: stand for election, listen to who leads, list elections."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from coordinator.cli import kv, output
from coordinator.cli.command import BAD_ARGUMENTS, CommandError, Context, Nouns, seconds

if TYPE_CHECKING:
    from coordinator_sdk import Client
    from coordinator_sdk.protocol.elections import ElectionLeader


def add(nouns: Nouns) -> None:
    """Add the commands."""
    summary = "stand for election and lead until a signal; with -l, listen to who leads"
    parser = nouns.command("elect", elect, "<name> [value]", summary, 1)
    parser.add_argument("-l", "--listen", action="store_true", help="print every new leader")
    parser.add_argument(
        "--ttl", type=seconds, default=10.0, help="seconds that leading outlives this process"
    )
    parser.add_argument(
        "--timeout", type=seconds, help="how long to wait to be elected; for ever unless given"
    )
    group = nouns.group("election", "elections: one leader out of many candidates")
    group.command("ls", list_all, "[prefix]", "list the elections that have a leader")
    group.command("show", show, "<name>", "tell the leader and the candidates, in order")


async def elect(context: Context) -> int | None:
    """Campaign or listen."""
    flags = context.flags
    complaint = "elect takes one election name argument and an optional proposal argument"
    name, *rest = context.arguments(1, 2, complaint)
    if flags.listen:
        if rest:
            raise CommandError("elect -l takes one election name argument", BAD_ARGUMENTS)
        async with context.client() as client:
            return await listen(context, client, name)
    value = kv.encode(rest[0]) if rest else b""
    async with context.client() as client:
        return await campaign(context, client, name, value)


async def campaign(context: Context, client: Client, name: str, value: bytes) -> int | None:
    """Lead until a signal comes, then resign."""
    flags = context.flags
    term = client.elections.lead(name, value=value, timeout=flags.timeout, ttl=flags.ttl)
    await term.campaign()
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


async def list_all(context: Context) -> None:
    """List the elections."""
    prefix = (context.arguments(0, 1, "election ls takes at most a prefix") or [""])[0]
    async with context.client() as client:
        elections = await client.elections.list(prefix)
        if context.is_json:
            output.say_json(output.plain(elections))
            return
        rows = [
            (one.name, one.leader.token, _who(one.leader), output.since(one.leader.since_ms))
            + (one.waiting, _value(one.leader))
            for one in elections
            if one.leader is not None
        ]
        titles = ("ELECTION", "TOKEN", "LEADER", "SINCE", "WAITING", "VALUE")
        output.say(*output.columns(titles, rows))


async def show(context: Context) -> None:
    """Tell the leader and the candidates."""
    name = context.arguments(1, 1, "election show takes an election name")[0]
    async with context.client() as client:
        one = await client.elections.get(name)
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
