"""A running node whose disk fails, fills up, or cannot keep pace."""

import asyncio
import errno
import os
from functools import partial
from pathlib import Path

import pytest

from coordinator.domains import DOMAINS
from coordinator.node.node import Node
from coordinator.replica.requests import Outcome
from coordinator.storage.errors import NoSpace as DiskFull
from coordinator.storage.errors import StorageFailed
from coordinator.storage.files import DiskFiles
from coordinator_sdk.errors import Stopping
from coordinator_sdk.protocol.kv import Delete, Put
from tests.node.running import config, running, value


async def test_failed_sync_stops_the_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A failed fdatasync stops the node with the reason; the write is never acknowledged."""
    answers: list[Outcome] = []
    node = Node(config(tmp_path), DOMAINS)
    await node.start()
    await node.execute(Put(b"a", b"1"))
    with monkeypatch.context() as patch:

        def fail(files: DiskFiles, fd: int) -> None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        patch.setattr(DiskFiles, "sync_data", fail)
        node.propose(Put(b"a", b"2"), done=answers.append)
        async with asyncio.timeout(20):
            await node.stopped.wait()
        assert isinstance(node.failure, StorageFailed)
        assert os.strerror(errno.EIO) in str(node.failure)
        assert not node.is_ready()
        assert not any(answer.error is None for answer in answers)
        await node.stop()
    async with running(tmp_path) as node:
        assert value(node, b"a") in (b"1", b"2")


async def test_failed_database_stops_the_node(tmp_path: Path):
    """A state database that fails stops the node with the reason."""
    node = Node(config(tmp_path), DOMAINS)
    await node.start()
    store = node._persistence._store

    async def fail(batch: object) -> None:
        raise StorageFailed("the database is gone")

    store.write = fail  # type: ignore[method-assign]
    await node.execute(Put(b"a", b"1"))
    async with asyncio.timeout(20):
        await node.stopped.wait()
    assert "the database is gone" in str(node.failure)
    await node.stop()
    async with running(tmp_path) as node:
        assert value(node, b"a") == b"1"


async def test_full_disk_of_the_database(tmp_path: Path):
    """A full disk under the database raises NOSPACE, refuses what grows, and passes by itself."""
    async with running(tmp_path) as node:
        store = node._persistence._store
        write, refused = store.write, asyncio.Event()

        async def full(batch: object) -> None:
            refused.set()
            raise DiskFull("no space left")

        store.write = full  # type: ignore[method-assign]
        await node.execute(Put(b"a", b"1"))
        await refused.wait()
        await asyncio.sleep(0)
        assert node.alarms() == ["NOSPACE"]
        answers: list[Outcome] = []
        node.propose(Put(b"a", b"2"), done=answers.append)
        assert answers[0].error is not None
        assert answers[0].error[0] == "no_space"
        await node.execute(Delete(b"a"))
        store.write = write  # type: ignore[method-assign]
        node._persistence._write_behind.retry_space()
        await node._persistence._write_behind.flush()
        assert node.alarms() == []
        await node.execute(Put(b"a", b"3"))
    async with running(tmp_path) as node:
        assert value(node, b"a") == b"3"


async def test_stopping_node_refuses(tmp_path: Path):
    """A node that is shutting down refuses writes, reads and keepalives with `Stopping`."""
    async with running(tmp_path) as node:
        pass
    answers: list[object] = []
    node.propose(Put(b"a", b"1"), done=answers.append)
    node.read(answers.append)
    node.keepalive([1], answers.append)
    outcome, *errors = answers
    assert isinstance(outcome, Outcome)
    assert outcome.error is not None
    assert outcome.error[0] == Stopping.code
    assert all(isinstance(error, Stopping) for error in errors)
    await node.stop()


def note(acknowledged: list[int], number: int, outcome: Outcome) -> None:
    if outcome.error is None:
        acknowledged.append(number)


async def test_stop_answers_nobody_wrongly(tmp_path: Path):
    """Writes under way at a stop are either acknowledged and kept, or not acknowledged."""
    acknowledged: list[int] = []
    node = Node(config(tmp_path), DOMAINS)
    await node.start()
    for number in range(200):
        node.propose(Put(b"%d" % number, b"1"), done=partial(note, acknowledged, number))
    for _ in range(3):
        await asyncio.sleep(0)
    await node.stop()
    seen = list(acknowledged)
    async with running(tmp_path) as node:
        assert all(value(node, b"%d" % number) == b"1" for number in seen)
