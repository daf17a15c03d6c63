"""The state database on a real disk, and what a crash may do to it."""

import asyncio
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, exc

from coordinator.storage.errors import NoSpace, StateDamaged, StorageError, StorageFailed
from coordinator.storage.state import StateBatch, StateStore
from tests.storage.test_state_contract import all_versions, batch, row


def full_batch(index: int) -> StateBatch:
    """A batch that touches everything, and says everywhere which one it was."""
    change = batch(index, *(row(index * 10 + n, size=400) for n in range(5)), revision=index)
    if index > 1:
        change.drop_version((index - 1) * 10, 0)
    change.put("leases", 1, str(index).encode())
    change.put("users", f"user-{index - 1}", None)
    change.put("users", f"user-{index}", b"")
    return change


async def assert_consistent(store: StateStore) -> int:
    """Everything in the database is of one and the same batch; return which one."""
    index = store.durable_index
    facts = await store.load_meta()
    assert facts == ({} if not index else {"applied_index": index, "revision": index})
    assert await store.load_table("leases") == ({1: str(index).encode()} if index else {})
    assert await store.load_table("users") == ({f"user-{index}": b""} if index else {})
    expected = [
        row(each * 10 + n, size=400)
        for each in range(1, index + 1)
        for n in range(5)
        if n or each == index
    ]
    assert await all_versions(store) == expected
    await store.check()
    return index


async def test_power_cut_leaves_whole_batches(tmp_path: Path):
    """Cut off anywhere, the files hold exactly the batches up to some index."""
    store = await StateStore.open(tmp_path / "state.db")
    for index in range(1, 6):
        await store.write(full_batch(index))
    database = (tmp_path / "state.db").read_bytes()
    wal = (tmp_path / "state.db-wal").read_bytes()
    await store.close()
    seen = set()
    step = 4093
    for length in [*range(0, len(wal), step), len(wal)]:
        folder = tmp_path / f"cut-{length}"
        folder.mkdir()
        (folder / "state.db").write_bytes(database)
        (folder / "state.db-wal").write_bytes(wal[:length])
        if length > 32:
            copy = await StateStore.open(folder / "state.db")
            seen.add(await assert_consistent(copy))
            await copy.close()
        shutil.rmtree(folder)
    assert seen >= {1, 2, 3, 4, 5}


WRITER = """
import asyncio, sys
from coordinator.storage.state import StateStore
from tests.storage.test_state import full_batch

async def main():
    store = await StateStore.open(sys.argv[1])
    index = store.durable_index
    while True:
        index += 1
        await store.write(full_batch(index))
        print(store.durable_index, flush=True)

asyncio.run(main())
"""


