"""Snapshots on their way, and their installation."""

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from coordinator.storage import schema
from coordinator.storage.errors import ArchiveDamaged, SchemaTooNew, StorageError
from coordinator.storage.memory_state import MemoryStateStore
from coordinator.storage.snapshot import SnapshotInstaller, finish_install
from coordinator.storage.state import StateStore
from coordinator.storage.stream import (
    FORMAT,
    SnapshotEnd,
    SnapshotHeader,
    SnapshotRows,
    read_header,
    read_snapshot,
)
from tests.storage.test_state_contract import all_versions, batch, row


async def chunks_of(index: int, count: int = 100) -> list[bytes]:
    """Return the chunks of a snapshot of a database at some index."""
    store = MemoryStateStore()
    change = batch(index, *(row(n, size=80) for n in range(2, 2 + count)), revision=count + 1)
    change.put("members", 1, b"one")
    store.apply(change)
    return [chunk async for chunk in read_snapshot(store, chunk_bytes=2000)]


async def receive(path: Path, chunks: list[bytes]) -> SnapshotHeader:
    installer = SnapshotInstaller(path)
    try:
        for chunk in chunks:
            await installer.write(chunk)
        return await installer.finish()
    except StorageError:
        await installer.abort()
        raise


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
async def state_path(tmp_path: Path) -> Path:
    """A member's database at index 1."""
    path = tmp_path / "member" / "state.db"
    await make_member(path)
    return path


async def make_member(path: Path) -> None:
    os.mkdir(path.parent)
    store = await StateStore.open(path)
    await store.write(batch(1, row(2)))
    await store.close()


async def index_of(path: Path) -> int:
    store = await StateStore.open(path)
    index = store.durable_index
    await store.check()
    await store.close()
    return index


async def test_header_says_which_state_it_is():
    """The first chunk names the applied index and everything else a receiver must know first."""
    header = read_header((await chunks_of(9))[0])
    assert (header.fact("applied_index"), header.fact("revision")) == (9, 101)
    assert (header.format, header.schema) == (FORMAT, schema.SCHEMA_HEAD)
    assert set(header.columns) == {"versions", *schema.RECORD_TABLES}


async def test_any_altered_bit_is_noticed(tmp_path: Path):
    """A snapshot with one wrong bit anywhere is refused."""
    chunks = await chunks_of(9, count=3)
    total = sum(map(len, chunks))
    assert total > 500
    for position in range(0, total, 7):
        altered = [bytearray(chunk) for chunk in chunks]
        offset = position
        for chunk in altered:
            if offset < len(chunk):
                chunk[offset] ^= 1 << position % 8
                break
            offset -= len(chunk)
        with pytest.raises((ArchiveDamaged, SchemaTooNew)):
            await receive(tmp_path / "state.db", [bytes(chunk) for chunk in altered])
    assert names(tmp_path) == []


def lose(chunks: list[bytes]) -> list[bytes]:
    return chunks[:2] + chunks[3:]


def swap(chunks: list[bytes]) -> list[bytes]:
    return [chunks[0], chunks[2], chunks[1], *chunks[3:]]


def repeat(chunks: list[bytes]) -> list[bytes]:
    return [*chunks[:2], chunks[1], *chunks[2:]]


@pytest.mark.parametrize(
    "change",
    [
        lose,
        swap,
        repeat,
        lambda chunks: chunks[1:],
        lambda chunks: chunks[:-1],
        lambda chunks: [],
        lambda chunks: [*chunks, chunks[-1]],
        lambda chunks: [chunks[0], *chunks],
    ],
    ids=[
        "lost",
        "swapped",
        "repeated",
        "no header",
        "no end",
        "nothing",
        "two ends",
        "two headers",
    ],
)
async def test_wrong_order_is_noticed(tmp_path: Path, change: Callable[[list[bytes]], list[bytes]]):
    """A snapshot whose chunks are not exactly those that were sent is refused."""
    with pytest.raises(ArchiveDamaged):
        await receive(tmp_path / "state.db", change(await chunks_of(9)))
    assert names(tmp_path) == []


def header(**changes: Any) -> bytes:
    columns = {
        name: [str(c) for c in table.columns.keys()]
        for name, table in {"versions": schema.versions, **schema.RECORD_TABLES}.items()
    }
    fields: dict[str, Any] = {"format": FORMAT, "schema": schema.SCHEMA_HEAD}
    fields |= {"columns": columns, "facts": {}}
    return msgspec.msgpack.encode(SnapshotHeader(**(fields | changes)))


@pytest.mark.parametrize("changes", [{"format": FORMAT + 1}, {"schema": "9999"}])
async def test_newer_snapshot_is_refused(tmp_path: Path, changes: dict[str, Any]):
    """A snapshot of a newer release is refused as such."""
    with pytest.raises(SchemaTooNew):
        await receive(tmp_path / "state.db", [header(**changes)])


