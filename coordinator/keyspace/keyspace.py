"""The keyspace: the published state of both spaces, its past, its quota and its compaction.

Pure. Writes go through the one open `Transaction`; reads are answered from the published state,
exactly, also while a large entry is being applied. Invariants:

- ``superseded`` and ``late`` are ordered by ``droppable_at``, and the versions of one key lie in
  them in the order of that key's history, so that sweeping always drops a key's oldest version.
- A version that is visible at any revision from the compact revision on has not been dropped,
  and neither has one that was written at such a revision.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from typing import TYPE_CHECKING

from msgspec import Struct

from coordinator_sdk.protocol.kv import (
    Event,
    EventType,
    KeyValue,
    Range,
    RangeResult,
    Txn,
    TxnResult,
)

from . import execute, refusals
from .history import TAIL_BYTES_MAX, RevisionLog, TimeIndex
from .leases import LeaseTable
from .ranges import CHUNK_KEYS, PendingRange, Steps, current_steps, drain, past_steps
from .records import (
    FIRST_REVISION,
    SPACES,
    USER,
    Events,
    Place,
    Row,
    RowDigest,
    Version,
    record_of,
    upper_bound,
)
from .space import Space
from .transaction import Transaction

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence


class Meta(Struct, array_like=True):
    """What the state database keeps of the keyspace beside rows and leases."""

    revision: int = FIRST_REVISION
    compact_revision: int = 0
    bytes_used: int = 0
    digest: int = 0


class Keyspace:
    """Every key, its past, and the leases.

    Attributes:
        revision: The published revision. compact_revision: Reads below it are refused; 0 before
        the first compaction. bytes_used: The quota's counter: every retained version, tombstones
        included, costs its key, its value and a
            fixed overhead. Replicated: equal on all members at the same applied index.
        history_bytes: What of `bytes_used` belongs to superseded versions and tombstones.
        digest: The order-independent digest of the published live rows of both spaces.
        log: The tail of history in memory.
        times: When revisions happened.
        leases: Every lease.
        open: The transaction that is being applied.
    """

    __slots__ = (
        "bytes_used",
        "compact_revision",
        "digest",
        "history_bytes",
        "late",
        "leases",
        "log",
        "open",
        "revision",
        "stores",
        "superseded",
        "times",
    )

    def __init__(self, tail_bytes_max: int = TAIL_BYTES_MAX) -> None:
        self.stores = tuple(Space(number) for number in range(SPACES))
        self.revision = FIRST_REVISION
        self.compact_revision = 0
        self.bytes_used = 0
        self.history_bytes = 0
        self.digest = 0
        self.superseded: deque[Version] = deque()
        """Versions in the order they were superseded in. Bounded by the quota, as ``late`` is."""
        self.late: deque[Version] = deque()
        """Tombstones, and versions superseded by their own entry: they go a revision later."""
        self.log = RevisionLog(FIRST_REVISION, tail_bytes_max)
        self.times = TimeIndex()
        self.leases = LeaseTable()
        self.open: Transaction | None = None

    # -- the state as a whole --------------------------------------------------------------

    @property
    def meta(self) -> Meta:
        """What to store with the rows of everything published so far."""
        return Meta(self.revision, self.compact_revision, self.bytes_used, self.digest)

    @property
    def is_sweepable(self) -> bool:
        """Whether `sweep` would drop anything."""
        compact = self.compact_revision
        return any(queue and queue[0].droppable_at <= compact for queue in self._queues)

    @property
    def _queues(self) -> tuple[deque[Version], deque[Version]]:
        return self.superseded, self.late

    def key_count(self, space: int) -> int:
        """How many live keys a space has, the open transaction's changes included."""
        return len(self.stores[space].live)

    @property
    def version_count(self) -> int:
        """How many versions of the past are remembered, tombstones included."""
        return len(self.superseded) + len(self.late)

    # -- writing ---------------------------------------------------------------------------

    def begin(self, clock_ms: int = 0) -> Transaction:
        """Open the transaction of one entry.

        Args:
            clock_ms: The clock that the entry carries.

        Returns:
            The transaction; it must end before the next one begins.
        """
        assert self.open is None, "one entry at a time"
        txn = self.open = Transaction(self, clock_ms)
        return txn

    def compact(self, revision: int) -> None:
        """Forget the history below a revision. What may be dropped then is dropped by `sweep`.

        Raises:
            Compacted: The revision is not above the compact revision.
            FutureRevision: The revision is above the current one.
        """
        assert self.open is None, "compaction is an entry of its own"
        if revision <= self.compact_revision:
            raise refusals.compacted(self.compact_revision)
        if revision > self.revision:
            raise refusals.future_revision(revision, self.revision)
        self.compact_revision = revision
        self.times.forget_below(revision)

    def skip_revisions(self, count: int) -> None:
        """Go on at a later revision, before which everything is compacted.

        For a state that becomes the first one of another group; nobody may read or watch yet.

        Args:
            count: How many revisions never happen.
        """
        assert self.open is None, "no entry is half applied"
        self.revision += count
        self.compact_revision = self.revision
        self.log = RevisionLog(self.revision, self.log.bytes_max)
        self.times = TimeIndex()

    def sweep(self, limit: int) -> list[Place]:
        """Drop at most ``limit`` versions that compaction has released, oldest first.

        The outcome depends only on the state, so every member drops the same ones at the same
        entry.

        Returns:
            The (mod_revision, sub) of the rows to delete from the state database.
        """
        assert self.open is None, "sweeping is no part of a transaction"
        dropped: list[Place] = []
        # Cutting a list's front moves the rest: once per key and call, not once per version.
        cuts: dict[tuple[int, bytes], int] = {}
        while len(dropped) < limit:
            version = self._next_droppable()
            if version is None:
                break
            dropped.append((version.mod_revision, version.sub))
            self.bytes_used -= version.size
            self.history_bytes -= version.size
            place = (version.space, version.key)
            cuts[place] = cuts.get(place, 0) + 1
        for (space, key), count in cuts.items():
            store = self.stores[space]
            versions = store.history[key]
            del versions[:count]
            if not versions:
                del store.history[key]
                if key not in store.live:
                    store.ghosts.remove(key)
        return dropped

    def _next_droppable(self) -> Version | None:
        superseded, late = self.superseded, self.late
        queue = superseded
        if late and (not superseded or late[0].droppable_at <= superseded[0].droppable_at):
            queue = late
        if not queue or queue[0].droppable_at > self.compact_revision:
            return None
        return queue.popleft()

    # -- reading ---------------------------------------------------------------------------

    @property
    def header_revision(self) -> int:
        """The revision that an answer given now states."""
        return self.revision

    def get(self, space: int, key: bytes) -> KeyValue | None:
        """The published record of a key."""
        store = self.stores[space]
        if self.open is None or not self.open.changed:
            return store.live.get(key)
        replaced = self.open.replaced(space)
        return replaced[key] if key in replaced else store.live.get(key)

    def record_chunks(self, space: int, key: bytes, range_end: bytes) -> Iterator[list[KeyValue]]:
        """The published records of a range in portions, none of them empty."""
        if not range_end:
            record = self.get(space, key)
            if record is not None:
                yield [record]
            return
        store = self.stores[space]
        for names in store.all_chunks(key, upper_bound(range_end), CHUNK_KEYS):
            records = [kv for kv in (self.get(space, name) for name in names) if kv is not None]
            if records:
                yield records

    def range(self, op: Range) -> RangeResult | PendingRange:
        """Answer a range from the published state, or as of the revision it asks for.

        Returns:
            The answer; or, if values of the past are not in memory, a `PendingRange` to be filled.

        Raises:
            FutureRevision: The revision is above the published one.
            Compacted: The revision is below the compact revision.
        """
        at = op.revision
        if at > self.revision:
            raise refusals.future_revision(at, self.revision)
        if at <= 0:
            at = self.revision
        elif at < self.compact_revision:
            raise refusals.compacted(self.compact_revision)
        store = self.stores[op.space]
        if at == self.revision and (self.open is None or not self.open.changed):
            return drain(current_steps(store, op, self.revision))
        return drain(past_steps(store, op, at, self.revision, self.resolve))

    def read_txn(self, op: Txn) -> tuple[TxnResult, list[PendingRange]]:
        """Answer a transaction that only reads (`execute.only_reads`).

        Returns:
            The answer, and its ranges whose values must be filled before it is complete.

        Raises:
            FutureRevision: A range asks for a revision above the published one.
            Compacted: A range asks for a revision below the compact revision.
        """
        view = _Published(self)
        return drain(execute.read_steps(view, op)), view.pending

    def lease_keys(self, lease_id: int, space: int = USER) -> list[bytes]:
        """The published keys attached to a lease, in order; none if it does not exist."""
        lease = self.leases.get(lease_id)
        keys = {} if lease is None else dict(lease.keys[space])
        if self.open is not None and self.open.changed:
            for key, old in self.open.replaced(space).items():
                keys.pop(key, None)
                if old is not None and old.lease == lease_id:
                    keys[key] = None
        return sorted(keys)

    def resolve(self, version: Version) -> KeyValue | None:
        """The record of an old version from the tail or the open transaction, if it is there."""
        record = self.log.record(version.mod_revision, version.sub)
        if record is None and self.open is not None:
            old = self.open.replaced(version.space).get(version.key)
            if old is not None and old.mod_revision == version.mod_revision:
                return old
        return record

    # -- events of the past ----------------------------------------------------------------

    def events_of_rows(self, rows: Sequence[Row], prev_kv: bool) -> PastEvents:
        """Rebuild the events of whole revisions from rows of the state database.

        Args:
            rows: The rows of a stretch of revisions, ordered by (mod_revision, sub), none left out.
                Revisions below the compact revision are passed over.
            prev_kv: Whether the records before the changes are wanted.

        Returns:
            The events, and the values to fetch before they are complete.
        """
        past = PastEvents()
        for mod_revision, sub, space, key, create_revision, version, lease, value in rows:
            if mod_revision < self.compact_revision:
                # Some of the rows may have been dropped already.
                continue
            kv = KeyValue(key, create_revision, mod_revision, version, lease, value)
            event = Event(int(EventType.PUT if version else EventType.DELETE), kv)
            past.add(space, event, sub)
            # The record before the first readable revision is itself not readable.
            if not prev_kv or version == 1 or mod_revision <= self.compact_revision:
                continue
            before = self._before(space, key, (mod_revision, sub))
            if before is not None:
                past.set_before(event, before, self.resolve(before))
        return past

    def _before(self, space: int, key: bytes, place: Place) -> Version | None:
        versions = self.stores[space].history.get(key, [])
        position = bisect_left(versions, place, key=_place)
        if position == 0 or not versions[position - 1].version:
            return None
        return versions[position - 1]

    # -- hashing ---------------------------------------------------------------------------

    def digest_steps(
        self, revision: int = 0
    ) -> Generator[list[Place], Sequence[bytes | None] | None, int]:
        """Recompute, in slices, the digest of the rows that were live at a revision.

        Writes may happen between slices; the revision stays pinned. At any revision, all members
        that have the same data get the same number, and at the published one it equals `digest`.

        Args:
            revision: The revision; 0 is the published one.

        Yields:
            The places of values to fetch from the state database and to ``send`` in that order;
            an empty list is a plain pause.

        Returns:
            The digest.

        Raises:
            FutureRevision: The revision is above the published one.
            Compacted: The revision is below the compact revision, or compaction overtook it.
        """
        if revision > self.revision:
            raise refusals.future_revision(revision, self.revision)
        at = revision or self.revision
        digest = RowDigest()
        for store in self.stores:
            for names in store.all_chunks(b"", None, CHUNK_KEYS):
                if at < self.compact_revision:
                    raise refusals.compacted(self.compact_revision)
                records: list[KeyValue] = []
                hollow: list[Version] = []
                for name in names:
                    found = store.find_at(name, at)
                    if isinstance(found, Version):
                        record = self.resolve(found)
                        if record is None:
                            hollow.append(found)
                            continue
                        found = record
                    if found is not None:
                        records.append(found)
                values = yield [(version.mod_revision, version.sub) for version in hollow]
                records += self._filled(hollow, values or ())
                digest.add(store.number, records)
        return digest.value

    def _filled(self, hollow: list[Version], values: Sequence[bytes | None]) -> Iterator[KeyValue]:
        for version, value in zip(hollow, values, strict=True):
            if value is None:
                raise refusals.compacted(self.compact_revision)
            yield record_of(version, value)


