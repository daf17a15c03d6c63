"""Backups through the SDK: complete, checked, or nothing at all."""

import asyncio
import hashlib
import io
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from coordinator.api import maintenance
from coordinator.storage.backup import verify_backup
from coordinator.storage.errors import NoSpace as DiskFull
from coordinator_sdk import Client
from coordinator_sdk.errors import (
    ClientError,
    ClusterMismatch,
    ConnectFailed,
    Exhausted,
    NoSpace,
)
from tests.api.member import Running, running


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


@pytest.fixture
async def member(tmp_path: Path) -> AsyncIterator[Running]:
    async with running(tmp_path / "member") as made:
        yield made


@pytest.fixture
async def client(member: Running) -> AsyncIterator[Client]:
    async with Client(f"http://127.0.0.1:{member.port}") as made:
        yield made


async def test_snapshot_holds_every_change_before_it(client: Client, tmp_path: Path):
    """A backup holds all that was acknowledged, and its digest is told."""
    for number in range(200):
        await client.kv.put(f"key/{number}", "x" * 1000)
    told: list[tuple[int, int]] = []
    info = await client.cluster.snapshot(
        tmp_path / "b.db", on_progress=lambda come, size: told.append((come, size))
    )
    status = await asyncio.to_thread(verify_backup, tmp_path / "b.db")
    assert (info.revision, info.size_bytes) == (status.revision, status.size_bytes)
    assert (info.revision, info.sha256) == (client.revision, status.sha256)
    assert status.keys == 200
    assert told[-1] == (info.size_bytes, info.size_bytes)
    assert names(tmp_path) == ["b.db", "member"]


async def test_snapshot_into_an_open_file(client: Client):
    """A backup can be written to any binary file."""
    await client.kv.put("a", "1")
    file = io.BytesIO()
    info = await client.cluster.snapshot(file)
    content = file.getvalue()
    assert len(content) == info.size_bytes
    assert hashlib.sha256(content[:-32]).hexdigest() == info.sha256


async def test_former_file_is_replaced_or_kept(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A backup takes the place of a former one at once, and only if it is complete."""
    path = tmp_path / "b.db"
    await client.cluster.snapshot(path)
    before = path.read_bytes()
    await client.kv.put("a", "1")
    await client.cluster.snapshot(path)
    after = path.read_bytes()
    assert after != before
    real = maintenance._chunks

    async def altered(file: Any) -> AsyncIterator[bytes]:
        async for chunk in real(file):
            yield chunk[:100] + bytes([chunk[100] ^ 1]) + chunk[101:]

    async def broken(file: Any) -> AsyncIterator[bytes]:
        async for chunk in real(file):
            yield chunk[:100]
            raise ConnectionResetError

    damages: list[tuple[Callable[..., Any], type[ClientError]]] = [
        (altered, ClientError),
        (broken, ConnectFailed),
    ]
    for damage, error in damages:
        monkeypatch.setattr(maintenance, "_chunks", damage)
        with pytest.raises(error):
            await client.cluster.snapshot(path)
        assert path.read_bytes() == after
    assert names(tmp_path) == ["b.db", "member"]


async def test_one_backup_at_a_time(
    client: Client, member: Running, monkeypatch: pytest.MonkeyPatch
):
    """A second backup while one is being made is refused as such, and may come later."""
    go_on, begun = asyncio.Event(), asyncio.Event()
    real = member.node.save_backup

    async def slow(target: Path) -> Any:
        begun.set()
        await go_on.wait()
        return await real(target)

    monkeypatch.setattr(member.node, "save_backup", slow)
    first = asyncio.ensure_future(client.cluster.snapshot(io.BytesIO()))
    await begun.wait()
    with pytest.raises(Exhausted, match="another backup"):
        await client.cluster.snapshot(io.BytesIO())
    go_on.set()
    await first
    await client.cluster.snapshot(io.BytesIO())


async def test_refusals_come_through(
    client: Client, member: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A full disk, another cluster and a file that can't be written each raise their own error."""

    async def full(target: Path) -> Any:
        raise DiskFull("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(member.node, "save_backup", full)
        with pytest.raises(NoSpace):
            await client.cluster.snapshot(tmp_path / "b.db")
    with monkeypatch.context() as patch:
        patch.setattr(member.node, "cluster_id", 99)
        with pytest.raises(ClusterMismatch):
            await client.cluster.snapshot(tmp_path / "b.db")
    with pytest.raises(FileNotFoundError):
        await client.cluster.snapshot(tmp_path / "nowhere" / "b.db")
    assert names(tmp_path) == ["member"]
