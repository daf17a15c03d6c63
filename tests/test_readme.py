"""The README is true: its programs are taken from the page and run as they are printed."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from coordinator_sdk.sync import Client
from coordinator_sdk.testing import CoordinatorProcess
from tests.cli.ctl import Ctl

PORT = 2379
"""The page says so, and the page is what is tested."""

pytestmark = pytest.mark.timeout(120)


def programs(repository: Path) -> dict[str, str]:
    """Return the programs on the page that have a name, and its shell block as ``curl.sh``."""
    page = (repository / "README.md").read_text()
    found = dict(re.findall(r"```python (\w+\.py)\n(.*?)```", page, re.DOTALL))
    blocks = re.findall(r"```bash\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 1
    return {**found, "curl.sh": blocks[0]}


def is_taken(port: int = PORT) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CoordinatorProcess]:
    if is_taken():
        pytest.skip(f"PORT {PORT} IS IN USE: the README's programs can't be run as printed")
    with CoordinatorProcess(tmp_path_factory.mktemp("readme") / "data", port=PORT) as process:
        yield process


def run(folder: Path, name: str, text: str) -> subprocess.CompletedProcess[str]:
    file = folder / name
    file.write_text(text)
    command = ["bash", "-eu", str(file)] if name.endswith(".sh") else [sys.executable, str(file)]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60
    )


@pytest.mark.slow
def test_without_a_server_the_error_says_what_to_do(repository: Path, tmp_path: Path) -> None:
    """With no server, the quick start names the URL it tried and how to start one."""
    if is_taken():
        pytest.skip(f"PORT {PORT} IS IN USE: a missing server can't be shown")
    given = programs(repository)
    with ThreadPoolExecutor() as both:
        names = ("quickstart.py", "quickstart_sync.py")
        ran = list(both.map(lambda name: run(tmp_path, name, given[name]), names))
    for done in ran:
        assert done.returncode != 0
        last = done.stderr.strip().splitlines()[-1]
        assert "ConnectFailed" in last
        assert "http://127.0.0.1:2379" in last
        assert "make run" in last


def test_every_program_of_the_page_runs(
    server: CoordinatorProcess, repository: Path, tmp_path: Path
) -> None:
    """The README's programs run as printed, in order, and show what they promise."""
    expected = {
        "quickstart.py": [
            "instances: ['10.0.0.5:8080']",
            "held with fencing token",
            "leading with token",
            "message: orders.created 1 b'{\"id\": 1}'",
        ],
        "quickstart_sync.py": ["instances: ['10.0.0.5:8080']", "leading with token", "message:"],
        "subscriber.py": ["orders.created 1 b'{\"id\": 1}'"],
    }
    found = programs(repository)
    assert set(found) == {*expected, "curl.sh"}
    for name, lines in expected.items():
        done = run(tmp_path, name, found[name])
        assert done.returncode == 0, f"{name}\n{done.stdout}\n{done.stderr}"
        for line in lines:
            assert line in done.stdout, f"{name}\n{done.stdout}"


def test_the_curl_block_runs(server: CoordinatorProcess, repository: Path, tmp_path: Path) -> None:
    """The README's curl commands write, read and delete a key."""
    if shutil.which("curl") is None:
        pytest.skip("CURL IS NOT INSTALLED: the README's shell block can't be run")
    done = run(tmp_path, "curl.sh", programs(repository)["curl.sh"])
    assert done.returncode == 0, done.stderr
    assert "hello" in done.stdout


CLUSTERS = {
    "static.sh": ["http://127.0.0.1:12379", "http://127.0.0.1:22379", "http://127.0.0.1:32379"],
    "discovery.sh": ["http://127.0.0.1:12479", "http://127.0.0.1:22479", "http://127.0.0.1:32479"],
}
NAMES = {"static.sh": {"a", "b", "c"}, "discovery.sh": {"n1", "n2", "n3"}}
READY_SECONDS = 90


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


@pytest.mark.process
@pytest.mark.parametrize(
    "name", ["static.sh", pytest.param("discovery.sh", marks=pytest.mark.slow)]
)
def test_three_members_form_a_cluster(
    name: str, server: CoordinatorProcess, repository: Path, tmp_path: Path
) -> None:
    """Three members that are started as the README prints it, by --initial-cluster and by a token,
    form a cluster by themselves."""
    if shutil.which("curl") is None:
        pytest.skip("CURL IS NOT INSTALLED: the README's shell block can't be run")
    urls = CLUSTERS[name]
    for port in [port_of(url) + step for url in urls for step in (0, 1)]:
        if is_taken(port):
            pytest.skip(f"PORT {port} IS IN USE: the README's block can't be run as printed")
    (block,) = re.findall(
        rf"```bash {re.escape(name)}\n(.*?)```", (repository / "README.md").read_text(), re.DOTALL
    )
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv/bin").symlink_to(Path(sys.executable).parent)
    log = tmp_path / "log"
    with log.open("wb") as output:
        shell = subprocess.Popen(
            ["bash", "-eu", "-c", f"{block}\nwait"],
            cwd=tmp_path,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + READY_SECONDS
        with Client(*urls, connect_timeout=READY_SECONDS, timeout=READY_SECONDS) as client:
            while {one.name for one in client.cluster.members()} != NAMES[name]:
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.05)
            client.kv.put("greeting", "hello")
        for url in urls:
            ctl = Ctl(url)
            assert ctl.ok("get", "greeting") == "greeting\nhello\n"
            (status,) = json.loads(ctl.ok("endpoint", "status", "-w", "json"))
            assert status["Status"]["leader"]
    except BaseException as error:
        error.add_note(log.read_text())
        raise
    finally:
        os.killpg(shell.pid, signal.SIGKILL)
        shell.wait()
