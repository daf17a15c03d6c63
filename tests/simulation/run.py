"""One run: one seed, one history of faults, one verdict."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from coordinator.keyspace.records import SYSTEM, USER
from tests.simulation import checkers
from tests.simulation.client import Client
from tests.simulation.clock import NothingLeft, VirtualLoop
from tests.simulation.cluster import Host
from tests.simulation.record import Record, recording
from tests.simulation.workload import Workload

FAULT_SECONDS = 20.0
"""Virtual seconds in which faults happen."""
END_SECONDS = 120.0
"""Virtual seconds after the last fault by which everything must have come to its end."""
WATCHED_SPACES = {0: USER, 1: SYSTEM, 2: USER, 3: SYSTEM}


@dataclass
class Result:
    """What came of a run."""

    seed: int
    violations: list[str]
    digest: str
    counts: Counter[str] = field(default_factory=Counter)


class Run:
    """One run under one seed."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.loop = VirtualLoop()
        self.record = Record(now=self.loop.time)
        self.host = Host(self.loop, self._fork())
        self.workload = Workload(self.record, self._fork())
        self.counts: Counter[str] = Counter()
        self._watched_until = 0
        self._clients: list[Client] = []
        self._working: list[asyncio.Task[None]] = []
        self._watching: list[asyncio.Task[None]] = []

    def _fork(self) -> random.Random:
        return random.Random(self.rng.getrandbits(64))

    def _client(self) -> Client:
        number = len(self._clients)
        client = Client(number, self.loop, self._fork(), [self.host], self.record)
        self._clients.append(client)
        return client

    def play(self) -> Result:
        """Let it all happen, and judge."""
        asyncio.set_event_loop(self.loop)
        was_collecting = gc.isenabled()
        gc.disable()
        try:
            with recording(self.record):
                self.loop.run_until_complete(self._play())
        except NothingLeft:
            self.record.violate("everybody waits, and nothing will ever happen again")
        finally:
            asyncio.set_event_loop(None)
            if was_collecting:
                gc.enable()
        found = self.record.violations
        if not found:
            found += self._judge()
        digest = self.record.digest()
        self._clean_up()
        self.counts += self.host.counts + self.workload.counts
        self.counts["retries"] = sum(client.retries for client in self._clients)
        self.counts["torn logs"] = self.host.disk.torn
        self.counts["entries"] = len(self.record.chains)
        self.counts["revisions"] = len(self.record.revisions)
        self.counts["acknowledged"] = len(self.record.told)
        return Result(self.seed, found, digest, self.counts)

    def _clean_up(self) -> None:
        """Let every task end, those of crashed members too."""
        asyncio.set_event_loop(self.loop)
        for life in self.host.lives:
            life.bury()
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        with contextlib.suppress(NothingLeft):
            self.loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        asyncio.set_event_loop(None)
        self.loop.close()

    async def _play(self) -> None:
        self.host.boot()
        supervising = asyncio.ensure_future(self._supervise())
        work = self.workload
        jobs = [work.write] * 3 + [work.lock] * 4 + [work.publish, work.read, work.compact]
        self._working = [asyncio.ensure_future(job(self._client())) for job in jobs]
        self._watching = [
            asyncio.ensure_future(work.watch(self._client(), number, space))
            for number, space in WATCHED_SPACES.items()
        ]
        await self._inject()
        self._heal()
        work.is_ending = True
        try:
            async with asyncio.timeout(END_SECONDS):
                await asyncio.gather(*self._working)
                await self._until_watched()
        except TimeoutError:
            stuck = sum(not task.done() for task in self._working)
            self.record.violate(f"no end after {END_SECONDS} s: {stuck} clients still wait")
        supervising.cancel()
        for task in self._watching:
            task.cancel()
        await self._restart_in_good_order()

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

    async def _supervise(self) -> None:
        """Start the member again whenever it has ended by itself."""
        while True:
            await asyncio.sleep(0.05)
            life = self.host.life
            if life is not None and self.host.has_ended:
                await asyncio.sleep(self.rng.random() * 0.3)
                if self.host.life is life:
                    self.host.exit()
                    self.host.boot()

    async def _restart_in_good_order(self) -> None:
        """Stop and start once more: what the database holds must be what the history led to."""
        if self.record.violations:
            return
        await self.host.stop()
        self.host.boot()
        async with asyncio.timeout(END_SECONDS):
            while not self.host.is_serving:  # noqa: ASYNC110 - in virtual time
                await asyncio.sleep(0.05)

    # ------------------------------------------------------------ faults

    async def _inject(self) -> None:
        faults: list[tuple[int, Callable[[], object]]] = [
            (30, self._crash),
            (15, self._pause),
            (12, self._slow_disk),
            (8, self._failed_sync),
            (8, self._failed_database),
            (10, self._full_disk),
            (8, self._clock_jump),
            (6, self._restart),
        ]
        end = self.loop.now + FAULT_SECONDS
        await asyncio.sleep(1.0)
        while self.loop.now < end:
            fault = self.rng.choices(
                [fault for _, fault in faults], [weight for weight, _ in faults]
            )[0]
            done = fault()
            if asyncio.iscoroutine(done):
                await done
            await asyncio.sleep(self.rng.random() * 1.6)

    async def _crash(self) -> None:
        if self.host.life is None:
            return
        self.host.crash()
        await asyncio.sleep(self.rng.random() * 0.8)
        if self.host.life is None:
            self.host.boot()

    def _pause(self) -> None:
        self.host.pause(self.rng.choice((0.05, 0.3, 1.0, 3.0)))

    def _slow_disk(self) -> None:
        self.counts["slow disks"] += 1
        self.host.disk.latency = self.rng.choice((0.02, 0.2, 1.0))
        self.loop.call_later(self.rng.random() * 3, self.host.disk.be_quick)

    def _failed_sync(self) -> None:
        self.counts["failed syncs"] += 1
        self.host.disk.fail_sync()

    def _failed_database(self) -> None:
        self.counts["failed databases"] += 1
        self.host.disk.fail_database()

    def _full_disk(self) -> None:
        self.counts["full disks"] += 1
        self.host.disk.fill()
        self.loop.call_later(self.rng.random() * 3, self.host.disk.empty)

    def _clock_jump(self) -> None:
        self.counts["clock jumps"] += 1
        self.host.wall_offset_ms += self.rng.choice((-3_600_000, -500, 500, 3_600_000))

    async def _restart(self) -> None:
        if self.host.is_serving:
            self.counts["restarts in good order"] += 1
            await self.host.stop()
            self.host.boot()

    def _heal(self) -> None:
        self.host.disk.heal()
        if self.host.life is None:
            self.host.boot()

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
        if self.host.node is not None:
            found += checkers.check_final_state(record, self.host.node.keyspace)
        return found


def simulate(seed: int) -> Result:
    """Play one seed."""
    return Run(seed).play()
