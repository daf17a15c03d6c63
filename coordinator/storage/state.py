"""The state database: everything the state machine holds, at some applied index.

Imports SQLAlchemy and aiosqlite; SQLite in WAL mode with synchronous=FULL. The log is what makes a
write durable; this database follows behind (`write_behind.py`) and is what a start begins from.

Invariants: one `StateBatch` is one transaction, and carries the applied index it leads to; rows are
never updated in place, except in the tables of records; readers never wait for the writer.
"""

import asyncio
import os
import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any, Final

import msgspec
from sqlalchemy import Table, exc
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from coordinator.storage import schema
from coordinator.storage.engine import open_engine, open_immutable, translate_state
from coordinator.storage.errors import StateDamaged, StorageClosed
from coordinator.storage.migrate import connect_immutable, translate_sqlite, upgrade

VersionRow = tuple[int, int, int, bytes, int, int, int, bytes]
"""(mod_revision, sub, space, key, create_revision, version, lease, value)"""

VersionId = tuple[int, int]
"""(mod_revision, sub)"""

RecordKey = int | str | bytes

LOAD_ROWS: Final = 10_000
VERSION_ROW_BYTES: Final = 64
"""What a version row takes beside its key and value, about."""

DUMP_BYTES: Final = 256 << 10

_PAIRS_PER_QUERY: Final = 400
_SELECT_VERSIONS: Final = schema.select_statement(schema.versions)
_INSERT_VERSION: Final = schema.insert_statement(schema.versions, "INSERT OR REPLACE")
_DELETE_VERSION: Final = schema.delete_statement(schema.versions)
_UPSERT_META: Final = schema.insert_statement(schema.meta, "INSERT OR REPLACE")
encode_meta: Final = msgspec.msgpack.Encoder().encode
"""Returns the stored form of a single fact."""

decode_meta: Final = msgspec.msgpack.Decoder().decode
"""Returns a single fact from its stored form."""


class StateBatch:
    """Changes that belong into one transaction.

    Attributes:
        versions: Rows to add, in the order of their revisions.
        drop_versions: Rows to delete, by (mod_revision, sub); after the additions.
        tables: Per table of records: key → new value, or None to delete.
        meta: Facts to set; `applied_index` says which index the batch leads to.
        nbytes: About how much memory it takes.
    """

    __slots__ = ("drop_versions", "meta", "nbytes", "tables", "versions")

    def __init__(self) -> None:
        """Start without changes."""
        self.versions: list[VersionRow] = []
        self.drop_versions: list[VersionId] = []
        self.tables: dict[str, dict[RecordKey, bytes | None]] = {}
        self.meta: dict[str, object] = {}
        self.nbytes = 0

    def __bool__(self) -> bool:
        """Whether there is any change."""
        return bool(self.versions or self.drop_versions or self.tables or self.meta)

    def add_version(self, row: VersionRow) -> None:
        """Add a version of a key."""
        self.versions.append(row)
        self.nbytes += VERSION_ROW_BYTES + len(row[3]) + len(row[7])

    def drop_version(self, mod_revision: int, sub: int) -> None:
        """Delete a version that compaction no longer needs."""
        self.drop_versions.append((mod_revision, sub))
        self.nbytes += 32

    def put(self, table: str, key: RecordKey, data: bytes | None) -> None:
        """Set a record, or delete it (None). The last one for a key wins."""
        self.tables.setdefault(table, {})[key] = data
        self.nbytes += VERSION_ROW_BYTES + (len(data) if data else 0)


