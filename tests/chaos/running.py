"""A cluster of real processes for a test of faults, with its logs at hand if that fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from coordinator_sdk.testing import ClusterProcess, CoordinatorProcess
from tests.chaos.proxy import Network

OPTIONS = ("--log-level", "info")
START_SECONDS = 60.0
"""A busy machine must not look like a broken cluster."""


@asynccontextmanager
async def running(
    directory: Path, size: int = 3, options: Sequence[str] = ()
) -> AsyncIterator[ClusterProcess]:
    """Run a cluster."""
    cluster = ClusterProcess(directory, size, options=(*OPTIONS, *options))
    async with _kept(cluster):
        yield cluster


@asynccontextmanager
async def cuttable(
    directory: Path, size: int = 3, options: Sequence[str] = ()
) -> AsyncIterator[tuple[ClusterProcess, Network]]:
    """Run a cluster whose links can be cut."""
    network = Network()
    cluster = ClusterProcess(
        directory, size, options=(*OPTIONS, *options), advertise=network.advertise
    )
    async with network.between(cluster), _kept(cluster):
        yield cluster, network


@asynccontextmanager
async def _kept(cluster: ClusterProcess) -> AsyncIterator[None]:
    try:
        await asyncio.to_thread(cluster.start, START_SECONDS)
        yield
    except BaseException as error:
        error.add_note(cluster.output())
        raise
    finally:
        for member in cluster.members:
            if member.is_running:
                member.resume()
        cluster.kill()


async def leader_of(cluster: ClusterProcess) -> CoordinatorProcess:
    """Wait until the members agree on a leader."""
    return await asyncio.to_thread(cluster.leader, START_SECONDS)


async def start(member: CoordinatorProcess) -> None:
    """Start a member and wait until it serves."""
    await asyncio.to_thread(member.start, START_SECONDS)
