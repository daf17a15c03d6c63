"""The keyspace against a model that keeps everything that ever happened and computes naively."""

from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coordinator.keyspace import SYSTEM, USER, Keyspace, RowDigest, check, keyspace, transaction
from coordinator_sdk.errors import Compacted, InvalidRequest, NotApplied
from coordinator_sdk.protocol.kv import (
    Compare,
    Delete,
    DeleteResult,
    KeyValue,
    Put,
    PutResult,
    Range,
    RangeResult,
    Txn,
    TxnResult,
)
from tests.keyspace.support import Stored, contents
from tests.keyspace.walk import step, walk, walks

KEYS = [b"a", b"b", b"b\x00", b"ba", b"bb", b"c", b"\xff", b"\xff\xff"]
keys = st.sampled_from(KEYS)
ends = st.sampled_from([b"", b"", b"\0", b"b", b"bb", b"c", b"d", b"\xff"])
values = st.sampled_from([b"", b"x", b"y", b"z" * 40])
lease_ids = st.sampled_from([0, 0, 7, 8])
State = dict[tuple[int, bytes], KeyValue]


@dataclass
class Model:
    """Every change that ever happened: (revision, space, key, record or None)."""

    revision: int = 1
    log: list[tuple[int, int, bytes, KeyValue | None]] = field(default_factory=list)
    leases: dict[int, int] = field(default_factory=dict)

    def state(self, revision: int) -> State:
        live: State = {}
        for at, space, key, record in self.log:
            if at > revision:
                break
            if record is None:
                live.pop((space, key), None)
            else:
                live[space, key] = record
        return live


