"""auth: turn authentication on and off, begin with it, log in, tell who one is."""

from __future__ import annotations

import contextlib
import secrets

from coordinator.cli import output, user
from coordinator.cli.command import BAD_ARGUMENTS, CommandError, Context, Nouns
from coordinator_sdk import AlreadyExists, Conflict
from coordinator_sdk.protocol.auth import ROOT, ROOT_ROLE_MISSING

GENERATED_BYTES = 18
_NO_ARGUMENTS = "auth {} command does not accept any arguments"


def add(nouns: Nouns) -> None:
    """Add the commands."""
    group = nouns.group("auth", "authentication: on and off, logging in, who one is")
    begin = group.command("init", init, "", "create root with a password, and turn it on")
    begin.add_argument("--generate", action="store_true", help="make a password, and print it once")
    user.add_interactive(begin)
    begin.set_defaults(asks_first=_ask_for_root)
    group.command("enable", enable, "", "turn it on")
    group.command("disable", disable, "", "turn it off: everybody may do everything")
    group.command("status", status, "", "tell whether it is on")
    group.command("login", login, "", "log in, and print the token for other programs")
    group.command("whoami", whoami, "", "tell whom the cluster takes you for")


def _ask_for_root(context: Context) -> None:
    context.arguments(0, 0, _NO_ARGUMENTS.format("init"))
    flags = context.flags
    if flags.generate:
        flags.new_password = secrets.token_urlsafe(GENERATED_BYTES)
    else:
        flags.new_password = user.new_password(ROOT, flags.interactive)


async def init(context: Context) -> None:
    """Create root and turn authentication on, in one step."""
    password = context.flags.new_password
    async with context.client() as client:
        await client.auth.init(password)
    shown = password if context.flags.generate else ""
    if context.is_json:
        output.say_json({"user": ROOT, **output.filled(password=shown)})
        return
    output.say(f"User {ROOT} created", "Authentication Enabled")
    if shown:
        output.say(f"Password of {ROOT}, shown this once: {shown}")


async def enable(context: Context) -> None:
    """Turn authentication on; root gets its role if it has none, as with etcdctl."""
    context.arguments(0, 0, _NO_ARGUMENTS.format("enable"))
    async with context.client() as client:
        try:
            await client.auth.enable()
        except Conflict as error:
            if error.message != ROOT_ROLE_MISSING:
                raise
            with contextlib.suppress(AlreadyExists):
                await client.auth.add_role(ROOT)
            await client.auth.grant_role(ROOT, ROOT)
            await client.auth.enable()
    output.say("Authentication Enabled")


async def disable(context: Context) -> None:
    """Turn authentication off."""
    context.arguments(0, 0, _NO_ARGUMENTS.format("disable"))
    async with context.client() as client:
        await client.auth.disable()
    output.say("Authentication Disabled")


async def status(context: Context) -> None:
    """Tell whether authentication is on."""
    context.arguments(0, 0, _NO_ARGUMENTS.format("status"))
    async with context.client() as client:
        found = await client.auth.status()
        if context.is_json:
            head = await output.header(client)
            told = output.filled(enabled=found.enabled, authRevision=found.auth_revision)
            output.say_json({"header": head, **told})
        else:
            enabled = str(found.enabled).lower()
            output.say(f"Authentication Status: {enabled}", f"AuthRevision: {found.auth_revision}")


async def login(context: Context) -> None:
    """Print a token; who it is of, and until when, is told beside the output."""
    context.arguments(0, 0, _NO_ARGUMENTS.format("login"))
    if context.credential is None:
        raise CommandError("auth login command needs --user", BAD_ARGUMENTS)
    async with context.client() as client:
        token, found = await client.auth.token(), await client.auth.whoami()
    if context.is_json:
        told = {"user": found.user, "token": token}
        output.say_json({**told, **output.filled(expires_ms=found.expires_ms)})
        return
    output.say(token)
    output.tell(f"token of user {found.user}, good until {output.moment(found.expires_ms)}")


async def whoami(context: Context) -> None:
    """Tell whom the cluster takes the caller for."""
    context.arguments(0, 0, _NO_ARGUMENTS.format("whoami"))
    async with context.client() as client:
        found = await client.auth.whoami()
    if context.is_json:
        output.say_json(output.plain(found))
        return
    if not found.enabled:
        output.say("authentication is off: everybody may do everything")
    if found.user:
        output.say(f"User: {found.user}", "Roles:" + "".join(f" {role}" for role in found.roles))
    if found.scope:
        output.say(f"Limited to: {found.scope}")
    if found.expires_ms:
        output.say(f"Until: {output.moment(found.expires_ms)}")
