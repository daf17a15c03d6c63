"""Clients that write, hold locks, publish and watch while a server is ended; and the verdict.

Every client notes what it was told, and only that. Afterwards `Load.verdict` compares the
notes with what the server has: nothing that was acknowledged may be missing or have happened
twice, no lock may have had two live tokens, and the watch must have told the whole history.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from typing import Any

from coordinator_sdk import Client, RetryPolicy
from coordinator_sdk.errors import CoordinatorError, GuardFailed, SessionLost
from coordinator_sdk.protocol.kv import Event

PREFIX = b"chaos/"
WRITERS = 8
HOLDERS = 6
LOCKS = 2
TTL = 30.0
"""Longer than any restart takes: no session ends by time."""
RETRY = RetryPolicy(deadline=None, base=0.02, cap=0.2)
CATCH_UP_SECONDS = 60.0

Change = tuple[int, bytes, bytes | None]
"""(revision, key, value), the value None for a deletion."""


@dataclass
class Notes:
    """What clients were told.

    Attributes:
        writes: Per writer, the revision and value of every acknowledged write, in order.
        in_doubt: Writes that ended with an error that leaves it open whether they happened.
        grants: (lock, token) of every grant, in the order in which they were noticed.
        entered: How often a lock's section was entered while somebody else was in it.
        published: Per publisher, the sequences of its messages.
        received: (topic, sequence, payload) as the subscriber got them.
        watches: What each watch told; there is one for each member.
        acknowledged_at: Per writer, when its writes were acknowledged, on the monotonic clock.
        sessions_lost: How often a session ended under its user.
    """

    writes: dict[int, list[tuple[int, bytes]]] = field(default_factory=dict)
    in_doubt: int = 0
    grants: list[tuple[str, int]] = field(default_factory=list)
    entered: int = 0
    guarded: int = 0
    refused: int = 0
    published: dict[int, list[tuple[int, bytes]]] = field(default_factory=dict)
    received: list[tuple[int, bytes]] = field(default_factory=list)
    watches: list[list[Change]] = field(default_factory=list)
    acknowledged_at: dict[int, list[float]] = field(default_factory=dict)
    sessions_lost: int = 0

    @property
    def acknowledged(self) -> int:
        """How many changes were acknowledged."""
        return (
            sum(map(len, self.writes.values()))
            + sum(map(len, self.published.values()))
            + self.guarded
        )


class Load:
    """The clients, running from ``async with`` on until `finish`.

    Writers, holders and watches are spread over the members: each client begins at another one,
    and goes to the next when that is gone.
    """

    def __init__(self, url: str, *, writers: int = WRITERS, holders: int = HOLDERS) -> None:
        self.urls = url.split(",")
        self.notes = Notes()
        self._writers, self._holders = writers, holders
        self._is_ending = False
        self._inside: dict[str, int] = {}
        self._stack = AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []
        self._listening: list[asyncio.Task[None]] = []
        self.first_revision = 0

    def client(self, first: int = 0) -> Client:
        """Make a client that never gives up and begins at one of the members."""
        first %= len(self.urls)
        urls = self.urls[first:] + self.urls[:first]
        return Client(*urls, retry=RETRY, connect_timeout=60)

    async def __aenter__(self) -> Load:
        enter = self._stack.enter_async_context
        watching = [await enter(self.client(number)) for number in range(len(self.urls))]
        self.first_revision = (await watching[0].kv.put(PREFIX + b"begin", b"")).revision
        messages = watching[-1].topics.subscribe("chaos.*", start="earliest")
        self._listening = [asyncio.ensure_future(self._subscribe(messages))]
        for client in watching:
            watch = client.kv.watch(prefix=PREFIX, start_revision=self.first_revision)
            self.notes.watches.append([])
            told = self._watch(watch, self.notes.watches[-1])
            self._listening.append(asyncio.ensure_future(told))
        writing = [await enter(self.client(number)) for number in range(len(self.urls))]
        for number in range(self._writers):
            client = writing[number % len(writing)]
            self._start(self._write(client, number))
            self._start(self._publish(client, number))
        for number in range(self._holders):
            self._start(self._hold(await enter(self.client(number)), number))
        return self

    def _start(self, work: Any) -> None:
        self._tasks.append(asyncio.ensure_future(work))

    async def __aexit__(self, *exc: object) -> None:
        for task in (*self._tasks, *self._listening):
            task.cancel()
        await asyncio.gather(*self._tasks, *self._listening, return_exceptions=True)
        with suppress(CoordinatorError, TimeoutError):
            await self._stack.aclose()

    async def until_acknowledged(self, more: int) -> None:
        """Wait until that many more changes have been acknowledged.

        Raises:
            Exception: What a client died of.
        """
        wanted = self.notes.acknowledged + more
        while self.notes.acknowledged < wanted:
            for task in (*self._tasks, *self._listening):
                if task.done():
                    task.result()
            await asyncio.sleep(0.001)

    async def finish(self, url: str = "") -> list[str]:
        """Let every client come to its end, and judge.

        Args:
            url: The members to ask, by commas; those that the load began with unless given.
        """
        self._is_ending = True
        async with asyncio.timeout(CATCH_UP_SECONDS):
            await asyncio.gather(*self._tasks)
        asking = Client(url, retry=RETRY, connect_timeout=60) if url else self.client()
        async with asyncio.timeout(2 * CATCH_UP_SECONDS), asking as client:
            last = (await client.kv.put(PREFIX + b"end", b"")).revision
            await self._until_caught_up(last)
            return await self._verdict(client, last)

    async def _until_caught_up(self, last: int) -> None:
        expected = sum(map(len, self.notes.published.values()))
        async with asyncio.timeout(CATCH_UP_SECONDS):
            while (
                any(not told or told[-1][0] < last for told in self.notes.watches)
                or len(self.notes.received) < expected
            ):
                for task in self._listening:
                    if task.done():
                        task.result()
                await asyncio.sleep(0.01)

    # ------------------------------------------------------------ what clients do

    async def _write(self, client: Client, number: int) -> None:
        """Write a key of one's own again and again: its version counts the writes."""
        notes = self.notes.writes.setdefault(number, [])
        moments = self.notes.acknowledged_at.setdefault(number, [])
        key = PREFIX + b"writer/%d" % number
        count = 0
        while not self._is_ending:
            count += 1
            value = b"%d" % count
            result = await client.kv.put(key, value)
            notes.append((result.revision, value))
            moments.append(time.monotonic())
            if count % 50 == 0:
                await client.kv.delete(key + b"/old")
            elif count % 50 == 25:
                await client.kv.put(key + b"/old", value)

    async def _publish(self, client: Client, number: int) -> None:
        notes = self.notes.published.setdefault(number, [])
        count = 0
        while not self._is_ending:
            count += 1
            payload = b"%d %d" % (number, count)
            result = await client.topics.publish("chaos.all", payload)
            notes.append((result.sequence, payload))

    async def _hold(self, client: Client, number: int) -> None:
        """Take a lock, write under its guard, give it back."""
        name = f"chaos-{number % LOCKS}"
        key = PREFIX + b"guarded/" + name.encode()
        while not self._is_ending:
            try:
                async with client.locks.lock(name, ttl=TTL) as lock:
                    self.notes.grants.append((name, lock.token))
                    self._inside[name] = self._inside.get(name, 0) + 1
                    self.notes.entered += self._inside[name] > 1
                    try:
                        await client.kv.put(key, b"%d" % lock.token, guard=lock)
                        self.notes.guarded += 1
                    finally:
                        self._inside[name] -= 1
            except SessionLost:
                self.notes.refused += 1
                self.notes.sessions_lost += 1
            except GuardFailed:
                self.notes.refused += 1

    async def _watch(self, watch: Any, told: list[Change]) -> None:
        async with watch:
            async for event in watch:
                told.append(change_of(event))

    async def _subscribe(self, messages: Any) -> None:
        async with messages:
            async for message in messages:
                self.notes.received.append((message.sequence, bytes(message.payload)))

    # ------------------------------------------------------------ the verdict

    async def _verdict(self, client: Client, last: int) -> list[str]:
        history = await read_history(client, self.first_revision, last)
        found = []
        for url, told in zip(self.urls, self.notes.watches, strict=True):
            found += compare(told, history, f"the watch that began at {url}")
        found += check_writes(self.notes, history)
        found += check_tokens(self.notes, history)
        found += check_messages(self.notes)
        found += await check_values(client, history)
        return found


