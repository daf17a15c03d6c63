"""make-mirror: keep a copy of keys in another cluster."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from coordinator.cli import kv, output
from coordinator.cli.command import BAD_ARGUMENTS, CommandError, whole
from coordinator_sdk import Client, Event, Password
from coordinator_sdk.credentials import TLS
from coordinator_sdk.errors import ConnectFailed, OutcomeUnknown, Unavailable
from coordinator_sdk.protocol.kv import Delete, Put

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordinator.cli.command import Context, Nouns

PAGE_KEYS = 1000
TELL_SECONDS = 30.0
RETRY_SECONDS = 1.0
QUEUE_EVENTS = 4096

Op = Put | Delete


def add(nouns: Nouns) -> None:
    """Add the command."""
    summary = "copy keys to another cluster, and go on with every change"
    add_flag = nouns.command("make-mirror", mirror, "<destination>", summary).add_argument
    add_flag("--prefix", default="", help="only keys that begin with it")
    add_flag("--dest-prefix", default="", help="takes the place of the prefix")
    add_flag("--no-dest-prefix", action="store_true", help="leave the prefix out")
    add_flag("--rev", type=whole, default=0, help="go on with the changes after this revision")
    add_flag("--max-txn-ops", type=whole, default=128, help="keys written at once")
    for name in ("cacert", "cert", "key", "user", "password"):
        add_flag(f"--dest-{name}", default="", help=f"as --{name}, of the destination")
    add_flag("--dest-insecure-transport", nargs="?", const="true", default="true", help="http")


@dataclass
class Mirror:
    """A copy in the making.

    Attributes:
        target: Where it goes.
        prefix: What the keys begin with here.
        instead: What they begin with there.
        most: Keys written at once.
        copied: How many changes have been copied.
    """

    target: Client
    prefix: bytes
    instead: bytes
    most: int
    copied: int = 0

    def key(self, key: bytes) -> bytes:
        """Give the name that a key has there."""
        return self.instead + key[len(self.prefix) :]

    def of_event(self, event: Event) -> Op:
        """Give what an event asks for there."""
        key = self.key(event.key)
        return Put(key, event.value) if event.is_put else Delete(key)

    async def write(self, ops: Sequence[Op]) -> None:
        """Write there, again and again until it is done; all of it can be done twice."""
        for at in range(0, len(ops), self.most):
            part = ops[at : at + self.most]
            while True:
                try:
                    await self.target.kv.txn((), part)
                    break
                except (ConnectFailed, OutcomeUnknown, Unavailable) as error:
                    output.tell(f"the destination cannot be written to, trying on: {error}")
                    await asyncio.sleep(RETRY_SECONDS)
            self.copied += len(part)


async def mirror(context: Context) -> None:
    """Copy until a signal comes."""
    flags = context.flags
    (destination,) = context.arguments(1, 1, "make-mirror takes one destination argument")
    if flags.dest_prefix and flags.no_dest_prefix:
        raise CommandError(
            "`--dest-prefix` and `--no-dest-prefix` cannot be set at the same time, choose one",
            BAD_ARGUMENTS,
        )
    if flags.max_txn_ops < 1:
        raise CommandError("--max-txn-ops: must be positive", BAD_ARGUMENTS)
    prefix = kv.encode(flags.prefix)
    instead = b"" if flags.no_dest_prefix else kv.encode(flags.dest_prefix) or prefix
    is_tls = flags.dest_cacert or flags.dest_cert or flags.dest_insecure_transport == "false"
    if is_tls and "://" not in destination:
        destination = f"https://{destination}"
    target = Client(
        destination,
        tls=TLS(flags.dest_cacert or None, flags.dest_cert or None, flags.dest_key or None),
        auth=Password(flags.dest_user, flags.dest_password) if flags.dest_user else None,
        connect_timeout=context.dial_timeout,
        timeout=context.command_timeout,
    )
    async with context.client() as source, target:
        made = Mirror(target, prefix, instead, flags.max_txn_ops)
        telling = asyncio.create_task(_tell(made))
        try:
            revision = flags.rev or await _copy(source, made)
            await _follow(source, made, revision)
        finally:
            telling.cancel()


async def _tell(made: Mirror) -> None:
    begun = time.monotonic()
    for number in range(1, 1 << 62):
        await asyncio.sleep(max(begun + number * TELL_SECONDS - time.monotonic(), 0))
        output.say(str(made.copied))


async def _copy(source: Client, made: Mirror) -> int:
    """Copy everything there is; gives the revision it was read at."""
    key, end = kv.bounds([made.prefix.decode("utf-8", "surrogateescape")], True, False)
    revision = 0
    while True:
        page = await source.kv.range(key, range_end=end, limit=PAGE_KEYS, revision=revision)
        revision = revision or page.revision
        await made.write([Put(made.key(one.key), one.value) for one in page.kvs])
        if not page.more:
            return revision
        key = page.kvs[-1].key + b"\0"


async def _follow(source: Client, made: Mirror, revision: int) -> None:
    """Copy every change after a revision; changes of one revision are written together."""
    events: asyncio.Queue[Event] = asyncio.Queue(QUEUE_EVENTS)

    async def receive() -> None:
        watch = source.kv.watch(prefix=made.prefix, start_revision=revision + 1, resync=True)
        async with watch:
            async for event in watch:
                await events.put(event)

    receiving = asyncio.create_task(receive())
    receiving.add_done_callback(lambda _: waiting.cancel())
    waiting = asyncio.ensure_future(events.get())
    try:
        while True:
            try:
                group = [await waiting]
            except asyncio.CancelledError:
                if receiving.done():
                    receiving.result()  # Tells what ended the watch.
                raise
            await asyncio.sleep(0)  # The rest of the revision has come with it.
            while not events.empty():
                event = events.get_nowait()
                if event.revision != group[-1].revision:
                    await made.write([made.of_event(one) for one in group])
                    group = []
                group.append(event)
            waiting = asyncio.ensure_future(events.get())
            await made.write([made.of_event(one) for one in group])
    finally:
        receiving.cancel()
        waiting.cancel()
        await asyncio.gather(receiving, return_exceptions=True)
