"""Bad input: every wrong type, range, size, encoding and number is refused, naming the field."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec import Struct, inspect

from coordinator.api import models
from coordinator_sdk.protocol import REQUESTS
from coordinator_sdk.protocol.codec import MSGPACK
from coordinator_sdk.protocol.frames import Failure, Result
from coordinator_sdk.protocol.kv import Compact, Delete, LeaseGrant, Put, Range, Txn
from tests.api.member import Running

pytestmark = pytest.mark.asyncio(loop_scope="module")

WRONG: dict[str, list[Any]] = {
    "int": ["1", 1.5, -1, None, [], {}, True, b"1"],
    "text": [1, 1.5, True, None, [], {}, "\x00", "x" * 5000],
    "bytes": [1, 1.5, True, None, [], {}],
    "flag": [2, "true", None, []],
    "list": [1, "x", None, {}, [[]]],
    "map": [1, "x", None, [], {"": "x"}, {"a": []}],
    "other": [1, "x", [1]],
}
"""Values that no field of a kind may have; some fields allow one or two of them."""


def kind_of(info: inspect.Type) -> tuple[str, bool]:
    """Name the kind of a field, and whether it may be absent."""
    if isinstance(info, inspect.Metadata):
        return kind_of(info.type)
    names = {
        inspect.IntType: "int",
        inspect.StrType: "text",
        inspect.BytesType: "bytes",
        inspect.BoolType: "flag",
        inspect.ListType: "list",
        inspect.DictType: "map",
    }
    if isinstance(info, inspect.UnionType):
        options = [one for one in info.types if not isinstance(one, inspect.NoneType)]
        return (kind_of(options[0])[0] if len(options) == 1 else "other"), True
    return names.get(type(info), "other"), False


def plausible(info: inspect.Type) -> Any:
    """Give a value that a field may have."""
    kind, is_optional = kind_of(info)
    if is_optional:
        return None
    values: dict[str, Any] = {"int": 1, "text": "x", "bytes": b"x", "flag": False}
    return values.get(kind, {} if kind == "map" else [])


def breaches() -> list[Any]:
    """Make one case for each wrong value of each field of each operation of the core."""
    cases = []
    core = ("kv", "leases", "sessions", "cluster", "watch")
    for kind in REQUESTS:
        tag = str(kind.__struct_config__.tag)
        if tag.split(".")[0] not in core:
            continue
        info = inspect.type_info(kind)
        assert isinstance(info, inspect.StructType)
        fields = info.fields
        for position, part in enumerate(fields):
            name, is_optional = kind_of(part.type)
            row = [tag, *(plausible(one.type) for one in fields)]
            wrong = []
            for value in WRONG[name]:
                if value is None and is_optional:
                    continue
                wrong.append([*row[: position + 1], value, *row[position + 2 :]])
            cases.append(pytest.param(part.name, wrong, id=f"{tag}-{part.name}"))
    return cases


@pytest.mark.parametrize(("field", "rows"), breaches())
async def test_every_field_of_every_operation(
    member: Running, field: str, rows: list[list[Any]]
) -> None:
    """A field with a value of a wrong type or range fails its request alone, and is named."""
    index = member.node.status().index
    async with member.web_socket() as socket:
        before = member.node.status().index
        requests = list(enumerate(rows, 100))
        await socket.inner.send(msgspec.msgpack.encode([0, [*requests, [99, ["ping"]]]]))
        answers: dict[int, Any] = {}
        while len(answers) <= len(rows):
            item = await socket.item()
            assert isinstance(item, Result | Failure)
            answers[item.id] = item
        for number, row in requests:
            failure = answers[number]
            assert isinstance(failure, Failure), row
            assert failure.code == "invalid_request"
            assert failure.details["field"].split("[")[0].split(".")[0] == field, (row, failure)
        assert member.node.status().index == before
    assert index <= before


RANGES: list[tuple[Struct, str]] = [
    (Put(b""), "key"),
    (Put(b"a", b"x", ignore_value=True), "value"),
    (Put(b"a", lease=5, ignore_lease=True), "lease"),
    (Put(b"a", lease=-1), "lease"),
    (Range(b""), "key"),
    (Range(b"a", limit=-1), "limit"),
    (Range(b"a", revision=-1), "revision"),
    (Range(b"a", sort_order=7), "sort_order"),
    (Range(b"a", sort_target=-1), "sort_target"),
    (Range(b"a", space=2), "space"),
    (Delete(b""), "key"),
    (Txn([], [Put(b"a")] * 129), "success"),
    (Txn([], [Put(b"a"), Put(b"a")]), "success[1].key"),
    (Txn([], [Txn([], [Put(b"")])]), "success[0].success[0].key"),
    (Compact(-1), "revision"),
    (LeaseGrant(0), "ttl_ms"),
    (LeaseGrant(-1), "ttl_ms"),
    (LeaseGrant(9_000_000_000_001), "ttl_ms"),
    (LeaseGrant(1000, -1), "lease"),
]


@pytest.mark.parametrize(("body", "field"), RANGES)
async def test_values_out_of_range(member: Running, body: Struct, field: str) -> None:
    """A value out of range is refused before it reaches the log."""
    async with member.web_socket() as socket:
        index = member.node.status().index
        refused = await socket.call(body)
        assert isinstance(refused, Failure)
        assert (refused.code, refused.details["field"]) == ("invalid_request", field)
        assert member.node.status().index == index


async def test_numbers_beyond_64_bits(member: Running) -> None:
    """A number that does not fit 64 bits is refused and named."""
    async with member.web_socket() as socket:
        row = msgspec.msgpack.encode(["leases.grant", (1 << 64) - 1])
        await socket.inner.send(b"\x92\x00\x91\x92\x63" + row)
        failure = await socket.item()
        assert isinstance(failure, Failure)
        assert failure.details == {"field": "ttl_ms"}


async def test_unknown_operations(member: Running) -> None:
    """An unknown operation is answered so, beside those that are known."""
    async with member.web_socket() as socket:
        await socket.inner.send(MSGPACK_UNKNOWN)
        failure = await socket.item()
        assert isinstance(failure, Failure)
        assert failure.code == "unknown_operation"


MSGPACK_UNKNOWN = msgspec.msgpack.encode([0, [[99, ["no.such"]]]])


# ---------------------------------------------------------------- the same over HTTP

JSON_HEADER = [("content-type", "application/json")]
BODIES: list[tuple[bytes, str]] = [
    (b"", "body"),
    (b"{", "body"),
    (b"[]", "body"),
    (b"null", "body"),
    (b'"x"', "body"),
    (b"\xff", "body"),
    (b'{"ttl_ms": 1e400}', "body"),
    (b'{"ttl_ms": NaN}', "body"),
    (b'{"ttl_ms": -Infinity}', "body"),
    (b'{"ttl_ms": "\\ud800"}', "body"),
    (b"[" * 100_000, "body"),
    (b'{"a":' * 100_000, "body"),
    (b"{}", "ttl_ms"),
    (b'{"ttl_ms": "5"}', "ttl_ms"),
    (b'{"ttl_ms": 1.5}', "ttl_ms"),
    (b'{"ttl_ms": true}', "ttl_ms"),
    (b'{"ttl_ms": null}', "ttl_ms"),
    (b'{"ttl_ms": 0}', "ttl_ms"),
    (b'{"ttl_ms": -5}', "ttl_ms"),
    (b'{"ttl_ms": 9223372036854775808}', "ttl_ms"),
    (b'{"ttl_ms": ' + b"9" * 4000 + b"}", "ttl_ms"),
    (b'{"ttl_ms": 5000, "lease": 5}', "lease"),
    (b'{"ttl_ms": 5000, "lease": "xyz"}', "lease"),
    (b'{"ttl_ms": 5000, "lease": "ffffffffffffffff"}', "lease"),
    (b'{"ttl_ms": 5000, "lease": "00000000000000000001"}', "lease"),
    (b'{"ttl_ms": 5000, "unknown": 1}', "unknown"),
]


@pytest.mark.parametrize(("body", "field"), BODIES, ids=lambda value: repr(value)[:40])
async def test_wrong_bodies(member: Running, body: bytes, field: str) -> None:
    """A body that is no JSON, or not the right JSON, is a 400 that names the field."""
    answer = await member.ask("POST", "/v1/leases", body, JSON_HEADER)
    assert (answer.status, answer.error["code"]) == (400, "invalid_request")
    assert answer.error["details"] == {"field": field}


async def test_wrong_bodies_inside(member: Running) -> None:
    """Deep inside a body, the field is named by its path."""
    body = {"success": [{"type": "put", "key": "a"}, {"type": "put", "value": "x"}]}
    answer = await member.ask("POST", "/v1/kv/txn", body)
    assert answer.error["details"]["field"] == "success[1].put.key"
    body = {"success": [{"type": "fly"}]}
    answer = await member.ask("POST", "/v1/kv/txn", body)
    assert answer.error["details"]["field"] == "success[0]"
    nested: dict[str, Any] = {"type": "put", "key": "a"}
    for _ in range(300):
        nested = {"type": "txn", "success": [nested]}
    answer = await member.ask("POST", "/v1/kv/txn", {"success": [nested]})
    assert answer.status == 400
    answer = await member.ask(
        "POST", "/v1/kv/put", {"key": "a", "value": "%", "encoding": "base64"}
    )
    assert answer.error["details"] == {"field": "value"}


TARGETS: list[tuple[str, str, str]] = [
    ("GET", "/v1/kv/", "key"),
    ("DELETE", "/v1/kv/?prefix=true", "key"),
    ("GET", "/v1/kv?prefix=a&start=b", "prefix"),
    ("GET", "/v1/kv?limit=-1", "limit"),
    ("GET", "/v1/kv?limit=x", "limit"),
    ("GET", "/v1/kv?limit=1e3", "limit"),
    ("GET", "/v1/kv?revision=9223372036854775808", "revision"),
    ("GET", "/v1/kv/a?revision=-1", "revision"),
    ("GET", "/v1/kv/a?raw=maybe", "raw"),
    ("PUT", "/v1/kv/a?lease=xyz", "lease"),
    ("PUT", "/v1/kv/a?lease=-1", "lease"),
    ("GET", "/v1/leases/xyz", "lease"),
    ("GET", "/v1/leases/%ff", "path"),
    ("GET", "/v1/sessions/0000000000000001?x=%c3%28", "query"),
    ("GET", "/v1/watch?key=a&start_revision=-1", "start_revision"),
    ("GET", "/v1/watch?prefix=a&end=b", "prefix"),
]


@pytest.mark.parametrize(("method", "target", "field"), TARGETS)
async def test_wrong_targets(member: Running, method: str, target: str, field: str) -> None:
    """A wrong path or query is a 400 that names the field."""
    answer = await member.ask(method, target)
    assert (answer.status, answer.error["code"]) == (400, "invalid_request"), answer.body
    assert answer.error["details"] == {"field": field}


async def test_a_body_needs_its_type(member: Running) -> None:
    """A body without the type of JSON is refused: a form of a foreign page has none."""
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        answer = await member.ask("POST", "/v1/leases", b'{"ttl_ms":1}', [("content-type", kind)])
        assert answer.error["details"] == {"field": "content-type"}


async def test_bytes_survive_as_text(member: Running) -> None:
    """Every model that a body has can be made from its own example or defaults."""
    assert models.bytes_of(*models.text_of(b"\xff\x00")) == b"\xff\x00"
    assert models.bytes_of(*models.text_of("ü\x00".encode())) == "ü\x00".encode()
    assert MSGPACK.binary
