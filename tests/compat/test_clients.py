"""Clients of etcd that others wrote: every call that they offer, against three members."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from tests.etcd.starting import cluster

HERE = Path(__file__).parent / "clients"
DRIVEN = {
    "aetcd": "modern",
    "etcd3gw": "modern",
    "etcd_client": "modern",
    "etcd3": "etcd3",
    "etcd3_py": "etcd3-py",
}
"""The environment of each."""

pytestmark = [pytest.mark.slow, pytest.mark.process, pytest.mark.timeout(300)]


@pytest.mark.parametrize("name", sorted(DRIVEN))
async def test_every_call_works(name: str, tmp_path: Path, repository: Path) -> None:
    """The client's calls do what they do with etcd; those left out are named with the reason."""
    folder = Path(os.environ.get("COMPAT_CLIENTS", repository / ".data" / "compat-clients"))
    python = folder / DRIVEN[name] / "bin" / "python"
    if not python.is_file():
        pytest.skip(f"{python} is not there: make compat-clients")
    async with cluster(tmp_path) as ports:
        process = await asyncio.create_subprocess_exec(
            *(str(python), "-B", str(HERE / f"drive_{name}.py"), str(ports[0])),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd=HERE,
        )
        try:
            async with asyncio.timeout(120):
                printed, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    assert process.returncode == 0, printed.decode()
    assert "calls work" in printed.decode()
