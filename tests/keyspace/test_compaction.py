"""Compaction, sweeping, the quota's counter, digests, and loading."""

import hashlib

import msgspec
import pytest

from coordinator.keyspace import (
    OVERHEAD_BYTES,
    SYSTEM,
    USER,
    Keyspace,
    Loader,
    Meta,
    RowDigest,
    row_of,
)
from coordinator.keyspace.records import row_digest
from coordinator_sdk.errors import Compacted, FutureRevision, Internal
from coordinator_sdk.protocol.kv import Delete, Event, KeyValue, Put, Range, Txn
from tests.keyspace.support import Stored, contents


@pytest.fixture
def stored() -> Stored:
    return Stored()


def test_compaction_moves_forward_only(stored) -> None:
    """Compacting at or below the compact revision is refused, and above the current one too."""
    for _ in range(4):
        stored.put(b"k")
    keyspace = stored.keyspace
    for revision in (0, -1):
        with pytest.raises(
            Compacted, match="etcdserver: mvcc: required revision has been compacted"
        ):
            keyspace.compact(revision)
    with pytest.raises(FutureRevision, match="required revision is a future revision"):
        keyspace.compact(6)
    keyspace.compact(3)
    for revision in (3, 2):
        with pytest.raises(Compacted):
            keyspace.compact(revision)
    keyspace.compact(5)
    assert keyspace.revision == 5


def test_a_version_goes_when_nothing_can_see_it(stored) -> None:
    """A version superseded at s goes at compact s, a tombstone of t only above t."""
    stored.put(b"k")  # 2
    stored.put(b"k")  # 3 supersedes 2
    stored.apply(Delete(b"k"))  # 4 supersedes 3
    stored.put(b"other")  # 5
    expected = {2: {2, 3, 4, 5}, 3: {3, 4, 5}, 4: {4, 5}, 5: {5}}
    for revision, kept in expected.items():
        stored.keyspace.compact(revision)
        stored.sweep()
        assert {place[0] for place in stored.rows} == kept
    assert stored.keyspace.version_count == 0
    assert len(stored.keyspace.stores[USER].ghosts) == 0


def test_what_one_revision_wrote_twice_stays_for_its_watchers(stored) -> None:
    """A version superseded by its own entry stays readable at that very revision."""
    txn = stored.keyspace.begin()
    for value in (b"1", b"2"):
        txn.put(USER, b"k", value)
    txn.delete(USER, b"k")
    txn.put(USER, b"k", b"3")
    stored.commit(txn)
    stored.put(b"k", b"4")
    stored.keyspace.compact(2)
    assert stored.sweep() == 0
    stored.keyspace.compact(3)
    # The oldest first, although the last of them became droppable at the same revision.
    for sub in range(4):
        assert stored.keyspace.sweep(1) == [(2, sub)]
        del stored.rows[2, sub]
        assert contents(stored.reload()) == contents(stored.keyspace)
    assert not stored.keyspace.is_sweepable


def test_sweeping_is_bounded_and_in_order(stored) -> None:
    """A sweep drops at most its limit, in the order in which versions were superseded."""
    for number in range(10):
        stored.put(b"k%d" % (number % 2))
    stored.keyspace.compact(11)
    assert stored.keyspace.is_sweepable
    assert stored.keyspace.sweep(3) == [(2, 0), (3, 0), (4, 0)]
    assert stored.keyspace.sweep(0) == []
    assert stored.keyspace.sweep(100) == [(at, 0) for at in range(5, 10)]
    assert stored.keyspace.sweep(100) == []
    assert not stored.keyspace.is_sweepable


def test_reads_are_exact_while_sweeping_lags(stored) -> None:
    """What is readable does not depend on how far sweeping has come."""
    for value in (b"1", b"2", b"3"):
        stored.put(b"k", value)
    stored.apply(Delete(b"k"))
    stored.keyspace.compact(4)
    while True:
        assert stored.get(b"k", 4).value == b"3"
        assert stored.get(b"k", 5) is None
        with pytest.raises(Compacted):
            stored.get(b"k", 3)
        if not stored.sweep(1):
            break


def test_the_quota_counts_every_retained_version(stored) -> None:
    """Live, old and deleted versions cost key, value and overhead, until they are dropped."""
    keyspace = stored.keyspace
    stored.put(b"key", b"12345")
    one = 3 + 5 + OVERHEAD_BYTES
    assert keyspace.bytes_used == one
    stored.put(b"key", b"12345")
    stored.apply(Delete(b"key"))
    assert keyspace.bytes_used == 2 * one + 3 + OVERHEAD_BYTES
    keyspace.compact(3)
    assert keyspace.bytes_used == 2 * one + 3 + OVERHEAD_BYTES
    stored.sweep()
    assert keyspace.bytes_used == one + 3 + OVERHEAD_BYTES
    stored.put(b"x", b"")
    keyspace.compact(5)
    stored.sweep()
    assert keyspace.bytes_used == 1 + OVERHEAD_BYTES


