"""compaction, alarm, defrag: what keeps a cluster healthy, with etcdctl's output."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordinator.cli import endpoint, fields, output
from coordinator.cli.command import BAD_ARGUMENTS, ERROR, CommandError
from coordinator_sdk import CoordinatorError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordinator.cli.command import Context, Nouns
    from coordinator_sdk import Client
    from coordinator_sdk.protocol.maintenance import Alarm

FORMATS = ("simple", "fields", "json")
_NUMBERS = {"NOSPACE": 1, "CORRUPT": 2}


def add(nouns: Nouns) -> None:
    """Add the commands."""
    one = nouns.command("compaction", compact, "<revision>", "forget the history below a revision")
    one.add_argument("--physical", action="store_true", help="wait until the space is free")
    group = nouns.group("alarm", "alarms: what members cannot go on with as they should")
    group.command("list", list_alarms, "", "list the alarms")
    group.command("disarm", disarm, "", "end all alarms; what lasts is raised again")
    for parser in group.parsers:
        parser.set_defaults(formats=FORMATS)
    one = nouns.command("defrag", defragment, "", "ask each endpoint to give unused space back")
    endpoint.cluster_flag(one)
    one.add_argument("--data-dir", default="", metavar="DIR", help="not offered: needs no care")


async def compact(context: Context) -> None:
    """Forget the history below a revision."""
    (text,) = context.arguments(1, 1, "compaction command needs 1 argument")
    try:
        revision = int(text)
    except ValueError:
        raise CommandError(f"bad revision {text!r}: a whole number is meant", ERROR) from None
    async with context.client() as client:
        await client.kv.compact(revision, physical=context.flags.physical)
    if context.is_json:
        output.say_json({"revision": revision})
    else:
        output.say(f"compacted revision {revision}")


async def list_alarms(context: Context) -> None:
    """List the alarms."""
    context.arguments(0, 0, "alarm list command accepts no arguments")
    async with context.client() as client:
        await _tell(context, client, await client.cluster.alarms())


async def disarm(context: Context) -> None:
    """End all alarms."""
    context.arguments(0, 0, "alarm disarm command accepts no arguments")
    async with context.client() as client:
        await _tell(context, client, await client.cluster.disarm())


async def _tell(context: Context, client: Client, alarms: Sequence[Alarm]) -> None:
    if context.write_out == "simple":
        output.say(*(f"memberID:{one.member} alarm:{one.alarm} " for one in alarms))
        return
    head = await output.header(client)
    if context.is_json:
        told = [{"memberID": one.member, "alarm": _NUMBERS[one.alarm]} for one in alarms]
        output.say_json({"header": head, **output.filled(alarms=told)})
        return
    output.say(*fields.head_lines(head))
    for one in alarms:
        output.say(*fields.lines(MemberID=one.member), f'"AlarmType" : {one.alarm}', "")


async def defragment(context: Context) -> int:
    """Ask each endpoint to give unused space back, which members do by themselves."""
    context.arguments(0, 0, "defrag takes no argument")
    if context.flags.data_dir:
        raise CommandError(
            "--data-dir: a data directory needs no defragmenting; its pages are used again",
            BAD_ARGUMENTS,
        )
    endpoints = await endpoint.endpoints_of(context)
    failed = 0
    asked = await endpoint.of_each(context, endpoints, lambda client: client.cluster.status())
    for url, answer in asked:
        if isinstance(answer, CoordinatorError):
            failed = ERROR
            output.tell(f"Failed to defragment etcd member[{url}] ({answer})")
        else:
            output.say(f"Finished defragmenting etcd member[{url}]")
    return failed
