"""Runs coordctl as a process, as a shell would."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

PATIENCE_SECONDS = 30.0
PATIENT = {"COORDCTL_DIAL_TIMEOUT": "20s", "COORDCTL_COMMAND_TIMEOUT": "20s"}
"""A busy machine must not look like a dead server."""


def until(what: str, condition: Callable[[], Any]) -> Any:
    """Wait until a condition holds; gives what it gave."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline, f"never came: {what}"
        time.sleep(0.02)
    return found


def environment(endpoint: str) -> dict[str, str]:
    """The environment of coordctl: nothing of the person who runs the tests."""
    foreign = ("COORDCTL_", "COORDINATOR_", "ETCDCTL_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return {**kept, **PATIENT, "COORDCTL_ENDPOINTS": endpoint}


class Running:
    """A coordctl that runs in the background; its output is collected."""

    def __init__(self, command: list[str], endpoint: str) -> None:
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(endpoint),
        )
        self.out = bytearray()
        self.err = bytearray()
        self._threads = [
            threading.Thread(target=self._collect, args=pair, daemon=True)
            for pair in ((self.process.stdout, self.out), (self.process.stderr, self.err))
        ]
        for thread in self._threads:
            thread.start()

    @staticmethod
    def _collect(pipe: Any, into: bytearray) -> None:
        while chunk := os.read(pipe.fileno(), 65536):
            into.extend(chunk)
        pipe.close()

    @property
    def stdout(self) -> str:
        return self.out.decode()

    @property
    def stderr(self) -> str:
        return self.err.decode()

    def shows(self, text: str) -> None:
        """Wait until it has printed something."""
        until(
            f"{text!r} in {self.stdout!r} {self.stderr!r}",
            lambda: text in self.stdout or text in self.stderr,
        )

    def send(self, number: int) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def ends(self) -> int:
        """Wait for its end; gives its status."""
        code = self.process.wait(PATIENCE_SECONDS)
        for thread in self._threads:
            thread.join(PATIENCE_SECONDS)
        return code

    def interrupt(self, number: int = signal.SIGINT) -> int:
        """Send it a signal and wait for its end."""
        self.send(number)
        return self.ends()


@dataclass
class Ctl:
    """coordctl for one endpoint."""

    endpoint: str
    started: list[Running] = field(default_factory=list)

    def command(self, *args: str) -> list[str]:
        return [sys.executable, "-m", "coordinator.cli.coordctl", *args]

    def run(self, *args: str, stdin: str | bytes = b"") -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        data = stdin.encode() if isinstance(stdin, str) else stdin
        done = subprocess.run(
            self.command(*args),
            input=data,
            capture_output=True,
            env=environment(self.endpoint),
            timeout=PATIENCE_SECONDS,
        )
        out, err = done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")
        return subprocess.CompletedProcess(done.args, done.returncode, out, err)

    def ok(self, *args: str, stdin: str | bytes = b"") -> str:
        """Run it; it must succeed and complain about nothing. Gives its output."""
        done = self.run(*args, stdin=stdin)
        assert (done.returncode, done.stderr) == (0, ""), (args, done)
        return done.stdout

    def start(self, *args: str) -> Running:
        """Run it in the background; `end` ends it."""
        running = Running(self.command(*args), self.endpoint)
        self.started.append(running)
        return running

    def end(self) -> None:
        """End everything that still runs."""
        for running in self.started:
            with contextlib.suppress(ProcessLookupError):
                running.process.kill()
            running.ends()
            assert running.process.stdin is not None
            running.process.stdin.close()
        self.started.clear()
