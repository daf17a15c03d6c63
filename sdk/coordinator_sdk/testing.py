"""A real coordinator for tests: a process on a free port, gone at the end.

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
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Self

from .errors import ConnectFailed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["CoordinatorProcess", "free_port", "running"]

READY_SECONDS = 20.0
STOP_SECONDS = 10.0
LOG_CHARS_SHOWN = 4000


def free_port() -> int:
    """A TCP port of the loopback address that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _command() -> list[str]:
    if importlib.util.find_spec("coordinator") is not None:
        return [sys.executable, "-m", "coordinator", "serve"]
    found = shutil.which("coordinator")
    if found is None:
        raise ConnectFailed("the server is not installed here: `pip install coordinator-server`")
    return [found, "serve"]


class CoordinatorProcess:
    """A coordinator in a process of its own.

    Attributes:
        url: Its endpoint.
        port: Its port.
        data_dir: Its data directory.
        log: File with its output.
    """

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
        self._options = list(options)
        self._environment = dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None

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
        self.data_dir.parent.mkdir(parents=True, exist_ok=True)
        command = [
            *_command(),
            "--data-dir",
            str(self.data_dir),
            "--listen-client-urls",
            self.url,
            *self._options,
        ]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self._environment},
            )
        self._wait_until_ready(time.monotonic() + within)
        return self

    def stop(self) -> int:
        """Ask it to end, and wait; returns its exit status."""
        process, self._process = self._process, None
        if process is None:
            return 0
        if process.poll() is None:
            process.send_signal(getattr(signal, "SIGTERM", signal.SIGINT))
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
        return process.wait()

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

    def _wait_until_ready(self, deadline: float) -> None:
        process = self._process
        assert process is not None
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        while time.monotonic() < deadline:
            status = process.poll()
            if status is not None:
                self._process = None
                raise ConnectFailed(f"the coordinator ended with {status}:\n{self.output()}")
            try:
                with opener.open(f"{self.url}/readyz", timeout=1.0) as answer:
                    if answer.status == 200:
                        return
            except (OSError, urllib.error.URLError):
                pass
            time.sleep(0.02)
        self.kill()
        raise ConnectFailed(f"the coordinator at {self.url} is not ready:\n{self.output()}")

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
