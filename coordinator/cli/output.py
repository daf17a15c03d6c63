"""How coordctl prints: etcdctl's lines and JSON for keys, tables and our own JSON for the rest."""

from __future__ import annotations

import base64
import json
import sys
import time
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from coordinator_sdk.protocol.kv import (
    DeleteResult,
    Event,
    KeyValue,
    PutResult,
    RangeResult,
    TxnResult,
)
from coordinator_sdk.protocol.shapes import shape_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from coordinator_sdk import Client

Response = PutResult | RangeResult | DeleteResult | TxnResult


def write(data: bytes) -> None:
    """Print bytes as they are, at once."""
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def say(*lines: str) -> None:
    """Print lines of text, at once."""
    write("".join(f"{line}\n" for line in lines).encode("utf-8", "backslashreplace"))


def tell(line: str) -> None:
    """Say something to the person at the terminal, beside the output."""
    print(line, file=sys.stderr, flush=True)


def say_json(value: Any) -> None:
    """Print one JSON value on a line."""
    say(json.dumps(value, separators=(",", ":"), ensure_ascii=False))


# ---------------------------------------------------------------- keys, as etcdctl prints them


def shown(value: bytes, as_hex: bool) -> bytes:
    r"""Give bytes as they are, or as ``\x66\x6f\x6f``."""
    return b"".join(b"\\x%02x" % byte for byte in value) if as_hex else value


def record_lines(kv: KeyValue, as_hex: bool) -> bytes:
    """Give a record as two lines: key and value."""
    return b"%b\n%b\n" % (shown(kv.key, as_hex), shown(kv.value, as_hex))


def response_lines(response: Response, as_hex: bool) -> bytes:
    """Give the answer to one operation."""
    if isinstance(response, PutResult):
        before = record_lines(response.prev_kv, as_hex) if response.prev_kv else b""
        return b"OK\n" + before
    if isinstance(response, RangeResult):
        return b"".join(record_lines(kv, as_hex) for kv in response.kvs)
    if isinstance(response, DeleteResult):
        before = b"".join(record_lines(kv, as_hex) for kv in response.prev_kvs)
        return b"%d\n%b" % (response.deleted, before)
    parts = [b"SUCCESS\n" if response.succeeded else b"FAILURE\n"]
    parts += [b"\n" + response_lines(part, as_hex) for part in response.responses]
    return b"".join(parts)


def event_lines(event: Event, as_hex: bool) -> bytes:
    """Give a change: what happened, the record before if it is known, key and value."""
    kind = b"PUT\n" if event.type == 0 else b"DELETE\n"
    before = record_lines(event.prev_kv, as_hex) if event.prev_kv else b""
    return kind + before + record_lines(event.kv, as_hex)


# ---------------------------------------------------------------- keys, as etcdctl's JSON


async def header(client: Client, revision: int | None = None) -> dict[str, int]:
    """Give the header that etcd puts into its answers.

    Args:
        client: The client that asked.
        revision: The revision of the answer; the current one unless given.
    """
    told = client.cluster.header
    return {
        "cluster_id": told.cluster,
        "member_id": told.member,
        "revision": client.revision if revision is None else revision,
        "raft_term": told.term,
    }


def text64(value: bytes) -> str:
    """Encode bytes as JSON carries them."""
    return base64.b64encode(value).decode()


def filled(**fields: Any) -> dict[str, Any]:
    """Leave out what is empty, as etcd does."""
    return {name: value for name, value in fields.items() if value}


def record_json(kv: KeyValue) -> dict[str, Any]:
    """Give a record."""
    return filled(
        key=text64(kv.key),
        create_revision=kv.create_revision,
        mod_revision=kv.mod_revision,
        version=kv.version,
        value=text64(kv.value),
        lease=kv.lease,
    )


def event_json(event: Event) -> dict[str, Any]:
    """Give a change."""
    return filled(
        type=event.type,
        kv=record_json(event.kv),
        prev_kv=record_json(event.prev_kv) if event.prev_kv else None,
    )


def response_json(response: Response, head: dict[str, int]) -> dict[str, Any]:
    """Give the answer to one operation; those inside a transaction know only the revision."""
    fields: dict[str, Any]
    if isinstance(response, PutResult):
        fields = {"prev_kv": record_json(response.prev_kv) if response.prev_kv else None}
    elif isinstance(response, RangeResult):
        fields = {
            "kvs": [record_json(kv) for kv in response.kvs],
            "more": response.more,
            "count": response.count,
        }
    elif isinstance(response, DeleteResult):
        fields = {
            "deleted": response.deleted,
            "prev_kvs": [record_json(kv) for kv in response.prev_kvs],
        }
    else:
        inner = {"revision": head["revision"]}
        fields = {
            "succeeded": response.succeeded,
            "responses": [
                {"Response": {_WRAPPER[type(part)]: response_json(part, inner)}}
                for part in response.responses
            ],
        }
    return {"header": head, **filled(**fields)}


_WRAPPER: dict[type[Response], str] = {
    PutResult: "ResponsePut",
    RangeResult: "ResponseRange",
    DeleteResult: "ResponseDeleteRange",
    TxnResult: "ResponseTxn",
}


async def told(client: Client, is_json: bool, line: str) -> None:
    """Say that a change was made: in words, or by etcd's header alone."""
    if is_json:
        say_json({"header": await header(client)})
    else:
        say(line)


# ---------------------------------------------------------------- everything else


def plain(value: Any) -> Any:
    """Turn a struct into JSON with names: bytes in base64, ids as 16 hexadecimal digits."""
    if isinstance(value, Struct):
        fields = shape_of(type(value)).fields
        made = {}
        for name, shape in fields:
            item = getattr(value, name)
            is_id = shape.kind == "id" and isinstance(item, int)
            made[name] = f"{item:016x}" if is_id else plain(item)
        return made
    if isinstance(value, bytes):
        return text64(value)
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value


def columns(titles: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Lay out rows below titles; control characters are shown, never sent to the terminal."""
    table = [list(titles), *([clean(str(cell)) for cell in row] for row in rows)]
    widths = [max(len(row[at]) for row in table) for at in range(len(titles))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    ]


def clean(text: str) -> str:
    """Make text that others chose harmless for a terminal."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def since(milliseconds: int) -> str:
    """Tell how long ago a moment of the cluster's clock was."""
    if not milliseconds:
        return "-"
    return span(max(0.0, time.time() - milliseconds / 1000))


def moment(milliseconds: int) -> str:
    """Tell a moment of the cluster's clock; 0 is no end at all."""
    if not milliseconds:
        return "never"
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(milliseconds / 1000))


def span(seconds: float) -> str:
    """Tell a length of time in its two largest units."""
    if seconds < 60:
        return f"{seconds:.0f}s" if seconds >= 10 else f"{seconds:.1f}s"
    minutes, hours, days = int(seconds // 60), int(seconds // 3600), int(seconds // 86400)
    if minutes < 60:
        return f"{minutes}m{int(seconds % 60)}s"
    if hours < 24:
        return f"{hours}h{minutes % 60}m"
    return f"{days}d{hours % 24}h"


def process(application: str, host: str, pid: int) -> str:
    """Name a process: application, host and process id."""
    return f"{application or '?'}@{host or '?'}/{pid}"
