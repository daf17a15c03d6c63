"""The write view of one log entry.

Pure. A transaction changes the live state directly and keeps what it needs to take everything
back. It reads its own writes; everybody else goes on reading the published state, for which the
`Keyspace` looks at what the transaction replaced. An entry yields at most one revision, and only
if it changed a key.

After an error, call `Transaction.rollback`: what the entry had done until then is undone, leases
included.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from coordinator_sdk.protocol.kv import (
    Delete,
    DeleteResult,
    Event,
    EventType,
    KeyValue,
    Put,
    PutResult,
    Range,
    RangeResult,
    Txn,
    TxnResult,
)

from . import execute, refusals
from .leases import PLAIN, Lease
from .ranges import CHUNK_KEYS, PendingRange, Steps, current_steps, drain, past_steps
from .records import (
    DIGEST_MASK,
    DIGEST_WEIGHTS,
    OVERHEAD_BYTES,
    SPACES,
    Events,
    Version,
    row_digest,
    upper_bound,
)
from .space import DIGESTS_MAX
from .undo import LeaseUndo, Replaced, roll_back

if TYPE_CHECKING:
    from .keyspace import Keyspace
    from .space import Space

_PUT: Final = int(EventType.PUT)
_DELETE: Final = int(EventType.DELETE)

LeaseChange = tuple[int, bytes | None]
"""A lease and its new record; None if it is gone."""


class Commit(Struct):
    """What one entry did."""

    revision: int
    """The current revision after the entry: a new one only if there are events."""
    events: Events
    """The changes in order; the position of each is its ``sub``. Not to be changed."""
    leases: Sequence[LeaseChange] = ()
    digests: Sequence[int] = ()
    """For each event the digest of the row that it wrote, or took away; see `row_digest`."""


class Transaction:
    """One entry's changes, from `Keyspace.begin` to `commit` or `rollback`.

    Attributes:
        published: The revision that everybody else sees.
        revision: The revision this entry will have if it changes a key.
        pending: Ranges of the past that were executed and need values from the database.
        reads_history: Whether a range of the past was executed, the same on every member.
    """

    __slots__ = (
        "_aged",
        "_digest",
        "_digests",
        "_events",
        "_grown",
        "_keyspace",
        "_lease_changes",
        "_leases",
        "_replaced",
        "_stores",
        "_undo_leases",
        "clock_ms",
        "pending",
        "published",
        "reads_history",
        "revision",
    )

    def __init__(self, keyspace: Keyspace, clock_ms: int) -> None:
        self._keyspace = keyspace
        self._stores = keyspace.stores
        self._leases = keyspace.leases
        self._events: Events = []
        self._undo_leases: list[LeaseUndo] = []
        self._grown = 0
        self._aged = 0
        self._digest = 0
        self._digests: list[int] = []
        self._lease_changes: dict[int, bytes | None] | None = None
        self._replaced: Replaced | None = None
        self.clock_ms = clock_ms
        self.published = keyspace.revision
        self.revision = keyspace.revision + 1
        self.pending: list[PendingRange] = []
        self.reads_history = False

    # -- reading ---------------------------------------------------------------------------

    @property
    def changed(self) -> bool:
        """Whether a key has been changed so far."""
        return bool(self._events)

    @property
    def header_revision(self) -> int:
        """The revision that an answer given now states."""
        return self.revision if self._events else self.published

    def get(self, space: int, key: bytes) -> KeyValue | None:
        """The live record of a key, own writes included."""
        return self._stores[space].live.get(key)

    def get_lease(self, lease_id: int) -> Lease | None:
        """A lease, own changes included."""
        return self._leases.by_id.get(lease_id)

    def attached(self, lease_id: int, space: int) -> list[bytes]:
        """The keys attached to a lease in order, own changes included."""
        lease = self._leases.by_id.get(lease_id)
        return [] if lease is None else sorted(lease.keys[space])

    def scan(self, space: int, key: bytes, range_end: bytes) -> Iterator[KeyValue]:
        """The live records of a range in the order of keys; changes on the way are allowed."""
        for records in self.record_chunks(space, key, range_end):
            yield from records

    def record_chunks(self, space: int, key: bytes, range_end: bytes) -> Iterator[list[KeyValue]]:
        """The live records of a range in portions."""
        store = self._stores[space]
        if not range_end:
            record = store.live.get(key)
            if record is not None:
                yield [record]
            return
        for names in store.live_chunks(key, upper_bound(range_end), CHUNK_KEYS):
            yield list(map(store.live.__getitem__, names))

    def range(self, op: Range) -> RangeResult:
        """Answer a range; see `range_steps`."""
        return drain(self.range_steps(op))

    def range_steps(self, op: Range) -> Steps[RangeResult]:
        """Answer a range: own writes included, unless it asks for a revision.

        Values of the past that are not in memory are left empty, and the range is added to
        `pending`.

        Raises:
            FutureRevision: The revision is above the published one.
            Compacted: The revision is below the compact revision.
        """
        store = self._stores[op.space]
        if op.revision == 0:
            return (yield from current_steps(store, op, self.header_revision))
        self.check_revision(op.revision)
        self.reads_history = True
        if op.revision < 0 or (op.revision == self.published and not self._events):
            return (yield from current_steps(store, op, self.header_revision))
        found = yield from past_steps(
            store, op, op.revision, self.header_revision, self._keyspace.resolve
        )
        if isinstance(found, PendingRange):
            self.pending.append(found)
            return found.result
        return found

    def check_revision(self, revision: int) -> None:
        """Refuse a revision that a range of this entry cannot read.

        Raises:
            FutureRevision: It is above the published one.
            Compacted: It is below the compact revision.
        """
        if revision > self.published:
            raise refusals.future_revision(revision, self.published)
        # etcd starts from compact revision -1, and compares negative revisions as they are.
        if revision < (self._keyspace.compact_revision or -1):
            raise refusals.compacted(self._keyspace.compact_revision)

    # -- keys ------------------------------------------------------------------------------

    def put(self, space: int, key: bytes, value: bytes, lease: int = 0) -> KeyValue:
        """Write a key. Without a lease, the key is taken off the lease it had.

        Raises:
            LeaseNotFound: The lease does not exist.
        """
        if lease and lease not in self._leases.by_id:
            raise refusals.lease_not_found(lease)
        store = self._stores[space]
        revision = self.revision
        events = self._events
        sub = len(events)
        digests = store.digests
        if len(digests) >= DIGESTS_MAX:
            digests.clear()
        old = store.live.get(key)
        if old is None:
            new = KeyValue(key, revision, revision, 1, lease, value)
            digest = row_digest(new)
            store.keys.insert(key)
            if key in store.history:
                store.ghosts.remove(key)
            self._digest += digest * DIGEST_WEIGHTS[space]
            if lease:
                self._leases.attach(lease, space, key)
        else:
            new = KeyValue(key, old.create_revision, revision, old.version + 1, lease, value)
            digest = row_digest(new)
            self._supersede(store, old)
            before = digests.get(key)
            if before is None:
                before = row_digest(old)
            self._digest += (digest - before) * DIGEST_WEIGHTS[space]
            if lease != old.lease:
                if old.lease:
                    self._leases.detach(old.lease, space, key)
                if lease:
                    self._leases.attach(lease, space, key)
        store.live[key] = new
        digests[key] = digest
        if sub:
            store.subs[key] = sub
        self._grown += len(key) + len(value) + OVERHEAD_BYTES
        events.append((space, Event(_PUT, new, old)))
        self._digests.append(digest)
        return new

    def delete(self, space: int, key: bytes) -> KeyValue | None:
        """Delete a key; the record it had, or None if there was none."""
        store = self._stores[space]
        old = store.live.get(key)
        if old is not None:
            self._remove(store, old)
        return old

    def delete_range(self, space: int, key: bytes, range_end: bytes) -> int:
        """Delete a range of keys, in order; how many there were."""
        return drain(self.delete_range_steps(space, key, range_end))

    def delete_range_steps(
        self, space: int, key: bytes, range_end: bytes, deleted: list[KeyValue] | None = None
    ) -> Steps[int]:
        """As `delete_range`, in slices.

        Args:
            space: The space.
            key: The first key.
            range_end: As in `Range`; must not be empty.
            deleted: Takes the records that were deleted, if given.

        Yields:
            Nothing, between portions of keys.

        Returns:
            How many keys were deleted.
        """
        store = self._stores[space]
        count = 0
        for names in store.live_chunks(key, upper_bound(range_end), CHUNK_KEYS):
            for name in names:
                old = store.live[name]
                self._remove(store, old)
                if deleted is not None:
                    deleted.append(old)
            count += len(names)
            yield
        return count

    def _supersede(self, store: Space, old: KeyValue) -> None:
        """Move a live record's version into history."""
        key = old.key
        sub = store.subs.pop(key, 0) if store.subs else 0
        size = len(key) + len(old.value) + OVERHEAD_BYTES
        self._aged += size
        revision = self.revision
        # What a revision wrote must stay readable for a watch from that very revision.
        late = old.mod_revision == revision
        version = Version(
            key,
            store.number,
            old.mod_revision,
            sub,
            old.create_revision,
            old.version,
            old.lease,
            size,
            revision + 1 if late else revision,
        )
        (self._keyspace.late if late else self._keyspace.superseded).append(version)
        versions = store.history.get(key)
        if versions is None:
            store.history[key] = [version]
        else:
            versions.append(version)

    def _remove(self, store: Space, old: KeyValue) -> None:
        key = old.key
        space = store.number
        sub = len(self._events)
        self._supersede(store, old)
        size = len(key) + OVERHEAD_BYTES
        revision = self.revision
        tombstone = Version(key, space, revision, sub, 0, 0, 0, size, revision + 1)
        self._keyspace.late.append(tombstone)
        store.history[key].append(tombstone)
        del store.live[key]
        store.keys.remove(key)
        store.ghosts.insert(key)
        if old.lease:
            self._leases.detach(old.lease, space, key)
        digest = store.digests.pop(key, None) or row_digest(old)
        self._digest -= digest * DIGEST_WEIGHTS[space]
        self._digests.append(digest)
        self._grown += size
        self._aged += size
        gone = KeyValue(key, 0, revision)
        self._events.append((space, Event(_DELETE, gone, old)))

    # -- operations ------------------------------------------------------------------------

    def execute(
        self, op: Put | Range | Delete | Txn
    ) -> PutResult | RangeResult | DeleteResult | TxnResult:
        """Execute an operation on the user keys, with etcd's semantics.

        The operation must have passed `check.check`; its guard is not looked at.

        Raises:
            InvalidRequest: A key that must exist does not.
            LeaseNotFound: A put names a lease that does not exist.
            FutureRevision: A range asks for a revision above the published one.
            Compacted: A range asks for a revision below the compact revision.
        """
        if type(op) is Put:
            return execute.put(self, op)
        return drain(execute.steps(self, op))

    def execute_steps(
        self, op: Put | Range | Delete | Txn
    ) -> Steps[PutResult | RangeResult | DeleteResult | TxnResult]:
        """As `execute`, in slices of about 500 keys."""
        return execute.steps(self, op)

    # -- leases ----------------------------------------------------------------------------

    def grant_lease(
        self,
        lease_id: int,
        ttl_ms: int,
        kind: str = PLAIN,
        data: bytes = b"",
        ttl_ms_min: int = 0,
        owner: str = "",
    ) -> Lease:
        """Create a lease.

        Args:
            lease_id: A positive id, chosen before the command was proposed.
            ttl_ms: How long it lives after a renewal.
            kind: Plain or session.
            data: Opaque bytes kept with it.
            ttl_ms_min: A shorter TTL is raised to this one.
            owner: The user whose it is; empty for nobody's.

        Returns:
            The lease.

        Raises:
            InvalidRequest: The TTL is too large.
            AlreadyExists: The id is taken.
        """
        lease = self._leases.add(lease_id, ttl_ms, kind, data, ttl_ms_min, owner)
        self._undo_leases.append((len(self._events), partial(self._leases.remove, lease_id)))
        self._note_lease(lease_id, lease)
        return lease

    def revoke_lease(self, lease_id: int, kind: str | None = None) -> int:
        """Delete a lease and its keys; see `revoke_lease_steps`."""
        return drain(self.revoke_lease_steps(lease_id, kind))

    def revoke_lease_steps(self, lease_id: int, kind: str | None = None) -> Steps[int]:
        """Delete a lease's keys in order, the user's before the system's, then the lease.

        Args:
            lease_id: The lease.
            kind: The kind it must be of, if given.

        Yields:
            Nothing, between portions of keys.

        Returns:
            How many keys were deleted.

        Raises:
            LeaseNotFound: There is no such lease of that kind.
        """
        self._leases.require(lease_id, kind)
        count = 0
        for space in range(SPACES):
            count += yield from self.delete_attached_steps(lease_id, space)
        self.end_lease(lease_id)
        return count

    def delete_attached_steps(self, lease_id: int, space: int) -> Steps[int]:
        """Delete the keys of one space that are attached to a lease, in order.

        Raises:
            LeaseNotFound: There is no such lease.
        """
        store = self._stores[space]
        keys = yield from self._leases.require(lease_id).sorted_keys_steps(space)
        count = 0
        while portion := list(islice(keys, CHUNK_KEYS)):
            for key in portion:
                self._remove(store, store.live[key])
            count += len(portion)
            yield
        return count

    def end_lease(self, lease_id: int) -> None:
        """Delete a lease to which no key is attached any more.

        Raises:
            LeaseNotFound: There is no such lease.
        """
        lease = self._leases.require(lease_id)
        assert lease.key_count == 0, "a lease ends after its keys"
        self._leases.remove(lease_id)
        self._undo_leases.append((len(self._events), partial(self._leases.put, lease)))
        self._note_lease(lease_id, None)

    def _note_lease(self, lease_id: int, lease: Lease | None) -> None:
        if self._lease_changes is None:
            self._lease_changes = {}
        self._lease_changes[lease_id] = None if lease is None else lease.dump()

    # -- the end ---------------------------------------------------------------------------

    def commit(self) -> Commit:
        """Publish the entry's changes. The transaction must not be used after it."""
        keyspace = self._keyspace
        assert keyspace.open is self, "a transaction ends once"
        keyspace.open = None
        leases = () if self._lease_changes is None else tuple(self._lease_changes.items())
        if not self._events:
            return Commit(self.published, self._events, leases)
        keyspace.revision = self.revision
        keyspace.bytes_used += self._grown
        keyspace.history_bytes += self._aged
        keyspace.digest = (keyspace.digest + self._digest) & DIGEST_MASK
        keyspace.log.append(self.revision, self._events, self._grown + self._aged)
        keyspace.times.note(self.clock_ms, self.revision)
        return Commit(self.revision, self._events, leases, self._digests)

    def rollback(self) -> None:
        """Take everything back. The transaction must not be used after it."""
        assert self._keyspace.open is self, "a transaction ends once"
        roll_back(self._keyspace, self._events, self._undo_leases, self.revision)
        self._keyspace.open = None

    def replaced(self, space: int) -> dict[bytes, KeyValue | None]:
        """The published records of the keys changed so far; None where there was none."""
        if self._replaced is None:
            self._replaced = Replaced(self._events)
        return self._replaced.records(space)
