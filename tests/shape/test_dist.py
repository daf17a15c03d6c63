"""The two wheels hold what they should, and work in a venv that knows nothing of the checkout."""

import os
import re
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.shape.source import ROOT, files

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

QUICK_START = """
import asyncio, sys
from coordinator_sdk import Client

async def main():
    async with Client(sys.argv[1]) as client:
        async with client.services.register("orders", address="10.0.0.5", port=8080, ttl=10):
            assert len(await client.services.discover("orders")) == 1
        async with client.locks.lock("nightly-report", timeout=5) as lock:
            await client.kv.put("reports/last", b"done", guard=lock)
        async with client.elections.lead("scheduler"):
            pass
        await client.topics.publish("orders.created", b"1")
        async for message in client.topics.subscribe("orders.>", start="earliest"):
            break

asyncio.run(main())
"""


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command that must succeed, outside the checkout's own packages."""
    environment = {k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    result = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=240
    )
    assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
    return result.stdout


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Build both wheels from their source archives, as `make dist` does."""
    out = tmp_path_factory.mktemp("dist")
    for folder in (ROOT / "sdk", ROOT):
        run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, folder, cwd=out)
    assert len(list(out.glob("*.tar.gz"))) == 2
    return {path.name.split("-")[0]: path for path in out.glob("*.whl")}


@pytest.fixture(scope="module")
def installed(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheels in a venv that has their dependencies and nothing of the checkout.

    The dependencies come from this interpreter's site-packages by a .pth file. A .pth file in a
    folder that another .pth file adds is not read, so the editable installs are not seen.
    """
    venv = tmp_path_factory.mktemp("venv")
    run(sys.executable, "-m", "venv", "--without-pip", venv, cwd=venv)
    python = venv / "bin" / "python"
    site = run(
        python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=venv
    ).strip()
    lent = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    Path(site, "lent.pth").write_text("\n".join(sorted(lent)) + "\n")
    pip: list[str | Path] = [sys.executable, "-m", "pip", "--python", python]
    run(*pip, "install", "--no-deps", "--no-index", *wheels.values(), cwd=venv)
    return venv


@contextmanager
def serving(venv: Path, folder: Path) -> Iterator[str]:
    """Serve from the installed wheels on a free port until the block ends."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
    log = folder / "server.log"
    command: list[str | Path] = [
        *(venv / "bin" / "coordinator", "serve", "--data-dir", folder / "data"),
        *("--listen-client-urls", url, "--advertise-client-urls", url),
    ]
    with log.open("wb") as output:
        server = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + 30
        while True:
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            try:
                with urllib.request.urlopen(f"{url}/readyz", timeout=5):
                    break
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.05)
        yield url
    finally:
        server.terminate()
        try:
            server.wait(20)
        finally:
            server.kill()
    assert server.returncode == 0, log.read_text()


def test_the_wheels_carry_what_they_need(wheels: dict[str, Path]) -> None:
    """The server's wheel carries migrations and dashboard, the SDK's its types, neither tests."""
    server = set(zipfile.ZipFile(wheels["coordinator_server"]).namelist())
    sdk = set(zipfile.ZipFile(wheels["coordinator_sdk"]).namelist())
    for path in files():
        if path.startswith("alembic/"):
            assert path.replace("alembic/", "coordinator/_alembic/", 1) in server
        elif path.startswith("dashboards/plain/"):
            assert path.replace("dashboards/", "coordinator/_dashboards/", 1) in server
        elif path.startswith("coordinator/"):
            assert path in server
        elif path.startswith("sdk/coordinator_sdk/"):
            assert path.removeprefix("sdk/") in sdk
    built = ROOT / "dashboards" / "web" / "dist"
    for file in built.rglob("*.*"):
        if file.is_file():
            assert f"coordinator/_dashboards/web/dist/{file.relative_to(built)}" in server
    assert not [name for name in server if "node_modules" in name or "web/src" in name]
    assert "coordinator_sdk/py.typed" in sdk
    tops = {name.split("/")[0] for name in server | sdk}
    assert {top for top in tops if not top.endswith(".dist-info")} == {
        "coordinator",
        "coordinator_sdk",
    }


def test_the_sdk_needs_little(wheels: dict[str, Path]) -> None:
    """The SDK depends on msgspec and websockets and nothing else."""
    wheel = zipfile.ZipFile(wheels["coordinator_sdk"])
    metadata = next(n for n in wheel.namelist() if n.endswith(".dist-info/METADATA"))
    needed = re.findall(r"^Requires-Dist: ([\w-]+)", wheel.read(metadata).decode(), re.MULTILINE)
    assert sorted(needed) == ["msgspec", "websockets"]


def test_the_installed_wheels_do_the_main_job(installed: Path, tmp_path: Path) -> None:
    """Outside the checkout the wheels migrate, serve, show the page and run the quick start."""
    programs = installed / "bin"
    places = "import coordinator as a, coordinator_sdk as b; print(a.__file__, b.__file__)"
    assert str(ROOT) not in run(programs / "python", "-c", places, cwd=tmp_path)
    version = run(programs / "coordinator", "--version", cwd=tmp_path)
    assert re.search(r"\d+\.\d+\.\d+", version)
    run(programs / "coordctl", "--help", cwd=tmp_path)
    with serving(installed, tmp_path):
        pass
    run(programs / "coordinator", "migrate", "--data-dir", tmp_path / "data", cwd=tmp_path)
    with serving(installed, tmp_path) as url:
        with urllib.request.urlopen(f"{url}/", timeout=10) as page:
            assert page.headers.get_content_type() == "text/html"
            assert b"<html" in page.read().lower()
        run(programs / "python", "-c", QUICK_START, url, cwd=tmp_path)
