"""What is on its way to the state database."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from coordinator.storage.errors import NoSpace, StorageClosed, StorageError, StorageFailed
from coordinator.storage.memory_state import MemoryStateStore
from coordinator.storage.state import StateBatch, StateStore, VersionRow
from coordinator.storage.write_behind import WriteBehind
from tests.storage.test_state_contract import all_versions, batch, row


class GatedStore(MemoryStateStore):
    """A database whose writes wait until they are let through, one by one."""

    def __init__(self) -> None:
        super().__init__()
        self.started: asyncio.Queue[StateBatch] = asyncio.Queue()
        self.gate: asyncio.Queue[BaseException | None] = asyncio.Queue()

    async def write(self, batch: StateBatch) -> None:
        self.started.put_nowait(batch)
        error = await self.gate.get()
        if error is not None:
            raise error
        self.apply(batch)


class Told:
    """What the queue reported."""

    def __init__(self) -> None:
        self.errors: list[StorageError] = []
        self.space: list[bool] = []


def queue_of(store: Any, **options: Any) -> tuple[WriteBehind, Told]:
    told = Told()
    options = {"flush_interval_seconds": 0.0, "space_retry_seconds": 3600.0} | options
    queue = WriteBehind(store, on_error=told.errors.append, on_space=told.space.append, **options)
    queue.start()
    return queue, told


@pytest.fixture
async def gated():
    store = GatedStore()
    queue, told = queue_of(store)
    yield store, queue, told
    for _ in range(10):
        store.gate.put_nowait(None)
    await queue.close()


async def test_flush_makes_everything_durable(tmp_path: Path):
    """After a flush, everything added before it is in the database."""
    store = await StateStore.open(tmp_path / "state.db")
    queue, told = queue_of(store, flush_interval_seconds=3600.0)
    for index in range(1, 51):
        queue.add(batch(index, row(index + 1), revision=index + 1))
    assert store.durable_index == queue.durable_index == 0
    await queue.flush()
    assert store.durable_index == queue.durable_index == 50
    assert len(await all_versions(store)) == 50
    assert queue.pending_bytes == 0
    await queue.flush()
    await queue.close()
    await queue.close()
    assert told.errors == []
    assert queue.error is not None
    await store.close()


async def test_closing_writes_what_is_left(tmp_path: Path):
    """Closing writes what was added before it."""
    store = await StateStore.open(tmp_path / "state.db")
    queue, _ = queue_of(store, flush_interval_seconds=3600.0)
    queue.add(batch(1, row(2)))
    await queue.close()
    assert store.durable_index == 1
    queue.add(batch(2, row(3)))
    with pytest.raises(StorageClosed):
        await queue.flush()
    await store.close()


async def test_changes_gather_while_one_is_written(gated):
    """What is added during a write becomes one transaction, in which the last value wins."""
    store, queue, _ = gated
    queue.add(batch(1, row(2)))
    await store.started.get()
    for index in range(2, 6):
        change = batch(index, row(index + 1), revision=index + 1)
        change.put("leases", 7, str(index).encode())
        queue.add(change)
    store.gate.put_nowait(None)
    second = await store.started.get()
    assert second.versions == [row(index) for index in range(3, 7)]
    assert second.tables == {"leases": {7: b"5"}}
    assert second.meta == {"applied_index": 5, "revision": 6}
    store.gate.put_nowait(None)
    await queue.flush()
    assert queue.durable_index == 5


async def test_versions_dropped_on_their_way_are_never_written(gated):
    """Compaction of a version that is still on its way keeps it from being written."""
    store, queue, _ = gated
    queue.add(batch(1, row(2)))
    await store.started.get()
    queue.add(batch(2, row(3), row(4)))
    change = batch(3)
    change.drop_version(2, 0)
    change.drop_version(3, 0)
    queue.add(change)
    store.gate.put_nowait(None)
    second = await store.started.get()
    assert second.versions == [row(4)]
    assert second.drop_versions == [(2, 0)]


async def test_full_queue_says_so(gated):
    """The queue is full from its limit on, and has room again once it has been written."""
    store = GatedStore()
    queue, _ = queue_of(store, pending_bytes=1000)
    assert not queue.is_full
    queue.add(batch(1, row(2, size=400)))
    await store.started.get()
    assert not queue.is_full
    queue.add(batch(2, row(3, size=800)))
    assert queue.is_full
    store.gate.put_nowait(None)
    await store.started.get()
    store.gate.put_nowait(None)
    await queue.flush()
    assert not queue.is_full
    await queue.close()


async def test_many_bytes_are_not_waited_for():
    """Above its threshold the queue is written at once, whatever the interval."""
    store = GatedStore()
    queue, _ = queue_of(store, flush_interval_seconds=3600.0, flush_bytes=500)
    queue.add(batch(1, row(2, size=800)))
    await store.started.get()
    store.gate.put_nowait(None)
    await queue.flush()
    await queue.close()


async def test_full_disk_is_waited_for(gated):
    """A full disk loses nothing: the same batch is tried again, and both turns are told."""
    store, queue, told = gated
    queue.add(batch(1, row(2)))
    first = await store.started.get()
    store.gate.put_nowait(NoSpace("full"))
    store.gate.put_nowait(NoSpace("full"))
    queue.retry_space()
    queue.add(batch(2, row(3)))
    flushing = asyncio.create_task(queue.flush())
    assert await store.started.get() is first
    queue.retry_space()
    assert await store.started.get() is first
    assert told.space == [False]
    store.gate.put_nowait(None)
    store.gate.put_nowait(None)
    await flushing
    assert told.space == [False, True]
    assert told.errors == []
    assert queue.durable_index == 2


async def test_closing_does_not_wait_for_a_full_disk(gated):
    """Closing on a full disk gives up what is left: the log has it."""
    store = GatedStore()
    queue, told = queue_of(store)
    queue.add(batch(1, row(2)))
    await store.started.get()
    flushing = asyncio.create_task(queue.flush())
    closing = asyncio.create_task(queue.close())
    for _ in range(3):
        store.gate.put_nowait(NoSpace("full"))
    await closing
    with pytest.raises(StorageClosed):
        await flushing
    assert store.durable_index == 0
    assert told.errors == []


@pytest.mark.parametrize("error", [StorageFailed("broken"), RuntimeError("bug")])
async def test_failure_is_reported_once_and_for_good(gated, error: Exception):
    """Any other failure ends the queue, is told once, and fails every flush."""
    store = GatedStore()
    queue, told = queue_of(store)
    queue.add(batch(1, row(2)))
    store.gate.put_nowait(error)
    with pytest.raises(StorageFailed) as raised:
        await queue.flush()
    assert told.errors == [raised.value]
    queue.add(batch(2, row(3)))
    assert queue.pending_bytes == queue.pending_bytes
    await queue.close()
    assert len(told.errors) == 1
    assert queue.error is raised.value
    assert store.durable_index == 0


async def test_values_on_their_way_are_found(gated):
    """Values are found in the database, in the transaction being written, and behind it."""
    store, queue, _ = gated
    store.apply(batch(1, row(2)))
    queue.add(batch(2, row(3)))
    await store.started.get()
    queue.add(batch(3, row(4)))
    assert await queue.fetch_values([(4, 0), (3, 0)]) == [row(4)[7], row(3)[7]]
    ids = [(2, 0), (9, 0), (4, 0), (3, 0)]
    assert await queue.fetch_values(ids) == [row(2)[7], None, row(4)[7], row(3)[7]]


async def test_records_on_their_way_are_found(gated):
    """Of a record, the newest is found wherever it is; one that is being deleted is not."""
    store, queue, _ = gated

    def records(**data: bytes | None) -> StateBatch:
        made = StateBatch()
        for name, value in data.items():
            made.put("users", name, value)
        return made

    store.apply(records(a=b"1", b=b"1", c=b"1", d=b"1"))
    queue.add(records(b=b"2", c=b"2", d=None))
    await store.started.get()
    queue.add(records(c=b"3", e=b"3"))
    found = await queue.fetch_records("users", ["a", "b", "c", "d", "e", "f"])
    assert found == {"a": b"1", "b": b"2", "c": b"3", "e": b"3"}


async def read_all(queue: WriteBehind, first: int, last: int, limit: int) -> list[VersionRow]:
    """Read a range in pieces as a slow watcher does."""
    rows: list[VersionRow] = []
    while piece := await queue.fetch_revisions(first, last, limit):
        revisions = {each[0] for each in piece}
        assert not revisions & {each[0] for each in rows}
        rows += piece
        first = piece[-1][0] + 1
    return rows


async def test_revisions_on_their_way_are_found(gated):
    """A range of revisions is read without gap or duplicate wherever its rows are."""
    store, queue, _ = gated
    expected = [row(2), row(3), row(3, 1), row(4), row(5), row(5, 1), row(5, 2), row(6), row(7)]
    store.apply(batch(1, *expected[:4]))
    queue.add(batch(2, *expected[4:8]))
    await store.started.get()
    queue.add(batch(3, *expected[8:]))
    for limit in (1, 2, 3, 5, 100):
        assert await read_all(queue, 2, 100, limit) == expected
    assert await read_all(queue, 3, 6, 2) == expected[1:8]
    store.gate.put_nowait(None)
    store.gate.put_nowait(None)
    await queue.flush()
    assert await read_all(queue, 2, 100, 2) == expected


async def test_revision_that_arrives_in_pieces_is_read_whole(gated):
    """A revision of which a part is in the database already is returned as a whole."""
    store, queue, _ = gated
    store.apply(batch(1, row(2), row(3)))
    queue.add(batch(2, row(3, 1), row(4)))
    assert await read_all(queue, 2, 9, 1) == [row(2), row(3), row(3, 1), row(4)]
