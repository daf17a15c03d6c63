"""A cluster in a few hundred lines, to test the client against: no loop, no socket, no disk.

It keeps what the client relies on: request ids with a floor, streams that resume, tickets,
sessions. What it does not keep is speed, durability or the finer rules of the domains.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec import Struct

from coordinator_sdk.errors import (
    Compacted,
    CoordinatorError,
    GuardFailed,
    NotFound,
    NotHeld,
    RequestReused,
    SessionNotFound,
    UnknownOperation,
)
from coordinator_sdk.protocol import (
    REQUESTS,
    auth,
    cluster,
    elections,
    kv,
    locks,
    services,
    sessions,
    tickets,
    topics,
)
from coordinator_sdk.protocol.codec import MSGPACK, RequestDecoder
from coordinator_sdk.protocol.frames import Header
from tests.sdk.gate import Gate

DECODER = RequestDecoder(tuple({*REQUESTS, auth.Login, auth.Reauthenticate}))
encode = msgspec.msgpack.encode


@dataclass
class Place:
    """A ticket of a lock or election."""

    ticket: str
    session: int
    owner: str
    value: bytes = b""
    state: str = tickets.QUEUED
    token: int = 0
    reason: str = ""


@dataclass
class Queue:
    """A lock or election: its holder first, then its waiters."""

    places: list[Place] = field(default_factory=list)
    ended: dict[str, Place] = field(default_factory=dict)
    changes: list[elections.ElectionChange] = field(default_factory=list)


@dataclass
class Known:
    """What the request table keeps of a client."""

    floor: int = 0
    answers: dict[int, tuple[bytes, int, Any]] = field(default_factory=dict)


class Cluster:
    """The state, and what changes it.

    Attributes:
        applied: How often each (client, request) changed something.
        refuse: Called before each request; may return an error to refuse it with.
        members: The members it tells of.
        members_version: What frames tell; another number when the members changed.
        gate: Who may come in; everybody without one.
    """

    def __init__(self, cluster_id: int = 77) -> None:
        self.id = cluster_id
        self.revision = 1
        self.compacted = 0
        self.keys: dict[bytes, kv.KeyValue] = {}
        self.history: list[tuple[int, kv.Event]] = []
        self.clients: dict[int, Known] = {}
        self.applied: Counter[tuple[int, int]] = Counter()
        self.sessions: dict[int, sessions.SessionInfo] = {}
        self.queues: dict[tuple[str, str], Queue] = {}
        self.instances: dict[tuple[str, str], services.Instance] = {}
        self.service_log: list[services.ServiceChange] = []
        self.messages: list[topics.TopicMessage] = []
        self.refuse: Callable[[Any], CoordinatorError | None] = lambda body: None
        self.renewals = 0
        self.next_id = 1000
        self.members: list[cluster.MemberInfo] = []
        self.members_version = 0
        self.gate: Gate | None = None

    def new_id(self) -> int:
        """A fresh id."""
        self.next_id += 1
        return self.next_id

    # ------------------------------------------------------------- changes

    def change(self, client: int, id: int, floor: int, body: Struct) -> tuple[int, Any]:
        """Apply a change at most once."""
        known = self.clients.get(client)
        if known is None:
            raise RequestReused("unknown client")
        known.floor = max(known.floor, floor)
        known.answers = {at: answer for at, answer in known.answers.items() if at >= known.floor}
        assert len(known.answers) <= 256, "the client has more changes under way than allowed"
        digest = encode(body)
        if id in known.answers:
            seen, revision, result = known.answers[id]
            if seen != digest:
                raise RequestReused("another command")
            if isinstance(result, CoordinatorError):
                raise result
            return revision, self._current(body, result)
        if id < known.floor:
            raise RequestReused("below the floor")
        self.applied[client, id] += 1
        try:
            result = self.apply(body)
        except CoordinatorError as error:
            known.answers[id] = (digest, self.revision, error)
            raise
        known.answers[id] = (digest, self.revision, result)
        return self.revision, result

    def _current(self, body: Struct, result: Any) -> Any:
        if isinstance(body, locks.LockAcquire | elections.ElectionCampaign):
            return self.place_state(body)
        return result

    def apply(self, body: Any) -> Any:
        """Apply a change."""
        return getattr(self, "apply_" + type(body).__name__)(body)

    def check_guard(self, guard: kv.Guard | None) -> None:
        """Refuse a stale guard."""
        if guard is None:
            return
        queue = self.queue(guard.kind, guard.name)
        held = queue.places[0] if queue.places else None
        if held is None or (held.token, held.session) != (guard.token, guard.session):
            raise GuardFailed("the token is stale")

    def apply_Put(self, body: kv.Put) -> kv.PutResult:
        self.check_guard(body.guard)
        self.revision += 1
        old = self.keys.get(body.key)
        created = old.create_revision if old else self.revision
        version = old.version + 1 if old else 1
        new = kv.KeyValue(body.key, created, self.revision, version, body.lease, body.value)
        self.keys[body.key] = new
        self.history.append((self.revision, kv.Event(0, new, old)))
        return kv.PutResult(self.revision, old if body.prev_kv else None)

    def apply_Delete(self, body: kv.Delete) -> kv.DeleteResult:
        gone = [self.keys.pop(key) for key in sorted(self.keys) if within(key, body)]
        if gone:
            self.revision += 1
        for old in gone:
            ghost = kv.KeyValue(old.key, mod_revision=self.revision)
            self.history.append((self.revision, kv.Event(1, ghost, old)))
        return kv.DeleteResult(self.revision, len(gone))

    def apply_Txn(self, body: kv.Txn) -> kv.TxnResult:
        ok = all(self._holds(compare) for compare in body.compare)
        answers = []
        for op in body.success if ok else body.failure:
            answers.append(self.read_Range(op) if isinstance(op, kv.Range) else self.apply(op))
        return kv.TxnResult(self.revision, ok, answers)

    def _holds(self, compare: kv.Compare) -> bool:
        found = self.keys.get(compare.key)
        return compare.target == 3 and (found.value if found else None) == compare.value

    def apply_Compact(self, body: kv.Compact) -> kv.CompactResult:
        self.compacted = body.revision
        return kv.CompactResult(self.revision)

    def apply_LeaseGrant(self, body: kv.LeaseGrant) -> kv.LeaseGrantResult:
        id = body.lease or self.new_id()
        self.sessions[id] = sessions.SessionInfo(id, body.ttl_ms)
        return kv.LeaseGrantResult(id, body.ttl_ms)

    def apply_LeaseRevoke(self, body: kv.LeaseRevoke) -> kv.LeaseRevokeResult:
        self.sessions.pop(body.lease, None)
        return kv.LeaseRevokeResult(self.revision)

    def apply_SessionOpen(self, body: sessions.SessionOpen) -> sessions.SessionOpenResult:
        id = self.new_id()
        self.sessions[id] = sessions.SessionInfo(id, body.ttl_ms, application=body.application)
        return sessions.SessionOpenResult(id, body.ttl_ms)

    def apply_SessionClose(self, body: sessions.SessionClose) -> sessions.SessionOpenResult:
        if body.session not in self.sessions:
            raise SessionNotFound("no such session")
        self.expire(body.session)
        return sessions.SessionOpenResult(body.session, 0)

    def expire(self, session: int) -> None:
        """End a session and what hangs on it."""
        self.sessions.pop(session, None)
        for (kind, _), queue in self.queues.items():
            for place in [place for place in queue.places if place.session == session]:
                self.end_place(kind, queue, place, tickets.EXPIRED, "session ended")
        for key in [key for key, found in self.instances.items() if found.session == session]:
            self.remove_instance(key)

    # ------------------------------------------------------------- tickets

    def queue(self, kind: str, name: str) -> Queue:
        """The queue of a lock or election."""
        return self.queues.setdefault((kind, name), Queue())

    def place_state(self, body: Any) -> tickets.TicketState:
        """Where a ticket stands."""
        kind = "locks" if type(body).__name__.startswith("Lock") else "elections"
        queue = self.queue(kind, body.name)
        for at, place in enumerate(queue.places):
            if place.ticket == body.ticket:
                return tickets.TicketState(place.ticket, place.state, place.token, at)
        ended = queue.ended.get(body.ticket)
        if ended is None:
            raise NotFound("no such ticket")
        return tickets.TicketState(ended.ticket, ended.state, 0, 0, ended.reason)

    def _enqueue(self, kind: str, body: Any, value: bytes) -> tickets.TicketState:
        if body.session not in self.sessions:
            raise SessionNotFound("no such session")
        queue = self.queue(kind, body.name)
        known = {place.ticket for place in queue.places} | set(queue.ended)
        if body.ticket not in known:
            place = Place(body.ticket, body.session, body.owner, value)
            if queue.places and body.timeout_ms == 0:
                place.state = tickets.EXPIRED
                queue.ended[place.ticket] = place
            else:
                self.revision += 1
                queue.places.append(place)
                self._grant(kind, queue)
        return self.place_state(body)

    def _grant(self, kind: str, queue: Queue) -> None:
        if not queue.places:
            if kind == "elections" and queue.changes:
                queue.changes.append(elections.ElectionChange(self.revision, "vacant"))
            return
        first = queue.places[0]
        if first.state == tickets.QUEUED:
            first.state, first.token = tickets.GRANTED, self.revision
            leader = elections.ElectionLeader(
                first.token, first.session, first.owner, first.ticket, 0, first.value
            )
            queue.changes.append(elections.ElectionChange(self.revision, "elected", leader))

    def end_place(self, kind: str, queue: Queue, place: Place, state: str, reason: str) -> None:
        """Take a ticket out of its queue."""
        self.revision += 1
        queue.places.remove(place)
        place.state, place.reason, place.token = state, reason, 0
        queue.ended[place.ticket] = place
        self._grant(kind, queue)

    def _release(self, kind: str, body: Any) -> None:
        queue = self.queue(kind, body.name)
        held = queue.places[0] if queue.places else None
        if held is None or held.token != body.token or held.owner != body.owner:
            raise NotHeld("not held by the caller")
        self.end_place(kind, queue, held, tickets.RELEASED, "")

    def _cancel(self, kind: str, body: Any) -> None:
        queue = self.queue(kind, body.name)
        for place in [place for place in queue.places if place.ticket == body.ticket]:
            self.end_place(kind, queue, place, tickets.CANCELLED, "")

    def apply_LockAcquire(self, body: locks.LockAcquire) -> tickets.TicketState:
        return self._enqueue("locks", body, b"")

    def apply_LockRelease(self, body: locks.LockRelease) -> locks.LockReleaseResult:
        self._release("locks", body)
        return locks.LockReleaseResult(self.revision)

    def apply_LockCancel(self, body: locks.LockCancel) -> locks.LockReleaseResult:
        self._cancel("locks", body)
        return locks.LockReleaseResult(self.revision)

    def apply_LockForceRelease(self, body: locks.LockForceRelease) -> locks.LockReleaseResult:
        queue = self.queue("locks", body.name)
        if not queue.places:
            raise NotHeld("nobody holds it")
        self.end_place("locks", queue, queue.places[0], tickets.RELEASED, body.reason)
        return locks.LockReleaseResult(self.revision)

    def apply_ElectionCampaign(self, body: elections.ElectionCampaign) -> tickets.TicketState:
        return self._enqueue("elections", body, body.value)

    def apply_ElectionResign(self, body: elections.ElectionResign) -> elections.ElectionResult:
        self._release("elections", body)
        return elections.ElectionResult(self.revision)

    def apply_ElectionCancel(self, body: elections.ElectionCancel) -> elections.ElectionResult:
        self._cancel("elections", body)
        return elections.ElectionResult(self.revision)

    def apply_ElectionProclaim(self, body: elections.ElectionProclaim) -> elections.ElectionResult:
        queue = self.queue("elections", body.name)
        if not queue.places or queue.places[0].token != body.token:
            raise NotHeld("another leads")
        self.revision += 1
        queue.places[0].value = body.value
        leader = elections.ElectionLeader(body.token, body.session, body.owner, "", 0, body.value)
        change = elections.ElectionChange(self.revision, "proclaimed", leader)
        queue.changes.append(change)
        return elections.ElectionResult(self.revision)

    # ------------------------------------------------------------- services and topics

    def apply_ServiceRegister(
        self, body: services.ServiceRegister
    ) -> services.ServiceRegisterResult:
        if body.session not in self.sessions:
            raise SessionNotFound("no such session")
        self.revision += 1
        name = body.instance or f"i{self.new_id()}"
        found = services.Instance(
            body.namespace, body.service, name, body.session, body.address, body.port
        )
        found.status, found.revision = body.status, self.revision
        self.instances[body.service, name] = found
        self.service_log.append(services.ServiceChange(self.revision, [found]))
        return services.ServiceRegisterResult(self.revision, name)

    def remove_instance(self, key: tuple[str, str]) -> None:
        """Remove an instance."""
        self.revision += 1
        gone = self.instances.pop(key)
        self.service_log.append(services.ServiceChange(self.revision, [], [gone]))

    def apply_ServiceDeregister(self, body: services.ServiceDeregister) -> services.ServiceResult:
        if (body.service, body.instance) not in self.instances:
            raise NotFound("no such instance")
        self.remove_instance((body.service, body.instance))
        return services.ServiceResult(self.revision)

    def apply_ServiceSetStatus(self, body: services.ServiceSetStatus) -> services.ServiceResult:
        found = self.instances.get((body.service, body.instance))
        if found is None:
            raise NotFound("no such instance")
        self.revision += 1
        changed = msgspec.structs.replace(
            found, status=body.status, status_reason=body.reason, revision=self.revision
        )
        self.instances[body.service, body.instance] = changed
        self.service_log.append(services.ServiceChange(self.revision, [changed]))
        return services.ServiceResult(self.revision)

    def apply_TopicPublish(self, body: topics.TopicPublish) -> topics.TopicPublishResult:
        self.check_guard(body.guard)
        self.revision += 1
        sequence = 1 + sum(message.topic == body.topic for message in self.messages)
        self.messages.append(
            topics.TopicMessage(body.topic, sequence, self.revision, 0, body.payload, body.headers)
        )
        return topics.TopicPublishResult(self.revision, sequence)

    # ------------------------------------------------------------- reads

    def read_Range(self, body: kv.Range) -> kv.RangeResult:
        """Read a range, now or from history."""
        if body.revision and body.revision < self.compacted:
            raise Compacted("gone", compact_revision=self.compacted)
        state = self.keys
        if body.revision:
            state = {}
            for revision, event in self.history:
                if revision <= body.revision:
                    state[event.kv.key] = event.kv
                    if event.type:
                        del state[event.kv.key]
        found = [state[key] for key in sorted(state) if within(key, body)]
        if body.keys_only:
            found = [msgspec.structs.replace(record, value=b"") for record in found]
        return kv.RangeResult(self.revision, found, False, len(found))

    def read_LockTicket(self, body: locks.LockTicket) -> tickets.TicketState:
        return self.place_state(body)

    def read_ElectionTicket(self, body: elections.ElectionTicket) -> tickets.TicketState:
        return self.place_state(body)

    def read_ServiceDiscover(
        self, body: services.ServiceDiscover
    ) -> services.ServiceDiscoverResult:
        wanted = body.statuses or ["passing", "warning"]
        found = [
            instance
            for (service, _), instance in self.instances.items()
            if service == body.service and (instance.status in wanted or "*" in wanted)
        ]
        return services.ServiceDiscoverResult(self.revision, found)

    def read_LeaseKeepAlive(self, body: kv.LeaseKeepAlive) -> kv.LeaseKeepAliveResult:
        self.renewals += 1
        known = [self.sessions.get(lease) for lease in body.leases]
        return kv.LeaseKeepAliveResult([found.ttl_ms if found else 0 for found in known])

    def read_SessionList(self, body: sessions.SessionList) -> sessions.SessionListResult:
        return sessions.SessionListResult(list(self.sessions.values()))

    def read_LeaseTimeToLive(self, body: kv.LeaseTimeToLive) -> kv.LeaseInfo:
        return kv.LeaseInfo(body.lease)

    def read_ClusterMembers(self, body: cluster.ClusterMembers) -> cluster.ClusterMembersResult:
        return cluster.ClusterMembersResult(self.members)

    def read_Ping(self, body: cluster.Ping) -> None:
        return None


def within(key: bytes, body: Any) -> bool:
    """Whether a key is in the range of a request."""
    if not body.range_end:
        return key == body.key
    return key >= body.key and (body.range_end == b"\0" or key < body.range_end)


def matches(pattern: str, topic: str) -> bool:
    """Whether a topic matches a pattern."""
    wanted, given = pattern.split("."), topic.split(".")
    if wanted[-1] == ">":
        return len(given) >= len(wanted) and matches(
            ".".join(wanted[:-1] + ["*"]), ".".join(given[: len(wanted)])
        )
    return len(wanted) == len(given) and all(
        a in ("*", b) for a, b in zip(wanted, given, strict=True)
    )


class Open:
    """A stream that a connection has open."""

    def __init__(self, body: Any, position: int, credit: int) -> None:
        self.body = body
        self.position = position
        self.credit = credit or 1 << 40
        self.told: tuple[str, int] | None = None


class Member:
    """One connection to the cluster, seen from the server.

    Attributes:
        streams: The open streams by id.
        streams_opened: How many were ever opened.
    """

    def __init__(self, cluster: Cluster, name: int = 1) -> None:
        self.cluster = cluster
        self.name = name
        self.client = 0
        self.token = ""
        self.streams: dict[int, Open] = {}
        self.seen: list[Any] = []

    def handle(self, data: bytes) -> list[bytes]:
        """Serve a client's frame; returns encoded items."""
        floor, requests, failures = DECODER.decode(data)
        items = [MSGPACK.encode_failure(id, error) for id, error in failures]
        for request in requests:
            self.seen.append(request.body)
            try:
                refused = self.cluster.refuse(request.body)
                if refused is not None:
                    raise refused
                answer = self._serve(request.id, floor, request.body)
            except CoordinatorError as error:
                items.append(MSGPACK.encode_failure(request.id, error))
            else:
                if answer is not None:
                    items.append(MSGPACK.encode_result(request.id, *answer))
        return items

    def frame(self, items: list[bytes]) -> bytes:
        """Join items into a frame."""
        state = self.cluster
        return MSGPACK.join_frame(
            Header(state.id, self.name, 1, state.revision, state.members_version), items
        )

    def _serve(self, id: int, floor: int, body: Any) -> tuple[int, Any] | None:
        state = self.cluster
        if state.gate is not None:
            if isinstance(body, auth.Login | auth.Reauthenticate):
                self.token, answer = state.gate.prove(body)
                return state.revision, answer
            state.gate.check(self.token)
        if isinstance(body, cluster.Hello):
            resumed = body.client in state.clients
            self.client = body.client if resumed else state.new_id()
            state.clients.setdefault(self.client, Known())
            hello = cluster.HelloResult(1, self.client, resumed, state.id, self.name)
            return state.revision, hello
        if isinstance(body, kv.Credit):
            if body.stream in self.streams:
                self.streams[body.stream].credit += body.amount
            return None
        if isinstance(body, kv.Cancel):
            self.streams.pop(body.stream, None)
            return None
        if hasattr(state, "apply_" + type(body).__name__):
            revision, result = state.change(self.client, id, floor, body)
            if getattr(body, "follow", False) and result.state == tickets.QUEUED:
                self.streams[id] = Open(body, 0, 0)
            return revision, result
        return self._open(id, body) or self._read(id, body)

    def _read(self, id: int, body: Any) -> tuple[int, Any]:
        read = getattr(self.cluster, "read_" + type(body).__name__, None)
        if read is None:
            raise UnknownOperation(type(body).__name__)
        result = read(body)
        if getattr(body, "follow", False) and result.state == tickets.GRANTED:
            self.streams[id] = Open(body, 0, 0)
            self.streams[id].told = (result.state, result.token)
        return self.cluster.revision, result

    def _open(self, id: int, body: Any) -> tuple[int, Any] | None:
        state = self.cluster
        if isinstance(body, kv.Watch):
            if body.start_revision and body.start_revision <= state.compacted:
                raise Compacted("history is gone", compact_revision=state.compacted)
            position = (body.start_revision or state.revision + 1) - 1
            self.streams[id] = Open(body, position, body.credit)
            return state.revision, None
        if isinstance(body, services.ServiceWatch):
            self.streams[id] = Open(body, -1, body.credit)
            return state.revision, None
        if isinstance(body, topics.TopicSubscribe):
            start = {"latest": state.revision, "revision": body.position}.get(body.start, 0)
            self.streams[id] = Open(body, start, body.credit)
            return state.revision, None
        if isinstance(body, elections.ElectionObserve):
            self.streams[id] = Open(body, body.start_revision, body.credit)
            return state.revision, None
        return None

    def pump(self) -> list[bytes]:
        """What the open streams have to say now, as encoded items."""
        items: list[bytes] = []
        for id, stream in list(self.streams.items()):
            for value in self._news(id, stream):
                items.append(MSGPACK.encode_stream([id], MSGPACK.encode_value(value)))
        return items

    def _news(self, id: int, stream: Open) -> list[Struct]:
        body = stream.body
        if isinstance(body, kv.Watch):
            return self._events(stream)
        if isinstance(body, services.ServiceWatch):
            return self._instances(stream)
        if isinstance(body, topics.TopicSubscribe):
            return self._messages(stream)
        if isinstance(body, elections.ElectionObserve):
            changes = self.cluster.queue("elections", body.name).changes
            if not stream.position and changes:
                stream.position = changes[-1].revision
                return [changes[-1]]
            news = [change for change in changes if change.revision > stream.position]
            stream.position = news[-1].revision if news else stream.position
            return list(news)
        return self._ticket(id, stream)

    def _events(self, stream: Open) -> list[Struct]:
        by_revision: dict[int, list[kv.Event]] = {}
        for revision, event in self.cluster.history:
            if revision > stream.position and within(event.kv.key, stream.body):
                by_revision.setdefault(revision, []).append(event)
        news: list[Struct] = []
        for revision, events in sorted(by_revision.items()):
            if stream.credit <= 0:
                break
            stream.credit -= len(events)
            stream.position = revision
            news.append(kv.WatchEvents(revision, events))
        return news

    def _instances(self, stream: Open) -> list[Struct]:
        name, state = stream.body.service, self.cluster
        if stream.position < 0:
            stream.position = state.revision
            found = [one for one in state.instances.values() if name in ("", one.service)]
            return [services.ServiceSnapshot(state.revision, found)]
        news = [change for change in state.service_log if change.revision > stream.position]
        stream.position = state.revision
        return [one for one in news if name in {x.service for x in one.changed + one.removed}]

    def _messages(self, stream: Open) -> list[Struct]:
        body = stream.body
        news: list[Struct] = []
        if stream.told is None:
            stream.told = ("ready", 0)
            news.append(topics.TopicReady(stream.position))
        for message in self.cluster.messages:
            after = body.after.get(message.topic)
            fresh = message.revision > stream.position
            if after is not None:
                fresh = message.sequence > after
            if fresh and matches(body.pattern, message.topic) and stream.credit > 0:
                stream.credit -= 1
                body.after[message.topic] = message.sequence
                news.append(topics.TopicMessages([message]))
        return news

    def _ticket(self, id: int, stream: Open) -> list[Struct]:
        state = self.cluster.place_state(stream.body)
        if (state.state, state.token) in (stream.told, (tickets.QUEUED, 0)):
            return []
        stream.told = (state.state, state.token)
        waits = isinstance(stream.body, locks.LockAcquire | elections.ElectionCampaign)
        if waits or state.state != tickets.GRANTED:
            del self.streams[id]
        return [state]
