"""A full quota is no emergency: whoever deletes can write again, and nobody has to be called."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from coordinator_sdk import Client
from coordinator_sdk.errors import NoSpace
from coordinator_sdk.testing import CoordinatorProcess

QUOTA_BYTES = 2 << 20
VALUE = b"v" * 16_384
PAUSE_SECONDS = 0.1
"""Between attempts while the member looks after its space, which it does every ten seconds."""


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_a_full_quota_needs_no_operator(tmp_path: Path):
    """Writes are refused when the quota is full; reads, locks and deletions go on; after keys were
    deleted, writes succeed again by themselves and the alarm is gone."""
    server = CoordinatorProcess(
        tmp_path / "data", options=["--quota-backend-bytes", str(QUOTA_BYTES)]
    )
    with server:
        async with Client(server.url) as client:
            count = await fill(client)
            with pytest.raises(NoSpace) as refused:
                await client.kv.put("one more", VALUE)
            assert refused.value.details["limit"] == "quota"
            assert [alarm.alarm for alarm in await client.cluster.alarms()] == ["NOSPACE"]
            assert (await client.kv.range(prefix="full/", count_only=True)).count == count
            async with client.locks.lock("still granted"):
                pass
            await client.kv.delete(prefix="full/")
            async with asyncio.timeout(120):
                await until_written(client, "again")
                while await client.cluster.alarms():
                    await client.cluster.status()
            kept = await client.kv.get("again")
            assert kept is not None
            assert kept.value == VALUE


async def fill(client: Client) -> int:
    """Write keys until no more are taken; give how many there are."""
    count = 0
    while True:
        try:
            await client.kv.put(f"full/{count}", VALUE)
        except NoSpace:
            return count
        count += 1


async def until_written(client: Client, key: str) -> None:
    """Write a key as soon as that is possible."""
    while True:
        try:
            await client.kv.put(key, VALUE)
        except NoSpace:
            await asyncio.sleep(PAUSE_SECONDS)
        else:
            return
