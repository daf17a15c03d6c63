"""Recorded command lines, replayed by the runner that lies beside them.

A folder ``etcdctl`` of recorded data has a runner ``run_golden.py`` and one or more files
``*.jsonl``. Each of their lines is a command with what it printed against etcd.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

OF_ETCDCTL = re.compile(r"\A(etcdctl version: |NAME:\n\t)")
"""Begins what is etcdctl's own name and version, or the text of its help."""


def corpora(conformance_dir: Path) -> list[Path]:
    """Give every file of recorded command lines; the test skips where there is none."""
    folder = conformance_dir / "etcdctl"
    found = sorted(folder.glob("*.jsonl"))
    if not found or not (folder / "run_golden.py").is_file():
        pytest.skip("no recorded outputs of etcdctl there")
    return found


def cases(corpus: Path) -> list[dict[str, Any]]:
    """Read the recorded lines of a file."""
    return [json.loads(line) for line in corpus.read_text().splitlines() if line.strip()]


def scenarios(corpus: Path, *, without: Iterable[str] = ()) -> list[str]:
    """Give the scenarios of a file, in its order."""
    names = dict.fromkeys(case["scenario"] for case in cases(corpus))
    return [name for name in names if name not in without]


def of_etcdctl(corpus: Path) -> set[str]:
    """Give the ids of the lines whose output is etcdctl's own name, version or usage."""
    return {
        case["id"]
        for case in cases(corpus)
        if OF_ETCDCTL.match(case.get("expect", {}).get("stdout", ""))
    }


async def replayed(
    corpus: Path,
    port: int,
    folder: Path,
    program: str,
    chosen: Iterable[str] = (),
    *options: str,
) -> list[dict[str, Any]]:
    """Replay scenarios of a file with a program against an endpoint of this machine.

    Returns:
        For each compared line its id, whether it agreed, and what came if it did not.
    """
    told = folder / f"{corpus.stem}.{port}.results"
    arguments = [word for name in chosen for word in ("--scenario", name)]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-B", str(corpus.parent / "run_golden.py"), *arguments, *options),
        *("--corpus", str(corpus), "--endpoint", f"127.0.0.1:{port}"),
        *("--etcdctl", program, "--json", str(told)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=folder,
        env={name: value for name, value in os.environ.items() if not name.startswith("ETCDCTL_")},
    )
    try:
        printed, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert told.is_file(), printed.decode()
    found: list[dict[str, Any]] = json.loads(told.read_text())["results"]
    return found


def differences(results: Iterable[dict[str, Any]], *, but: Iterable[str] = ()) -> dict[str, Any]:
    """Give what came instead of the recorded output, by the id of the line."""
    return {one["id"]: one["got"] for one in results if not one["ok"] and one["id"] not in but}
