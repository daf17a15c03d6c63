"""Rows below titles: boxed as etcdctl does, as fields, for people or for pipes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from coordinator.cli import fields, output

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.table import Table

    from coordinator.cli.command import Context

FORMATS = ("simple", "fields", "json", "table")


def boxed(titles: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Draw a box as etcdctl does: titles in the middle, cells to the right."""
    table = [[output.clean(str(cell)) for cell in row] for row in rows]
    widths = [max(len(row[at]) for row in [titles, *table]) for at in range(len(titles))]
    rule = "+".join(("", *("-" * (width + 2) for width in widths), ""))
    titled = [
        " " * ((width - len(title)) // 2) + title + " " * ((width - len(title) + 1) // 2)
        for title, width in zip(titles, widths, strict=True)
    ]
    filled = [[cell.rjust(width) for cell, width in zip(row, widths, strict=True)] for row in table]
    shown = [f"| {' | '.join(row)} |" for row in (titled, *filled)]
    return [rule, shown[0], rule, *shown[1:], *([rule] if table else [])]


def show(
    context: Context, titles: Sequence[str], rows: Sequence[Sequence[object]], value: Any
) -> None:
    """Print a listing in the format that was asked for.

    Args:
        context: The invocation.
        titles: A title for each column.
        rows: The cells.
        value: What ``-w json`` prints, a struct or a list of them.
    """
    if context.is_json:
        output.say_json(output.plain(value))
    elif context.write_out == "table":
        output.say(*boxed(titles, rows))
    elif context.write_out == "fields":
        names = ["".join(word.capitalize() for word in title.split()) for title in titles]
        for row in rows:
            cells = (cell if isinstance(cell, int) else str(cell) for cell in row)
            output.say(*map(fields.line, names, cells), "")
    elif sys.stdout.isatty():
        for_people(titles, rows)
    else:
        output.say(*output.columns(titles, rows))


def for_people(titles: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a listing on a terminal: titles stand out, long cells are folded."""
    from rich.console import Console

    Console().print(drawn(titles, rows))


def drawn(titles: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """Lay out a listing for a terminal."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in titles:
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*(Text(output.clean(str(cell))) for cell in row))
    return table
