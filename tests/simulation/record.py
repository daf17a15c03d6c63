"""What really happened: every entry that any member stored or applied, and what clients were told.

The record looks on from outside; nothing in the simulation reads it but the checkers.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import msgspec

from coordinator.keyspace.records import Events
from coordinator.node import node as node_module
from coordinator.node.peers import Links
from coordinator.raft import RawNode
from coordinator.replica.effects import Append, Effects
from coordinator.replica.machine import Applied
from coordinator.replica.replica import Replica
from coordinator.wire.raft import Entry, Message, MessageType
from tests.simulation.checkers.consensus import Consensus
from tests.simulation.clock import NoEnd

_encode = msgspec.msgpack.Encoder().encode

MESSAGES_MAX = 300_000
"""Messages between members in one run; a run takes less than a quarter of that."""


@dataclass
class Revision:
    """One revision, when it was first seen."""

    number: int
    at: float
    index: int
    events: Events


@dataclass
class Told:
    """One acknowledged change: what a client asked for and was told."""

    client: int
    sequence: int
    body: Any
    revision: int
    result: Any
    sent_at: float
    told_at: float


@dataclass
class Record:
    """The whole run.

    Attributes:
        chains: By index, the hash chain after the entry; equal whoever applies it, and when.
        revisions: Every revision, in order.
        told: Every acknowledged change, in the order of the answers.
        denied: Every change of which a client was told that it is not applied.
        violations: Broken promises found while it ran.
        consensus: What the members' logs and leaders have been.
        note: Told of what people want to see in the end.
    """

    chains: dict[int, bytes] = field(default_factory=dict)
    revisions: list[Revision] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)
    denied: list[Any] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    messages: int = 0
    now: Any = None
    note: Callable[[str], None] = print

    def __post_init__(self) -> None:
        """Look on."""
        self.consensus = Consensus(self.violate, self.note)

    def applied(self, replica: Replica, entry: Entry, what: Applied) -> None:
        """Take note of an entry that a member has just applied."""
        self.consensus.applied(replica, entry)
        machine = replica.machine
        known = self.chains.setdefault(entry.index, machine.chain)
        if known != machine.chain:
            self.violate(
                f"member {replica.raw.id:x}: entry {entry.index} was applied with another chain"
            )
        if not what.events:
            return
        number = machine.keyspace.revision
        last = self.revisions[-1].number if self.revisions else 1
        if number == last + 1:
            self.revisions.append(Revision(number, self.now(), entry.index, what.events))
        elif number > last + 1:
            self.violate(f"revision {number} follows {last}")
        else:
            self._compare(number, what.events)

    def _compare(self, number: int, events: Events) -> None:
        first = self.revisions[0].number
        known = self.revisions[number - first].events
        if known != events and _encode(known) != _encode(events):
            self.violate(f"revision {number} was something else before")

    def violate(self, text: str) -> None:
        """Note a broken promise."""
        self.violations.append(f"{self.now():.3f}: {text}")

    def digest(self) -> str:
        """Give a hash of everything that happened."""
        state = blake2b(digest_size=16)
        for index in sorted(self.chains):
            state.update(self.chains[index])
        for told in self.told:
            state.update(_encode([told.client, told.sequence, told.revision, told.told_at]))
        state.update(_encode(sorted(self.consensus.leaders.items())))
        for text in self.violations:
            state.update(text.encode())
        return state.hexdigest()


class _Notes(logging.Handler):
    """Puts what members log among what people want to see in the end."""

    def __init__(self, note: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._note = note

    def emit(self, record: logging.LogRecord) -> None:
        self._note(f"  log: {record.getMessage()}")


@contextmanager
def listening(note: Callable[[str], None]) -> Iterator[None]:
    """Note warnings instead of printing them."""
    logger = logging.getLogger("coordinator")
    notes, propagated = _Notes(note), logger.propagate
    logger.addHandler(notes)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(notes)
        logger.propagate = propagated


@contextmanager
def recording(record: Record) -> Iterator[None]:
    """Look over the shoulder of every replica."""
    before, fault_before = Replica._applied, node_module._log_fault
    role_before, persisted_before = Replica._note_role, Replica.persisted
    add_before, init_before, turn_before = Links.add, Replica.__init__, Replica.turn

    def applied(replica: Replica, entry: Entry, what: Applied) -> None:
        record.applied(replica, entry, what)
        before(replica, entry, what)

    def begin(replica: Replica, raw: RawNode, *parts: Any, **more: Any) -> None:
        init_before(replica, raw, *parts, **more)
        record.consensus.begun(raw)

    def turn(replica: Replica, *, hold: bool = False) -> Effects:
        effects = turn_before(replica, hold=hold)
        if replica.is_leader:
            record.consensus.led(replica)
        return effects

    def add(links: Links, message: Message) -> None:
        record.messages += 1
        if record.messages > MESSAGES_MAX:
            raise NoEnd(f"{MESSAGES_MAX} messages and no end")
        if message.type == MessageType.MSG_VOTE_RESP and not message.reject:
            record.consensus.voted(message)
        add_before(links, message)

    def note_role(replica: Replica) -> None:
        was_leader = replica.is_leader
        role_before(replica)
        if replica.is_leader and not was_leader:
            record.counts["elections"] += 1
            record.consensus.elected(replica)

    def persisted(replica: Replica, append: Append) -> None:
        persisted_before(replica, append)
        record.consensus.stored(replica, append.entries)
        if append.snapshot is not None:
            record.counts["installs"] += 1
            record.note(f"{replica.raw.id:x} installs {append.snapshot.metadata.index}")

    def fault(entry: Entry, error: Exception) -> None:
        record.violate(f"entry {entry.index} met a mistake in the code: {error!r}")

    Replica._applied = applied  # type: ignore[method-assign, assignment]
    Replica._note_role = note_role  # type: ignore[method-assign, assignment]
    Replica.persisted = persisted  # type: ignore[method-assign, assignment]
    Replica.__init__ = begin  # type: ignore[method-assign, assignment]
    Replica.turn = turn  # type: ignore[method-assign, assignment]
    Links.add = add  # type: ignore[method-assign, assignment]
    node_module._log_fault = fault
    try:
        yield
    finally:
        Replica._applied = before  # type: ignore[method-assign]
        Replica._note_role = role_before  # type: ignore[method-assign]
        Replica.persisted = persisted_before  # type: ignore[method-assign]
        Replica.__init__ = init_before  # type: ignore[method-assign]
        Replica.turn = turn_before  # type: ignore[method-assign]
        Links.add = add_before  # type: ignore[method-assign]
        node_module._log_fault = fault_before
