"""member and move-leader: the members of the cluster, with etcdctl's output."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from coordinator.cli import fields, output, tables
from coordinator.cli.command import BAD_ARGUMENTS, CommandError, hexadecimal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordinator.cli.command import Context, Nouns
    from coordinator_sdk import Client
    from coordinator_sdk.protocol.cluster import MemberChangeResult, MemberInfo

TITLES = ("ID", "STATUS", "NAME", "PEER ADDRS", "CLIENT ADDRS", "IS LEARNER")
_PEER_URLS = "where the other members reach it: URLs, by commas"


def add(nouns: Nouns) -> None:
    """Add the commands."""
    group = nouns.group("member", "members of the cluster")
    group.command("list", list_all, "", "list the members").set_defaults(formats=tables.FORMATS)
    parser = group.command("add", add_one, "NAME", "add a member, before it is started")
    parser.add_argument("--peer-urls", metavar="URLS", default="", help=_PEER_URLS)
    parser.add_argument(
        "--learner",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="whether it counts for no quorum until it is promoted; the default",
    )
    parser.add_argument(
        "--promote", action="store_true", help="make a voter of it once it has caught up"
    )
    group.command("remove", remove, "ID", "remove a member for good")
    group.command("promote", promote, "ID", "make a voter of a learner that has caught up")
    parser = group.command("update", update, "ID", "change the peer URLs of a member")
    parser.add_argument("--peer-urls", metavar="URLS", default="", help=_PEER_URLS)
    nouns.command("move-leader", move_leader, "ID", "hand leadership over to a member")


async def list_all(context: Context) -> None:
    """List the members."""
    context.arguments(0, 0, "member list takes no argument")
    async with context.client() as client:
        members = await client.cluster.members()
        if context.is_json:
            head = await _header(client)
            output.say_json({"header": head, "members": [_json(one) for one in members]})
        elif context.write_out == "fields":
            found = [line for one in members for line in _fields(one)]
            output.say(*fields.head_lines(await _header(client)), *found)
        elif context.write_out == "table":
            output.say(*tables.boxed(TITLES, map(_row, members)))
        else:
            output.say(*(", ".join(_row(one)) for one in members))


async def add_one(context: Context) -> None:
    """Add a member, and tell how to start it."""
    if len(context.args) > 1:
        meant = "".join(f", did you mean --peer-urls={url}" for url in context.args if "/" in url)
        raise CommandError(f"too many arguments{meant}", BAD_ARGUMENTS)
    [name] = context.arguments(1, 1, "member name not provided")
    urls = _peer_urls(context)
    flags = context.flags
    if flags.promote and not flags.learner:
        raise CommandError("--promote: only a learner is promoted", BAD_ARGUMENTS)
    async with context.client() as client:
        result = await client.cluster.add_member(
            urls, learner=flags.learner, promote_when_ready=flags.promote
        )
        head = await _header(client)
    new = result.member
    if context.is_json:
        members = [_json(one) for one in result.members]
        output.say_json({"header": head, "member": _json(new), "members": members})
        return
    names = {one.member: name if one.member == new.member else one.name for one in result.members}
    cluster = ",".join(
        f"{names[one.member]}={url}" for one in result.members for url in one.peer_urls
    )
    output.say(
        f"Member {new.member:16x} added to cluster {head['cluster_id']:16x}",
        "",
        f"ETCD_NAME={_quoted(name)}",
        f"ETCD_INITIAL_CLUSTER={_quoted(cluster)}",
        f"ETCD_INITIAL_ADVERTISE_PEER_URLS={_quoted(','.join(new.peer_urls))}",
        'ETCD_INITIAL_CLUSTER_STATE="existing"',
    )


async def remove(context: Context) -> None:
    """Remove a member."""
    member = _member(context)
    async with context.client() as client:
        await _told(context, client, await client.cluster.remove_member(member), "removed from")


async def promote(context: Context) -> None:
    """Make a voter of a learner."""
    member = _member(context)
    async with context.client() as client:
        await _told(context, client, await client.cluster.promote_member(member), "promoted in")


async def update(context: Context) -> None:
    """Change the peer URLs of a member."""
    member, urls = _member(context), _peer_urls(context)
    async with context.client() as client:
        result = await client.cluster.update_member(member, urls)
        await _told(context, client, result, "updated in")


async def move_leader(context: Context) -> None:
    """Hand leadership over."""
    [text] = context.arguments(1, 1, "move-leader command needs 1 argument")
    target = hexadecimal(text, "bad member ID arg", "ParseUint")
    async with context.client() as client:
        moved = await client.cluster.move_leader(target)
        if context.is_json:
            output.say_json({"header": await _header(client)})
        else:
            output.say(f"Leadership transferred from {moved.former:x} to {moved.leader:x}")


async def _told(context: Context, client: Client, result: MemberChangeResult, what: str) -> None:
    head = await _header(client)
    if context.is_json:
        output.say_json({"header": head, "members": [_json(one) for one in result.members]})
    else:
        output.say(f"Member {result.member.member:16x} {what} cluster {head['cluster_id']:16x}")


async def _header(client: Client) -> dict[str, int]:
    head = await output.header(client)
    del head["revision"]  # as in etcd: members have none
    return head


def _row(one: MemberInfo) -> tuple[str, ...]:
    started = "started" if one.is_started else "unstarted"
    learner = "true" if one.is_learner else "false"
    urls = ",".join(one.peer_urls), ",".join(one.client_urls)
    return f"{one.member:x}", started, output.clean(one.name), *urls, learner


def _fields(one: MemberInfo) -> list[str]:
    return [
        *fields.lines(ID=one.member, Name=one.name),
        *(fields.line("PeerURL", url) for url in one.peer_urls),
        *(fields.line("ClientURL", url) for url in one.client_urls),
        fields.line("IsLearner", one.is_learner),
        "",
    ]


def _json(one: MemberInfo) -> dict[str, Any]:
    return output.filled(
        ID=one.member,
        name=one.name,
        peerURLs=one.peer_urls,
        clientURLs=one.client_urls,
        isLearner=one.is_learner,
    )


def _member(context: Context) -> int:
    [text] = context.arguments(1, 1, "member ID is not provided")
    return hexadecimal(text, "bad member ID arg", "ParseUint")


def _peer_urls(context: Context) -> Sequence[str]:
    urls = [url.strip() for url in context.flags.peer_urls.split(",") if url.strip()]
    if not urls:
        raise CommandError("member peer urls not provided", BAD_ARGUMENTS)
    for url in urls:
        if urlsplit(url).scheme not in ("http", "https"):
            raise CommandError(f"URL scheme must be http, https, unix, or unixs: {url}")
    return urls


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
