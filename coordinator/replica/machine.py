"""The state machine: what a committed entry does.

`Machine.apply` is a function of the state and the entry alone, so every member that applies
the same log has the same state, which the hash chain proves. An entry never fails half way:
a command that is refused changes nothing, and its refusal is its outcome. So it is with a
command over which a mistake in the code stumbles: an entry that stopped a member would stop
it again at every start, and all the others with it.

Entries that touch very many keys are applied in slices: `apply` then returns a generator
that the caller drives, and nothing outside sees the entry before it is complete.
"""

from __future__ import annotations

import struct
from collections import deque

# The C constructor itself: hashlib.blake2b is this very object, re-exported.
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final, Protocol, get_type_hints

import msgspec
from msgspec import Struct

from coordinator.keyspace.auth import AuthStore
from coordinator.keyspace.keyspace import Keyspace
from coordinator.keyspace.records import Events, Row, row_of
from coordinator.keyspace.transaction import Commit
from coordinator.replica import commands, membership, permissions
from coordinator.replica.domain import Domain, Meta
from coordinator.replica.entry import EntryTxn
from coordinator.replica.requests import Outcome, RequestTable, StoredOutcome
from coordinator.replica.timers import TimerRecord, TimerTable
from coordinator.replica.trail import Trail
from coordinator.wire import systemkey
from coordinator.wire.command import CommandCodec, Envelope
from coordinator.wire.raft import ConfState, Entry
from coordinator_sdk.errors import Internal, NoSpace, NotApplied, OutcomeUnknown, error_from_wire
from coordinator_sdk.protocol.cluster import MemberChangeResult
from coordinator_sdk.protocol.kv import KeyValue

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from coordinator.replica.members import Member
    from coordinator.replica.membership import Decision

HOOKS_PER_ENTRY: Final = 1000
"""Records whose ``on_lease_end`` runs in one entry; the rest wait for continuation entries."""
SWEEP_PER_ENTRY: Final = 256
"""Superseded versions that every entry drops, while there are any below the compact revision."""
DEFAULT_QUOTA_BYTES: Final = 2 << 30

_encode = msgspec.msgpack.Encoder().encode
_position = struct.Struct(">QQQI").pack
_NOTHING: Final = Commit(0, [])


class Applied(Struct, gc=False):
    """What applying one entry did.

    Attributes:
        index: Position of the entry.
        outcome: What the proposer is told; None for an entry that nobody proposed.
        events: The key changes, as (space, event), all of one revision.
    """

    index: int
    outcome: Outcome | None
    events: Events


class Changes:
    """What the state database has to be told, collected over entries.

    Attributes:
        versions: Rows of new versions: (mod_revision, sub, space, key, create_revision,
            version, lease, value).
        dropped: (mod_revision, sub) of versions that compaction dropped.
        leases: Records of leases that changed; None for one that is gone.
        members: Members that changed or are gone.
    """

    def __init__(self) -> None:
        self.versions: list[Row] = []
        self.dropped: list[tuple[int, int]] = []
        self.leases: dict[int, bytes | None] = {}
        self.members: dict[int, None] = {}


class LeaseListener(Protocol):
    """Learns of leases as they come and go; the leader's clock."""

    def granted(self, lease: int, ttl_ms: int) -> None:
        """A lease begins to live."""

    def ended(self, lease: int) -> None:
        """A lease is gone."""


