"""Leases: granting, attaching, revoking, and what is stored of them."""

import pytest

from coordinator.keyspace import PLAIN, SESSION, SYSTEM, TTL_MS_MAX, USER, LeaseTable
from coordinator_sdk.errors import AlreadyExists, Internal, InvalidRequest, LeaseNotFound
from coordinator_sdk.protocol.kv import Delete, Put
from tests.keyspace.support import Stored


@pytest.fixture
def stored() -> Stored:
    stored = Stored()
    stored.grant(7)
    return stored


def test_a_grant_makes_no_revision(stored) -> None:
    """Granting a lease changes no revision; the commit tells what to store."""
    txn = stored.keyspace.begin()
    txn.grant_lease(8, 2500, data=b"d")
    commit = stored.commit(txn)
    assert (commit.revision, commit.events) == (1, [])
    table = LeaseTable()
    assert table.load(stored.leases[8]).data == b"d"
    assert table.require(8).ttl_ms == 2500


def test_the_smallest_ttl_is_the_callers_rule(stored) -> None:
    """A TTL below the smallest is raised to it."""
    txn = stored.keyspace.begin()
    asked = {1: 0, 2: -1, 3: 2001}
    granted = [txn.grant_lease(id_, ttl, ttl_ms_min=2000).ttl_ms for id_, ttl in asked.items()]
    assert granted == [2000, 2000, 2001]


def test_a_ttl_can_be_too_large(stored) -> None:
    """A TTL above nine billion seconds is refused with etcd's text."""
    txn = stored.keyspace.begin()
    assert txn.grant_lease(1, TTL_MS_MAX).ttl_ms == 9_000_000_000 * 1000
    with pytest.raises(InvalidRequest, match="etcdserver: too large lease TTL"):
        txn.grant_lease(2, TTL_MS_MAX + 1)


def test_an_id_is_taken_once(stored) -> None:
    """A lease id that exists cannot be granted again, until it is revoked."""
    txn = stored.keyspace.begin()
    with pytest.raises(AlreadyExists, match="etcdserver: lease already exists"):
        txn.grant_lease(7, 1000)
    txn.revoke_lease(7)
    txn.grant_lease(7, 1000)


def test_a_revoke_deletes_the_keys_in_one_revision(stored) -> None:
    """All attached keys go in one revision, the user's first, each space's in order."""
    for key in (b"c", b"a", b"b"):
        stored.put(key, lease=7)
    txn = stored.keyspace.begin()
    for key in (b"z", b"y"):
        txn.put(SYSTEM, key, b"", 7)
    stored.commit(txn)
    txn = stored.keyspace.begin()
    assert txn.attached(7, SYSTEM) == [b"y", b"z"]
    assert txn.revoke_lease(7) == 5
    commit = stored.commit(txn)
    assert [(space, event.kv.key, event.type) for space, event in commit.events] == [
        (USER, b"a", 1),
        (USER, b"b", 1),
        (USER, b"c", 1),
        (SYSTEM, b"y", 1),
        (SYSTEM, b"z", 1),
    ]
    assert stored.leases == {}
    assert commit.leases == ((7, None),)


def test_a_revoke_without_keys_makes_no_revision(stored) -> None:
    """Revoking a lease that has no keys makes no revision."""
    txn = stored.keyspace.begin()
    assert txn.revoke_lease(7) == 0
    assert stored.commit(txn).revision == 1


def test_a_large_revoke_can_be_sliced(stored) -> None:
    """A revoke of many keys pauses; readers see them all until it is published."""
    txn = stored.keyspace.begin()
    for number in reversed(range(5000)):
        txn.put(USER, b"%d" % number, b"", 7)
    stored.commit(txn)
    expected = sorted(b"%d" % number for number in range(5000))
    txn = stored.keyspace.begin()
    pauses = 0
    for _ in txn.revoke_lease_steps(7):
        pauses += 1
        assert stored.keyspace.lease_keys(7) == expected
    assert pauses >= 10
    commit = stored.commit(txn)
    assert [event.kv.key for _, event in commit.events] == expected
    assert stored.keyspace.lease_keys(7) == []


def test_a_key_hangs_on_the_lease_of_its_last_put(stored) -> None:
    """A put moves the key to its lease; a delete takes it off."""
    stored.grant(8)
    stored.put(b"k", lease=7)
    stored.put(b"k", lease=8)
    assert (stored.keyspace.lease_keys(7), stored.keyspace.lease_keys(8)) == ([], [b"k"])
    stored.put(b"k", lease=8)
    assert stored.keyspace.leases.require(8).key_count == 1
    stored.apply(Delete(b"k"))
    assert stored.keyspace.leases.require(8).key_count == 0
    assert stored.keyspace.lease_keys(999) == []


