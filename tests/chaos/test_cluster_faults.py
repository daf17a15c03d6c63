"""Three members under load and every fault that can be made from outside.

Each test runs two kinds of clients on all members: those of `Load`, whose notes are compared with
the history, and those of `Registers`, whose history is checked for linearizability.
"""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from coordinator_sdk import Client
from coordinator_sdk.errors import ConnectFailed
from coordinator_sdk.testing import ClusterProcess
from tests.chaos.broken import VARIABLE
from tests.chaos.load import Load
from tests.chaos.proxy import Network
from tests.chaos.running import START_SECONDS, cuttable, leader_of, running, start
from tests.linearizability.clients import Registers

pytestmark = [pytest.mark.slow, pytest.mark.process, pytest.mark.timeout(600)]

CHANGES = 200
"""Acknowledged while a fault lasts, and again after it."""
FILL_CHUNK = 1 << 20


@asynccontextmanager
async def judged(urls: list[str], seed: int = 0) -> AsyncIterator[Load]:
    """Run both kinds of clients; at the end both judge."""
    async with Registers(urls, seed) as registers, Load(",".join(urls)) as load:
        await load.until_acknowledged(CHANGES)
        yield load
        await load.until_acknowledged(CHANGES)
        assert await registers.finish() == []
        assert sum(one.is_known for one in registers.history) > CHANGES
        assert await load.finish() == []
        assert load.notes.sessions_lost == 0


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(60):
        while True:
            if condition():
                return
            await asyncio.sleep(0.02)


async def settle(cluster: ClusterProcess) -> None:
    """Wait until every member serves again."""
    for member in cluster.members:
        await asyncio.to_thread(member.wait_until_ready, START_SECONDS)


@pytest.mark.parametrize("seed", range(2))
async def test_members_are_killed_in_turn(tmp_path: Path, seed: int):
    """Ten SIGKILLs under load, of the leader or of any other member: nothing is lost, and every
    register is linearizable."""
    draw = random.Random(seed)
    async with running(tmp_path) as cluster, judged(cluster.urls, seed) as load:
        for _ in range(10):
            victim = await leader_of(cluster)
            if draw.random() < 0.4:
                victim = draw.choice(cluster.members)
            victim.kill()
            await load.until_acknowledged(CHANGES // 2)
            await start(victim)


async def test_all_members_are_killed_at_once(tmp_path: Path):
    """When all members are killed together and started again, everything acknowledged is there."""
    async with running(tmp_path) as cluster, judged(cluster.urls) as load:
        for _ in range(3):
            cluster.kill()
            await asyncio.to_thread(cluster.start, START_SECONDS)
            await load.until_acknowledged(CHANGES)


async def test_a_stopped_leader_is_replaced(tmp_path: Path):
    """A leader that is stopped (SIGSTOP) is replaced; when it goes on it answers nothing stale."""
    async with running(tmp_path) as cluster, judged(cluster.urls) as load:
        for _ in range(3):
            leader = await leader_of(cluster)
            leader.pause()
            await load.until_acknowledged(CHANGES)
            leader.resume()
            await load.until_acknowledged(CHANGES)
            await settle(cluster)


Cut = Callable[[Network, str, list[str]], None]


def whole(network: Network, leader: str, others: list[str]) -> None:
    network.isolate(leader)


def outgoing(network: Network, leader: str, others: list[str]) -> None:
    for other in others:
        network.cut(leader, other)


def incoming(network: Network, leader: str, others: list[str]) -> None:
    for other in others:
        network.cut(other, leader)


def one_link(network: Network, leader: str, others: list[str]) -> None:
    network.isolate(leader, others[:1])


def between_followers(network: Network, leader: str, others: list[str]) -> None:
    network.isolate(others[0], others[1:])


def a_follower(network: Network, leader: str, others: list[str]) -> None:
    network.isolate(others[0])


def resets(network: Network, leader: str, others: list[str]) -> None:
    for other in others:
        network.reset(leader, other)


@pytest.mark.parametrize(
    "cut",
    [whole, outgoing, incoming, one_link, between_followers, a_follower, resets],
    ids=lambda cut: cut.__name__,
)
async def test_links_are_cut(tmp_path: Path, cut: Cut):
    """Links cut in both directions or one, or broken again and again: a majority that can talk
    goes on, and every register is linearizable."""
    async with cuttable(tmp_path) as (cluster, network), judged(cluster.urls) as load:
        for _ in range(3):
            leader = await leader_of(cluster)
            others = [one.name for one in cluster.members if one is not leader]
            cut(network, leader.name, others)
            await load.until_acknowledged(CHANGES)
            network.heal()
            await load.until_acknowledged(CHANGES)
            await settle(cluster)


async def test_no_majority_no_writes(tmp_path: Path):
    """With every link cut nothing is acknowledged; when they heal, everything goes on."""
    async with cuttable(tmp_path) as (cluster, network), judged(cluster.urls) as load:
        for member in cluster.members:
            network.isolate(member.name)
        before = load.notes.acknowledged
        # What the leader had sent before the cut may still be acknowledged; then it steps down.
        await until(lambda: not any(member_leads(cluster)))
        assert load.notes.acknowledged - before < CHANGES
        stopped = load.notes.acknowledged
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3):
                await load.until_acknowledged(1)
        assert load.notes.acknowledged == stopped
        network.heal()
        await load.until_acknowledged(CHANGES)
        await settle(cluster)


