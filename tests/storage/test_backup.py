"""Backups: complete, unaltered, or refused."""

import hashlib
import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from coordinator.storage.backup import (
    MAGIC,
    TRAILER_BYTES,
    restore_backup,
    save_backup,
    verify_backup,
)
from coordinator.storage.errors import ArchiveDamaged, SchemaTooNew, StorageError, StorageFailed
from coordinator.storage.state import StateStore
from coordinator.storage.write_behind import WriteBehind
from tests.storage.test_state_contract import all_versions, batch, row


@pytest.fixture
async def store(tmp_path: Path):
    store = await StateStore.open(tmp_path / "state.db")
    numbers = msgspec.msgpack.encode([6, 1, 900, 0])
    facts = {"keyspace": numbers, "applied_term": 3, "cluster_id": 77}
    change = batch(9, row(2, key=b"a"), row(3, key=b"b"), row(4, key=b"a"), **facts)
    change.add_version((5, 0, 0, b"b", 0, 0, 0, b""))
    change.add_version((6, 0, 1, b"system", 6, 1, 0, b"x"))
    change.put("leases", 5, b"five")
    await store.write(change)
    yield store
    await store.close()


@pytest.fixture
async def backup(store: StateStore, tmp_path: Path) -> Path:
    await save_backup(store, tmp_path / "backup.db")
    return tmp_path / "backup.db"


async def test_status_says_what_it_holds(store: StateStore, backup: Path):
    """A backup says which state it is of, and how much is in it."""
    status = verify_backup(backup)
    assert status == await save_backup(store, backup)
    assert (status.revision, status.compact_revision) == (6, 1)
    assert (status.applied_index, status.applied_term, status.cluster_id) == (9, 3, 77)
    assert (status.keys, status.versions) == (1, 5)
    content = read(backup)
    assert status.size_bytes == len(content)
    assert status.sha256 == hashlib.sha256(content[:-32]).hexdigest() == content[-32:].hex()


def read(path: Path) -> bytes:
    return path.read_bytes()


async def test_backup_is_complete_and_private(backup: Path, tmp_path: Path):
    """A backup appears under its name only when complete, and only its owner may read it."""
    assert stat.S_IMODE(os.stat(backup).st_mode) == 0o600
    assert sorted(os.listdir(tmp_path)) == ["backup.db", "state.db", "state.db-shm", "state.db-wal"]


async def test_sqlite_reads_a_backup(backup: Path, tmp_path: Path):
    """A backup is a sound database for any SQLite tool, which leaves nothing beside it."""
    before = read(backup)
    with closing(sqlite3.connect(backup)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("SELECT count(*) FROM versions").fetchone() == (5,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    assert read(backup) == before
    assert sorted(os.listdir(tmp_path)) == ["backup.db", "state.db", "state.db-shm", "state.db-wal"]


async def test_what_is_on_its_way_is_saved(store: StateStore, tmp_path: Path):
    """A backup holds everything applied before it, also what was not written yet."""
    errors: list[StorageError] = []
    queue = WriteBehind(store, on_error=errors.append, flush_interval_seconds=3600.0)
    queue.start()
    numbers = msgspec.msgpack.encode([7, 1, 900, 0])
    queue.add(batch(10, row(7, key=b"c"), keyspace=numbers))
    status = await save_backup(store, tmp_path / "backup.db", queue)
    assert (status.applied_index, status.revision, status.keys) == (10, 7, 2)
    await queue.close()


async def test_any_flipped_bit_is_refused(backup: Path):
    """A backup with one wrong bit anywhere is refused."""
    content = read(backup)
    for position in [*range(0, len(content), 211), *range(len(content) - 50, len(content))]:
        altered = bytearray(content)
        altered[position] ^= 1 << position % 8
        write(backup, bytes(altered))
        with pytest.raises(ArchiveDamaged):
            verify_backup(backup)


def write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


async def test_cut_or_grown_backup_is_refused(backup: Path, tmp_path: Path):
    """A backup that lost or gained bytes, or something else altogether, is refused."""
    content = read(backup)
    for other in (b"", content[:20], content[:-1], content[: len(content) // 2], content + b"\0"):
        write(backup, other)
        with pytest.raises(ArchiveDamaged):
            verify_backup(backup)
    for forged in (b"not a database at all" * 99, read(tmp_path / "state.db")):
        write(backup, forged + MAGIC + hashlib.sha256(forged + MAGIC).digest())
        if forged.startswith(b"not"):
            with pytest.raises(ArchiveDamaged):
                verify_backup(backup)
    with pytest.raises(StorageFailed):
        verify_backup(tmp_path / "nowhere")


async def test_facts_are_added_to_the_copy(store: StateStore, tmp_path: Path):
    """A backup may say more than its database, such as which cluster it is of."""
    status = await save_backup(store, tmp_path / "b.db", facts={"cluster_id": 99})
    assert status.cluster_id == 99
    assert (await store.load_meta())["cluster_id"] == 77


async def test_snapshot_of_etcd_is_refused(tmp_path: Path):
    """A snapshot of etcd is named as what it is."""
    path = tmp_path / "etcd.db"
    write(path, bytes(16) + (0xED0CDAED).to_bytes(4, "little") + bytes(32768))
    with pytest.raises(ArchiveDamaged, match="snapshot of etcd"):
        verify_backup(path)
    with pytest.raises(ArchiveDamaged, match="snapshot of etcd"):
        restore_backup(path, tmp_path / "new.db")


async def test_newer_backup_is_refused(backup: Path):
    """A backup of a newer release is refused as such."""
    content = read(backup)[:-TRAILER_BYTES]
    write(backup, content)
    with closing(sqlite3.connect(backup, isolation_level=None)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    content = read(backup) + MAGIC
    write(backup, content + hashlib.sha256(content).digest())
    with pytest.raises(SchemaTooNew, match="9999"):
        verify_backup(backup)


async def test_restored_database_equals_the_original(
    store: StateStore, backup: Path, tmp_path: Path
):
    """A restored database holds every row, apart from what is changed on purpose."""
    path = tmp_path / "restored.db"
    status = restore_backup(backup, path, {"cluster_id": 78, "new": b"\1"}, ("leases",))
    assert status.cluster_id == 77
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    other = await StateStore.open(path)
    expected = await store.load_meta() | {"cluster_id": 78, "new": b"\1"}
    assert await other.load_meta() == expected
    assert await all_versions(other) == await all_versions(store)
    assert await other.load_table("leases") == {}
    await other.check()
    await other.close()


async def test_restore_never_overwrites(backup: Path, tmp_path: Path):
    """A restore neither replaces a database nor uses an altered backup."""
    with pytest.raises(StorageFailed, match="exists"):
        restore_backup(backup, tmp_path / "state.db")
    content = read(backup)
    write(backup, content[:1000] + b"x" + content[1001:])
    with pytest.raises(ArchiveDamaged):
        restore_backup(backup, tmp_path / "other.db")
    assert "other.db" not in os.listdir(tmp_path)


async def test_failed_backup_leaves_the_old_one(store: StateStore, backup: Path, tmp_path: Path):
    """A backup that cannot be completed leaves neither a part nor a damaged older one."""
    before = read(backup)
    with pytest.raises(StorageError):
        await save_backup(store, tmp_path / "nowhere" / "backup.db")
    await store._writer.exec_driver_sql("BEGIN IMMEDIATE")
    await store._writer.exec_driver_sql("ROLLBACK")
    os.mkdir(tmp_path / "folder.db")
    with pytest.raises(StorageFailed):
        await save_backup(store, tmp_path / "folder.db")
    assert read(backup) == before
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".part")]
