"""One member alone on a full disk: it stays up, says what it can't do, and needs nobody's help."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from coordinator_sdk import Client
from coordinator_sdk.errors import NoSpace, OutcomeUnknown
from coordinator_sdk.testing import CoordinatorProcess
from tests.chaos.test_cluster_faults import fill, mount, unmount

pytestmark = [pytest.mark.slow, pytest.mark.process, pytest.mark.timeout(180)]

VALUE = b"v" * 65_536
PAUSE_SECONDS = 0.1


@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="needs root to mount a small file system"
)
async def test_a_full_disk_of_a_member_alone(tmp_path: Path):
    """It serves linearizable reads, refuses writes with the reason, and takes them again by itself
    once there is space; what it acknowledged is all there, also after a restart."""
    server = CoordinatorProcess(tmp_path / "data")
    server.data_dir.mkdir(mode=0o700)
    mount(server.data_dir)
    try:
        with server:
            async with Client(server.url) as client:
                await client.kv.put("before", b"1")
                filling = server.data_dir / "filling"
                await asyncio.to_thread(fill, filling)
                refused, kept = await fill_log(client)
                assert refused.details == {"limit": "disk"}
                assert "disk of this member is full" in str(refused)
                assert server.is_running
                found = await client.kv.get("before")  # Linearizable by default.
                assert found is not None
                assert found.value == b"1"
                assert [one.alarm for one in await client.cluster.alarms()] == ["NOSPACE"]
                filling.unlink()
                async with asyncio.timeout(60):
                    await until_written(client, "after")
                    while await client.cluster.alarms():
                        await client.cluster.status()
            server.stop()
            server.start()
            async with Client(server.url) as client:
                assert (await client.kv.range(prefix="full/", count_only=True)).count >= kept
                for key in ("before", "after"):
                    assert await client.kv.get(key) is not None
    except BaseException as error:
        error.add_note(server.log.read_text(errors="replace"))
        raise
    finally:
        server.kill()
        unmount(server.data_dir)


async def fill_log(client: Client) -> tuple[NoSpace, int]:
    """Write keys until they are refused; give the refusal, and how many were acknowledged."""
    kept = 0
    number = 0
    async with asyncio.timeout(90):
        while True:
            number += 1
            try:
                await client.kv.put(f"full/{number}", VALUE)
            except NoSpace as refused:
                return refused, kept
            except OutcomeUnknown:
                continue  # The log was full in the middle of it.
            kept += 1


async def until_written(client: Client, key: str) -> None:
    """Write a key as soon as that is possible."""
    while True:
        try:
            await client.kv.put(key, b"1")
        except NoSpace:
            await asyncio.sleep(PAUSE_SECONDS)
        else:
            return
