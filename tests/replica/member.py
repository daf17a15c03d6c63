"""One whole member, driven by hand: consensus, state machine, a disk in memory, virtual time.

Nothing happens unless a test asks for it: `settle` lets turns pass until nothing is left to do,
`advance` lets time pass, `save` lets the write-behind write, `crash` cuts the power.
"""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

import msgspec

from coordinator.config import Config
from coordinator.domains import DOMAINS
from coordinator.keyspace.records import USER, Events
from coordinator.node import boot
from coordinator.node.loading import load_machine
from coordinator.node.persistence import machine_batch
from coordinator.raft import RawNode
from coordinator.replica.domain import Domain
from coordinator.replica.effects import Append, Proposal
from coordinator.replica.machine import Machine
from coordinator.replica.replica import Replica
from coordinator.replica.requests import Outcome
from coordinator.replica.requests import _row_of as row_of
from coordinator.storage.errors import StorageError
from coordinator.storage.memory import MemoryFiles, open_memory_log
from coordinator.storage.memory_state import MemoryDatabase, MemoryStateStore
from coordinator.storage.record import LogBatch
from coordinator_sdk.errors import CoordinatorError, error_from_wire
from coordinator_sdk.protocol.cluster import ClientRegister
from coordinator_sdk.protocol.kv import LeaseGrant
from coordinator_sdk.protocol.sessions import SessionOpen

MEMBER = 7
TICK_MS = 100
Result = TypeVar("Result")


