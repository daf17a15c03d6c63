"""Real coordinators for tests: processes on free ports, gone at the end.

Example of a fixture for pytest::

    import pytest
    from coordinator_sdk.testing import running

    @pytest.fixture(scope="session")
    def coordinator():
        with running() as server:
            yield server

    async def test_it(coordinator):
        async with Client(coordinator.url) as client:
            ...

`running_cluster` is the same with three members, any of which can be killed, paused or wiped.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from ._ports import free_port
from .errors import ConnectFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

__all__ = ["ClusterProcess", "CoordinatorProcess", "free_port", "running", "running_cluster"]

READY_SECONDS = 20.0
STOP_SECONDS = 10.0
LOG_CHARS_SHOWN = 4000


def _command() -> list[str]:
    if importlib.util.find_spec("coordinator") is not None:
        return [sys.executable, "-m", "coordinator", "serve"]
    found = shutil.which("coordinator")
    if found is None:
        raise ConnectFailed("the server is not installed here: `pip install coordinator-server`")
    return [found, "serve"]


def _open(url: str, within: float) -> Any:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    return opener.open(url, timeout=within)


class CoordinatorProcess:
    """A coordinator in a process of its own.

    Attributes:
        url: Its endpoint.
        port: Its port.
        data_dir: Its data directory.
        log: File with its output.
        options: Further options of ``coordinator serve``, for the next start.
        environment: Further variables of its environment, for the next start.
        command: What runs ``coordinator serve``; the server installed here unless changed.
        name: Its name in a cluster; empty for one that is alone.
        peer_url: Where it listens for the other members; empty for one that is alone.
    """

    name = ""
    peer_url = ""

    def __init__(
        self,
        data_dir: str | os.PathLike[str],
        *,
        port: int | None = None,
        options: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Prepare a process; `start` starts it.

        Args:
            data_dir: Where it keeps its data; used again by the next `start`.
            port: Its port; a free one unless given.
            options: Further options of ``coordinator serve``.
            environment: Further variables of its environment.
        """
        self.data_dir = Path(data_dir)
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = self.data_dir.parent / f"{self.data_dir.name}.log"
        self.options = list(options)
        self.command: list[str] = []
        self.environment = dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._is_told_to_end = False

    @property
    def pid(self) -> int:
        """Its process id; 0 if it does not run."""
        return self._process.pid if self._process is not None else 0

    @property
    def is_running(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    def start(self, within: float = READY_SECONDS) -> Self:
        """Start it, and wait until it is ready.

        Raises:
            ConnectFailed: It is not ready within so many seconds, or has ended.
        """
        deadline = time.monotonic() + within
        self.spawn()
        self.wait_until_ready(deadline - time.monotonic())
        return self

    def spawn(self) -> None:
        """Start it, and do not wait; the members of a cluster become ready together."""
        assert not self.is_running, "it runs already"
        self.data_dir.parent.mkdir(parents=True, exist_ok=True)
        command = [
            *(self.command or _command()),
            "--data-dir",
            str(self.data_dir),
            "--listen-client-urls",
            self.url,
            *self.options,
        ]
        self._is_told_to_end = False
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self.environment},
            )

    def terminate(self) -> None:
        """Ask it to end, and do not wait."""
        if self.is_running and not self._is_told_to_end:
            assert self._process is not None
            self._is_told_to_end = True  # The second time it would end at once.
            self._process.send_signal(getattr(signal, "SIGTERM", signal.SIGINT))

    def stop(self) -> int:
        """Ask it to end, and wait; returns its exit status."""
        self.terminate()
        process, self._process = self._process, None
        if process is None:
            return 0
        if process.poll() is None:
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
        return process.wait()

    def wait_until_ended(self, within: float = STOP_SECONDS) -> int:
        """Wait until it ends by itself; returns its exit status.

        Raises:
            TimeoutError: It has not ended within so many seconds.
        """
        assert self._process is not None
        try:
            return self._process.wait(within)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"{self.url} has not ended within {within:g} s") from None

    def kill(self) -> None:
        """End it without warning."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def pause(self) -> None:
        """Stop it from running, as if its machine hung; not on Windows."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it run again after `pause`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def output(self) -> str:
        """The end of what it has printed."""
        with contextlib.suppress(OSError):
            return self.log.read_text(errors="replace")[-LOG_CHARS_SHOWN:]
        return ""

    def wipe(self) -> None:
        """Delete its data; it must not run."""
        assert not self.is_running, "it runs"
        shutil.rmtree(self.data_dir, ignore_errors=True)

    def status(self, within: float = 1.0) -> dict[str, Any]:
        """How it stands, as ``GET /v1/cluster/status`` tells it.

        Raises:
            OSError: It does not answer within so many seconds.
        """
        with _open(f"{self.url}/v1/cluster/status", within) as answer:
            told: dict[str, Any] = json.load(answer)
            return told

    def wait_until_ready(self, within: float = READY_SECONDS) -> None:
        """Wait until it serves reads and writes.

        Raises:
            ConnectFailed: It is not ready within so many seconds, or has ended.
        """
        process = self._process
        assert process is not None
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            status = process.poll()
            if status is not None:
                self._process = None
                raise ConnectFailed(f"the coordinator ended with {status}:\n{self.output()}")
            try:
                with _open(f"{self.url}/readyz", 1.0) as answer:
                    if answer.status == 200:
                        return
            except OSError:
                pass
            time.sleep(0.02)
        self.kill()
        raise ConnectFailed(f"the coordinator at {self.url} is not ready:\n{self.output()}")

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()


