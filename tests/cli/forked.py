"""Runs coordctl many times at little cost: a process that has loaded it forks for every run.

Started as ``python -m tests.cli.forked``, it reads one JSON object a line, with ``args``,
``stdin``, ``environment`` and the ``folder`` in which it leaves ``out`` and ``err``, and answers
with the exit code.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from tests.cli.ctl import environment


class Forked:
    """coordctl, ready to run."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.cli.forked"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )

    def run(
        self,
        endpoint: str,
        *args: str,
        stdin: str = "",
        more: Mapping[str, str] | None = None,
    ) -> tuple[int, str, str]:
        """Run it; gives exit code, output and what it said beside it."""
        request = {
            "args": args,
            "stdin": stdin,
            "environment": {**environment(endpoint), **(more or {})},
            "folder": str(self._folder),
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        code = int(self._process.stdout.readline())
        told = [(self._folder / name).read_bytes().decode() for name in ("out", "err")]
        return code, told[0], told[1]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def _run(request: dict[str, Any]) -> int:
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 99
    try:
        from coordinator.cli.coordctl import main

        folder = Path(request["folder"])
        (folder / "in").write_text(request["stdin"])
        files = (("in", os.O_RDONLY), ("out", os.O_WRONLY), ("err", os.O_WRONLY))
        for number, (name, mode) in enumerate(files):
            opened = os.open(folder / name, mode | os.O_CREAT | (os.O_TRUNC if number else 0))
            os.dup2(opened, number)
            os.close(opened)
        os.environ.clear()
        os.environ.update(request["environment"])
        code = main(request["args"])
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def serve() -> None:
    """Run coordctl for every line that comes."""
    import coordinator.cli.coordctl  # noqa: F401 - loaded once, for all runs

    for line in sys.stdin:
        sys.stdout.write(f"{_run(json.loads(line))}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    serve()
