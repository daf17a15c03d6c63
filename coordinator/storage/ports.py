"""What the node needs of a log and of a state database, whichever kind they are.

The real ones and their twins in memory keep these promises alike; the contract tests say which.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any, Protocol

from coordinator.storage.errors import StorageError
from coordinator.storage.group import BatchCallback, LogState
from coordinator.storage.record import LogBatch
from coordinator.storage.state import RecordKey, StateBatch, VersionId, VersionRow
from coordinator.storage.stream import SnapshotHeader


class LogPort(Protocol):
    """The Raft log; see `wal.LogWriter`."""

    @property
    def state(self) -> LogState:
        """What the log can do at the moment."""

    @property
    def error(self) -> StorageError | None:
        """Why the log failed, or None."""

    @property
    def waiting_bytes(self) -> int:
        """Encoded bytes that are not durable yet."""

    def submit(self, batch: LogBatch, callback: BatchCallback, *, reserve: bool = False) -> None:
        """Make a batch durable; the callback says when."""

    def write_now(self, batch: LogBatch, callback: BatchCallback, *, reserve: bool = False) -> bool:
        """Make a batch durable before returning True, or submit it and return False."""

    def cut(self, index: int) -> None:
        """Drop whole segments that hold nothing above `index`."""

    def retry_space(self) -> None:
        """Look now whether the disk has space again."""

    def close(self) -> None:
        """Write what was submitted and close."""


class StatePort(Protocol):
    """The state database; see `state.StateStore`."""

    @property
    def durable_index(self) -> int:
        """Applied index of the last durable transaction."""

    async def load_meta(self) -> dict[str, Any]:
        """Return all single facts."""

    async def load_table(self, name: str) -> dict[Any, bytes]:
        """Return a table of records, in the order of its keys."""

    def load_records(
        self, name: str, batch_rows: int = ...
    ) -> AsyncIterator[list[tuple[Any, bytes]]]:
        """Yield a table of records in order."""

    def load_versions(self, batch_rows: int = ...) -> AsyncIterator[list[VersionRow]]:
        """Yield all versions in order."""

    async def fetch_values(self, ids: Sequence[VersionId]) -> list[bytes | None]:
        """Return the values of versions, in the order asked for."""

    async def fetch_records(self, name: str, keys: Sequence[RecordKey]) -> dict[Any, bytes]:
        """Return some records of a table, those that there are."""

    async def fetch_revisions(self, first: int, last: int, limit: int) -> list[VersionRow]:
        """Return whole revisions of a range, about `limit` rows."""

    def dump(self, batch_bytes: int = ...) -> AsyncGenerator[tuple[str, list[Any]], None]:
        """Yield every row of one pinned state, as (table, rows)."""

    async def write(self, batch: StateBatch) -> None:
        """Write a batch as one durable transaction."""

    async def close(self) -> None:
        """Close all connections."""


class InstallerPort(Protocol):
    """A snapshot on its way in; see `snapshot.SnapshotInstaller`."""

    @property
    def header(self) -> SnapshotHeader | None:
        """What the snapshot is of; None before the first chunk."""

    async def write(self, chunk: bytes) -> None:
        """Take the next chunk."""

    async def finish(self) -> SnapshotHeader:
        """Make the complete snapshot durable beside the database."""

    async def open(self) -> StatePort:
        """Open what `finish` made durable, only to read."""

    async def abort(self) -> None:
        """Remove what has been written, finished or not."""
