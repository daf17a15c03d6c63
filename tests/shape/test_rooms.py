"""The rooms of the house: what a domain consists of, and what the server sees of the SDK."""

import ast
import importlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.shape.source import ROOT, Source, sources

CONTRACT = ("coordinator_sdk.protocol", "coordinator_sdk.errors")
"""What the server may import of the SDK; its CLI, being a client, may import all of it."""


def parts(name: str) -> list[str]:
    """Return the files and folders that a domain of this name consists of."""
    return [
        f"coordinator/domains/{name}/__init__.py",
        f"coordinator/domains/{name}/model.py",
        f"coordinator/domains/{name}/commands.py",
        f"coordinator/domains/{name}/api.py",
        f"sdk/coordinator_sdk/{name}.py",
        f"sdk/coordinator_sdk/protocol/{name}.py",
        f"tests/domains/{name}/",
        f"docs/reference/{name}.md",
    ]


def missing(root: Path, name: str) -> list[str]:
    """Return the parts of a domain that are missing below a root."""
    absent = []
    for part in parts(name):
        path = root / part
        complete = any(path.glob("test_*.py")) if part.endswith("/") else path.is_file()
        if not complete:
            absent.append(f"domain {name}: {part} is missing")
    return absent


def folders() -> set[str]:
    """Return the domains by their folders."""
    return {
        path.name
        for path in (ROOT / "coordinator" / "domains").glob("*")
        if path.is_dir() and path.name != "__pycache__"
    }


def listed() -> list[str]:
    """Return the domains by the one list that registers them."""
    if not (ROOT / "coordinator" / "domains" / "__init__.py").exists():
        pytest.skip("no domains yet")
    domains = importlib.import_module("coordinator.domains").DOMAINS
    return [domain.name for domain in domains]


def test_the_list_of_domains_is_complete() -> None:
    """DOMAINS registers every folder of coordinator/domains exactly once, and nothing else."""
    names = listed()
    assert sorted(names) == sorted(folders())


def test_a_domain_is_whole() -> None:
    """Every domain has its model, commands, routes, recipe, protocol, tests and page."""
    assert [line for name in listed() for line in missing(ROOT, name)] == []


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    """The part that a new domain lacks is named."""
    for part in parts("semaphores"):
        path = tmp_path / part
        if part.endswith("/"):
            path.mkdir(parents=True)
            (path / "test_commands.py").touch()
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    assert missing(tmp_path, "semaphores") == []
    (tmp_path / "docs/reference/semaphores.md").unlink()
    (tmp_path / "tests/domains/semaphores/test_commands.py").unlink()
    assert missing(tmp_path, "semaphores") == [
        "domain semaphores: tests/domains/semaphores/ is missing",
        "domain semaphores: docs/reference/semaphores.md is missing",
    ]


def imported(source: Source) -> Iterator[tuple[int, str]]:
    """Yield (line, module) for every absolute import; `from a import b` gives `a.b`."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def test_the_server_sees_only_the_contract_of_the_sdk() -> None:
    """The server imports of the SDK only protocol and errors; only its CLI may use all of it."""
    breaches = [
        f"{source.path}:{line}: {name}"
        for source in sources("coordinator/")
        if not source.path.startswith("coordinator/cli/")
        for line, name in imported(source)
        if f"{name}.".startswith("coordinator_sdk.")
        and not f"{name}.".startswith(tuple(f"{allowed}." for allowed in CONTRACT))
    ]
    assert breaches == []


def test_alembic_stays_a_folder() -> None:
    """The alembic/ folder has no __init__.py, which would shadow the alembic package."""
    assert not (ROOT / "alembic" / "__init__.py").exists()
    spec = importlib.util.find_spec("alembic")
    assert spec is not None
    assert spec.origin is not None