def test_the_counter_ignores_an_open_entry(stored) -> None:
    """Quota, digest and revision are those of the published state while an entry is applied."""
    stored.put(b"k")
    before = stored.keyspace.meta
    txn = stored.keyspace.begin()
    txn.put(USER, b"k", b"more")
    txn.delete(USER, b"k")
    assert stored.keyspace.meta == before
    txn.commit()
    assert stored.keyspace.meta != before


def test_the_digest_is_that_of_the_live_rows(stored) -> None:
    """The digest depends on the live rows and their space, not on order or history."""
    keyspace = stored.keyspace
    assert keyspace.digest == 0
    stored.put(b"a", b"1")
    stored.put(b"b", b"2")
    record = stored.get(b"a")
    digest = RowDigest()
    digest.add(USER, [stored.get(b"b")])
    digest.add(USER, [record])
    assert keyspace.digest == digest.value == stored.digest_at()
    other = RowDigest()
    other.add(SYSTEM, [stored.get(b"b"), record])
    assert other.value != digest.value
    stored.put(b"b", b"3")
    assert stored.digest_at(3) == digest.value
    stored.apply(Delete(b"\0", b"\0"))
    assert keyspace.digest == stored.digest_at() == 0


def test_the_form_that_is_hashed_is_frozen() -> None:
    """The digest of a row is the first 64 bits of BLAKE2b over a MessagePack array of six."""
    record = KeyValue(b"key", 2, 300, 3, 1 << 62, b"value")
    form = msgspec.msgpack.encode([b"key", 2, 300, 3, 1 << 62, b"value"])
    expected = int.from_bytes(hashlib.blake2b(form, digest_size=8).digest(), "little")
    assert row_digest(record) == expected == 5009114078619180658


def test_hashing_stops_when_compaction_overtakes_it(stored) -> None:
    """A pinned revision that is compacted meanwhile cannot be hashed; nor a future one."""
    stored = Stored(tail_bytes_max=0)
    txn = stored.keyspace.begin()
    for number in range(1200):
        txn.put(USER, b"%d" % number, b"v")
    stored.commit(txn)
    stored.put(b"1", b"w")
    stored.put(b"1", b"x")
    stored.keyspace.log.persisted(4)
    steps = stored.keyspace.digest_steps(2)
    assert next(steps) == [(2, 1)]
    stored.keyspace.compact(4)
    with pytest.raises(Compacted):
        steps.send([b"v"])
    with pytest.raises(Compacted):
        stored.digest_at(3)
    with pytest.raises(FutureRevision):
        stored.digest_at(5)


def test_a_value_that_was_swept_ends_the_hashing(stored) -> None:
    """If the database has dropped a value meanwhile, hashing ends with Compacted."""
    stored = Stored(tail_bytes_max=0)
    stored.put(b"k", b"1")
    stored.put(b"k", b"2")
    stored.keyspace.log.persisted(3)
    steps = stored.keyspace.digest_steps(2)
    next(steps)
    with pytest.raises(Compacted):
        steps.send([None])


def written() -> Stored:
    """A keyspace with everything in it: both spaces, leases, tombstones, a sweep half done."""
    stored = Stored()
    stored.grant(7, kind="session", data=b"who")
    stored.grant(8)
    for number in range(40):
        lease = (0, 7, 8)[number % 3]
        stored.apply(Txn([], [Put(b"a%d" % (number % 7), b"v", lease), Put(b"b", b"%d" % number)]))
        if number % 5 == 0:
            stored.apply(Delete(b"a0", b"a3"))
    txn = stored.keyspace.begin(clock_ms=5000)
    for number in range(5):
        txn.put(SYSTEM, b"s%d" % number, b"", 7)
        txn.delete(SYSTEM, b"s%d" % (number % 2))
    stored.commit(txn)
    stored.keyspace.compact(30)
    stored.sweep(17)
    return stored


def test_a_loaded_keyspace_is_the_one_that_was_written() -> None:
    """Rows, leases and numbers rebuild records, history, queues and digest; sweeping goes on."""
    stored = written()
    loaded = stored.reload()
    assert contents(loaded) == contents(stored.keyspace)
    assert loaded.sweep(1000) == stored.keyspace.sweep(1000)
    assert contents(loaded) == contents(stored.keyspace)
    assert loaded.log.first == loaded.revision + 1
    txn, other = loaded.begin(), stored.keyspace.begin()
    assert txn.revoke_lease(7) == other.revoke_lease(7)
    assert txn.commit() == other.commit()
    assert contents(loaded) == contents(stored.keyspace)


