"""Puts, ranges, deletes and transactions: etcd's semantics, fact by fact."""

import pytest

from coordinator.keyspace import SYSTEM, USER, PendingRange, drain, only_reads
from coordinator_sdk.errors import (
    Compacted,
    FutureRevision,
    InvalidRequest,
    LeaseNotFound,
    NotApplied,
)
from coordinator_sdk.protocol.kv import (
    Compare,
    Delete,
    DeleteResult,
    Event,
    KeyValue,
    Put,
    PutResult,
    Range,
    RangeResult,
    Txn,
    TxnResult,
)
from tests.keyspace.support import Stored, contents

EVERYTHING = Range(b"\0", b"\0")


@pytest.fixture
def stored() -> Stored:
    return Stored()


def test_a_fresh_keyspace_is_at_revision_1(stored) -> None:
    """An empty keyspace is at revision 1, and the first write makes revision 2."""
    assert stored.keyspace.revision == 1
    assert stored.put(b"k") == 2


def test_records_count_their_revisions(stored) -> None:
    """create_revision stays, mod_revision follows, version counts; delete and put start anew."""
    stored.put(b"k", b"1")
    stored.put(b"k", b"2")
    assert stored.get(b"k") == KeyValue(b"k", 2, 3, 2, 0, b"2")
    assert stored.apply(Delete(b"k")) == DeleteResult(4, 1)
    stored.put(b"k", b"3")
    assert stored.get(b"k") == KeyValue(b"k", 5, 5, 1, 0, b"3")


def test_no_change_makes_no_revision(stored) -> None:
    """Deleting nothing, and a transaction without effect, make no revision."""
    stored.put(b"k")
    assert stored.apply(Delete(b"other")) == DeleteResult(2, 0)
    assert stored.apply(Delete(b"a", b"\0x")) == DeleteResult(2, 0)
    assert stored.apply(Txn([], [Range(b"k"), Delete(b"no")])).revision == 2
    assert stored.keyspace.revision == 2


def test_an_entry_makes_one_revision(stored) -> None:
    """All changes of an entry have one revision; their order is their sub."""
    result = stored.apply(Txn([], [Put(b"a"), Put(b"b"), Delete(b"c")]))
    assert result.revision == 2
    assert sorted(stored.rows) == [(2, 0), (2, 1)]


def test_an_unchanged_put_is_a_change(stored) -> None:
    """Writing the same value again makes a revision."""
    stored.put(b"k", b"same")
    assert stored.put(b"k", b"same") == 3


def test_events_carry_what_was_before(stored) -> None:
    """An event has the record before the change; a deletion only key and mod_revision."""
    keyspace = stored.keyspace
    stored.put(b"k", b"1")
    txn = keyspace.begin()
    txn.put(USER, b"k", b"2")
    txn.delete(USER, b"k")
    commit = stored.commit(txn)
    first, second = KeyValue(b"k", 2, 2, 1, 0, b"1"), KeyValue(b"k", 2, 3, 2, 0, b"2")
    assert commit.events == [
        (USER, Event(0, second, first)),
        (USER, Event(1, KeyValue(b"k", 0, 3), second)),
    ]


def test_put_answers_with_the_record_before(stored) -> None:
    """prev_kv asks for the record before; a new key has none."""
    assert stored.apply(Put(b"k", b"1", prev_kv=True)) == PutResult(2, None)
    before = stored.get(b"k")
    assert stored.apply(Put(b"k", b"2", prev_kv=True)) == PutResult(3, before)


def test_put_may_keep_value_or_lease(stored) -> None:
    """ignore_value and ignore_lease keep what is there; a put without lease detaches it."""
    stored.grant(7)
    stored.put(b"k", b"1", lease=7)
    stored.put(b"k", b"2", ignore_lease=True)
    assert stored.get(b"k") == KeyValue(b"k", 2, 3, 2, 7, b"2")
    stored.put(b"k", ignore_value=True)
    assert stored.get(b"k") == KeyValue(b"k", 2, 4, 3, 0, b"2")
    assert stored.keyspace.lease_keys(7) == []


