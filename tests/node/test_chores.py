"""What a leader proposes without being asked: compaction and the quota."""

from coordinator.domains import DOMAINS
from coordinator.node.chores import Housekeeping, Retention
from coordinator.replica.machine import Machine
from coordinator.wire.command import QuotaSet
from coordinator_sdk.protocol.kv import Compact

QUOTA = 2 << 30


def machine_with(puts: int, clock_step_ms: int = 1000) -> Machine:
    """Return a machine whose one key was written that often, so many milliseconds apart."""
    machine = Machine(DOMAINS)
    for number in range(puts):
        machine.clock_ms = 1_000_000 + number * clock_step_ms
        txn = machine.keyspace.begin(machine.clock_ms)
        txn.put(0, b"key", b"v" * 1000)
        txn.commit()
    machine.quota_bytes = QUOTA
    return machine


def due(machine: Machine, retention: Retention, quota: int = QUOTA) -> list[object]:
    return [body for body, _ in Housekeeping(machine, retention, quota).due(1)]


def test_automatic_compaction_by_age() -> None:
    """Revisions older than the retention are compacted, younger ones are kept."""
    machine = machine_with(100)
    [compact] = due(machine, Retention(age_ms=30_000, history_bytes=0))
    assert isinstance(compact, Compact)
    assert machine.keyspace.revision - compact.revision == 30


def test_automatic_compaction_by_number() -> None:
    """With a number of revisions to keep, that many are kept."""
    machine = machine_with(100)
    [compact] = due(machine, Retention(age_ms=0, revisions=10, history_bytes=0))
    assert compact == Compact(machine.keyspace.revision - 10)


def test_automatic_compaction_by_size() -> None:
    """History beyond its size is compacted whatever its age, and not before."""
    machine = machine_with(100, clock_step_ms=1)
    assert due(machine, Retention(history_bytes=10_000_000)) == []
    [compact] = due(machine, Retention(history_bytes=50_000))
    assert isinstance(compact, Compact)
    assert 40 < compact.revision < 60


def test_a_full_keyspace_asks_for_compaction() -> None:
    """At the quota, compaction is proposed whatever the retention says."""
    machine = machine_with(100, clock_step_ms=1)
    machine.quota_bytes = 1000
    assert any(
        isinstance(body, Compact)
        for body in due(machine, Retention(age_ms=0, history_bytes=0), quota=1000)
    )


def test_the_configured_quota_is_made_everybodys() -> None:
    """A leader whose configuration names another quota proposes it, once it differs."""
    machine = machine_with(1)
    assert due(machine, Retention(), quota=5_000_000) == [QuotaSet(5_000_000)]
    assert due(machine, Retention(), quota=QUOTA) == []


def test_what_was_deleted_last_frees_its_space() -> None:
    """At the quota all history goes in the end, up to the very last revision: a deletion frees
    nothing until history reaches it."""
    machine = machine_with(50, clock_step_ms=1)
    txn = machine.keyspace.begin(machine.clock_ms)
    txn.delete(0, b"key")
    txn.commit()
    machine.quota_bytes = 20_000
    keeping = Housekeeping(machine, Retention(age_ms=0, history_bytes=0), 20_000)
    now_ms = 0
    while machine.is_full:
        now_ms += Housekeeping.PAUSE_WHEN_FULL_MS
        assert now_ms <= 10 * Housekeeping.PAUSE_WHEN_FULL_MS
        for body, _ in keeping.due(now_ms):
            assert isinstance(body, Compact)
            machine.keyspace.compact(body.revision)
            machine.keyspace.sweep(1000)
