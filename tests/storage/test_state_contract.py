"""The state database and its twin in memory keep the same promises."""

from pathlib import Path
from typing import Any

import pytest

from coordinator.storage import schema
from coordinator.storage.errors import ArchiveDamaged, NoSpace, StorageClosed
from coordinator.storage.memory_state import MemoryDatabase, MemoryInstaller, MemoryStateStore
from coordinator.storage.ports import InstallerPort
from coordinator.storage.snapshot import SnapshotInstaller, finish_install
from coordinator.storage.state import StateBatch, StateStore, VersionRow
from coordinator.storage.stream import read_snapshot


class Bench:
    """Opens databases of one kind."""

    store: StateStore | MemoryStateStore

    async def open(self) -> None:
        raise NotImplementedError

    async def reopen(self) -> None:
        await self.store.close()
        await self.open()

    def installer(self) -> InstallerPort:
        raise NotImplementedError

    def finish_install(self, index: int | None) -> bool:
        raise NotImplementedError

    async def install(self, index: int | None) -> bool:
        """Close, put a received snapshot in the place of the database, open again."""
        await self.store.close()
        is_installed = self.finish_install(index)
        await self.open()
        return is_installed


class DiskBench(Bench):
    def __init__(self, path: Path) -> None:
        self.path = path

    async def open(self) -> None:
        self.store = await StateStore.open(self.path)

    def installer(self) -> InstallerPort:
        return SnapshotInstaller(self.path)

    def finish_install(self, index: int | None) -> bool:
        return finish_install(self.path, index)


class MemoryBench(Bench):
    def __init__(self) -> None:
        self.database = MemoryDatabase()

    async def open(self) -> None:
        self.store = MemoryStateStore(self.database)

    def installer(self) -> InstallerPort:
        return MemoryInstaller(self.database)

    def finish_install(self, index: int | None) -> bool:
        return self.database.finish_install(index)


@pytest.fixture(params=["disk", "memory"])
async def bench(request: pytest.FixtureRequest, tmp_path: Path):
    bench = DiskBench(tmp_path / "state.db") if request.param == "disk" else MemoryBench()
    await bench.open()
    yield bench
    await bench.store.close()