@pytest.mark.parametrize("op", [Put(b"k", ignore_value=True), Put(b"k", ignore_lease=True)])
def test_put_cannot_keep_what_is_not_there(stored, op) -> None:
    """ignore_* needs the key to exist."""
    with pytest.raises(InvalidRequest, match="etcdserver: key not found"):
        stored.apply(op)
    with pytest.raises(InvalidRequest, match="etcdserver: key not found"):
        stored.apply(Txn([], [Put(b"other"), op]))
    assert stored.keyspace.revision == 1


def test_put_needs_its_lease(stored) -> None:
    """A put with an unknown lease changes nothing."""
    for op in (Put(b"k", lease=9), Txn([], [Put(b"a"), Put(b"k", lease=9)])):
        txn = stored.keyspace.begin()
        with pytest.raises(LeaseNotFound, match="etcdserver: requested lease not found"):
            txn.execute(op)
        assert not txn.changed
        txn.rollback()
    assert contents(stored.keyspace) == contents(Stored().keyspace)


def test_the_lease_of_a_put_is_looked_at_in_etcds_order(stored) -> None:
    """A put alone looks for its lease before its key, in a transaction the other way round."""
    op = Put(b"k", lease=9, ignore_value=True)
    with pytest.raises(LeaseNotFound):
        stored.apply(op)
    with pytest.raises(InvalidRequest, match="etcdserver: key not found"):
        stored.apply(Txn([], [op]))


def test_delete_answers_with_what_it_deleted(stored) -> None:
    """A range is deleted in the order of keys, with the records on request."""
    for key in (b"c", b"a", b"b", b"d"):
        stored.put(key)
    records = stored.range(Range(b"a", b"c")).kvs
    assert stored.apply(Delete(b"a", b"c", prev_kv=True)) == DeleteResult(6, 2, records)
    assert [row[3] for place, row in sorted(stored.rows.items()) if place[0] == 6] == [b"a", b"b"]
    assert stored.apply(Delete(b"c", prev_kv=True)).prev_kvs[0].key == b"c"
    assert stored.apply(Delete(b"\0", b"\0")).deleted == 1


def test_range_ends(stored) -> None:
    """No end is one key, a zero byte is every key from there on, an end not above the key none."""
    for key in (b"a", b"a\x00", b"ab", b"b"):
        stored.put(key)

    def keys(key, end=b""):
        return [kv.key for kv in stored.range(Range(key, end)).kvs]

    assert keys(b"a") == [b"a"]
    assert keys(b"a", b"b") == [b"a", b"a\x00", b"ab"]
    assert keys(b"ab", b"\0") == [b"ab", b"b"]
    assert keys(b"b", b"a") == keys(b"b", b"b") == keys(b"zz") == []


@pytest.fixture
def four(stored) -> Stored:
    """Four keys: c is the oldest, a the newest; b has two versions."""
    for key, value in ((b"c", b"2"), (b"b", b"x"), (b"d", b"1"), (b"a", b"2"), (b"b", b"0")):
        stored.put(key, value)
    return stored


ORDERS = [
    ({}, "abcd"),
    ({"sort_order": 1}, "abcd"),
    ({"sort_order": 2}, "dcba"),
    ({"sort_target": 1}, "acdb"),
    ({"sort_target": 1, "sort_order": 2}, "bacd"),
    ({"sort_target": 2}, "cbda"),
    ({"sort_target": 3, "sort_order": 2}, "badc"),
    ({"sort_target": 4}, "bdac"),
    ({"sort_target": 4, "sort_order": 2}, "acdb"),
    ({"limit": 2}, "ab+"),
    ({"limit": 4}, "abcd"),
    ({"limit": 2, "sort_order": 2}, "dc+"),
    # A target without an order sorts only what the limit and its one more let through.
    ({"limit": 2, "sort_target": 4}, "ba+"),
    ({"limit": 2, "sort_target": 4, "sort_order": 1}, "bd+"),
    ({"max_mod_revision": 4}, "cd"),
    ({"min_mod_revision": 5}, "ab"),
    ({"min_create_revision": 3, "max_create_revision": 4}, "bd"),
    ({"min_create_revision": 3, "limit": 2}, "ab+"),
    ({"min_create_revision": 4, "limit": 2}, "ad"),
    ({"limit": -1}, "abcd"),
]


