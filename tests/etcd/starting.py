"""`coordinator-etcd` as a process, alone and in threes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from coordinator_sdk.testing import free_port
from tests.etcd.client import Refused, connected

SERVE = (sys.executable, "-m", "coordinator.cli.etcd")


async def started(*arguments: str, folder: Path) -> tuple[asyncio.subprocess.Process, str]:
    """Start one, and read what it prints until it is ready."""
    process = await asyncio.create_subprocess_exec(
        *SERVE,
        *arguments,
        stderr=asyncio.subprocess.PIPE,
        cwd=folder,
        env={k: v for k, v in os.environ.items() if not k.startswith("ETCD_")},
    )
    assert process.stderr is not None
    printed = ""
    while "ready to serve client requests" not in printed:
        line = (await process.stderr.readline()).decode()
        assert line, printed
        printed += line
    return process, printed


async def stopped(process: asyncio.subprocess.Process) -> int:
    """Stop one; give its exit status."""
    process.send_signal(signal.SIGTERM)
    _, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode


async def settled(port: int, members: int = 3) -> None:
    """Wait until a member serves with a leader: on a busy machine the first ones come and go."""
    async with connected(port) as grpc:
        while True:
            try:
                await grpc.call("/etcdserverpb.KV/Range", key=b"settled")
                found = await grpc.call("/etcdserverpb.Cluster/MemberList", linearizable=True)
                if all(one.name for one in found.members) and len(found.members) == members:
                    return
            except Refused as error:
                if error.code != 14:
                    raise
                await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def cluster(folder: Path) -> AsyncIterator[list[int]]:
    """Start three as a static cluster; give their client ports."""
    ports = [(free_port(), free_port()) for _ in range(3)]
    whole = ",".join(f"m{n}=http://127.0.0.1:{peer}" for n, (_, peer) in enumerate(ports))
    made = await asyncio.gather(
        *(
            started(
                *(f"--name=m{n}", f"--initial-cluster={whole}", "--initial-cluster-state=new"),
                *(f"--listen-client-urls=http://127.0.0.1:{client}",),
                *(f"--advertise-client-urls=http://127.0.0.1:{client}",),
                *(f"--listen-peer-urls=http://127.0.0.1:{peer}",),
                *(f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",),
                folder=folder,
            )
            for n, (client, peer) in enumerate(ports)
        )
    )
    try:
        for client, _ in ports:
            await settled(client)
        yield [client for client, _ in ports]
    finally:
        await asyncio.gather(*(stopped(process) for process, _ in made))
