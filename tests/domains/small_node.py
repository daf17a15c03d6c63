"""A member without a log and a disk: the real machine, hub, operations and routes.

What is proposed is applied at once, on the caller's stack. Timers and the ends of leases come
when a test says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, TypeVar

import httpx
import msgspec
from fastapi import FastAPI
from msgspec import Struct

from coordinator.api import sessions, streams
from coordinator.api.connection import Connection
from coordinator.api.dispatch import Dispatcher
from coordinator.api.limits import Limits
from coordinator.api.registry import Caller
from coordinator.app import build_app
from coordinator.config import Config
from coordinator.domains import DOMAINS, apis
from coordinator.keyspace import SYSTEM
from coordinator.keyspace.watch import WatchHub
from coordinator.replica.machine import Applied, Machine
from coordinator.replica.requests import Outcome
from coordinator.wire.command import FORMAT, Envelope, LeaseContinue, TimerFire
from coordinator.wire.raft import Entry
from coordinator_sdk.errors import CoordinatorError, error_from_wire
from coordinator_sdk.protocol.cluster import ClientRegister
from coordinator_sdk.protocol.codec import MSGPACK
from coordinator_sdk.protocol.kv import Cancel, Compact, Credit
from coordinator_sdk.protocol.sessions import SessionClose, SessionOpen

ResultT = TypeVar("ResultT")
TERM = 1


class SmallNode:
    """A member, as the API sees it."""

    cluster_id = 1
    member_id = 2
    term = TERM
    name = "small"
    is_stopping = False
    failure = None
    peer_credentials = None

    def __init__(self) -> None:
        self.config = Config()
        self.machine = Machine(DOMAINS)
        self.keyspace = self.machine.keyspace
        self.hub = WatchHub(self.keyspace.log, self.keyspace.compact_revision)
        self.clock_ms = 1_000_000
        self.group = SimpleNamespace(
            absence=SimpleNamespace(told=[]),
            standings=SimpleNamespace(status=None),
            links=list,
            sync_times=None,
        )
        self.on_tick: list[Callable[[], None]] = []
        self.refusal: CoordinatorError | None = None
        """What reads are refused with."""

    @property
    def revision(self) -> int:
        return self.keyspace.revision

    def propose(self, body: Any, *, done: Callable[[Outcome], None], **who: Any) -> None:
        self.clock_ms += 1
        envelope = Envelope(
            FORMAT,
            who.get("client", 0),
            who.get("sequence", 0),
            who.get("floor", 0),
            who.get("actor", ""),
            who.get("origin", ""),
            "",
            "",
            self.clock_ms,
            body,
            who.get("auth_revision", 0),
            who.get("scope", ""),
        )
        data = self.machine.codec.encode(envelope)
        applied = self.machine.apply(Entry(TERM, self.machine.index + 1, data=data))
        assert isinstance(applied, Applied)
        if applied.events:
            self.hub.publish(self.keyspace.revision, applied.events)
        assert applied.outcome is not None
        done(applied.outcome)

    def execute(self, body: Any, **who: Any) -> Any:
        """Apply a command and give its result."""
        outcomes: list[Outcome] = []
        self.propose(body, done=outcomes.append, **who)
        (outcome,) = outcomes
        if outcome.error is not None:
            raise error_from_wire(*outcome.error)
        return outcome.result

    def read(self, done: Callable[[CoordinatorError | None], None], **freshness: Any) -> None:
        done(self.refusal)

    def catch_up(self) -> None:
        while self.hub.is_lagging:
            assert self.hub.catch_up(1000) == [], "all history is in memory"

    def lease_remaining_ms(self, lease: int) -> int:
        return 0

    def alarms(self) -> list[str]:
        return []

    async def old_values(self, wanted: list[tuple[int, int]]) -> list[bytes]:
        """Give values of the past; here all are in the tail of history."""
        found: dict[tuple[int, int], bytes] = {}
        for revision in {place[0] for place in wanted}:
            for sub, (_, event) in enumerate(self.keyspace.log.events(revision) or []):
                found[revision, sub] = event.kv.value
        return [found[place] for place in wanted]

    # What a test does.

    def open_session(self, session: int) -> int:
        self.execute(SessionOpen(10_000, session, "app", "host", 7))
        return session

    def end_session(self, session: int) -> None:
        self.execute(SessionClose(session))
        while self.machine.hooks:
            self.execute(LeaseContinue())

    def run_timer(self, key: bytes) -> None:
        self.execute(TimerFire(key, self.machine.timers.records[key].generation))

    def compact(self) -> None:
        self.execute(Compact(self.revision))
        self.hub.compacted(self.keyspace.compact_revision)
        self.catch_up()

    def get(self, key: bytes) -> Any:
        return self.keyspace.get(SYSTEM, key)


class TestedConnection(Connection):
    """A client's connection that remembers what it was sent."""

    __test__ = False

    def __init__(self, node: Any, table: Any, client: int = 0) -> None:
        super().__init__(node, Caller("", "127.0.0.1:5", client), MSGPACK, Limits())
        self.table = table
        self.answers: dict[int, tuple[int, Any]] = {}
        self.failures: dict[int, CoordinatorError] = {}
        self.raw: dict[int, list[bytes]] = {}
        self.order: list[tuple[str, int]] = []
        self.deferred: list[Callable[[], None]] = []
        self.ids = 0

    def answer(self, id: int, revision: int, result: Struct | None) -> None:
        self.opening.discard(id)
        self.answers[id] = (revision, result)
        self.order.append(("answer", id))

    def fail(self, id: int, error: CoordinatorError) -> None:
        self.streams.pop(id, None)
        self.opening.discard(id)
        self.failures[id] = error
        self.order.append(("failure", id))

    def deliver(self, ids: Sequence[int], revision: int, batch: bytes) -> None:
        for id in ids:
            self.raw.setdefault(id, []).append(batch)
            self.order.append(("item", id))

    def defer(self, work: Callable[[], None]) -> bool:
        if self.is_full:
            self.deferred.append(work)
        return self.is_full

    # What a test does.

    def set_full(self, is_full: bool) -> None:
        self.is_full = is_full
        while self.deferred and not is_full:
            self.deferred.pop()()
        self.node.catch_up()

    def send_request(self, body: Struct, id: int = 0) -> int:
        """Send a request; gives its id."""
        if not id:
            self.ids += 1
            id = self.ids
        try:
            self.table[type(body)](self, id, body)
        except CoordinatorError as error:
            self.fail(id, error)
        return id

    def ask(self, body: Struct) -> Any:
        """Send a request and give the result; raises what it was refused with."""
        id = self.send_request(body)
        if id in self.failures:
            raise self.failures[id]
        return self.answers[id][1]

    def give_credit(self, stream: int, amount: int) -> None:
        self.send_request(Credit(stream, amount))

    def cancel_stream(self, stream: int) -> None:
        self.send_request(Cancel(stream))

    def items(self, id: int, kind: Any) -> list[Any]:
        """Give the items of a stream."""
        return [msgspec.msgpack.decode(batch, type=kind) for batch in self.raw.get(id, [])]


class Small:
    """A member, its operations and its application."""

    def __init__(self) -> None:
        self.node = SmallNode()
        node: Any = self.node
        groups = [streams.operations(), sessions.operations()]
        groups += [api.operations for api in apis()]
        self.dispatcher = Dispatcher(node, groups, Limits())
        self.clients = 0

    def connect(self) -> TestedConnection:
        """Connect a new client."""
        self.clients += 1
        self.node.execute(ClientRegister(self.clients))
        return TestedConnection(self.node, self.dispatcher.table, self.clients)

    def app(self) -> FastAPI:
        node: Any = self.node
        return build_app(node, apis())

    @asynccontextmanager
    async def http(self) -> AsyncIterator[httpx.AsyncClient]:
        """Talk HTTP to the member."""
        transport = httpx.ASGITransport(app=self.app())
        async with httpx.AsyncClient(transport=transport, base_url="http://small") as client:
            yield client


async def turns(count: int = 20) -> None:
    """Let the loop turn."""
    for _ in range(count):
        await asyncio.sleep(0)