@pytest.mark.parametrize(("options", "expected"), ORDERS)
def test_ranges_filter_order_and_cut(four, options, expected) -> None:
    """Filters come first, then the order (ties by key), then the limit; count ignores all."""
    result = four.range(Range(b"a", b"z", **options))
    keys = b"".join(kv.key for kv in result.kvs).decode()
    assert keys + ("+" if result.more else "") == expected
    assert (result.count, result.revision) == (4, 6)
    # Inside a transaction, and as of a revision, nothing differs.
    assert four.apply(Txn([], [Range(b"a", b"z", **options)])).responses == [result]
    four.put(b"c", b"later")
    past = four.range(Range(b"a", b"z", revision=6, **options))
    assert (past.kvs, past.more, past.count) == (result.kvs, result.more, 4)


def test_ranges_may_leave_out_values_or_all(four) -> None:
    """keys_only leaves out values, after ordering by them; count_only leaves out everything."""
    result = four.range(Range(b"a", b"z", keys_only=True, sort_target=4))
    assert [(kv.key, kv.value, kv.version) for kv in result.kvs][:2] == [
        (b"b", b"", 2),
        (b"d", b"", 1),
    ]
    assert four.get(b"b").value == b"0"
    count = Range(b"a", b"z", count_only=True, limit=1, min_mod_revision=5)
    assert four.range(count) == RangeResult(6, [], False, 4)
    assert four.range(Range(b"b", count_only=True)).count == 1


def test_old_revisions_stay_readable(stored) -> None:
    """A read of an old revision sees the records of then, and states the current revision."""
    stored.put(b"k", b"1")
    stored.put(b"k", b"2")
    stored.apply(Delete(b"k"))
    stored.put(b"k", b"3")
    seen = [stored.range(Range(b"k", revision=at)) for at in range(1, 6)]
    assert [[kv.value for kv in result.kvs] for result in seen] == [[], [b"1"], [b"2"], [], [b"3"]]
    assert {result.revision for result in seen} == {5}
    assert stored.range(Range(b"k", revision=-3)).kvs[0].value == b"3"


def test_future_and_compacted_revisions_are_refused(stored) -> None:
    """A revision above the current one is future, one below the compact revision compacted."""
    for _ in range(4):
        stored.put(b"k")
    stored.keyspace.compact(3)
    with pytest.raises(FutureRevision, match="mvcc: required revision is a future revision"):
        stored.range(Range(b"k", revision=6))
    with pytest.raises(Compacted, match="mvcc: required revision has been compacted") as caught:
        stored.range(Range(b"k", revision=2))
    assert caught.value.details == {"compact_revision": 3}
    assert stored.range(Range(b"k", revision=3)).kvs[0].version == 2
    assert stored.range(Range(b"k", revision=-1)).kvs[0].version == 4


