"""The format ``fields``: a line for each field, with etcdctl's names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coordinator_sdk.protocol.kv import DeleteResult, Event, KeyValue, PutResult, RangeResult

if TYPE_CHECKING:
    from collections.abc import Mapping

    from coordinator.cli.output import Response

_ESCAPES = {
    '"': '\\"',
    "\\": "\\\\",
    "\n": "\\n",
    "\t": "\\t",
    "\r": "\\r",
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\v": "\\v",
}
_EMPTY_HEAD = {"cluster_id": 0, "member_id": 0, "raft_term": 0}


def quoted(value: bytes) -> str:
    """Quote bytes as Go does with %q."""
    parts = []
    for char in value.decode("utf-8", "surrogateescape"):
        code = ord(char)
        if char in _ESCAPES:
            parts.append(_ESCAPES[char])
        elif 0xDC80 <= code <= 0xDCFF:
            parts.append(f"\\x{code - 0xDC00:02x}")
        elif char.isprintable():
            parts.append(char)
        elif code < 0x80:
            parts.append(f"\\x{code:02x}")
        else:
            parts.append(f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")
    return f'"{"".join(parts)}"'


def line(name: str, value: object) -> str:
    """Give one field: numbers as they are, truth in Go's words, text and bytes quoted."""
    if isinstance(value, bool):
        shown = "true" if value else "false"
    elif isinstance(value, bytes):
        shown = quoted(value)
    elif isinstance(value, str):
        shown = quoted(value.encode("utf-8", "surrogateescape"))
    else:
        shown = str(value)
    return f'"{name}" : {shown}'


def lines(**values: object) -> list[str]:
    """Give a field for each keyword."""
    return [line(name, value) for name, value in values.items()]


def head_lines(head: Mapping[str, int]) -> list[str]:
    """Give the header of an answer."""
    return lines(
        ClusterID=head["cluster_id"],
        MemberID=head["member_id"],
        Revision=head.get("revision", 0),
        RaftTerm=head["raft_term"],
    )


def record_lines(kv: KeyValue, before: str = "") -> list[str]:
    """Give a record; ``before`` stands before the name of each field."""
    values: dict[str, Any] = {
        "Key": kv.key,
        "CreateRevision": kv.create_revision,
        "ModRevision": kv.mod_revision,
        "Version": kv.version,
        "Value": kv.value,
        "Lease": kv.lease,
    }
    return [line(before + name, value) for name, value in values.items()]


def response_lines(response: Response, head: Mapping[str, int]) -> list[str]:
    """Give the answer to one operation; those inside a transaction know only the revision."""
    made = head_lines(head)
    if isinstance(response, PutResult):
        if response.prev_kv is not None:
            made += record_lines(response.prev_kv, "Prev")
    elif isinstance(response, RangeResult):
        for kv in response.kvs:
            made += record_lines(kv)
        made += lines(More=response.more, Count=response.count)
    elif isinstance(response, DeleteResult):
        made += lines(Deleted=response.deleted)
        for kv in response.prev_kvs:
            made += record_lines(kv, "Prev")
    else:
        made += lines(Succeeded=response.succeeded)
        inner = {**_EMPTY_HEAD, "revision": head["revision"]}
        for part in response.responses:
            made += response_lines(part, inner)
    return made


def event_lines(event: Event) -> list[str]:
    """Give a change: what happened, the record before if it is known, and the record."""
    made = ['"Type" : ' + ("PUT" if event.type == 0 else "DELETE")]
    if event.prev_kv is not None:
        made += record_lines(event.prev_kv, "Prev")
    return made + record_lines(event.kv)
