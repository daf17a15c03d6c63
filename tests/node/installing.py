"""A member without a node, on a real disk or on one in memory, that a test drives step by step."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

from coordinator.domains import DOMAINS
from coordinator.keyspace.records import Events
from coordinator.keyspace.watch import WatchHub
from coordinator.node.boot import boot
from coordinator.node.installation import Installation
from coordinator.node.persistence import Persistence
from coordinator.node.snapshots import SnapshotReceiver
from coordinator.node.surroundings import Directory, Surroundings, ThisMachine
from coordinator.replica.effects import Append
from coordinator.replica.machine import Machine
from coordinator.storage.errors import StorageError
from coordinator.storage.group import BatchCallback
from coordinator.storage.identity import Identity
from coordinator.storage.memory import MemoryFiles, MemoryLog, open_memory_log
from coordinator.storage.memory_state import MemoryDatabase, MemoryInstaller, MemoryStateStore
from coordinator.storage.record import LogBatch
from coordinator.storage.recovery import LogContents
from coordinator.wire.raft import (
    Message,
    MessageType,
    Snapshot,
    SnapshotMetadata,
    encode_message,
)
from tests.node.running import config

LEADER = 77


class PromptLog:
    """A log in memory that makes durable what it is given with the next turn of the loop."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def submit(self, batch: LogBatch, callback: BatchCallback, *, reserve: bool = False) -> None:
        """See `LogPort.submit`."""
        self._log.submit(batch, callback, reserve=reserve)
        asyncio.get_running_loop().call_soon(self._log.sync)


class MemoryDirectory:
    """A data directory in memory; what it holds survives a crash."""

    def __init__(self, kept: MemoryMachine) -> None:
        self._kept = kept

    @property
    def identity(self) -> Identity | None:
        """See `Directory.identity`."""
        return self._kept.identity

    def create_identity(self, member_id: int, cluster_id: int = 0) -> Identity:
        """See `Directory.create_identity`."""
        self._kept.identity = Identity(
            member_id=member_id, directory_id=member_id ^ 1, cluster_id=cluster_id
        )
        return self._kept.identity

    async def open_log(self, notify: Any) -> tuple[Any, LogContents]:
        """See `Directory.open_log`."""
        log, contents = open_memory_log(self._kept.files)
        return PromptLog(log), contents

    async def finish_install(self, index: int | None) -> bool:
        """See `Directory.finish_install`."""
        return self._kept.database.finish_install(index)

    async def open_state(self) -> MemoryStateStore:
        """See `Directory.open_state`."""
        return MemoryStateStore(self._kept.database)

    def new_installer(self) -> MemoryInstaller:
        """See `Directory.new_installer`."""
        return MemoryInstaller(self._kept.database)

    def close(self) -> None:
        """Nothing is locked here."""


