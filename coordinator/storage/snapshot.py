"""The state of one member on its way into another: installing a snapshot.

Imports this room only; the stream itself is `stream.py`.

Installation, so that a crash at any step leaves a member that can start:

1. the rows go to a database beside the real one, which is verified and made durable;
2. the caller notes the snapshot in the log: from here on the old state is void;
3. `finish_install` puts the new database in the place of the old one.

A start calls `finish_install` with what the log says, before it opens the database: it completes an
installation that was noted, and removes what is left of one that was not.
"""

import asyncio
import os
from pathlib import Path
from typing import Final

from sqlalchemy import exc
from sqlalchemy.ext.asyncio import AsyncConnection

from coordinator.storage import schema
from coordinator.storage.engine import open_engine, translate_state
from coordinator.storage.errors import ArchiveDamaged, StateDamaged
from coordinator.storage.files import DiskFiles, discard, translate
from coordinator.storage.migrate import create_private_file, schema_revision
from coordinator.storage.state import StateStore, select_meta
from coordinator.storage.stream import SnapshotHeader, SnapshotReader, SnapshotRows

INSTALL_SUFFIX: Final = ".install"

_IMPOSSIBLE_ROWS: Final = (
    exc.DataError,
    exc.IntegrityError,
    exc.InterfaceError,
    exc.ProgrammingError,
)
"""What SQLite says of rows that no table of ours can have held."""


class SnapshotInstaller:
    """Writes an incoming snapshot beside the state database.

    Call `write` for each chunk in order, then `finish`, or `abort` at any time. One task only.
    """

    def __init__(self, state_path: str | os.PathLike[str]) -> None:
        """Prepare to write beside the database at `state_path`; nothing happens on disk yet."""
        self._path = Path(f"{os.fspath(state_path)}{INSTALL_SUFFIX}")
        self._engine = open_engine(self._path, is_scratch=True)
        self._connection: AsyncConnection | None = None
        self._reader = SnapshotReader()

    @property
    def header(self) -> SnapshotHeader | None:
        """What the snapshot is of; None before the first chunk."""
        return self._reader.header

    async def write(self, chunk: bytes) -> None:
        """Take the next chunk.

        Raises:
            ArchiveDamaged: The chunk does not continue the snapshot.
            SchemaTooNew: A newer release made it.
            NoSpace: The disk is full; only `abort` is left.
            StorageFailed: The disk failed.
        """
        part = self._reader.take(chunk)
        if isinstance(part, SnapshotHeader):
            self._connection = await self._begin(part)
        elif part is not None:
            assert self._connection is not None
            await self._insert(self._connection, part)

    async def finish(self) -> SnapshotHeader:
        """Make the complete snapshot durable beside the database and return its header.

        Raises:
            ArchiveDamaged: Its end is missing.
            NoSpace: The disk is full.
            StorageFailed: The disk failed.
        """
        header = self._reader.require_complete()
        assert self._connection is not None
        try:
            await self._connection.exec_driver_sql("COMMIT")
        except exc.SQLAlchemyError as error:
            raise translate_state(error, f"writing {self._path}") from error
        await self._close()
        await asyncio.to_thread(_sync_file, self._path)
        return header

    async def open(self) -> StateStore:
        """Open what `finish` made durable, to read it where it lies; close it before it moves.

        Raises:
            StateDamaged: It cannot be read back.
        """
        return await StateStore.open_beside(self._path)

    async def abort(self) -> None:
        """Remove what has been written, finished or not."""
        await self._close()
        await asyncio.to_thread(_remove_install, self._path)

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
        insert = schema.insert_statement(schema.metadata.tables[part.table])
        rows = [tuple(row) for row in part.rows]
        try:
            await connection.exec_driver_sql(insert, rows)
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
