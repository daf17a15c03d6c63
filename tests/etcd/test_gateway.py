"""The JSON gateway: every route, its conventions, its streams."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from coordinator.etcd.gateway import ROUTES
from tests.api.member import Raw, Running, until
from tests.etcd.client import Grpc, Refused

pytestmark = pytest.mark.asyncio(loop_scope="module")


def b64(text: bytes) -> str:
    """Write bytes as JSON has them."""
    return base64.b64encode(text).decode()


async def ask(member: Running, route: str, body: Any = None) -> tuple[int, Any]:
    """Make a call; give status and body."""
    raw = b"" if body is None else json.dumps(body).encode()
    answer = await member.ask("POST", f"/v3/{route}", raw, [("content-length", str(len(raw)))])
    assert answer.headers["content-type"] == "application/json"
    return answer.status, answer.json


async def lines(raw: Raw, route: str, body: Any) -> AsyncGenerator[Any, None]:
    """Begin a streaming call; give its lines."""
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"POST /v3/{route} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {len(text)}\r\n\r\n"
    raw.send(head.encode() + text)
    answer = await raw.reader.readuntil(b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200")
    while size := int(await raw.reader.readline(), 16):
        chunk = await raw.reader.readexactly(size + 2)
        yield json.loads(chunk)


async def test_keys_are_written_and_read(member: Running) -> None:
    """put, range and deleterange have the conventions of etcd's gateway."""
    status, put = await ask(member, "kv/put", {"key": b64(b"g"), "value": b64(b"1")})
    assert status == 200
    header = put["header"]
    assert header == {
        "cluster_id": str(member.node.cluster_id),
        "member_id": str(member.node.member_id),
        "revision": str(member.node.revision),
        "raft_term": str(member.node.term),
    }
    revision = header["revision"]
    assert await ask(member, "kv/range", {"key": b64(b"g")}) == (
        200,
        {
            "header": header,
            "kvs": [
                {
                    "key": b64(b"g"),
                    "create_revision": revision,
                    "mod_revision": revision,
                    "version": "1",
                    "value": b64(b"1"),
                }
            ],
            "count": "1",
        },
    )
    _, gone = await ask(member, "kv/deleterange", {"key": b64(b"g"), "prevKv": True})
    assert (gone["deleted"], gone["prev_kvs"][0]["value"]) == ("1", b64(b"1"))


async def test_transactions_take_both_spellings(member: Running) -> None:
    """Names may be written in either way; enums by name or number."""
    body = {
        "compare": [{"target": "VERSION", "result": 0, "key": b64(b"t"), "version": "0"}],
        "success": [{"request_put": {"key": b64(b"t")}}, {"requestRange": {"key": b64(b"t")}}],
    }
    status, answer = await ask(member, "kv/txn", body)
    assert (status, answer["succeeded"]) == (200, True)
    inner = {"revision": answer["header"]["revision"]}
    assert answer["responses"][0] == {"response_put": {"header": inner}}
    assert answer["responses"][1]["response_range"]["header"] == inner


