"""Runs the test suites of aetcd and python-etcd3, as checked out, against three members.

``make compat-upstream DIR=...`` with a folder of one of them. Both want an etcd on port 2379, and
python-etcd3's stops two of the three members by the names that it expects of them.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import sys
import tempfile
from pathlib import Path

from coordinator_sdk.testing import free_port
from tests.etcd.starting import settled, started, stopped

PORT = 2379
FLOOR = 0.95
SUITES = {"aetcd": ("modern", "TEST_ETCD_HTTP_URL"), "etcd3": ("etcd3", "PYTHON_ETCD_HTTP_URL")}
"""By the package that a checkout holds: its environment, and the variable for the URL."""


def say(line: str) -> None:
    """Print a line."""
    sys.stdout.write(f"{line}\n")


def counted(printed: str) -> dict[str, int]:
    """Read pytest's last line."""
    line = printed.strip().splitlines()[-1] if printed.strip() else ""
    return {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|error)", line)}


async def suite(folder: Path, clients: Path, arguments: list[str]) -> int:
    """Run the suite of a checkout, with more arguments of pytest; gives the exit status."""
    package = next((name for name in SUITES if (folder / name).is_dir()), None)
    if package is None:
        say(f"{folder}: neither aetcd nor python-etcd3 is checked out there")
        return 2
    environment, variable = SUITES[package]
    python = clients / environment / "bin" / "python"
    if not python.is_file():
        say(f"{python} is not there: make compat-clients")
        return 2
    names = ["pifpaf0", "pifpaf1", "pifpaf2"]
    ports = [(PORT if not n else free_port(), free_port()) for n in range(3)]
    whole = ",".join(
        f"{name}=http://127.0.0.1:{peer}" for name, (_, peer) in zip(names, ports, strict=True)
    )
    with tempfile.TemporaryDirectory() as data:
        made = await asyncio.gather(
            *(
                started(
                    *("--name", name, f"--initial-cluster={whole}"),
                    *(f"--listen-client-urls=http://127.0.0.1:{client}",),
                    *(f"--advertise-client-urls=http://127.0.0.1:{client}",),
                    *(f"--listen-peer-urls=http://127.0.0.1:{peer}",),
                    *(f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",),
                    folder=Path(data),
                )
                for name, (client, peer) in zip(names, ports, strict=True)
            )
        )
        draining = [asyncio.ensure_future(_drained(process)) for process, _ in made]
        try:
            await settled(PORT)
            process = await asyncio.create_subprocess_exec(
                *(str(python), "-m", "pytest", "-q", "-o", "addopts=", "-p", "no:cacheprovider"),
                "tests",
                *arguments,
                cwd=folder,
                stdout=asyncio.subprocess.PIPE,
                env=os.environ
                | {variable: f"http://127.0.0.1:{PORT}", "TEST_ETCD_VERSION": "v3.4.23"},
            )
            assert process.stdout is not None
            printed = ""
            while line := (await process.stdout.readline()).decode():
                printed += line
                sys.stdout.write(line)
                sys.stdout.flush()
            await process.wait()
        finally:
            for task in draining:
                task.cancel()
            await asyncio.gather(*(stopped(process) for process, _ in made))
    found = counted(printed)
    passed = found.get("passed", 0)
    total = passed + found.get("failed", 0)
    share = passed / total if total else 0.0
    say(f"{package}: {passed} of {total} pass, {share:.1%}; the floor is {FLOOR:.0%}")
    return 0 if share >= FLOOR else 1


async def _drained(process: asyncio.subprocess.Process) -> None:
    """Read what a member logs: it would wait for its reader."""
    assert process.stderr is not None
    while await process.stderr.readline():
        pass


def main() -> int:
    """Run the command line."""
    if len(sys.argv) < 2:
        say("usage: make compat-upstream DIR=CHECKOUT ARGS=")
        return 2
    with socket.socket() as one:
        if one.connect_ex(("127.0.0.1", PORT)) == 0:
            say(f"port {PORT} is taken, and the suites want it")
            return 2
    clients = Path(os.environ.get("COMPAT_CLIENTS", ".data/compat-clients")).absolute()
    return asyncio.run(suite(Path(sys.argv[1]).absolute(), clients, sys.argv[2:]))


if __name__ == "__main__":
    sys.exit(main())
