"""What goes wrong in a run: which faults, how often and how strong is drawn anew for every seed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from coordinator.wire.peer import PeerFrame, decode_frame, encode_frame
from tests.simulation.cluster import Cluster, Host

Fault = Callable[[], Coroutine[Any, Any, None] | None]

ALONE: dict[str, int] = {
    "crash": 30,
    "kill": 6,
    "pause": 15,
    "slow disk": 12,
    "failed sync": 8,
    "failed database": 8,
    "full disk": 10,
    "clock jump": 8,
    "restart": 6,
}
"""What may happen to any member, and how often compared with the others."""

TOGETHER: dict[str, int] = {
    "crash of all": 5,
    "crash of many": 6,
    "crash of the leader": 8,
    "pause of the leader": 8,
    "isolation": 12,
    "isolation of the leader": 14,
    "division": 10,
    "bridge": 6,
    "one-way cut": 14,
    "broken link": 14,
    "slow network": 8,
    "spoiled disk": 4,
    "wiped disk": 4,
    "crash in an election": 14,
    "cut in an election": 10,
    "crash behind a cut": 8,
}
"""What takes several members."""

PAUSES = (0.05, 0.3, 1.0, 3.0)
ELECTION_LOOKS = 300
ELECTION_LOOK_SECONDS = 0.003


@dataclass(frozen=True)
class Profile:
    """What a hunt for one kind of mistake wants of every seed; the rest is drawn as always.

    Attributes:
        weights: The only faults that happen, and how often compared with one another.
        pace_seconds: Pause between two faults, at most.
        mend_seconds: How long a cut lasts, at most.
        snapshot_count: Entries that a log keeps.
        more: Names of the jobs of further clients (see `Workload`).
    """

    weights: dict[str, float] | None = None
    pace_seconds: float | None = None
    mend_seconds: float | None = None
    snapshot_count: int | None = None
    more: tuple[str, ...] = ()


AS_DRAWN = Profile()


@dataclass
class Plan:
    """The faults of one seed.

    Attributes:
        weights: How often each fault happens, compared with the others.
        pace_seconds: Pause between two faults, at most.
        loss: Share of the frames between members that are lost without their link breaking.
        repetition: Share that arrive more than once.
        overtaking: Share that are overtaken by later ones.
        mend_seconds: How long a cut lasts, at most.
        is_stormy: One fault follows the other, and clients are few.
    """

    weights: dict[str, float]
    pace_seconds: float
    loss: float = 0.0
    repetition: float = 0.0
    overtaking: float = 0.0
    mend_seconds: float = 2.0
    is_stormy: bool = False

    @classmethod
    def draw(cls, rng: random.Random, size: int) -> Plan:
        """Draw one: a few kinds of faults each time, some of them often."""
        kinds = ALONE if size == 1 else {**ALONE, **TOGETHER}
        share = rng.choice((0.3, 0.6, 0.9))
        weights = {
            kind: weight * rng.choice((0.5, 1.0, 3.0))
            for kind, weight in kinds.items()
            if rng.random() < share
        }
        plan = cls(weights or {"crash": 1.0}, rng.choice((0.6, 1.6, 2.5)))
        if rng.random() < 0.4:
            plan.loss = rng.choice((0.0, 0.002, 0.03))
            plan.repetition = rng.choice((0.0, 0.01, 0.1))
            plan.overtaking = rng.choice((0.0, 0.01, 0.1))
        plan.mend_seconds = rng.choice((0.5, 2.0, 4.0))
        if size > 1 and rng.random() < 0.35:
            plan.is_stormy = True
            plan.pace_seconds = rng.choice((0.2, 0.5))
            for kind in ("crash in an election", "crash behind a cut", "isolation of the leader"):
                plan.weights[kind] = 30.0
        return plan

    def follow(self, profile: Profile) -> Plan:
        """Do what a profile wants."""
        if profile.weights is not None:
            self.weights = dict(profile.weights)
        if profile.pace_seconds is not None:
            self.pace_seconds = profile.pace_seconds
        if profile.mend_seconds is not None:
            self.mend_seconds = profile.mend_seconds
        return self


@dataclass
class Faults:
    """Makes them happen."""

    cluster: Cluster
    plan: Plan
    rng: random.Random
    wiped: dict[int, None]
    """Takes the ids of members that lose their disk."""
    kinds: dict[str, Fault] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Name the faults."""
        self.kinds = {
            "crash": self._crash,
            "kill": self._kill,
            "pause": self._pause,
            "slow disk": self._slow_disk,
            "failed sync": self._failed_sync,
            "failed database": self._failed_database,
            "full disk": self._full_disk,
            "clock jump": self._clock_jump,
            "restart": self._restart,
            "crash of all": self._crash_of_all,
            "crash of many": self._crash_of_many,
            "crash of the leader": self._crash_of_leader,
            "pause of the leader": self._pause_of_leader,
            "isolation": self._isolation,
            "isolation of the leader": self._isolation_of_leader,
            "division": self._division,
            "bridge": self._bridge,
            "one-way cut": self._one_way_cut,
            "broken link": self._broken_link,
            "slow network": self._slow_network,
            "spoiled disk": self._spoiled_disk,
            "wiped disk": self._wiped_disk,
            "crash in an election": self._crash_in_election,
            "cut in an election": self._cut_in_election,
            "crash behind a cut": self._crash_behind_cut,
        }

    async def inject(self, seconds: float) -> None:
        """Let faults happen for a while."""
        plan, loop = self.plan, self.cluster.loop
        if plan.loss or plan.repetition or plan.overtaking:
            self.cluster.switchboard.fate = self._fate
        end = loop.now + seconds
        await asyncio.sleep(1.0)
        while loop.now < end:
            kind = self.rng.choices(list(plan.weights), list(plan.weights.values()))[0]
            done = self.kinds[kind]()
            if done is not None:
                await done
            await asyncio.sleep(self.rng.random() * plan.pace_seconds)

    def heal(self) -> None:
        """Let everything work again."""
        cluster = self.cluster
        cluster.note("everything is healed")
        cluster.switchboard.fate = None
        cluster.switchboard.mend_all()
        cluster.latency_seconds = 0.002
        for host in cluster.hosts:
            host.disk.heal()
            if host.life is None and not host.is_removed:
                host.boot()

    def _count(self, name: str) -> None:
        self.cluster.counts[name] += 1

    def _later(self, seconds: float, call: Callable[[], object]) -> None:
        self.cluster.loop.call_later(self.rng.random() * seconds, call)

    def _any(self) -> Host:
        return self.rng.choice(self.cluster.wanted)

    # One member.

    async def _crash(self, host: Host | None = None) -> None:
        host = host or self._any()
        if host.life is None:
            return
        host.crash()
        await asyncio.sleep(self.rng.random() * 0.8)
        if host.life is None and not host.is_removed:
            host.boot()

    async def _kill(self) -> None:
        host = self._any()
        if host.life is None:
            return
        host.kill()
        await asyncio.sleep(self.rng.random() * 0.3)
        if host.life is None and not host.is_removed:
            host.boot()

    def _pause(self) -> None:
        self._any().pause(self.rng.choice(PAUSES))

    def _slow_disk(self) -> None:
        self._count("slow disks")
        disk = self._any().disk
        disk.latency = self.rng.choice((0.02, 0.2, 1.0))
        self._later(3, disk.be_quick)

    def _failed_sync(self) -> None:
        self._count("failed syncs")
        self._any().disk.fail_sync()

    def _failed_database(self) -> None:
        self._count("failed databases")
        self._any().disk.fail_database()

    def _full_disk(self) -> None:
        self._count("full disks")
        disk = self._any().disk
        disk.fill()
        self._later(3, disk.empty)

    def _clock_jump(self) -> None:
        self._count("clock jumps")
        self._any().wall_offset_ms += self.rng.choice((-3_600_000, -500, 500, 3_600_000))

    async def _restart(self) -> None:
        host = self._any()
        if host.is_serving:
            self._count("restarts in good order")
            await host.stop()
            if host.life is None and not host.is_removed:
                host.boot()

    # Several members.

    async def _crash_of_all(self) -> None:
        await self._crash_hosts(list(self.cluster.wanted))

    async def _crash_of_many(self) -> None:
        wanted = self.cluster.wanted
        await self._crash_hosts(self.rng.sample(wanted, self.rng.randint(2, len(wanted))))

    async def _crash_hosts(self, hosts: list[Host]) -> None:
        for host in hosts:
            if host.life is not None:
                host.crash()
        self.rng.shuffle(hosts)
        for host in hosts:
            await asyncio.sleep(self.rng.random() * 0.4)
            if host.life is None and not host.is_removed:
                host.boot()

    async def _crash_of_leader(self) -> None:
        if self.cluster.leader is not None:
            await self._crash(self.cluster.leader)

    def _pause_of_leader(self) -> None:
        if self.cluster.leader is not None:
            self.cluster.leader.pause(self.rng.choice(PAUSES))

    async def _until_election(self) -> bool:
        """Wait until somebody stands for election, or has just done so; not for long."""
        for _ in range(ELECTION_LOOKS):
            for host in self.cluster.wanted:
                if host.is_candidate:
                    return True
            await asyncio.sleep(ELECTION_LOOK_SECONDS)
        return False

    async def _crash_in_election(self) -> None:
        """Cut the power of one or more while votes are given, and only for a moment."""
        leader = self.cluster.leader
        if leader is not None and self.rng.random() < 0.5:
            self._isolation(leader)
        if not await self._until_election():
            return
        self._count("crashes in elections")
        await asyncio.sleep(self.rng.random() * 0.01)
        wanted = self.cluster.wanted
        hosts = self.rng.sample(wanted, self.rng.randint(1, len(wanted)))
        for host in hosts:
            if host.life is not None:
                host.crash()
        await asyncio.sleep(self.rng.random() * 0.05)
        for host in hosts:
            if host.life is None and not host.is_removed:
                host.boot()

    async def _cut_in_election(self) -> None:
        """Separate members while votes are given."""
        if await self._until_election():
            await asyncio.sleep(self.rng.random() * 0.01)
            self.rng.choice((self._isolation, self._division, self._one_way_cut))()

    async def _crash_behind_cut(self) -> None:
        """A leader that is cut off with what it has not passed on loses power, and comes back."""
        leader = self.cluster.leader
        if leader is None:
            return
        self._isolation(leader)
        await asyncio.sleep(self.rng.random() * 0.3)
        if self.rng.random() < 0.6:
            await self._crash(leader)

    # The network between them.

    def _separate(self, name: str, pairs: list[tuple[str, str]]) -> None:
        self._count("partitions")
        self._count(name)
        self.cluster.note(f"{name}: {' '.join(f'{one}-{other}' for one, other in pairs)}")
        board = self.cluster.switchboard
        for one, other in pairs:
            board.cut(one, other)
        self._later(self.plan.mend_seconds, lambda: self._mend(pairs))

    def _mend(self, pairs: list[tuple[str, str]]) -> None:
        self.cluster.note("mended")
        for one, other in pairs:
            self.cluster.switchboard.mend(one, other)

    def _between(self, some: list[Host], others: list[Host]) -> list[tuple[str, str]]:
        pairs = [(one.name, other.name) for one in some for other in others]
        return pairs + [(other, one) for one, other in pairs]

    def _isolation(self, host: Host | None = None) -> None:
        host = host or self._any()
        others = [other for other in self.cluster.hosts if other is not host]
        self._separate("isolations", self._between([host], others))

    def _isolation_of_leader(self) -> None:
        if self.cluster.leader is not None:
            self._isolation(self.cluster.leader)

    def _division(self) -> None:
        hosts = list(self.cluster.wanted)
        self.rng.shuffle(hosts)
        middle = self.rng.randrange(1, len(hosts)) if len(hosts) > 1 else 1
        self._separate("divisions", self._between(hosts[:middle], hosts[middle:]))

    def _bridge(self) -> None:
        """Two halves that see each other only through one member."""
        hosts = list(self.cluster.wanted)
        self.rng.shuffle(hosts)
        middle = len(hosts) // 2
        self._separate("bridges", self._between(hosts[:middle], hosts[middle + 1 :]))

    def _one_way_cut(self) -> None:
        host = self._any()
        others = [other for other in self.cluster.wanted if other is not host]
        if not others:
            return
        cut = self.rng.sample(others, self.rng.randint(1, len(others)))
        pairs = [(host.name, other.name) for other in cut]
        if self.rng.random() < 0.5:
            pairs = [(other, one) for one, other in pairs]
        self._separate("one-way cuts", pairs)

    def _broken_link(self) -> None:
        wanted = self.cluster.wanted
        if len(wanted) > 1:
            one, other = self.rng.sample(wanted, 2)
            if self.cluster.switchboard.break_link(one.name, other.name):
                self._count("broken links")

    def _slow_network(self) -> None:
        self._count("slow networks")
        self.cluster.latency_seconds = self.rng.choice((0.03, 0.2, 0.6))
        self._later(2, self._quick_network)

    def _quick_network(self) -> None:
        self.cluster.latency_seconds = 0.002

    def _fate(
        self, source: str, target: str, frame: bytes
    ) -> list[tuple[float | None, bytes]] | None:
        """Lose, repeat or delay single messages of the consensus, and nothing else."""
        plan, rng = self.plan, self.rng
        chance = rng.random()
        if chance >= plan.loss + plan.repetition + plan.overtaking:
            return None
        whole = decode_frame(frame)
        if not whole.messages:
            return None
        messages, whole.messages = whole.messages, []
        stray = encode_frame(PeerFrame(messages=messages))
        rest: list[tuple[float | None, bytes]] = [(None, encode_frame(whole))]
        if chance < plan.loss:
            self._count("frames lost")
            return rest
        delay = rng.random() * rng.choice((0.01, 0.1))
        if chance < plan.loss + plan.repetition:
            self._count("frames repeated")
            return [(None, frame), (delay * rng.choice((1, 10)), stray)]
        self._count("frames overtaken")
        return [*rest, (delay, stray)]

    # Disks that lie.

    def _may_lose_one(self) -> bool:
        """Whether a majority of the voters is left if one of them is lost for good."""
        wanted = self.cluster.wanted
        if any(host.is_spoiled or host.node is None for host in wanted):
            return False
        states = [host.node.machine.conf_state for host in wanted if host.node is not None]
        return all(len(state.voters) >= 3 and not state.voters_outgoing for state in states)

    async def _spoiled_disk(self) -> None:
        """Damage what was durable on one disk; whoever runs the cluster has to replace it."""
        if not self._may_lose_one():
            return
        host = self._any()
        if host.disk.corrupt():
            self._count("spoiled disks")
            self.cluster.note(f"{host.name}: a sector of the log is damaged")
            host.is_spoiled = True
            await self._crash(host)

    async def _wiped_disk(self) -> None:
        """Start a member anew on an empty disk: it must not vote as the one it was."""
        if not self._may_lose_one():
            return
        wanted, host = self.cluster.wanted, self._any()
        # Until all know the directory of a member, they can't tell that it is another one.
        if not all(self._knows(other, host) for other in wanted):
            return
        self._count("wiped disks")
        self.cluster.note(f"{host.name}: the disk is replaced by an empty one")
        assert host.disk.identity is not None
        self.wiped[host.disk.identity.member_id] = None
        host.kill()
        host.wipe()
        host.boot()

    def _knows(self, host: Host, other: Host) -> bool:
        identity = other.disk.identity
        if host.node is None or identity is None:
            return False
        member = host.node.machine.members.get(identity.member_id)
        return member is not None and member.is_started