@pytest.mark.parametrize("tail", [0, 1 << 20])
def test_values_that_left_memory_are_asked_for(tail) -> None:
    """A past range says which values it needs; they can be fetched and put in, in any order."""
    stored = Stored(tail)
    for key, value in ((b"a", b"3"), (b"b", b"2"), (b"c", b"1")):
        stored.put(key, value)
    for key in (b"a", b"b"):
        stored.put(key, b"new")
    stored.keyspace.log.persisted(6)
    plain = stored.range(Range(b"a", b"z", revision=4))
    assert [kv.value for kv in plain.kvs] == [b"3", b"2", b"1"]
    by_value = stored.range(Range(b"a", b"z", revision=4, sort_target=4, sort_order=1, limit=2))
    assert [kv.key for kv in by_value.kvs] == [b"c", b"b"]
    assert by_value.more
    # Without values there is nothing to ask for.
    for options in ({"keys_only": True}, {"count_only": True}, {"max_mod_revision": 1}):
        assert isinstance(
            stored.keyspace.range(Range(b"a", b"z", revision=4, **options)), RangeResult
        )
    pending = stored.keyspace.range(Range(b"a", b"z", revision=4))
    assert isinstance(pending, PendingRange) == (tail == 0)
    if isinstance(pending, PendingRange):
        assert pending.missing == [(0, 2, 0), (1, 3, 0)]
        with pytest.raises(Compacted):
            pending.fill([b"3", None], compact_revision=5)


COMPARES = [
    # target, result, number, value, outcome for k = (create 2, mod 3, version 2, lease 7, b"m")
    (0, 0, 2, b"", True),
    (0, 1, 1, b"", True),
    (0, 2, 2, b"", False),
    (0, 3, 1, b"", True),
    (1, 0, 2, b"", True),
    (1, 3, 2, b"", False),
    (2, 1, 2, b"", True),
    (2, 2, 4, b"", True),
    (3, 0, 0, b"m", True),
    (3, 1, 0, b"a", True),
    (3, 2, 0, b"z", True),
    (3, 3, 0, b"m", False),
    (4, 0, 7, b"", True),
    (4, 1, 7, b"", False),
]


@pytest.mark.parametrize(("target", "result", "number", "value", "outcome"), COMPARES)
def test_compares(stored, target, result, number, value, outcome) -> None:
    """Every target is compared in every way, for one key and for a range of one."""
    stored.grant(7)
    stored.put(b"k", lease=7)
    stored.put(b"k", b"m", lease=7)
    for end in (b"", b"l"):
        op = Txn([Compare(target, result, b"k", number, value, end)], [], [])
        assert stored.apply(op).succeeded is outcome
        assert stored.keyspace.read_txn(op)[0].succeeded is outcome


@pytest.mark.parametrize("end", [b"", b"z"])
def test_compares_of_nothing(stored, end) -> None:
    """A missing key counts as zeros, except that its value compares as false whatever is asked."""
    for target in (0, 1, 2, 4):
        assert stored.apply(Txn([Compare(target, 0, b"k", 0, b"", end)])).succeeded
        assert not stored.apply(Txn([Compare(target, 1, b"k", 0, b"", end)])).succeeded
    for result in range(4):
        assert not stored.apply(Txn([Compare(3, result, b"k", 0, b"", end)])).succeeded


def test_a_range_compare_is_about_every_key(stored) -> None:
    """With a range_end, every key of the range must satisfy the compare."""
    for key in (b"a", b"b"):
        stored.put(key, b"x")
    assert stored.apply(Txn([Compare(3, 0, b"a", 0, b"x", b"z")])).succeeded
    stored.put(b"b", b"y")
    assert not stored.apply(Txn([Compare(3, 0, b"a", 0, b"x", b"z")])).succeeded


def test_all_compares_must_hold(stored) -> None:
    """The success branch runs if every compare holds, also if there is none."""
    stored.put(b"k", b"x")
    yes, no = Compare(3, 0, b"k", 0, b"x"), Compare(3, 0, b"k", 0, b"y")
    assert stored.apply(Txn([yes, no], [], [Put(b"f")])).responses == [PutResult(3)]
    assert stored.apply(Txn([], [Put(b"s")])) == TxnResult(4, True, [PutResult(4)])