def member_leads(cluster: ClusterProcess) -> list[bool]:
    return [member.status()["role"] == "leader" for member in cluster.members]


async def test_a_wiped_member_is_refused(tmp_path: Path):
    """A member whose data directory was wiped does not come back as the member it was; the
    others go on."""
    async with running(tmp_path) as cluster, judged(cluster.urls) as load:
        victim = (await asyncio.to_thread(cluster.followers))[0]
        await asyncio.to_thread(victim.stop)
        victim.wipe()
        with pytest.raises(ConnectFailed):
            await asyncio.to_thread(victim.start, 5)
        assert "data directory" in victim.output()
        await load.until_acknowledged(CHANGES)


async def test_a_disk_whose_syncs_fail_stops_its_member(tmp_path: Path):
    """A leader whose disk fails to sync stops for good and acknowledges nothing more; the others
    go on, and nothing acknowledged is lost."""
    marks = {}
    cluster = ClusterProcess(tmp_path)
    for member in cluster.members:
        marks[member.name] = mark = tmp_path / f"{member.name}.broken"
        member.command = [sys.executable, "-m", "tests.chaos.broken", "serve"]
        member.environment[VARIABLE] = str(mark)
    try:
        await asyncio.to_thread(cluster.start, START_SECONDS)
        async with judged(cluster.urls) as load:
            leader = await leader_of(cluster)
            marks[leader.name].touch()
            await load.until_acknowledged(CHANGES)
            assert await asyncio.to_thread(leader.wait_until_ended, START_SECONDS) == 1
            marks[leader.name].unlink()
            await start(leader)
            await load.until_acknowledged(CHANGES)
    except BaseException as error:
        error.add_note(cluster.output())
        raise
    finally:
        cluster.kill()


@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="needs root to mount a small file system"
)
async def test_a_full_disk_of_the_leader(tmp_path: Path):
    """When the leader's disk is full writes go on through the cluster, and nothing is lost; when
    there is space again the member serves as before."""
    cluster = ClusterProcess(tmp_path, options=("--log-level", "info"))
    mounted = []
    try:
        for member in cluster.members:
            member.data_dir.mkdir(mode=0o700)
            mount(member.data_dir)
            mounted.append(member.data_dir)
        await asyncio.to_thread(cluster.start, START_SECONDS)
        async with judged(cluster.urls) as load:
            leader = await leader_of(cluster)
            filling = leader.data_dir / "filling"
            await asyncio.to_thread(fill, filling)
            await load.until_acknowledged(5 * CHANGES)
            filling.unlink()
            await load.until_acknowledged(CHANGES)
            await settle(cluster)
    except BaseException as error:
        error.add_note(cluster.output())
        raise
    finally:
        cluster.kill()
        for folder in mounted:
            unmount(folder)


def mount(folder: Path) -> None:
    """Put a small file system there."""
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=400m,mode=0700", "none", str(folder)],
        check=False,
        capture_output=True,
    )
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.decode()}")


def unmount(folder: Path) -> None:
    """Take it off."""
    subprocess.run(["umount", "-l", str(folder)], check=False)


def fill(path: Path) -> None:
    """Fill the disk that a file lies on."""
    with path.open("wb", buffering=0) as file:
        for size in (FILL_CHUNK, 4096, 1):
            try:
                while file.write(b"x" * size) == size:
                    pass
            except OSError:
                continue


async def test_a_random_mixture(tmp_path: Path):
    """Kills, stops, cuts and resets in random order, overlapping: every promise holds."""
    draw = random.Random(20)
    async with cuttable(tmp_path) as (cluster, network), judged(cluster.urls, 20) as load:
        for _ in range(12):
            leader = await leader_of(cluster)
            others = [one.name for one in cluster.members if one is not leader]
            draw.shuffle(others)
            faults: list[Callable[[], None]] = [
                leader.kill,
                leader.pause,
                partial(one_link, network, leader.name, others),
                partial(resets, network, leader.name, others),
                partial(outgoing, network, leader.name, others[:1]),
            ]
            for fault in draw.sample(faults, draw.choice((1, 1, 2))):
                if leader.is_running:
                    fault()
            await load.until_acknowledged(CHANGES // 2)
            network.heal()
            if leader.is_running:
                leader.resume()
            else:
                await start(leader)
            await settle(cluster)


async def test_the_clients_of_a_stopped_member_move_on(tmp_path: Path):
    """A client of a member that is stopped goes on with another member by itself."""
    async with running(tmp_path) as cluster:
        for member in cluster.members:
            others = [one.url for one in cluster.members if one is not member]
            async with Client(member.url, *others, timeout=60) as client:
                await client.kv.put("before", member.name)
                member.pause()
                await client.kv.put("after", member.name)
                member.resume()
        await settle(cluster)