@pytest.mark.parametrize(
    "part",
    [
        SnapshotRows("sqlite_master", [["a"]]),
        SnapshotRows("meta", [["a", b"b"]]),
        SnapshotRows("leases", [[1]]),
        SnapshotRows("leases", [1]),
        SnapshotRows("leases", [[1, None]]),
        SnapshotRows("leases", [[1, b"a"], [1, b"b"]]),
        SnapshotRows("leases", [[(1 << 64) - 1, b"a"]]),
        SnapshotRows("leases", [[1, msgspec.msgpack.Ext(1, b"a")]]),
        SnapshotEnd(1, b""),
    ],
)
async def test_impossible_rows_are_refused(tmp_path: Path, part: Any):
    """Rows that fit no table of a snapshot are refused before they are written."""
    with pytest.raises(ArchiveDamaged):
        await receive(tmp_path / "state.db", [header(), msgspec.msgpack.encode(part)])


async def test_large_values_travel_in_bounded_chunks(tmp_path: Path):
    """Chunks stay near their size, whatever the sizes of the rows."""
    store = await StateStore.open(tmp_path / "a.db")
    sizes = [80] * 500 + [400_000] * 8 + [80] * 500
    await store.write(batch(1, *(row(n, size=size) for n, size in enumerate(sizes, 2))))
    chunks = [chunk async for chunk in read_snapshot(store, chunk_bytes=100_000)]
    assert max(map(len, chunks)) < 4_000_000
    assert sum(len(chunk) > 700_000 for chunk in chunks) <= 1
    await receive(tmp_path / "b.db", chunks)
    finish_install(tmp_path / "b.db", 1)
    other = await StateStore.open(tmp_path / "b.db")
    assert await all_versions(other) == await all_versions(store)
    await other.close()
    await store.close()


async def test_noted_installation_replaces_the_database(state_path: Path):
    """Once it is noted in the log, the received database takes the place of the old one."""
    assert not finish_install(state_path, None)
    received = await receive(state_path, await chunks_of(9))
    assert received.fact("applied_index") == 9
    assert names(state_path.parent) == ["state.db", "state.db.install"]
    assert stat.S_IMODE(os.stat(f"{state_path}.install").st_mode) == 0o600
    assert finish_install(state_path, 9)
    assert names(state_path.parent) == ["state.db"]
    assert await index_of(state_path) == 9
    assert not finish_install(state_path, 9)
    assert await index_of(state_path) == 9


@pytest.mark.parametrize("noted", [None, 5])
async def test_unnoted_installation_is_removed(state_path: Path, noted: int | None):
    """A received database that the log does not know is removed; the old one stays."""
    await receive(state_path, await chunks_of(9))
    assert not finish_install(state_path, noted)
    assert names(state_path.parent) == ["state.db"]
    assert await index_of(state_path) == 1


@pytest.mark.parametrize("length", [0, 100, 5000])
async def test_half_received_database_is_removed(state_path: Path, length: int):
    """What a crash leaves of a snapshot being received never becomes the database."""
    await receive(state_path, await chunks_of(9))
    os.truncate(f"{state_path}.install", length)
    assert not finish_install(state_path, 9)
    assert await index_of(state_path) == 1
    assert names(state_path.parent) == ["state.db"]


async def test_crash_at_every_step_of_the_replacement(
    state_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Stopped at any step, a noted installation is completed by the next start."""
    store = await StateStore.open(state_path)
    await store.write(batch(2, row(3)))
    leftovers = {name: copy_of(state_path, name) for name in ("-wal", "-shm")}
    await store.close()
    chunks = await chunks_of(9)
    steps = ["unlink", "unlink", "replace", "fsync"]
    for stop_at in range(len(steps)):
        await receive(state_path, chunks)
        for name, content in leftovers.items():
            put(state_path, name, content)
        stop_after(monkeypatch, stop_at)
        with pytest.raises(StorageError):
            finish_install(state_path, 9)
        monkeypatch.undo()
        finish_install(state_path, 9)
        assert names(state_path.parent) == ["state.db"]
        assert await index_of(state_path) == 9


def stop_after(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Make the disk fail after a number of changes."""
    left = [count]

    def guard(real: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*args: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise OSError(5, "planted")
            return real(*args)

        return guarded

    for name in ("unlink", "replace", "fsync"):
        monkeypatch.setattr(os, name, guard(getattr(os, name)))


def copy_of(path: Path, suffix: str) -> bytes:
    return Path(f"{path}{suffix}").read_bytes()


def put(path: Path, suffix: str, content: bytes) -> None:
    Path(f"{path}{suffix}").write_bytes(content)


async def test_abandoned_stream_lets_go(tmp_path: Path):
    """A stream that is not read to its end lets go of the database when it is closed."""
    store = await StateStore.open(tmp_path / "state.db")
    await store.write(batch(1, *(row(n, size=80) for n in range(2, 200))))
    stream = read_snapshot(store, chunk_bytes=500)
    await anext(stream)
    await anext(stream)
    await stream.aclose()
    await store.close()


async def test_aborted_installation_leaves_nothing(tmp_path: Path):
    """Aborting at any time removes what was written."""
    chunks = await chunks_of(9)
    for count in (0, 1, 3, len(chunks)):
        installer = SnapshotInstaller(tmp_path / "state.db")
        for chunk in chunks[:count]:
            await installer.write(chunk)
        await installer.abort()
        assert names(tmp_path) == []