def write_and_kill(path: Path) -> int:
    """Kill a process that writes; return the last batch it reported."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(60)]
    process.send_signal(signal.SIGKILL)
    lines += process.stdout.readlines()
    process.stdout.close()
    process.wait()
    return int([line for line in lines if line.endswith("\n")][-1])


async def test_killed_writer_keeps_what_it_reported(tmp_path: Path):
    """A process killed while writing finds the state of its last transaction, and only that."""
    reported = write_and_kill(tmp_path / "state.db")
    store = await StateStore.open(tmp_path / "state.db")
    assert await assert_consistent(store) in (reported, reported + 1)
    await store.close()


def plant(store: StateStore, fail_at: int, code: int, *, is_persistent: bool) -> list[str]:
    """Make the n-th statement fail as SQLite does; return the list of those that were run."""
    statements: list[str] = []

    def fail_if_due(statement: str) -> None:
        statements.append(statement)
        is_due = len(statements) >= fail_at if is_persistent else len(statements) == fail_at
        if is_due:
            error = sqlite3.OperationalError("planted")
            error.sqlite_errorcode = code
            raise error

    def before(_c: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        try:
            fail_if_due(statement)
        except sqlite3.Error as error:
            raise exc.OperationalError(statement, None, error) from None

    async def executemany(statement: str, rows: Any) -> Any:
        fail_if_due(statement)
        return await run_many(statement, rows)

    event.listen(store._engine.sync_engine, "before_cursor_execute", before)
    # Rows go past SQLAlchemy.
    sync_connection = store._writer.sync_connection
    assert sync_connection is not None
    driver: Any = sync_connection.connection.driver_connection
    run_many, driver.executemany = driver.executemany, executemany
    return statements


async def outcome_of(writing: Awaitable[None]) -> StorageError | None:
    try:
        await writing
    except StorageError as error:
        return error
    return None


@pytest.mark.parametrize("is_persistent", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize(
    ("code", "expected"),
    [(sqlite3.SQLITE_FULL, NoSpace), (sqlite3.SQLITE_IOERR_WRITE, StorageFailed)],
    ids=["full", "broken"],
)
async def test_failed_write_changes_nothing(
    tmp_path: Path, is_persistent: bool, code: int, expected: type[StorageError]
):
    """Whichever statement of a write fails, the database stays at the batch before."""
    fail_at = 0
    while True:
        fail_at += 1
        path = tmp_path / f"{fail_at}.db"
        store = await StateStore.open(path)
        await store.write(full_batch(1))
        statements = plant(store, fail_at, code, is_persistent=is_persistent)
        outcome = await outcome_of(store.write(full_batch(2)))
        if len(statements) < fail_at:
            await store.close()
            break
        assert type(outcome) is expected
        assert store.durable_index == 1
        if not is_persistent:
            await store.write(full_batch(2))
            assert store.durable_index == 2
        await store.close()
        again = await StateStore.open(path)
        assert await assert_consistent(again) == (1 if is_persistent else 2)
        await again.close()
    assert fail_at > 6


async def test_full_disk_is_recognised(tmp_path: Path):
    """When SQLite itself runs out of room, the write says NoSpace and works again later."""
    store = await StateStore.open(tmp_path / "state.db")
    await store.write(full_batch(1))
    await store._writer.exec_driver_sql("PRAGMA max_page_count = 1")
    with pytest.raises(NoSpace):
        await store.write(batch(2, *(row(n, size=4000) for n in range(100, 200))))
    assert await assert_consistent(store) == 1
    await store._writer.exec_driver_sql("PRAGMA max_page_count = 1000000")
    await store.write(full_batch(2))
    assert await assert_consistent(store) == 2
    await store.close()


async def test_cancelled_write_leaves_no_transaction_open(tmp_path: Path):
    """A write that is cancelled on its way is undone, and the next one works."""
    for turns in range(12):
        store = await StateStore.open(tmp_path / f"{turns}.db")
        await store.write(full_batch(1))
        task = asyncio.create_task(store.write(full_batch(2)))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await store.write(full_batch(2))
        assert await assert_consistent(store) == 2
        await store.close()


async def open_and_check(path: Path) -> None:
    store = await StateStore.open(path)
    try:
        await store.check()
    finally:
        await store.close()


async def test_flipped_bits_are_noticed(tmp_path: Path):
    """A damaged page is an error when it is read or checked, never silently other content."""
    store = await StateStore.open(tmp_path / "state.db")
    await store.write(batch(1, *(row(n, size=800) for n in range(2, 100))))
    await store.close()
    content = bytearray((tmp_path / "state.db").read_bytes())
    for page in range(1, len(content) // 4096):
        content[page * 4096] ^= 0xFF
    (tmp_path / "state.db").write_bytes(content)
    with pytest.raises(StateDamaged):
        await open_and_check(tmp_path / "state.db")


async def test_readers_do_not_wait_for_the_writer(tmp_path: Path):
    """Values are read while a write transaction is open, and as they were before it."""
    store = await StateStore.open(tmp_path / "state.db")
    await store.write(full_batch(1))
    await store._writer.exec_driver_sql("BEGIN IMMEDIATE")
    await store._writer.exec_driver_sql("DELETE FROM versions")
    assert await store.fetch_values([(10, 0)]) == [row(10, size=400)[7]]
    assert len(await store.fetch_revisions(0, 100, 100)) == 5
    assert len(await all_versions(store)) == 5
    await store._writer.exec_driver_sql("ROLLBACK")
    await store.close()


async def test_commits_are_synced(tmp_path: Path):
    """The database runs in WAL mode and syncs every commit."""
    store = await StateStore.open(tmp_path / "state.db")
    for pragma, expected in (("journal_mode", "wal"), ("synchronous", 2)):
        result = await store._writer.exec_driver_sql(f"PRAGMA {pragma}")
        assert result.scalar() == expected
    await store.close()


def names(folder: Path) -> list[Path]:
    return list(folder.iterdir())


async def test_files_are_private(tmp_path: Path):
    """The database and the files beside it can be read by nobody else."""
    store = await StateStore.open(tmp_path / "state.db")
    await store.write(full_batch(1))
    modes = {stat.S_IMODE(os.stat(path).st_mode) for path in names(tmp_path)}
    assert modes == {0o600}
    await store.close()


async def test_closing_leaves_one_file(tmp_path: Path):
    """After a clean stop the database is one file."""
    store = await StateStore.open(tmp_path / "state.db")
    await store.write(full_batch(1))
    await store.close()
    assert [path.name for path in names(tmp_path)] == ["state.db"]


async def test_cancelled_reads_do_no_harm(tmp_path: Path):
    """A read that is cancelled on its way neither blocks later ones nor the closing."""
    store = await StateStore.open(tmp_path / "state.db")
    await store.write(full_batch(1))
    for turns in range(12):
        for reading in (store.fetch_values([(10, 0)]), open_snapshot(store), store.load_meta()):
            task = asyncio.create_task(reading)
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        assert await assert_consistent(store) == 1
    await store.close()


async def open_snapshot(store: StateStore) -> None:
    async with store.snapshot():
        await asyncio.Event().wait()