def outage(moments: list[float], since: float, until: float) -> float:
    """Give the longest time without an acknowledgement that touches a span, in seconds.

    Args:
        moments: When something was acknowledged, in order.
        since: Begin of the span, such as the moment of a kill; nothing before it counts.
        until: Its end.
    """
    inside = [moment for moment in moments if since < moment < until]
    later = [moment for moment in moments if moment >= until][:1] or [float("inf")]
    edges = [since, *inside, *later]
    return max(after - before for before, after in zip(edges, edges[1:], strict=False))


def change_of(event: Event) -> Change:
    """Give what counts of an event."""
    kv = event.kv
    return kv.mod_revision, bytes(kv.key), bytes(kv.value) if kv.version else None


async def read_history(client: Client, first: int, last: int) -> list[Change]:
    """Read the history of the load's keys back with a watch from the start."""
    history: list[Change] = []
    async with client.kv.watch(prefix=PREFIX, start_revision=first) as watch:
        async for event in watch:
            history.append(change_of(event))
            if history[-1][0] >= last:
                return history
    raise AssertionError("the watch ended")


def compare(told: list[Change], history: list[Change], who: str) -> list[str]:
    """Compare what a watch told with the history, event by event."""
    found = []
    for number, (one, other) in enumerate(zip(told, history, strict=False)):
        if one != other:
            found.append(f"{who}: event {number} is {one}, in the history {other}")
            break
    if len(told) != len(history):
        found.append(f"{who} told {len(told)} events, the history has {len(history)}")
    return found


