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
PROGRESS = "progress"


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
        await Following(context, client, wanted).follow()
    return None


class Following:
    """One watch that is printed.

    Args:
        context: What was asked for.
        client: The client.
        wanted: What is watched.
    """

    def __init__(self, context: Context, client: Client, wanted: Wanted) -> None:
        self._context = context
        self._client = client
        self._wanted = wanted
        self._arrived: asyncio.Queue[KeyEvent | int] = asyncio.Queue(4096)
        """Events, and between them revisions up to which everything has come."""
        self._is_open = asyncio.Event()
        self._watch = client.kv.watch(
            wanted.key,
            range_end=wanted.end or None,
            start_revision=wanted.revision,
            prev_kv=wanted.prev_kv,
        )

    async def follow(self) -> None:
        """Print events for ever; those that came together are printed together."""
        receiving = asyncio.create_task(self._receive())
        try:
            while True:
                events: list[KeyEvent] = []
                for item in await self._batch(receiving):
                    if isinstance(item, KeyEvent):
                        events.append(item)
                        continue
                    await self._print(events)
                    events = []
                    await self._print_progress(item)
                await self._print(events)
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
            await self._watch.close()

    async def tell_progress(self) -> None:
        """Have it printed up to which revision everything has come, behind what has come."""
        await self._is_open.wait()
        revision = await self._watch.progress()
        while self._watch.unread:  # noqa: ASYNC110 - whoever prints is slower than the cluster
            await asyncio.sleep(0.01)
        await self._arrived.put(revision)

    async def _receive(self) -> None:
        await self._watch.open()
        self._is_open.set()
        async for event in self._watch:
            await self._arrived.put(event)

    async def _batch(self, receiving: asyncio.Task[None]) -> list[KeyEvent | int]:
        """Wait for an item, and take with it what has arrived already."""
        arrived, batch = self._arrived, []
        if arrived.empty():
            first = asyncio.ensure_future(arrived.get())
            try:
                await asyncio.wait({first, receiving}, return_when=asyncio.FIRST_COMPLETED)
                if not first.done():
                    receiving.result()  # raises what ended the watch
                    raise CommandError("the watch has ended", CANCELLED)
                batch = [first.result()]
            finally:
                first.cancel()
        while not arrived.empty():
            batch.append(arrived.get_nowait())
        return batch

    async def _print(self, batch: list[KeyEvent]) -> None:
        if not batch:
            return
        context = self._context
        if context.write_out == "simple":
            output.write(b"".join(output.event_lines(event, context.hex) for event in batch))
        else:
            await self._print_answer(batch[-1].revision, batch)
        if self._wanted.command:
            for event in batch:
                await _execute(self._wanted.command, event)

    async def _print_progress(self, revision: int) -> None:
        output.say(f"progress notify: {revision}")
        if self._context.write_out != "simple":
            await self._print_answer(revision, [])

    async def _print_answer(self, revision: int, batch: list[KeyEvent]) -> None:
        """Print events as the answer that etcd would have given."""
        head = await output.header(self._client, revision)
        if self._context.write_out == "fields":
            told = [line for event in batch for line in fields.event_lines(event)]
            output.say(*fields.head_lines(head), *told)
            return
        output.say_json(
            {
                "Header": head,
                "Events": [output.event_json(event) for event in batch],
                "CompactRevision": 0,
                "Canceled": False,
                "Created": False,
            }
        )


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
    """Read lines such as ``watch --prefix foo/`` and follow all of them at once.

    ``progress`` asks every watch how far it has come.
    """
    watches: set[asyncio.Task[None]] = set()
    followings: list[Following] = []
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
                    watches.discard(ended)
                    ended.result()
                if not reading.done():
                    continue
                line = reading.result()
                if not line:
                    return BAD_INPUT if not followings else await _all(watches)
                one = _line(context, line.decode("utf-8", "surrogateescape").strip())
                if one == PROGRESS:
                    watches |= {asyncio.create_task(each.tell_progress()) for each in followings}
                elif isinstance(one, Wanted):
                    followings.append(Following(context, client, one))
                    watches.add(asyncio.create_task(followings[-1].follow()))
                reading = asyncio.ensure_future(reader.readline())
        finally:
            reading.cancel()
            for task in watches:
                task.cancel()
            await asyncio.gather(*watches, return_exceptions=True)
            transport.close()


async def _all(watches: set[asyncio.Task[None]]) -> int | None:
    """The input has ended: go on with the watches there are."""
    await asyncio.gather(*watches)
    return None


def _line(context: Context, line: str) -> Wanted | str | None:
    """Read what was typed: a watch, or `PROGRESS`; what makes no sense is said."""
    found = words(line)
    if not found:
        return None
    if found == [PROGRESS]:
        return PROGRESS
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
