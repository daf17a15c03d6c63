"""txn: a transaction typed line by line, in etcdctl's syntax."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

from coordinator.cli import answers, kv, output
from coordinator.cli.command import (
    BAD_INPUT,
    CommandError,
    Context,
    Nouns,
    Parser,
)
from coordinator_sdk.protocol.kv import (
    Compare,
    CompareResult,
    CompareTarget,
    Delete,
    Put,
    Range,
)

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

Op = Put | Range | Delete

_TARGETS = {
    "ver": CompareTarget.VERSION,
    "version": CompareTarget.VERSION,
    "c": CompareTarget.CREATE,
    "create": CompareTarget.CREATE,
    "m": CompareTarget.MOD,
    "mod": CompareTarget.MOD,
    "val": CompareTarget.VALUE,
    "value": CompareTarget.VALUE,
    "lease": CompareTarget.LEASE,
}
_RELATIONS = {
    "=": CompareResult.EQUAL,
    "!=": CompareResult.NOT_EQUAL,
    "<": CompareResult.LESS,
    ">": CompareResult.GREATER,
}
_QUOTED = r'"(?:[^"\\]|\\.)*"'
_COMPARE = re.compile(rf"\s*(\w+)\(\s*({_QUOTED})\s*\)\s*(\S+?)\s*({_QUOTED})\s*\Z")
_WORD = re.compile(rf"{_QUOTED}|'[^']*'|[^'\"\s]\S*[^'\"\s]?")
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[0-7]{3}|.)", re.DOTALL)
_SIMPLE = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}


def add(nouns: Nouns) -> None:
    """Add the command."""
    parser = nouns.command("txn", run, "", "read a transaction from standard input and run it")
    parser.set_defaults(formats=answers.FORMATS)
    parser.add_argument("-i", "--interactive", action="store_true", help="show prompts")


# ---------------------------------------------------------------- the language


def unquote(text: str) -> str:
    r"""Take the quotes off a word and resolve its escapes, as Go writes them."""

    def resolve(match: re.Match[str]) -> str:
        what = match[1]
        if len(what) == 1:
            return _SIMPLE.get(what, what)
        if what[0] == "x":
            return bytes((int(what[1:], 16),)).decode("utf-8", "surrogateescape")
        return chr(int(what[1:], 16) if what[0] in "uU" else int(what, 8) & 0xFF)

    return _ESCAPE.sub(resolve, text[1:-1])


def words(line: str) -> list[str]:
    """Split a line as a shell would: words, "double quoted", 'single quoted'."""
    found = []
    for word in _WORD.findall(line):
        if word[0] == '"':
            found.append(unquote(word))
        elif word[0] == "'":
            found.append(word[1:-1])
        else:
            found.append(word)
    return found


def compare_of(line: str) -> Compare:
    """Read a comparison such as ``mod("key1") > "0"``."""
    match = _COMPARE.match(line)
    if match is None:
        raise CommandError(f"malformed comparison: {line}", BAD_INPUT)
    target = _TARGETS.get(match[1])
    if target is None:
        raise CommandError(f"malformed comparison: {line} (unknown target {match[1]})", BAD_INPUT)
    relation = _RELATIONS.get(match[3])
    if relation is None:
        raise CommandError(f"malformed comparison: {line} (unknown {match[3]})", BAD_INPUT)
    key, value = kv.encode(unquote(match[2])), unquote(match[4])
    if target == CompareTarget.VALUE:
        return Compare(target, relation, key, value=kv.encode(value))
    try:
        number = int(value, 16 if target == CompareTarget.LEASE else 10)
    except ValueError:
        number = 1 << 63
    if not -(1 << 63) <= number < 1 << 63:
        raise CommandError(f"invalid txn compare request: {line}", BAD_INPUT)
    return Compare(target, relation, key, number)


def op_of(line: str) -> Op:
    """Read an operation: a put, get or del as on the command line."""
    name, *rest = words(line) or [""]
    kind = _OPS.get(name)
    if kind is None:
        raise CommandError(f"invalid txn request: {line}", BAD_INPUT)
    add_flags, make = kind
    parser = Parser(prog=name, add_help=False, allow_abbrev=False)
    add_flags(parser)
    try:
        flags, _ = parser.parse_known_args(rest)
        if name == "put" and len(flags.args) < 2 and not flags.ignore_value:
            raise CommandError("put needs a key and a value")
        return make(flags, flags.args)
    except CommandError as error:
        raise CommandError(f"invalid txn request: {line} ({error})", BAD_INPUT) from None


_OPS: dict[str, tuple[Callable[[Parser], None], Callable[[argparse.Namespace, list[str]], Op]]] = {
    "put": (kv.put_flags, kv.put_of),
    "get": (kv.get_flags, kv.get_of),
    "del": (kv.del_flags, kv.del_of),
}


def lines() -> Iterator[str]:
    """Read the lines of one part: up to an empty line, or the end of the input."""
    while line := sys.stdin.buffer.readline():
        text = line.decode("utf-8", "surrogateescape").rstrip("\r\n")
        if not text.strip():
            return
        yield text


# ---------------------------------------------------------------- the command


async def run(context: Context) -> None:
    """Read a transaction, run it, print what it did."""
    context.arguments(0, 0, "txn command does not accept argument")

    def prompt(text: str) -> None:
        if context.flags.interactive:
            output.say(text)

    # Nothing else happens yet, so reading may block.
    prompt("compares:")
    compares = [compare_of(line) for line in lines()]
    prompt("success requests (get, put, del):")
    success = [op_of(line) for line in lines()]
    prompt("failure requests (get, put, del):")
    failure = [op_of(line) for line in lines()]
    async with context.client() as client:
        result = await client.kv.txn(compares, success, failure)
        await answers.show(context, client, result)
