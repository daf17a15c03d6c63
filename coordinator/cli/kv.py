"""put, get, del: keys, with etcdctl's flags and output."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from coordinator.cli import answers, output
from coordinator.cli.command import (
    BAD_ARGUMENTS,
    UNSUPPORTED,
    CommandError,
    Context,
    Nouns,
    Parser,
    Run,
    hexadecimal,
    whole,
)
from coordinator_sdk.kv import SortBy
from coordinator_sdk.protocol.kv import Delete, Put, Range, SortOrder, SortTarget

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

EVERYTHING = b"\0"
_SORTS: dict[str, SortBy] = {
    "CREATE": "create",
    "KEY": "key",
    "MODIFY": "mod",
    "VALUE": "value",
    "VERSION": "version",
}
_TARGETS = {
    "create": SortTarget.CREATE,
    "key": SortTarget.KEY,
    "mod": SortTarget.MOD,
    "value": SortTarget.VALUE,
    "version": SortTarget.VERSION,
}


def add(nouns: Nouns) -> None:
    """Add the commands."""
    kinds: tuple[tuple[str, Run, str, str, Callable[[Parser], None]], ...] = (
        ("put", put, "<key> <value>", "write a key", put_flags),
        ("get", get, "<key> [range_end]", "read a key or a range of keys", get_flags),
        ("del", delete, "<key> [range_end]", "delete a key or a range of keys", del_flags),
    )
    for name, run, usage, summary, add_flags in kinds:
        parser = nouns.command(name, run, usage, summary, 0)
        parser.set_defaults(formats=answers.FORMATS, reads_past=name == "get")
        add_flags(parser)


def encode(text: str) -> bytes:
    """Give an argument as the bytes that the shell handed over."""
    return text.encode("utf-8", "surrogateescape")


# ---------------------------------------------------------------- flags


def put_flags(parser: Parser) -> None:
    """Add the flags of put."""
    add_flag = parser.add_argument
    add_flag("--lease", default="0", metavar="ID", help="lease that the key hangs on (in hex)")
    add_flag("--prev-kv", action="store_true", help="print the record as it was before")
    add_flag("--ignore-value", action="store_true", help="keep the value, change the lease")
    add_flag("--ignore-lease", action="store_true", help="keep the lease, change the value")


def get_flags(parser: Parser) -> None:
    """Add the flags of get."""
    add_flag = parser.add_argument
    add_flag("--consistency", default="l", help="l (linearizable) or s (serializable)")
    add_flag("--order", default="", help="ASCEND or DESCEND")
    add_flag("--sort-by", default="", help="CREATE, KEY, MODIFY, VALUE or VERSION")
    add_flag("--limit", type=whole, default=0, help="at most so many records")
    add_flag("--prefix", action="store_true", help="all keys that begin with the key")
    add_flag("--from-key", action="store_true", help="all keys from the key on")
    add_flag("--rev", type=whole, default=0, help="as it was at this revision")
    add_flag("--keys-only", action="store_true", help="leave the values out")
    add_flag("--count-only", action="store_true", help="print only how many there are")
    add_flag("--print-value-only", action="store_true", help="leave the keys out")


def del_flags(parser: Parser) -> None:
    """Add the flags of del."""
    add_flag = parser.add_argument
    add_flag("--prefix", action="store_true", help="all keys that begin with the key")
    add_flag("--from-key", action="store_true", help="all keys from the key on")
    add_flag("--prev-kv", action="store_true", help="print the records as they were")


# ---------------------------------------------------------------- from arguments to operations


def put_of(flags: argparse.Namespace, args: list[str]) -> Put:
    """Make the operation of a put; one argument takes the value from standard input."""
    if not args:
        raise CommandError(
            "put command needs 1 argument and input from stdin or 2 arguments", BAD_ARGUMENTS
        )
    if flags.ignore_value and len(args) > 1:
        raise CommandError(
            "put command needs only 1 argument when 'ignore-value' is set", BAD_ARGUMENTS
        )
    lease = hexadecimal(flags.lease, "bad lease ID")
    if flags.ignore_value:
        value = b""
    else:
        value = encode(args[1]) if len(args) > 1 else sys.stdin.buffer.read()
    return Put(
        encode(args[0]),
        value,
        lease,
        bool(flags.prev_kv),
        bool(flags.ignore_value),
        bool(flags.ignore_lease),
    )


def get_of(flags: argparse.Namespace, args: list[str]) -> Range:
    """Make the operation of a get."""
    if not args:
        raise CommandError(
            "get command needs one argument as key and an optional argument as range_end",
            BAD_ARGUMENTS,
        )
    if flags.keys_only and flags.count_only:
        raise CommandError(
            "`--keys-only` and `--count-only` cannot be set at the same time, choose one",
            BAD_ARGUMENTS,
        )
    if flags.consistency not in ("l", "s"):
        raise CommandError(f'unknown consistency flag "{flags.consistency}"', UNSUPPORTED)
    key, end = bounds(args, flags.prefix, flags.from_key)
    order, target = _order(flags.order, flags.sort_by)
    return Range(
        key,
        end,
        max(flags.limit, 0),
        max(flags.rev, 0),
        order,
        target,
        bool(flags.keys_only),
        bool(flags.count_only),
        serializable=flags.consistency == "s",
    )


def del_of(flags: argparse.Namespace, args: list[str]) -> Delete:
    """Make the operation of a del."""
    if not args:
        raise CommandError(
            "del command needs one argument as key and an optional argument as range_end",
            BAD_ARGUMENTS,
        )
    key, end = bounds(args, flags.prefix, flags.from_key)
    return Delete(key, end, bool(flags.prev_kv))


def bounds(args: list[str], prefix: bool, from_key: bool) -> tuple[bytes, bytes]:
    """Give the bounds of a range; an empty end means one key."""
    if prefix and from_key:
        raise CommandError(
            "`--prefix` and `--from-key` cannot be set at the same time, choose one",
            BAD_ARGUMENTS,
        )
    if (prefix or from_key) and len(args) > 1:
        raise CommandError(
            "too many arguments, only accept one argument when `--prefix` or `--from-key` is set",
            BAD_ARGUMENTS,
        )
    key = encode(args[0])
    if prefix:
        return (key, after(key)) if key else (EVERYTHING, EVERYTHING)
    if from_key:
        return key or EVERYTHING, EVERYTHING
    return key, encode(args[1]) if len(args) > 1 else b""


def after(prefix: bytes) -> bytes:
    """Give the end of the range of keys that begin with a prefix."""
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes((kept[-1] + 1,)) if kept else EVERYTHING


def _order(order: str, sort_by: str) -> tuple[SortOrder, SortTarget]:
    orders = {"": SortOrder.NONE, "ASCEND": SortOrder.ASCEND, "DESCEND": SortOrder.DESCEND}
    found = orders.get(order.upper())
    if found is None:
        raise CommandError(f"bad sort order {order}", UNSUPPORTED)
    name = _SORTS.get(sort_by.upper() or "KEY")
    if name is None:
        raise CommandError(f"bad sort target {sort_by}", UNSUPPORTED)
    if found is SortOrder.NONE and name != "key":
        found = SortOrder.ASCEND
    return found, _TARGETS[name]


# ---------------------------------------------------------------- commands


@dataclass(frozen=True)
class _Ordering:
    """How the SDK wants to be told."""

    sort_by: SortBy | None
    descending: bool


def _ordering(op: Range) -> _Ordering:
    if op.sort_order == SortOrder.NONE:
        return _Ordering(None, False)
    name = next(name for name, target in _TARGETS.items() if target == op.sort_target)
    by = next(sort for sort in _SORTS.values() if sort == name)
    return _Ordering(by, op.sort_order == SortOrder.DESCEND)


async def put(context: Context) -> None:
    """Write a key."""
    op = put_of(context.flags, context.args)
    async with context.client() as client:
        result = await client.kv.put(
            op.key,
            op.value,
            lease=op.lease,
            prev_kv=op.prev_kv,
            ignore_value=op.ignore_value,
            ignore_lease=op.ignore_lease,
        )
        await answers.show(context, client, result)


async def get(context: Context) -> None:
    """Read keys."""
    flags = context.flags
    op = get_of(flags, context.args)
    if flags.print_value_only and context.write_out != "simple":
        raise CommandError("print-value-only is only for `--write-out=simple`", BAD_ARGUMENTS)
    ordering = _ordering(op)
    async with context.client() as client:
        result = await client.kv.range(
            op.key,
            range_end=op.range_end or None,
            limit=op.limit,
            revision=op.revision or context.revision,
            sort_by=ordering.sort_by,
            descending=ordering.descending,
            keys_only=op.keys_only,
            count_only=op.count_only,
            serializable=op.serializable,
        )
        if op.count_only and context.write_out == "simple":
            output.say(str(result.count))
        elif flags.print_value_only:
            output.write(b"".join(output.shown(kv.value, context.hex) + b"\n" for kv in result.kvs))
        else:
            await answers.show(context, client, result)


async def delete(context: Context) -> None:
    """Delete keys."""
    op = del_of(context.flags, context.args)
    async with context.client() as client:
        result = await client.kv.delete(op.key, range_end=op.range_end or None, prev_kv=op.prev_kv)
        await answers.show(context, client, result)