class StateStore:
    """An open state database. Get one from `open`.

    One task writes; any number may read. Reads see the last transaction that was written.
    """

    def __init__(self, path: Path, engine: AsyncEngine) -> None:
        """Stand in front of an engine; use `open` instead."""
        self.path = path
        self._durable_index = 0
        self._engine = engine
        self._writer: AsyncConnection
        self._writing = asyncio.Lock()
        self._is_closed = False
        self._lent = 0
        self._is_idle = asyncio.Event()
        self._is_idle.set()

    @classmethod
    async def open(cls, path: str | os.PathLike[str]) -> "StateStore":
        """Open a state database; create it, or bring it up to date, if need be.

        Raises:
            SchemaTooNew: A newer release wrote it.
            StateDamaged: The file is not a state database, or is damaged.
            NoSpace: The disk is full.
            StorageFailed: The disk failed.
        """
        await asyncio.to_thread(upgrade, path)
        return await cls._open(Path(path), open_engine(Path(path)))

    @classmethod
    async def open_beside(cls, path: str | os.PathLike[str]) -> "StateStore":
        """Open a complete database that nobody writes to, only to read; leaves no trace.

        Raises:
            StateDamaged: The file is not a state database, or is damaged.
            StorageFailed: It cannot be read.
        """
        return await cls._open(Path(path), open_immutable(Path(path)))

    @classmethod
    async def _open(cls, path: Path, engine: AsyncEngine) -> "StateStore":
        store = cls(path, engine)
        try:
            store._writer = await store._connect()
            index = (await store.load_meta()).get("applied_index", 0)
            if not isinstance(index, int):
                raise StateDamaged(f"{store.path} has an applied index of {index!r}")
            store._durable_index = index
        except BaseException:
            await store._engine.dispose()
            raise
        return store

    @property
    def durable_index(self) -> int:
        """Applied index of the last transaction on disk."""
        return self._durable_index

    async def close(self) -> None:
        """Close all connections; SQLite then moves its own log into the database.

        Waits for the reads and the write in progress, pinned snapshots among them.
        """
        if self._is_closed:
            return
        self._is_closed = True
        await self._is_idle.wait()
        async with self._writing:
            await self._writer.close()
        await self._engine.dispose()

    # Reading.

    async def load_meta(self) -> dict[str, Any]:
        """Return all single facts."""
        rows = await self._fetch("SELECT name, value FROM meta", ())
        return {name: decode_meta(value) for name, value in rows}

    async def load_table(self, name: str) -> dict[Any, bytes]:
        """Return a table of records, in the order of its keys.

        Raises:
            KeyError: There is no such table.
        """
        rows = await self._fetch(schema.select_statement(schema.RECORD_TABLES[name]), ())
        return dict(rows)

    async def load_records(
        self, name: str, batch_rows: int = LOAD_ROWS
    ) -> AsyncIterator[list[tuple[Any, bytes]]]:
        """Yield a table of records in the order of its keys, in lists of `batch_rows`.

        Raises:
            KeyError: There is no such table.
        """
        query = schema.select_statement(schema.RECORD_TABLES[name])
        async with self.snapshot() as connection:
            async for rows in stream_rows(connection, query, batch_rows):
                yield rows

    async def load_versions(self, batch_rows: int = LOAD_ROWS) -> AsyncIterator[list[VersionRow]]:
        """Yield all versions in the order of (mod_revision, sub), in lists of `batch_rows`."""
        async with self.snapshot() as connection:
            async for rows in stream_rows(connection, _SELECT_VERSIONS, batch_rows):
                yield rows

    async def fetch_values(self, ids: Sequence[VersionId]) -> list[bytes | None]:
        """Return the values of versions, in the order asked for; None for those that are gone."""
        found: dict[VersionId, bytes] = {}
        for start in range(0, len(ids), _PAIRS_PER_QUERY):
            part = ids[start : start + _PAIRS_PER_QUERY]
            marks = ", ".join(["(?, ?)"] * len(part))
            # CROSS JOIN keeps SQLite from scanning the versions for each pair.
            rows = await self._fetch(
                f"WITH wanted(revision, part) AS (VALUES {marks}) "
                "SELECT mod_revision, sub, value FROM wanted CROSS JOIN versions "
                "ON mod_revision = revision AND sub = part",
                tuple(number for pair in part for number in pair),
            )
            found.update(((mod_revision, sub), value) for mod_revision, sub, value in rows)
        return [found.get(pair) for pair in ids]

    async def fetch_records(self, name: str, keys: Sequence[RecordKey]) -> dict[Any, bytes]:
        """Return some records of a table, by key; those that are not there are left out.

        Raises:
            KeyError: There is no such table.
        """
        table = schema.RECORD_TABLES[name]
        key = table.primary_key.columns[0].name
        found: dict[Any, bytes] = {}
        for start in range(0, len(keys), _PAIRS_PER_QUERY):
            part = keys[start : start + _PAIRS_PER_QUERY]
            marks = ", ".join("?" * len(part))
            query = f"SELECT {key}, data FROM {name} WHERE {key} IN ({marks})"
            found.update(await self._fetch(query, tuple(part)))
        return found

    async def fetch_revisions(self, first: int, last: int, limit: int) -> list[VersionRow]:
        """Return the versions of a range of revisions, in order.

        Args:
            first: First revision.
            last: Last revision, included.
            limit: About how many rows to return. Only whole revisions are returned, and at least
                one if there is any in the range: go on after the revision of the last row, until
                nothing comes.
        """
        query = f"{_RANGE} ORDER BY mod_revision, sub LIMIT ?"
        rows: list[VersionRow] = await self._fetch(query, (first, last, limit + 1))
        if len(rows) > limit and rows[0][0] == rows[-1][0]:
            return await self._fetch(f"{_RANGE} ORDER BY sub", (rows[0][0], rows[0][0]))
        return whole_revisions(rows, limit)

    async def dump(
        self, batch_bytes: int = DUMP_BYTES
    ) -> AsyncGenerator[tuple[str, list[Any]], None]:
        """Yield every row of every table, from one pinned state, as (table, rows).

        The single facts come first and in one piece, so that whoever reads knows at once what the
        rest belongs to. Later pieces have about `batch_bytes`.
        """
        async with self.snapshot() as connection:
            yield (
                str(schema.meta.name),
                await _execute(connection, schema.select_statement(schema.meta)),
            )
            for table in (schema.versions, *schema.RECORD_TABLES.values()):
                query = schema.select_statement(table)
                async for rows in stream_rows(connection, query, batch_bytes=batch_bytes):
                    yield str(table.name), rows

    async def check(self) -> None:
        """Read the whole database and check its structure.

        Raises:
            StateDamaged: Something is wrong; the message names the first problems.
        """
        async with self.snapshot() as connection:
            rows = [tuple(row) for row in await _execute(connection, "PRAGMA integrity_check(5)")]
        if rows != [("ok",)]:
            raise StateDamaged(f"{self.path} is damaged: {'; '.join(str(row[0]) for row in rows)}")

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[AsyncConnection]:
        """Pin one state of the database, on a connection of its own, for as long as needed.

        What is written meanwhile is not seen, and cannot be moved out of SQLite's own log.
        """
        async with self._lend() as connection:
            try:
                await _execute(connection, "BEGIN")
                # A transaction sees the state of its first read, not of its beginning.
                await _execute(connection, "SELECT 1 FROM meta LIMIT 1")
                yield connection
            finally:
                await asyncio.shield(_roll_back(connection))

    # Writing.

    async def write(self, batch: StateBatch) -> None:
        """Write a batch as one durable transaction.

        A write that is cancelled may take place all the same.

        Raises:
            NoSpace: The disk is full; nothing was written.
            StorageFailed: The disk failed; nothing was written, as far as it can be known.
            StorageClosed: `close` has been called.
            KeyError: The batch names a table that does not exist.
        """
        self._require_open()
        statements = list(_statements(batch))
        index = batch.meta.get("applied_index", self._durable_index)
        assert isinstance(index, int)
        # SQLAlchemy gives up a connection on which a statement was cancelled: let it finish.
        await asyncio.shield(self._commit(statements, index))

    async def _commit(self, statements: list[tuple[str, list[Any]]], index: int) -> None:
        async with self._writing:
            try:
                driver = await _driver_of(self._writer)
                await _execute(self._writer, "BEGIN IMMEDIATE")
                try:
                    # Straight to the driver: SQLAlchemy would copy every row on the event loop.
                    for statement, rows in statements:
                        await driver.executemany(statement, rows)
                    await self._writer.exec_driver_sql("COMMIT")
                except (exc.SQLAlchemyError, sqlite3.Error):
                    await _roll_back(self._writer)
                    raise
            except exc.SQLAlchemyError as error:
                raise translate_state(error, f"writing {self.path}") from error
            except sqlite3.Error as error:
                raise translate_sqlite(error, f"writing {self.path}") from error
            self._durable_index = index

    async def vacuum_into(self, target: str | os.PathLike[str]) -> None:
        """Write a compact copy of the database to a file, which must be absent or empty.

        Raises:
            NoSpace: The disk is full; the target has to be removed.
            StorageFailed: The copy could not be written.
        """
        async with self._lend() as connection:
            await _execute(connection, "VACUUM INTO ?", (os.fspath(target),))

    @asynccontextmanager
    async def _lend(self) -> AsyncIterator[AsyncConnection]:
        """Give a connection to one reader, who may be cancelled at any time."""
        self._require_open()
        self._lent += 1
        self._is_idle.clear()
        try:
            connection = await self._connect()
            try:
                yield connection
            finally:
                await asyncio.shield(connection.close())
        finally:
            self._lent -= 1
            if not self._lent:
                self._is_idle.set()

    def _require_open(self) -> None:
        if self._is_closed:
            raise StorageClosed("the state database has been closed")

    async def _connect(self) -> AsyncConnection:
        try:
            return await self._engine.connect()
        except exc.SQLAlchemyError as error:
            raise translate_state(error, f"opening {self.path}") from error

    async def _fetch(self, query: str, parameters: tuple[Any, ...]) -> list[Any]:
        async with self._lend() as connection:
            return await _execute(connection, query, parameters)


