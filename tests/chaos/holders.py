"""``python -m tests.chaos.holders URL FIRST COUNT TTL``: hold locks until they are lost.

A process to be stopped. For each lock one task holds it in ``async with`` and waits for ever
in the body, and another one writes under the lock's guard, again and again, whatever it is
told. Each line of output is a JSON array of what happened and to which lock:

- ``["held", name, token]``: the body of ``async with`` has begun
- ``["cancelled", name]``: the body saw its cancellation
- ``["lost", name]``: ``async with`` raised `LockLost`
- ``["written", name, revision]``: a guarded write was accepted
- ``["refused", name]``: a guarded write was refused; the writer ends
"""

from __future__ import annotations

import asyncio
import json
import sys

from coordinator_sdk import Client
from coordinator_sdk.errors import GuardFailed, LockLost
from coordinator_sdk.protocol.kv import Guard

PAUSE_SECONDS = 0.05
"""Between two writes of one holder: it must be in the middle of it when it is stopped."""


def say(*what: object) -> None:
    """Write one line of output."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


async def hold(client: Client, name: str, ttl: float) -> None:
    """Hold a lock until it is lost."""
    writing: asyncio.Task[None] | None = None
    try:
        async with client.locks.lock(name, ttl=ttl) as lock:
            say("held", name, lock.token)
            writing = asyncio.create_task(write(client, name, lock.guard()))
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                say("cancelled", name)
                raise
    except LockLost:
        say("lost", name)
    if writing is not None:
        await writing


async def write(client: Client, name: str, guard: Guard) -> None:
    """Write with a guard until that is refused; does not care whether the lock is lost."""
    while True:
        try:
            result = await client.kv.put(f"holders/{name}", b"%d" % guard.token, guard=guard)
        except GuardFailed:
            say("refused", name)
            return
        say("written", name, result.revision)
        await asyncio.sleep(PAUSE_SECONDS)


async def main(url: str, first: int, count: int, ttl: float) -> None:
    """Hold so many locks over one client."""
    async with Client(url) as client:
        await asyncio.gather(
            *(hold(client, f"lock-{number}", ttl) for number in range(first, first + count))
        )


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])))
