"""HTTP under attack: slow, huge, malformed and foreign requests, and too many of them."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import msgspec
import pytest

from coordinator.api.protocol import HttpProtocol
from tests.api.member import Raw, Running, few, running, until

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def refused(raw: Raw) -> tuple[int, dict[str, str]]:
    """Read a refusal to the end of the connection; give its status and details."""
    answer = await raw.answer()
    assert answer.headers["connection"] == "close"
    assert await raw.rest() == b""
    details: dict[str, str] = answer.error["details"]
    return answer.status, details


# ---------------------------------------------------------------- slow


async def test_silent_connection_is_closed(hasty: Running) -> None:
    """A connection on which nothing comes is closed without a word."""
    async with hasty.raw() as raw:
        assert await raw.rest() == b""


async def test_slow_headers(hasty: Running) -> None:
    """Headers that do not arrive in time are refused, however busily they trickle."""
    async with hasty.raw() as raw:
        raw.send(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n")
        trickle = asyncio.ensure_future(trickling(raw, b"x: y\r\n"))
        assert await refused(raw) == (408, {"field": "headers"})
        trickle.cancel()


async def trickling(raw: Raw, piece: bytes) -> None:
    """Send a piece again and again."""
    while True:
        raw.send(piece)
        await asyncio.sleep(0.02)


async def test_slow_headers_of_a_second_request(hasty: Running) -> None:
    """The time for headers counts for every request of a connection."""
    async with hasty.raw() as raw:
        assert (await raw.ask("GET", "/livez")).status == 200
        raw.send(b"G")
        assert await refused(raw) == (408, {"field": "headers"})


async def test_slow_body(hasty: Running) -> None:
    """A body that does not arrive in time is refused."""
    async with hasty.raw() as raw:
        raw.send(b"PUT /v1/kv/slow HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\nx")
        assert await refused(raw) == (408, {"field": "body"})


async def test_idle_connection_is_closed(hasty: Running) -> None:
    """After an answer a connection may idle for a while, not for ever."""
    async with hasty.raw() as raw:
        assert (await raw.ask("GET", "/livez")).status == 200
        assert await raw.rest() == b""


async def test_client_that_does_not_read_an_answer(hasty: Running) -> None:
    """A client that does not read its answer is cut off."""
    value = b"x" * 1_000_000
    for number in range(20):
        await hasty.ask("PUT", f"/v1/kv/big/{number}", value)
    async with hasty.raw() as raw:
        raw.writer.transport.pause_reading()  # type: ignore[attr-defined]
        raw.send(b"GET /v1/kv?prefix=big/ HTTP/1.1\r\nhost: localhost\r\n\r\n")
        await until(lambda: bool(stalled(hasty)))
        await until(lambda: not stalled(hasty))


def stalled(member: Running) -> list[HttpProtocol]:
    """Find the connections whose client does not read."""
    return [
        one
        for one in member.server.server_state.connections
        if isinstance(one, HttpProtocol) and one.flow.write_paused
    ]


# ---------------------------------------------------------------- large


async def test_too_many_headers(member: Running) -> None:
    """More than a hundred headers are refused with 431."""
    async with member.raw() as raw:
        raw.send(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n" + b"a: b\r\n" * 101)
        assert await refused(raw) == (431, {"field": "headers"})


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"x" * 40_000 + b" HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nhost: localhost\r\na: " + b"x" * 40_000 + b"\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nhost: localhost\r\na: " + b"x" * 40_000,
        b"GET /livez HTTP/1.1\r\nhost: localhost\r\n" + b"x" * 40_000,
    ],
)
async def test_large_headers(member: Running, head: bytes) -> None:
    """Headers of more than 32 KiB are refused with 431, whether they end or not."""
    async with member.raw() as raw:
        raw.send(head)
        assert await refused(raw) == (431, {"field": "headers"})


async def test_many_headers_that_are_just_allowed(member: Running) -> None:
    """Headers up to the limits pass."""
    headers = [("a", "x" * 300)] * 95
    assert (await member.ask("GET", "/livez", headers=headers)).status == 200


@pytest.mark.parametrize(
    "framing",
    [
        b"content-length: 1099511627776\r\n\r\n",
        b"content-length: 3000000\r\n\r\n",
        b"transfer-encoding: chunked\r\n\r\n" + b"80000\r\n" + b"x" * 0x80000 + b"\r\n",
    ],
)
async def test_large_bodies(member: Running, framing: bytes) -> None:
    """A body that is declared too large, or turns out so, is refused with 413 and not kept."""
    async with member.raw() as raw:
        raw.send(b"PUT /v1/kv/large HTTP/1.1\r\nhost: localhost\r\n" + framing)
        if b"chunked" in framing:
            with contextlib.suppress(ConnectionError):
                for _ in range(5):
                    raw.send(b"80000\r\n" + b"x" * 0x80000 + b"\r\n")
                    await raw.writer.drain()
        status, details = await refused(raw)
        assert (status, details["field"]) == (413, "body")


async def test_a_value_beyond_the_limit(member: Running) -> None:
    """A body that fits, but makes too large a request, is refused in etcd's words."""
    answer = await member.ask("PUT", "/v1/kv/large", b"x" * 1_600_000)
    assert (answer.status, answer.error["code"]) == (413, "request_too_large")
    assert answer.error["message"] == "etcdserver: request is too large"


