"""Locks and elections as etcdctl keeps them: keys of a lease below a name, in order of creation.

They exclude and see what etcdctl holds, and are asked for by ``ETCDCTL_API=3`` in the environment,
as etcdctl's scripts have it. Nothing refuses a holder that did not notice its loss: the locks and
elections of the cluster itself do.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING

from coordinator.cli import kv, output
from coordinator.cli.child import Child
from coordinator.cli.command import ERROR, CommandError
from coordinator_sdk.protocol.kv import Compare, CompareResult, CompareTarget, Put

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from coordinator.cli.command import Context
    from coordinator_sdk import Client, KeyValue
    from coordinator_sdk.leases import Lease

ELECTION_TTL = 60.0
SHORTEST_TTL = 2.0


def is_wanted() -> bool:
    """Whether the environment asks for what etcdctl does."""
    return os.environ.get("ETCDCTL_API", "") == "3"


class Claim:
    """A key that stands in line.

    Attributes:
        key: The key: the name, and the lease in hexadecimal digits.
        lease: Its lease, which is renewed.
        revision: When it was created, its place in line.
    """

    def __init__(self, key: bytes, lease: Lease, revision: int) -> None:
        self.key = key
        self.lease = lease
        self.revision = revision


@contextlib.asynccontextmanager
async def claimed(client: Client, name: str, value: bytes, ttl: float) -> AsyncIterator[Claim]:
    """Stand in line for a name; give up the place at the end."""
    async with client.leases.grant(max(ttl, SHORTEST_TTL)) as lease:
        key = kv.encode(f"{name}/{lease.id:x}")
        is_new = Compare(CompareTarget.CREATE, CompareResult.EQUAL, key, 0)
        result = await client.kv.txn([is_new], [Put(key, value, lease.id)])
        yield Claim(key, lease, result.revision)


async def first_in_line(client: Client, name: str, claim: Claim) -> None:
    """Wait until everything that was created before is gone."""
    prefix = kv.encode(f"{name}/")
    while True:
        before = await client.kv.range(
            prefix=prefix,
            sort_by="create",
            descending=True,
            limit=1,
            max_create_revision=claim.revision - 1,
        )
        if not before.kvs:
            return
        async with client.kv.watch(
            before.kvs[0].key, start_revision=before.revision + 1, puts=False
        ) as watch:
            async for _ in watch:
                break


async def _waited(context: Context, client: Client, name: str, claim: Claim) -> None:
    """Wait for the place at the front, as long as asked for."""
    timeout = context.flags.timeout
    try:
        async with asyncio.timeout(timeout):
            await first_in_line(client, name, claim)
    except TimeoutError:
        raise CommandError(f"{name!r} was not to be had within {timeout:g} s") from None


async def lock(context: Context, client: Client, name: str, command: list[str]) -> int | None:
    """Take a lock; hold it until a signal, or for as long as a command runs."""
    async with claimed(client, name, b"", context.flags.ttl) as claim:
        await _waited(context, client, name, claim)
        if not command:
            return await _held(context, claim, b"", "session expired")
        environment = {
            "ETCD_LOCK_KEY": claim.key.decode("utf-8", "surrogateescape"),
            "ETCD_LOCK_REV": str(claim.revision),
        }
        child = await Child.start(command, environment)
        code = await child.wait_while_held(context, claim.lease.lost, lambda: "session expired")
        if claim.lease.lost.is_set():
            raise CommandError("session expired")
        if code:
            raise CommandError(f"exit status {code}", ERROR)
    return None


async def elect(context: Context, client: Client, name: str, value: bytes) -> int | None:
    """Lead until a signal comes."""
    ttl = ELECTION_TTL if context.flags.ttl is None else context.flags.ttl
    async with claimed(client, name, value, ttl) as claim:
        await _waited(context, client, name, claim)
        return await _held(context, claim, value, "elect: session expired")


async def _held(context: Context, claim: Claim, value: bytes, complaint: str) -> int | None:
    signals = context.signals.catch()
    shown = (output.shown(part, context.hex) for part in (claim.key, value))
    output.write(b"%b\n%b\n" % tuple(shown))
    ending = asyncio.ensure_future(signals.get())
    losing = asyncio.ensure_future(claim.lease.lost.wait())
    await asyncio.wait({ending, losing}, return_when=asyncio.FIRST_COMPLETED)
    ending.cancel()
    losing.cancel()
    if claim.lease.lost.is_set():
        raise CommandError(complaint)
    return None


async def listen(context: Context, client: Client, name: str) -> int | None:
    """Print every new leader and what it proclaims, the present one first."""
    prefix = kv.encode(f"{name}/")
    while True:
        found = await client.kv.range(prefix=prefix, sort_by="create", limit=1)
        if found.kvs:
            _tell(context, found.kvs[0])
            key = found.kvs[0].key
            watching = client.kv.watch(key, start_revision=found.revision + 1)
        else:
            watching = client.kv.watch(prefix=prefix, start_revision=found.revision + 1)
        async with watching as watch:
            async for event in watch:
                if not found.kvs or not event.is_put:
                    break
                _tell(context, event.kv)


def _tell(context: Context, record: KeyValue) -> None:
    output.write(output.record_lines(record, context.hex))
