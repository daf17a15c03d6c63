"""The state database in memory, with the same promises, for tests and the simulator.

Imports this room only; no thread, no clock, and its coroutines never suspend: a simulator may run
them with a single `send(None)`, or use `apply` directly.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any

from coordinator.storage import schema
from coordinator.storage.errors import ArchiveDamaged, NoSpace, StorageClosed, StorageError
from coordinator.storage.state import (
    DUMP_BYTES,
    LOAD_ROWS,
    RecordKey,
    StateBatch,
    VersionId,
    VersionRow,
    decode_meta,
    encode_meta,
    row_bytes,
    whole_revisions,
)
from coordinator.storage.stream import SnapshotHeader, SnapshotReader, SnapshotRows


class MemoryDatabase:
    """What outlives a crash: the rows, and the switches of a disk that fails.

    Attributes:
        is_full: Whether every write is refused with NoSpace.
        failure: What every write from now on raises; None for nothing.
        is_lying: Whether writes are acknowledged without being durable: `crash` loses them.
        beside: A snapshot that was received and is durable, but not installed; see
            `MemoryInstaller`.
    """

    def __init__(self) -> None:
        """Start empty, on a disk that works."""
        self.is_full = False
        self.failure: StorageError | None = None
        self.is_lying = False
        self.rows = _Rows()
        self.beside: _Rows | None = None
        self._durable: _Rows | None = None

    def write(self, batch: StateBatch) -> None:
        """Apply a batch as a whole, or raise and apply nothing."""
        for name in batch.tables:
            schema.RECORD_TABLES[name]
        if self.failure is not None:
            raise self.failure
        if self.is_full:
            raise NoSpace("no space left while writing the state database")
        if self.is_lying and self._durable is None:
            self._durable = self.rows.copy()
        elif not self.is_lying:
            self._durable = None
        self.rows.apply(batch)

    def finish_install(self, index: int | None) -> bool:
        """Put a noted snapshot in the place of the rows; see `snapshot.finish_install`."""
        beside, self.beside = self.beside, None
        if beside is None or index is None or _index_of(beside) != index:
            return False
        if self.failure is not None:
            self.beside = beside
            raise self.failure
        self.rows, self._durable = beside, None
        return True

    def crash(self) -> None:
        """Lose what a lying disk did not write."""
        if self._durable is not None:
            self.rows, self._durable = self._durable, None

    def corrupt(self, pair: VersionId) -> None:
        """Alter the value of one version behind everybody's back."""
        row = self.rows.versions[pair]
        self.rows.versions[pair] = (*row[:7], row[7] + b"\0")


class _Rows:
    """The tables."""

    def __init__(self) -> None:
        self.versions: dict[VersionId, VersionRow] = {}
        self.meta: dict[str, bytes] = {}
        self.tables: dict[str, dict[RecordKey, bytes]] = {name: {} for name in schema.RECORD_TABLES}

    def copy(self) -> "_Rows":
        copy = _Rows()
        copy.versions = dict(self.versions)
        copy.meta = dict(self.meta)
        copy.tables = {name: dict(records) for name, records in self.tables.items()}
        return copy

    def apply(self, batch: StateBatch) -> None:
        for row in batch.versions:
            self.versions[row[:2]] = row
        for pair in batch.drop_versions:
            self.versions.pop(pair, None)
        for name, records in batch.tables.items():
            table = self.tables[name]
            for key, data in records.items():
                if data is None:
                    table.pop(key, None)
                else:
                    table[key] = data
        self.meta.update((name, encode_meta(value)) for name, value in batch.meta.items())