# ---------------------------------------------------------------- malformed

MALFORMED = {
    "no http": b"\x16\x03\x01\x02\x00\x01\x00\x01",
    "no version": b"GET /\r\n\r\n",
    "wrong version": b"GET / HTTP/9.9\r\nhost: localhost\r\n\r\n",
    "unknown method": b"FLY / HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "length and chunks": b"POST /v1/leases HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\n"
    b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": b"POST /v1/leases HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1\r\n"
    b"content-length: 2\r\n\r\nxx",
    "negative length": b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: -1\r\n\r\n",
    "length that is no number": b"POST / HTTP/1.1\r\nhost: localhost\r\n"
    b"content-length: 1e3\r\n\r\n",
    "chunk of 2^64": b"POST /v1/leases HTTP/1.1\r\nhost: localhost\r\n"
    b"transfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
    "chunk that is no number": b"POST /v1/leases HTTP/1.1\r\nhost: localhost\r\n"
    b"transfer-encoding: chunked\r\n\r\nxyz\r\n",
    "folded header": b"GET / HTTP/1.1\r\nhost: localhost\r\na: b\r\n c\x00: d\r\n\r\n",
    "space before colon": b"GET / HTTP/1.1\r\nhost : localhost\r\n\r\n",
    "zero byte": b"GET / HTTP/1.1\r\nhost: localhost\r\na: b\x00c\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nhost: localhost\r\nhost: localhost\r\n\r\n",
}


@pytest.mark.parametrize("name", MALFORMED)
async def test_malformed_requests(member: Running, name: str) -> None:
    """What is not HTTP, or can be read in two ways, is refused with 400 and the end."""
    async with member.raw() as raw:
        raw.send(MALFORMED[name])
        status, _ = await refused(raw)
        assert status == 400
    assert (await member.ask("GET", "/livez")).status == 200


async def test_http_1_0_without_host(member: Running) -> None:
    """A request of HTTP/1.0 needs no host."""
    async with member.raw() as raw:
        raw.send(b"GET /livez HTTP/1.0\r\n\r\n")
        assert (await raw.answer()).status == 200


async def test_other_upgrades_are_ignored(member: Running) -> None:
    """An upgrade to something else is served as if it was not asked for."""
    answer = await member.ask(
        "GET", "/livez", headers=[("connection", "upgrade"), ("upgrade", "h2c")]
    )
    assert answer.status == 200


# ---------------------------------------------------------------- foreign


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:1", 200),
        ("127.0.0.1:2379", 200),
        ("[::1]:2379", 200),
        ("192.0.2.7", 200),
        ("evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("localhost.evil.example:2379", 403),
        ("", 403),
        ("[::1", 200),
    ],
)
async def test_host_must_be_known(member: Running, host: str, status: int) -> None:
    """A host is an address or a known name: a foreign name that leads here is refused."""
    answer = await member.ask("GET", "/livez", headers=[("host", host)])
    assert answer.status == status