@pytest.mark.parametrize(
    ("route", "body", "status", "code", "text"),
    [
        ("kv/put", None, 400, 3, "etcdserver: key is not provided"),
        ("kv/put", {"key": "YQ="}, 400, 3, "illegal base64 data at input byte 3"),
        (
            "kv/range",
            {"key": "YQ==", "revision": "99999"},
            400,
            11,
            "etcdserver: mvcc: required revision is a future revision",
        ),
        ("lease/revoke", {"ID": 5}, 404, 5, "etcdserver: requested lease not found"),
        (
            "auth/authenticate",
            {"name": "a", "password": "b"},
            412,
            9,
            "etcdserver: authentication is not enabled",
        ),
        ("election/leader", {"name": "YQ=="}, 500, 2, "election: no leader"),
        ("auth/enable", {}, 412, 9, "etcdserver: root user does not exist"),
    ],
)
async def test_errors_have_etcds_shape(
    member: Running, route: str, body: Any, status: int, code: int, text: str
) -> None:
    """An error tells its text twice, its code, and the status that etcd gives it."""
    assert await ask(member, route, body) == (
        status,
        {"error": text, "message": text, "code": code},
    )


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({}, b'{"key":"YQ=="}', 200),
        ({"content-type": "text/plain"}, b'{"key":"YQ=="}', 200),
        ({"content-type": "application/x-www-form-urlencoded"}, b'{"key":"YQ=="}', 200),
        ({"content-type": "application/x-www-form-urlencoded"}, b"key=YQ==", 400),
        ({"accept": "text/html"}, b'{"key":"YQ=="}', 200),
        ({}, b'{"key":"YQ=="} {"key":"Yg=="}', 200),
        ({"grpc-timeout": "10S"}, b'{"key":"YQ=="}', 200),
    ],
)
async def test_a_body_is_json_whatever_it_says(
    member: Running, headers: dict[str, str], body: bytes, status: int
) -> None:
    """Neither content-type nor accept mean anything; what comes behind the message neither."""
    answer = await member.ask("POST", "/v3/kv/range", body, list(headers.items()))
    assert (answer.status, answer.headers["content-type"]) == (status, "application/json")


async def test_a_call_may_be_given_a_time(member: Running) -> None:
    """The header grpc-timeout ends a call that takes longer, and must be one."""
    header = [("grpc-timeout", "50m")]
    async with member.raw() as held:
        answer = await held.ask("POST", "/v3/lock/lock", b'{"name":"aGVsZA=="}')
        assert answer.status == 200
    answer = await member.ask("POST", "/v3/lock/lock", b'{"name":"aGVsZA=="}', header)
    text = "context deadline exceeded"
    assert (answer.status, answer.json) == (504, {"error": text, "message": text, "code": 4})
    answer = await member.ask("POST", "/v3/kv/range", b"", [("grpc-timeout", "1x")])
    text = "invalid grpc-timeout: 1x"
    assert (answer.status, answer.json) == (400, {"error": text, "message": text, "code": 3})


@pytest.mark.parametrize(
    ("body", "ids"),
    [
        (b"", []),
        (b"null", [None]),
        (b'{\n"ID":\n"999"}', ["999"]),
        (b'{"ID":"999"}{"ID":"998"}', ["999", "998"]),
        (b'{"ID":"999"}\n{"ID":998}\n', ["999", "998"]),
        (b'{"ID":"999"}\nnope', ["999"]),
    ],
)
async def test_a_stream_takes_many_messages(
    member: Running, body: bytes, ids: list[str | None]
) -> None:
    """Messages follow each other in the body, with or without space, up to one that is none."""
    async with member.raw() as raw:
        found = [line async for line in lines(raw, "lease/keepalive", body)]
    assert [line["result"].get("ID") for line in found] == ids


@pytest.mark.parametrize("body", [b"nope", b'{"ID":"x"}', b"{"])
async def test_a_stream_that_says_nothing_readable_fails(member: Running, body: bytes) -> None:
    """A first message that cannot be read is an error of the server, as with etcd."""
    answer = await member.ask("POST", "/v3/lease/keepalive", body)
    assert (answer.status, answer.json["code"]) == (500, 2)


async def test_large_answers_come_whole(member: Running) -> None:
    """An answer over 16 MiB comes whole, though the values came in chunked requests."""
    value = b64(bytes(range(256)) * 5120)
    async with member.raw() as raw:
        for number in range(11):
            text = json.dumps({"key": b64(b"large/%02d" % number), "value": value}).encode()
            chunks = [text[at : at + 300_000] for at in range(0, len(text), 300_000)]
            raw.send(b"POST /v3/kv/put HTTP/1.1\r\nhost: 127.0.0.1\r\n")
            raw.send(b"transfer-encoding: chunked\r\n\r\n")
            raw.send(b"".join(b"%x\r\n%s\r\n" % (len(one), one) for one in chunks))
            raw.send(b"0\r\n\r\n")
            assert (await raw.answer()).status == 200
    body = {"key": b64(b"large/"), "range_end": b64(b"large0")}
    status, answer = await ask(member, "kv/range", body)
    assert (status, answer["count"]) == (200, "11")
    assert all(one["value"] == value for one in answer["kvs"])
    assert len(value) * 11 > 16 << 20
    assert (await ask(member, "kv/deleterange", body))[0] == 200


