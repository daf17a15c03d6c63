"""`make cluster` runs three members with one log view."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from coordinator_sdk.sync import Client
from coordinator_sdk.testing import free_port
from tests.cli.ctl import Ctl, until

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]


@pytest.mark.slow
def test_three_members_with_one_log_view(repository: Path, tmp_path: Path) -> None:
    """It starts three members, says when they are ready and how to use them, shows the log of
    each with its name in front, shows that one was killed, and stops all on SIGINT."""
    port, log = free_port((0, 1, 10, 11, 20, 21)), tmp_path / "log"
    command = [sys.executable, "-m", "examples.cluster", "--port", str(port)]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("COORDINATOR_")}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--data-dir", str(tmp_path / "data")],
            cwd=repository,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )

    def shows(pattern: str) -> "re.Match[str] | None":
        assert process.poll() is None, log.read_text()
        return re.search(pattern, log.read_text(), re.MULTILINE)

    try:
        urls = [f"http://127.0.0.1:{port + step}" for step in (0, 10, 20)]
        until("three members", lambda: shows(r"Ctrl-C stops all\.$"))
        printed = log.read_text()
        assert f"3 members are ready: {','.join(urls)}" in printed
        assert all(
            re.search(rf"^{name} \| .*serving ", printed, re.M) for name in ("m1", "m2", "m3")
        )
        with Client(*urls) as client:
            assert {one.name for one in client.cluster.members()} == {"m1", "m2", "m3"}
            client.kv.put("greeting", "hello")
            ctl = Ctl(urls[2])
            assert ctl.ok("get", "greeting") == "greeting\nhello\n"
            shown = json.loads(ctl.ok("member", "list", "-w", "json"))
            assert [one["peerURLs"] for one in shown["members"]]
            pid = re.search(r"pids: m1 (\d+),", printed)
            assert pid is not None
            os.kill(int(pid[1]), signal.SIGKILL)
            until("the end of m1", lambda: shows(r"^m1 \| has ended: SIGKILL$"))
            client.kv.put("greeting", "still here")
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    finally:
        process.terminate()
        process.wait()
    assert re.search(r"^m3 \| has ended: status 0$", log.read_text(), re.MULTILINE)
    assert (tmp_path / "data/cluster/m2").is_dir()