def test_nested_compares_see_the_state_before_the_entry(stored) -> None:
    """Nested compares are evaluated before anything is applied."""
    inner = Txn([Compare(0, 0, b"k", 0)], [Put(b"new")], [Put(b"old")])
    result = stored.apply(Txn([], [Put(b"k"), inner]))
    assert result == TxnResult(2, True, [PutResult(2), TxnResult(0, True, [PutResult(2)])])
    assert stored.get(b"new") is not None


def test_operations_of_a_transaction_see_each_other(stored) -> None:
    """A range sees earlier puts of its transaction; given a revision, it does not."""
    stored.put(b"k", b"before")
    result = stored.apply(
        Txn(
            [],
            [
                Range(b"k"),
                Put(b"k", b"after"),
                Range(b"k"),
                Range(b"k", revision=2),
                Delete(b"k"),
                Range(b"k"),
            ],
        )
    )
    ranges = [one for one in result.responses if isinstance(one, RangeResult)]
    assert [[kv.value for kv in one.kvs] for one in ranges] == [
        [b"before"],
        [b"after"],
        [b"before"],
        [],
    ]
    # An answer states the revision of the state it was given in.
    assert [one.revision for one in ranges] == [2, 3, 3, 3]


def test_a_transaction_fails_as_a_whole(stored) -> None:
    """A range at the transaction's own revision, or a compacted one, fails before any change."""
    for _ in range(3):
        stored.put(b"k")
    stored.keyspace.compact(3)
    for revision, error in ((5, FutureRevision), (2, Compacted), (-1, Compacted)):
        txn = stored.keyspace.begin()
        with pytest.raises(error):
            txn.execute(Txn([], [Put(b"k"), Range(b"k", revision=revision)]))
        assert not txn.changed
        txn.rollback()
        with pytest.raises(error):
            stored.keyspace.read_txn(Txn([], [Range(b"k", revision=revision)]))


def test_before_any_compaction_a_transaction_may_read_minus_one(stored) -> None:
    """As in etcd, revision -1 is the current one until something was compacted."""
    stored.put(b"k")
    assert stored.apply(Txn([], [Range(b"k", revision=-1)])).responses[0].count == 1


def test_reads_of_the_past_are_marked(stored) -> None:
    """A transaction that reads a past revision says so, whether or not values are in memory."""
    stored.put(b"k", b"1")
    stored.put(b"k", b"2")
    for op, marked in ((Range(b"k"), False), (Range(b"k", revision=2), True)):
        txn = stored.keyspace.begin()
        txn.execute(Txn([], [op]))
        assert txn.reads_history is marked
        assert txn.pending == []
        txn.rollback()


@pytest.mark.parametrize(
    ("op", "reads"),
    [
        (Range(b"k"), True),
        (Put(b"k"), False),
        (Delete(b"k"), False),
        (Txn(), True),
        (Txn([], [Range(b"k"), Txn([], [Range(b"k")])]), True),
        (Txn([], [Range(b"k")], [Txn([], [], [Put(b"k")])]), False),
    ],
)
def test_what_only_reads(op, reads) -> None:
    """An operation only reads if no branch of it can write."""
    assert only_reads(op) is reads


def test_the_spaces_are_apart(stored) -> None:
    """Operations change user keys only; both spaces share the order of revisions."""
    txn = stored.keyspace.begin()
    txn.put(SYSTEM, b"k", b"system")
    stored.commit(txn)
    stored.put(b"k", b"user")
    assert stored.range(Range(b"k", space=SYSTEM)).kvs == [KeyValue(b"k", 2, 2, 1, 0, b"system")]
    stored.apply(Delete(b"\0", b"\0"))
    assert stored.keyspace.get(SYSTEM, b"k") is not None
    assert stored.keyspace.key_count(SYSTEM) == 1
    assert stored.keyspace.key_count(USER) == 0


