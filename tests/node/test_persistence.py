"""What a member keeps of itself beside the rows, and what it says of its disk."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from coordinator.keyspace.history import TimeIndex
from coordinator.node import persistence
from coordinator_sdk.protocol.kv import Compact, Put
from tests.node.installing import MemoryMachine, Target
from tests.node.running import running
from tests.node.test_snapshots import put


async def test_when_revisions_happened_survives_a_stop(tmp_path: Path):
    """A start knows when revisions happened, as far as they are not compacted."""
    async with running(tmp_path) as node:
        for number in range(20):
            await node.execute(Put(b"a", b"%d" % number))
            # One sample a second is kept: let one pass on the cluster's clock.
            node.keyspace.times._next_ms = 0
        known = node.keyspace.times.samples()
        assert len(known) > 1
    async with running(tmp_path) as node:
        kept = node.keyspace.times
        for clock_ms, revision in kept.samples():
            assert (clock_ms, revision) in known
            assert kept.revision_at(clock_ms) == revision
        assert kept.samples()[-1][1] >= known[0][1]
        await node.execute(Compact(node.revision))
    async with running(tmp_path) as node:
        assert len(node.keyspace.times) <= 1


async def test_a_crash_loses_little_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """It is written now and then as well, and not only at a stop."""
    monkeypatch.setattr(persistence, "TIMES_EVERY_MS", 0)
    machine = MemoryMachine()
    target = Target(tmp_path, machine)
    await target.start()
    await target.lead()
    await put(target, 3)
    target.persistence._times_due_ms = 0
    await target.persistence.flush()
    await target.stop(flush=False)
    await target.start()
    assert target.machine.keyspace.times.revision_at(1 << 60) > 1
    await target.stop()


def test_thinned_samples_keep_the_newest():
    """Of very many samples a few are kept, in order, from the oldest time to the newest."""
    index = TimeIndex()
    for number in range(5000):
        index.note(1 + number * 1000, number)
    for count in (1, 7, 600, 5000, 9000):
        kept = index.thinned(count)
        assert len(kept) <= count
        assert kept == sorted(kept)
        assert kept[-1] == index.samples()[-1]
    assert index.thinned(600)[0][1] < 10
    assert TimeIndex().thinned(10) == []


async def test_a_full_disk_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """The log of the process says once that the disk is full, and once that it is no more."""
    target = Target(tmp_path, MemoryMachine())
    await target.start()
    caplog.set_level(logging.INFO, logger="coordinator.node")
    for has_space in (False, False, True, True):
        target.persistence._note_space(has_space)
        target.persistence.tick()
    said = [record.message for record in caplog.records if "disk" in record.message]
    assert len(said) == 2
    assert said[0].startswith("the disk is full")
    assert said[1] == "the disk has space again"
    await target.stop()
