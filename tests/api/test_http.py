"""The HTTP face: plain keys, every operation, streams, health, pages, documentation."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import pytest

from coordinator_sdk.protocol import REQUESTS
from tests.api.member import Running

pytestmark = pytest.mark.asyncio(loop_scope="module")

ONLY_WEB_SOCKET = {
    "auth.reauthenticate",
    "hello",
    "ping",
    "stream.cancel",
    "stream.credit",
    "watch.progress",
}
"""Operations that steer a connection; over HTTP there is nothing to steer."""


# ---------------------------------------------------------------- plain keys


async def test_a_value_is_written_and_read(member: Running) -> None:
    """PUT writes the body as it is; GET gives it as JSON, or raw."""
    written = await member.ask("PUT", "/v1/kv/plain/a", b"hello")
    assert written.status == 200
    revision = written.json["revision"]
    read = await member.ask("GET", "/v1/kv/plain/a")
    assert read.json == {
        "key": "plain/a",
        "create_revision": revision,
        "mod_revision": revision,
        "version": 1,
        "lease": "0" * 16,
        "value": "hello",
        "encoding": "utf-8",
    }
    raw = await member.ask("GET", "/v1/kv/plain/a?raw=true")
    assert (raw.body, raw.headers["content-type"]) == (b"hello", "application/octet-stream")
    assert raw.headers["coordinator-mod-revision"] == str(revision)


async def test_answers_say_who_and_where(member: Running) -> None:
    """Every answer's headers name cluster, member, term and revision."""
    answer = await member.ask("GET", "/v1/kv?prefix=nothing")
    assert answer.headers["coordinator-cluster"] == f"{member.node.cluster_id:016x}"
    assert answer.headers["coordinator-member"] == f"{member.node.member_id:016x}"
    assert answer.headers["coordinator-term"] == str(member.node.term)
    assert answer.headers["coordinator-revision"] == str(member.node.revision)


@pytest.mark.parametrize(
    "key", [b"\x00", b"\xff\xfe", b"a b/../c", b"%", "ü€\u202e".encode(), b"a/"]
)
async def test_any_bytes_are_a_key(member: Running, key: bytes) -> None:
    """A key is any bytes, percent-encoded; what is not UTF-8 comes back as base64."""
    target = "/v1/kv/" + "".join(f"%{byte:02x}" for byte in key)
    assert (await member.ask("PUT", target, key)).status == 200
    record = (await member.ask("GET", target)).json
    assert text(record["key"], record.get("key_encoding")) == key
    assert text(record["value"], record["encoding"]) == key
    deleted = await member.ask("DELETE", target)
    assert deleted.json["deleted"] == 1


def text(value: str, encoding: str | None) -> bytes:
    """Turn a text of JSON back into bytes."""
    return base64.b64decode(value) if encoding == "base64" else value.encode()


async def test_a_prefix_is_listed_and_deleted(member: Running) -> None:
    """GET with a prefix lists with limit and count; DELETE with prefix=true deletes."""
    for name in ("1", "2", "3"):
        await member.ask("PUT", f"/v1/kv/listed/{name}", name.encode())
    listed = (await member.ask("GET", "/v1/kv?prefix=listed/&limit=2")).json
    assert [one["key"] for one in listed["kvs"]] == ["listed/1", "listed/2"]
    assert (listed["more"], listed["count"]) == (True, 3)
    between = (await member.ask("GET", "/v1/kv?start=listed/2&end=listed/3&keys_only=true")).json
    assert [(one["key"], one["value"]) for one in between["kvs"]] == [("listed/2", "")]
    assert (await member.ask("DELETE", "/v1/kv/listed/?prefix=true")).json["deleted"] == 3
    assert (await member.ask("GET", "/v1/kv/listed/1")).status == 404


async def test_the_past_over_http(member: Running) -> None:
    """A revision in the query reads the past; a future one is refused."""
    first = (await member.ask("PUT", "/v1/kv/then", b"1")).json["revision"]
    await member.ask("PUT", "/v1/kv/then", b"2")
    assert (await member.ask("GET", f"/v1/kv/then?revision={first}")).json["value"] == "1"
    future = await member.ask("GET", "/v1/kv/then?revision=999999")
    assert (future.status, future.error["code"]) == (400, "future_revision")


