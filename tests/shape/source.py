"""Reads the checkout as the shape tests see it: files, syntax trees, definitions."""

import ast
import functools
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent

PRODUCT = ("coordinator/", "sdk/coordinator_sdk/")
"""What is installed."""

OWN = (*PRODUCT, "examples/", "tools/", "tests/", "alembic/")
"""What is written here."""

PURE = (
    "coordinator/wire/",
    "coordinator/raft/",
    "coordinator/keyspace/",
    "coordinator/sessions/",
    "coordinator/replica/",
    "sdk/coordinator_sdk/protocol/",
    "sdk/coordinator_sdk/errors.py",
)
"""The rooms without I/O, clock and randomness; `is_pure` adds the halves of the domains."""


@dataclass(frozen=True)
class Source:
    """One Python file."""

    path: str
    text: str
    tree: ast.Module

    @property
    def lines(self) -> int:
        """How long the file is."""
        return self.text.count("\n")


@functools.cache
def files() -> tuple[str, ...]:
    """Return every file that git tracks or would track, relative to the root, sorted."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listed.returncode == 0:
        names = listed.stdout.decode().split("\0")
    else:  # an unpacked archive: no git, and nothing in it that is not the project's
        names = [str(p.relative_to(ROOT)) for p in ROOT.rglob("*") if ".venv" not in p.parts]
    return tuple(sorted(name for name in set(names) if name and (ROOT / name).is_file()))


@functools.cache
def parse(path: str) -> Source:
    """Read and parse one Python file."""
    text = (ROOT / path).read_text(encoding="utf-8")
    return Source(path, text, ast.parse(text, filename=path))


def sources(*prefixes: str) -> list[Source]:
    """Return the Python files below any of the prefixes."""
    return [parse(p) for p in files() if p.endswith(".py") and p.startswith(prefixes)]


def is_pure(path: str) -> bool:
    """Tell whether a file belongs to the rooms without I/O, clock and randomness."""
    if path.startswith("coordinator/domains/"):
        return path.endswith(("/model.py", "/commands.py"))
    return path.startswith(PURE)


def pure_sources() -> list[Source]:
    """Return the Python files of the pure rooms."""
    return [source for source in sources(*PRODUCT) if is_pure(source.path)]


Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, Function]]:
    """Walk every function with its dotted name inside the module."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield prefix + node.name, node
            yield from functions(node, f"{prefix}{node.name}.")
        elif isinstance(node, ast.ClassDef):
            yield from functions(node, f"{prefix}{node.name}.")
        else:
            yield from functions(node, prefix)


def classes(tree: ast.AST) -> Iterator[ast.ClassDef]:
    """Walk every class."""
    return (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef))


def body_lines(function: Function) -> int:
    """Count the lines of a function from `def` on, its docstring left out."""
    total = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function, clean=False) is not None:
        total -= (first.end_lineno or first.lineno) - first.lineno + 1
    return total
