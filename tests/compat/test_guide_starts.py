"""How an etcd user starts members: static, by a discovery token, with certificates."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from pathlib import Path

import pytest

from coordinator_sdk.testing import free_port
from tests.etcd.starting import cluster, started, stopped
from tests.tls.test_cfssl import CONFIG, USAGES, made

COORDCTL = (sys.executable, "-m", "coordinator.cli.coordctl")
ETCDCTL = shutil.which("etcdctl") or ""

pytestmark = [pytest.mark.slow, pytest.mark.process, pytest.mark.timeout(180)]


async def printed(*command: str, folder: Path) -> str:
    """Run a command that must end well; give what it prints."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=folder,
        env={"ETCDCTL_API": "3"},
    )
    async with asyncio.timeout(60):
        out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()
    return out.decode()


async def test_a_static_start(tmp_path: Path) -> None:
    """Three started with each other's names list each other."""
    async with cluster(tmp_path) as ports:
        for port in ports:
            found = await printed(
                *COORDCTL, f"--endpoints=127.0.0.1:{port}", "member", "list", folder=tmp_path
            )
            assert sorted(line.split(", ")[2] for line in found.splitlines()) == ["m0", "m1", "m2"]


async def test_a_start_by_discovery(tmp_path: Path) -> None:
    """Two that know nothing but a token of a third program meet, and list each other."""
    meeting, meeting_port = await _member("meeting", tmp_path)
    members = [meeting]
    try:
        there = f"--endpoints=127.0.0.1:{meeting_port}"
        url = await printed(*COORDCTL, there, "discovery", "new", "--size=2", folder=tmp_path)
        made_two = await asyncio.gather(
            *(_member(f"d{n}", tmp_path, f"--discovery={url.strip()}") for n in range(2))
        )
        members += [process for process, _ in made_two]
        listed = (*COORDCTL, f"--endpoints=127.0.0.1:{made_two[0][1]}", "member", "list")
        found = await printed(*listed, folder=tmp_path)
        assert sorted(line.split(", ")[2] for line in found.splitlines()) == ["d0", "d1"]
    finally:
        await asyncio.gather(*(stopped(process) for process in members))


async def _member(
    name: str, folder: Path, *more: str, scheme: str = "http"
) -> tuple[asyncio.subprocess.Process, int]:
    """Start a member; give it, and its client port."""
    port, peer = free_port(), f"http://127.0.0.1:{free_port()}"
    client = f"{scheme}://127.0.0.1:{port}"
    if not any(word.startswith("--discovery") for word in more):
        more += (f"--initial-cluster={name}={peer}",)
    process, _ = await started(
        *(f"--name={name}", f"--listen-client-urls={client}", f"--advertise-client-urls={client}"),
        *(f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}", *more),
        folder=folder,
    )
    return process, port


def of_cfssl(folder: Path) -> None:
    """Make certificates as etcd's guide does."""
    if shutil.which("cfssl") is None or shutil.which("cfssljson") is None:
        pytest.skip("cfssl is not installed: make system-deps")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    key = {"algo": "ecdsa", "size": 256}
    made(folder, "ca", ["-initca"], {"CN": "acme etcd", "key": key})
    for name in USAGES:
        signing = ["-ca", "ca.pem", "-ca-key", "ca-key.pem", "-config", "config.json"]
        request = {"CN": name, "key": key, "hosts": ["localhost", "127.0.0.1"]}
        made(folder, name, [*signing, "-profile", name], request)


@pytest.mark.parametrize("maker", ["cfssl", "coordctl"])
async def test_a_start_with_certificates(maker: str, tmp_path: Path) -> None:
    """With certificates of cfssl or `coordctl certs`, clients with one are served, others not."""
    folder = tmp_path / "certs"
    folder.mkdir()
    if maker == "cfssl":
        of_cfssl(folder)
    else:
        await printed(*COORDCTL, "certs", "create", "--dir", str(folder), folder=tmp_path)
    files = (f"--cert-file={folder}/server.pem", f"--key-file={folder}/server-key.pem")
    asked = (f"--trusted-ca-file={folder}/ca.pem", "--client-cert-auth")
    process, port = await _member("tls", tmp_path, *files, *asked, scheme="https")
    try:
        there = (f"--endpoints=https://127.0.0.1:{port}", f"--cacert={folder}/ca.pem")
        shown = (f"--cert={folder}/client.pem", f"--key={folder}/client-key.pem")
        for program in (COORDCTL, (ETCDCTL,)):
            if program[0]:
                found = await printed(*program, *there, *shown, "put", "k", "v", folder=tmp_path)
                assert found == "OK\n"
        with pytest.raises(AssertionError):
            await printed(*COORDCTL, *there, "get", "k", folder=tmp_path)
    finally:
        await stopped(process)
