"""Compaction: forgets the past step by step, the same steps on every member."""

import pytest

from coordinator.keyspace.records import USER
from coordinator.node.chores import Housekeeping, Retention
from coordinator.replica.machine import SWEEP_PER_ENTRY
from coordinator.wire.command import QuotaSet
from coordinator_sdk.errors import Compacted, FutureRevision
from coordinator_sdk.protocol.kv import Compact, Delete, Put, Range
from tests.replica.member import Member, state_of


def churned(rounds: int) -> Member:
    """Make a member with a past."""
    member = Member()
    for number in range(rounds):
        member.execute(Put(b"k%d" % (number % 7), b"%d" % number))
    return member


def test_compaction_forgets_the_past_only():
    """After a compaction the present and every revision from there on are as they were."""
    member = churned(60)
    keyspace = member.machine.keyspace
    middle = keyspace.revision - 10
    after = [keyspace.range(Range(b"k", b"l", revision=middle + n)) for n in range(11)]
    member.execute(Compact(middle))
    member.advance(1000)
    assert keyspace.compact_revision == middle
    assert not keyspace.is_sweepable
    assert [keyspace.range(Range(b"k", b"l", revision=middle + n)) for n in range(11)] == after
    for revision in (1, middle - 1):
        with pytest.raises(Compacted) as raised:
            keyspace.range(Range(b"k", b"l", revision=revision))
        assert raised.value.details["compact_revision"] == middle


def test_compaction_needs_a_revision_between():
    """Compacting to the future, or to where it has been compacted already, is refused."""
    member = churned(20)
    revision = member.machine.keyspace.revision
    assert isinstance(member.refusal(Compact(revision + 1)), FutureRevision)
    member.execute(Compact(revision - 3))
    for again in (revision - 3, 1):
        assert isinstance(member.refusal(Compact(again)), Compacted)


def test_compaction_makes_no_revision():
    """Compaction and sweeping make no revision and no event."""
    member = churned(40)
    member.published.clear()
    revision = member.machine.keyspace.revision
    assert member.execute(Compact(revision)).revision == revision
    member.advance(2000)
    assert member.published == []
    assert member.machine.keyspace.revision == revision


def test_sweep_is_sliced_and_deterministic():
    """Each entry drops at most its share, and a replay drops the same at the same entry."""
    member = churned(4 * SWEEP_PER_ENTRY)
    keyspace = member.machine.keyspace
    past = keyspace.version_count
    member.execute(Compact(keyspace.revision))
    assert past - SWEEP_PER_ENTRY <= keyspace.version_count < past
    used = keyspace.bytes_used
    member.execute(Put(b"other", b"1"))
    assert keyspace.bytes_used < used
    member.save()
    member.advance(1000)
    final = state_of(member.machine)
    assert keyspace.version_count < 10
    member.stop()
    member.replay_to(member.machine.index)
    assert state_of(member.machine) == final


def test_dropped_rows_leave_the_database():
    """What compaction drops is deleted from the state database; what is read still lies there."""
    member = churned(300)
    member.execute(Delete(b"k3"))
    member.save()
    rows = len(member.database.rows.versions)
    member.execute(Compact(member.machine.keyspace.revision))
    member.advance(2000)
    member.execute(Put(b"k3", b"again"))
    member.execute(Compact(member.machine.keyspace.revision))
    member.advance(2000)
    assert state_of(member.reloaded()) == state_of(member.machine)
    assert rows > 300
    assert len(member.database.rows.versions) == 7


def test_idle_member_writes_no_revision():
    """An idle member with nothing to forget writes no entry at all."""
    member = churned(10)
    member.grant(5, 10_000_000)
    index, revision = member.machine.index, member.machine.keyspace.revision
    member.advance(60_000)
    assert (member.machine.index, member.machine.keyspace.revision) == (index, revision)


def test_retention_by_age_bytes_and_count():
    """Housekeeping compacts by age, by number of revisions and by bytes of history."""
    member = churned(50)
    for _ in range(50):
        member.advance(1000)
        member.execute(Put(b"k", b"x" * 100))
    machine, revision = member.machine, member.machine.keyspace.revision
    aged = Housekeeping(machine, Retention(10_000, 0, 0), machine.quota_bytes).target()
    assert revision - 12 <= aged <= revision - 9
    assert Housekeeping(machine, Retention(0, 30, 0), 1).target() == revision - 30
    large = Housekeeping(machine, Retention(0, 0, 5_000), 1).target()
    assert 0 < large < revision
    assert Housekeeping(machine, Retention(0, 0, 1 << 30), 1).target() == 0


def test_quota_is_set_by_an_entry():
    """The configured quota becomes the cluster's by an entry, once."""
    member = churned(1)
    chores = Housekeeping(member.machine, Retention(0, 0, 0), 12_345)
    (body, _cause), *rest = chores.due(member.now_ms)
    assert (body, rest) == (QuotaSet(12_345), [])
    member.execute(body)
    assert member.machine.quota_bytes == 12_345
    assert chores.due(member.now_ms + 100_000) == []


def test_full_keyspace_is_compacted():
    """At the quota housekeeping compacts, whatever the retention says."""
    member = churned(40)
    member.execute(QuotaSet(100))
    chores = Housekeeping(member.machine, Retention(0, 0, 0), 100)
    assert chores.target() > 0
    assert member.machine.keyspace.key_count(USER) == 7