def check_writes(notes: Notes, history: list[Change]) -> list[str]:
    """Every acknowledged write is in the history once, at its revision, and nothing else is."""
    found = []
    for number, acknowledged in notes.writes.items():
        key = PREFIX + b"writer/%d" % number
        written = [(revision, value) for revision, at, value in history if at == key]
        known, told = set(written), set(acknowledged)
        lost = [one for one in acknowledged if one not in known]
        extra = [one for one in written if one not in told]
        if lost:
            found.append(f"writer {number}: {len(lost)} acknowledged writes are lost: {lost[:3]}")
        if extra:
            found.append(f"writer {number}: {len(extra)} writes too many: {extra[:3]}")
        if [value for _, value in written] != [b"%d" % n for n in range(1, len(written) + 1)]:
            found.append(f"writer {number}: its writes are out of order or applied twice")
    return found


def check_tokens(notes: Notes, history: list[Change]) -> list[str]:
    """Tokens rise with every grant, and nothing is written with one after a later one."""
    found = []
    if notes.entered:
        found.append(f"a lock was held by two at once, {notes.entered} times")
    for name in dict.fromkeys(name for name, _ in notes.grants):
        tokens = [token for at, token in notes.grants if at == name]
        if len(tokens) != len(dict.fromkeys(tokens)):
            found.append(f"{name}: a token was granted twice")
        key = PREFIX + b"guarded/" + name.encode()
        written = [int(value) for _, at, value in history if at == key and value is not None]
        if written != sorted(written):
            found.append(f"{name}: a write with an older token came after one with a newer token")
        known = set(tokens)
        unknown = [token for token in written if token not in known]
        if unknown:
            found.append(f"{name}: writes with tokens that nobody was told of: {unknown[:3]}")
    return found


def check_messages(notes: Notes) -> list[str]:
    """Every published message was received once, in the order of the sequences without gaps."""
    found = []
    sequences = [sequence for sequence, _ in notes.received]
    if sequences != list(range(1, len(sequences) + 1)):
        found.append("the subscription skipped or repeated messages")
    received = dict(notes.received)
    for number, published in notes.published.items():
        lost = [one for one in published if received.get(one[0]) != one[1]]
        if lost:
            found.append(f"publisher {number}: {len(lost)} messages are lost: {lost[:3]}")
    payloads = [payload for _, payload in notes.received]
    if len(payloads) != len(dict.fromkeys(payloads)):
        found.append("a message was published twice")
    return found


async def check_values(client: Client, history: list[Change]) -> list[str]:
    """Reading keys, now and as of earlier revisions, gives what the history says."""
    found = []
    step = max(1, len(history) // 50)
    for position in range(0, len(history), step):
        revision = history[position][0]
        state: dict[bytes, bytes] = {}
        for at, key, value in history:
            if at > revision:
                break
            if value is None:
                state.pop(key, None)
            else:
                state[key] = value
        result = await client.kv.range(prefix=PREFIX, revision=revision)
        read = {bytes(kv.key): bytes(kv.value) for kv in result.kvs}
        if read != state:
            found.append(f"revision {revision} reads {read}, the history says {state}")
    return found
