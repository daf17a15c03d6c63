"""Three members with mutual TLS on both ports, as the README builds them, and their certificates
changed under load."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from coordinator_sdk import TLS, Client
from coordinator_sdk.testing import free_port

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.timeout(180)]

PORTS = (14379, 24379, 34379)
URLS = [f"https://127.0.0.1:{port}" for port in PORTS]
READY_S = 60
RELOADED = re.compile(r'^coordinator_tls_reloads_total\{port="(\w+)"\} (\d+)$', re.MULTILINE)


class Cluster:
    """Members that were started by a shell, in a folder of their own.

    Attributes:
        folder: Where the shell was.
        certs: The certificates.
        log: What they have said.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.certs = folder / ".data/certs"
        self.log = folder / "log"
        self.tls = TLS(
            ca=self.certs / "ca.pem",
            cert=self.certs / "alice.pem",
            key=self.certs / "alice-key.pem",
        )

    def is_ready(self) -> bool:
        """Whether every member listens; the certificates are made before."""
        return all(is_taken(port) for port in PORTS)

    def coordctl(self, *words: str) -> str:
        command = [sys.executable, "-m", "coordinator.cli.coordctl", *words]
        done = subprocess.run(
            command, cwd=self.folder, capture_output=True, text=True, check=True, timeout=60
        )
        return done.stdout

    async def reloads(self, url: str) -> dict[str, int]:
        """Ask a member how often it has taken new files, by port."""
        context = self.tls.context()
        port = int(url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        writer.write(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        text = (await reader.read()).decode()
        writer.close()
        return {name: int(number) for name, number in RELOADED.findall(text)}

    async def has_reloaded(self, before: dict[str, dict[str, int]]) -> bool:
        """Tell whether every member has taken new files on both ports since then."""
        for url in URLS:
            now = await self.reloads(url)
            if any(now[port] == count for port, count in before[url].items()):
                return False
        return True

    async def change(self, *verbs: str) -> None:
        """Change the certificates, and wait until every member has taken the new ones."""
        before = {url: await self.reloads(url) for url in URLS}
        await asyncio.to_thread(self.coordctl, "certs", *verbs, "--dir", str(self.certs))
        await until(lambda: self.has_reloaded(before))


def is_taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def cluster(repository: Path, tmp_path: Path) -> Iterator[Cluster]:
    """Run the README's commands."""
    for port in [port + step for port in PORTS for step in (0, 1)]:
        if is_taken(port):
            pytest.skip(f"PORT {port} IS IN USE: the README's block can't be run as printed")
    page = (repository / "README.md").read_text()
    (block,) = re.findall(r"```bash tls.sh\n(.*?)```", page, re.DOTALL)
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv/bin").symlink_to(Path(sys.executable).parent)
    made = Cluster(tmp_path)
    with made.log.open("wb") as output:
        shell = subprocess.Popen(
            ["bash", "-eu", "-c", f"{block}\nwait"],
            cwd=tmp_path,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + READY_S
        while not made.is_ready():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield made
    except BaseException as error:
        error.add_note(made.log.read_text())
        raise
    finally:
        os.killpg(shell.pid, signal.SIGKILL)
        shell.wait()
        while any(is_taken(port) for port in PORTS):
            time.sleep(0.02)


@asynccontextmanager
async def load(cluster: Cluster, calls: list[int]) -> AsyncIterator[None]:
    """Write all the time: with clients that stay connected, and with ones that come anew."""
    stop = asyncio.Event()

    async def stay(number: int) -> None:
        async with Client(*URLS[number:], *URLS[:number], tls=cluster.tls) as client:
            async with client.locks.lock(f"held-{number}") as lock:
                while not stop.is_set():
                    await client.kv.put(f"stay/{number}", str(calls[0]), guard=lock)
                    calls[0] += 1

    async def come_and_go(number: int) -> None:
        while not stop.is_set():
            async with Client(URLS[number], tls=cluster.tls) as client:
                await client.kv.put(f"come/{number}", str(calls[1]))
                calls[1] += 1

    async with asyncio.TaskGroup() as group:
        for number in range(len(URLS)):
            group.create_task(stay(number))
            group.create_task(come_and_go(number))
        try:
            yield
        finally:
            stop.set()


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait for what other processes do."""
    async with asyncio.timeout(READY_S):
        while not await holds():  # noqa: ASYNC110 - nobody tells us
            await asyncio.sleep(0.05)


async def until_ready(cluster: Cluster) -> None:
    async with Client(*URLS, tls=cluster.tls, connect_timeout=READY_S, timeout=READY_S) as client:

        async def holds() -> bool:
            return {one.name for one in await client.cluster.members()} == {"a", "b", "c"}

        await until(holds)


def restart(cluster: Cluster, name: str) -> subprocess.Popen[bytes]:
    """End a member's process, and start it again with what it was started with."""
    pid = int((cluster.folder / f".data/tls-{name}/lock").read_text())
    member = psutil.Process(pid)
    command = member.cmdline()
    member.terminate()
    while member.is_running() and member.status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.02)
    with cluster.log.open("ab") as output:
        return subprocess.Popen(command, cwd=cluster.folder, stdout=output, stderr=output)


async def test_certificates_change_under_load(cluster: Cluster) -> None:
    """A cluster with mutual TLS on both ports lives through new authorities and new certificates
    while clients stay and come and go: no call fails, and in the end the old ones count for
    nothing."""
    await until_ready(cluster)
    old = cluster.folder / "old"
    await asyncio.to_thread(shutil.copytree, cluster.certs, old)
    calls = [0, 0]
    async with load(cluster, calls):
        for verb in ("new-ca", "renew", "drop-ca"):
            before = list(calls)
            await cluster.change(verb)

            async def has_gone_on(then: list[int] = before) -> bool:
                return calls[0] > then[0] + 20 and calls[1] > then[1] + 9

            await until(has_gone_on)
    stale = TLS(ca=cluster.certs / "ca.pem", cert=old / "alice.pem", key=old / "alice-key.pem")
    context = stale.context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await asyncio.open_connection("127.0.0.1", PORTS[0], ssl=context)
    again = await asyncio.to_thread(restart, cluster, "c")
    try:
        async with Client(URLS[2], tls=cluster.tls, connect_timeout=30, timeout=30) as client:
            # A read that all agree on: it has met the others with the new certificates.
            assert await client.kv.get("come/0") is not None
    finally:
        again.kill()
        again.wait()


def etcdctl(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["etcdctl", "--dial-timeout", "3s", *words],
        env={**os.environ, "ETCDCTL_API": "3"},
        capture_output=True,
        text=True,
        timeout=60,
    )


async def test_etcdctl_with_certificates(cluster: Cluster) -> None:
    """etcdctl works with a client's certificate; without one or with the members' it is refused."""
    if shutil.which("etcdctl") is None:
        pytest.skip("ETCDCTL IS NOT INSTALLED: `make system-deps`")
    await until_ready(cluster)
    address = ["--endpoints", ",".join(URLS), "--cacert", str(cluster.certs / "ca.pem")]

    def shown(name: str) -> list[str]:
        pair = (cluster.certs / f"{name}.pem", cluster.certs / f"{name}-key.pem")
        return [*address, "--cert", str(pair[0]), "--key", str(pair[1])]

    done = await asyncio.to_thread(etcdctl, *shown("alice"), "put", "greeting", "hello")
    assert done.stdout == "OK\n", done.stderr
    done = await asyncio.to_thread(etcdctl, *shown("alice"), "get", "greeting")
    assert done.stdout == "greeting\nhello\n", done.stderr
    for words in address, shown("peer"):
        done = await asyncio.to_thread(etcdctl, *words, "get", "greeting")
        assert done.returncode != 0


async def test_certificates_of_their_own_making(tmp_path: Path) -> None:
    """Three members of `coordinator-etcd` with --auto-tls and --peer-auto-tls form a cluster over
    TLS alone, etcdctl works with them, and what they have written is for their owner alone."""
    if shutil.which("etcdctl") is None:
        pytest.skip("ETCDCTL IS NOT INSTALLED: `make system-deps`")
    ports = {name: [free_port(), free_port()] for name in ("n1", "n2", "n3")}
    peers = ",".join(f"{name}=https://127.0.0.1:{peer}" for name, (_, peer) in ports.items())
    urls = [f"https://127.0.0.1:{port}" for port, _ in ports.values()]
    running = [
        await asyncio.to_thread(
            start_etcd,
            tmp_path,
            name,
            f"https://127.0.0.1:{port}",
            f"https://127.0.0.1:{peer}",
            peers,
        )
        for name, (port, peer) in ports.items()
    ]
    try:
        tls = TLS(verify=False)
        async with Client(*urls, tls=tls, connect_timeout=READY_S, timeout=READY_S) as client:
            await client.kv.put("greeting", "hello")
        for url in urls:
            words = ["--insecure-transport=false", "--insecure-skip-tls-verify", "--endpoints", url]
            done = await asyncio.to_thread(etcdctl, *words, "get", "greeting")
            assert done.stdout == "greeting\nhello\n", done.stderr
            plain = url.replace("https", "http")
            done = await asyncio.to_thread(etcdctl, "--endpoints", plain, "get", "greeting")
            assert done.returncode != 0
        assert len(private_files(tmp_path)) == 12
    finally:
        for one in running:
            one.kill()
            one.wait()


def private_files(folder: Path) -> list[Path]:
    """Look at what members have written: only for their owner, and never in their logs."""
    found = [*folder.glob("n?.etcd/tls/*/*.pem")]
    assert {stat.S_IMODE(one.stat().st_mode) for one in found} == {0o600}
    logs = "".join(log.read_text() for log in folder.glob("*.log"))
    for one in found:
        assert one.read_text().splitlines()[1] not in logs
    return found


def start_etcd(folder: Path, name: str, url: str, peer: str, peers: str) -> subprocess.Popen[bytes]:
    flags = {
        "name": name,
        "data-dir": f"{name}.etcd",
        "listen-client-urls": url,
        "advertise-client-urls": url,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": peers,
    }
    command = [sys.executable, "-m", "coordinator.cli.etcd", "--auto-tls", "--peer-auto-tls"]
    command += [word for flag, value in flags.items() for word in (f"--{flag}", value)]
    with (folder / f"{name}.log").open("wb") as output:
        return subprocess.Popen(command, cwd=folder, stdout=output, stderr=output)
