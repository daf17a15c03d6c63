"""lease: grant, revoke, timetolive, list, keep-alive, with etcdctl's output."""

from __future__ import annotations

import asyncio
import re

from coordinator.cli import fields, output
from coordinator.cli.command import (
    BAD_ARGUMENTS,
    BAD_CONNECTION,
    CommandError,
    Context,
    Nouns,
    hexadecimal,
)
from coordinator_sdk import Client, CoordinatorError, LeaseNotFound

SHORTEST_SECONDS = 2
"""What is shorter is raised, as etcd does."""
FORMATS = ("simple", "fields", "json")
NOT_FOUND = "etcdserver: requested lease not found"


def add(nouns: Nouns) -> None:
    """Add the commands."""
    group = nouns.group("lease", "leases: keys that go when nobody renews them")
    group.command("grant", grant, "<ttl>", "create a lease that lives for <ttl> seconds")
    group.command("revoke", revoke, "<id>", "end a lease and delete its keys")
    show = group.command("timetolive", timetolive, "<id>", "tell how long a lease lives on")
    show.add_argument("--keys", action="store_true", help="also tell what hangs on it")
    group.command("list", list_all, "", "list the leases")
    keep = group.command("keep-alive", keep_alive, "<id>", "renew a lease until it ends")
    keep.add_argument("--once", action="store_true", help="renew it once")
    for parser in group.parsers:
        parser.set_defaults(formats=FORMATS)


def _id(context: Context, complaint: str) -> int:
    text = context.arguments(1, 1, complaint)[0]
    return hexadecimal(text, "bad lease ID arg")


async def grant(context: Context) -> None:
    """Create a lease."""
    text = context.arguments(1, 1, "lease grant command needs TTL argument")[0]
    if not re.fullmatch(r"[+-]?\d+", text):
        parsing = f'strconv.ParseInt: parsing "{text}": invalid syntax'
        raise CommandError(f"bad TTL ({parsing})", BAD_ARGUMENTS)
    async with context.client() as client:
        try:
            lease = await client.leases.grant(max(int(text), SHORTEST_SECONDS), keepalive=False)
        except CoordinatorError as error:
            raise CommandError(f"failed to grant lease ({error})") from error
        ttl = round(lease.ttl)
        if context.write_out == "simple":
            output.say(f"lease {lease.id:016x} granted with TTL({ttl}s)")
            return
        head = await output.header(client)
        if context.is_json:
            output.say_json({**head, "ID": lease.id, "TTL": ttl, "Error": ""})
        else:
            output.say(*fields.head_lines(head), *fields.lines(ID=lease.id, TTL=ttl))


async def revoke(context: Context) -> None:
    """End a lease."""
    lease = _id(context, "lease revoke command needs 1 argument")
    async with context.client() as client:
        try:
            result = await client.leases.revoke(lease)
        except CoordinatorError as error:
            raise CommandError(f"failed to revoke lease ({error})") from error
        if context.write_out == "simple":
            output.say(f"lease {lease:016x} revoked")
            return
        head = await output.header(client, result.revision)
        if context.is_json:
            output.say_json({"header": head})
        else:
            output.say(*fields.head_lines(head))


async def timetolive(context: Context) -> None:
    """Tell how long a lease lives on."""
    lease = _id(context, "lease timetolive command needs lease ID as argument")
    async with context.client() as client:
        info = await client.leases.ttl(lease, keys=context.flags.keys)
        gone = info.remaining_ms < 0
        granted, left = round(info.ttl_ms / 1000), -1 if gone else info.remaining_ms // 1000
        if context.is_json:
            keys = [output.text64(key) for key in info.keys]
            found = {"id": lease, "ttl": left, "granted-ttl": granted, "keys": keys or None}
            output.say_json({**await output.header(client), **found})
        elif context.write_out == "fields":
            head = await output.header(client)
            facts = fields.lines(ID=lease, TTL=left, GrantedTTL=granted)
            keys = [fields.line("Key", key) for key in info.keys]
            output.say(*fields.head_lines(head), *facts, *keys)
        elif gone:
            output.say(f"lease {lease:016x} already expired")
        else:
            line = f"lease {lease:016x} granted with TTL({granted}s), remaining({left}s)"
            if context.flags.keys:
                line += f", attached keys([{' '.join(_text(key) for key in info.keys)}])"
            output.say(line)


def _text(key: bytes) -> str:
    return key.decode("utf-8", "backslashreplace")


async def list_all(context: Context) -> None:
    """List the leases."""
    context.arguments(0, 0, "lease list command takes no argument")
    async with context.client() as client:
        leases = await client.leases.list()
        if context.is_json:
            ids = [{"id": info.lease} for info in leases]
            output.say_json({**await output.header(client), "leases": ids})
        elif context.write_out == "fields":
            head = await output.header(client)
            ids_only = [fields.line("ID", info.lease) for info in leases]
            output.say(*fields.head_lines(head), *ids_only)
        else:
            output.say(f"found {len(leases)} leases", *(f"{info.lease:016x}" for info in leases))


async def keep_alive(context: Context) -> None:
    """Renew a lease, once or until it ends."""
    lease = _id(context, "lease keep-alive command needs lease ID as argument")
    async with context.client() as client:
        if context.flags.once:
            try:
                await _renew(context, client, lease)
            except LeaseNotFound:
                raise CommandError(NOT_FOUND, BAD_CONNECTION) from None
            return
        while True:
            try:
                ttl = await _renew(context, client, lease)
            except LeaseNotFound:
                break
            await asyncio.sleep(ttl / 3)
        if context.write_out == "simple":
            output.say(f"lease {lease:016x} expired or revoked.")


async def _renew(context: Context, client: Client, lease: int) -> float:
    ttl = await client.leases.keepalive(lease)
    if context.write_out == "simple":
        output.say(f"lease {lease:016x} keepalived with TTL({round(ttl)})")
        return ttl
    head = await output.header(client)
    if context.is_json:
        output.say_json({**head, "ID": lease, "TTL": round(ttl)})
    else:
        output.say(*fields.head_lines(head), *fields.lines(ID=lease, TTL=round(ttl)))
    return ttl
