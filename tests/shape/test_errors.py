"""The exception tree and its page."""

from collections import Counter

from coordinator_sdk import errors
from tests.shape.source import ROOT
from tools.errors_page import PAGE, render, tree


def test_codes_are_unique() -> None:
    """Every class of the tree has a code of its own, in snake_case."""
    codes = Counter(cls.code for cls, _ in tree())
    assert [code for code, count in codes.items() if count > 1] == []
    assert [code for code in codes if not code.isidentifier() or code != code.lower()] == []


def test_every_class_is_documented_and_exported() -> None:
    """Every class of the tree says what it means and is exported by the module."""
    assert [cls.__name__ for cls, _ in tree() if not cls.__doc__] == []
    assert [cls.__name__ for cls, _ in tree() if cls.__name__ not in errors.__all__] == []


def test_statuses_are_errors() -> None:
    """Every class that crosses the wire has an HTTP status from 400 to 599."""
    assert [cls.__name__ for cls, _ in tree() if not 400 <= cls.http_status <= 599] == []


def test_an_error_crosses_the_wire() -> None:
    """Every class is rebuilt from its code, with message and details."""
    for cls, _ in tree():
        rebuilt = errors.error_from_wire(cls.code, "why", {"field": "ttl"})
        assert type(rebuilt) is cls
        assert (str(rebuilt), rebuilt.details) == ("why", {"field": "ttl"})


def test_the_page_is_in_sync() -> None:
    """docs/errors.md says what the tree says (`make fix` writes it)."""
    assert (ROOT / PAGE).read_text(encoding="utf-8") == render()
