"""`make cluster` tells the truth about what it starts."""

import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from coordinator_sdk.testing import free_port
from tests.cli.ctl import until

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]


def test_it_says_that_it_is_one_member(repository: Path, tmp_path: Path) -> None:
    """It says that several members come later, serves one, and ends on SIGTERM."""
    port, log = free_port(), tmp_path / "log"
    command = [sys.executable, "-m", "examples.cluster", "--port", str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--data-dir", str(tmp_path / "data")],
            cwd=repository,
            env=dict(os.environ),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:

        def ready() -> bool:
            assert process.poll() is None, log.read_text()
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5):
                    return True
            except OSError:
                return False

        until("a member", ready)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
    assert "several members come with a later release" in log.read_text()