class Machine:
    """The replicated state and the rules by which entries change it.

    Args:
        domains: The domains on top; their commands and hooks become part of the machine.
        keyspace: The keyspace as loaded; a new one by default.
    """

    def __init__(self, domains: Sequence[Domain], keyspace: Keyspace | None = None) -> None:
        self.domains = {domain.name: domain for domain in domains}
        self.applies: dict[type[Any], Any] = dict(commands.CORE)
        self.consuming: frozenset[type[Any]] = frozenset(commands.CONSUMING)
        rules = dict(permissions.CORE_RULES)
        for domain in domains:
            self.applies.update(domain.commands)
            self.consuming |= frozenset(domain.consuming)
            rules |= domain.rules
        self.rules = rules
        """What each command and query needs of whoever asks."""
        kinds = (*self.applies, *membership.CHANGES)
        self._operations = {kind: str(kind.__struct_config__.tag) for kind in kinds}
        self.codec = CommandCodec(kinds)
        self.keyspace = keyspace or Keyspace()
        self.auth = AuthStore()
        self.trail = Trail()
        self.requests = RequestTable(_result_types(self.applies))
        self.timers = TimerTable()
        self.members: dict[int, Member] = {}
        self.members_version = 0
        """Counts the changes of the members and the configuration that this process has seen."""
        self.removed: dict[int, None] = {}
        """Members that are gone for good."""
        self.alarms: dict[tuple[int, str], None] = {}
        self.hooks: deque[KeyValue] = deque()
        """Records of ended leases whose domain has not been told yet."""
        self.lease_listener: LeaseListener | None = None
        self.on_fault: Callable[[Entry, Exception], None] | None = None
        """Told of an entry over which the code stumbled, and of the exception."""
        self.conf_state = ConfState()
        self.index = 0
        self.term = 0
        self.clock_ms = 0
        self.quota_bytes = DEFAULT_QUOTA_BYTES
        self.chain = b"\0" * 16
        self.changes = Changes()

    @property
    def is_full(self) -> bool:
        """Whether the quota is used up."""
        return self.keyspace.bytes_used >= self.quota_bytes

    def begin(self, index: int, term: int, conf_state: ConfState) -> None:
        """Start a new group behind its first snapshot."""
        self.index, self.term, self.conf_state = index, term, conf_state

    def meta(self) -> dict[str, object]:
        """Give the single facts that the state database keeps beside rows and records."""
        return {
            "applied_index": self.index,
            "applied_term": self.term,
            "clock_ms": self.clock_ms,
            "chain": self.chain,
            "quota_bytes": self.quota_bytes,
            "conf_state": _encode(self.conf_state),
            "keyspace": _encode(self.keyspace.meta),
            "hooks": _encode(list(self.hooks)),
            "alarms": [list(alarm) for alarm in self.alarms],
            "removed": list(self.removed),
            "auth": self.auth.meta(),
            "trail": self.trail.meta(),
        }

    def load_meta(self, meta: dict[str, Any]) -> None:
        """Take in the facts that `meta` gave; the keyspace has been loaded before."""
        self.index = meta["applied_index"]
        self.term = meta["applied_term"]
        self.clock_ms = meta["clock_ms"]
        self.chain = meta["chain"]
        self.quota_bytes = meta["quota_bytes"]
        self.conf_state = msgspec.msgpack.decode(meta["conf_state"], type=ConfState)
        self.hooks = deque(msgspec.msgpack.decode(meta["hooks"], type=list[KeyValue]))
        self.alarms = dict.fromkeys((member, alarm) for member, alarm in meta["alarms"])
        self.removed = dict.fromkeys(meta.get("removed", ()))

    def apply(self, entry: Entry) -> Applied | Generator[None, None, Applied]:
        """Apply the next entry.

        Args:
            entry: A committed normal entry; its index follows the last one applied.

        Returns:
            What it did; or, for an entry with very much to do, a generator to be driven to
            its end, whose value tells it. No other entry may be applied meanwhile.

        Raises:
            UnknownCommand: This program is too old for the log.
        """
        assert entry.index == self.index + 1, (entry.index, self.index)
        if not entry.data:
            return self._finish(entry, None, None)
        envelope = self.codec.decode(entry.data)
        if envelope.clock_ms > self.clock_ms:
            self.clock_ms = envelope.clock_ms
        if envelope.client and (known := self.known(envelope)) is not None:
            return self._finish(entry, None, known)
        if self.auth.enabled and (refused := self.refused(envelope)) is not None:
            return self._finish(entry, envelope, refused)
        meta = Meta(
            entry.index,
            entry.term,
            envelope.client,
            envelope.sequence,
            envelope.actor,
            envelope.origin,
            self.clock_ms,
        )
        txn = EntryTxn(self, meta)
        body = envelope.body
        kind = type(body)
        if kind in commands.MAY_BE_LARGE and commands.is_large(self, body):
            return self._apply_in_slices(entry, envelope, txn)
        try:
            if self.is_full and kind in self.consuming:
                raise NoSpace("etcdserver: mvcc: database space exceeded", limit="quota")
            result = self.applies[kind](txn, body)
        except Exception as error:
            return self._fail(entry, envelope, txn, error)
        commit = txn.commit()
        return self._finish(entry, envelope, self._outcome(txn, result), commit)

    def _apply_in_slices(
        self, entry: Entry, envelope: Envelope[Any], txn: EntryTxn
    ) -> Generator[None, None, Applied]:
        try:
            result = yield from commands.apply_large(txn, envelope.body)
        except Exception as error:
            return self._fail(entry, envelope, txn, error)
        commit = txn.commit()
        return self._finish(entry, envelope, self._outcome(txn, result), commit)

    def _outcome(self, txn: EntryTxn, result: Any) -> Outcome:
        keys = txn.keys
        if not keys.reads_history:
            return Outcome(self.keyspace.revision, result)
        return Outcome(self.keyspace.revision, result, None, keys.pending or None, True)

    def _fail(
        self, entry: Entry, envelope: Envelope[Any], txn: EntryTxn, error: Exception
    ) -> Applied:
        """Undo an entry that was refused, or that met a mistake in the code."""
        txn.rollback()
        if not isinstance(error, NotApplied):
            if isinstance(error, (MemoryError, RecursionError)):
                raise error  # Other members may fare better.
            if self.on_fault is not None:
                self.on_fault(entry, error)
            error = Internal("applying the command failed by a mistake of ours; nothing changed")
        return self._finish(entry, envelope, self.refusal(error))

    def known(self, envelope: Envelope[Any]) -> Outcome | None:
        """Give the outcome of an earlier try, or the refusal to try, or None for a first try."""
        if self.auth.enabled and not envelope.actor:
            return self.refused(envelope)
        try:
            stored = self.requests.find(
                envelope.client,
                envelope.sequence,
                envelope.body,
                envelope.floor,
                envelope.actor,
            )
        except (NotApplied, OutcomeUnknown) as error:
            return self.refusal(error)
        return None if stored is None else _outcome_of(stored)

    def refused(self, envelope: Envelope[Any]) -> Outcome | None:
        """Give the refusal of a command that its sender may not give; None if it may."""
        try:
            permissions.judge(self, envelope)
        except NotApplied as error:
            return self.refusal(error)
        except Exception as error:
            # What can't be judged is denied; it must not stop the member.
            if self.on_fault is not None:
                self.on_fault(Entry(self.term, self.index + 1), error)
            return self.refusal(Internal("judging the command failed by a mistake of ours"))
        return None

    def refusal(self, error: Any) -> Outcome:
        """Give the outcome of a command that was refused."""
        return Outcome(self.keyspace.revision, None, (error.code, error.message, error.details))

    def _finish(
        self,
        entry: Entry,
        envelope: Envelope[Any] | None,
        outcome: Outcome | None,
        commit: Commit = _NOTHING,
    ) -> Applied:
        """Book the entry: request table, chain, compaction's share, rows for the database."""
        self.index = entry.index
        self.term = entry.term
        if envelope is not None and envelope.client and outcome is not None:
            self.requests.record(
                envelope.client,
                envelope.sequence,
                envelope.floor,
                envelope.body,
                outcome,
                entry.index,
            )
        events = commit.events
        if len(events) == 1:
            space, event = events[0]
            self.changes.versions.append(row_of(space, 0, event))
        elif events:
            self.changes.versions += [
                row_of(space, sub, event) for sub, (space, event) in enumerate(events)
            ]
        if events and envelope is not None:
            operation = self._operations[type(envelope.body)]
            self.trail.note(self.keyspace.revision, envelope, operation, self.clock_ms)
        self._extend_chain(outcome, commit.digests)
        # Cheaper than asking the keyspace with every entry.
        compact_revision = self.keyspace.compact_revision
        if compact_revision:
            if self.keyspace.is_sweepable:
                self.changes.dropped += self.keyspace.sweep(SWEEP_PER_ENTRY)
            if self.trail.is_sweepable(compact_revision):
                self.trail.sweep(compact_revision, SWEEP_PER_ENTRY)
        return Applied(entry.index, outcome, events)

    def _extend_chain(self, outcome: Outcome | None, digests: Sequence[int]) -> None:
        """chain(i) = H(chain(i-1), i, live rows, effects, result code); members compare it."""
        keyspace = self.keyspace
        place = _position(self.index, keyspace.revision, keyspace.digest, len(digests))
        parts = [self.chain, place, *[digest.to_bytes(8, "big") for digest in digests]]
        if outcome is not None and outcome.error is not None:
            parts.append(outcome.error[0].encode())
        # One call over the whole: several of them cost more than the hashing.
        self.chain = blake2b(b"".join(parts), digest_size=16).digest()

    def chain_auth(self) -> None:
        """Make the chain tell of a change of users, roles or keys, which has no revision."""
        self.chain = blake2b(self.chain + self.auth.take_effects(), digest_size=16).digest()

    def apply_conf_change(self, entry: Entry, decision: Decision, conf_state: ConfState) -> Applied:
        """Book an entry that changed the configuration of the group, or was refused to.

        Args:
            entry: The entry.
            decision: What `membership.decide` said of it.
            conf_state: The configuration that the consensus core has taken up.
        """
        assert entry.index == self.index + 1, (entry.index, self.index)
        former = self.conf_state
        if conf_state != former:
            self.conf_state = conf_state
            self.members_version += 1
        envelope, outcome = decision.envelope, decision.outcome
        if envelope is not None and outcome is None:
            outcome = Outcome(
                self.keyspace.revision, membership.take_up(self, envelope.body, former)
            )
        return self._finish(entry, envelope, outcome)

    def note_member(self, member: int) -> None:
        """Note that a member of the table changed, or is gone."""
        self.changes.members[member] = None
        self.members_version += 1

    def end_lease_hooks(self, txn: EntryTxn, records: Iterator[KeyValue]) -> None:
        """Tell the domains of records that went with a lease, as many as one entry may."""
        budget = HOOKS_PER_ENTRY
        for record in records:
            domain = self.domains.get(str(systemkey.unpack(record.key)[1]))
            if domain is None or domain.on_lease_end is None:
                continue
            if budget:
                budget -= 1
                domain.on_lease_end(txn, record)
            else:
                self.hooks.append(record)

    def fire_timer(self, txn: EntryTxn, key: bytes, record: TimerRecord) -> None:
        """Run a timer that is due."""
        self.timers.cancel(key)
        domain = self.domains.get(record.domain)
        if domain is not None and domain.on_timer is not None:
            domain.on_timer(txn, key)


def _outcome_of(stored: StoredOutcome) -> Outcome:
    if stored.truncated:
        error = Internal(
            f"applied at revision {stored.revision}; its result was not kept",
            revision=stored.revision,
        )
        return Outcome(stored.revision, None, (error.code, error.message, error.details))
    return Outcome(stored.revision, stored.result, stored.error)


def _result_types(applies: dict[type[Any], Any]) -> dict[str, Any]:
    types = {
        kind.__struct_config__.tag: get_type_hints(apply).get("return", Any)
        for kind, apply in applies.items()
    }
    for kind in membership.CHANGES:
        types[kind.__struct_config__.tag] = MemberChangeResult
    return types


def outcome_error(outcome: Outcome) -> Exception | None:
    """Give the exception that an outcome stands for, or None."""
    return error_from_wire(*outcome.error) if outcome.error else None
