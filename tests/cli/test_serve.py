"""The command `coordinator`: what it prints, refuses, and how its process starts and stops."""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from coordinator import __version__
from coordinator.cli.serve import build_parser, main
from coordinator.config import setting_fields
from coordinator_sdk.testing import free_port

ROOT = Path(__file__).resolve().parent.parent.parent


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """The version is printed."""
    with pytest.raises(SystemExit) as done:
        main(["--version"])
    assert done.value.code == 0
    assert capsys.readouterr().out == f"coordinator {__version__}\n"


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    """The help shows the first steps, and that of serve every setting with its default."""
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert "curl -X PUT" in text
    assert "COORDINATOR_DATA_DIR" in text
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    text = capsys.readouterr().out
    assert [flag for flag in setting_fields() if f"--{flag} " not in text] == []


def test_no_abbreviations(capsys: pytest.CaptureFixture[str]) -> None:
    """A flag is written out; an unknown one is refused."""
    for wrong in (["serve", "--data", "x"], ["serve", "--nothing"], ["fly"], []):
        with pytest.raises(SystemExit) as done:
            build_parser().parse_args(wrong)
        assert done.value.code == 2
    capsys.readouterr()


def test_config_show(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every setting is shown, with its origin if asked for."""
    monkeypatch.setenv("COORDINATOR_MAX_TXN_OPS", "64")
    assert main(["config", "show", "--origin", "--name", "m1", "--insecure-open"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert set(lines) == set(setting_fields())
    assert re.fullmatch(r"name +m1  # flag", lines["name"])
    assert lines["insecure-open"].endswith("true  # flag")
    assert lines["max-txn-ops"].endswith("64  # environment COORDINATOR_MAX_TXN_OPS")
    assert lines["data-dir"].endswith("m1.coordinator  # default")
    assert main(["config", "show"]) == 0
    assert "#" not in capsys.readouterr().out


def test_all_problems_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """Wrong settings are all told, one a line, and the status is 2."""
    status = main(
        ["serve", "--listen-client-urls", "http://0.0.0.0:2379", "--election-timeout", "1"]
    )
    assert status == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("coordinator: --") for line in lines)


def test_migrate_refuses_what_is_no_directory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Migrating needs a directory, and leaves one alone in which no member lives."""
    assert main(["migrate", "--data-dir", str(tmp_path / "none")]) == 2
    assert "no such directory" in capsys.readouterr().err
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    for _ in range(2):
        assert main(["migrate", "--data-dir", str(folder)]) == 0
        assert "nothing to migrate" in capsys.readouterr().out
    assert not list(folder.glob("*.db"))


# ---------------------------------------------------------------- real processes

process = pytest.mark.process


class Served:
    """A process of the server."""

    def __init__(self, folder: Path, port: int, *flags: str) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "coordinator", "serve"),
                *("--data-dir", str(folder), "--listen-client-urls", self.url, *flags),
            ],
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": f"{ROOT / 'sdk'}:{ROOT}"},
        )
        self.lines: list[str] = []

    def line(self, pattern: str) -> str:
        """Wait for a line of the log."""
        assert self.process.stderr is not None
        while True:
            ready, _, _ = select.select([self.process.stderr], [], [], 30)
            line = self.process.stderr.readline() if ready else ""
            assert line, (self.process.poll(), self.lines)
            self.lines.append(line)
            if re.search(pattern, line):
                return line

    def get(self, path: str) -> bytes:
        """Ask it something."""
        with urllib.request.urlopen(self.url + path, timeout=10) as answer:
            body: bytes = answer.read()
            return body

    def rest(self) -> str:
        """Wait for its end; give what else it said."""
        _, text = self.process.communicate(timeout=30)
        return text


@contextmanager
def served(folder: Path, port: int, *flags: str) -> Iterator[Served]:
    """Run a server."""
    made = Served(folder, port, *flags)
    try:
        yield made
    finally:
        made.process.kill()
        made.process.communicate()


