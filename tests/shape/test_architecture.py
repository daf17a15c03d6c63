"""ARCHITECTURE.md tells the truth about files and functions."""

import re

import pytest

from tests.shape.source import ROOT, classes, files, functions, parse

# `file.py`, `path/file.py`, `path/file.py:function` or `path/file.py:Class.method`
REFERENCE = re.compile(r"`((?:[\w-]+/)*[\w-]+\.py)(?::([\w.]+?)(?:\(\))?)?`")


def complaint(path: str, name: str | None) -> str | None:
    """Return what is wrong with a reference, or None."""
    found = [p for p in files() if p == path] or [p for p in files() if p.endswith(f"/{path}")]
    if not found:
        return f"{path}: no such file"
    if name is None:
        return None
    if len(found) > 1:
        return f"{path}: {len(found)} files of that name, give more of the path"
    tree = parse(found[0]).tree
    known = {qualified for qualified, _ in functions(tree)} | {node.name for node in classes(tree)}
    if any(q == name or q.endswith(f".{name}") for q in known):
        return None
    return f"{path}:{name}: no such function"


def test_what_the_architecture_names_exists() -> None:
    """Every file and function that ARCHITECTURE.md names exists."""
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    found = {complaint(path, name or None) for path, name in REFERENCE.findall(text)}
    assert sorted(c for c in found if c) == []


@pytest.mark.parametrize(
    ("reference", "good"),
    [
        ("`tests/shape/source.py`", True),
        ("`shape/source.py:parse`", True),
        ("`shape/source.py:Source.lines`", True),
        ("`shape/source.py:Source`", True),
        ("`shape/source.py:vanished`", False),
        ("`shape/vanished.py`", False),
        ("`__init__.py:parse`", False),
    ],
)
def test_wrong_references_are_found(reference: str, good: bool) -> None:
    """A reference to a missing or ambiguous file, or to a missing function, is found."""
    match = REFERENCE.fullmatch(reference)
    assert match
    assert (complaint(match[1], match[2]) is None) is good
