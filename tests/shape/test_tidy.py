"""Sizes, docstrings, names and purity of every file, read from the syntax trees."""

import ast
import re

import pytest

from tests.shape import ratchet
from tests.shape.purity import impurities
from tests.shape.source import (
    OWN,
    PRODUCT,
    ROOT,
    body_lines,
    classes,
    files,
    functions,
    pure_sources,
    sources,
)

FUNCTION_LINES_MAX = 70
MODULE_LINES_MAX = 500
SIZED = (*PRODUCT, "examples/", "tools/")
BANNED_WORDS = {"master", "manager", "helper", "helpers", "util", "utils"}

# Joined here, so that this file does not name what it forbids.
REGISTRY_HOSTS = [
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("registry", "npmjs", "org"),
        ("deb", "debian", "org"),
        ("proxy", "golang", "org"),
        ("crates", "io"),
    )
]
MACHINE_PATH = re.compile(r"(?<![\w.$}-])/(?:work|root|home|Users)/(?=\w)")
FILE_ADDRESS = re.compile(r"\bfile:" + r"//")


def outgrown(found: dict[str, int], known: dict[str, int], limit: int) -> list[str]:
    """Compare sizes with the limit and with the list of exceptions, which may only shrink."""
    complaints = []
    for name, size in found.items():
        allowed = known.get(name, limit)
        if size > allowed:
            complaints.append(f"{name}: {size} lines, at most {allowed}")
    for name, size in known.items():
        now = found.get(name, 0)
        if now <= limit:
            complaints.append(f"{name}: no exception needed any more, take it off the list")
        elif now < size:
            complaints.append(f"{name}: {now} lines now, lower its entry")
    return complaints


def test_functions_fit_on_a_screen() -> None:
    """A function has at most 70 lines, its docstring not counted."""
    found = {
        f"{source.path}:{name}": body_lines(function)
        for source in sources(*SIZED)
        for name, function in functions(source.tree)
    }
    assert outgrown(found, ratchet.LONG_FUNCTIONS, FUNCTION_LINES_MAX) == []


def test_modules_stay_small() -> None:
    """A module has at most 500 lines."""
    found = {source.path: source.lines for source in sources(*SIZED)}
    assert outgrown(found, ratchet.LONG_MODULES, MODULE_LINES_MAX) == []


def test_exceptions_may_only_shrink() -> None:
    """An exception that grew, could be lowered or is not needed any more is reported."""
    assert outgrown({"a": 80}, {"a": 79}, 70) == ["a: 80 lines, at most 79"]
    assert outgrown({"a": 78}, {"a": 79}, 70) == ["a: 78 lines now, lower its entry"]
    assert len(outgrown({"a": 60}, {"a": 79}, 70)) == 1
    assert outgrown({"a": 79, "b": 70}, {"a": 79}, 70) == []


def test_every_module_says_what_it_is() -> None:
    """Every module with code in it begins with a docstring."""
    silent = [
        source.path
        for source in sources(*OWN)
        if source.tree.body and not ast.get_docstring(source.tree)
    ]
    assert silent == []


def words(name: str) -> set[str]:
    """Split a snake_case or CamelCase name."""
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])", name)}


def test_names_say_what_a_thing_is() -> None:
    """No module or class of ours is named master, manager, helper or utils."""
    named = [
        f"{source.path}: {name}"
        for source in sources(*OWN)
        for name in (
            *source.path.removesuffix(".py").split("/"),
            *(node.name for node in classes(source.tree)),
        )
        if words(name) & BANNED_WORDS
    ]
    assert sorted(set(named)) == []


def test_pure_rooms_are_deterministic() -> None:
    """Pure rooms neither iterate over sets, nor hash, nor use floats, nor wait."""
    found = [
        f"{source.path}:{line}: {what}"
        for source in pure_sources()
        for line, what in sorted(impurities(source.tree))
    ]
    assert found == []


@pytest.mark.parametrize(
    "breach",
    [
        "def f():\n    for x in {1, 2}: pass",
        "def f(a: set[int]):\n    return [x for x in a]",
        "def f():\n    a = set()\n    return list(a | {1})",
        "class C:\n    seen: frozenset[str]\n    def f(self):\n        return tuple(self.seen)",
        "def f(a: set[int]):\n    return a.pop()",
        "def f(a: set[int]):\n    return (*a,)",
        "x = hash('a')",
        "x = 1.5",
        "def f(a: float): pass",
        "x = 3 / 2",
        "async def f(): pass",
    ],
)
def test_impure_code_is_found(breach: str) -> None:
    """Each kind of breach of purity, planted, is found."""
    assert list(impurities(ast.parse(breach)))


@pytest.mark.parametrize(
    "harmless",
    [
        "def f(a: set[int]):\n    return sorted(a), len(a), 1 in a",
        "def f(a: set[int]):\n    return sum(x for x in a), sorted(x + 1 for x in a)",
        "def f(a: dict[int, int]):\n    return [x for x in a]",
        "def f(a: list[int]):\n    return a.pop()",
        "def f(a: set[int]): pass\ndef g(a: list[int]):\n    return list(a)",
        "x = 3 // 2",
    ],
)
def test_pure_code_is_left_alone(harmless: str) -> None:
    """What does not depend on the order of a set is no breach of purity."""
    assert list(impurities(ast.parse(harmless))) == []


def test_files_name_no_registry_and_no_machine() -> None:
    """No tracked text file names a package registry's host or a path of somebody's machine."""
    found = []
    for path in files():
        try:
            text = (ROOT / path).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # not text
        for number, line in enumerate(text.splitlines(), 1):
            if (
                any(host in line for host in REGISTRY_HOSTS)
                or MACHINE_PATH.search(line)
                or FILE_ADDRESS.search(line)
            ):
                found.append(f"{path}:{number}: {line.strip()[:100]}")
    assert found == []