_RANGE: Final = f"{_SELECT_VERSIONS.partition(' ORDER')[0]} WHERE mod_revision BETWEEN ? AND ?"


def whole_revisions(rows: list[VersionRow], limit: int) -> list[VersionRow]:
    """Return the rows from the front that make up whole revisions, about `limit` of them.

    Args:
        rows: Rows in order; the last revision in it may be incomplete if there are more than
            `limit`, unless it is the only one.
        limit: How many rows are wanted; at least one revision is returned whatever its size.
    """
    if len(rows) <= limit:
        return rows
    cut = rows[limit][0]
    return [row for row in rows if row[0] < cut] or [row for row in rows if row[0] == cut]


def select_meta(path: Path) -> dict[str, Any]:
    """Return all single facts of a database that nobody has open. Blocks; leaves no trace.

    Raises:
        StateDamaged: The file is not a state database, or is damaged.
        StorageFailed: It cannot be read.
    """
    try:
        with closing(connect_immutable(path)) as connection:
            rows = connection.execute("SELECT name, value FROM meta").fetchall()
    except sqlite3.Error as error:
        raise translate_sqlite(error, f"reading {path}") from error
    return {name: decode_meta(value) for name, value in rows}


def _statements(batch: StateBatch) -> Iterable[tuple[str, list[Any]]]:
    """Yield the SQL of a batch, each with the rows it is to be run for."""
    if batch.versions:
        yield _INSERT_VERSION, batch.versions
    if batch.drop_versions:
        yield _DELETE_VERSION, batch.drop_versions
    for name, records in batch.tables.items():
        yield from _record_statements(schema.RECORD_TABLES[name], records)
    if batch.meta:
        yield _UPSERT_META, [(name, encode_meta(value)) for name, value in batch.meta.items()]