async def test_a_key_on_a_lease(member: Running) -> None:
    """A key is written on a lease, which is granted, looked at, renewed and revoked as JSON."""
    granted = await member.ask("POST", "/v1/leases", {"ttl_ms": 60_000})
    assert granted.status == 201
    lease = granted.json["lease"]
    assert len(lease) == 16
    assert (await member.ask("PUT", f"/v1/kv/leased?lease={lease}", b"1")).status == 200
    found = (await member.ask("GET", f"/v1/leases/{lease}?keys=true")).json
    assert (found["ttl_ms"], found["keys"]) == (60_000, ["leased"])
    renewed = await member.ask("POST", "/v1/leases/keepalive", {"leases": [lease]})
    assert renewed.json == {"ttls_ms": [60_000]}
    assert lease in [one["lease"] for one in (await member.ask("GET", "/v1/leases")).json["leases"]]
    assert (await member.ask("DELETE", f"/v1/leases/{lease}")).json["deleted"] == 1
    assert (await member.ask("DELETE", f"/v1/leases/{lease}")).error["code"] == "lease_not_found"


async def test_a_transaction_as_json(member: Running) -> None:
    """A transaction is written with words and types, and answered alike."""
    body = {
        "compare": [{"key": "job", "target": "version", "result": "equal", "number": 0}],
        "success": [{"type": "put", "key": "job", "value": "/w==", "encoding": "base64"}],
        "failure": [
            {"type": "range", "key": "job"},
            {"type": "txn", "success": [{"type": "range", "key": "job"}]},
        ],
    }
    first = (await member.ask("POST", "/v1/kv/txn", body)).json
    assert (first["succeeded"], first["responses"][0]["type"]) == (True, "put")
    second = (await member.ask("POST", "/v1/kv/txn", body)).json
    assert (second["succeeded"], second["responses"][0]["kvs"][0]["value"]) == (False, "/w==")
    assert second["responses"][1]["type"] == "txn"


async def test_sessions_as_json(member: Running) -> None:
    """Sessions are opened, read, listed and closed as JSON."""
    opened = await member.ask("POST", "/v1/sessions", {"ttl_ms": 60_000, "application": "web"})
    assert opened.status == 201
    session = opened.json["session"]
    found = (await member.ask("GET", f"/v1/sessions/{session}")).json
    assert (found["session"], found["application"], found["holds"]) == (session, "web", [])
    listed = (await member.ask("GET", "/v1/sessions")).json["sessions"]
    assert session in [one["session"] for one in listed]
    assert (await member.ask("DELETE", f"/v1/sessions/{session}")).status == 200
    gone = await member.ask("GET", f"/v1/sessions/{session}")
    assert (gone.status, gone.error["code"]) == (404, "session_not_found")


async def test_cluster_as_json(member: Running) -> None:
    """Status and members are there as JSON."""
    status = (await member.ask("GET", "/v1/cluster/status")).json
    assert status["member"] == status["leader"] == f"{member.node.member_id:016x}"
    members = (await member.ask("GET", "/v1/cluster/members")).json["members"]
    assert members[0]["client_urls"] == ["http://127.0.0.1:0"]


async def test_connections_are_kept(member: Running) -> None:
    """A connection serves one request after the other, pipelined ones in order."""
    async with member.raw() as raw:
        assert (await raw.ask("PUT", "/v1/kv/kept", b"1")).status == 200
        raw.send(b"GET /v1/kv/kept?raw=true HTTP/1.1\r\nhost: localhost\r\n\r\n" * 3)
        assert [(await raw.answer()).body for _ in range(3)] == [b"1"] * 3


# ---------------------------------------------------------------- streams


async def test_changes_as_events(member: Running) -> None:
    """A watch over HTTP streams events that say their revision and kind."""
    async with member.raw() as raw:
        raw.send(b"GET /v1/watch?prefix=sse/ HTTP/1.1\r\nhost: localhost\r\n\r\n")
        answer = await raw.answer("HEAD")
        assert answer.headers["content-type"].startswith("text/event-stream")
        revision = (await member.ask("PUT", "/v1/kv/sse/a", b"1")).json["revision"]
        head = await raw.reader.readuntil(b"data: ")
        assert b"id: %d\nevent: events\n" % revision in head
        data = msgspec.json.decode(await raw.reader.readuntil(b"\n"))
        assert data["events"][0]["type"] == "put"
        assert data["events"][0]["kv"]["value"] == "1"


async def test_changes_as_lines(member: Running) -> None:
    """With the right Accept the stream is one object per line, from a past revision too."""
    revision = (await member.ask("PUT", "/v1/kv/lines", b"1")).json["revision"]
    async with member.raw() as raw:
        raw.send(
            b"GET /v1/watch?key=lines&start_revision=%d HTTP/1.1\r\nhost: localhost\r\n"
            b"accept: application/x-ndjson\r\n\r\n" % revision
        )
        await raw.answer("HEAD")
        await raw.reader.readuntil(b"\r\n")
        line = msgspec.json.decode(await raw.reader.readuntil(b"\n"))
        assert (line["type"], line["revision"]) == ("events", revision)


