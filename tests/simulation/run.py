"""One run: one seed, one history of faults, one verdict."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from coordinator.keyspace.records import SYSTEM, USER
from coordinator.node import persistence
from coordinator_sdk.protocol.kv import Put
from tests.simulation import checkers
from tests.simulation.administration import Administration
from tests.simulation.client import Client
from tests.simulation.clock import Life, NoEnd, NothingLeft, VirtualLoop
from tests.simulation.cluster import Cluster, Host
from tests.simulation.faults import AS_DRAWN, Faults, Plan, Profile
from tests.simulation.record import Record, listening, recording
from tests.simulation.workload import Workload

FAULT_SECONDS = {1: 16.0, 3: 12.0, 5: 8.0}
"""Virtual seconds in which faults happen, by the number of members."""
END_SECONDS = 120.0
"""Virtual seconds after the last fault by which everything must have come to its end."""
LOOK_SECONDS = 0.25
"""Virtual seconds between two looks at whether a promise is broken already."""
WATCHED_SPACES = {0: USER, 1: SYSTEM, 2: USER, 3: SYSTEM}
SIZES = {1: 15, 3: 60, 5: 25}
"""How often clusters of which size are drawn."""


LOOK_EVERY = 40
"""Entries between two looks at whether the log may be cut: logs are short here."""


@contextlib.contextmanager
def small_scale() -> Iterator[None]:
    """Let what takes thousands of entries happen after dozens."""
    before = persistence.LOOK_EVERY
    persistence.LOOK_EVERY = LOOK_EVERY  # type: ignore[misc]
    try:
        yield
    finally:
        persistence.LOOK_EVERY = before  # type: ignore[misc]


@dataclass
class Result:
    """What came of a run.

    Attributes:
        trace: What happened at its end, for people.
        cpu_seconds: What it cost.
    """

    seed: int
    violations: list[str]
    digest: str
    counts: Counter[str] = field(default_factory=Counter)
    trace: list[str] = field(default_factory=list)
    cpu_seconds: float = 0.0


def _draw_size(rng: random.Random) -> int:
    return rng.choices(list(SIZES), list(SIZES.values()))[0]


def size_of(seed: int) -> int:
    """Tell how many members the cluster of a seed begins with."""
    return _draw_size(random.Random(seed))


class Run:
    """One run under one seed."""

    def __init__(self, seed: int, profile: Profile = AS_DRAWN) -> None:
        self.seed = seed
        self.profile = profile
        self.rng = random.Random(seed)
        self.loop = VirtualLoop()
        size = _draw_size(self.rng)
        fork, snapshot_count = self._fork(), self.rng.choice((100, 200, 400))
        self.cluster = Cluster(
            self.loop, fork, size, snapshot_count=profile.snapshot_count or snapshot_count
        )
        self.counts = self.cluster.counts
        self.record = Record(
            now=self.loop.time,
            note=self.cluster.note,
            violations=self.cluster.complaints,
            counts=self.counts,
        )
        self.faults = Faults(
            self.cluster,
            Plan.draw(self._fork(), size).follow(profile),
            self._fork(),
            self.record.consensus.wiped,
        )
        self.workload = Workload(self.record, self._fork())
        self._clients: list[Client] = []
        self._working: list[asyncio.Task[None]] = []
        self._watching: list[asyncio.Task[None]] = []
        self._watched_until = 0
        self.administration = Administration(
            self.cluster, self._client(), self._fork(), is_busy=self.rng.random() < 0.6
        )

    def _fork(self) -> random.Random:
        return random.Random(self.rng.getrandbits(64))

    def _client(self) -> Client:
        number = len(self._clients)
        client = Client(number, self.loop, self._fork(), self.cluster.hosts, self.record)
        self._clients.append(client)
        return client

    def play(self) -> Result:
        """Let it all happen, and judge."""
        asyncio.set_event_loop(self.loop)
        was_collecting = gc.isenabled()
        gc.disable()
        try:
            with recording(self.record), listening(self.cluster.note), small_scale():
                self.loop.run_until_complete(self._play_until_broken())
        except NothingLeft:
            self.record.violate("everybody waits, and nothing will ever happen again")
        except NoEnd:
            self.record.violate("everybody is busy, and gets nowhere")
        finally:
            asyncio.set_event_loop(None)
            if was_collecting:
                gc.enable()
        found = list(self.record.violations)
        if not found:
            found += self._judge()
        digest = self.record.digest()
        trace = list(self.cluster.trace)
        self._clean_up()
        self.counts += self.workload.counts
        self.counts["retries"] = sum(client.retries for client in self._clients)
        self.counts["torn logs"] = sum(host.disk.torn for host in self.cluster.hosts)
        self.counts["entries"] = len(self.record.chains)
        self.counts["revisions"] = len(self.record.revisions)
        self.counts["acknowledged"] = len(self.record.told)
        return Result(self.seed, found, digest, self.counts, trace)

    def _clean_up(self) -> None:
        """Let every task end, those of crashed members too."""
        asyncio.set_event_loop(self.loop)
        for life in self.cluster.lives:
            life.bury()
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        with contextlib.suppress(NothingLeft):
            self.loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        asyncio.set_event_loop(None)
        self.loop.close()
        self.cluster.let_go()

    async def _play_until_broken(self) -> None:
        """Play to the end; once a promise is broken, what follows tells nothing more."""
        playing = asyncio.ensure_future(self._play())
        while not playing.done() and not self.record.violations:
            await asyncio.wait([playing], timeout=LOOK_SECONDS)
        if playing.done():
            playing.result()

    async def _play(self) -> None:
        for host in self.cluster.hosts:
            host.boot()
        supervising = asyncio.ensure_future(self._supervise())
        work = self.workload
        jobs = [work.write, work.lock, work.lock, work.read, work.write_plainly, work.compact]
        if not self.faults.plan.is_stormy:
            jobs += [work.write, work.lock, work.lock, work.publish, work.read_on]
        jobs += [getattr(work, name) for name in self.profile.more]
        self._working = [asyncio.ensure_future(job(self._client())) for job in jobs]
        self._working.append(asyncio.ensure_future(self.administration.work()))
        self._watching = [
            asyncio.ensure_future(work.watch(self._client(), number, space))
            for number, space in WATCHED_SPACES.items()
        ]
        await self.faults.inject(FAULT_SECONDS[self.cluster.size])
        self.faults.heal()
        work.is_ending = self.administration.is_ending = True
        await self._until_converged()
        supervising.cancel()
        for task in self._watching:
            task.cancel()
        await self._restart_in_good_order()

    async def _until_converged(self) -> None:
        """All clients get their answers, a new write succeeds, and all members come to agree."""
        what = "clients still wait"
        try:
            async with asyncio.timeout(END_SECONDS):
                await asyncio.gather(*self._working)
                what = "no write succeeds any more"
                await self._client().change(Put(b"the end", b"the end"))
                what = "not every session has ended that should"
                await self._until_sessions_ended()
                what = "watchers still wait"
                await self._until_watched()
                what = "the members do not come to agree"
                await self._until_agreed()
        except TimeoutError:
            state = "; ".join(self._describe(host) for host in self.cluster.wanted)
            self.record.violate(f"no end after {END_SECONDS} s: {what} ({state})")

    def _describe(self, host: Host) -> str:
        node = host.node
        if node is None:
            return f"{host.name} is down"
        raw = node.replica.raw
        return (
            f"{host.name} {raw.raft.state.name} in term {raw.term}, applied {node.machine.index} "
            f"of {raw.last_index}"
        )

    async def _until_sessions_ended(self) -> None:
        """Wait until every session has ended that nobody renews."""
        while True:
            alive = checkers.live_sessions(self.record)
            if not alive:
                return
            await asyncio.sleep(0.2)

    async def _until_watched(self) -> None:
        """Wait until every watcher has seen the last revision of its space."""
        watched = self.workload.watched
        while True:
            last = {USER: 0, SYSTEM: 0}
            for revision in self.record.revisions:
                for space, _ in revision.events:
                    last[space] = revision.number
            if all(
                watched[number] and watched[number][-1].kv.mod_revision == last[space]
                for number, space in WATCHED_SPACES.items()
            ):
                self._watched_until = max(last.values())
                return
            # What sessions and timers still do moves the end.
            await asyncio.sleep(0.1)

    async def _until_agreed(self) -> None:
        """Wait until all members stand at the same entry."""
        while True:
            states = {
                (node.machine.index, node.machine.chain, node.revision) if node else None
                for node in (host.node for host in self.cluster.wanted)
            }
            if len(states) == 1 and None not in states:
                return
            await asyncio.sleep(0.05)

    async def _supervise(self) -> None:
        """Start members again whenever they have ended by themselves."""
        seen: dict[Life, None] = {}
        while True:
            await asyncio.sleep(0.05)
            for host in list(self.cluster.hosts):
                if host.life is None or not host.has_ended or host.is_spoiled:
                    continue
                if host.life not in seen:
                    seen[host.life] = None
                    self.loop.call_later(self.rng.random() * 0.3, self._start_again, host)

    def _start_again(self, host: Host) -> None:
        if host.life is not None and host.has_ended:
            host.exit()
            if not host.is_removed:
                host.boot()

    async def _restart_in_good_order(self) -> None:
        """Stop and start once more: what the databases hold must be what the history led to."""
        if self.record.violations:
            return
        for host in self.cluster.wanted:
            await host.stop()
        for host in self.cluster.wanted:
            host.boot()
        try:
            async with asyncio.timeout(END_SECONDS):
                while not all(host.is_serving for host in self.cluster.wanted):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
                await self._until_agreed()
        except TimeoutError:
            self.record.violate("the members do not start any more")

    # ------------------------------------------------------------ the verdict

    def _judge(self) -> list[str]:
        record, work = self.record, self.workload
        found = checkers.check_writes(record)
        found += checkers.check_locks(record)
        found += checkers.check_leases(record, work.sessions)
        found += checkers.check_watches(
            record, work.watched, work.lost, WATCHED_SPACES, self._watched_until
        )
        found += checkers.check_reads(record, work.reads)
        found += checkers.check_topics(record)
        for host in self.cluster.wanted:
            if host.node is not None:
                complaints = checkers.check_final_state(record, host.node.keyspace)
                found += [f"{host.name}: {text}" for text in complaints]
        return found


def simulate(seed: int, profile: Profile = AS_DRAWN) -> Result:
    """Play one seed."""
    began = time.process_time()
    result = Run(seed, profile).play()
    result.cpu_seconds = time.process_time() - began
    return result