class Draft:
    """One entry on the model: a copy of the live state, and the changes made to it."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.live = model.state(model.revision)
        self.leases = dict(model.leases)
        self.changes: list[tuple[int, int, bytes, KeyValue | None]] = []

    @property
    def revision(self) -> int:
        return self.model.revision + 1

    @property
    def header(self) -> int:
        return self.revision if self.changes else self.model.revision

    def put(self, space: int, key: bytes, value: bytes, lease: int) -> None:
        if lease and lease not in self.leases:
            raise KeyError(lease)
        old = self.live.get((space, key))
        record = KeyValue(
            key,
            old.create_revision if old else self.revision,
            self.revision,
            old.version + 1 if old else 1,
            lease,
            value,
        )
        self.live[space, key] = record
        self.changes.append((self.revision, space, key, record))

    def delete(self, space: int, key: bytes) -> None:
        if self.live.pop((space, key), None) is not None:
            self.changes.append((self.revision, space, key, None))

    def commit(self) -> None:
        if self.changes:
            self.model.revision += 1
        self.model.log += self.changes
        self.model.leases = self.leases


def span(live: State, space: int, key: bytes, end: bytes) -> list[KeyValue]:
    return [
        record
        for (where, name), record in sorted(live.items())
        if where == space
        and (name == key if not end else name >= key and (end == b"\0" or name < end))
    ]


def naive_range(live: State, op: Range, header: int) -> RangeResult:
    found = span(live, op.space, op.key, op.range_end)
    count = len(found)
    if op.count_only:
        return RangeResult(header, [], False, count)
    filters = {
        "max_mod_revision": lambda kv: kv.mod_revision <= op.max_mod_revision,
        "min_mod_revision": lambda kv: kv.mod_revision >= op.min_mod_revision,
        "max_create_revision": lambda kv: kv.create_revision <= op.max_create_revision,
        "min_create_revision": lambda kv: kv.create_revision >= op.min_create_revision,
    }
    active = [test for name, test in filters.items() if getattr(op, name)]
    if op.limit > 0 and op.sort_order == 0 and not active:
        found = found[: op.limit + 1]
    found = [kv for kv in found if all(test(kv) for test in active)]
    names = ["key", "version", "create_revision", "mod_revision", "value"]
    if op.sort_order or op.sort_target:
        found.sort(key=lambda kv: getattr(kv, names[op.sort_target]), reverse=op.sort_order == 2)
    more = 0 < op.limit < len(found)
    if more:
        found = found[: op.limit]
    if op.keys_only:
        found = [
            KeyValue(kv.key, kv.create_revision, kv.mod_revision, kv.version, kv.lease)
            for kv in found
        ]
    return RangeResult(header, found, more, count)


def holds(live: State, compare: Compare) -> bool:
    found = span(live, USER, compare.key, compare.range_end)
    if not found:
        if compare.target == 3:
            return False
        found = [KeyValue(b"")]
    names = ["version", "create_revision", "mod_revision", "value", "lease"]
    wanted = compare.value if compare.target == 3 else compare.number
    tests = [
        lambda got: got == wanted,
        lambda got: got > wanted,
        lambda got: got < wanted,
        lambda got: got != wanted,
    ]
    return all(tests[compare.result](getattr(kv, names[compare.target])) for kv in found)


class Refused(Exception):
    """The model refuses the entry."""


def naive(draft: Draft, op):
    """Execute an operation on a draft."""
    if isinstance(op, Txn):
        plan = decide(draft.live, op)
        for leaf in leaves_of(plan):
            refuse(draft, leaf)
        result = run(draft, plan)
        result.revision = draft.header
        return result
    refuse(draft, op)
    return leaf_result(draft, op)


def decide(live: State, op: Txn):
    succeeded = all(holds(live, compare) for compare in op.compare)
    branch = op.success if succeeded else op.failure
    return succeeded, [decide(live, one) if isinstance(one, Txn) else one for one in branch]


def leaves_of(plan):
    for one in plan[1]:
        if isinstance(one, tuple):
            yield from leaves_of(one)
        else:
            yield one


def run(draft: Draft, plan) -> TxnResult:
    answers = [
        run(draft, one) if isinstance(one, tuple) else leaf_result(draft, one) for one in plan[1]
    ]
    return TxnResult(0, plan[0], answers)


def refuse(draft: Draft, op) -> None:
    if isinstance(op, Put):
        if op.lease and op.lease not in draft.leases:
            raise Refused
        if (op.ignore_lease or op.ignore_value) and (USER, op.key) not in draft.live:
            raise Refused
    if isinstance(op, Range) and op.revision > draft.model.revision:
        raise Refused


def leaf_result(draft: Draft, op):
    if isinstance(op, Put):
        old = draft.live.get((USER, op.key))
        if old is None and (op.ignore_value or op.ignore_lease):
            raise Refused
        value = old.value if old and op.ignore_value else op.value
        draft.put(USER, op.key, value, old.lease if old and op.ignore_lease else op.lease)
        return PutResult(draft.revision, old if op.prev_kv else None)
    if isinstance(op, Delete):
        found = span(draft.live, USER, op.key, op.range_end)
        for record in found:
            draft.delete(USER, record.key)
        return DeleteResult(draft.header, len(found), found if op.prev_kv else [])
    live = draft.model.state(op.revision) if op.revision else draft.live
    return naive_range(live, op, draft.header)


puts = st.builds(
    Put,
    key=keys,
    value=values,
    lease=lease_ids,
    prev_kv=st.booleans(),
)
kept_puts = st.builds(
    lambda key, which, prev: Put(key, prev_kv=prev, **which),
    keys,
    st.sampled_from(
        [{"ignore_value": True}, {"ignore_lease": True, "value": b"k"}],
    ),
    st.booleans(),
)
deletes = st.builds(Delete, key=keys, range_end=ends, prev_kv=st.booleans())
small = st.integers(0, 9)
ranges = st.builds(
    Range,
    key=keys,
    range_end=ends,
    limit=st.sampled_from([0, 0, 1, 2, 3]),
    sort_order=st.integers(0, 2),
    sort_target=st.integers(0, 4),
    keys_only=st.booleans(),
    count_only=st.sampled_from([False, False, True]),
    min_mod_revision=st.sampled_from([0, 0, 3]),
    max_mod_revision=st.sampled_from([0, 0, 9]),
    min_create_revision=st.sampled_from([0, 0, 2]),
    max_create_revision=st.sampled_from([0, 0, 8]),
    space=st.sampled_from([USER, USER, SYSTEM]),
)
plain_ranges = st.builds(
    Range,
    key=st.sampled_from([b"a", b"b"]),
    range_end=st.just(b"\0"),
    limit=st.integers(0, 3),
    sort_target=st.sampled_from([0, 0, 1, 3, 4]),
)
compares = st.builds(
    Compare,
    target=st.integers(0, 4),
    result=st.integers(0, 3),
    key=keys,
    number=small,
    value=values,
    range_end=ends,
)
leaves = st.one_of(puts, kept_puts, deletes, ranges, plain_ranges)
operations = st.recursive(
    leaves,
    lambda inner: st.builds(
        Txn,
        compare=st.lists(compares, max_size=2),
        success=st.lists(inner, max_size=4),
        failure=st.lists(inner, max_size=3),
    ),
    max_leaves=8,
)
touches = st.lists(
    st.tuples(
        st.sampled_from([USER, USER, SYSTEM]),
        st.sampled_from(KEYS[:4]),
        st.one_of(st.none(), values),
        lease_ids,
    ),
    min_size=1,
    max_size=8,
)


class KeyspaceWalk:
    """Drives a keyspace with a tiny tail, its stored rows, and the model."""

    def __init__(self, tail: int) -> None:
        self.stored = Stored(tail)
        self.model = Model()
        self.compact_revision = 0

    @property
    def keyspace(self) -> Keyspace:
        return self.stored.keyspace

    def finish(self, txn, draft: Draft, keep: bool) -> None:
        if not keep:
            before = self.model.revision
            txn.rollback()
            assert self.keyspace.revision == before
            return
        commit = self.stored.commit(txn)
        draft.commit()
        assert commit.revision == self.model.revision
        changed = [(space, event.kv.key, event) for space, event in commit.events]
        live = self.model.state(self.model.revision - 1) if commit.events else {}
        assert len(changed) == len(draft.changes)
        for (space, key, event), (_, at, name, record) in zip(changed, draft.changes, strict=True):
            assert (space, key) == (at, name)
            assert event.type == (1 if record is None else 0)
            assert event.kv == (record or KeyValue(key, 0, commit.revision))
            assert event.prev_kv == live.get((space, key))
            if record is None:
                del live[space, key]
            else:
                live[space, key] = record

    @step(6, op=operations, keep=st.sampled_from([True, True, True, False]), sliced=st.booleans())
    def execute(self, op, keep, sliced) -> None:
        try:
            check.check(op)
        except InvalidRequest:
            return
        draft = Draft(self.model)
        try:
            expected = naive(draft, op)
        except Refused:
            expected = None
        txn = self.keyspace.begin()
        before = self.model.state(self.model.revision)
        try:
            if sliced:
                steps = txn.execute_steps(op)
                try:
                    while True:
                        next(steps)
                        self.published_is(before)
                except StopIteration as stop:
                    result = stop.value
            else:
                result = txn.execute(op)
        except NotApplied:
            assert expected is None
            txn.rollback()
            return
        assert expected is not None
        for pending in txn.pending:
            pending.fill(self.stored.values(pending.missing))
        assert result == expected
        self.published_is(before)
        self.finish(txn, draft, keep)

    def published_is(self, state: State) -> None:
        """Readers beside an open entry see exactly the published state."""
        for space in (USER, SYSTEM):
            # Never pending: what is published is always in memory.
            found = self.keyspace.range(Range(b"\0", b"\0", space=space))
            assert found == naive_range(
                state, Range(b"\0", b"\0", space=space), self.model.revision
            )
            for key in KEYS:
                assert self.keyspace.get(space, key) == state.get((space, key))
            for lease in (7, 8):
                assert self.keyspace.lease_keys(lease, space) == sorted(
                    key for (at, key), kv in state.items() if at == space and kv.lease == lease
                )

    @step(4, changes=touches, keep=st.sampled_from([True, True, False]))
    def touch(self, changes, keep) -> None:
        """A domain's entry: both spaces, the same keys several times."""
        txn = self.keyspace.begin()
        draft = Draft(self.model)
        for space, key, value, lease in changes:
            if value is None:
                txn.delete(space, key)
                draft.delete(space, key)
            elif not lease or lease in draft.leases:
                txn.put(space, key, value, lease)
                draft.put(space, key, value, lease)
            assert txn.get(space, key) == draft.live.get((space, key))
        for space in (USER, SYSTEM):
            assert list(txn.scan(space, b"\0", b"\0")) == span(draft.live, space, b"\0", b"\0")
        self.published_is(self.model.state(self.model.revision))
        self.finish(txn, draft, keep)

    @step(2, lease=st.sampled_from([7, 8]), keep=st.booleans())
    def grant_or_revoke(self, lease, keep) -> None:
        txn = self.keyspace.begin()
        draft = Draft(self.model)
        if lease in draft.leases:
            count = txn.revoke_lease(lease)
            attached = [place for place, kv in sorted(draft.live.items()) if kv.lease == lease]
            for space, key in attached:
                draft.delete(space, key)
            del draft.leases[lease]
            assert count == len(attached)
        else:
            txn.grant_lease(lease, 5000)
            draft.leases[lease] = 5000
        self.finish(txn, draft, keep)

    @step(2, back=st.integers(0, 6))
    def compact(self, back) -> None:
        revision = self.model.revision - back
        if revision <= self.compact_revision:
            with pytest.raises(Compacted):
                self.keyspace.compact(revision)
            return
        self.keyspace.compact(revision)
        self.compact_revision = revision

    @step(3, limit=st.sampled_from([0, 1, 1, 2, 5]))
    def sweep(self, limit) -> None:
        assert self.stored.sweep(limit) <= limit

    @step(1)
    def sweep_all(self) -> None:
        self.stored.sweep()
        assert not self.keyspace.is_sweepable
        assert set(self.stored.rows) == self.needed()

    def needed(self) -> set[tuple[int, int]]:
        """The places of the versions that some permitted read or watch can still ask for."""
        found = set()
        last: dict[tuple[int, bytes], tuple[int, int, bool]] = {}
        sub, at = 0, 0
        for revision, space, key, record in self.model.log:
            sub = sub + 1 if revision == at else 0
            at = revision
            before = last.get((space, key))
            if before is not None and revision > self.compact_revision and before[2]:
                found.add(before[:2])
            if revision >= self.compact_revision:
                found.add((revision, sub))
            last[space, key] = (revision, sub, record is not None)
        found.update(place[:2] for place in last.values() if place[2])
        return found

    @step(2, back=st.integers(0, 5))
    def persist(self, back) -> None:
        self.keyspace.log.persisted(self.model.revision - back)

    @step(3, op=st.one_of(ranges, plain_ranges), back=st.integers(0, 30))
    def read(self, op, back) -> None:
        op.revision = max(self.model.revision - back, 1)
        if op.revision < self.compact_revision:
            with pytest.raises(Compacted):
                self.keyspace.range(op)
            return
        expected = naive_range(self.model.state(op.revision), op, self.model.revision)
        assert self.stored.range(op) == expected

    @step(1, back=st.integers(0, 8), changes=touches)
    def hash_pinned(self, back, changes) -> None:
        """Hashing goes on while writes come in between."""
        revision = max(self.model.revision - back, self.compact_revision, 1)
        queue = list(changes)

        def write() -> None:
            if queue:
                space, key, value, _ = queue.pop()
                self.touch([(space, key, value, 0)], True)

        expected = digest_of(self.model.state(revision))
        assert self.stored.digest_at(revision, write) == expected

    @step(1, first=st.integers(0, 20), count=st.integers(1, 6), prev_kv=st.booleans())
    def events_from_rows(self, first, count, prev_kv) -> None:
        start = max(self.model.revision - first, self.compact_revision, 2)
        stop = min(start + count, self.model.revision + 1)
        rows = [row for place, row in sorted(self.stored.rows.items()) if start <= place[0] < stop]
        past = self.keyspace.events_of_rows(rows, prev_kv)
        past.fill(self.stored.values(past.missing))
        assert [revision for revision, _ in past.revisions] == list(range(start, stop))
        for revision, events in past.revisions:
            live = self.model.state(revision - 1)
            changes = [change for change in self.model.log if change[0] == revision]
            assert len(changes) == len(events)
            for (space, event), (_, at, key, record) in zip(events, changes, strict=True):
                assert (space, event.kv.key) == (at, key)
                assert event.kv == (record or KeyValue(key, 0, revision))
                before = live.pop((at, key), None)
                if record is not None:
                    live[at, key] = record
                wanted = prev_kv and revision > self.compact_revision
                assert event.prev_kv == (before if wanted else None)

    def holds(self) -> None:
        state = self.model.state(self.model.revision)
        assert self.keyspace.revision == self.model.revision
        assert self.keyspace.compact_revision == self.compact_revision
        assert self.keyspace.digest == digest_of(state)
        assert self.keyspace.bytes_used == sum(
            len(row[3]) + len(row[7]) + 128 for row in self.stored.rows.values()
        )
        assert self.keyspace.bytes_used - self.keyspace.history_bytes == sum(
            len(kv.key) + len(kv.value) + 128 for kv in state.values()
        )
        assert self.needed() <= set(self.stored.rows)
        assert sorted(self.keyspace.leases.by_id) == sorted(self.model.leases)
        self.published_is(state)
        assert contents(self.stored.reload()) == contents(self.keyspace)
        log = self.keyspace.log
        for revision in range(log.first, log.last + 1):
            assert log.events(revision) is not None
        assert log.events(log.first - 1) is None

    def settles(self) -> None:
        self.sweep_all()
        self.holds()


def digest_of(state: State) -> int:
    digest = RowDigest()
    for (space, _), record in state.items():
        digest.add(space, [record])
    return digest.value


@pytest.fixture
def tiny_slices(monkeypatch) -> None:
    for module in (transaction, keyspace):
        monkeypatch.setattr(module, "CHUNK_KEYS", 2)


@settings(max_examples=80, suppress_health_check=list(HealthCheck))
@given(
    tail=st.sampled_from([0, 700, 1 << 20]),
    steps=walks(KeyspaceWalk, 30),
)
def test_the_keyspace_agrees_with_a_model_that_keeps_everything(tiny_slices, tail, steps) -> None:
    """Reads, events, hashes, quota and reloads agree with a naive model, whatever happens."""
    walk(KeyspaceWalk(tail), steps)