async def test_a_watch_of_the_lost_past_is_refused(member: Running) -> None:
    """A watch that begins in compacted history is answered 410, not with a stream."""
    for value in (b"1", b"2"):
        revision = (await member.ask("PUT", "/v1/kv/lost", value)).json["revision"]
    assert (await member.ask("POST", "/v1/kv/compact", {"revision": revision})).status == 200
    gone = await member.ask("GET", f"/v1/watch?key=lost&start_revision={revision - 1}")
    assert (gone.status, gone.error["code"]) == (410, "compacted")


# ---------------------------------------------------------------- health, version, metrics


async def test_health(member: Running) -> None:
    """Health, liveness, readiness and version answer in the shape that tools expect."""
    assert (await member.ask("GET", "/health")).json == {"health": "true"}
    assert (await member.ask("GET", "/livez")).body == b"ok\n"
    assert (await member.ask("GET", "/readyz")).body == b"ok\n"
    verbose = (await member.ask("GET", "/readyz?verbose")).body
    assert b"[+]leader ok\n" in verbose
    version = (await member.ask("GET", "/version")).json
    assert set(version) == {"etcdserver", "etcdcluster"}


async def test_metrics(member: Running) -> None:
    """Metrics are in the text format, with etcd's names where they mean the same."""
    answer = await member.ask("GET", "/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = answer.body.decode().splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    assert float(values["process_resident_memory_bytes"]) > 1e6
    assert values["etcd_server_has_leader"] == "1"
    assert values["etcd_debugging_mvcc_current_revision"] == str(member.node.revision)
    assert 'coordinator_requests_total{operation="kv.put"}' in values


# ---------------------------------------------------------------- pages


async def test_pages_are_guarded(member: Running) -> None:
    """The page may run only its own scripts, is not framed, and is fetched once."""
    page = await member.ask("GET", "/")
    if page.status == 404:
        pytest.skip("there is no page yet")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["x-frame-options"] == "DENY"
    again = await member.ask("GET", "/", headers=[("if-none-match", page.headers["etag"])])
    assert again.status == 304
    ranged = await member.ask("GET", "/", headers=[("range", "bytes=0-1,0-1,0-1")])
    assert ranged.body == page.body


@pytest.mark.parametrize(
    "target",
    ["/../pyproject.toml", "/%2e%2e/pyproject.toml", "/..%2fpyproject.toml", "//etc/passwd"],
)
async def test_no_way_out_of_the_folder(member: Running, target: str) -> None:
    """Nothing outside the folder of the page is served."""
    assert (await member.ask("GET", target)).status == 404


# ---------------------------------------------------------------- the documentation


async def test_every_operation_has_a_route(member: Running) -> None:
    """Every operation that this member serves is documented as a route, but for steering."""
    described = (await member.ask("GET", "/openapi.json")).json
    names = {one["operationId"] for path in described["paths"].values() for one in path.values()}
    tags = {str(kind.__struct_config__.tag) for kind in member.serving.dispatcher.operations}
    missing = {tag for tag in tags - ONLY_WEB_SOCKET if tag.replace(".", "_") not in names}
    assert missing == set()
    core = {"kv", "leases", "sessions", "cluster", "members", "watch", "stream", "hello", "ping"}
    core |= {"auth", "users", "roles", "api_keys", "alarms"}
    known = {str(kind.__struct_config__.tag) for kind in REQUESTS}
    assert {tag for tag in known if tag.split(".")[0] in core} == tags


async def test_documentation_is_whole(member: Running) -> None:
    """Every route has a tag, a summary, its answers and errors; every reference leads somewhere."""
    described = (await member.ask("GET", "/openapi.json")).json
    operations = [one for path in described["paths"].values() for one in path.values()]
    ids = [one["operationId"] for one in operations]
    assert len(ids) == len(set(ids))
    for one in operations:
        assert one["tags"]
        assert one["summary"]
        assert "422" not in one["responses"]
    for reference in references(described):
        place: Any = described
        for part in reference.removeprefix("#/").split("/"):
            place = place[part]
    acquire = described["paths"]["/v1/kv/txn"]["post"]
    assert {"200", "400", "410", "412", "413", "429", "503", "504", "507"} <= set(
        acquire["responses"]
    )
    assert "examples" in described["components"]["schemas"]["TxnBody"]


def references(value: Any) -> list[str]:
    """Find every reference in a description."""
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [one for inner in value.values() for one in references(inner)]
    if isinstance(value, list):
        return [one for inner in value for one in references(inner)]
    return []


async def test_wrong_ways_are_told(member: Running) -> None:
    """An unknown route is 404 and a wrong method 405, with the usual body."""
    assert (await member.ask("GET", "/v1/nothing")).error["code"] == "not_found"
    wrong = await member.ask("PATCH", "/v1/leases")
    assert (wrong.status, wrong.error["details"]) == (405, {"field": "method"})
    assert "POST" in wrong.headers["allow"]
