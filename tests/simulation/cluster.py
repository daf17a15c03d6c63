"""Members on simulated machines: started, paused, crashed, restarted, added and removed."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, deque
from dataclasses import dataclass, field, replace
from typing import Any

from coordinator.config import Config, ConfigError
from coordinator.domains import DOMAINS
from coordinator.metrics import Histogram
from coordinator.node.bootstrap import CannotJoin
from coordinator.node.group import MembershipEnded
from coordinator.node.node import Node
from coordinator.raft import StateType
from coordinator.replica.domain import Domain
from coordinator.storage.errors import LogDamaged, StorageError
from coordinator.transport.memory import MemoryNetwork, MemorySwitchboard
from tests.simulation.clock import Life, VirtualLoop
from tests.simulation.disk import Directory, Disk

EPOCH_MS = 1_700_000_000_000
DRIFT_MAX = 0.001
"""How much faster or slower a machine's clock runs, at most."""
TRACE_EVENTS = 60


class Surroundings:
    """The machine under a member: its clocks, its randomness, its disk, its way to the others."""

    def __init__(self, host: Host, seed: int) -> None:
        self._host = host
        self.random = random.Random(seed)
        self.sync_times = Histogram()

    async def open_directory(self, path: str) -> Directory:
        """Open the only data directory there is."""
        return Directory(self._host.disk)

    def open_network(self, config: Config) -> MemoryNetwork:
        """Give the network between members."""
        return self._host.open_network()

    def monotonic_ns(self) -> int:
        """Give nanoseconds on a clock that never jumps, and starts anew with every boot."""
        host = self._host
        return int((host.loop.now - host.booted_at) * host.pace * 1e9)

    def wall_ms(self) -> int:
        """Give what the machine takes for Unix time."""
        return EPOCH_MS + int(self._host.loop.now * 1000) + self._host.wall_offset_ms


class Host:
    """A machine with a disk, and the member that runs on it, if it runs.

    Attributes:
        name: Of the machine and of the member.
        pace: How quick its clock runs.
        is_removed: The member is no longer wanted; nobody starts it again.
        is_leaving: Its removal has been asked for.
        is_spoiled: Its disk has lost what was durable: it can only be replaced.
    """

    def __init__(self, cluster: Cluster, name: str, config: Config) -> None:
        self.cluster = cluster
        self.name = name
        self.config = config
        self.loop = cluster.loop
        self._rng = cluster.fork()
        self.disk = Disk(self.loop, cluster.fork())
        self.counts = cluster.counts
        self.wall_offset_ms = self._rng.choice((0, 0, -3000, 250, 90_000))
        self.pace = 1 + DRIFT_MAX * (2 * self._rng.random() - 1)
        self.booted_at = self.loop.now
        self.life: Life | None = None
        self.node: Node | None = None
        self.network: MemoryNetwork | None = None
        self.is_removed = False
        self.is_leaving = False
        self.is_spoiled = False
        self._running: asyncio.Task[None] | None = None

    @property
    def is_serving(self) -> bool:
        """Whether clients may connect."""
        return self.node is not None and self.node.is_ready()

    @property
    def is_leading(self) -> bool:
        """Whether its member takes itself for the leader."""
        return self.node is not None and self.node.replica.is_leader

    @property
    def is_candidate(self) -> bool:
        """Whether its member stands for election, really."""
        return self.node is not None and self.node.replica.raw.raft.state == StateType.CANDIDATE

    def open_network(self) -> MemoryNetwork:
        """Give the member of this life its network."""
        urls = self.config.listen_peer_urls
        self.network = self.cluster.switchboard.open(self.name, urls)
        return self.network

    def boot(self) -> None:
        """Start the member."""
        assert self.life is None
        self.life = Life(self.loop)
        self.cluster.lives.append(self.life)
        self.booted_at = self.loop.now - self._rng.random() * 1000
        if self.config.initial_cluster_state == "existing":
            # Whoever starts it says who the members are now.
            self.config = replace(self.config, initial_cluster=self.cluster.initial_cluster())
        node = Node(self.config, DOMAINS, Surroundings(self, self._rng.getrandbits(64)))
        self.cluster.nodes.append(node)
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
            self._note_failure(node.failure)
        self.node = None
        self._leave_network(is_silent=False)

    def _note_failure(self, failure: BaseException) -> None:
        self.counts["failures"] += 1
        self.cluster.note(f"{self.name} failed: {failure!r}")
        if isinstance(failure, LogDamaged) and self.is_spoiled:
            self.counts["damaged logs"] += 1
        elif isinstance(failure, MembershipEnded) and self.is_spoiled:
            self.counts["wiped members refused"] += 1
        elif isinstance(failure, MembershipEnded) and self.is_leaving:
            self.counts["members that left"] += 1
        elif isinstance(failure, CannotJoin):
            self.counts["joins refused"] += 1  # Those it asked may lag behind; it tries again.
        elif isinstance(failure, ConfigError) and self.disk.identity is None:
            # Its flags name the members there are: it was removed again before it had begun.
            self.counts["joins refused"] += 1
        elif not isinstance(failure, StorageError) or isinstance(failure, LogDamaged):
            self.cluster.complain(f"{self.name} stopped over {failure!r}")

    def _leave_network(self, *, is_silent: bool) -> None:
        if self.network is not None and not self.network.is_over:
            self.cluster.switchboard.end(self.network, is_silent=is_silent)

    def wipe(self) -> None:
        """Lose the disk; a new one takes its place."""
        assert self.life is None
        self.disk = Disk(self.loop, self.cluster.fork())
        self.is_spoiled = True

    def crash(self) -> None:
        """Cut the power of the machine."""
        self.counts["crashes"] += 1
        self.cluster.note(f"{self.name} loses power")
        self._end(is_silent=True)
        self.disk.cut_power()

    def _end(self, *, is_silent: bool) -> None:
        life, self.life, self.node = self.life, None, None
        if life is not None:
            life.end()
        self._leave_network(is_silent=is_silent)

    def exit(self) -> None:
        """The process is gone; the machine runs on, and so does its cache."""
        self._end(is_silent=False)

    def kill(self) -> None:
        """End the process, as by SIGKILL."""
        self.counts["kills"] += 1
        self.cluster.note(f"{self.name} is killed")
        self.exit()

    async def stop(self) -> None:
        """Stop the member in good order, and wait for it."""
        node, life = self.node, self.life
        if node is not None and life is not None:
            self.cluster.note(f"{self.name} stops in good order")
            task = life.start(node.stop())
            while not task.done() and self.life is life:  # noqa: ASYNC110 - in virtual time
                await asyncio.sleep(0.01)
        if self.life is life:
            self._end(is_silent=False)

    def pause(self, seconds: float) -> None:
        """Stop the member's process for a while."""
        if self.life is not None:
            self.counts["pauses"] += 1
            self.cluster.note(f"{self.name} pauses for {seconds} s")
            self.life.pause(seconds)


