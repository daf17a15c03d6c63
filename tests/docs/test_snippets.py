"""The programs on the pages of docs/ run as they are printed.

A fenced block whose info string is ``python NAME.py`` is a file. The files of a page lie in one
folder; a server on a free port is named by ``COORDINATOR_ENDPOINTS``.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator_sdk.testing import CoordinatorProcess, free_port, running

FILE = re.compile(r"```python (\w+\.py)\n(.*?)```", re.DOTALL)
WAIT_SECONDS = 60

pytestmark = [pytest.mark.timeout(120), pytest.mark.process]


@pytest.fixture(scope="module")
def server() -> Iterator[CoordinatorProcess]:
    with running() as process:
        yield process


@pytest.fixture
def environment(server: CoordinatorProcess, repository: Path) -> dict[str, str]:
    path = os.pathsep.join((str(repository / "sdk"), str(repository)))
    return {**os.environ, "COORDINATOR_ENDPOINTS": server.url, "PYTHONPATH": path}


def files_of(page: Path, folder: Path) -> list[str]:
    """Write the files of a page into a folder; gives their names in the page's order."""
    found = FILE.findall(page.read_text())
    for name, text in found:
        (folder / name).write_text(text)
    return [name for name, _ in found]


def run(folder: Path, environment: dict[str, str], *arguments: str) -> str:
    """Run Python to its end; gives what it printed."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
    )
    assert done.returncode == 0, f"{arguments}\n{done.stdout}\n{done.stderr}"
    return done.stdout


class Background:
    """A program of a page that runs until it is told to stop."""

    def __init__(self, folder: Path, environment: dict[str, str], name: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-u", name],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def until(self, text: str) -> str:
        """Read up to the line in which there is a text; gives what was read."""
        assert self._process.stdout is not None
        read = ""
        for line in self._process.stdout:
            read += line
            if text in line:
                return read
        pytest.fail(f"it ended without saying {text!r}:\n{read}")

    def __enter__(self) -> "Background":
        return self

    def stop(self) -> str:
        """Send SIGTERM and wait; gives the rest of its output."""
        self._process.terminate()
        rest, _ = self._process.communicate(timeout=WAIT_SECONDS)
        return rest

    @property
    def status(self) -> int | None:
        """Its exit status; None while it runs."""
        return self._process.poll()

    def kill(self) -> None:
        """End it without warning."""
        self._process.kill()
        self._process.communicate()

    def __exit__(self, *exc: object) -> None:
        if self._process.poll() is None:
            self.kill()


def test_fencing(repository: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    """On the page about fencing, the write with the stale token is the one refused."""
    assert files_of(repository / "docs/howto/fencing.md", tmp_path) == ["fenced.py"]
    printed = run(tmp_path, environment, "fenced.py")
    assert re.findall("True|False", printed) == ["True", "True", "False"]


def test_cron(repository: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    """The cron job works on its first start and not on its second."""
    assert files_of(repository / "docs/howto/cron.md", tmp_path) == ["nightly.py"]
    assert "report written" in run(tmp_path, environment, "nightly.py")
    assert run(tmp_path, environment, "nightly.py") == "has run today\n"


def test_drain(repository: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    """The draining service drains and deregisters on SIGTERM, and ends well."""
    assert files_of(repository / "docs/howto/drain.md", tmp_path) == ["drain.py"]
    with Background(tmp_path, environment, "drain.py") as service:
        service.until("registered")
        assert service.stop() == "draining\nderegistered\n"
        assert service.status == 0


def test_watch(repository: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    """The watch goes on where it was, the last revision included."""
    assert files_of(repository / "docs/howto/watch.md", tmp_path) == ["follow.py"]
    printed = run(tmp_path, environment, "follow.py")
    assert re.findall(r"b'[\w/]*'", printed) == [
        *("b'config/colour'", "b'red'"),
        *("b'config/colour'", "b'blue'"),
        *("b'config/end'", "b''"),
    ]


@pytest.mark.slow
def test_testing(repository: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    """The tests on the page about testing pass against the server they start."""
    names = files_of(repository / "docs/howto/testing.md", tmp_path)
    assert names == ["conftest.py", "test_orders.py", "test_members.py"]
    assert "3 passed" in run(tmp_path, environment, "-m", "pytest", "-q", "-p", "no:cacheprovider")


def test_getting_started(repository: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    """The service registers itself, takes an order, and the second worker follows the first."""
    names = files_of(repository / "docs/getting-started.md", tmp_path)
    assert names == ["orders.py", "order.py", "worker.py"]
    environment["PORT"] = str(free_port())
    with (
        Background(tmp_path, environment, "orders.py") as service,
        Background(tmp_path, environment, "worker.py") as first,
    ):
        first.until("holds orders-worker")
        service.until("Uvicorn running")
        assert run(tmp_path, environment, "order.py") == '{"item":"bread","sequence":1}\n'
        first.until("settled 1 bread")
        with Background(tmp_path, environment, "worker.py") as second:
            second.until("waits for orders-worker")
            first.kill()
            run(tmp_path, environment, "order.py")
            assert "settled 1" not in second.until("settled 2 bread")
        assert "Finished" in service.stop()
