"""The state of one member on its way to another: a stream of rows, and its installation.

Imports this room only. The stream is a series of chunks, each a MessagePack array: one
`SnapshotHeader`, any number of `SnapshotRows`, one `SnapshotEnd` with a SHA-256 of all chunks
before it. It holds rows and no pages, so that sender and receiver may differ in everything but the
schema.

Installation, so that a crash at any step leaves a member that can start:

1. the rows go to a database beside the real one, which is verified and made durable;
2. the caller notes the snapshot in the log: from here on the old state is void;
3. `finish_install` puts the new database in the place of the old one.

A start calls `finish_install` with what the log says, before it opens the database: it completes an
installation that was noted, and removes what is left of one that was not.
"""

import asyncio
import contextlib
import hashlib
import os
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec
from sqlalchemy import exc
from sqlalchemy.ext.asyncio import AsyncConnection

from coordinator.storage import schema
from coordinator.storage.errors import ArchiveDamaged, SchemaTooNew, StateDamaged
from coordinator.storage.files import DiskFiles, discard, translate
from coordinator.storage.migrate import create_private_file, schema_revision
from coordinator.storage.state import (
    DUMP_BYTES,
    decode_meta,
    open_engine,
    select_meta,
    translate_state,
)

FORMAT: Final = 1
"""Version of the stream; a newer one is refused."""

INSTALL_SUFFIX: Final = ".install"


class SnapshotHeader(msgspec.Struct, array_like=True, tag=0, frozen=True):
    """What a snapshot is of."""

    format: int
    schema: str
    """Schema revision of the sender."""
    columns: dict[str, list[str]]
    """The tables that follow, each with its columns in the order of the rows."""
    facts: dict[str, bytes]
    """The single facts, as stored; see `fact`."""

    def fact(self, name: str) -> Any:
        """Return a single fact, such as "applied_index"; None if the sender does not know it."""
        raw = self.facts.get(name)
        return None if raw is None else decode_meta(raw)


class SnapshotRows(msgspec.Struct, array_like=True, tag=1, frozen=True):
    """Some rows of one table."""

    table: str
    rows: list[Any]


class SnapshotEnd(msgspec.Struct, array_like=True, tag=2, frozen=True):
    """The end of a snapshot."""

    rows_total: int
    sha256: bytes
    """Of all chunks before this one."""


_IMPOSSIBLE_ROWS: Final = (
    exc.DataError,
    exc.IntegrityError,
    exc.InterfaceError,
    exc.ProgrammingError,
)
"""What SQLite says of rows that no table of ours can have held."""

_encoder: Final = msgspec.msgpack.Encoder()
_Chunk = SnapshotHeader | SnapshotRows | SnapshotEnd
_decoder: Final[msgspec.msgpack.Decoder[_Chunk]] = msgspec.msgpack.Decoder(_Chunk)


class Dumpable(Protocol):
    """A state database to make a snapshot of."""

    def dump(self, batch_bytes: int = ...) -> AsyncGenerator[tuple[str, list[Any]], None]:
        """Yield every row of one pinned state; see `StateStore.dump`."""


async def read_snapshot(
    store: Dumpable, chunk_bytes: int = DUMP_BYTES
) -> AsyncGenerator[bytes, None]:
    """Yield the chunks of a snapshot of one state of the database.

    The state is pinned when the first chunk is asked for and let go after the last one. Decode the
    first chunk with `read_header` to know which state it is.

    Args:
        store: The database.
        chunk_bytes: About the size of a chunk; one with a single large row may exceed it.
    """
    digest = hashlib.sha256()
    rows_total = 0
    async with contextlib.aclosing(store.dump(chunk_bytes)) as dump:
        async for table, rows in dump:
            if table == schema.meta.name:
                chunk = _encoder.encode(_header_of(dict(rows)))
            else:
                chunk = _encoder.encode(SnapshotRows(table, rows))
                rows_total += len(rows)
            digest.update(chunk)
            yield chunk
    yield _encoder.encode(SnapshotEnd(rows_total, digest.digest()))


def _columns() -> dict[str, list[str]]:
    tables = (schema.versions, *schema.RECORD_TABLES.values())
    return {str(table.name): [str(name) for name in table.columns.keys()] for table in tables}


def _header_of(facts: dict[str, bytes]) -> SnapshotHeader:
    return SnapshotHeader(FORMAT, schema.SCHEMA_HEAD, _columns(), facts)


def read_header(chunk: bytes) -> SnapshotHeader:
    """Return the header of a snapshot from its first chunk.

    Raises:
        ArchiveDamaged: The chunk is not the beginning of a snapshot.
        SchemaTooNew: A newer release made it.
    """
    header = _decode(chunk)
    if not isinstance(header, SnapshotHeader):
        raise ArchiveDamaged("the snapshot does not begin with its header")
    if header.format > FORMAT or header.schema not in schema.SCHEMA_REVISIONS:
        raise SchemaTooNew("the snapshot", header.schema, schema.SCHEMA_HEAD)
    if header.schema != schema.SCHEMA_HEAD or header.columns != _columns():
        raise ArchiveDamaged(
            f"the snapshot has schema {header.schema}, this release cannot read it"
        )
    return header


def _decode(chunk: bytes) -> _Chunk:
    try:
        return _decoder.decode(chunk)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ArchiveDamaged(f"the snapshot has an unreadable chunk: {error}") from None


