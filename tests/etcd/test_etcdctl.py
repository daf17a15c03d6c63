"""The real etcdctl against a member: cases of our own, and recorded ones from outside."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.api.member import Running, running, until
from tests.compat.recorded import corpora, differences, replayed

ETCDCTL = shutil.which("etcdctl")
CASES = Path(__file__).parent / "cases"
QUICK = ("version", "put_get", "txn")
"""Recorded scenarios that take moments."""

pytestmark = pytest.mark.skipif(
    ETCDCTL is None, reason="etcdctl is not installed: make system-deps"
)


async def run(*command: str, stdin: str = "", timeout: float = 20.0, cwd: Path) -> tuple[Any, ...]:
    """Run a program; give its exit status, or "timeout", and what it printed."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ETCDCTL_")}
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment | {"ETCDCTL_API": "3"},
        cwd=cwd,
    )
    try:
        async with asyncio.timeout(timeout):
            out, err = await process.communicate(stdin.encode())
    except TimeoutError:
        process.kill()
        await process.wait()
        return "timeout", "", ""
    return process.returncode, out.decode(), err.decode()


def expanded(text: str, known: dict[str, str]) -> str:
    """Put what was captured into a text."""
    return re.sub(r"\$\{(\w+)\}", lambda match: known[match[1]], text)


async def step(member: Running, case: dict[str, Any], known: dict[str, str], cwd: Path) -> None:
    """Run one case and compare."""
    assert ETCDCTL is not None
    arguments = [expanded(word, known) for word in case["args"]]
    endpoint = f"--endpoints=127.0.0.1:{member.port}"
    timeout = case.get("timeout", 20.0)
    status, out, err = await run(
        ETCDCTL, endpoint, *arguments, stdin=case.get("stdin", ""), timeout=timeout, cwd=cwd
    )
    where = f"{arguments}: {status} {out!r} {err!r}"
    assert status == case.get("exit", 0), where
    if "stdout" in case:
        assert out == expanded(case["stdout"], known), where
    if "contains" in case:
        text = err if case.get("where") == "stderr" else out
        assert expanded(case["contains"], known) in text, where
    if "error" in case:
        assert err.endswith(case["error"]), where
    if "error_contains" in case:
        assert case["error_contains"] in out + err, where
    for name, pattern in case.get("capture", {}).items():
        match = re.search(pattern, out)
        assert match is not None, where
        known[name] = match[1]


@pytest.mark.parametrize(
    "name",
    ["keys", *(pytest.param(name, marks=pytest.mark.slow) for name in ("rest", "users"))],
)
async def test_cases_of_our_own(name: str, tmp_path: Path) -> None:
    """Every command of the file prints what etcd would make it print."""
    cases = [json.loads(line) for line in (CASES / f"{name}.jsonl").read_text().splitlines()]
    known: dict[str, str] = {}
    async with running(tmp_path / "data", password_cost=10) as member:
        for case in cases:
            await step(member, case, known, tmp_path)


async def test_a_watcher_sees_what_another_writes(tmp_path: Path) -> None:
    """`etcdctl watch` prints the events that another etcdctl causes, in order."""
    assert ETCDCTL is not None
    async with running(tmp_path / "data") as member:
        endpoint = f"--endpoints=127.0.0.1:{member.port}"
        watching = await asyncio.create_subprocess_exec(
            *(ETCDCTL, endpoint, "watch", "w/", "--prefix", "--prev-kv"),
            stdout=asyncio.subprocess.PIPE,
            env=os.environ | {"ETCDCTL_API": "3"},
        )
        await until(lambda: len(member.node.hub) > 0)
        for arguments in (("put", "w/a", "1"), ("put", "w/a", "2"), ("del", "w/a")):
            await run(ETCDCTL, endpoint, *arguments, cwd=tmp_path)
        expected = b"PUT\nw/a\n1\nPUT\nw/a\n1\nw/a\n2\nDELETE\nw/a\n2\nw/a\n\n"
        assert watching.stdout is not None
        told = await watching.stdout.readexactly(len(expected))
        watching.kill()
        await watching.wait()
        assert told == expected


async def test_a_mirror_is_kept(tmp_path: Path) -> None:
    """`etcdctl make-mirror` copies one member's keys, and what follows, to another."""
    assert ETCDCTL is not None
    async with running(tmp_path / "a") as one, running(tmp_path / "b") as other:
        here, there = f"127.0.0.1:{one.port}", f"127.0.0.1:{other.port}"
        await run(ETCDCTL, f"--endpoints={here}", "put", "m/before", "1", cwd=tmp_path)
        mirroring = await asyncio.create_subprocess_exec(
            *(ETCDCTL, f"--endpoints={here}", "make-mirror", there, "--prefix", "m/"),
            stdout=asyncio.subprocess.DEVNULL,
            env=os.environ | {"ETCDCTL_API": "3"},
        )
        await until(lambda: len(one.node.hub) > 0)
        await run(ETCDCTL, f"--endpoints={here}", "put", "m/after", "2", cwd=tmp_path)
        await until(lambda: other.node.keyspace.get(0, b"m/after") is not None)
        assert other.node.keyspace.get(0, b"m/before") is not None
        mirroring.kill()
        await mirroring.wait()


async def test_recorded_outputs_sample(conformance_dir: Path, tmp_path: Path) -> None:
    """etcdctl prints against a member what it printed against etcd: a sample."""
    assert ETCDCTL is not None
    async with running(tmp_path / "data") as member:
        found = await replayed(corpora(conformance_dir)[0], member.port, tmp_path, ETCDCTL, QUICK)
    assert found
    assert differences(found) == {}
