"""Snapshots between members: sending one's own state, receiving another's.

Sender: for every MSG_SNAP of the core, one pinned read of the state database goes out on a
connection of its own. The state in it may be later than the one that the core asked for.

Receiver: the rows go to a database beside the real one; once they are complete and durable, the
state machine is built from that very file while everything else goes on, and both are offered to
the node. `installation.py` has the rest of the way.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from coordinator.node.loading import load_machine
from coordinator.replica.machine import Machine
from coordinator.storage.errors import ArchiveDamaged, StorageError
from coordinator.storage.ports import InstallerPort
from coordinator.transport.errors import TransportError
from coordinator.wire.raft import (
    Message,
    MessageType,
    Snapshot,
    SnapshotMetadata,
    decode_message,
    encode_message,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from coordinator.node.persistence import Persistence
    from coordinator.node.surroundings import Directory
    from coordinator.replica.domain import Domain
    from coordinator.transport.ports import PeerNetwork

_log = logging.getLogger("coordinator.node.snapshots")

SENDING_MAX: Final = 2
"""Snapshots that are streamed at a time; others wait for their turn."""
FLUSH_SECONDS: Final = 60.0
"""How long to wait for the state database to catch up; longer only if the disk is full."""
PAUSE_SECONDS_MIN: Final = 0.5
PAUSE_SECONDS_MAX: Final = 5.0
"""How long a member that did not take its snapshot is left alone; doubled with every failure."""
LOOK_SECONDS: Final = 0.1
PATIENCE_SECONDS: Final = 30.0
"""How long entries are kept for a member that has its snapshot and does not move."""
CLOSE_ENTRIES: Final = 1000
"""So few entries behind, a member needs nothing kept for it."""


class SnapshotSender:
    """Sends snapshots to members that need entries which the log no longer has.

    Args:
        network: What streams them.
        persistence: Where the state lies.
        match_of: Gives how far the log of a member is known to agree with ours; None if this
            member does not lead or there is no such member.
        last_index: Gives the last index of our log.
        sending_max: How many to stream at a time.
    """

    def __init__(
        self,
        network: PeerNetwork,
        persistence: Persistence,
        *,
        match_of: Callable[[int], int | None],
        last_index: Callable[[], int],
        sending_max: int = SENDING_MAX,
    ) -> None:
        self._network = network
        self._persistence = persistence
        self._match_of = match_of
        self._last_index = last_index
        self._slots = asyncio.Semaphore(sending_max)
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._failures: dict[int, int] = {}

    @property
    def sending_to(self) -> list[int]:
        """The members that a snapshot is under way to, or that catch up after one."""
        return sorted(self._tasks)

    def send(self, message: Message, done: Callable[[bool], None]) -> None:
        """Begin to send a snapshot; one under way to the same member is given up.

        Args:
            message: The MSG_SNAP, whose snapshot is a mere reference.
            done: Told once whether it was delivered; never told of one that was given up.
        """
        assert message.snapshot is not None, message
        member = message.to
        self._give_up(member)
        self._persistence.pin(member, message.snapshot.metadata.index)
        task = asyncio.create_task(self._run(message, done), name=f"snapshot to {member:016x}")
        self._tasks[member] = task
        task.add_done_callback(lambda task: self._ended(member, task))

    async def stop(self) -> None:
        """Give up everything under way, and let go of the state database."""
        tasks = list(self._tasks.values())
        for member in tuple(self._tasks):
            self._give_up(member)
        await asyncio.gather(*tasks, return_exceptions=True)

    def _give_up(self, member: int) -> None:
        task = self._tasks.pop(member, None)
        if task is not None:
            task.cancel()
            self._persistence.unpin(member)

    def _ended(self, member: int, task: asyncio.Task[None]) -> None:
        if self._tasks.get(member) is task:
            del self._tasks[member]
            self._persistence.unpin(member)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("sending a snapshot failed by a mistake of ours", exc_info=error)

    async def _run(self, message: Message, done: Callable[[bool], None]) -> None:
        delivered = False
        try:
            async with self._slots:
                delivered = await self._stream(message)
        except asyncio.CancelledError:
            raise
        except BaseException:
            done(False)
            raise
        if not delivered:
            # The core asks again at once, whatever stands in the way.
            await asyncio.sleep(self._pause_after_failure(message.to))
        done(delivered)
        if delivered:
            self._failures.pop(message.to, None)
            await self._see_it_catch_up(message.to)

    def _pause_after_failure(self, member: int) -> float:
        failures = self._failures.get(member, 0)
        self._failures[member] = failures + 1
        return min(PAUSE_SECONDS_MAX, PAUSE_SECONDS_MIN * (1 << min(failures, 16)))

    async def _stream(self, message: Message) -> bool:
        """Stream the state; tells whether the member has taken it."""
        assert message.snapshot is not None
        member, index = message.to, message.snapshot.metadata.index
        try:
            async with asyncio.timeout(FLUSH_SECONDS):
                durable_index = await self._persistence.flush()
            assert durable_index >= index, (durable_index, index)
            _log.info("sending a snapshot at index %d to member %016x", durable_index, member)
            async with contextlib.aclosing(self._persistence.read_snapshot()) as chunks:
                await self._network.send_snapshot(member, encode_message(message), chunks)
        except (TransportError, StorageError, TimeoutError) as error:
            _log.warning("the snapshot to member %016x was not delivered: %s", member, error)
            return False
        _log.info("member %016x has taken the snapshot", member)
        return True

    async def _see_it_catch_up(self, member: int) -> None:
        """Keep the entries that a member needs after its snapshot, until it has nearly all."""
        last_seen = -1
        deadline = 0.0
        now = asyncio.get_running_loop().time
        while (match := self._match_of(member)) is not None:
            if match + CLOSE_ENTRIES >= self._last_index():
                return
            if match > last_seen:
                last_seen, deadline = match, now() + PATIENCE_SECONDS
                # What it lacks begins after its snapshot, which it may not have reported yet.
                self._persistence.raise_pin(member, match)
            elif now() >= deadline:
                return
            await asyncio.sleep(LOOK_SECONDS)


@dataclass(slots=True)
class Installed:
    """A snapshot that lies beside the state database, complete and durable.

    Attributes:
        machine: The state machine, built from it.
        installer: Removes it again with ``abort``.
    """

    machine: Machine
    installer: InstallerPort

    @property
    def index(self) -> int:
        """The applied index of the snapshot."""
        return self.machine.index


class SnapshotReceiver:
    """Receives snapshots, one at a time: a later one takes the place of one still coming in.

    Args:
        directory: Where the state database is.
        domains: The domains of the machine to build.
        applied_index: Gives how far this member has applied.
        offer: Takes what was received over, or removes it; tells which once that is done.
    """

    def __init__(
        self,
        directory: Directory,
        domains: Sequence[Domain],
        *,
        applied_index: Callable[[], int],
        offer: Callable[[Message, Installed], Coroutine[None, None, bool]],
    ) -> None:
        self._directory = directory
        self._domains = domains
        self._applied_index = applied_index
        self._offer = offer
        self._current: _Incoming | None = None

    def open(self, member: int, head: bytes) -> _Incoming:
        """Begin to receive a snapshot: what the network asks for, as a `SnapshotSink`.

        Args:
            member: Who sends it.
            head: The encoded MSG_SNAP.

        Raises:
            ArchiveDamaged: The head is not that of a snapshot for this member's group.
            StorageError: Another one is complete and being installed.
        """
        try:
            message = decode_message(head)
        except msgspec.DecodeError as error:
            raise ArchiveDamaged(f"the snapshot has an unreadable head: {error}") from None
        if (
            message.type != MessageType.MSG_SNAP
            or message.from_ != member
            or message.snapshot is None
        ):
            raise ArchiveDamaged("the snapshot has the head of something else")
        before = self._current
        if before is not None and before.is_complete:
            raise StorageError("another snapshot is being installed")
        self._current = _Incoming(self, message, before)
        return self._current

    async def stop(self) -> None:
        """Give up what is coming in."""
        if self._current is not None and not self._current.is_complete:
            await self._current.abort()

    async def _build(self, installer: InstallerPort) -> Machine:
        """Build the machine from what was received, leaving the loop to others in between."""
        store = await installer.open()
        try:
            return await load_machine(self._domains, store, _pause)
        finally:
            await store.close()


async def _pause() -> None:
    await asyncio.sleep(0)


class _Incoming:
    """One snapshot coming in; a `SnapshotSink`.

    Attributes:
        is_complete: Whether everything is there, so that nothing may take its place any more.
    """

    def __init__(
        self, receiver: SnapshotReceiver, message: Message, before: _Incoming | None
    ) -> None:
        self.is_complete = False
        self._receiver = receiver
        self._message = message
        self._before = before
        self._installer: InstallerPort | None = None
        self._is_over = False
        self._one_at_a_time = asyncio.Lock()

    async def write(self, chunk: bytes) -> None:
        """Take the next chunk.

        Raises:
            StorageError: It is damaged, of no use, or can't be written; `abort` is left.
        """
        if self._before is not None:
            # It writes to the same file: it must be gone before this one begins.
            before, self._before = self._before, None
            await before.abort()
        async with self._one_at_a_time:
            self._require_current()
            if self._installer is None:
                self._installer = self._receiver._directory.new_installer()
            await self._installer.write(chunk)
            self._require_useful()

    def _require_current(self) -> None:
        if self._is_over or self._receiver._current is not self:
            raise StorageError("the snapshot was given up for another one")

    def _require_useful(self) -> None:
        """Refuse a snapshot of what is here already; the log does the rest."""
        assert self._installer is not None
        header = self._installer.header
        if header is not None:
            index = header.fact("applied_index")
            if not isinstance(index, int) or index <= self._receiver._applied_index():
                raise StorageError(f"the state at index {index} is here already")

    async def finish(self) -> None:
        """Take the snapshot over; returns once it is installed, or was not needed any more.

        Raises:
            StorageError: It is incomplete or damaged, or the disk failed.
        """
        async with self._one_at_a_time:
            self._require_current()
            if self._installer is None:
                raise ArchiveDamaged("the snapshot is incomplete")
            self.is_complete = True
            try:
                await self._installer.finish()
                machine = await self._receiver._build(self._installer)
            except BaseException:
                self.is_complete = False
                raise
            metadata = SnapshotMetadata(machine.conf_state, machine.index, machine.term)
            message = msgspec.structs.replace(self._message, snapshot=Snapshot(b"", metadata))
            self._is_over = True
            # The network may give up waiting; the installation may not be given up any more.
            offering = asyncio.ensure_future(
                self._receiver._offer(message, Installed(machine, self._installer))
            )
            offering.add_done_callback(lambda _: self._leave())
            await asyncio.shield(offering)

    async def abort(self) -> None:
        """Remove what was written."""
        async with self._one_at_a_time:
            if self._is_over:
                return
            self._is_over = True
            try:
                if self._before is not None:
                    before, self._before = self._before, None
                    await before.abort()
                if self._installer is not None:
                    await self._installer.abort()
            finally:
                self._leave()

    def _leave(self) -> None:
        if self._receiver._current is self:
            self._receiver._current = None
