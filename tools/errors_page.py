"""Writes docs/errors.md from the exception tree: `python -m tools.errors_page --write`."""

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

from coordinator_sdk.errors import CoordinatorError

PAGE = "docs/errors.md"

HEAD = """\
# Errors

<!-- Written by tools/errors_page.py from coordinator_sdk/errors.py; `make fix` writes it anew. -->

Every error has a stable `code`, the same on every door: as `error.code` in the body of an HTTP
answer, in an error frame of the WebSocket, and as a class of `coordinator_sdk.errors` in Python.
Catch a class to catch everything below it. *Retry* says whether the same call may be sent again as
it is; the SDK does so by itself where it is safe.

| class | code | HTTP | retry | meaning |
| --- | --- | --- | --- | --- |
"""


def tree(
    root: type[CoordinatorError] = CoordinatorError, depth: int = 0
) -> Iterator[tuple[type[CoordinatorError], int]]:
    """Walk the tree with the depth of each class, in the order of the source."""
    yield root, depth
    for child in root.__subclasses__():
        if child.__module__ == CoordinatorError.__module__:
            yield from tree(child, depth + 1)


def meaning(cls: type[CoordinatorError]) -> str:
    """Return the first sentence of the class's docstring, for a table cell."""
    first = inspect.cleandoc(cls.__doc__ or "").split("\n\n")[0]
    return " ".join(first.split()).replace("``", "`").replace("|", "\\|")


def render() -> str:
    """Return the page."""
    rows = [
        f"| {'· ' * depth}`{cls.__name__}` | `{cls.code}` | {cls.http_status} "
        f"| {'yes' if cls.retryable else ''} | {meaning(cls)} |"
        for cls, depth in tree()
    ]
    return HEAD + "\n".join(rows) + "\n"


def main(arguments: list[str]) -> int:
    """Print the page, or write it."""
    if arguments == ["--write"]:
        Path(__file__).resolve().parent.parent.joinpath(PAGE).write_text(render(), encoding="utf-8")
    else:
        print(render(), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
