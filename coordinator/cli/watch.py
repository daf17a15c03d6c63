"""watch: the changes of keys, with etcdctl's output."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from dataclasses import dataclass

from coordinator.cli import fields, kv, output
from coordinator.cli.child import Child
from coordinator.cli.command import (
    BAD_ARGUMENTS,
    BAD_INPUT,
    CommandError,
    Context,
    Nouns,
    Parser,
    whole,
)
from coordinator.cli.txn import words
from coordinator_sdk import Client, Compacted, CoordinatorError
from coordinator_sdk import Event as KeyEvent

CANCELLED = 5


@dataclass(frozen=True)
class Wanted:
    """What one watch follows, and what it runs for each event."""

    key: bytes
    end: bytes
    revision: int
    prev_kv: bool
    command: list[str]


def add(nouns: Nouns) -> None:
    """Add the command."""
    usage = "<key> [range_end] [-- command [arguments]]"
    parser = nouns.command("watch", run, usage, "follow the changes of a key or range of keys", 0)
    watch_flags(parser)
    parser.set_defaults(formats=("simple", "fields", "json"))
    parser.add_argument(
        "-i", "--interactive", action="store_true", help="read watches from standard input"
    )


def watch_flags(parser: Parser) -> None:
    """Add the flags of a single watch."""
    add_flag = parser.add_argument
    add_flag("--prefix", action="store_true", help="all keys that begin with the key")
    add_flag("--from-key", action="store_true", help="all keys from the key on")
    add_flag("--prev-kv", action="store_true", help="also print the record as it was before")
    add_flag("--rev", type=whole, default=0, help="begin with this revision")


def wanted_of(context: Context) -> Wanted:
    """Read the arguments; key and range end may come from the environment."""
    args, flags = context.args, context.flags
    dashed = len(args) if context.dashed is None else context.dashed
    keys, command = args[:dashed], args[dashed:]
    if context.dashed is not None and not command:
        raise CommandError("empty command argument given", BAD_ARGUMENTS)
    if not keys:
        keys = _environment()
    if not 1 <= len(keys) <= 2:
        raise CommandError("bad number of arguments", BAD_ARGUMENTS)
    key, end = kv.bounds(keys, flags.prefix, flags.from_key)
    return Wanted(key, end, max(flags.rev, 0), flags.prev_kv, command)


def _environment() -> list[str]:
    for prefix in ("COORDCTL", "ETCDCTL"):
        key = os.environ.get(f"{prefix}_WATCH_KEY", "")
        if key:
            end = os.environ.get(f"{prefix}_WATCH_RANGE_END", "")
            return [key, end] if end else [key]
    return []


async def run(context: Context) -> int | None:
    """Watch until a signal comes."""
    if context.flags.interactive:
        return await interactive(context)
    wanted = wanted_of(context)
    async with context.client() as client:
        return await follow(context, client, wanted)


async def follow(context: Context, client: Client, wanted: Wanted) -> int | None:
    """Print events for ever; those that came together are printed together."""
    events: asyncio.Queue[KeyEvent] = asyncio.Queue(4096)
    watch = client.kv.watch(
        wanted.key,
        range_end=wanted.end or None,
        start_revision=wanted.revision,
        prev_kv=wanted.prev_kv,
    )

    async def receive() -> None:
        async for event in watch:
            await events.put(event)

    receiving = asyncio.create_task(receive())
    try:
        while True:
            batch = await _batch(events, receiving)
            await _print(context, client, wanted, batch)
    except Compacted as error:
        output.tell(f"watch was canceled ({error})")
        raise CommandError(
            f"{error}; begin at {error.details.get('compact_revision', 'a later revision')}",
            CANCELLED,
        ) from None
    finally:
        receiving.cancel()
        with contextlib.suppress(asyncio.CancelledError, CoordinatorError):
            await receiving
        await watch.close()


async def _batch(events: asyncio.Queue[KeyEvent], receiving: asyncio.Task[None]) -> list[KeyEvent]:
    """Wait for an event, and take with it what has arrived already."""
    if events.empty():
        first = asyncio.ensure_future(events.get())
        try:
            await asyncio.wait({first, receiving}, return_when=asyncio.FIRST_COMPLETED)
            if not first.done():
                receiving.result()  # raises what ended the watch
                raise CommandError("the watch has ended", CANCELLED)
            batch = [first.result()]
        finally:
            first.cancel()
    else:
        batch = []
    while not events.empty():
        batch.append(events.get_nowait())
    return batch


async def _print(context: Context, client: Client, wanted: Wanted, batch: list[KeyEvent]) -> None:
    if context.write_out == "fields":
        head = await output.header(client, batch[-1].revision)
        told = [line for event in batch for line in fields.event_lines(event)]
        output.say(*fields.head_lines(head), *told)
    elif context.is_json:
        head = await output.header(client, batch[-1].revision)
        line = {
            "Header": head,
            "Events": [output.event_json(event) for event in batch],
            "CompactRevision": 0,
            "Canceled": False,
            "Created": False,
        }
        output.say_json(line)
    else:
        output.write(b"".join(output.event_lines(event, context.hex) for event in batch))
    if wanted.command:
        for event in batch:
            await _execute(wanted.command, event)


async def _execute(command: list[str], event: KeyEvent) -> None:
    environment = {
        "ETCD_WATCH_REVISION": str(event.revision),
        "ETCD_WATCH_EVENT_TYPE": fields.quoted(b"PUT" if event.is_put else b"DELETE"),
        "ETCD_WATCH_KEY": fields.quoted(event.key),
        "ETCD_WATCH_VALUE": fields.quoted(event.value),
    }
    child = await Child.start(command, environment)
    code = await child.wait()
    if code:
        raise CommandError(f"command {command[0]!r} failed with exit status {code}")


# ---------------------------------------------------------------- interactive


async def interactive(context: Context) -> int | None:
    """Read lines such as ``watch --prefix foo/`` and follow all of them at once."""
    watches: set[asyncio.Task[int | None]] = set()
    async with context.client() as client:
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
        )
        reading = asyncio.ensure_future(reader.readline())
        try:
            while True:
                await asyncio.wait({reading, *watches}, return_when=asyncio.FIRST_COMPLETED)
                for ended in [task for task in watches if task.done()]:
                    ended.result()
                if not reading.done():
                    continue
                line = reading.result()
                if not line:
                    return BAD_INPUT if not watches else await _all(watches)
                one = _line(context, line.decode("utf-8", "surrogateescape").strip())
                if one is not None:
                    watches.add(asyncio.create_task(follow(context, client, one)))
                reading = asyncio.ensure_future(reader.readline())
        finally:
            reading.cancel()
            for task in watches:
                task.cancel()
            await asyncio.gather(*watches, return_exceptions=True)
            transport.close()


async def _all(watches: set[asyncio.Task[int | None]]) -> int | None:
    """The input has ended: go on with the watches there are."""
    await asyncio.gather(*watches)
    return None


def _line(context: Context, line: str) -> Wanted | None:
    found = words(line)
    if not found:
        return None
    if found == ["progress"]:
        output.tell("progress notices are not supported yet")
        return None
    if found[0] != "watch":
        output.tell(f"Invalid command {line!r} (only support watch)")
        return None
    parser = Parser(prog="watch", add_help=False, allow_abbrev=False)
    watch_flags(parser)
    try:
        flags, _ = parser.parse_known_args(found[1:])
        one = Context(**{**vars(context), "flags": flags, "args": flags.args})
        one.dashed = flags.dashed
        return wanted_of(one)
    except CommandError as error:
        output.tell(f"Invalid command {line!r} ({error})")
        return None