@dataclass
class Cluster:
    """All machines, and what lies between them.

    Attributes:
        hosts: Every machine there has ever been, in the order in which they came.
        lives: Every run of every member.
        nodes: The member of each of those runs.
        trace: What happened lately, for people.
        complaints: Broken promises, noted while it ran.
    """

    loop: VirtualLoop
    rng: random.Random
    size: int
    snapshot_count: int = 200
    hosts: list[Host] = field(default_factory=list)
    lives: list[Life] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    trace: deque[str] = field(default_factory=lambda: deque(maxlen=TRACE_EVENTS))
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Set up the machines of the first members."""
        self.latency_seconds = 0.002
        self.switchboard = MemorySwitchboard(self.fork(), self._latency)
        urls = {f"n{number}": peer_url(number) for number in range(1, self.size + 1)}
        initial = ",".join(f"{name}={url}" for name, url in urls.items())
        for name, url in urls.items():
            self.hosts.append(Host(self, name, self._config(name, url, initial, "new")))

    def _latency(self, source: str, target: str) -> float:
        return self.switchboard.rng.random() * self.latency_seconds

    def fork(self) -> random.Random:
        """Give a generator of its own to a part."""
        return random.Random(self.rng.getrandbits(64))

    def _config(self, name: str, url: str, initial: str, state: str) -> Config:
        config = replace(
            Config(),
            name=name,
            data_dir="simulated",
            heartbeat_interval=50,
            election_timeout=500,
            snapshot_count=self.snapshot_count,
            quota_backend_bytes=600_000,
            auto_compaction_retention="0",
            advertise_client_urls=(f"http://{name}",),
            listen_peer_urls=(url,),
            initial_advertise_peer_urls=(url,),
        )
        if self.size == 1 and state == "new":
            return config
        return replace(config, initial_cluster=initial, initial_cluster_state=state)

    def add_host(self) -> Host:
        """Set up one more machine, whose member is to join; it counts once that is allowed."""
        number = len(self.hosts) + 1
        name, url = f"n{number}", peer_url(number)
        host = Host(self, name, self._config(name, url, "", "existing"))
        host.is_removed = True
        self.hosts.append(host)
        return host

    def initial_cluster(self) -> str:
        """Give what `--initial-cluster` has to say to one that joins."""
        return ",".join(f"{host.name}={host.config.listen_peer_urls[0]}" for host in self.wanted)

    @property
    def wanted(self) -> list[Host]:
        """The machines whose members belong to the cluster."""
        return [host for host in self.hosts if not host.is_removed]

    @property
    def leader(self) -> Host | None:
        """The machine of the newest leader."""
        leading = [host for host in self.hosts if host.is_leading and host.node is not None]
        return max(leading, key=lambda host: host.node.term, default=None)  # type: ignore[union-attr]

    def let_go(self) -> None:
        """After the run: break up members, for the garbage collector does not see all cycles.

        Proposals and reads that wait hold whoever waits for them, and are hidden from it.
        """
        pending: list[Any] = list(self.nodes)
        seen: dict[int, None] = {}
        while pending:
            part = pending.pop()
            room = type(part).__module__
            is_part = room.startswith(("coordinator.node", "coordinator.replica"))
            if id(part) in seen or not is_part or not hasattr(part, "__dict__"):
                continue
            if isinstance(part, Domain):
                continue
            seen[id(part)] = None
            pending += part.__dict__.values()
            part.__dict__.clear()

    def note(self, text: str) -> None:
        """Remember something that happened, for people."""
        self.trace.append(f"{self.loop.now:.3f}: {text}")

    def complain(self, text: str) -> None:
        """Note a broken promise."""
        self.complaints.append(f"{self.loop.now:.3f}: {text}")


def peer_url(number: int) -> str:
    """Give the address of a machine."""
    return f"http://10.0.0.{number}:2380"