def run(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine that never suspends."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: Result = stop.value
        return result
    raise AssertionError("it suspended")


class Answer:
    """What the proposer of a command is told."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []

    def __call__(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)

    @property
    def outcome(self) -> Outcome:
        """The one answer."""
        assert len(self.outcomes) == 1, self.outcomes
        return self.outcomes[0]

    def result(self) -> Any:
        """Give the result, or raise the error."""
        if self.outcome.error is not None:
            raise error_from_wire(*self.outcome.error)
        return self.outcome.result


class Member:
    """A group of one.

    Attributes:
        published: (revision, events) of every entry since the start that changed a key.
        failure: Why the log failed, if it did.
    """

    def __init__(self, domains: Sequence[Domain] = DOMAINS, *, starts: bool = True) -> None:
        self.domains = domains
        self.files = MemoryFiles()
        self.database = MemoryDatabase()
        self.config = Config()
        self.now_ms = 1_000
        self.wall_ms = 1_700_000_000_000
        self.runs = 0
        if starts:
            self.start()

    def start(self, *, campaigns: bool = True) -> None:
        """Begin to run on what the disk holds."""
        self.runs += 1
        self.failure: StorageError | None = None
        self.faults: list[Exception] = []
        self.published: list[tuple[int, Events]] = []
        self.log, contents = open_memory_log(self.files)
        self.store = MemoryStateStore(self.database)
        self.machine: Machine = run(load_machine(self.domains, self.store))
        self.machine.on_fault = lambda entry, error: self.faults.append(error)
        if self.machine.index == 0:
            metadata = boot.first_snapshot(MEMBER, contents)
            if contents.install is None:
                self.log.submit(LogBatch(install=metadata), self._note)
                self.log.sync()
                assert self.failure is None
                contents.boundary_index, contents.boundary_term = metadata.index, metadata.term
            self.machine.begin(metadata.index, metadata.term, metadata.conf_state)
        memory = boot.raft_storage(self.machine, contents)
        config = boot.raft_config(self.config, MEMBER, memory, self.machine.index, self.runs)
        self.replica = Replica(
            RawNode(config),
            memory,
            self.machine,
            incarnation=self.runs,
            on_events=lambda revision, events: self.published.append((revision, events)),
        )
        self.replica.set_time(self.now_ms, self.wall_ms)
        if campaigns:
            self.replica.raw.campaign()
            self.settle()
            assert self.replica.is_leader

    def _note(self, error: StorageError | None) -> None:
        self.failure = self.failure or error

    # ------------------------------------------------------------ time and turns

    def turn(self) -> None:
        """Let one turn pass: propose what is queued, make it durable; apply nothing."""
        for append in self.replica.turn().appends:
            self._write(append)
        self.log.sync()

    def _write(self, append: Append) -> None:
        if not append.entries and not append.snapshot and not append.must_sync:
            self.replica.persisted(append)
            return
        install = append.snapshot.metadata if append.snapshot else None

        def written(error: StorageError | None) -> None:
            self._note(error)
            if error is None:
                self.replica.persisted(append)

        self.log.submit(LogBatch(install, append.entries, append.hard_state), written)

    def settle(self) -> None:
        """Let turns pass until nothing is left to do."""
        while True:
            self.turn()
            raw = self.replica.raw
            if self.failure or not (self.replica.has_committed or raw.has_ready()):
                return
            while self.replica.apply():
                pass

    def replay_to(self, index: int) -> None:
        """After `stop` or `crash`: start again and apply the log up to an index, no further."""
        self.start(campaigns=False)
        self.replica.raw.campaign()
        while self.machine.index < index:
            self.turn()
            if self.replica.has_committed:
                self.replica.apply(entries_max=1)
        assert self.machine.index == index

    def advance(self, ms: int, *, settles: bool = True) -> None:
        """Let time pass in ticks."""
        end = self.now_ms + ms
        while self.now_ms < end:
            step = min(TICK_MS, end - self.now_ms)
            self.now_ms += step
            self.wall_ms += step
            self.replica.set_time(self.now_ms, self.wall_ms)
            self.replica.tick()
            if settles:
                self.settle()

    # ------------------------------------------------------------ commands

    def propose(self, body: Any, **who: Any) -> Answer:
        """Queue a command."""
        answer = Answer()
        self.replica.propose(Proposal(body, answer, **who))
        return answer

    def execute(self, body: Any, **who: Any) -> Any:
        """Apply a command; give its result or raise its error."""
        answer = self.propose(body, **who)
        self.settle()
        assert not self.faults, self.faults
        return answer.result()

    def refusal(self, body: Any, **who: Any) -> CoordinatorError:
        """Apply a command that must be refused; give the error."""
        answer = self.propose(body, **who)
        self.settle()
        assert not self.faults, self.faults
        assert answer.outcome.error is not None, answer.outcome
        error = error_from_wire(*answer.outcome.error)
        assert isinstance(error, CoordinatorError)
        return error

    def register(self, client: int, **who: Any) -> int:
        """Make a client known."""
        self.execute(ClientRegister(client), **who)
        return client

    def open_session(self, session: int, ttl_ms: int = 10_000) -> int:
        """Open a session."""
        self.execute(SessionOpen(ttl_ms, session))
        return session

    def grant(self, lease: int, ttl_ms: int = 10_000) -> int:
        """Grant a plain lease."""
        self.execute(LeaseGrant(ttl_ms, lease))
        return lease

    def value(self, key: bytes) -> bytes | None:
        """Give the published value of a user key."""
        record = self.machine.keyspace.get(USER, key)
        return None if record is None else record.value

    # ------------------------------------------------------------ disks

    def save(self) -> None:
        """Let the state database catch up."""
        self.store.apply(machine_batch(self.machine))

    def restart(self, *, saves: bool = False) -> None:
        """Stop, with or without bringing the database up to date, and start again."""
        if saves:
            self.save()
        self.stop()
        self.start()

    def stop(self) -> None:
        """Stop in good order, without bringing the database up to date."""
        self.log.close()

    def crash(self, keep_bytes: int = 0) -> None:
        """Cut the power; `start` comes next."""
        self.files.crash(keep_bytes)
        self.database.crash()

    def reloaded(self) -> Machine:
        """Give the machine that a start would load, after bringing the database up to date."""
        self.save()
        return run(load_machine(self.domains, MemoryStateStore(self.database)))


def state_of(machine: Machine) -> dict[str, Any]:
    """Give everything that is replicated, in a comparable form."""
    keyspace = machine.keyspace
    table = machine.requests
    return {
        "index": machine.index,
        "term": machine.term,
        "clock": machine.clock_ms,
        "chain": machine.chain,
        "meta": keyspace.meta,
        "live": [store.live for store in keyspace.stores],
        "subs": [store.subs for store in keyspace.stores],
        "history": [store.history for store in keyspace.stores],
        "queues": [list(keyspace.superseded), list(keyspace.late)],
        "leases": {
            lease.id: (lease.ttl_ms, lease.kind, [sorted(keys) for keys in lease.keys])
            for lease in keyspace.leases.by_id.values()
        },
        "timers": machine.timers.records,
        "requests": [
            (client, msgspec.msgpack.encode(row_of(known)))
            for client, known in table._clients.items()
        ],
        "hooks": list(machine.hooks),
        "members": machine.members,
        "removed": list(machine.removed),
        "configuration": machine.conf_state,
        "alarms": list(machine.alarms),
        "quota": machine.quota_bytes,
        "auth": (
            machine.auth.meta(),
            sorted(machine.auth.users.items()),
            sorted(machine.auth.roles.items()),
            sorted(machine.auth.api_keys.items()),
        ),
        "trail": (machine.trail.meta(), machine.trail.begins()),
    }
