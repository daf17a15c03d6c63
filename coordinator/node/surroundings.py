"""What a member stands on: a disk, two clocks and a source of randomness.

Everything the node takes from its machine goes through here, so that a simulator can put
another machine underneath.
"""

from __future__ import annotations

import asyncio
import random
import time
from functools import partial
from typing import TYPE_CHECKING, Protocol

from coordinator.config import parse_url
from coordinator.metrics import DISK_BOUNDS, Histogram
from coordinator.storage.identity import DataDirectory
from coordinator.storage.snapshot import SnapshotInstaller, finish_install
from coordinator.storage.state import StateStore
from coordinator.storage.wal import open_log
from coordinator.tls.setup import peer_credentials
from coordinator.transport.network import StreamNetwork

if TYPE_CHECKING:
    from coordinator.config import Config
    from coordinator.storage.identity import Identity
    from coordinator.storage.ports import InstallerPort, LogPort, StatePort
    from coordinator.storage.recovery import LogContents
    from coordinator.storage.wal import Notify
    from coordinator.transport.ports import PeerNetwork


class Directory(Protocol):
    """A locked data directory and what is opened in it."""

    @property
    def identity(self) -> Identity | None:
        """Who it belongs to; None in a new directory."""

    def create_identity(self, member_id: int, cluster_id: int = 0) -> Identity:
        """Say whom a new directory belongs to, durably."""

    async def open_log(self, notify: Notify) -> tuple[LogPort, LogContents]:
        """Open the log, or begin one."""

    async def finish_install(self, index: int | None) -> bool:
        """Put the received snapshot that the log notes in the place of the state database.

        To be called while the database is not open, and before it is opened for the first time;
        see `snapshot.finish_install`.

        Args:
            index: The applied index of the snapshot that the log notes; None if it notes none.
        """

    async def open_state(self) -> StatePort:
        """Open the state database, or make one."""

    def new_installer(self) -> InstallerPort:
        """Begin to receive a snapshot beside the state database."""

    def close(self) -> None:
        """Let go of the lock."""


class Surroundings(Protocol):
    """A machine."""

    random: random.Random
    """Where ids and time-outs come from."""
    sync_times: Histogram
    """How long it took to make batches of the log durable."""

    async def open_directory(self, path: str) -> Directory:
        """Lock a data directory, creating it if need be."""

    def open_network(self, config: Config) -> PeerNetwork:
        """Give the network between members; it is not started yet."""

    def monotonic_ns(self) -> int:
        """Give nanoseconds on the clock that never jumps."""

    def wall_ms(self) -> int:
        """Give Unix time in milliseconds."""


class DiskDirectory:
    """A data directory on this machine's disk.

    Args:
        directory: The directory.
        sync_times: Counts how long the syncs of its log take.
    """

    def __init__(self, directory: DataDirectory, sync_times: Histogram | None = None) -> None:
        self._directory = directory
        self._on_sync = sync_times.observe if sync_times is not None else None
        self.create_identity = directory.create_identity
        self.close = directory.close

    @property
    def identity(self) -> Identity | None:
        """Who it belongs to; None in a new directory."""
        return self._directory.identity

    async def open_log(self, notify: Notify) -> tuple[LogPort, LogContents]:
        """Open the log, or begin one."""
        path = self._directory.log_path
        opening = partial(open_log, path, notify=notify, on_sync=self._on_sync)
        return await asyncio.to_thread(opening)

    async def finish_install(self, index: int | None) -> bool:
        """Put the received snapshot that the log notes in the place of the state database."""
        return await asyncio.to_thread(finish_install, self._directory.state_path, index)

    def new_installer(self) -> InstallerPort:
        """Begin to receive a snapshot beside the state database."""
        return SnapshotInstaller(self._directory.state_path)

    async def open_state(self) -> StatePort:
        """Open the state database, or make one."""
        return await StateStore.open(self._directory.state_path)


class ThisMachine:
    """This machine."""

    def __init__(self) -> None:
        self.random: random.Random = random.SystemRandom()
        self.monotonic_ns = time.monotonic_ns
        self.sync_times = Histogram(DISK_BOUNDS)

    async def open_directory(self, path: str) -> Directory:
        """Lock a data directory, creating it if need be."""
        found = await asyncio.to_thread(DataDirectory.open, path)
        return DiskDirectory(found, self.sync_times)

    def open_network(self, config: Config) -> PeerNetwork:
        """Give the network between members; it is not started yet."""
        return StreamNetwork(
            [parse_url(url) for url in config.listen_peer_urls],
            credentials=peer_credentials(config),
        )

    def wall_ms(self) -> int:
        """Give Unix time in milliseconds."""
        return time.time_ns() // 1_000_000
