"""Every test says what it shows."""

import ast

from tests.shape.source import Source, functions, sources


def unclaimed(source: Source) -> list[str]:
    """Return the tests of a file whose docstring states no claim on its first line."""
    return [
        f"{source.path}:{function.lineno}: {name}"
        for name, function in functions(source.tree)
        if function.name.startswith("test_")
        and len((ast.get_docstring(function) or "").split("\n")[0].split()) < 3
    ]


def test_every_test_states_its_claim() -> None:
    """The first line of every test's docstring states what the test shows."""
    tests = [s for s in sources("tests/") if s.path.rpartition("/")[2].startswith("test_")]
    assert [line for source in tests for line in unclaimed(source)] == []
