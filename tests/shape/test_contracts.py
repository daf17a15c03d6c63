"""The import rules of pyproject.toml catch what they are there for: each is broken on purpose.

A skeleton of the house, a file with a docstring per room, is laid out beside the real rules; then
one forbidden import is planted in it.
"""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.shape.source import ROOT

RULES = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
LAYERS = next(c["layers"] for c in RULES["contracts"] if c["type"] == "layers")
ROOMS = re.findall(r"\w+", " ".join(LAYERS))
MODULES = [
    *(f"coordinator/{room}/__init__.py" for room in ROOMS),
    "coordinator/storage/state.py",
    "coordinator/raft/core.py",
    "coordinator/api/routes.py",
    *(
        f"coordinator/domains/{domain}/{module}.py"
        for domain in ("locks", "services")
        for module in ("__init__", "model", "commands", "api")
    ),
    *(
        f"coordinator/etcd/{module}.py"
        for module in ("answering", "blocks", "frames", "headers", "jsonform", "jsontext")
    ),
    *(f"coordinator/etcd/{module}.py" for module in ("messages", "status", "table", "translate")),
    "sdk/coordinator_sdk/errors.py",
    "sdk/coordinator_sdk/client.py",
    "sdk/coordinator_sdk/protocol/__init__.py",
]
LINT = "from importlinter.cli import lint_imports_command; lint_imports_command()"
SKELETON = dict.fromkeys(MODULES, "") | {
    "coordinator/__init__.py": "",
    "sdk/coordinator_sdk/__init__.py": "",
    "coordinator/storage/state.py": "import sqlalchemy",
    "coordinator/cli/__init__.py": "import coordinator.app, coordinator_sdk.client",
    "coordinator/domains/locks/api.py": "import fastapi\nfrom coordinator.api import routes",
    "coordinator/domains/locks/commands.py": "from coordinator.replica import __name__",
}


def lint(
    folder: Path, planted: dict[str, str] | None = None, rules: str = "pyproject.toml"
) -> subprocess.CompletedProcess[str]:
    """Check a skeleton, with code planted in some of its files, against the real rules."""
    shutil.copy(ROOT / rules, folder / "rules.toml")
    for path, code in {**SKELETON, **(planted or {})}.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(f'"""A room."""\n{code}\n')
    return subprocess.run(
        [sys.executable, "-c", LINT, "--no-cache", "--config", "rules.toml"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{folder / 'sdk'}"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_house_as_drawn_keeps_every_rule(tmp_path: Path) -> None:
    """A skeleton of the house without a breach keeps every contract."""
    for rules in ("pyproject.toml", "tools/cycles.toml"):
        result = lint(tmp_path, rules=rules)
        assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("path", "code", "rule"),
    [
        ("coordinator/raft/core.py", "import asyncio", "core is pure"),
        ("coordinator/keyspace/index.py", "from time import time", "core is pure"),
        ("coordinator/sessions/clock.py", "import random", "core is pure"),
        ("coordinator/domains/locks/model.py", "import os", "core is pure"),
        ("sdk/coordinator_sdk/protocol/frames.py", "import websockets", "core is pure"),
        ("coordinator/raft/core.py", "import coordinator.config", "rooms are stacked"),
        ("coordinator/keyspace/index.py", "import coordinator.raft", "rooms are stacked"),
        ("coordinator/node/loop.py", "import coordinator.domains", "rooms are stacked"),
        ("coordinator/extra/__init__.py", "", "rooms are stacked"),
        (
            "coordinator/domains/locks/api.py",
            "import coordinator.domains.services.model",
            "never imports another domain",
        ),
        ("coordinator/node/loop.py", "import sqlalchemy", "SQLAlchemy stays"),
        ("sdk/coordinator_sdk/client.py", "import coordinator.wire", "SDK knows nothing"),
    ],
)
def test_a_breach_is_caught(tmp_path: Path, path: str, code: str, rule: str) -> None:
    """A forbidden import breaks the contract that forbids it."""
    result = lint(tmp_path, {path: code})
    assert result.returncode == 1
    broken = re.findall(r"^(.+) BROKEN$", result.stdout, re.MULTILINE)
    assert any(rule in name for name in broken), result.stdout


def test_a_cycle_is_caught(tmp_path: Path) -> None:
    """Two modules that import each other are found; for types alone they may."""
    there = {"coordinator/raft/core.py": "import coordinator.raft.log"}
    back = "import coordinator.raft.core"
    typed = f"from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    {back}"
    cycle = lint(tmp_path, there | {"coordinator/raft/log.py": back}, "tools/cycles.toml")
    assert cycle.returncode == 1
    assert "No cycles while running BROKEN" in cycle.stdout
    alone = lint(tmp_path, there | {"coordinator/raft/log.py": typed}, "tools/cycles.toml")
    assert alone.returncode == 0, alone.stdout