def row(revision: int, sub: int = 0, *, key: bytes = b"k", size: int = 8) -> VersionRow:
    return (revision, sub, 0, key, revision, 1, 0, revision.to_bytes(8, "big") * (size // 8))


def batch(index: int, *rows: VersionRow, **facts: Any) -> StateBatch:
    batch = StateBatch()
    for each in rows:
        batch.add_version(each)
    batch.meta.update(facts, applied_index=index)
    return batch


async def all_versions(store: Any) -> list[VersionRow]:
    return [row async for rows in store.load_versions(3) for row in rows]


async def test_new_database_is_empty(bench: Bench):
    """A new database is empty and stands at index 0."""
    assert bench.store.durable_index == 0
    assert await bench.store.load_meta() == {}
    assert await all_versions(bench.store) == []
    for name in schema.RECORD_TABLES:
        assert await bench.store.load_table(name) == {}


async def test_batch_comes_back(bench: Bench):
    """Everything in a batch is there after opening again, and so is the index it led to."""
    change = batch(7, row(2), row(3), revision=3, chain=b"\x01\xff", digest=(1 << 64) - 1)
    change.put("leases", 5, b"five")
    change.put("timers", b"\x00t", b"timer")
    change.put("users", "root", b"user")
    assert change
    assert change.nbytes > 0
    await bench.store.write(change)
    assert bench.store.durable_index == 7
    await bench.reopen()
    assert bench.store.durable_index == 7
    assert await all_versions(bench.store) == [row(2), row(3)]
    expected = {"revision": 3, "chain": b"\x01\xff", "digest": (1 << 64) - 1, "applied_index": 7}
    assert await bench.store.load_meta() == expected
    assert await bench.store.load_table("leases") == {5: b"five"}
    assert await bench.store.load_table("timers") == {b"\x00t": b"timer"}
    assert await bench.store.load_table("users") == {"root": b"user"}


async def test_versions_come_in_order(bench: Bench):
    """Versions are read in the order of revision and part, whatever the order of their writing."""
    await bench.store.write(batch(1, row(4, 1), row(2), row(4, 0)))
    await bench.store.write(batch(2, row(3)))
    assert await all_versions(bench.store) == [row(2), row(3), row(4, 0), row(4, 1)]


async def test_records_are_replaced_and_deleted(bench: Bench):
    """The last value of a record wins, deleting one that is not there does nothing."""
    first = batch(1)
    first.put("requests", 1, b"a")
    first.put("requests", 2, b"a")
    first.put("requests", 2, b"b")
    await bench.store.write(first)
    second = batch(2)
    second.put("requests", 1, None)
    second.put("requests", 9, None)
    await bench.store.write(second)
    assert await bench.store.load_table("requests") == {2: b"b"}


async def test_dropped_versions_are_gone(bench: Bench):
    """Compaction deletes versions by revision and part, also those added in the same batch."""
    await bench.store.write(batch(1, row(2), row(3)))
    change = batch(2, row(4))
    change.drop_version(2, 0)
    change.drop_version(4, 0)
    change.drop_version(99, 0)
    await bench.store.write(change)
    assert await all_versions(bench.store) == [row(3)]


async def test_unknown_table_writes_nothing(bench: Bench):
    """A batch that names an unknown table is refused as a whole."""
    change = batch(1, row(2))
    change.put("nonsense", 1, b"")
    with pytest.raises(KeyError):
        await bench.store.write(change)
    assert await all_versions(bench.store) == []
    assert bench.store.durable_index == 0
    await bench.store.write(batch(1, row(2)))


async def test_fetch_values_keeps_the_order_asked_for(bench: Bench):
    """Values come back in the order asked for, with None for versions that are gone."""
    await bench.store.write(batch(1, *(row(n) for n in range(2, 1002))))
    ids = [(n, 0) for n in range(1001, 1, -1)] + [(5000, 0), (2, 1)]
    values = await bench.store.fetch_values(ids)
    assert values == [row(n)[7] for n in range(1001, 1, -1)] + [None, None]
    assert await bench.store.fetch_values([]) == []


async def test_fetch_records_gives_those_that_there_are(bench: Bench):
    """Records are fetched by key, any number of them; what is not there is left out."""
    changes = StateBatch()
    for number in range(1, 1001):
        changes.put("audit", number, b"%d" % number)
    changes.put("users", "a", b"x")
    await bench.store.write(changes)
    wanted = [*range(1, 1001), 5000]
    found = await bench.store.fetch_records("audit", wanted)
    assert found == {number: b"%d" % number for number in range(1, 1001)}
    assert await bench.store.fetch_records("users", ["a", "b"]) == {"a": b"x"}
    assert await bench.store.fetch_records("users", []) == {}
    with pytest.raises(KeyError):
        await bench.store.fetch_records("nothing", [1])


async def test_fetch_revisions_returns_whole_revisions(bench: Bench):
    """A range is read in pieces that never split a revision, and always at least one of them."""
    big = [row(4, sub) for sub in range(10)]
    await bench.store.write(batch(1, row(2), row(3), *big, row(5), row(6)))
    assert await bench.store.fetch_revisions(2, 100, 2) == [row(2), row(3)]
    assert await bench.store.fetch_revisions(2, 100, 4) == [row(2), row(3)]
    assert await bench.store.fetch_revisions(4, 100, 3) == big
    assert await bench.store.fetch_revisions(4, 5, 100) == [*big, row(5)]
    assert await bench.store.fetch_revisions(5, 5, 1) == [row(5)]
    assert await bench.store.fetch_revisions(7, 100, 10) == []


async def test_closed_database_refuses(bench: Bench):
    """A closed database neither reads nor writes, and says why."""
    await bench.store.close()
    await bench.store.close()
    with pytest.raises(StorageClosed):
        await bench.store.write(batch(1))
    with pytest.raises(StorageClosed):
        await bench.store.load_meta()


async def test_check_passes_on_a_sound_database(bench: Bench):
    """A sound database passes its check."""
    await bench.store.write(batch(1, row(2)))
    await bench.store.check()


async def snapshot_of(index: int, count: int, **facts: Any) -> list[bytes]:
    """Return the chunks of a snapshot of another database, one of the other kind or the same."""
    store = MemoryStateStore()
    change = batch(index, *(row(n, size=80) for n in range(2, count)), revision=count, **facts)
    change.put("leases", 5, b"five")
    change.put("members", 1, b"one")
    await store.write(change)
    return [chunk async for chunk in read_snapshot(store, chunk_bytes=4096)]


async def receive(installer: InstallerPort, chunks: list[bytes]) -> None:
    for chunk in chunks:
        await installer.write(chunk)
    await installer.finish()


async def test_snapshot_makes_an_equal_database(bench: Bench):
    """A snapshot, sent in chunks and installed, holds every row of the original."""
    chunks = await snapshot_of(9, 500, chain=b"\x07")
    assert len(chunks) > 5
    await bench.store.write(batch(3, row(2), row(700)))
    installer = bench.installer()
    await receive(installer, chunks)
    assert installer.header is not None
    assert installer.header.fact("applied_index") == 9
    assert installer.header.fact("chain") == b"\x07"
    assert installer.header.fact("nothing") is None
    assert await bench.install(9)
    assert bench.store.durable_index == 9
    assert await all_versions(bench.store) == [row(n, size=80) for n in range(2, 500)]
    assert await bench.store.load_table("leases") == {5: b"five"}
    assert await bench.store.load_table("timers") == {}
    assert await bench.store.load_table("members") == {1: b"one"}
    assert not await bench.install(9)
    assert bench.store.durable_index == 9


async def test_received_snapshot_is_read_where_it_lies(bench: Bench):
    """A received snapshot can be read before it is installed, and changes nothing by then."""
    await bench.store.write(batch(3, row(2), revision=2))
    installer = bench.installer()
    await receive(installer, await snapshot_of(9, 40))
    beside = await installer.open()
    assert beside.durable_index == 9
    assert (await beside.load_meta())["revision"] == 40
    assert await all_versions(beside) == [row(n, size=80) for n in range(2, 40)]
    assert [rows async for rows in beside.load_records("members", 5)] == [[(1, b"one")]]
    await beside.close()
    assert await all_versions(bench.store) == [row(2)]
    assert await bench.install(9)
    assert bench.store.durable_index == 9


@pytest.mark.parametrize("noted", [None, 5, 10])
async def test_snapshot_that_was_not_noted_is_removed(bench: Bench, noted: int | None):
    """A received snapshot that the log does not know is removed; the database stays."""
    await bench.store.write(batch(3, row(2)))
    await receive(bench.installer(), await snapshot_of(9, 40))
    assert not await bench.install(noted)
    assert await all_versions(bench.store) == [row(2)]
    assert not await bench.install(9)


async def test_abandoned_installation_leaves_the_database(bench: Bench):
    """An installation that is given up, at any time, leaves the database as it was."""
    await bench.store.write(batch(3, row(2)))
    chunks = await snapshot_of(9, 400)
    for count in (0, 1, 3, len(chunks)):
        installer = bench.installer()
        for chunk in chunks[:count]:
            await installer.write(chunk)
        if count == len(chunks):
            await installer.finish()
        await installer.abort()
        assert not await bench.install(9)
        assert await all_versions(bench.store) == [row(2)]


async def test_altered_stream_is_refused(bench: Bench):
    """A snapshot with a wrong bit, a missing piece or one too many is never finished."""
    chunks = await snapshot_of(9, 100)
    altered = [chunks[:-1], chunks[1:], [*chunks[:2], *chunks[3:]], [*chunks, chunks[-1]]]
    for position in range(0, len(chunks[1]), 97):
        flipped = bytearray(chunks[1])
        flipped[position] ^= 1 << position % 8
        altered.append([chunks[0], bytes(flipped), *chunks[2:]])
    for wrong in altered:
        installer = bench.installer()
        with pytest.raises(ArchiveDamaged):
            await receive(installer, wrong)
        await installer.abort()
    assert not await bench.install(9)


async def test_snapshot_does_not_see_later_writes(bench: Bench):
    """A snapshot stays at the state of its first chunk while writing goes on."""
    await bench.store.write(batch(1, *(row(n) for n in range(2, 50)), revision=49))
    stream = read_snapshot(bench.store, chunk_bytes=256)
    chunks = [await anext(stream)]
    await bench.store.write(batch(2, row(50), revision=50))
    chunks += [chunk async for chunk in stream]
    await receive(bench.installer(), chunks)
    assert await bench.install(1)
    assert len(await all_versions(bench.store)) == 48
    assert (await bench.store.load_meta())["revision"] == 49


async def test_records_come_in_portions(bench: Bench):
    """A table of records is read in order, in lists no longer than asked for."""
    change = batch(1)
    for number in (4, 2, 9, 1, 7):
        change.put("timers", b"%d" % number, b"timer")
    await bench.store.write(change)
    portions = [rows async for rows in bench.store.load_records("timers", 2)]
    assert [len(rows) for rows in portions] == [2, 2, 1]
    assert [key for rows in portions for key, _ in rows] == [b"1", b"2", b"4", b"7", b"9"]


async def test_memory_switches():
    """The twin in memory refuses when full, and loses what a lying disk did not write."""
    database = MemoryDatabase()
    store = MemoryStateStore(database)
    store.apply(batch(1, row(2)))
    database.is_full = True
    with pytest.raises(NoSpace):
        store.apply(batch(2, row(3)))
    database.is_full, database.is_lying = False, True
    store.apply(batch(2, row(3)))
    store.apply(batch(3, row(4)))
    assert store.durable_index == 3
    database.crash()
    store = MemoryStateStore(database)
    assert store.durable_index == 1
    assert await all_versions(store) == [row(2)]
    database.corrupt((2, 0))
    assert await all_versions(store) != [row(2)]