async def test_other_paths_and_methods_are_refused(member: Running) -> None:
    """Only POST, only known routes, only below the two prefixes."""
    for path in ("/v3/nope", "/v3/maintenance/hashkv", "/v3beta/", "/v3/kv/range/"):
        answer = await member.ask("POST", path, b"{}")
        assert (answer.status, answer.body) == (404, b"Not Found\n")
    answer = await member.ask("GET", "/v3/kv/range")
    assert (answer.status, answer.body) == (405, b"Method Not Allowed\n")
    answer = await member.ask("POST", "/v3", b"{}")
    assert (answer.status, answer.headers["location"]) == (301, "/v3/")
    assert (await member.ask("POST", "/v3alpha/kv/range", b"{}")).status == 404
    answer = await member.ask("POST", "/v3beta/kv/range", b'{"key":"YQ=="}')
    assert answer.status == 200


async def test_every_route_is_served(member: Running) -> None:
    """Each unary route answers JSON of etcd's shape to an empty request."""
    streams = {"watch", "lease/keepalive", "maintenance/snapshot", "election/observe"}
    slow = {"lock/lock", "election/campaign"}
    for route in sorted(set(ROUTES) - streams - slow):
        _, answer = await ask(member, route, {})
        if "error" in answer:
            assert set(answer) == {"error", "message", "code"}, route
        elif route not in ("maintenance/alarm", "maintenance/defragment"):
            assert "header" in answer, route


async def test_leases_have_their_old_routes_too(member: Running) -> None:
    """Leases are at /v3/lease and at /v3/kv/lease, as with etcd."""
    _, granted = await ask(member, "lease/grant", {"TTL": 60, "ID": 0})
    for route in ("lease/timetolive", "kv/lease/timetolive"):
        _, told = await ask(member, route, {"ID": granted["ID"], "keys": True})
        assert (told["ID"], told["grantedTTL"]) == (granted["ID"], "60")
    _, listed = await ask(member, "kv/lease/leases", {})
    assert {"ID": granted["ID"]} in listed["leases"]
    assert (await ask(member, "kv/lease/revoke", {"ID": granted["ID"]}))[0] == 200


async def test_a_renewal_is_one_line(member: Running) -> None:
    """keepalive answers one line for each request, without a TTL if there is no lease."""
    async with member.raw() as raw:
        found = [line async for line in lines(raw, "lease/keepalive", {"ID": "999"})]
    assert len(found) == 1
    assert found[0]["result"]["ID"] == "999"
    assert "TTL" not in found[0]["result"]


async def test_a_watch_is_a_stream_of_lines(member: Running, grpc: Grpc) -> None:
    """A watch begins with created and goes on until the client leaves."""
    async with member.raw() as raw:
        stream = lines(raw, "watch", {"create_request": {"key": b64(b"watched")}})
        first = (await anext(stream))["result"]
        assert first["created"] is True
        assert "watch_id" not in first
        await grpc.call("/etcdserverpb.KV/Put", key=b"watched", value=b"1")
        result = (await anext(stream))["result"]
        assert result["events"][0]["kv"]["value"] == b64(b"1")
        assert "type" not in result["events"][0]
        await grpc.call("/etcdserverpb.KV/DeleteRange", key=b"watched")
        result = (await anext(stream))["result"]
        assert result["events"][0]["type"] == "DELETE"
        await stream.aclose()
    await until(lambda: not member.serving.http_streams)
    assert len(member.node.hub) == 0


async def test_a_snapshot_is_streamed(member: Running) -> None:
    """A snapshot comes in blobs, with what remains."""
    async with member.raw() as raw:
        found = [line["result"] async for line in lines(raw, "maintenance/snapshot", {})]
    content = b"".join(base64.b64decode(one["blob"]) for one in found)
    assert content.startswith(b"SQLite format 3")
    assert "remaining_bytes" not in found[-1]