class ClusterProcess:
    """A cluster: each member is a process of its own.

    Attributes:
        members: Its members.
        directory: Where their data and logs lie.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        size: int = 3,
        *,
        options: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        advertise: Callable[[str], str] = str,
    ) -> None:
        """Prepare a cluster; `start` starts it.

        Args:
            directory: Where the members keep their data and logs.
            size: How many there are.
            options: Further options of ``coordinator serve``, the same for all.
            environment: Further variables of their environment.
            advertise: Given the URL at which a member listens for the others, gives the one
                under which they reach it; for tests with something between them.
        """
        self.directory = Path(directory)
        self._options = list(options)
        self._environment = dict(environment or {})
        self._advertise = advertise
        self._made = 0
        self.members = [self._make() for _ in range(size)]
        for member in self.members:
            self._place(member, self.members, "new")

    @property
    def urls(self) -> list[str]:
        """The endpoints of all members."""
        return [member.url for member in self.members]

    @property
    def url(self) -> str:
        """The endpoints of all members, joined by commas, as `Client` takes them."""
        return ",".join(self.urls)

    def start(self, within: float = READY_SECONDS) -> Self:
        """Start all members that do not run, and wait until all are ready.

        Raises:
            ConnectFailed: One is not ready within so many seconds, or has ended.
        """
        deadline = time.monotonic() + within
        try:
            for member in self.members:
                if not member.is_running:
                    member.spawn()
            for member in self.members:
                member.wait_until_ready(deadline - time.monotonic())
        except BaseException:
            self.kill()
            raise
        return self

    def leader(self, within: float = READY_SECONDS) -> CoordinatorProcess:
        """Wait until a majority of the members agree on who leads; gives the leader.

        Raises:
            ConnectFailed: There is none within so many seconds.
        """
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            found = self._agreed_leader()
            if found is not None:
                return found
            time.sleep(0.01)
        raise ConnectFailed(f"the cluster has no leader:\n{self.output()}")

    def _agreed_leader(self) -> CoordinatorProcess | None:
        by_id: dict[int, CoordinatorProcess] = {}
        votes: dict[tuple[int, int], int] = {}
        for member in self.members:
            if not member.is_running:
                continue
            with contextlib.suppress(OSError, ValueError):
                told = member.status()
                by_id[int(told["member"], 16)] = member
                vote = (told["term"], int(told["leader"], 16))
                votes[vote] = votes.get(vote, 0) + 1
        for (_, leader), count in votes.items():
            if leader in by_id and count > len(self.members) // 2:
                return by_id[leader]
        return None

    def followers(self) -> list[CoordinatorProcess]:
        """All members but the leader."""
        leader = self.leader()
        return [member for member in self.members if member is not leader]

    def joiner(self) -> CoordinatorProcess:
        """Prepare one more member, to be started once the cluster has added its ``peer_url``."""
        made = self._make()
        self.members.append(made)
        self._place(made, self.members, "existing")
        return made

    def remove(self, member: CoordinatorProcess) -> None:
        """End a member that the cluster has removed, and forget it."""
        self.members.remove(member)
        member.kill()

    def stop(self) -> None:
        """Ask all members to end, and wait."""
        for member in self.members:
            member.terminate()
        for member in self.members:
            member.stop()

    def kill(self) -> None:
        """End all members without warning."""
        for member in self.members:
            member.kill()

    def output(self) -> str:
        """The end of what each member has printed."""
        return "\n".join(f"--- {one.name} {one.url}\n{one.output()}" for one in self.members)

    def _make(self) -> CoordinatorProcess:
        self._made += 1
        name = f"m{self._made}"
        port, peer_port = free_port(), free_port()
        member = CoordinatorProcess(self.directory / name, port=port, environment=self._environment)
        member.name = name
        listens = f"http://127.0.0.1:{peer_port}"
        member.peer_url = self._advertise(listens)
        member.options = [
            *("--name", name),
            *("--advertise-client-urls", member.url),
            *("--listen-peer-urls", listens),
            *("--initial-advertise-peer-urls", member.peer_url),
            *self._options,
        ]
        return member

    @staticmethod
    def _place(
        member: CoordinatorProcess, members: Sequence[CoordinatorProcess], state: str
    ) -> None:
        text = ",".join(f"{one.name}={one.peer_url}" for one in members)
        member.options += ["--initial-cluster", text, "--initial-cluster-state", state]

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()


@contextlib.contextmanager
def running(
    data_dir: str | os.PathLike[str] | None = None,
    *,
    port: int | None = None,
    options: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Iterator[CoordinatorProcess]:
    """Run a coordinator for the length of a ``with``.

    Args:
        data_dir: Where it keeps its data; a temporary directory, removed at the end, unless
            given.
        port: Its port; a free one unless given.
        options: Further options of ``coordinator serve``.
        environment: Further variables of its environment.

    Yields:
        The process, ready.

    Raises:
        ConnectFailed: It does not become ready.
    """
    with contextlib.ExitStack() as stack:
        if data_dir is None:
            folder = tempfile.TemporaryDirectory(prefix="coordinator-", ignore_cleanup_errors=True)
            data_dir = Path(stack.enter_context(folder)) / "data"
        server = CoordinatorProcess(data_dir, port=port, options=options, environment=environment)
        yield stack.enter_context(server)


@contextlib.contextmanager
def running_cluster(
    directory: str | os.PathLike[str] | None = None,
    size: int = 3,
    *,
    options: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Iterator[ClusterProcess]:
    """Run a cluster for the length of a ``with``.

    Args:
        directory: Where the members keep their data and logs; a temporary directory, removed at
            the end, unless given.
        size: How many members there are.
        options: Further options of ``coordinator serve``, the same for all.
        environment: Further variables of their environment.

    Yields:
        The cluster, all its members ready.

    Raises:
        ConnectFailed: It does not become ready.
    """
    with contextlib.ExitStack() as stack:
        if directory is None:
            folder = tempfile.TemporaryDirectory(prefix="coordinator-", ignore_cleanup_errors=True)
            directory = Path(stack.enter_context(folder))
        cluster = ClusterProcess(directory, size, options=options, environment=environment)
        yield stack.enter_context(cluster)
