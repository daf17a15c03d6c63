"""lock: hold a fair, fenced lock, alone or while a command runs; see who holds what.

`lock NAME` takes the lock called NAME. The words `ls`, `show`, `release` and `force-release`
directly after `lock` are commands; a lock of such a name is taken with `lock --name ls`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from coordinator.cli import output, recipe, tables
from coordinator.cli.child import Child, loss_flags
from coordinator.cli.command import (
    BAD_ARGUMENTS,
    CommandError,
    Context,
    Nouns,
    seconds,
)

if TYPE_CHECKING:
    from coordinator_sdk import Client, Lock, LockInfo

WORDS = ("ls", "show", "release", "force-release")
TOKEN_VARIABLE = "COORD_LOCK_TOKEN"


def add(nouns: Nouns) -> None:
    """Add the commands."""
    summary = "hold a lock, alone or while a command runs; ls, show, release"
    parser = nouns.command("lock", hold, "<name> [[--] command [arguments]]", summary, 1)
    parser.epilog = (
        "`lock ls [prefix]` lists the locks that are held, `lock show <name>` tells the holder and "
        "the queue, `lock force-release <name> --reason <why>` takes it from its holder. A lock "
        "called ls, show, release or force-release is taken with `lock --name`. With "
        "ETCDCTL_API=3 in the environment the lock is a key, as with etcdctl, and the exit code 1 "
        "if the command fails."
    )
    add_flag = parser.add_argument
    add_flag("--name", help="name of the lock; all arguments are then the command")
    add_flag("--ttl", type=seconds, default=10.0, help="seconds that it outlives this process")
    add_flag("--timeout", type=seconds, help="how long to wait for it; for ever unless given")
    add_flag("--reason", default="", help="why it is taken, for operators")
    loss_flags(parser)
    parser.add_word("ls", list_held, "[prefix]").set_defaults(
        formats=tables.FORMATS, reads_past=True
    )
    parser.add_word("show", show, "<name>").set_defaults(reads_past=True)
    for word in ("release", "force-release"):
        release_flag = parser.add_word(word, release, "<name> --reason <why>").add_argument
        release_flag("--reason", default="", help="for the holder and for the record")


# ---------------------------------------------------------------- holding


async def hold(context: Context) -> int | None:
    """Take a lock; hold it until a signal, or for as long as a command runs."""
    args, flags = context.args, context.flags
    name = flags.name
    if name is None:
        if not args or context.dashed == 0:
            raise CommandError(
                "lock takes a lock name argument and an optional command to execute",
                BAD_ARGUMENTS,
            )
        name, *args = args
        if name in WORDS:
            raise CommandError(
                f"`{name}` is a command only directly after `lock`; "
                f"a lock of that name is taken with `lock --name {name}`",
                BAD_ARGUMENTS,
            )
    async with context.client() as client:
        if recipe.is_wanted():
            return await recipe.lock(context, client, name, args)
        lock = client.locks.lock(name, timeout=flags.timeout, ttl=flags.ttl, reason=flags.reason)
        await lock.acquire()
        if args:
            return await run_holding(context, lock, args)
        return await wait_holding(context, lock)


async def wait_holding(context: Context, lock: Lock) -> int | None:
    """Print the lock's key as etcdctl does, and hold it until a signal comes."""
    signals = context.signals.catch()
    if context.is_json:
        assert lock.session is not None
        facts = {"name": lock.name, "token": lock.token, "session": f"{lock.session.id:016x}"}
        output.say_json(facts)
    else:
        output.say(key_of(lock), "")
        output.tell(f"holding lock {lock.name!r} with fencing token {lock.token}; Ctrl-C releases")
    ending = asyncio.ensure_future(signals.get())
    losing = asyncio.ensure_future(lock.lost.wait())
    await asyncio.wait({ending, losing}, return_when=asyncio.FIRST_COMPLETED)
    ending.cancel()
    losing.cancel()
    if lock.lost.is_set():
        raise CommandError(f"lock {lock.name!r} was lost: {lock.reason_lost}")
    await lock.release()
    return None


async def run_holding(context: Context, lock: Lock, command: list[str]) -> int:
    """Run a command while the lock is held; stop it if the lock is lost."""
    flags = context.flags
    environment = {
        TOKEN_VARIABLE: str(lock.token),
        "COORD_LOCK_NAME": lock.name,
        "ETCD_LOCK_KEY": key_of(lock),
        "ETCD_LOCK_REV": str(lock.token),
    }
    child = await Child.start(command, environment)
    code = await child.wait_while_held(
        context, lock.lost, lambda: f"lock {lock.name!r} was lost: {lock.reason_lost}"
    )
    if lock.lost.is_set():
        what = "went on without it" if flags.on_lost == "ignore" else "was stopped"
        raise CommandError(f"lock {lock.name!r} was lost, {command[0]!r} {what}")
    await lock.release()
    if code:
        output.tell(f"Error: exit status {code}")
    return code


def key_of(lock: Lock) -> str:
    """Name a hold as etcdctl does: the lock and the session."""
    assert lock.session is not None
    return f"{lock.name}/{lock.session.id:x}"


# ---------------------------------------------------------------- looking


async def list_held(context: Context) -> None:
    """List the locks that are held."""
    prefix = (context.arguments(0, 1, "lock ls takes at most a prefix") or [""])[0]
    async with context.client() as client:
        locks = await client.locks.list(prefix, revision=context.revision)
        rows = [
            (lock.name, lock.holder.token, _who(lock), output.since(lock.holder.since_ms))
            + (lock.waiting, lock.holder.reason)
            for lock in locks
            if lock.holder is not None
        ]
        titles = ("LOCK", "TOKEN", "HOLDER", "SINCE", "WAITING", "REASON")
        tables.show(context, titles, rows, locks)


async def show(context: Context) -> None:
    """Tell who holds a lock and who waits for it, in order."""
    name = context.arguments(1, 1, "lock show takes a lock name")[0]
    async with context.client() as client:
        lock = await client.locks.get(name, revision=context.revision)
        if context.is_json:
            output.say_json(output.plain(lock))
            return
        if lock.holder is None:
            output.say(f"{output.clean(lock.name)} is free")
            return
        held = lock.holder
        output.say(
            f"{output.clean(lock.name)} is held by {output.clean(_who(lock))}, owner "
            f"{output.clean(held.owner)}, token {held.token}, for {output.since(held.since_ms)}"
        )
        for place, one in enumerate(lock.queue, 1):
            who = output.process(one.application, one.host, one.pid)
            output.say(
                f"  {place}. {output.clean(who)}, owner {output.clean(one.owner)}, "
                f"waiting for {output.since(one.since_ms)}"
            )
        if lock.waiting > len(lock.queue):
            output.say(f"  and {lock.waiting - len(lock.queue)} more")


async def release(context: Context) -> None:
    """Take a lock from its holder."""
    name = context.arguments(1, 1, "lock release takes a lock name")[0]
    if not context.flags.reason:
        raise CommandError("lock release needs --reason, which the holder is told", BAD_ARGUMENTS)
    async with context.client() as client:
        result = await _force(client, name, context.flags.reason)
        if context.is_json:
            output.say_json({"name": name, "revision": result})
        else:
            output.say(f"lock {output.clean(name)} released")


async def _force(client: Client, name: str, reason: str) -> int:
    return (await client.locks.force_release(name, reason)).revision


def _who(lock: LockInfo) -> str:
    held = lock.holder
    return "-" if held is None else output.process(held.application, held.host, held.pid)
