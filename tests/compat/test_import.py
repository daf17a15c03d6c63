"""`coordinator import-etcd`: from a member's own etcd face, and from a real etcd."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest

from coordinator.cli import import_etcd
from coordinator.cli.etcd_source import (
    PAGE,
    PAGE_BYTES,
    PAGE_MAX,
    Contents,
    Source,
    SourceError,
    next_limit,
)
from coordinator.storage.backup import BackupStatus
from coordinator_sdk.testing import free_port
from tests.api.member import running
from tests.compat.etcd import etcd
from tests.etcd.client import Grpc, connected
from tests.etcd.starting import settled

API = "/etcdserverpb."
pytestmark = [pytest.mark.slow, pytest.mark.process, pytest.mark.timeout(180)]


async def command(*words: str, folder: Path) -> tuple[int | None, str]:
    """Run a program of ours; give its status and what it printed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", *words),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=folder,
    )
    printed, _ = await process.communicate()
    return process.returncode, printed.decode()


async def fill(grpc: Grpc) -> int:
    """Put something of everything there; give the id of a lease."""
    put, auth = f"{API}KV/Put", f"{API}Auth/"
    lease = (await grpc.call(f"{API}Lease/LeaseGrant", TTL=500)).ID
    for key in (b"z/first", b"a/second", b"\x00\xff", b"gone"):
        await grpc.call(put, key=key, value=b"old")
    for number in range(1500):
        await grpc.call(put, key=b"n/%04d" % number, value=b"%d" % number)
    await grpc.call(put, key=b"a/second", value=b"new", lease=lease)
    await grpc.call(f"{API}KV/DeleteRange", key=b"gone")
    for role, perm in (("reading", 0), ("both", 2)):
        await grpc.call(f"{auth}RoleAdd", name=role)
        right = {"permType": perm, "key": b"a/", "range_end": b"a0"}
        await grpc.call(f"{auth}RoleGrantPermission", name=role, perm=right)
    for user in ("root", "ann"):
        await grpc.call(f"{auth}UserAdd", name=user, password="secret")
    await grpc.call(f"{auth}UserGrantRole", user="root", role="root")
    await grpc.call(f"{auth}UserGrantRole", user="ann", role="both")
    return int(lease)


async def everything(grpc: Grpc, lease: int) -> dict[str, Any]:
    """Read what must be the same on both sides."""
    found = await grpc.call(
        f"{API}KV/Range", key=b"\0", range_end=b"\0", sort_order=1, sort_target=2
    )
    told = await grpc.call(f"{API}Lease/LeaseTimeToLive", ID=lease, keys=True)
    roles = {}
    for role in (await grpc.call(f"{API}Auth/RoleList")).roles:
        rights = (await grpc.call(f"{API}Auth/RoleGet", role=role)).perm
        roles[role] = [(one.permType, one.key, one.range_end) for one in rights]
    users = {}
    for user in (await grpc.call(f"{API}Auth/UserList")).users:
        users[user] = list((await grpc.call(f"{API}Auth/UserGet", name=user)).roles)
    return {
        # In the order of their creation, which the recipes of locks go by.
        "keys": [(one.key, one.value, one.lease) for one in found.kvs],
        "leases": [one.ID for one in (await grpc.call(f"{API}Lease/LeaseLeases")).leases],
        "lease": (told.grantedTTL, list(told.keys)),
        "roles": roles,
        "users": users,
    }


async def brought_over(port: int, tmp_path: Path) -> None:
    """Import from a port, restore, start, and compare."""
    async with connected(port) as grpc:
        lease = await fill(grpc)
        wanted = await everything(grpc, lease)
        revision = (await grpc.call(f"{API}KV/Range", key=b"x")).header.revision
    words = ("coordinator", "import-etcd", "copy.db", "--from", f"http://127.0.0.1:{port}")
    status, printed = await command(*words, folder=tmp_path)
    assert status == 0, printed
    assert f"1503 keys and 1 leases of revision {revision}, 2 users and 2 roles" in printed
    assert "etcd tells no passwords" in printed
    status, again = await command(*words, folder=tmp_path)
    assert (status, "exists already" in again) == (1, True)
    restore = ("coordinator.cli.coordctl", "snapshot", "restore", "copy.db", "--data-dir", "new")
    status, printed = await command(*restore, folder=tmp_path)
    assert status == 0, printed
    async with running(tmp_path / "new") as member:
        await settled(member.port, 1)
        async with connected(member.port) as grpc:
            assert await everything(grpc, lease) == wanted
            answer = await grpc.call(f"{API}KV/Put", key=b"next")
            assert answer.header.revision > revision


