"""Starting: from nothing, from every state a crash can leave, and never from what is damaged."""

import asyncio
import sqlite3
import threading
from pathlib import Path

import pytest

from coordinator.domains import DOMAINS
from coordinator.node import boot
from coordinator.node.node import Node
from coordinator.node.surroundings import DiskDirectory, ThisMachine
from coordinator.storage.errors import (
    DirectoryForeign,
    DirectoryInUse,
    SchemaTooNew,
    StateDamaged,
)
from coordinator_sdk.protocol.kv import Delete, Put
from tests.node.running import (
    config,
    copied,
    lose_state,
    mix,
    names,
    running,
    sizes,
    value,
)


class Crash(Exception):
    """The process ends here."""


async def crash(*_: object, **__: object) -> None:
    raise Crash


def crash_now(*_: object, **__: object) -> None:
    raise Crash


async def test_state_survives_restarts(tmp_path: Path):
    """What was written is there after a stop and a start, with revision, term and cluster."""
    async with running(tmp_path) as node:
        await node.execute(Put(b"a", b"1"))
        await node.execute(Put(b"a", b"2"))
        await node.execute(Put(b"b", b"1"))
        await node.execute(Delete(b"b"))
        revision, chain, term = node.revision, node.machine.chain, node.term
        ids = node.cluster_id, node.member_id
    async with running(tmp_path) as node:
        assert (value(node, b"a"), value(node, b"b")) == (b"2", None)
        assert node.revision == revision
        assert node.machine.chain != chain
        assert node.term > term
        assert (node.cluster_id, node.member_id) == ids


STEPS = ["make_directory", "open_log", "create_identity", "open_state", "begin", "run"]


@pytest.mark.parametrize("step", STEPS)
async def test_every_prefix_of_the_first_start_starts(
    tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
):
    """A first start that was cut off after any step goes on from there at the next start."""
    first, second = tmp_path / "first", tmp_path / "second"
    with monkeypatch.context() as patch:
        if step == "make_directory":
            patch.setattr(DiskDirectory, "open_log", crash)
        elif step == "open_log":
            patch.setattr(DiskDirectory, "open_state", crash)
            patch.setattr(
                DiskDirectory,
                "__init__",
                lambda self, directory, times: self.__dict__.update(
                    _directory=directory,
                    _on_sync=times.observe,
                    create_identity=crash_now,
                    close=directory.close,
                ),
            )
        elif step == "create_identity":
            patch.setattr(DiskDirectory, "open_state", crash)
        elif step == "open_state":
            patch.setattr(boot, "_begin_group", crash)
        elif step == "begin":
            patch.setattr(boot, "raft_storage", crash_now)
        else:
            patch.setattr(boot, "RawNode", crash_now)
        with pytest.raises(Crash):
            await boot.boot(config(first), DOMAINS, ThisMachine(), lambda *_: None)
    async with running(copied(first, second)) as node:
        await node.execute(Put(b"a", b"1"))
    async with running(second) as node:
        assert value(node, b"a") == b"1"


async def test_failed_start_leaves_nothing_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A start that fails closes what it opened: no thread is left, and the next one may try."""
    threads = threading.active_count()
    with monkeypatch.context() as patch:
        patch.setattr(boot, "raft_storage", crash_now)
        with pytest.raises(Crash):
            await boot.boot(config(tmp_path), DOMAINS, ThisMachine(), lambda *_: None)
    # The loop's own threads for blocking calls stay.
    left = [thread.name for thread in threading.enumerate() if "asyncio" not in thread.name]
    assert len(left) <= threads
    async with running(tmp_path) as node:
        await node.execute(Put(b"a", b"1"))


async def test_crash_before_the_first_batch_of_state(tmp_path: Path):
    """A member that never wrote to the state database finds everything in its log."""
    first, second = tmp_path / "first", tmp_path / "second"
    node = Node(config(first), DOMAINS)
    await node.start()
    # Whoever fails writes nothing more: as if it was killed.
    node._persistence.tick = lambda: None  # type: ignore[method-assign]
    node._persistence.collect = lambda *_: None  # type: ignore[method-assign]
    for number in range(100):
        await node.execute(Put(b"%d" % number, b"1"))
    revision = node.revision
    copied(first, second)
    node.failure = Crash()
    await node.stop()
    async with running(second) as node:
        assert node.revision == revision
        assert value(node, b"99") == b"1"


async def test_second_process_is_refused(tmp_path: Path):
    """A second member on a data directory is refused, and the first one goes on."""
    async with running(tmp_path) as node:
        with pytest.raises(DirectoryInUse, match="in use"):
            await Node(config(tmp_path), DOMAINS).start()
        await node.execute(Put(b"a", b"1"))


async def test_foreign_directory_is_refused(tmp_path: Path):
    """A directory with somebody else's files in it is refused, and left alone."""
    (tmp_path / "thesis.txt").write_text("do not touch")
    with pytest.raises(DirectoryForeign):
        await Node(config(tmp_path), DOMAINS).start()
    assert names(tmp_path) == ["thesis.txt"]