class MemoryStateStore:
    """An open state database in memory, in the place of `state.StateStore`."""

    def __init__(self, database: MemoryDatabase | None = None) -> None:
        """Open a database; a new one by default."""
        self.database = database or MemoryDatabase()
        self._is_closed = False
        self._durable_index = self._index()

    @property
    def durable_index(self) -> int:
        """See `StateStore.durable_index`."""
        return self._durable_index

    def apply(self, batch: StateBatch) -> None:
        """Write a batch; what `write` does, without a coroutine."""
        if self._is_closed:
            raise StorageClosed("the state database has been closed")
        self.database.write(batch)
        self._durable_index = self._index()

    async def write(self, batch: StateBatch) -> None:
        """See `StateStore.write`."""
        self.apply(batch)

    async def load_meta(self) -> dict[str, Any]:
        """See `StateStore.load_meta`."""
        rows = self._rows().meta
        return {name: decode_meta(rows[name]) for name in sorted(rows)}

    async def load_table(self, name: str) -> dict[Any, bytes]:
        """See `StateStore.load_table`."""
        records: dict[Any, bytes] = dict(self._rows().tables[name])
        return {key: records[key] for key in sorted(records)}

    async def load_records(
        self, name: str, batch_rows: int = LOAD_ROWS
    ) -> AsyncIterator[list[tuple[Any, bytes]]]:
        """See `StateStore.load_records`."""
        records = list((await self.load_table(name)).items())
        for start in range(0, len(records), batch_rows):
            yield records[start : start + batch_rows]

    async def load_versions(self, batch_rows: int = LOAD_ROWS) -> AsyncIterator[list[VersionRow]]:
        """See `StateStore.load_versions`."""
        rows = self._sorted()
        for start in range(0, len(rows), batch_rows):
            yield rows[start : start + batch_rows]

    async def fetch_values(self, ids: Sequence[VersionId]) -> list[bytes | None]:
        """See `StateStore.fetch_values`."""
        versions = self._rows().versions
        return [versions[pair][7] if pair in versions else None for pair in ids]

    async def fetch_records(self, name: str, keys: Sequence[RecordKey]) -> dict[Any, bytes]:
        """See `StateStore.fetch_records`."""
        table = self._rows().tables[name]
        return {key: table[key] for key in keys if key in table}

    async def fetch_revisions(self, first: int, last: int, limit: int) -> list[VersionRow]:
        """See `StateStore.fetch_revisions`."""
        return whole_revisions([row for row in self._sorted() if first <= row[0] <= last], limit)

    async def dump(
        self, batch_bytes: int = DUMP_BYTES
    ) -> AsyncGenerator[tuple[str, list[Any]], None]:
        """See `StateStore.dump`."""
        rows = self._rows().copy()
        yield str(schema.meta.name), sorted(rows.meta.items())
        tables: list[tuple[str, list[Any]]] = [
            (str(schema.versions.name), [rows.versions[pair] for pair in sorted(rows.versions)])
        ]
        for name, records in rows.tables.items():
            items: list[Any] = list(records.items())
            tables.append((name, sorted(items)))
        for name, table_rows in tables:
            part: list[Any] = []
            size = 0
            for row in table_rows:
                part.append(row)
                size += row_bytes(row)
                if size >= batch_bytes:
                    yield name, part
                    part, size = [], 0
            if part:
                yield name, part

    async def check(self) -> None:
        """See `StateStore.check`; there is nothing to check here."""
        self._rows()

    async def close(self) -> None:
        """See `StateStore.close`."""
        self._is_closed = True

    def _rows(self) -> _Rows:
        if self._is_closed:
            raise StorageClosed("the state database has been closed")
        return self.database.rows

    def _sorted(self) -> list[VersionRow]:
        versions = self._rows().versions
        return [versions[pair] for pair in sorted(versions)]

    def _index(self) -> int:
        return _index_of(self.database.rows)


def _index_of(rows: _Rows) -> int:
    raw = rows.meta.get("applied_index")
    index = 0 if raw is None else decode_meta(raw)
    assert isinstance(index, int)
    return index


class MemoryInstaller:
    """Writes an incoming snapshot beside a database in memory; see `SnapshotInstaller`."""

    def __init__(self, database: MemoryDatabase) -> None:
        """Prepare to write beside a database; nothing happens to it yet."""
        self._database = database
        self._reader = SnapshotReader()
        self._rows = _Rows()

    @property
    def header(self) -> SnapshotHeader | None:
        """See `SnapshotInstaller.header`."""
        return self._reader.header

    async def write(self, chunk: bytes) -> None:
        """See `SnapshotInstaller.write`."""
        part = self._reader.take(chunk)
        self._require_disk()
        if isinstance(part, SnapshotHeader):
            self._database.beside = None
            self._rows.meta = dict(part.facts)
        elif part is not None:
            self._insert(part)

    async def finish(self) -> SnapshotHeader:
        """See `SnapshotInstaller.finish`."""
        header = self._reader.require_complete()
        self._require_disk()
        self._database.beside = self._rows
        return header

    async def open(self) -> MemoryStateStore:
        """See `SnapshotInstaller.open`."""
        database = MemoryDatabase()
        database.rows = self._rows
        return MemoryStateStore(database)

    async def abort(self) -> None:
        """See `SnapshotInstaller.abort`."""
        if self._database.beside is self._rows:
            self._database.beside = None
        self._rows = _Rows()

    def _insert(self, part: SnapshotRows) -> None:
        """Take rows in; of what a database cannot hold, only keys that are no keys are noticed."""
        try:
            if part.table == schema.versions.name:
                pairs = {(row[0], row[1]): tuple(row) for row in part.rows}
                known: dict[Any, Any] = self._rows.versions
            else:
                pairs = {row[0]: row[1] for row in part.rows}
                known = self._rows.tables[part.table]
        except TypeError as error:
            raise ArchiveDamaged(f"the snapshot has impossible rows: {error}") from None
        if len(pairs) < len(part.rows) or any(key in known for key in pairs):
            raise ArchiveDamaged("the snapshot has impossible rows: one comes twice")
        known.update(pairs)

    def _require_disk(self) -> None:
        if self._database.failure is not None:
            raise self._database.failure
        if self._database.is_full:
            raise NoSpace("no space left while writing a snapshot")
