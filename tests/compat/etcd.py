"""A real etcd, to compare with."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from coordinator_sdk.testing import free_port


@contextlib.asynccontextmanager
async def etcd(folder: Path, repository: Path) -> AsyncIterator[int]:
    """Run a real etcd; gives its client port.

    Args:
        folder: Where its data goes.
        repository: The root of the checkout, where `make compat-clients` puts the program.
    """
    made = Path(os.environ.get("COMPAT_CLIENTS", repository / ".data" / "compat-clients"))
    program = made / "etcd-server" / "usr" / "bin" / "etcd"
    if not program.is_file():
        pytest.skip(f"{program} is not there: make compat-clients")
    client, peer = (f"http://127.0.0.1:{free_port()}" for _ in "ab")
    process = await asyncio.create_subprocess_exec(
        *(str(program), "--data-dir", str(folder / "etcd"), "--name=a"),
        *(f"--listen-client-urls={client}", f"--advertise-client-urls={client}"),
        *(f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}"),
        f"--initial-cluster=a={peer}",
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    try:
        while b"ready to serve client requests" not in (line := await process.stderr.readline()):
            assert line, "etcd has ended"
        yield int(client.rpartition(":")[2])
    finally:
        process.kill()
        await process.communicate()
