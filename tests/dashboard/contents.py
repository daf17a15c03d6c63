"""What the tests find on the pages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from threading import Thread

from coordinator_sdk.sync import Client, Lock

HOSTILE = "<img src=x onerror=alert(1)>"


@dataclass
class Contents:
    """What there is.

    Attributes:
        lock: Held by ``deployer``; ``second`` waits for it.
        revision: The revision after all of it was there.
    """

    lock: Lock
    revision: int


def wait_in_line(client: Client, name: str, owner: str) -> Thread:
    """Let somebody wait for a lock until it is granted, then give it back."""
    before = client.locks.get(name).waiting

    def wait() -> None:
        with client.locks.lock(name, owner=owner):
            pass

    thread = Thread(target=wait, daemon=True)
    thread.start()
    with client.kv.watch(prefix=b"", system=True) as changes:
        while client.locks.get(name).waiting <= before:
            next(changes)
    return thread


@contextmanager
def filled(client: Client) -> Iterator[Contents]:
    """Put something of everything into a cluster, until the end of the block."""
    with ExitStack() as stack:
        for value in (b'{"limit": 100}', b'{"limit": 200}', b'{"limit": 300}'):
            client.kv.put("config/billing", value)
        client.kv.put("config/search/size", b"10")
        client.kv.put("config/search/old", b"gone soon")
        client.kv.delete("config/search/old")
        client.kv.put("raw", bytes(range(16)))
        for number in range(4):
            stack.enter_context(
                client.services.register(
                    "orders",
                    instance=f"orders-{number}",
                    address=f"10.0.0.{number}",
                    port=8080,
                    zone=f"zone-{number % 2}",
                    version="1.2.3",
                    tags=["http"],
                )
            )
        stack.enter_context(client.services.register(HOSTILE, address=HOSTILE, tags=[HOSTILE]))
        lock = client.locks.lock("nightly", owner="deployer", reason="release")
        lock.acquire()
        waiting = wait_in_line(client, "nightly", "second")
        stack.enter_context(client.locks.lock(HOSTILE, owner=HOSTILE, reason=HOSTILE))
        stack.enter_context(client.elections.lead("scheduler", value=b"host-1"))
        stack.enter_context(client.elections.lead(HOSTILE, value=HOSTILE.encode()))
        for number in range(5):
            client.topics.publish("orders.created", f'{{"id": {number}}}'.encode())
        client.leases.grant(600)
        yield Contents(lock, client.kv.range("raw").revision)
        lock.release()
        waiting.join(10)