class PastEvents:
    """Events rebuilt from rows.

    Attributes:
        revisions: (revision, events) in order; complete only after `fill`.
        missing: The places of the values to fetch.
    """

    __slots__ = ("_hollow", "missing", "revisions")

    def __init__(self) -> None:
        self.revisions: list[tuple[int, Events]] = []
        self.missing: list[Place] = []
        self._hollow: list[tuple[Event, Version]] = []

    def add(self, space: int, event: Event, sub: int) -> None:
        """Add the next event; ``sub`` must count up within a revision without gaps.

        Raises:
            Internal: A row is missing.
        """
        revision = event.kv.mod_revision
        if not self.revisions or self.revisions[-1][0] != revision:
            self.revisions.append((revision, []))
        events = self.revisions[-1][1]
        if len(events) != sub:
            raise refusals.damaged(f"row ({revision}, {len(events)}) of the history is missing")
        events.append((space, event))

    def set_before(self, event: Event, version: Version, record: KeyValue | None) -> None:
        """Set the record before a change, or remember that its value must be fetched."""
        event.prev_kv = record
        if record is None:
            self.missing.append((version.mod_revision, version.sub))
            self._hollow.append((event, version))

    def fill(self, values: Sequence[bytes | None]) -> None:
        """Put the fetched values in, in the order of `missing`; None where one is gone."""
        for (event, version), value in zip(self._hollow, values, strict=True):
            if value is not None:
                event.prev_kv = record_of(version, value)
        self.missing = []
        self._hollow = []


class _Published:
    """The published state as a view for operations that only read."""

    __slots__ = ("_keyspace", "pending")

    def __init__(self, keyspace: Keyspace) -> None:
        self._keyspace = keyspace
        self.pending: list[PendingRange] = []

    @property
    def header_revision(self) -> int:
        return self._keyspace.revision

    def get(self, space: int, key: bytes) -> KeyValue | None:
        return self._keyspace.get(space, key)

    def record_chunks(self, space: int, key: bytes, range_end: bytes) -> Iterator[list[KeyValue]]:
        return self._keyspace.record_chunks(space, key, range_end)

    def range_steps(self, op: Range) -> Steps[RangeResult]:
        found = self._keyspace.range(op)
        if isinstance(found, PendingRange):
            self.pending.append(found)
            return found.result
        yield
        return found

    def check_revision(self, revision: int) -> None:
        keyspace = self._keyspace
        if revision > keyspace.revision:
            raise refusals.future_revision(revision, keyspace.revision)
        if revision < (keyspace.compact_revision or -1):
            raise refusals.compacted(keyspace.compact_revision)


def _place(version: Version) -> Place:
    return version.mod_revision, version.sub