async def test_all_faces_see_the_same_events(member: Running, grpc: Grpc) -> None:
    """A watch by gRPC and one by the gateway tell the same events in the same order."""
    span = {"key": b"same/", "range_end": b"same0"}
    talk = grpc.talk("/etcdserverpb.Watch/Watch")
    talk.say(create_request=span)
    assert (await talk.hear()).created
    async with member.raw() as raw:
        plain = {name: b64(value) for name, value in span.items()}
        stream = lines(raw, "watch", {"create_request": plain})
        assert (await anext(stream))["result"]["created"]
        await asyncio.gather(
            *(grpc.call("/etcdserverpb.KV/Put", key=b"same/%d" % (n % 7)) for n in range(50))
        )
        here: list[tuple[bytes, int]] = []
        there: list[tuple[bytes, int]] = []
        while len(here) < 50:
            here += [(one.kv.key, one.kv.mod_revision) for one in (await talk.hear()).events]
        while len(there) < 50:
            there += [
                (base64.b64decode(one["kv"]["key"]), int(one["kv"]["mod_revision"]))
                for one in (await anext(stream))["result"]["events"]
            ]
        await stream.aclose()
    assert here == there


async def test_etcds_plain_routes(member: Running) -> None:
    """/health, /version and /metrics have what etcd's tools look for."""
    assert (await member.ask("GET", "/health")).json == {"health": "true"}
    version = (await member.ask("GET", "/version")).json
    assert (version["etcdserver"], version["etcdcluster"]) == ("3.4.23", "3.4.0")
    assert b"process_resident_memory_bytes " in (await member.ask("GET", "/metrics")).body


async def test_calls_are_counted(member: Running, grpc: Grpc) -> None:
    """/metrics tells how calls began and ended, by gRPC and through the gateway together, and how
    long they took, under etcd's names and labels."""
    revoke = (
        'grpc_type="unary",grpc_service="etcdserverpb.Lease",grpc_method="LeaseRevoke"',
        "/etcdserverpb.Lease/LeaseRevoke",
    )
    compact = (
        'grpc_type="unary",grpc_service="etcdserverpb.KV",grpc_method="Compact"',
        "/etcdserverpb.KV/Compact",
    )

    async def count(name: str, labels: str) -> float:
        text = (await member.ask("GET", "/metrics")).body.decode()
        found = re.search(re.escape(f"{name}{{{labels}}}") + r" (\S+)", text)
        return float(found[1]) if found is not None else 0.0

    async def counts(labels: str, code: str) -> list[float]:
        bucket = f'{labels},le="+Inf"'
        return [
            await count("grpc_server_started_total", labels),
            await count("grpc_server_handled_total", f'{labels},grpc_code="{code}"'),
            await count("grpc_server_handling_seconds_count", labels),
            await count("grpc_server_handling_seconds_bucket", bucket),
        ]

    for (labels, path), code, route, fields in (
        (revoke, "NotFound", "lease/revoke", {"ID": 99}),
        (compact, "OutOfRange", "kv/compaction", {"revision": 1 << 50}),
    ):
        before = await counts(labels, code)
        with pytest.raises(Refused):
            await grpc.call(path, **fields)
        await ask(member, route, fields)
        assert await counts(labels, code) == [one + 2 for one in before]
    watching = 'grpc_type="bidi_stream",grpc_service="etcdserverpb.Watch",grpc_method="Watch"'
    begun, ended = (
        await count("grpc_server_started_total", watching),
        await count("grpc_server_handled_total", f'{watching},grpc_code="Canceled"'),
    )
    talk = grpc.talk("/etcdserverpb.Watch/Watch")
    talk.say(create_request={"key": b"x"})
    await talk.hear()
    assert await count("grpc_server_started_total", watching) == begun + 1
    assert await count("grpc_server_handled_total", f'{watching},grpc_code="Canceled"') == ended
    talk.reset()
    await grpc.call("/etcdserverpb.Maintenance/Status")
    cancelled = f'{watching},grpc_code="Canceled"'
    assert await count("grpc_server_handled_total", cancelled) == ended + 1
