"""The stream that a snapshot travels as: chunks of rows, and what proves them complete.

Imports this room only. A stream is a series of chunks, each a MessagePack array: one
`SnapshotHeader`, any number of `SnapshotRows`, one `SnapshotEnd` with a SHA-256 of all chunks
before it. It holds rows and no pages, so that sender and receiver may differ in everything but the
schema.
"""

import contextlib
import hashlib
from collections.abc import AsyncGenerator
from typing import Any, Final, Protocol

import msgspec

from coordinator.storage import schema
from coordinator.storage.errors import ArchiveDamaged, SchemaTooNew
from coordinator.storage.state import DUMP_BYTES, decode_meta

FORMAT: Final = 1
"""Version of the stream; a newer one is refused."""


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


class SnapshotReader:
    """Takes the chunks of a stream apart and checks that they are exactly what was sent.

    Attributes:
        header: What the snapshot is of; None before the first chunk.
        is_complete: Whether the end has come and proved everything before it.
    """

    def __init__(self) -> None:
        """Wait for the header."""
        self.header: SnapshotHeader | None = None
        self.is_complete = False
        self._digest = hashlib.sha256()
        self._rows_total = 0

    def take(self, chunk: bytes) -> SnapshotHeader | SnapshotRows | None:
        """Return what a chunk holds; None for the end.

        Raises:
            ArchiveDamaged: The chunk does not continue the snapshot.
            SchemaTooNew: A newer release made it.
        """
        if self.is_complete:
            raise ArchiveDamaged("the snapshot goes on after its end")
        if self.header is None:
            self.header = read_header(chunk)
            self._digest.update(chunk)
            return self.header
        part = _decode(chunk)
        if isinstance(part, SnapshotEnd):
            if (part.rows_total, part.sha256) != (self._rows_total, self._digest.digest()):
                raise ArchiveDamaged("the snapshot is not what was sent: its checksum differs")
            self.is_complete = True
            return None
        if not isinstance(part, SnapshotRows):
            raise ArchiveDamaged("the snapshot has a second header")
        _check_rows(part)
        self._digest.update(chunk)
        self._rows_total += len(part.rows)
        return part

    def require_complete(self) -> SnapshotHeader:
        """Return the header of a complete snapshot.

        Raises:
            ArchiveDamaged: Its end is missing.
        """
        if self.header is None or not self.is_complete:
            raise ArchiveDamaged("the snapshot is incomplete")
        return self.header


def _check_rows(part: SnapshotRows) -> None:
    table = schema.metadata.tables.get(part.table)
    if table is None or part.table == schema.meta.name:
        raise ArchiveDamaged(f"the snapshot has rows of an unknown table {part.table!r}")
    width = len(table.columns)
    if any(not isinstance(row, list) or len(row) != width for row in part.rows):
        raise ArchiveDamaged(f"the snapshot has misshapen rows of table {part.table}")