def many(count: int) -> Stored:
    stored = Stored()
    txn = stored.keyspace.begin()
    for number in range(count):
        txn.put(USER, b"%06d" % number, b"v")
    stored.commit(txn)
    return stored


@pytest.mark.parametrize(
    "op",
    [
        Delete(b"\0", b"\0"),
        Txn([Compare(0, 0, b"0", 1, b"", b"1")], [Delete(b"000100", b"\0"), Range(b"\0", b"\0")]),
        Range(b"\0", b"\0"),
    ],
)
def test_large_entries_can_be_sliced(op) -> None:
    """An operation on many keys pauses about every 500; readers see none of it until it is done."""
    stored, other = many(2600), many(2600)
    before = stored.range(EVERYTHING)
    txn = stored.keyspace.begin()
    steps = txn.execute_steps(op)
    pauses = 0
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            result = stop.value
            break
        pauses += 1
        changed = txn.changed
        assert stored.range(Range(b"000100")) == RangeResult(2, [before.kvs[100]], False, 1)
        answer, pending = stored.keyspace.read_txn(Txn([], [Range(b"002599")]))
        assert answer.responses == [RangeResult(2, [before.kvs[-1]], False, 1)]
        assert pending == []
    assert changed is not only_reads(op)
    assert pauses >= 5
    assert stored.range(EVERYTHING) == before
    stored.commit(txn)
    assert result == other.apply(op)
    assert contents(stored.keyspace) == contents(other.keyspace)


def test_rollback_takes_everything_back(stored) -> None:
    """After a rollback nothing tells that the entry was ever begun."""
    stored.grant(7)
    stored.put(b"a", lease=7)
    stored.put(b"b")
    stored.apply(Delete(b"b"))
    before = contents(stored.keyspace)
    txn = stored.keyspace.begin()
    txn.grant_lease(8, 1)
    txn.put(USER, b"a", b"", 8)
    txn.put(USER, b"b", b"again", 7)
    txn.put(SYSTEM, b"new", b"", 7)
    txn.delete(USER, b"b")
    txn.revoke_lease(8)
    txn.revoke_lease(7)
    txn.rollback()
    assert contents(stored.keyspace) == before


def test_a_transaction_ends_once(stored) -> None:
    """One entry at a time, and each ends once."""
    txn = stored.keyspace.begin()
    with pytest.raises(AssertionError):
        stored.keyspace.begin()
    txn.commit()
    for end in (txn.commit, txn.rollback):
        with pytest.raises(AssertionError):
            end()
    for forbidden in (lambda: stored.keyspace.compact(1), lambda: stored.keyspace.sweep(1)):
        stored.keyspace.begin()
        with pytest.raises(AssertionError):
            forbidden()
        stored.keyspace.open.rollback()


def test_scans_allow_changes_on_the_way(stored) -> None:
    """A scan sees each key that stays once, in order, while keys come and go."""
    txn = stored.keyspace.begin()
    for number in range(1200):
        txn.put(SYSTEM, b"%04d" % number, b"")
    seen = []
    for record in txn.scan(SYSTEM, b"0", b"\0"):
        seen.append(record.key)
        txn.delete(SYSTEM, record.key)
    assert seen == [b"%04d" % number for number in range(1200)]
    assert list(txn.scan(SYSTEM, b"0000", b"")) == []
    txn.put(SYSTEM, b"0000", b"")
    assert [record.key for record in txn.scan(SYSTEM, b"0000", b"")] == [b"0000"]
    assert txn.delete_range(SYSTEM, b"\0", b"\0") == 1
    assert txn.range(Range(b"\0", b"\0", space=SYSTEM)).count == 0
    txn.rollback()


def test_refusals_are_certain(stored) -> None:
    """Whatever execution refuses has certainly not happened."""
    with pytest.raises(NotApplied):
        stored.apply(Range(b"k", revision=9))
    steps = stored.keyspace.begin().execute_steps(Put(b"k"))
    assert drain(steps) == PutResult(2)
