"""What the node does with its disks behind the scenes: state database, log cutting, the past."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from coordinator.replica.trail import TrailRecord, decode_record
from coordinator.storage.backup import save_backup
from coordinator.storage.errors import StorageClosed
from coordinator.storage.group import LogState
from coordinator.storage.state import StateBatch, StateStore, VersionRow
from coordinator.storage.stream import read_snapshot
from coordinator.storage.write_behind import WriteBehind

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable
    from pathlib import Path

    from coordinator.node.boot import Booted
    from coordinator.replica.machine import Machine
    from coordinator.storage.backup import BackupStatus
    from coordinator.storage.ports import StatePort

Result = TypeVar("Result")

LOOK_EVERY: Final = 5_000
"""Entries between two looks at whether the log may be cut."""
LOG_BYTES_MAX: Final = 64 << 20
"""Payload of the entries kept in memory, and so in the log, whatever their number."""
COLLECT_ROWS: Final = 2_000
"""Rows after which changes are handed over without waiting for the next tick."""
REVISIONS_ROWS: Final = 2_000
TIMES_EVERY_MS: Final = 60_000
"""How often the database is told when revisions happened."""
TIMES_MAX: Final = 600
"""Samples of that; fewer than in memory, evenly chosen."""

_log = logging.getLogger("coordinator.node")


class Persistence:
    """Keeps the state database behind the machine, and the log short.

    When a snapshot takes the place of the state, `release` closes the database and `resume` goes
    on with the new one; reads of the past wait in between.

    Args:
        booted: The opened member.
        entries_kept: Entries kept in the log for followers that lag.
        on_failure: Told of an error after which the member must stop.
    """

    def __init__(
        self,
        booted: Booted,
        *,
        entries_kept: int,
        on_failure: Callable[[BaseException], None],
    ) -> None:
        self._machine: Machine = booted.machine
        self._replica = booted.replica
        self._identity = booted.identity
        self._log = booted.log
        self._store = booted.store
        self._looked_at = self._machine.index
        self._entries_kept = entries_kept
        self._collected_index = self._machine.index
        self._lacks_space = False
        self._was_full = False
        self._times_due_ms = self._machine.clock_ms + TIMES_EVERY_MS
        self._seen_durable = self._machine.index
        self._revisions: deque[tuple[int, int]] = deque()
        self._pins: dict[Hashable, int] = {}
        self._on_failure = on_failure
        self._is_released = False
        self._is_closed = False
        self._is_readable = asyncio.Event()
        self._is_readable.set()
        self._write_behind = self._start_writing()

    def _start_writing(self) -> WriteBehind:
        write_behind = WriteBehind(
            self._store, on_error=self._on_failure, on_space=self._note_space
        )
        write_behind.start()
        return write_behind

    @property
    def is_behind(self) -> bool:
        """Whether the database is too far behind to take proposals."""
        return self._is_released or self._write_behind.is_full

    @property
    def is_disk_full(self) -> bool:
        """Whether the disk has no space left, for the log or the database."""
        return self._lacks_space or self._log.state is LogState.NO_SPACE

    def _note_space(self, has_space: bool) -> None:
        self._lacks_space = not has_space

    def _tell_space(self) -> None:
        if self._was_full:
            _log.warning(
                "the disk is full: only what frees space or must go on is taken until there is "
                "space again"
            )
        else:
            _log.info("the disk has space again")

    def collect(self) -> None:
        """Hand changes over if there are many."""
        if len(self._machine.changes.versions) >= COLLECT_ROWS:
            self._hand_over()

    def tick(self) -> None:
        """Hand over whatever there is."""
        if self.is_disk_full != self._was_full:
            self._was_full = not self._was_full
            self._tell_space()
        if self._machine.index != self._collected_index:
            self._hand_over()
        if self._write_behind.durable_index != self._seen_durable:
            self._seen_durable = self._write_behind.durable_index
            self._note_durable(self._seen_durable)

    def _hand_over(self) -> None:
        machine = self._machine
        if self._is_released:
            return
        self._collected_index = machine.index
        self._revisions.append((machine.index, machine.keyspace.revision))
        batch = machine_batch(machine)
        if machine.clock_ms >= self._times_due_ms or self._is_closed:
            self._times_due_ms = machine.clock_ms + TIMES_EVERY_MS
            batch.meta["times"] = machine.keyspace.times.thinned(TIMES_MAX)
        self._write_behind.add(batch)

    def _note_durable(self, durable_index: int) -> None:
        """The database is durable up to an index."""
        keyspace = self._machine.keyspace
        while self._revisions and self._revisions[0][0] <= durable_index:
            keyspace.log.persisted(self._revisions.popleft()[1])
        if durable_index - self._looked_at >= LOOK_EVERY:
            self._looked_at = durable_index
            self._cut(durable_index)

    def _cut(self, durable_index: int) -> None:
        """Drop the entries that neither a start nor a slow follower will ask for.

        What the database does not hold durably is never dropped, and nothing above a pin.
        """
        memory = self._replica.log
        first = memory.first_index()
        entries = memory.entries(first, memory.last_index() + 1)
        surplus = sum(len(entry.data) for entry in entries) - LOG_BYTES_MAX
        # Far enough below the end; further, while what is left is too large.
        cut = durable_index - self._entries_kept
        for entry in entries:
            if surplus <= 0:
                break
            surplus -= len(entry.data)
            cut = max(cut, min(entry.index, durable_index))
        cut = min((cut, *self._pins.values()))
        if cut >= first:
            self._log.cut(cut)
            memory.compact(cut)

    def pin(self, holder: Hashable, index: int) -> None:
        """Keep the entries above ``index`` in the log; replaces what the holder pinned before."""
        self._pins[holder] = index

    def raise_pin(self, holder: Hashable, index: int) -> None:
        """Need the entries only above a later index; what was never pinned stays so."""
        if holder in self._pins:
            self._pins[holder] = max(index, self._pins[holder])

    def unpin(self, holder: Hashable) -> None:
        """Let go of what a holder pinned, if it did."""
        self._pins.pop(holder, None)

    async def flush(self) -> int:
        """Make durable what has been applied by now; gives the index.

        Raises:
            StorageError: The database failed, or a snapshot takes its place.
        """
        if self._is_released:
            raise StorageClosed("a snapshot takes the place of the state database")
        self._hand_over()
        await self._write_behind.flush()
        return self._write_behind.durable_index

    def read_snapshot(self) -> AsyncGenerator[bytes, None]:
        """Give the chunks of a snapshot of one state, no older than the last `flush`."""
        return read_snapshot(self._store)

    async def save_backup(self, target: Path) -> BackupStatus:
        """Write a backup of everything applied so far to a file.

        Raises:
            StorageError: The disk is full or failed, or a snapshot takes the place of the state.
        """
        if self._is_released or not isinstance(self._store, StateStore):
            raise StorageClosed("there is no state database to save at the moment")
        self._hand_over()
        facts = {"cluster_id": self._identity.cluster_id}
        return await save_backup(self._store, target, self._write_behind, facts)

    async def old_values(self, wanted: list[tuple[int, int]]) -> list[bytes | None]:
        """Fetch values by (mod_revision, sub); None for those that are gone."""
        return await self._read(lambda queue: queue.fetch_values(wanted))

    async def trail_records(self, begins: list[int]) -> dict[int, TrailRecord]:
        """Fetch records of the audit trail, by the revision at which each begins."""
        self._hand_over()
        found = await self._read(lambda queue: queue.fetch_records("audit", begins))
        return {begin: decode_record(data) for begin, data in found.items()}

    async def old_revisions(self, first: int, last: int) -> list[VersionRow]:
        """Fetch the rows of all revisions from ``first`` to ``last``."""
        found: list[VersionRow] = []
        while first <= last:
            start = first
            rows = await self._read(
                lambda queue, start=start: queue.fetch_revisions(  # type: ignore[misc]
                    start, last, REVISIONS_ROWS
                )
            )
            if not rows:
                break
            found += rows
            first = rows[-1][0] + 1
        return found

    async def _read(self, read: Callable[[WriteBehind], Awaitable[Result]]) -> Result:
        """Read from the database, whichever it is; wait while it is being replaced."""
        while True:
            await self._is_readable.wait()
            queue = self._write_behind
            try:
                return await read(queue)
            except StorageClosed:
                if self._is_closed or (queue is self._write_behind and not self._is_released):
                    raise

    async def release(self) -> None:
        """Close the database, because what it holds is void: a snapshot takes its place.

        What is on its way to it is not written. Waits for the reads in progress.
        """
        self._is_released = True
        self._is_readable.clear()
        await self._write_behind.discard()
        await self._store.close()

    def resume(self, machine: Machine, store: StatePort) -> None:
        """Go on with the state of a snapshot.

        Args:
            machine: The machine that takes the place of the old one.
            store: The open database that it was loaded from.
        """
        self._machine, self._store = machine, store
        self._collected_index = self._seen_durable = self._looked_at = machine.index
        self._revisions.clear()
        self._lacks_space = False
        self._write_behind = self._start_writing()
        self._is_released = False
        self._is_readable.set()

    async def close(self, *, flush: bool) -> None:
        """Write what is left and close the database."""
        self._is_closed = True
        self._is_readable.set()
        try:
            if flush and not self._is_released:
                self._hand_over()
                await self._write_behind.flush()
        finally:
            await self._write_behind.close()
            await self._store.close()


def machine_batch(machine: Machine) -> StateBatch:
    """Turn the machine's collected changes into one batch that leads to its present index."""
    changes, machine.changes = machine.changes, type(machine.changes)()
    batch = StateBatch()
    batch.versions = changes.versions
    batch.drop_versions = changes.dropped
    batch.nbytes = sum(len(row[3]) + len(row[7]) + 64 for row in changes.versions)
    batch.nbytes += 32 * len(changes.dropped)
    for lease, record in changes.leases.items():
        batch.put("leases", lease, record)
    for key, data in machine.timers.dump_changes().items():
        batch.put("timers", key, data)
    for client, row in machine.requests.dump_changes().items():
        batch.put("requests", client, row)
    for member in changes.members:
        known = machine.members.get(member)
        batch.put("members", member, None if known is None else msgspec.msgpack.encode(known))
    for table, records in machine.auth.dump_changes().items():
        for name, data in records.items():
            batch.put(table, name, data)
    for revision, data in machine.trail.dump_changes().items():
        batch.put("audit", revision, data)
    batch.meta = machine.meta()
    return batch