def _record_statements(
    table: Table, records: Mapping[RecordKey, bytes | None]
) -> Iterable[tuple[str, list[Any]]]:
    upserts = [(key, data) for key, data in records.items() if data is not None]
    deletes = [(key,) for key, data in records.items() if data is None]
    if upserts:
        yield schema.insert_statement(table, "INSERT OR REPLACE"), upserts
    if deletes:
        yield schema.delete_statement(table), deletes


async def _execute(
    connection: AsyncConnection, query: str, parameters: tuple[Any, ...] = ()
) -> list[Any]:
    """Run one statement and return its rows as plain tuples."""
    try:
        result = await connection.exec_driver_sql(query, parameters)
        return [tuple(row) for row in result.all()] if result.returns_rows else []
    except exc.SQLAlchemyError as error:
        raise translate_state(error, "using the state database") from error


async def _driver_of(connection: AsyncConnection) -> Any:
    """Return what SQLAlchemy stands in front of: a connection of aiosqlite."""
    driver = (await connection.get_raw_connection()).driver_connection
    assert driver is not None
    return driver


async def stream_rows(
    connection: AsyncConnection, query: str, batch_rows: int = LOAD_ROWS, batch_bytes: int = 0
) -> AsyncIterator[list[Any]]:
    """Yield the rows of a query in lists of plain tuples.

    Goes past SQLAlchemy's row objects, straight to the driver: a start reads every row there is.

    Args:
        connection: Where to read; a pinned one, to see one state.
        query: The statement, without parameters.
        batch_rows: Most rows per list.
        batch_bytes: About the most bytes per list; 0 for no limit.
    """
    driver = await _driver_of(connection)
    count = batch_rows if not batch_bytes else 1
    try:
        async with driver.execute(query) as cursor:
            while rows := await cursor.fetchmany(count):
                yield list(rows)
                if batch_bytes:
                    # Values may have a megabyte each: only then is the next list made longer.
                    each = max(1, sum(map(row_bytes, rows)) // len(rows))
                    count = max(1, min(batch_rows, batch_bytes // each, count * 8))
    except sqlite3.Error as error:
        raise translate_sqlite(error, "reading the state database") from error


def row_bytes(row: tuple[Any, ...]) -> int:
    """Return about how much a row of any table takes."""
    return 8 * len(row) + sum(len(field) for field in row if isinstance(field, bytes))


async def _roll_back(connection: AsyncConnection) -> None:
    """End a failed transaction, unless SQLite has ended it already."""
    try:
        await connection.exec_driver_sql("ROLLBACK")
    except exc.SQLAlchemyError:
        # The error that led here is the one to report.
        return
