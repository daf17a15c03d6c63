"""What clients do while faults happen around them."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from coordinator.domains.locks import model as locks
from coordinator.keyspace.records import SYSTEM, USER
from coordinator.node.node import Node
from coordinator_sdk.errors import GuardFailed
from coordinator_sdk.protocol.kv import (
    Compact,
    Compare,
    CompareResult,
    CompareTarget,
    Delete,
    Event,
    Guard,
    LeaseGrant,
    LeaseRevoke,
    Put,
    Txn,
    Watch,
)
from coordinator_sdk.protocol.locks import LockAcquire, LockCancel, LockRelease
from coordinator_sdk.protocol.sessions import SessionClose
from coordinator_sdk.protocol.tickets import GRANTED, QUEUED
from coordinator_sdk.protocol.topics import TopicPublish
from tests.simulation.client import Client, Refused, Session
from tests.simulation.network import Broken
from tests.simulation.record import Record

KEYS = [b"k%d" % number for number in range(12)]
LOCKS = ["red", "green"]
TTLS_MS = (600, 1500, 4000)
END_OF_TIME = float("inf")


@dataclass
class Read:
    """A linearizable read of one key."""

    key: bytes
    value: bytes | None
    mod_revision: int
    revision: int
    asked_at: float
    told_at: float


@dataclass
class Workload:
    """The clients of one run, and their notes.

    Attributes:
        is_ending: No new work is begun any more.
        sessions: Every session that was opened.
        watched: What each watcher saw, in order.
        lost: By watcher, the revisions that were compacted before it could see them.
        reads: Every read.
    """

    record: Record
    rng: random.Random
    counts: Counter[str] = field(default_factory=Counter)
    is_ending: bool = False
    sessions: list[Session] = field(default_factory=list)
    watched: dict[int, list[Event]] = field(default_factory=dict)
    lost: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    reads: list[Read] = field(default_factory=list)
    values: int = 0

    def fresh_value(self) -> bytes:
        """Give a value that is written once in the whole run."""
        self.values += 1
        return b"v%d" % self.values + b"." * self.rng.choice((0, 10, 300))

    async def pause(self) -> None:
        """Let a moment pass."""
        await asyncio.sleep(self.rng.random() * 0.03)

    # ------------------------------------------------------------ keys

    async def write(self, client: Client) -> None:
        """Write, delete, compare and swap; now and then with a lease."""
        rng = self.rng
        lease = 0
        while not self.is_ending:
            key = rng.choice(KEYS)
            kind = rng.random()
            try:
                if kind < 0.55:
                    await client.change(Put(key, self.fresh_value()))
                elif kind < 0.65:
                    await client.change(Delete(key, rng.choice((b"", b"", b"k5"))))
                elif kind < 0.85:
                    await client.change(self._swap(key))
                elif kind < 0.92 or not lease:
                    lease = rng.getrandbits(62) + 1
                    await client.change(LeaseGrant(rng.choice(TTLS_MS), lease))
                    await client.change(Put(key, self.fresh_value(), lease=lease))
                else:
                    await client.change(LeaseRevoke(lease))
                    lease = 0
                self.counts["changes"] += 1
            except Refused:
                self.counts["refusals"] += 1
                lease = 0
            await self.pause()

    def _swap(self, key: bytes) -> Txn:
        at = (
            self.record.revisions[-1].number - self.rng.randrange(4) if self.record.revisions else 1
        )
        compare = Compare(CompareTarget.MOD, CompareResult.GREATER, key, max(0, at))
        return Txn(
            [compare],
            success=[Put(key, self.fresh_value()), Put(b"swapped", self.fresh_value())],
            failure=[Put(b"not-swapped", self.fresh_value())],
        )

    async def read(self, client: Client) -> None:
        """Read keys, linearizably."""
        while not self.is_ending:
            key = self.rng.choice(KEYS)
            asked_at = client.loop.now

            value, mod_revision, revision = await client.read(_view_of(key))
            now = client.loop.now
            self.reads.append(Read(key, value, mod_revision, revision, asked_at, now))
            self.counts["reads"] += 1
            await self.pause()

    async def write_plainly(self, client: Client) -> None:
        """Write without request ids, so that nothing may be tried twice."""
        while not self.is_ending:
            put = Put(self.rng.choice(KEYS), self.fresh_value())
            if await client.change_plainly(put):
                self.counts["changes without id"] += 1
            await self.pause()

    async def read_on(self, client: Client) -> None:
        """Read from any member, but never what is older than what was seen before."""
        seen = 0
        while not self.is_ending:
            key = self.rng.choice(KEYS)
            value, mod_revision, revision = await client.read_anywhere(_view_of(key), seen)
            if revision < seen:
                self.record.violate(f"read revision {revision} after having seen {seen}")
            seen = max(seen, revision)
            # Of any age that is allowed: it only has to be what was there at that revision.
            self.reads.append(Read(key, value, mod_revision, revision, 0.0, END_OF_TIME))
            self.counts["serializable reads"] += 1
            await self.pause()

    async def compact(self, client: Client) -> None:
        """Forget history now and then."""
        while not self.is_ending:
            await asyncio.sleep(0.5 + self.rng.random() * 3)
            revision = await client.read(lambda node: node.revision)
            try:
                await client.change(Compact(max(1, revision - self.rng.randrange(60))))
                self.counts["compactions"] += 1
            except Refused:
                self.counts["refusals"] += 1

    async def watch(self, client: Client, number: int, space: int) -> None:
        """Follow all keys of a space; resume after every break."""
        seen = self.watched.setdefault(number, [])
        next_revision = 2
        while True:
            queue: asyncio.Queue[Any] = asyncio.Queue()
            op = Watch(b"\0", b"\0", next_revision, prev_kv=number % 2 == 0, space=space)
            try:
                await client.link.watch(op, queue)
            except Broken:
                await self.pause()
                continue
            while True:
                item = await queue.get()
                if isinstance(item, Broken):
                    self.counts["resumes"] += 1
                    break
                if isinstance(item, int):
                    self.lost.setdefault(number, []).append((next_revision, item))
                    next_revision = item
                    self.counts["compacted watches"] += 1
                    break
                revision, events = item
                seen += events
                next_revision = revision + 1
            client.link.drop()

    async def publish(self, client: Client) -> None:
        """Publish messages to a topic."""
        while not self.is_ending:
            try:
                await client.change(TopicPublish("default", "news", self.fresh_value()))
                self.counts["messages"] += 1
            except Refused:
                self.counts["refusals"] += 1
            await self.pause()

    # ------------------------------------------------------------ locks

    async def lock(self, client: Client) -> None:
        """Take locks, write under their guard, and give them back, or die holding them."""
        while not self.is_ending:
            session = Session(client, self.rng.choice(TTLS_MS))
            try:
                await session.open()
            except Refused:
                self.counts["refusals"] += 1
                continue
            self.sessions.append(session)
            for _ in range(self.rng.randrange(1, 12)):
                if session.is_lost or self.is_ending:
                    break
                await self._one_hold(client, session)
            if self.rng.random() < 0.5:
                session.stop_renewing()
                self.counts["deaths"] += 1
                await asyncio.sleep(session.ttl_ms / 1000 * self.rng.random())
            else:
                session.stop_renewing()
                session.is_closing = True
                await self._quietly(client, SessionClose(session.id))

    async def _one_hold(self, client: Client, session: Session) -> None:
        rng = self.rng
        name, owner = rng.choice(LOCKS), f"owner-{client.number}"
        ticket = f"{rng.getrandbits(60):x}"
        timeout_ms = rng.choice((None, None, 0, 200, 2000))
        acquire = LockAcquire("default", name, session.id, owner, ticket, timeout_ms)
        try:
            state = await client.change(acquire)
        except Refused:
            return
        patience = rng.choice((0.3, 3.0, 30.0))
        began = client.loop.now
        while state.state == QUEUED:
            if session.is_lost:
                return
            if client.loop.now - began > patience:
                await self._quietly(client, LockCancel("default", name, ticket))
                return
            await self.pause()
            state = await client.read(lambda node: ticket_state(node, name, ticket))
        if state.state != GRANTED:
            return
        self.counts["grants"] += 1
        guard = Guard("locks", "default", name, state.token, session.id, owner)
        for _ in range(rng.randrange(3)):
            await self._guarded(client, name, guard)
        if rng.random() < 0.9:
            release = LockRelease("default", name, session.id, owner, state.token)
            await self._quietly(client, release)
            # Nothing may be written with it any more.
            await self._guarded(client, name, guard)

    async def _guarded(self, client: Client, name: str, guard: Guard) -> None:
        try:
            await client.change(Put(b"guarded/" + name.encode(), b"%d" % guard.token, guard=guard))
            self.counts["guarded writes"] += 1
        except Refused as refused:
            if isinstance(refused.error, GuardFailed):
                self.counts["guard refusals"] += 1

    async def _quietly(self, client: Client, body: Any) -> None:
        try:
            await client.change(body)
        except Refused:
            self.counts["refusals"] += 1


def _view_of(key: bytes) -> Callable[[Node], tuple[bytes | None, int, int]]:
    def view(node: Node) -> tuple[bytes | None, int, int]:
        found = node.keyspace.get(USER, key)
        value = None if found is None else found.value
        return value, found.mod_revision if found else 0, node.revision

    return view


def ticket_state(node: Node, name: str, ticket: str) -> Any:
    """Read where a ticket stands."""
    return locks.ticket_view(_Records(node), "default", name, ticket)


class _Records:
    """The system keyspace of a member, published."""

    def __init__(self, node: Node) -> None:
        self._keyspace = node.keyspace

    def get(self, key: bytes) -> Any:
        return self._keyspace.get(SYSTEM, key)

    def scan(self, start: bytes, end: bytes, limit: int = 0, reverse: bool = False) -> list[Any]:
        chunks = self._keyspace.record_chunks(SYSTEM, start, end)
        found = [record for chunk in chunks for record in chunk]
        if reverse:
            found.reverse()
        return found[:limit] if limit else found

    def count(self, start: bytes, end: bytes) -> int:
        return len(self.scan(start, end))
