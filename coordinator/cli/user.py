"""user: add, delete, get, list, passwd, grant-role, revoke-role, with etcdctl's output."""

from __future__ import annotations

import argparse

from coordinator.cli import credentials, output, role
from coordinator.cli.command import BAD_ARGUMENTS, CommandError, Context, Nouns, Parser


def add(nouns: Nouns) -> None:
    """Add the commands."""
    group = nouns.group("user", "users: who may come in, and with which roles")
    new = group.command("add", add_user, "<name or name:password>", "add a user")
    add_interactive(new)
    new.add_argument("--new-user-password", default="", metavar="TEXT", help="its password")
    new.add_argument(
        "--no-password", action="store_true", help="none: only a certificate or an API key"
    )
    new.add_argument(
        "--certificate-name",
        action="append",
        default=[],
        metavar="NAME",
        help="a name in certificates that stands for it; may be repeated",
    )
    new.set_defaults(asks_first=_ask_for_new, hides_args=True)
    group.command("delete", delete, "<name>", "delete a user and its API keys")
    show = group.command("get", get, "<name>", "tell the roles of a user")
    show.add_argument("--detail", action="store_true", help="also what its roles allow")
    group.command("list", list_all, "", "list the users")
    change = group.command("passwd", passwd, "<name>", "change a password")
    add_interactive(change)
    change.set_defaults(asks_first=_ask_for_change)
    group.command("grant-role", grant_role, "<name> <role>", "give a user a role")
    group.command("revoke-role", revoke_role, "<name> <role>", "take a role from a user")


def add_interactive(parser: Parser) -> None:
    """Add the flag that tells whether a password is asked for twice."""
    parser.add_argument(
        "--interactive",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="ask for the password twice; otherwise it is a line of standard input",
    )


def new_password(name: str, interactive: bool) -> str:
    """Ask for a new password.

    Args:
        name: The user.
        interactive: Whether to ask, and ask again.
    """
    if not interactive:
        password = credentials.read_line()
    else:
        password = credentials.ask(f"Password of {name}: ")
    if not password:
        raise CommandError("empty password", BAD_ARGUMENTS)
    if interactive:
        again = credentials.ask(f"Type password of {name} again for confirmation: ")
        if again != password:
            raise CommandError("given passwords are different", BAD_ARGUMENTS)
    return password


def _ask_for_new(context: Context) -> None:
    flags = context.flags
    [name] = context.arguments(1, 1, "user add command requires user name as its argument")
    password = flags.new_user_password
    if not flags.no_password and not password:
        name, colon, password = name.partition(":")
        if colon and not name:
            raise CommandError("empty user name is not allowed", BAD_ARGUMENTS)
        if not colon:
            password = new_password(name, flags.interactive)
    flags.name, flags.new_password = name, "" if flags.no_password else password


def _ask_for_change(context: Context) -> None:
    [name] = context.arguments(1, 1, "user passwd command requires user name as its argument")
    context.flags.new_password = new_password(name, context.flags.interactive)


async def add_user(context: Context) -> None:
    """Add a user."""
    flags = context.flags
    async with context.client() as client:
        await client.auth.add_user(
            flags.name,
            flags.new_password,
            no_password=flags.no_password,
            certificate_names=flags.certificate_name,
        )
        await output.told(client, context.is_json, f"User {flags.name} created")


async def delete(context: Context) -> None:
    """Delete a user."""
    [name] = context.arguments(1, 1, "user delete command requires user name as its argument")
    async with context.client() as client:
        await client.auth.delete_user(name)
        await output.told(client, context.is_json, f"User {name} deleted")


async def get(context: Context) -> None:
    """Tell the roles of a user."""
    [name] = context.arguments(1, 1, "user get command requires user name as its argument")
    async with context.client() as client:
        found = await client.auth.user(name)
        if context.flags.detail:
            output.say(f"User: {name}")
            for one in found.roles:
                output.say("")
                await role.show(context, client, one)
        elif context.is_json:
            roles = output.filled(roles=found.roles)
            output.say_json({"header": await output.header(client), **roles})
        else:
            output.say(f"User: {name}", "Roles:" + "".join(f" {one}" for one in found.roles))


async def list_all(context: Context) -> None:
    """List the users."""
    context.arguments(0, 0, "user list command requires no arguments")
    async with context.client() as client:
        users = await client.auth.users()
        if context.is_json:
            head = await output.header(client)
            output.say_json({"header": head, **output.filled(users=users)})
        else:
            output.say(*users)


async def passwd(context: Context) -> None:
    """Change a password."""
    async with context.client() as client:
        await client.auth.change_password(context.args[0], context.flags.new_password)
        await output.told(client, context.is_json, "Password updated")


async def grant_role(context: Context) -> None:
    """Give a user a role."""
    name, one = context.arguments(
        2, 2, "user grant command requires user name and role name as its argument"
    )
    async with context.client() as client:
        await client.auth.grant_role(name, one)
        await output.told(client, context.is_json, f"Role {one} is granted to user {name}")


async def revoke_role(context: Context) -> None:
    """Take a role from a user."""
    name, one = context.arguments(
        2, 2, "user revoke-role requires user name and role name as its argument"
    )
    async with context.client() as client:
        await client.auth.revoke_role(name, one)
        await output.told(client, context.is_json, f"Role {one} is revoked from user {name}")