class SnapshotInstaller:
    """Writes an incoming snapshot beside the state database.

    Call `write` for each chunk in order, then `finish`, or `abort` at any time. One task only.
    """

    def __init__(self, state_path: str | os.PathLike[str]) -> None:
        """Prepare to write beside the database at `state_path`; nothing happens on disk yet."""
        self.header: SnapshotHeader | None = None
        """What the snapshot is of; None before the first chunk."""
        self._path = Path(f"{os.fspath(state_path)}{INSTALL_SUFFIX}")
        self._engine = open_engine(self._path, is_scratch=True)
        self._connection: AsyncConnection | None = None
        self._digest = hashlib.sha256()
        self._rows_total = 0
        self._end: SnapshotEnd | None = None

    async def write(self, chunk: bytes) -> None:
        """Take the next chunk.

        Raises:
            ArchiveDamaged: The chunk does not continue the snapshot.
            SchemaTooNew: A newer release made it.
            NoSpace: The disk is full; only `abort` is left.
            StorageFailed: The disk failed.
        """
        if self._end is not None:
            raise ArchiveDamaged("the snapshot goes on after its end")
        if self._connection is None:
            self.header = read_header(chunk)
            self._connection = await self._begin(self.header)
        else:
            part = _decode(chunk)
            if isinstance(part, SnapshotEnd):
                self._check(part)
                return
            if not isinstance(part, SnapshotRows):
                raise ArchiveDamaged("the snapshot has a second header")
            await self._insert(self._connection, part)
        self._digest.update(chunk)

    async def finish(self) -> SnapshotHeader:
        """Make the complete snapshot durable beside the database and return its header.

        Raises:
            ArchiveDamaged: Its end is missing.
            NoSpace: The disk is full.
            StorageFailed: The disk failed.
        """
        if self.header is None or self._connection is None or self._end is None:
            raise ArchiveDamaged("the snapshot is incomplete")
        try:
            await self._connection.exec_driver_sql("COMMIT")
        except exc.SQLAlchemyError as error:
            raise translate_state(error, f"writing {self._path}") from error
        await self._close()
        await asyncio.to_thread(_sync_file, self._path)
        return self.header

    async def abort(self) -> None:
        """Remove what has been written."""
        await self._close()
        await asyncio.to_thread(_remove_install, self._path)

    def _check(self, end: SnapshotEnd) -> None:
        if (end.rows_total, end.sha256) != (self._rows_total, self._digest.digest()):
            raise ArchiveDamaged("the snapshot is not what was sent: its checksum differs")
        self._end = end

    async def _begin(self, header: SnapshotHeader) -> AsyncConnection:
        try:
            await asyncio.to_thread(_remove_install, self._path)
            await asyncio.to_thread(create_private_file, self._path)
            connection = await self._engine.connect()
            await connection.exec_driver_sql("BEGIN")
            for statement in schema.create_statements():
                await connection.exec_driver_sql(statement)
            insert = schema.insert_statement(schema.meta)
            if header.facts:
                await connection.exec_driver_sql(insert, list(header.facts.items()))
        except exc.SQLAlchemyError as error:
            raise translate_state(error, f"writing {self._path}") from error
        except OSError as error:
            raise translate(error, f"writing {self._path}") from error
        return connection

    async def _insert(self, connection: AsyncConnection, part: SnapshotRows) -> None:
        table = schema.metadata.tables.get(part.table)
        if table is None or part.table not in _columns():
            raise ArchiveDamaged(f"the snapshot has rows of an unknown table {part.table!r}")
        width = len(table.columns)
        if any(not isinstance(row, list) or len(row) != width for row in part.rows):
            raise ArchiveDamaged(f"the snapshot has misshapen rows of table {part.table}")
        self._rows_total += len(part.rows)
        rows = [tuple(row) for row in part.rows]
        try:
            await connection.exec_driver_sql(schema.insert_statement(table), rows)
        except (*_IMPOSSIBLE_ROWS, OverflowError) as error:
            raise ArchiveDamaged(f"the snapshot has impossible rows: {error}") from None
        except exc.SQLAlchemyError as error:
            raise translate_state(error, f"writing {self._path}") from error

    async def _close(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await connection.close()
        await self._engine.dispose()


def _sync_file(path: Path) -> None:
    files = DiskFiles()
    try:
        fd = files.open(str(path))
        try:
            files.sync(fd)
        finally:
            files.close(fd)
        files.sync_directory(str(path.parent))
    except OSError as error:
        raise translate(error, f"syncing {path}") from error


def _remove_install(path: Path) -> None:
    for suffix in ("", "-journal", "-wal", "-shm"):
        discard(DiskFiles(), f"{path}{suffix}")


def finish_install(state_path: str | os.PathLike[str], index: int | None) -> bool:
    """Put a noted snapshot in the place of the state database. Blocks.

    The state database must not be open. May be repeated after a crash at any point.

    Args:
        state_path: The state database.
        index: The applied index of the snapshot that the log was last reset to; None if there is
            none. A snapshot of any other index beside the database is what an interrupted,
            unnoted installation has left, and is removed.

    Returns:
        Whether the database was replaced.

    Raises:
        StorageFailed: The disk failed.
    """
    path = Path(state_path)
    beside = Path(f"{path}{INSTALL_SUFFIX}")
    if not beside.exists():
        return False
    try:
        if index is None or _applied_index(beside) != index:
            _remove_install(beside)
            return False
        # The old database is void; its own log must not be replayed onto the new one.
        for suffix in ("-wal", "-shm"):
            discard(DiskFiles(), f"{path}{suffix}")
        os.replace(beside, path)
        DiskFiles().sync_directory(str(path.parent))
    except OSError as error:
        raise translate(error, f"installing {path}") from error
    return True


def _applied_index(path: Path) -> object:
    """Return the applied index of a snapshot beside the database; None if it is incomplete."""
    try:
        if schema_revision(path, is_immutable=True) != schema.SCHEMA_HEAD:
            return None
        return select_meta(path).get("applied_index")
    except StateDamaged:
        return None