@pytest.mark.parametrize(
    ("method", "origin", "status"),
    [
        ("PUT", "http://evil.example", 403),
        ("PUT", "null", 403),
        ("DELETE", "http://127.0.0.1:9999", 403),
        ("POST", "extension://abc", 403),
        ("PUT", "http://127.0.0.1", 200),
        ("PUT", "http://127.0.0.1:80", 200),
        ("GET", "http://evil.example", 200),
    ],
)
async def test_foreign_pages_change_nothing(
    member: Running, method: str, origin: str, status: int
) -> None:
    """A request that changes something and comes from a foreign page is refused."""
    await member.ask("PUT", "/v1/kv/page", b"1")
    answer = await member.ask(method, "/v1/kv/page", b"", [("origin", origin)])
    assert answer.status == status
    if status == 403:
        assert answer.error["details"] == {"field": "origin"}


async def test_no_page_may_read_across(member: Running) -> None:
    """No answer allows another origin to read it."""
    answer = await member.ask("GET", "/v1/kv/page", headers=[("origin", "http://evil.example")])
    assert not [name for name in answer.headers if name.startswith("access-control")]


async def test_allowed_names_and_pages(tmp_path: Path) -> None:
    """More names and more pages can be allowed."""
    async with running(
        tmp_path, allowed_hosts=("db.example",), allowed_origins=("https://ui.example",)
    ) as named:
        headers = [("host", "db.example:2379"), ("origin", "https://ui.example")]
        assert (await named.ask("PUT", "/v1/kv/a", b"1", headers)).status == 200


# ---------------------------------------------------------------- too many


async def test_connections_are_counted(tmp_path: Path) -> None:
    """Beyond the cap connections are refused with 429; when others go, there is room again."""
    async with running(tmp_path, limits=few(connections=1, connections_reserve=1)) as narrow:
        async with narrow.raw() as first, narrow.raw():
            assert (await first.ask("GET", "/livez")).status == 200
            async with narrow.raw() as third:
                answer = await third.answer()
                assert (answer.status, answer.error["details"]) == (429, {"limit": "connections"})
        await until(lambda: narrow.serving.census.connections == 0)
        async with narrow.web_socket() as socket:
            assert narrow.serving.census.connections == 1
            await socket.inner.close()
        await until(lambda: narrow.serving.census.connections == 0)


# ---------------------------------------------------------------- stopping


async def test_clients_are_told_to_go(tmp_path: Path) -> None:
    """A member that stops tells its clients: a notice and 1012, streams end, all within time."""
    async with running(tmp_path) as stopping, contextlib.AsyncExitStack() as stack:
        sockets = [await stack.enter_async_context(stopping.web_socket()) for _ in range(3)]
        events = await stack.enter_async_context(stopping.raw())
        events.send(b"GET /v1/watch?key=a HTTP/1.1\r\nhost: localhost\r\n\r\n")
        await events.answer("HEAD")
        silent = await stack.enter_async_context(stopping.raw())
        stopping.server.stop()
        for socket in sockets:
            code, notice = await socket.closed()
            assert code == 1012
            assert notice is not None
            assert notice.code == "stopping"
        assert b'"code":"stopping"' in await events.rest()
        assert await silent.rest() == b""
        await stopping.task


async def test_stopping_does_not_wait_for_the_stubborn(tmp_path: Path) -> None:
    """A client that ignores the close does not hold up the end."""
    async with running(tmp_path) as stopping, stopping.raw() as raw:
        raw.send(
            b"GET /v1/ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            b"Sec-WebSocket-Version: 13\r\n\r\n"
        )
        assert (await raw.answer("HEAD")).status == 101
        stopping.server.stop()
        await stopping.task
        assert stopping.serving.websockets == {} or b"\x03\xf4" in await raw.rest()


async def test_requests_after_the_end_are_refused(member: Running) -> None:
    """While a member stops, requests are refused as retryable."""
    member.node.is_stopping = True
    try:
        answer = await member.ask("PUT", "/v1/kv/late", b"1")
        assert (answer.status, answer.error["code"]) == (503, "stopping")
        assert answer.error["retryable"] is True
        assert answer.headers["retry-after"] == "1"
        assert (await member.ask("GET", "/readyz")).status == 503
        assert msgspec.json.decode((await member.ask("GET", "/health")).body)["health"] == "false"
    finally:
        member.node.is_stopping = False
