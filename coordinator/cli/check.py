"""check: whether a cluster carries a load, measured as etcdctl does."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import re
import time
import urllib.request
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from coordinator.cli import kv, output
from coordinator.cli.command import ERROR, CommandError
from coordinator.cli.progress import bar
from coordinator_sdk import Client, CoordinatorError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from coordinator.cli.command import Context, Nouns

DURATION_SECONDS = 60
KEY_BYTES, VALUE_BYTES = 256, 1024
SLOWEST_SECONDS, DEVIATION_SECONDS, SHARE = 0.5, 0.1, 0.9
KEYS_PER_DELETE = 10_000
_RESIDENT = re.compile(rb"^process_resident_memory_bytes (\S+)", re.MULTILINE)


@dataclass(frozen=True)
class Load:
    """A workload: so many clients write ``amount`` keys, a second or in all."""

    amount: int
    clients: int


PERF = {
    "s": Load(150, 50),
    "m": Load(1000, 200),
    "l": Load(8000, 500),
    "xl": Load(15_000, 1000),
}
DATASCALE = {
    "s": Load(10_000, 50),
    "m": Load(100_000, 200),
    "l": Load(1_000_000, 500),
    "xl": Load(3_000_000, 1000),
}
_NAMES = {"small": "s", "medium": "m", "large": "l", "xlarge": "xl"}


def add(nouns: Nouns) -> None:
    """Add the commands."""
    group = nouns.group("check", "checks: whether a cluster carries a load")
    one = group.command("perf", perf, "", "write for a minute; tell rate and latency")
    one.add_argument("--prefix", default="/etcdctl-check-perf/", help="of the keys written")
    one.add_argument("--duration", type=int, default=DURATION_SECONDS, help="seconds it writes")
    one = group.command("datascale", datascale, "", "write much data; tell the memory it takes")
    one.add_argument("--prefix", default="/etcdctl-check-datascale/", help="of the keys written")
    for parser in group.parsers:
        parser.add_argument("--load", default="s", help="s, m, l or xl")
        parser.add_argument("--auto-compact", action="store_true", help="compact at the end")
        parser.add_argument("--auto-defrag", action="store_true", help="defragment at the end")


def load_of(name: str, loads: dict[str, Load]) -> Load:
    """Give the workload of a name, such as ``s`` or ``small``."""
    short = _NAMES.get(name.lower(), name.lower())
    if short not in loads:
        raise CommandError(f"--load: {name!r} is none of s, m, l, xl")
    return loads[short]


@dataclass
class Measured:
    """What was measured: how long each write took, in seconds, and what failed."""

    seconds: list[float] = field(default_factory=list)
    errors: dict[str, int] = field(default_factory=dict)

    def deviation(self) -> float:
        """Give the standard deviation."""
        mean = sum(self.seconds) / max(len(self.seconds), 1)
        squares = sum((one - mean) ** 2 for one in self.seconds)
        return math.sqrt(squares / max(len(self.seconds), 1))


@contextlib.asynccontextmanager
async def _clients(context: Context, count: int) -> AsyncIterator[list[Client]]:
    """Connect so many clients, to the endpoints in turn."""
    async with contextlib.AsyncExitStack() as stack:
        made = []
        for number in range(count):
            endpoint = context.endpoints[number % len(context.endpoints)]
            made.append(await stack.enter_async_context(context.client(endpoint)))
        yield made


async def _write(
    clients: list[Client], prefix: bytes, take: Callable[[], float | None], found: Measured
) -> None:
    """Write from all clients until nothing is left to take.

    Args:
        clients: The clients.
        prefix: Begins every key.
        take: Gives the moment at which the next write is due; None if there is none.
        found: Takes what was measured.
    """
    value = os.urandom(VALUE_BYTES)
    room = max(KEY_BYTES - len(prefix), 16)

    async def worker(client: Client) -> None:
        while (due := take()) is not None:
            wait = due - time.monotonic()
            if wait > 0:
                await asyncio.sleep(wait)
            begun = time.monotonic()
            try:
                await client.kv.put(prefix + os.urandom(room), value)
            except CoordinatorError as error:
                found.errors[str(error)] = found.errors.get(str(error), 0) + 1
            else:
                found.seconds.append(time.monotonic() - begun)

    await asyncio.gather(*map(worker, clients))


async def _while_shown(what: str, total: float, done: Callable[[], float], work: Any) -> None:
    """Await work under a progress bar."""
    with bar(what, total) as show:
        working = asyncio.ensure_future(work)
        try:
            while not (await asyncio.wait({working}, timeout=0.2))[0]:
                show(done())
            working.result()
        finally:
            working.cancel()


async def _prepare(client: Client, prefix: bytes) -> None:
    found = await client.kv.range(prefix=prefix, limit=1)
    if found.kvs:
        raise CommandError(
            f"prefix {prefix.decode('utf-8', 'backslashreplace')!r} has keys; choose another by "
            "--prefix, or delete them first"
        )


async def _tidy(context: Context, client: Client, prefix: bytes) -> None:
    """Delete what was written, in parts, and compact if asked to."""
    while True:
        found = await client.kv.range(prefix=prefix, limit=KEYS_PER_DELETE, keys_only=True)
        if not found.kvs:
            break
        await client.kv.delete(found.kvs[0].key, range_end=found.kvs[-1].key + b"\0")
    if context.flags.auto_compact:
        revision = (await client.kv.range(prefix=prefix, limit=1)).revision
        await client.kv.compact(revision, physical=True)
        output.say(f"Compacting with revision {revision}", f"Compacted with revision {revision}")
    if context.flags.auto_defrag:
        for url in context.endpoints:
            output.say(f'Defragmenting "{url}"', f'Defragmented "{url}"')


# ---------------------------------------------------------------- perf


async def perf(context: Context) -> int:
    """Write at a rate for a minute; tell whether rate and latency held."""
    context.arguments(0, 0, "check perf takes no argument")
    load = load_of(context.flags.load, PERF)
    length, prefix = context.flags.duration, kv.encode(context.flags.prefix)
    if length <= 0:
        raise CommandError("--duration: must be positive")
    found = Measured()
    async with _clients(context, load.clients) as clients:
        await _prepare(clients[0], prefix)
        begun, total, taken = time.monotonic(), load.amount * length, 0

        def take() -> float | None:
            nonlocal taken
            taken += 1
            late = time.monotonic() - begun >= length
            return None if late or taken > total else begun + (taken - 1) / load.amount

        try:
            await _while_shown(
                f"{load.amount} writes a second from {load.clients} clients",
                length,
                lambda: time.monotonic() - begun,
                _write(clients, prefix, take, found),
            )
            spent = max(time.monotonic() - begun, length)
        finally:
            await _tidy(context, clients[0], prefix)
    return _judge_perf(context, load, found, spent)


def _judge_perf(context: Context, load: Load, found: Measured, spent: float) -> int:
    rate = len(found.seconds) / spent
    slowest, deviation = max(found.seconds, default=0.0), found.deviation()
    lines = [
        (rate >= load.amount * SHARE, f"Throughput {_is_low(rate, load)} {rate:.0f} writes/s"),
        *((False, f"{count} errors: {what}") for what, count in found.errors.items()),
        (
            slowest <= SLOWEST_SECONDS,
            f"Slowest request took {_long(slowest, SLOWEST_SECONDS)}{slowest:f}s",
        ),
        (
            deviation <= DEVIATION_SECONDS,
            f"Stddev is {_long(deviation, DEVIATION_SECONDS)}{deviation:f}s",
        ),
    ]
    passed = all(good for good, _ in lines)
    if context.is_json:
        output.say_json(
            {
                "passed": passed,
                "writesPerSecond": round(rate, 1),
                "slowestSeconds": slowest,
                "stddevSeconds": deviation,
                "errors": found.errors,
            }
        )
    else:
        output.say(*(f"{'PASS' if good else 'FAIL'}: {text}" for good, text in lines))
        output.say("PASS" if passed else "FAIL")
    return 0 if passed else ERROR


def _is_low(rate: float, load: Load) -> str:
    return "is" if rate >= load.amount * SHARE else "too low:"


def _long(seconds: float, most: float) -> str:
    return "too long: " if seconds > most else ""


# ---------------------------------------------------------------- datascale


async def datascale(context: Context) -> int:
    """Write much data; tell how much memory the member takes for it."""
    context.arguments(0, 0, "check datascale takes no argument")
    load = load_of(context.flags.load, DATASCALE)
    prefix, endpoint = kv.encode(context.flags.prefix), context.endpoints[0]
    context.endpoints = [endpoint]
    found, taken = Measured(), 0

    def take() -> float | None:
        nonlocal taken
        taken += 1
        return None if taken > load.amount else 0.0

    async with _clients(context, load.clients) as clients:
        await _prepare(clients[0], prefix)
        before = await asyncio.to_thread(_resident, endpoint)
        written = f"{load.amount} keys of {VALUE_BYTES} bytes from {load.clients} clients"
        output.say(f"Start data scale check for work load [{written}].")
        try:
            await _while_shown(
                written,
                load.amount,
                lambda: len(found.seconds),
                _write(clients, prefix, take, found),
            )
            after = await asyncio.to_thread(_resident, endpoint)
        finally:
            await _tidy(context, clients[0], prefix)
    if found.errors:
        errors = "; ".join(f"{count} times {what}" for what, count in found.errors.items())
        output.say("FAIL: too many errors", f"FAIL: ERROR({errors})")
        return ERROR
    megabytes = max(after - before, 0) / (1 << 20)
    output.say(f"PASS: Approximate system memory used : {megabytes:.2f} MB.")
    return 0


def _resident(endpoint: str) -> float:
    """Ask a member how much memory its process takes, in bytes."""
    try:
        with urllib.request.urlopen(f"{endpoint}/metrics", timeout=10) as answer:
            match = _RESIDENT.search(answer.read())
    except OSError as error:
        raise CommandError(f"{endpoint}/metrics can't be read: {error}") from None
    if match is None:
        raise CommandError(f"{endpoint}/metrics does not tell process_resident_memory_bytes")
    return float(match[1])
