"""Members on simulated machines: started, paused, crashed, restarted, and recorded.

One member for now; everything that belongs to a member hangs on its `Host`.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import replace

from coordinator.config import Config
from coordinator.domains import DOMAINS
from coordinator.node.node import Node
from tests.simulation.clock import Life, VirtualLoop
from tests.simulation.disk import Directory, Disk

EPOCH_MS = 1_700_000_000_000


class Surroundings:
    """The machine under a member: its clocks, its randomness, its disk."""

    def __init__(self, host: Host, seed: int) -> None:
        self._host = host
        self.random = random.Random(seed)

    async def open_directory(self, path: str) -> Directory:
        """Open the only data directory there is."""
        return Directory(self._host.disk)

    def monotonic_ns(self) -> int:
        """Give nanoseconds on a clock that never jumps, and starts anew with every boot."""
        return int((self._host.loop.now - self._host.booted_at) * 1e9)

    def wall_ms(self) -> int:
        """Give what the machine takes for Unix time."""
        return EPOCH_MS + int(self._host.loop.now * 1000) + self._host.wall_offset_ms


class Host:
    """A machine with a disk, and the member that runs on it, if it runs."""

    def __init__(self, loop: VirtualLoop, rng: random.Random) -> None:
        self.loop = loop
        self.disk = Disk(loop, random.Random(rng.getrandbits(64)))
        self.counts: Counter[str] = Counter()
        self.wall_offset_ms = 0
        self.booted_at = loop.now
        self.life: Life | None = None
        self.lives: list[Life] = []
        self.node: Node | None = None
        self.failures: list[BaseException] = []
        self._rng = rng
        self._running: asyncio.Task[None] | None = None
        self.config = replace(
            Config(),
            data_dir="simulated",
            heartbeat_interval=50,
            election_timeout=500,
            snapshot_count=200,
            quota_backend_bytes=600_000,
            auto_compaction_retention="0",
        )

    @property
    def is_serving(self) -> bool:
        """Whether clients may connect."""
        return self.node is not None and self.node.is_ready()

    def boot(self) -> None:
        """Start the member."""
        assert self.life is None
        self.life = Life(self.loop)
        self.lives.append(self.life)
        self.booted_at = self.loop.now - self._rng.random() * 1000
        node = Node(self.config, DOMAINS, Surroundings(self, self._rng.getrandbits(64)))
        self._running = self.life.start(self._run(node))

    @property
    def has_ended(self) -> bool:
        """Whether the member's process has ended by itself."""
        return self._running is not None and self._running.done()

    async def _run(self, node: Node) -> None:
        try:
            await node.start()
            self.node = node
            self.counts["starts"] += 1
            await node.stopped.wait()
        except Exception as error:
            node.failure = node.failure or error
        if node.failure is not None:
            self.failures.append(node.failure)
            self.counts["failures"] += 1
        self.node = None

    def crash(self) -> None:
        """Cut the power of the machine."""
        self.counts["crashes"] += 1
        self._end()
        self.disk.cut_power()

    def _end(self) -> None:
        life, self.life, self.node = self.life, None, None
        if life is not None:
            life.end()

    def exit(self) -> None:
        """The process is gone; the machine runs on, and so does its cache."""
        self._end()

    async def stop(self) -> None:
        """Stop the member in good order, and wait for it."""
        node, life = self.node, self.life
        if node is not None and life is not None:
            self.node = None
            task = life.start(node.stop())
            while not task.done() and self.life is life:  # noqa: ASYNC110 - in virtual time
                await asyncio.sleep(0.01)
        self._end()

    def pause(self, seconds: float) -> None:
        """Stop the member's process for a while."""
        if self.life is not None:
            self.counts["pauses"] += 1
            self.life.pause(seconds)
