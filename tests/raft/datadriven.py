"""Reads transcript files: commands with arguments, and the output they are to produce.

A case looks like this; blank lines and lines that begin with `#` separate cases::

    command argument key=value list=(1,2,3)
    input, possibly several lines
    ----
    expected output, up to the next blank line

Output that contains blank lines stands between two pairs of `----` lines. A command continues on
the next line after a backslash.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_WORD = re.compile(r"[^\s=]+(?:=\([^)]*\)|=\S*)?")


@dataclass(frozen=True)
class Argument:
    """One argument of a command: a bare word, or a key with values."""

    key: str
    values: tuple[str, ...] = ()


@dataclass(frozen=True)
class Case:
    """One command with the output it is to produce."""

    path: Path
    line: int
    """Where the command stands, from 1."""
    command: str
    arguments: tuple[Argument, ...]
    input: str
    expected: str
    output_span: tuple[int, int]
    """Where the output stands: from which line, counted from 0, up to but not including which."""

    def words(self) -> list[str]:
        """Return the arguments without values."""
        return [argument.key for argument in self.arguments if not argument.values]

    def pairs(self) -> Iterator[tuple[str, str]]:
        """Yield every value with its key."""
        for argument in self.arguments:
            for value in argument.values:
                yield argument.key, value

    def value(self, key: str) -> str | None:
        """Return the only value of a key, or None."""
        for name, value in self.pairs():
            if name == key:
                return value
        return None


def parse_command(text: str) -> tuple[str, tuple[Argument, ...]]:
    """Split a command line into the command and its arguments."""
    words: list[str] = _WORD.findall(text)
    return words[0], tuple(_parse_argument(word) for word in words[1:])


def _parse_argument(word: str) -> Argument:
    key, equals, value = word.partition("=")
    if not equals:
        return Argument(key)
    if len(value) > 2 and value.startswith("(") and value.endswith(")"):
        return Argument(key, tuple(part.strip() for part in value[1:-1].split(",")))
    if value == "()":
        return Argument(key)
    return Argument(key, (value,))


class _Lines:
    """The lines of a file, with the number of the one read last."""

    def __init__(self, text: str) -> None:
        self._lines = text.splitlines()
        self.number = 0
        self.ended_blank = False

    def next(self) -> str | None:
        if self.number >= len(self._lines):
            return None
        self.number += 1
        return self._lines[self.number - 1]

    def peek(self) -> str | None:
        return self._lines[self.number] if self.number < len(self._lines) else None


def read_cases(path: Path) -> list[Case]:
    """Return the cases of one file, in order."""
    lines = _Lines(path.read_text(encoding="utf-8"))
    cases: list[Case] = []
    while (line := lines.next()) is not None:
        command = line.strip()
        if not command or command.startswith("#"):
            continue
        start = lines.number
        while command.endswith("\\"):
            command = command[:-1].strip() + " " + (lines.next() or "").strip()
        given, has_output = _read_input(lines)
        before = lines.number
        expected = _read_output(lines) if has_output else ""
        after = max(before, lines.number - lines.ended_blank)
        name, arguments = parse_command(command)
        cases.append(Case(path, start, name, arguments, given, expected, (before, after)))
    return cases


def _read_input(lines: _Lines) -> tuple[str, bool]:
    given: list[str] = []
    while (line := lines.next()) is not None:
        if line == "----":
            return "\n".join(given).strip(), True
        given.append(line)
    return "\n".join(given).strip(), False


def _read_output(lines: _Lines) -> str:
    output: list[str] = []
    if lines.peek() == "----":
        lines.next()
        lines.ended_blank = False
        while (line := lines.next()) is not None:
            if line == "----" and lines.peek() == "----":
                lines.next()
                break
            output.append(line)
        return "".join(f"{text}\n" for text in output)
    while (line := lines.next()) is not None and line.strip():
        output.append(line)
    # The blank line that ends an output does not belong to it.
    lines.ended_blank = line is not None
    return "".join(f"{text}\n" for text in output)
