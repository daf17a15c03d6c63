"""A server process of its own: started, awaited, measured, stopped or killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from coordinator_sdk.testing import free_port

START_SECONDS = 60.0
"""After which a server that does not serve counts as broken."""
STOP_SECONDS = 30.0
POLL_SECONDS = 0.005


class ServerBroken(Exception):
    """The server did not start, or ended by itself; with what it said."""


class Server:
    """One server process on one data directory.

    It keeps its port over restarts, so that clients find it again.
    """

    def __init__(
        self,
        data_dir: Path,
        *flags: str,
        port: int = 0,
        module: str = "coordinator",
        log: Path | None = None,
    ) -> None:
        self.data_dir = data_dir
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._flags = flags
        self._module = module
        self._log = log or data_dir.with_name(data_dir.name + ".log")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Process id of the running server."""
        assert self._process is not None
        return self._process.pid

    def spawn(self) -> None:
        """Start the process; it does not serve yet."""
        assert self._process is None, "it runs already"
        command = [sys.executable, "-m", self._module, "serve", "--data-dir", str(self.data_dir)]
        command += ["--listen-client-urls", self.url, "--advertise-client-urls", self.url]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("COORDINATOR_")}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--log-level", "warning", *self._flags],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
            )

    def start(self) -> float:
        """Start, wait until reads and writes are served, and give the seconds it took."""
        began = time.perf_counter()
        self.spawn()
        self.wait_ready()
        return time.perf_counter() - began

    def wait_ready(self) -> None:
        """Wait until reads and writes are served.

        Raises:
            ServerBroken: It ended, or takes too long.
        """
        assert self._process is not None
        deadline = time.monotonic() + START_SECONDS
        while not self.is_ready():
            if self._process.poll() is not None:
                raise ServerBroken(f"exit status {self._process.returncode}\n{self.said()}")
            if time.monotonic() > deadline:
                raise ServerBroken(f"not ready after {START_SECONDS} s\n{self.said()}")
            time.sleep(POLL_SECONDS)

    def is_ready(self) -> bool:
        """Ask the server whether it is ready."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                connection.sendall(
                    b"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
                )
                return b" 200 " in connection.recv(4096)[:20]
        except OSError:
            return False

    def said(self) -> str:
        """Give the end of what it logged."""
        with contextlib.suppress(FileNotFoundError):
            return self._log.read_text(errors="replace")[-4000:]
        return ""

    def is_running(self) -> bool:
        """Tell whether the process lives."""
        return self._process is not None and self._process.poll() is None

    def stop(self) -> int:
        """Stop in good order; give the exit status."""
        return self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill the process."""
        self._end(signal.SIGKILL)

    def _end(self, number: int) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        process.send_signal(number)
        try:
            return process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise ServerBroken(f"did not stop within {STOP_SECONDS} s\n{self.said()}") from None

    def memory_mb(self) -> float:
        """Give the resident memory in MB."""
        return float(psutil.Process(self.pid).memory_info().rss) / 1e6

    def cpu_seconds(self) -> float:
        """Give the CPU time used so far."""
        times: Any = psutil.Process(self.pid).cpu_times()
        return float(times.user + times.system)


@contextlib.contextmanager
def serving(data_dir: Path, *flags: str) -> Iterator[Server]:
    """Run a server."""
    server = Server(data_dir, *flags)
    try:
        server.start()
        yield server
    finally:
        server.kill()


class Cluster:
    """Three server processes that make up one cluster, on one machine.

    Its `url` is the leader's, `follower_url` another member's; both are known after `start`.
    """

    def __init__(self, directory: Path, members: int = 3, *flags: str) -> None:
        peers = [f"http://127.0.0.1:{free_port()}" for _ in range(members)]
        together = ",".join(f"m{number}={url}" for number, url in enumerate(peers))
        self.members = [
            Server(
                directory / f"m{number}",
                *("--name", f"m{number}", "--initial-cluster", together),
                *("--listen-peer-urls", url, "--initial-advertise-peer-urls", url),
                *flags,
            )
            for number, url in enumerate(peers)
        ]
        self.url = self.follower_url = ""

    def start(self) -> None:
        """Start all, and wait until they serve and one of them leads."""
        for member in self.members:
            member.spawn()
        for member in self.members:
            member.wait_ready()
        roles = {role_of(member.url): member.url for member in self.members}
        self.url, self.follower_url = roles["leader"], roles["follower"]

    def kill(self) -> None:
        """Kill all processes."""
        for member in self.members:
            member.kill()

    def memory_mb(self) -> float:
        """Give the resident memory of all in MB."""
        return sum(member.memory_mb() for member in self.members)

    def cpu_seconds(self) -> float:
        """Give the CPU time that all have used so far."""
        return sum(member.cpu_seconds() for member in self.members)


def role_of(url: str) -> str:
    """Ask a member for its role."""
    with urllib.request.urlopen(f"{url}/v1/cluster/status", timeout=10) as answer:
        return str(json.load(answer)["role"])
