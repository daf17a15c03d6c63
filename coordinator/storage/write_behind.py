"""What the state machine did, on its way to the state database.

Imports this room only. The node adds changes after each turn without waiting; one task writes what
has gathered as one transaction, again and again. Reads of history see what is still on its way.

Invariants: changes reach the database in the order in which they were added; what is on its way is
bounded by the caller, who asks `is_full` before it proposes and never while it applies. A full disk
is waited for; any other failure is reported once and ends it for good.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Any, Final

from coordinator.storage.errors import NoSpace, StorageClosed, StorageError, StorageFailed
from coordinator.storage.ports import StatePort
from coordinator.storage.state import (
    RecordKey,
    StateBatch,
    VersionId,
    VersionRow,
    whole_revisions,
)

PENDING_BYTES: Final = 64 << 20
FLUSH_BYTES: Final = 1 << 20
FLUSH_INTERVAL_SECONDS: Final = 0.1
SPACE_RETRY_SECONDS: Final = 1.0


class WriteBehind:
    """The queue in front of a state database, and the task that empties it."""

    def __init__(
        self,
        store: StatePort,
        *,
        on_error: Callable[[StorageError], None],
        on_space: Callable[[bool], None] | None = None,
        pending_bytes: int = PENDING_BYTES,
        flush_bytes: int = FLUSH_BYTES,
        flush_interval_seconds: float = FLUSH_INTERVAL_SECONDS,
        space_retry_seconds: float = SPACE_RETRY_SECONDS,
    ) -> None:
        """Stand in front of an open database; `start` starts the task.

        Args:
            store: The database; nobody else may write to it.
            on_error: Told once, when the database failed for good.
            on_space: Told False when the disk is full, True when there is space again.
            pending_bytes: From this much on, `is_full` says so.
            flush_bytes: From this much on, nothing is waited for before writing.
            flush_interval_seconds: How long changes gather before they are written together.
            space_retry_seconds: How long to wait before trying a full disk again.
        """
        self._store = store
        self._on_error = on_error
        self._on_space = on_space
        self._pending_bytes = pending_bytes
        self._flush_bytes = flush_bytes
        self._flush_interval_seconds = flush_interval_seconds
        self._space_retry_seconds = space_retry_seconds
        self._pending = _Gathered()
        self._writing = _Gathered()
        self._added = 0
        self._written = 0
        self._has_work = asyncio.Event()
        self._is_urgent = asyncio.Event()
        self._has_written = asyncio.Condition()
        self._is_closing = False
        self._error: StorageError | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def is_full(self) -> bool:
        """Whether so much is on its way that nothing more should be proposed for now."""
        return self.pending_bytes >= self._pending_bytes

    @property
    def pending_bytes(self) -> int:
        """About how much is on its way."""
        return self._pending.batch.nbytes + self._writing.batch.nbytes

    @property
    def durable_index(self) -> int:
        """Applied index up to which the database is durable."""
        return self._store.durable_index

    @property
    def error(self) -> StorageError | None:
        """Why nothing is written any more, or None."""
        return self._error

    def start(self) -> None:
        """Start the task in the running loop."""
        assert self._task is None, "started twice"
        self._task = asyncio.create_task(self._run(), name="write-behind")

    def add(self, batch: StateBatch) -> None:
        """Queue the changes of a turn; never waits.

        After a failure nothing is kept, and `flush` says so.

        Args:
            batch: The changes; not to be touched afterwards.
        """
        if not batch:
            return
        self._added += 1
        if self._error is not None:
            return
        self._pending.add(batch)
        self._has_work.set()
        if self._pending.batch.nbytes >= self._flush_bytes:
            self._is_urgent.set()

    async def flush(self) -> None:
        """Return when everything added so far is durable. Waits for a full disk.

        Raises:
            StorageError: The database failed.
            StorageClosed: It was closed before that.
        """
        ticket = self._added
        self._is_urgent.set()
        async with self._has_written:
            await self._has_written.wait_for(
                lambda: self._written >= ticket or self._error is not None
            )
        if self._written < ticket and self._error is not None:
            raise self._error

    async def close(self) -> None:
        """Write what is left, unless the disk is full, and end the task."""
        self._is_closing = True
        self._has_work.set()
        self._is_urgent.set()
        if self._task is not None:
            await self._task
        if self._error is None:
            await self._end(StorageClosed("the write-behind queue has been closed"))

    async def discard(self) -> None:
        """Forget what has not begun to be written, and end the task: its database is void."""
        self._pending = _Gathered()
        await self.close()

    async def fetch_values(self, ids: Sequence[VersionId]) -> list[bytes | None]:
        """Return the values of versions, also of those on their way; None for those gone."""
        waiting = [self._find(pair) for pair in ids]
        missing = [pair for pair, row in zip(ids, waiting, strict=True) if row is None]
        if not missing:
            return [row[7] for row in waiting if row is not None]
        found = dict(zip(missing, await self._store.fetch_values(missing), strict=True))
        return [
            found[pair] if row is None else row[7] for pair, row in zip(ids, waiting, strict=True)
        ]

    async def fetch_records(self, name: str, keys: Sequence[RecordKey]) -> dict[Any, bytes]:
        """Return some records of a table, also of those on their way."""
        waiting: dict[RecordKey, bytes | None] = {}
        for gathered in (self._writing, self._pending):
            waiting.update(gathered.batch.tables.get(name, {}))
        known = {key: waiting[key] for key in keys if key in waiting}
        found = await self._store.fetch_records(name, [key for key in keys if key not in known])
        found.update((key, data) for key, data in known.items() if data is not None)
        return found

    async def fetch_revisions(self, first: int, last: int, limit: int) -> list[VersionRow]:
        """Return whole revisions of a range; see `StateStore.fetch_revisions`.

        Rows on their way come after all that is in the database, so they are looked at only when
        nothing older is left to return.
        """
        # Taken before the database is read: what is written in between is then seen twice rather
        # than not at all.
        waiting = self._in_range(first, last)
        border = waiting[0][0] if waiting else last
        rows = await self._store.fetch_revisions(first, border, limit)
        older = [row for row in rows if row[0] < border]
        if not waiting:
            return rows
        if older:
            return older
        merged = {row[:2]: row for row in rows}
        merged.update((row[:2], row) for row in waiting)
        return whole_revisions([merged[pair] for pair in sorted(merged)], limit)

    def _find(self, pair: VersionId) -> VersionRow | None:
        return self._pending.rows.get(pair) or self._writing.rows.get(pair)

    def _in_range(self, first: int, last: int) -> list[VersionRow]:
        return [
            row
            for gathered in (self._writing, self._pending)
            for row in gathered.rows.values()
            if first <= row[0] <= last
        ]

    async def _run(self) -> None:
        """The task: gather, write, again."""
        while not self._is_closing or self._pending:
            await self._has_work.wait()
            await self._wait(self._is_urgent, self._flush_interval_seconds)
            self._has_work.clear()
            self._is_urgent.clear()
            ticket = self._added
            self._writing, self._pending = self._pending, _Gathered()
            try:
                await self._write()
            except StorageError as error:
                await self._fail(error)
                break
            except Exception as error:
                await self._fail(StorageFailed(f"writing the state database failed: {error!r}"))
                break
            if self._writing:
                break
            async with self._has_written:
                self._written = ticket
                self._has_written.notify_all()

    async def _write(self) -> None:
        """Write what has gathered; wait while the disk is full, unless closing."""
        batch = self._writing.finish()
        was_full = False
        while batch:
            try:
                await self._store.write(batch)
                break
            except NoSpace:
                if not was_full:
                    was_full = True
                    self._tell_space(has_space=False)
                if self._is_closing:
                    return
                self._is_urgent.clear()
                await self._wait(self._is_urgent, self._space_retry_seconds)
        if was_full:
            self._tell_space(has_space=True)
        self._writing = _Gathered()

    def retry_space(self) -> None:
        """Try at once, instead of after a while, whether the disk has space again."""
        self._is_urgent.set()

    def _tell_space(self, *, has_space: bool) -> None:
        if self._on_space is not None:
            self._on_space(has_space)

    async def _wait(self, event: asyncio.Event, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await event.wait()

    async def _fail(self, error: StorageError) -> None:
        await self._end(error)
        self._on_error(error)

    async def _end(self, error: StorageError) -> None:
        async with self._has_written:
            self._error = error
            self._has_written.notify_all()


class _Gathered:
    """Several batches on their way to become one."""

    __slots__ = ("batch", "rows")

    def __init__(self) -> None:
        self.batch = StateBatch()
        self.rows: dict[VersionId, VersionRow] = {}

    def __bool__(self) -> bool:
        return bool(self.rows or self.batch)

    def add(self, more: StateBatch) -> None:
        batch, rows = self.batch, self.rows
        for row in more.versions:
            rows[row[:2]] = row
        for pair in more.drop_versions:
            # What never got there needs no deleting.
            if rows.pop(pair, None) is None:
                batch.drop_versions.append(pair)
        for name, records in more.tables.items():
            batch.tables.setdefault(name, {}).update(records)
        batch.meta.update(more.meta)
        batch.nbytes += more.nbytes

    def finish(self) -> StateBatch:
        self.batch.versions = list(self.rows.values())
        return self.batch