def test_sessions_are_hidden_from_the_lease_calls(stored) -> None:
    """A session's lease is not among the plain ones, and cannot be revoked as one."""
    stored.grant(3, kind=SESSION)
    stored.grant(2)
    table = stored.keyspace.leases
    assert [lease.id for lease in table.list()] == [2, 7]
    assert [lease.id for lease in table.list(SESSION)] == [3]
    assert table.get(3, PLAIN) is None
    assert 3 in table
    assert len(table) == 3
    txn = stored.keyspace.begin()
    with pytest.raises(LeaseNotFound, match="etcdserver: requested lease not found"):
        txn.revoke_lease(3, PLAIN)
    txn.put(USER, b"k", b"", 3)
    assert txn.revoke_lease(3, SESSION) == 1
    assert txn.get_lease(3) is None
    assert txn.attached(3, USER) == []


@pytest.mark.parametrize(
    "call",
    [
        lambda txn: txn.revoke_lease(99),
        lambda txn: txn.end_lease(99),
        lambda txn: txn.put(USER, b"k", b"", 99),
        lambda txn: txn.execute(Put(b"k", lease=99)),
        lambda txn: list(txn.delete_attached_steps(99, USER)),
    ],
)
def test_unknown_leases_are_not_found(stored, call) -> None:
    """Every call about an unknown lease says so, and names it."""
    with pytest.raises(LeaseNotFound) as caught:
        call(stored.keyspace.begin())
    assert caught.value.details == {"field": "lease", "lease": f"{99:016x}"}


def test_a_lease_ends_after_its_keys(stored) -> None:
    """Keys can be deleted space by space before the lease itself ends."""
    txn = stored.keyspace.begin()
    txn.put(SYSTEM, b"k", b"", 7)
    with pytest.raises(AssertionError):
        txn.end_lease(7)
    assert list(txn.delete_attached_steps(7, SYSTEM)) == [None]
    txn.end_lease(7)
    assert stored.commit(txn).leases == ((7, None),)


def test_only_the_last_change_of_a_lease_is_stored(stored) -> None:
    """An entry that changes a lease several times tells its last record only."""
    txn = stored.keyspace.begin()
    txn.grant_lease(8, 1000, data=b"one")
    txn.revoke_lease(8)
    txn.grant_lease(8, 1000, data=b"two")
    commit = stored.commit(txn)
    assert commit.leases == ((8, stored.keyspace.leases.require(8).dump()),)
    assert stored.reload().leases.require(8).data == b"two"


def test_what_users_own_is_counted(stored) -> None:
    """A user's leases and the records of its sessions are counted, through undo and restart."""

    def counts(table: LeaseTable) -> list[tuple[int, int]]:
        return [(one.leases, one.records) for one in map(table.owned_by, ("ana", "bob", ""))]

    before = counts(stored.keyspace.leases)
    txn = stored.keyspace.begin()
    txn.grant_lease(101, 1000, SESSION, owner="ana")
    txn.grant_lease(102, 1000, owner="ana")
    txn.grant_lease(103, 1000, SESSION, owner="bob")
    txn.put(SYSTEM, b"s1", b"", 101)
    txn.put(SYSTEM, b"s2", b"", 101)
    txn.put(USER, b"u1", b"", 102)
    stored.commit(txn)
    kept = [(2, 2), (1, 0), before[2]]
    assert counts(stored.keyspace.leases) == kept
    txn = stored.keyspace.begin()
    txn.put(SYSTEM, b"s2", b"", 103)
    txn.put(SYSTEM, b"s3", b"", 103)
    txn.delete(SYSTEM, b"s1")
    txn.revoke_lease(101)
    txn.revoke_lease(102)
    assert counts(stored.keyspace.leases)[:2] == [(0, 0), (1, 2)]
    txn.rollback()
    assert counts(stored.keyspace.leases) == kept
    assert counts(stored.reload().leases) == kept


def test_a_lease_is_stored_once() -> None:
    """Two records with one id are damage."""
    table = LeaseTable()
    record = table.add(1, 1000, PLAIN, b"", 0, "").dump()
    with pytest.raises(Internal):
        table.load(record)
