"""The table of mistakes in docs/testing.md."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def rows() -> dict[int, list[tuple[str, str]]]:
    """Give the tests that the table names, as (file, function), by the number of the mistake."""
    text = (ROOT / "docs" / "testing.md").read_text()
    section = text.partition("## Mistakes that others have made")[2].partition("\n## ")[0]
    return {
        int(number): [(file, name) for file, name in re.findall(r"`([\w/.]+)::(\w+)`", line)]
        for number, line in re.findall(r"^\| (\d+) \| (.*)$", section, re.MULTILINE)
    }


def test_every_mistake_has_tests_that_exist():
    """Each of the twenty mistakes has a test, and every test that is named exists."""
    found = rows()
    assert list(found) == list(range(1, 21))
    assert all(found.values())
    for file, name in sorted({test for tests in found.values() for test in tests}):
        tree = ast.parse((ROOT / "tests" / file).read_text())
        functions = [
            node.name
            for node in tree.body
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        ]
        assert name in functions, f"{file}::{name}"
