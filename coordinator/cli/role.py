"""role: add, delete, get, list, grant-permission, revoke-permission, with etcdctl's output."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from coordinator.cli import output
from coordinator.cli.command import BAD_ARGUMENTS, CommandError, Context, Nouns, Parser
from coordinator_sdk.auth import ACCESS
from coordinator_sdk.protocol.auth import ACTIONS, ROOT, Access, KeyPermission, RoleInfo

if TYPE_CHECKING:
    from coordinator_sdk import Client

KINDS = frozenset(action.partition(":")[0] for action in ACTIONS)
NAMED = ("lock", "service", "topic", "election")
"""What such an action is about has a name, which must be said."""
GRANT_USAGE = "<role> <read|write|readwrite> <key> [range_end] | <role> <action> [namespace name]"
REVOKE_USAGE = "<role> <key> [range_end] | <role> <action> [namespace name]"
EPILOG = "Actions are such as lock:acquire, or lock:* for all that begin so; see docs/reference."


def add(nouns: Nouns) -> None:
    """Add the commands."""
    group = nouns.group("role", "roles: what their users may do")
    group.command("add", add_role, "<role>", "add a role, which allows nothing yet")
    group.command("delete", delete, "<role>", "delete a role; whoever has it loses it")
    group.command("get", get, "<role>", "tell what a role allows")
    group.command("list", list_all, "", "list the roles")
    grant = group.command("grant-permission", grant_permission, GRANT_USAGE, "let a role do more")
    revoke = group.command("revoke-permission", revoke_permission, REVOKE_USAGE, "let it do less")
    for parser in (grant, revoke):
        _add_range_flags(parser)


def _add_range_flags(parser: Parser) -> None:
    parser.add_argument("--prefix", action="store_true", help="all keys that begin so")
    parser.add_argument("--from-key", action="store_true", help="all keys from this one on")
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter


async def add_role(context: Context) -> None:
    """Add a role."""
    [name] = context.arguments(1, 1, "role add command requires role name as its argument")
    async with context.client() as client:
        await client.auth.add_role(name)
        await output.told(client, context.is_json, f"Role {name} created")


async def delete(context: Context) -> None:
    """Delete a role."""
    [name] = context.arguments(1, 1, "role delete command requires role name as its argument")
    async with context.client() as client:
        await client.auth.delete_role(name)
        await output.told(client, context.is_json, f"Role {name} deleted")


async def list_all(context: Context) -> None:
    """List the roles."""
    context.arguments(0, 0, "role list command requires no arguments")
    async with context.client() as client:
        roles = await client.auth.roles()
        if context.is_json:
            head = await output.header(client)
            output.say_json({"header": head, **output.filled(roles=roles)})
        else:
            output.say(*roles)


# ---------------------------------------------------------------- what a role allows


async def get(context: Context) -> None:
    """Tell what a role allows."""
    [name] = context.arguments(1, 1, "role get command requires role name as its argument")
    async with context.client() as client:
        await show(context, client, name)


async def show(context: Context, client: Client, name: str) -> None:
    """Print what a role allows; nothing stands there for root, as with etcdctl."""
    found = await client.auth.role(name)
    if name == ROOT:
        found = RoleInfo(name)
    if context.is_json:
        perm = [
            output.filled(
                permType=int(one.access),
                key=output.text64(one.key),
                range_end=output.text64(one.range_end),
            )
            for one in found.keys
        ]
        domains = [output.plain(one) for one in found.domains]
        head = await output.header(client)
        output.say_json({"header": head, **output.filled(perm=perm, domains=domains)})
        return
    lines = [f"Role {name}".encode(), b"KV Read:"]
    lines += [_line(one) for one in found.keys if one.access in (Access.READ, Access.READWRITE)]
    lines.append(b"KV Write:")
    lines += [_line(one) for one in found.keys if one.access in (Access.WRITE, Access.READWRITE)]
    if found.domains:
        lines.append(b"Actions:")
        lines += [
            f"\t{one.action} {one.namespace} {one.name}".rstrip().encode() for one in found.domains
        ]
    output.write(b"".join(line + b"\n" for line in lines))


def _line(right: KeyPermission) -> bytes:
    key, end = right.key, right.range_end
    if not end:
        return b"\t" + key
    line = b"\t[%b, <open ended>" % key if end == b"\0" else b"\t[%b, %b)" % (key, end)
    return line + b" (prefix %b)" % key if key and end == _prefix_end(key) else line


def _prefix_end(key: bytes) -> bytes:
    stem = key.rstrip(b"\xff")
    return stem[:-1] + bytes((stem[-1] + 1,)) if stem else b"\0"


# ---------------------------------------------------------------- changing it


async def grant_permission(context: Context) -> None:
    """Let a role do more."""
    complaint = (
        "role grant command requires role name, permission type, and key [endkey] as its argument"
    )
    args = context.arguments(2, None, complaint)
    if ":" in args[1]:
        namespace, name = _place(context, args[1], args[2:])
        async with context.client() as client:
            await client.auth.allow(args[0], args[1], namespace, name)
            await output.told(client, context.is_json, f"Role {args[0]} updated")
        return
    context.arguments(3, None, complaint)
    access = args[1].lower()
    if access not in ACCESS:
        raise CommandError(f"invalid permission type: {args[1]}", BAD_ARGUMENTS)
    key, end = _range(context, args[2:])
    async with context.client() as client:
        await client.auth.allow_keys(args[0], access, key, range_end=end)
        await output.told(client, context.is_json, f"Role {args[0]} updated")


async def revoke_permission(context: Context) -> None:
    """Let a role do less."""
    args = context.arguments(
        2,
        None,
        "role revoke-permission command requires role name and key [endkey] as its argument",
    )
    if _is_action(args[1]):
        namespace, name = _place(context, args[1], args[2:])
        line = f"Permission {args[1]} on {name} in {namespace} is revoked from role {args[0]}"
        async with context.client() as client:
            await client.auth.disallow(args[0], args[1], namespace, name)
            await output.told(client, context.is_json, line)
        return
    key, end = _range(context, args[1:])
    what = f"key {args[1]}" if not end else f"range [{args[1]}, {_shown(end)})"
    if end == b"\0":
        what = f"range [{args[1]}, <open ended>"
    async with context.client() as client:
        await client.auth.disallow_keys(args[0], key, range_end=end)
        await output.told(
            client, context.is_json, f"Permission of {what} is revoked from role {args[0]}"
        )


def _is_action(word: str) -> bool:
    """Whether it is an action and not a key; a key of such a name is given as --prefix or range."""
    kind, colon, verb = word.partition(":")
    return bool(colon) and (verb == "*" or word in ACTIONS) and kind in KINDS


def _place(context: Context, action: str, rest: list[str]) -> tuple[str, str]:
    kind = action.partition(":")[0]
    if context.flags.prefix or context.flags.from_key:
        raise CommandError("--prefix and --from-key are for keys; end a name in *", BAD_ARGUMENTS)
    if len(rest) == 2:
        return rest[0], rest[1]
    if rest or kind in NAMED:
        raise CommandError(
            f"{action} needs a namespace and a name; '*' stands for all, 'jobs/*' for those that "
            "begin so",
            BAD_ARGUMENTS,
        )
    return "*", "*"


def _range(context: Context, keys: list[str]) -> tuple[bytes, bytes]:
    """Give key and end of a permission; every key, for an empty one."""
    prefix, from_key = context.flags.prefix, context.flags.from_key
    if prefix and from_key and (len(keys) == 1 or not keys[0]):
        raise CommandError("--from-key and --prefix flags are mutually exclusive", BAD_ARGUMENTS)
    if not keys[0]:
        return b"\0", b"\0" if prefix or from_key else b""
    key = _bytes(keys[0])
    if len(keys) == 1:
        return key, _prefix_end(key) if prefix else b"\0" if from_key else b""
    for flag, is_set in (("--prefix", prefix), ("--from-key", from_key)):
        if is_set:
            raise CommandError(f"unexpected endkey argument with {flag} flag", BAD_ARGUMENTS)
    return key, _bytes(keys[1])


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _shown(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