async def test_from_a_member(tmp_path: Path) -> None:
    """Keys, values, leases, users and roles of a member's etcd face are brought over."""
    async with running(tmp_path / "source", password_cost=10) as source:
        await brought_over(source.port, tmp_path)


async def test_from_etcd(tmp_path: Path, repository: Path) -> None:
    """Keys, values, leases, users and roles of a live etcd are brought over."""
    async with etcd(tmp_path, repository) as port:
        await brought_over(port, tmp_path)


async def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    """Nobody there, a wrong password, an address that is none: each is named."""
    port = free_port()
    with pytest.raises(SourceError, match=f"127.0.0.1:{port}"):
        Source(f"http://127.0.0.1:{port}").read()
    status, printed = await command(
        *("coordinator", "import-etcd", "f", "--from", "127.0.0.1:1"), folder=tmp_path
    )
    assert (status, "a URL with http or https" in printed) == (1, True)
    async with running(tmp_path / "source", password_cost=10) as source:
        async with connected(source.port) as grpc:
            await fill(grpc)
            await grpc.call(f"{API}Auth/AuthEnable")
        words = ("coordinator", "import-etcd", "f", "--from", f"http://127.0.0.1:{source.port}")
        status, printed = await command(*words, folder=tmp_path)
        assert (status, "user name is empty" in printed) == (1, True)
        status, printed = await command(*words, "--user", "root:wrong", folder=tmp_path)
        assert (status, "authentication failed" in printed) == (1, True)
        assert not (tmp_path / "f").exists()
        status, printed = await command(*words, "--user", "root:secret", folder=tmp_path)
        assert status == 0, printed


def test_pages_follow_the_size_of_values() -> None:
    """Pages grow while values are small, up to a limit, and shrink for large ones, down to 1."""
    small, large = [PAGE], [PAGE]
    for _ in range(20):
        small.append(next_limit(small[-1], 100 * small[-1]))
        large.append(next_limit(large[-1], (9 << 20) * large[-1]))
    assert (small[1], small[-1]) == (2 * PAGE, PAGE_MAX)
    assert (large[1], large[-1]) == (PAGE // 2, 1)
    assert next_limit(PAGE, PAGE_BYTES) == PAGE


@pytest.mark.parametrize(("flags", "ttls"), [((), [500, 60]), (("--remaining-ttl",), [20, 1])])
def test_leases_may_be_granted_for_what_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...], ttls: list[int]
) -> None:
    """Leases are granted for all of their time anew, or for what is left of it if wanted."""
    told = {7: {"TTL": "20", "grantedTTL": "500"}, 8: {"grantedTTL": "60"}}
    answers: dict[str, Any] = {
        "kv/range": {"header": {"revision": "1"}},
        "lease/leases": {"leases": [{"ID": "7"}, {"ID": "8"}]},
    }

    def ask(source: Source, route: str, **body: Any) -> Any:
        return told[int(body["ID"])] if "ID" in body else answers.get(route, {})

    granted: list[int] = []

    async def backed_up(contents: Contents, path: Path) -> BackupStatus:
        granted.extend(lease.ttl_s for lease in contents.leases)
        raise OSError("no need for a backup")

    monkeypatch.setattr(Source, "ask", ask)
    monkeypatch.setattr(import_etcd, "_backed_up", backed_up)
    parser = argparse.ArgumentParser()
    import_etcd.add_arguments(parser)
    words = [str(tmp_path / "copy.db"), "--from", "http://127.0.0.1:1", *flags]
    assert import_etcd.run(parser.parse_args(words)) == 1
    assert granted == ttls
