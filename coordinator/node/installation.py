"""A received snapshot takes the place of everything that a member holds.

The order, so that a crash at any step leaves a member that can start:

1. `offer` gives the snapshot to the consensus core. If the core takes it, nothing from before is
   applied any more, and the next append that the core asks for carries the snapshot.
2. The node makes that append durable. `LogBatch.install` notes the snapshot in the log: from here
   on the old state is void, and a start would do what `commit` does.
3. `commit` puts the new state database in the place of the old one, and in a single step lets go of
   the old machine: replica, persistence, watches and whoever asked to be told.
4. The node calls `Replica.persisted` for the append: only now may the core go on, and the leader
   hear of it.

From 1 to 3 the member answers from the old state; reads of the past wait while the database is
replaced. Watches keep their positions and catch up from the history in the new state, or are told
that it is gone.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from coordinator.replica import install
from coordinator.storage.errors import StateDamaged, StorageError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from coordinator.keyspace.watch import WatchHub
    from coordinator.node.boot import Booted
    from coordinator.node.persistence import Persistence
    from coordinator.node.snapshots import Installed
    from coordinator.replica.effects import Append
    from coordinator.replica.machine import Machine
    from coordinator.storage.ports import StatePort
    from coordinator.wire.raft import Message


class Installation:
    """Installs snapshots into a running member, one at a time.

    Args:
        booted: The member; its ``store`` and ``machine`` are replaced.
        persistence: What stands before the database.
        hub: The watches.
        let_go: Ends whatever else reads the database for long, such as snapshots to others.
        on_machine: Told of the new machine in the step in which it takes over, before those who
            wait to read are: whoever keeps a machine or a keyspace has to take the new one.
        schedule: Asks the node's loop for a turn.
    """

    def __init__(
        self,
        booted: Booted,
        persistence: Persistence,
        hub: WatchHub,
        *,
        let_go: Callable[[], Awaitable[None]],
        on_machine: Callable[[Machine], None],
        schedule: Callable[[], None],
    ) -> None:
        self._booted = booted
        self._persistence = persistence
        self._hub = hub
        self._let_go = let_go
        self._on_machine = on_machine
        self._schedule = schedule
        self._installed: Installed | None = None
        self._decided: asyncio.Future[bool] | None = None

    @property
    def is_pending(self) -> bool:
        """Whether a snapshot was offered and is neither installed nor refused."""
        return self._installed is not None

    async def offer(self, message: Message, installed: Installed) -> bool:
        """Offer a received snapshot to the core.

        Args:
            message: The MSG_SNAP, with the metadata of what was received.
            installed: What was received; removed if the core does not want it.

        Returns:
            Whether it was installed, once that is done.
        """
        if self._installed is not None:
            await installed.installer.abort()
            raise StorageError("another snapshot is being installed")
        replica = self._booted.replica
        replica.step(message)
        if not install.wants(replica, installed.index):
            self._schedule()
            await installed.installer.abort()
            return False
        install.stop_applying(replica)
        self._installed = installed
        self._decided = asyncio.get_running_loop().create_future()
        self._schedule()
        return await self._decided

    def concerns(self, append: Append) -> bool:
        """Tell whether an append carries a snapshot, so that `commit` stands before `persisted`."""
        return append.snapshot is not None

    async def commit(self, append: Append) -> None:
        """Install the snapshot of an append that the log has made durable.

        Not to be cancelled: until it is done, the member has no state database.

        Raises:
            StorageError: The disk failed; the member must stop, and its next start goes on.
        """
        installed, decided = self._installed, self._decided
        assert installed is not None, "what is installed was offered"
        assert decided is not None
        assert append.snapshot is not None
        assert append.snapshot.metadata.index == installed.index
        try:
            await self._swap(installed)
        except BaseException as error:
            if not decided.done():
                decided.set_exception(StorageError(f"the installation failed: {error}"))
                decided.exception()  # Whoever still waits is told; nobody need be.
            raise
        self._installed = self._decided = None
        if not decided.done():
            decided.set_result(True)

    async def _swap(self, installed: Installed) -> None:
        booted = self._booted
        await self._let_go()
        await self._persistence.release()
        if not await booted.directory.finish_install(installed.index):
            raise StateDamaged("the received snapshot has disappeared before it was installed")
        store = await booted.directory.open_state()
        try:
            if store.durable_index != installed.index:
                raise StateDamaged("the received snapshot is not what was installed")
            self._go_over(installed.machine, store)
        except BaseException:
            await store.close()
            raise

    def _go_over(self, machine: Machine, store: StatePort) -> None:
        """Let go of the old state. All at once: nobody may see one half of it."""
        booted = self._booted
        booted.store, booted.machine = store, machine
        self._persistence.resume(machine, store)
        self._on_machine(machine)
        self._hub.reset(machine.keyspace.log, machine.keyspace.compact_revision)
        install.take_over(booted.replica, machine)
        self._schedule()
