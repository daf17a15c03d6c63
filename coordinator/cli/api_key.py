"""api-key: create, revoke, list. A key stands for a user, where a program can't type a password."""

from __future__ import annotations

import re

from coordinator.cli import output
from coordinator.cli.command import (
    BAD_ARGUMENTS,
    CommandError,
    Context,
    Nouns,
    hexadecimal,
    seconds,
)

KEY_TEXT = re.compile(r"ck_([0-9a-f]{16})_.*")


def add(nouns: Nouns) -> None:
    """Add the commands."""
    group = nouns.group("api-key", "API keys: how programs prove whose they are")
    new = group.command("create", create, "<user>", "make a key, and print it this once")
    new.add_argument("--role", default="", metavar="ROLE", help="the one role it is limited to")
    new.add_argument("--ttl", type=seconds, metavar="720h", help="how long it is good; for ever")
    new.add_argument("--label", default="", metavar="TEXT", help="what people know it by")
    end = group.command("revoke", revoke, "<id>", "make a key void at once")
    end.set_defaults(hides_args=True)
    group.command("list", list_all, "[user]", "list the keys, without their secrets")


async def create(context: Context) -> None:
    """Make a key; it stands alone in the output, and what it is beside it."""
    [name] = context.arguments(1, 1, "api-key create command requires user name as its argument")
    flags = context.flags
    if flags.ttl is not None and flags.ttl <= 0:
        raise CommandError("--ttl: must be positive", BAD_ARGUMENTS)
    async with context.client() as client:
        made = await client.auth.create_key(name, role=flags.role, ttl=flags.ttl, label=flags.label)
    if context.is_json:
        output.say_json({"id": f"{made.key:016x}", "key": made.secret, "user": name})
        return
    output.say(made.secret)
    output.tell(f"API key {made.key:016x} of user {name}; nobody can read it again")


async def revoke(context: Context) -> None:
    """Make a key void."""
    [text] = context.arguments(1, 1, "api-key revoke command requires the id of a key")
    whole = KEY_TEXT.fullmatch(text)
    if whole is None and text.startswith("ck_"):
        raise CommandError("this is no API key: one has 16 hexadecimal digits after ck_")
    key = hexadecimal(whole[1] if whole else text, "bad API key ID")
    async with context.client() as client:
        await client.auth.revoke_key(key)
    if context.is_json:
        output.say_json({"id": f"{key:016x}"})
    else:
        output.say(f"API key {key:016x} is revoked")


async def list_all(context: Context) -> None:
    """List the keys of a user, or of all users."""
    args = context.arguments(0, 1, "api-key list command takes a user name, or nothing")
    async with context.client() as client:
        keys = await client.auth.keys(args[0] if args else "")
    if context.is_json:
        output.say_json([output.plain(one) for one in keys])
        return
    rows = [
        (
            f"{one.key:016x}",
            one.user,
            one.role or "-",
            output.moment(one.expires_ms),
            output.moment(one.created_ms),
            one.label or "-",
        )
        for one in keys
    ]
    output.say(*output.columns(("ID", "USER", "ROLE", "EXPIRES", "CREATED", "LABEL"), rows))