def feed(stored: Stored, rows, meta: Meta, verify: bool = True) -> Keyspace:
    loader = Loader()
    for record in stored.leases.values():
        loader.lease(record)
    loader.rows(rows)
    return loader.finish(meta, verify)


def test_damage_is_found_when_loading() -> None:
    """Rows that contradict each other or the numbers stored with them are refused."""
    stored = written()
    rows, meta = [stored.rows[place] for place in sorted(stored.rows)], stored.keyspace.meta
    assert feed(stored, rows, meta).digest == meta.digest
    swapped = [rows[1], rows[0], *rows[2:]]
    live = max(row for row in rows if row[3] == b"b")
    altered = [(*row[:7], b"xx") if row is live else row for row in rows]
    assert altered != rows
    for bad, text in (
        (rows[:-1], "bytes"),
        (rows + rows[-1:], "out of order"),
        (swapped, "out of order"),
        (altered, "digest"),
    ):
        with pytest.raises(Internal, match=text):
            feed(stored, bad, meta)
    with pytest.raises(Internal, match="above"):
        feed(stored, rows, Meta(5, 0, meta.bytes_used, meta.digest))
    stored.leases.clear()
    with pytest.raises(Internal, match=r"lease 0+[78] of a key is missing"):
        feed(stored, rows, meta)


def test_the_digest_may_be_trusted_when_loading() -> None:
    """Without verification the stored digest is taken over, and goes on from there."""
    stored = written()
    rows = [stored.rows[place] for place in sorted(stored.rows)]
    trusted = feed(stored, rows, stored.keyspace.meta, verify=False)
    for keyspace in (trusted, stored.keyspace):
        txn = keyspace.begin()
        txn.put(USER, b"b", b"next")
        txn.commit()
    assert trusted.digest == stored.keyspace.digest
    assert contents(trusted) == contents(stored.keyspace)


def test_loading_pauses() -> None:
    """A load can be driven in slices, portion by portion."""
    stored = Stored()
    txn = stored.keyspace.begin()
    for number in range(9000):
        txn.put(USER, b"%d" % number, b"")
    stored.commit(txn)
    loader = Loader()
    loader.rows(stored.rows.values())
    assert sum(1 for _ in loader.finish_steps(stored.keyspace.meta)) >= 6


def test_a_row_tells_what_an_event_wrote() -> None:
    """A deletion's row has nothing but key and place."""
    before = KeyValue(b"k", 2, 3, 4, 5, b"v")
    gone = Event(1, KeyValue(b"k", 0, 9), before)
    assert row_of(SYSTEM, 3, gone) == (9, 3, SYSTEM, b"k", 0, 0, 0, b"")
    assert row_of(USER, 0, Event(0, before)) == (3, 0, USER, b"k", 2, 4, 5, b"v")


def test_events_of_damaged_rows_are_refused(stored) -> None:
    """A gap in the rows of a revision is damage, and never skipped."""
    stored.apply(Txn([], [Put(b"a"), Put(b"b"), Put(b"c")]))
    rows = sorted(stored.rows.values())
    with pytest.raises(Internal, match=r"row \(2, 1\) of the history is missing"):
        stored.keyspace.events_of_rows([rows[0], rows[2]], False)


def test_the_record_before_may_be_gone(stored) -> None:
    """A value that the database has dropped leaves prev_kv empty."""
    stored = Stored(tail_bytes_max=0)
    stored.put(b"k", b"1")
    stored.put(b"k", b"2")
    stored.keyspace.log.persisted(3)
    past = stored.keyspace.events_of_rows(sorted(stored.rows.values()), True)
    assert past.missing == [(2, 0)]
    past.fill([None])
    assert [event.prev_kv for _, events in past.revisions for _, event in events] == [None, None]
    assert past.missing == []


def test_a_key_put_back_leaves_the_ghosts(stored) -> None:
    """Ranges of the past list live and deleted keys once, in order, in any mixture."""
    for number in range(60):
        stored.put(b"%02d" % number)
    revision = stored.keyspace.revision
    stored.apply(Delete(b"10", b"50"))
    for number in range(20, 40, 3):
        stored.put(b"%02d" % number, b"back")
    result = stored.range(Range(b"\0", b"\0", revision=revision))
    assert [kv.key for kv in result.kvs] == [b"%02d" % number for number in range(60)]
    store = stored.keyspace.stores[USER]
    everything = sorted([*store.keys, *store.ghosts])
    for size in (1, 2, 3, 7, 100):
        for lower, upper in ((b"", None), (b"15", b"45"), (b"5", None), (b"9", b"1")):
            chunks = list(store.all_chunks(lower, upper, size))
            expected = [k for k in everything if k >= lower and (upper is None or k < upper)]
            assert [key for chunk in chunks for key in chunk] == expected
            assert all(chunks)