async def test_newer_schema_is_refused(tmp_path: Path):
    """A state database of a newer release is refused with both schema revisions named."""
    async with running(tmp_path) as node:
        await node.execute(Put(b"a", b"1"))
    with sqlite3.connect(tmp_path / "state.db") as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    database.close()
    with pytest.raises(SchemaTooNew, match="9999"):
        await Node(config(tmp_path), DOMAINS).start()


async def test_damaged_row_is_refused(tmp_path: Path):
    """A value that was altered in the state database is found at the start."""
    async with running(tmp_path) as node:
        await node.execute(Put(b"a", b"1"))
    with sqlite3.connect(tmp_path / "state.db") as database:
        database.execute("UPDATE versions SET value = x'32' WHERE key = x'61'")
    database.close()
    with pytest.raises(StateDamaged, match="digest"):
        await Node(config(tmp_path), DOMAINS).start()


async def test_lost_state_database_is_refused(tmp_path: Path):
    """A log whose beginning is gone needs its state database: without it nothing is made up,
    and nothing is thrown away."""
    async with running(tmp_path) as node:
        first = names(tmp_path / "log")[0]
        while first in names(tmp_path / "log"):
            await node.execute(Put(b"a", b"x" * 1_000_000))
            node._persistence._log.cut(node.machine.index)
    async with running(tmp_path):
        pass  # What was dropped, and not yet removed when the member stopped, is gone now.
    lose_state(tmp_path)
    before = sizes(tmp_path / "log")
    for _ in range(2):
        with pytest.raises(StateDamaged, match="rebuild"):
            await Node(config(tmp_path), DOMAINS).start()
    after = sizes(tmp_path / "log")
    assert {name: after.get(name) for name in before} == before


async def test_database_ahead_of_the_log(tmp_path: Path):
    """A database ahead of a log that lost its tail goes on from the database."""
    old, new, mixed = tmp_path / "old", tmp_path / "new", tmp_path / "mixed"
    async with running(new) as node:
        await node.execute(Put(b"a", b"1"))
    copied(new, old)
    async with running(new) as node:
        for number in range(50):
            await node.execute(Put(b"%d" % number, b"1"))
        revision, term = node.revision, node.term
    mix(old, new, mixed)
    async with running(mixed) as node:
        assert node.revision == revision
        assert node.term > term
        await node.execute(Put(b"a", b"2"))
    async with running(mixed) as node:
        assert (value(node, b"a"), value(node, b"49")) == (b"2", b"1")


async def test_starts_are_repeatable_under_load(tmp_path: Path):
    """Copies of the directory taken while writes go on all start, with every write acknowledged
    before the copy."""
    async with running(tmp_path / "live") as node:
        acknowledged = 0
        snapshots: list[tuple[Path, int]] = []

        async def write() -> None:
            nonlocal acknowledged
            for number in range(1, 400):
                await node.execute(Put(b"k%d" % number, b"1"))
                acknowledged = number

        task = asyncio.create_task(write())
        while not task.done():
            seen, target = acknowledged, tmp_path / f"copy{len(snapshots)}"
            # Blocks the loop: nothing is appended meanwhile.
            copied(tmp_path / "live" / "log", target / "log")
            snapshots.append((target, seen))
            for _ in range(50):
                await asyncio.sleep(0)
            if len(snapshots) == 5:
                await task
    for target, seen in snapshots:
        async with running(target) as node:
            assert value(node, b"k%d" % seen) == b"1" if seen else True