class MemoryMachine(ThisMachine):
    """Surroundings whose one data directory lies in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.files = MemoryFiles()
        self.database = MemoryDatabase()
        self.identity: Identity | None = None

    async def open_directory(self, path: str) -> Directory:
        """Give the one directory."""
        return MemoryDirectory(self)


class Target:
    """A member that receives snapshots: a replica on its disk, and what a node has around it.

    Attributes:
        published: (revision, events) of every entry that changed a key.
    """

    def __init__(self, path: Path, surroundings: Surroundings) -> None:
        self.path = path
        self.surroundings = surroundings
        self.published: list[tuple[int, Events]] = []
        self.failures: list[BaseException] = []
        self.seen_machines: list[Machine] = []
        self.let_go = 0
        self.scheduled = asyncio.Event()

    async def start(self) -> None:
        """Open the directory and build everything on it."""
        surroundings = self.surroundings
        surroundings.random = random.Random(5)
        self.booted = await boot(config(self.path), DOMAINS, surroundings, self._publish)
        self.replica = self.booted.replica
        self.persistence = Persistence(
            self.booted, entries_kept=100, on_failure=self.failures.append
        )
        keyspace = self.booted.machine.keyspace
        self.hub = WatchHub(keyspace.log, keyspace.compact_revision)
        self.installation = Installation(
            self.booted,
            self.persistence,
            self.hub,
            let_go=self._let_go,
            on_machine=self.seen_machines.append,
            schedule=self.scheduled.set,
        )
        self.receiver = SnapshotReceiver(
            self.booted.directory,
            DOMAINS,
            applied_index=lambda: self.machine.index,
            offer=self.installation.offer,
        )
        self.replica.set_time(1000, 1_700_000_000_000)

    def _publish(self, revision: int, events: Events) -> None:
        self.published.append((revision, events))
        self.hub.publish(revision, events)

    async def _let_go(self) -> None:
        self.let_go += 1

    @property
    def machine(self) -> Machine:
        """The replica's machine."""
        return self.replica.machine

    async def stop(self, *, flush: bool = True) -> None:
        """Close everything; without ``flush`` as after a crash, as far as it can be had."""
        await self.persistence.close(flush=flush)
        await asyncio.to_thread(self.booted.close)

    async def write(self, append: Append) -> None:
        """Make an append durable."""
        install = append.snapshot.metadata if append.snapshot else None
        done: asyncio.Future[StorageError | None] = asyncio.get_running_loop().create_future()
        batch = LogBatch(install, append.entries, append.hard_state)
        self.booted.log.submit(batch, done.set_result)
        error = await done
        assert error is None, error

    async def turn(self) -> None:
        """Do what a node does in a turn, in its order, until nothing is left."""
        while True:
            effects = self.replica.turn()
            for append in effects.appends:
                if append.entries or append.snapshot or append.must_sync:
                    await self.write(append)
                if self.installation.concerns(append):
                    await self.installation.commit(append)
                self.replica.persisted(append)
            if not effects.appends and not self.replica.has_committed:
                return
            while self.replica.apply():
                pass

    async def lead(self) -> None:
        """Become the leader of the group of one."""
        self.replica.raw.campaign()
        await self.turn()
        assert self.replica.is_leader

    async def receive(self, chunks: list[bytes], *, term: int = 0) -> asyncio.Task[None]:
        """Receive a snapshot up to the point at which the core has decided on it."""
        self.scheduled.clear()
        finishing = asyncio.ensure_future(self.take_in(chunks, term=term))
        deciding = asyncio.ensure_future(self.scheduled.wait())
        await asyncio.wait([finishing, deciding], return_when=asyncio.FIRST_COMPLETED)
        deciding.cancel()
        return finishing

    async def take_in(self, chunks: list[bytes], *, term: int = 0) -> None:
        """Receive a snapshot to its end, as the network does."""
        sink = self.receiver.open(LEADER, self.head(term))
        try:
            for chunk in chunks:
                await sink.write(chunk)
            await sink.finish()
        except BaseException:
            await sink.abort()
            raise

    def head(self, term: int = 0) -> bytes:
        """Give the message with which a leader announces a snapshot."""
        message = Message(
            MessageType.MSG_SNAP,
            self.booted.identity.member_id,
            LEADER,
            term or self.replica.raw.term + 1,
            snapshot=Snapshot(b"", SnapshotMetadata(self.machine.conf_state, 2, 1)),
        )
        return encode_message(message)

    async def catch_up(self) -> None:
        """Feed the watches that lag, as a node does."""
        while self.hub.is_lagging:
            for fetch in self.hub.catch_up(1000):
                rows = await self.persistence.old_revisions(fetch.first, fetch.last)
                keyspace = self.machine.keyspace
                kept = [row for row in rows if row[0] >= keyspace.compact_revision]
                past = keyspace.events_of_rows(kept, fetch.prev_kv)
                if past.missing:
                    past.fill(await self.persistence.old_values(past.missing))
                self.hub.feed(fetch, past.revisions)
