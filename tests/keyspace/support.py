"""A keyspace beside the rows that a state database would keep of it."""

from coordinator.keyspace import (
    SPACES,
    Commit,
    Keyspace,
    Loader,
    PendingRange,
    Row,
    Transaction,
    row_of,
)
from coordinator_sdk.protocol.kv import KeyValue, Put, Range, RangeResult


class Stored:
    """A keyspace, and what was written behind it."""

    def __init__(self, tail_bytes_max: int = 32 << 20) -> None:
        self.tail_bytes_max = tail_bytes_max
        self.keyspace = Keyspace(tail_bytes_max)
        self.rows: dict[tuple[int, int], Row] = {}
        self.leases: dict[int, bytes] = {}

    def commit(self, txn: Transaction) -> Commit:
        """Commit, and write the changes behind."""
        commit = txn.commit()
        for sub, (space, event) in enumerate(commit.events):
            assert event.kv.mod_revision == commit.revision
            self.rows[commit.revision, sub] = row_of(space, sub, event)
        for lease_id, record in commit.leases:
            if record is None:
                self.leases.pop(lease_id, None)
            else:
                self.leases[lease_id] = record
        return commit

    def apply(self, op, clock_ms: int = 0):
        """Execute one operation as an entry of its own; its answer, complete."""
        txn = self.keyspace.begin(clock_ms)
        try:
            result = txn.execute(op)
        except BaseException:
            txn.rollback()
            raise
        for pending in txn.pending:
            pending.fill(self.values(pending.missing))
        self.commit(txn)
        return result

    def put(self, key: bytes, value: bytes = b"v", **options) -> int:
        return self.apply(Put(key, value, **options)).revision

    def grant(self, lease_id: int, ttl_ms: int = 10_000, **options) -> None:
        txn = self.keyspace.begin()
        txn.grant_lease(lease_id, ttl_ms, **options)
        self.commit(txn)

    def sweep(self, limit: int = 1 << 30) -> int:
        dropped = self.keyspace.sweep(limit)
        for place in dropped:
            del self.rows[place]
        return len(dropped)

    def values(self, missing) -> list[bytes | None]:
        """What the database answers for places, the last two numbers of each item."""
        found = [self.rows.get(tuple(item[-2:])) for item in missing]
        return [None if row is None else row[-1] for row in found]

    def range(self, op: Range) -> RangeResult:
        found = self.keyspace.range(op)
        if isinstance(found, PendingRange):
            assert found.missing
            return found.fill(self.values(found.missing))
        return found

    def get(self, key: bytes, revision: int = 0) -> KeyValue | None:
        kvs = self.range(Range(key, revision=revision)).kvs
        return kvs[0] if kvs else None

    def digest_at(self, revision: int = 0, between=lambda: None) -> int:
        steps = self.keyspace.digest_steps(revision)
        try:
            missing = next(steps)
            while True:
                between()
                missing = steps.send(self.values(missing))
        except StopIteration as stop:
            return stop.value

    def reload(self) -> Keyspace:
        """Load a second keyspace from what was written behind."""
        loader = Loader(self.tail_bytes_max)
        for record in self.leases.values():
            loader.lease(record)
        rows = [self.rows[place] for place in sorted(self.rows)]
        loader.rows(rows[: len(rows) // 2])
        loader.rows(rows[len(rows) // 2 :])
        return loader.finish(self.keyspace.meta)


def contents(keyspace: Keyspace) -> dict[str, object]:
    """Everything a keyspace remembers, in a form that can be compared."""
    assert keyspace.open is None
    spaces = []
    for space in range(SPACES):
        store = keyspace.stores[space]
        assert list(store.keys) == sorted(store.live)
        assert list(store.ghosts) == sorted(k for k in store.history if k not in store.live)
        assert all(store.history.values())
        spaces.append((store.live, store.history, store.subs))
    return {
        "meta": keyspace.meta,
        "history_bytes": keyspace.history_bytes,
        "spaces": spaces,
        "superseded": list(keyspace.superseded),
        "late": list(keyspace.late),
        "leases": list(keyspace.leases.dump()),
        "attached": {
            lease.id: [sorted(keys) for keys in lease.keys]
            for lease in keyspace.leases.by_id.values()
        },
    }