@process
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_one_line_and_a_clean_end(tmp_path: Path, number: signal.Signals) -> None:
    """It says in one line where it serves, and stops with status 0 when told to."""
    # The port for peers that nobody chose may be taken, which would be a line more.
    peers = ("--listen-peer-urls", "http://127.0.0.1:0")
    with served(tmp_path / "data", free_port(), *peers) as one:
        line = one.line("serving")
        assert one.url in line
        assert str(tmp_path / "data") in line
        assert "ready in" in line
        assert one.get("/health") == b'{"health":"true"}'
        one.process.send_signal(number)
        assert "stopped" in one.rest()
        assert one.process.returncode == 0
        assert len(one.lines) == 1


@process
def test_written_before_read_after(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was written is there after a kill, a migration and a new start."""
    port = free_port()
    with served(tmp_path / "data", port) as one:
        one.line("serving")
        request = urllib.request.Request(f"{one.url}/v1/kv/a", b"1", method="PUT")
        urllib.request.urlopen(request, timeout=10).close()
        assert main(["migrate", "--data-dir", str(tmp_path / "data")]) == 1
        assert "in use" in capsys.readouterr().err
        one.process.kill()
        one.process.wait()
    assert main(["migrate", "--data-dir", str(tmp_path / "data")]) == 0
    assert __version__ in capsys.readouterr().out
    with served(tmp_path / "data", port) as again:
        again.line("serving")
        assert again.get("/v1/kv/a?raw=true") == b"1"


@process
def test_port_in_use(tmp_path: Path) -> None:
    """A port in use is told in one line that says what to do; the data is not touched."""
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with served(tmp_path / "data", port) as one:
            text = one.rest()
        assert one.process.returncode == 1
        (line,) = text.splitlines()
        assert f"cannot listen on http://127.0.0.1:{port}" in line
        assert "--listen-client-urls" in line
        assert not (tmp_path / "data").exists()


@process
@pytest.mark.slow
def test_data_directory_in_use(tmp_path: Path) -> None:
    """A second process on a data directory is refused in one line."""
    with served(tmp_path / "data", free_port()) as one:
        one.line("serving")
        with served(tmp_path / "data", free_port()) as second:
            text = second.rest()
        assert second.process.returncode == 1
        assert len(text.splitlines()) == 1
        assert one.get("/livez") == b"ok\n"


@process
@pytest.mark.slow
def test_second_signal_ends_at_once(tmp_path: Path) -> None:
    """A second signal ends the process without further ado."""
    with served(tmp_path / "data", free_port()) as one:
        one.line("serving")
        with closing(socket.create_connection(("127.0.0.1", int(one.url.rsplit(":", 1)[1])))) as c:
            c.sendall(b"GET /v1/watch?key=a HTTP/1.1\r\nhost: localhost\r\n\r\n")
            assert c.recv(100).startswith(b"HTTP/1.1 200")
            os.kill(one.process.pid, signal.SIGSTOP)
            one.process.send_signal(signal.SIGTERM)
            one.process.send_signal(signal.SIGINT)
            os.kill(one.process.pid, signal.SIGCONT)
            one.rest()
        assert one.process.returncode in (128 + signal.SIGTERM, 128 + signal.SIGINT, 0)


@process
@pytest.mark.slow
def test_two_addresses(tmp_path: Path) -> None:
    """A member listens on every address of the list."""
    first, second = free_port(), free_port()
    urls = f"http://127.0.0.1:{first},http://localhost:{second}"
    with served(tmp_path / "data", first, "--listen-client-urls", urls) as one:
        one.line("serving")
        assert one.get("/livez") == b"ok\n"
        with urllib.request.urlopen(f"http://127.0.0.1:{second}/livez", timeout=10) as answer:
            assert answer.read() == b"ok\n"


LEAN = """
import sys
import coordinator.app, coordinator.api.server, coordinator.node.node, coordinator.cli.serve
print(*sorted({name.split(".")[0] for name in sys.modules}))
"""


def test_start_is_lean() -> None:
    """Serving does not load what only migrating, testing or other programs need."""
    found = subprocess.run(
        [sys.executable, "-c", LEAN],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'sdk'}:{ROOT}"},
    )
    loaded = set(found.stdout.split())
    assert loaded & {"alembic", "mako", "pytest", "httpx", "click", "jose"} <= {"click"}
