"""The shell, against a server made of the model cluster: real sockets, faults on demand."""

from __future__ import annotations

import asyncio
import datetime
import random
import ssl
import threading
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from coordinator_sdk import (
    TLS,
    Client,
    ClientClosed,
    ClusterMismatch,
    Compacted,
    ConnectFailed,
    GuardFailed,
    InvalidRequest,
    OutcomeUnknown,
    RequestTooLarge,
    RetryPolicy,
    ops,
)
from coordinator_sdk.protocol import kv
from tests.sdk.model import Cluster
from tests.sdk.server import FakeServer, fake_server

FAST = RetryPolicy(deadline=20.0, base=0.001, cap=0.01)


async def test_keys_are_written_and_read(client: Client) -> None:
    """Put, get, range, delete and transactions do what they say, with text or bytes."""
    assert (await client.kv.put("a", "1")).revision == 2
    await client.kv.put(b"ab", bytearray(b"2"))
    found = await client.kv.get("a")
    assert found is not None
    assert (found.value, found.mod_revision) == (b"1", 2)
    assert await client.kv.get("nothing") is None
    assert [record.key for record in (await client.kv.range(prefix="a")).kvs] == [b"a", b"ab"]
    assert (await client.kv.range(prefix="")).count == 2
    assert (await client.kv.range("a", range_end="ab")).count == 1
    result = await client.kv.txn(
        [ops.value("a") == "1"], [ops.put("a", "3"), ops.get("ab")], [ops.delete("a")]
    )
    assert result.succeeded
    assert result.responses[1].kvs[0].value == b"2"  # type: ignore[union-attr]
    assert (await client.kv.delete(prefix="a")).deleted == 2
    assert client.revision == 5


async def test_requests_of_one_turn_share_a_frame(server: FakeServer, client: Client) -> None:
    """All calls of one turn of the loop travel in one frame."""
    before = server.frames
    await asyncio.gather(*(client.kv.put(f"k{number}") for number in range(64)))
    assert server.frames == before + 1


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({}, "key"),
        ({"key": "a", "prefix": "b"}, "prefix"),
        ({"key": 5}, "key"),
        ({"key": "\ud800"}, "key"),
    ],
)
async def test_bad_keys_never_leave(
    server: FakeServer, client: Client, arguments: dict[str, Any], field: str
) -> None:
    """A key that cannot be right is refused by name before anything is sent."""
    before = server.frames
    with pytest.raises(InvalidRequest) as caught:
        await client.kv.range(**arguments)
    assert caught.value.details == {"field": field}
    assert server.frames == before


async def test_a_request_beyond_the_limit_is_refused_here(client: Client) -> None:
    """A request above the server's limit fails by name; its neighbours are sent."""
    large = client.kv.put("large", b"x" * 2_000_000)
    results = await asyncio.gather(
        client.kv.put("a"), large, client.kv.put("b"), return_exceptions=True
    )
    assert isinstance(results[1], RequestTooLarge)
    assert "kv.put" in str(results[1])
    assert [type(results[at]) for at in (0, 2)] == [kv.PutResult] * 2


@pytest.mark.parametrize("topic", ["\udcff", "x" * 10 + "\ud800"])
async def test_a_request_that_cannot_be_encoded_fails_alone(client: Client, topic: str) -> None:
    """A name that is no text fails its own call by name; its neighbours are sent."""
    results = await asyncio.gather(
        client.kv.put("a"),
        client.topics.publish(topic, b""),
        client.kv.put("b"),
        client.kv.txn([ops.mod_revision("a") == 10**23]),
        client.kv.put("c"),
        return_exceptions=True,
    )
    assert [type(results[at]) for at in (0, 2, 4)] == [kv.PutResult] * 3
    assert isinstance(results[1], InvalidRequest)
    assert "topics.publish" in str(results[1])
    assert isinstance(results[3], InvalidRequest)
    assert "kv.txn" in str(results[3])


async def test_large_frames_travel(client: Client) -> None:
    """Answers of many megabytes arrive whole, however the network cuts them."""
    value = random.Random(1).randbytes(1_000_000)
    await asyncio.gather(*(client.kv.put(f"k{number}", value) for number in range(8)))
    found = await client.kv.range(prefix="k")
    assert [record.value for record in found.kvs] == [value] * 8


async def test_calls_survive_a_broken_connection(server: FakeServer, client: Client) -> None:
    """Changes under way when the connection breaks are applied once and answered."""
    server.hold.clear()
    calls = [asyncio.ensure_future(client.kv.put(f"k{number}")) for number in range(50)]
    await server.until(lambda: len(server.cluster.keys) == 50)
    server.drop()
    server.hold.set()
    results = await asyncio.gather(*calls)
    assert sorted(result.revision for result in results) == list(range(2, 52))
    assert set(server.cluster.applied.values()) == {1}
    assert len(server.members) == 2


async def test_another_endpoint_takes_over(server: FakeServer) -> None:
    """When an endpoint goes, the client goes on at another, as the same client."""
    async with fake_server(server.cluster) as other:
        async with Client(server.url, other.url, retry=FAST) as client:
            await client.kv.put("a")
            assert client.endpoint == server.url
            server.drop()
            await client.kv.put("b")
            assert client.endpoint == other.url
        assert len(server.cluster.clients) == 1


async def test_the_first_endpoint_may_be_down(server: FakeServer) -> None:
    """A client connects through any endpoint that answers."""
    async with Client("http://127.0.0.1:9", server.url, retry=FAST) as client:
        assert client.endpoint == server.url


async def test_a_client_waits_for_its_server(unused_tcp_port: int) -> None:
    """A client connects again for ever; calls made meanwhile are served afterwards."""
    state = Cluster()
    async with fake_server(state, unused_tcp_port) as first:
        client = await Client(first.url, retry=FAST).connect()
    call = asyncio.ensure_future(client.kv.put("a"))
    async with fake_server(state, unused_tcp_port):
        assert (await call).revision == 2
        await client.close()


async def test_another_cluster_is_refused(unused_tcp_port: int) -> None:
    """A client whose endpoint belongs to another cluster now says so to its callers."""
    async with fake_server(port=unused_tcp_port) as first:
        client = await Client(first.url, retry=FAST).connect()
    async with fake_server(Cluster(88), unused_tcp_port):
        with pytest.raises(ClusterMismatch):
            await client.kv.get("a")
        await client.close()


@pytest.mark.parametrize(
    "garbage",
    [b"\xc1\xc1", b"", b"\x92\x94\x01\x01\x01\x01\x91\x93\x00\x01", "text", [b"\x92", b"\xc1"]],
    ids=["msgpack", "empty", "truncated", "text", "fragments"],
)
async def test_garbage_ends_the_connection_only(
    server: FakeServer, client: Client, garbage: Any
) -> None:
    """A server that sends garbage is left; the call is made again and answered."""
    server.garbage = garbage
    assert (await client.kv.put("a")).revision == 2
    assert set(server.cluster.applied.values()) == {1}


async def test_a_fragmented_message_is_read(server: FakeServer, client: Client) -> None:
    """A message in several frames, with a ping between, is put together."""
    state = server.cluster

    def fragment(member: Any, data: bytes) -> None:
        items = member.handle(data)
        frame = member.frame(items)
        server.garbage = [frame[:5], frame[5:9], frame[9:]]
        server.before = lambda member, data: None

    server.before = fragment
    await client.kv.put("a")
    for socket in server.connections:
        await (await socket.ping())
    assert state.revision == 2


async def test_a_silent_server_is_left(server: FakeServer) -> None:
    """A server that accepts and says nothing does not hold a client: it tries another."""
    async with fake_server() as silent:
        silent.mute = True
        async with Client(silent.url, server.url, connect_timeout=2, retry=FAST) as client:
            assert client.endpoint == server.url


async def test_a_member_without_the_cluster_is_left(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A member that lives but gets no answers from the cluster is left for another one, and the
    call is answered there, once."""
    monkeypatch.setattr("coordinator_sdk._session.STUCK_SECONDS", 0.1)
    async with fake_server(server.cluster) as other:
        async with Client(server.url, other.url) as client:
            server.hold.clear()
            result = await client.kv.put("k", "v")
            assert client.endpoint == other.url
            record = await client.kv.get("k")
            assert record is not None
            assert (record.mod_revision, record.version) == (result.revision, 1)


async def test_no_server_is_named(unused_tcp_port: int) -> None:
    """With the server down the error names its URL and how to start one."""
    url = f"http://127.0.0.1:{unused_tcp_port}"
    client = Client(url, connect_timeout=0.2, retry=FAST)
    with pytest.raises(ConnectFailed) as caught:
        await client.connect()
    assert url in str(caught.value)
    assert "make run" in str(caught.value)
    assert "coordinator serve" in str(caught.value)
    assert client.closed


async def test_something_else_on_the_port_is_told() -> None:
    """A port where something else listens gives an error that says what it answered."""

    class Other(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            assert isinstance(self.transport, asyncio.Transport)
            self.transport.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nnot here\n")
            self.transport.close()

    other = await asyncio.get_running_loop().create_server(Other, "127.0.0.1", 0)
    async with other:
        port = other.sockets[0].getsockname()[1]
        client = Client(f"http://127.0.0.1:{port}", connect_timeout=0.3, retry=FAST)
        with pytest.raises(ConnectFailed, match="404 not here"):
            await client.connect()


async def test_a_call_gives_up_after_its_deadline(server: FakeServer) -> None:
    """A call without an answer ends after the timeout; a change may have been applied."""
    async with Client(server.url, timeout=0.2) as client:
        server.mute = True
        with pytest.raises(OutcomeUnknown):
            await client.kv.put("a")


async def test_cancelled_calls_do_not_disturb_others(server: FakeServer, client: Client) -> None:
    """Under ten thousand calls with random cancellations every answer matches its call."""
    chance = random.Random(7)
    await asyncio.gather(*(client.kv.put(f"k{n}", f"v{n}") for n in range(100)))
    mismatches, cancelled, answered = [], 0, 0
    for _ in range(50):
        calls = []
        for _ in range(200):
            number = chance.randrange(100)
            calls.append((number, asyncio.ensure_future(client.kv.get(f"k{number}"))))
            if chance.random() < 0.1:
                await asyncio.sleep(0)
            if chance.random() < 0.5:
                chance.choice(calls)[1].cancel()
        if chance.random() < 0.1:
            server.drop()
        results = await asyncio.gather(*(call for _, call in calls), return_exceptions=True)
        for (number, _), found in zip(calls, results, strict=True):
            if isinstance(found, asyncio.CancelledError):
                cancelled += 1
            elif not isinstance(found, kv.KeyValue) or found.value != b"v%d" % number:
                mismatches.append((number, found))
            else:
                answered += 1
    assert mismatches == []
    assert cancelled > 1000
    assert answered > 1000


async def test_a_watch_survives_cuts(server: FakeServer, client: Client) -> None:
    """A watch sees every event once and in order, however often its connection breaks."""
    seen = []
    async with client.kv.watch(prefix="k", credit=8) as watch:
        for number in range(200):
            await client.kv.put(f"k{number % 7}")
            if number % 20 == 10:
                server.drop()
        async for event in watch:
            seen.append(event.revision)
            if len(seen) == 200:
                break
        assert watch.resumes > 0
    assert seen == list(range(2, 202))


async def test_a_watch_is_closed_when_dropped(server: FakeServer, client: Client) -> None:
    """A watch whose iteration is left is closed at the server too."""
    await client.kv.put("k")
    async for event in client.kv.watch("k", start_revision=1):
        assert event.is_put
        break
    await client.cluster.ping()
    assert server.members[0].streams == {}


async def test_a_watch_has_one_reader(client: Client) -> None:
    """Two tasks cannot read one watch: the second is told."""
    watch = client.kv.watch("k")
    first = asyncio.ensure_future(anext(watch))
    await asyncio.sleep(0)
    with pytest.raises(ClientClosed):
        await anext(watch)
    first.cancel()


async def test_compaction_is_told(server: FakeServer, client: Client) -> None:
    """A watch whose history is gone raises Compacted with the revision that is left."""
    for _ in range(5):
        await client.kv.put("k")
    await client.kv.compact(4)
    with pytest.raises(Compacted) as caught:
        await anext(client.kv.watch("k", start_revision=2))
    assert caught.value.details == {"compact_revision": 4}


async def test_a_resync_leads_to_the_state_now(server: FakeServer, client: Client) -> None:
    """With resync a watch jumps over lost history by synthetic events, and goes on."""
    for key in ("a", "b", "c"):
        await client.kv.put("k/" + key, "old")
    state = {record.key: record.value for record in (await client.kv.range(prefix="k/")).kvs}
    async with client.kv.watch(prefix="k/", resync=True) as watch:
        server.drop()
        for op in (kv.Put(b"k/a", b"new"), kv.Put(b"k/d", b"1"), kv.Delete(b"k/b")):
            server.cluster.apply(op)
        server.cluster.apply(kv.Compact(server.cluster.revision))
        await client.kv.put("k/e", "2")
        kinds = []
        async for event in watch:
            kinds.append(event.synthetic)
            if event.is_put:
                state[event.key] = event.value
            else:
                del state[event.key]
            if event.key == b"k/e":
                break
        await client.kv.put("k/f", "3")
        last = await anext(watch)
    assert (watch.resyncs, last.key, last.synthetic) == (1, b"k/f", False)
    assert True in kinds
    assert {**state, b"k/f": b"3"} == {
        key: record.value for key, record in server.cluster.keys.items()
    }


async def test_a_stale_guard_is_refused(client: Client) -> None:
    """A write with the guard of a lock that was given back is refused by the cluster."""
    async with client.locks.lock("l") as lock:
        guard = lock.guard()
        await client.kv.put("k", guard=lock)
    with pytest.raises(GuardFailed):
        await client.kv.put("k", guard=guard)


# ----------------------------------------------------------------- closing


def leftovers() -> list[str]:
    """Tasks and threads that a client left behind."""
    tasks = [task.get_name() for task in asyncio.all_tasks()]
    threads = [thread.name for thread in threading.enumerate()]
    return [name for name in tasks + threads if "coordinator" in name or "session" in name]


async def test_a_client_must_be_connected(server: FakeServer) -> None:
    """Calls before connecting or after closing fail with ClientClosed, which says so."""
    client = Client(server.url)
    with pytest.raises(ClientClosed, match="async with"):
        await client.kv.put("a")
    await client.connect()
    await client.close()
    await client.close()
    with pytest.raises(ClientClosed, match="has been closed"):
        await client.kv.put("a")
    with pytest.raises(ClientClosed):
        await client.connect()


async def test_closing_ends_sessions(server: FakeServer) -> None:
    """A client that is closed gives back at once what it held."""
    async with Client(server.url) as client:
        await client.locks.lock("l").acquire()
        assert len(server.cluster.sessions) == 1
    assert server.cluster.sessions == {}
    assert server.cluster.queue("locks", "l").places == []


@pytest.mark.parametrize("state", ["new", "connecting", "idle", "busy", "muted", "cut", "down"])
async def test_closing_works_in_every_state(server: FakeServer, state: str) -> None:
    """A client closes in every state, within a second, and leaves neither task nor thread."""
    client = Client(server.url, retry=FAST)
    calls: list[asyncio.Future[Any]] = []
    if state == "connecting":
        server.mute = True
        calls.append(asyncio.ensure_future(client.connect()))
        await server.until(lambda: server.frames > 0)
    elif state != "new":
        await client.connect()
    if state in ("busy", "muted", "cut", "down"):
        await client.locks.lock("l").acquire()
        server.mute = True
        calls.append(asyncio.ensure_future(client.kv.put("a")))
        calls.append(asyncio.ensure_future(anext(client.kv.watch("a"))))
        calls.append(asyncio.ensure_future(client.locks.lock("l").acquire()))
        await asyncio.sleep(0)
    if state in ("cut", "down"):
        server.drop()
    async with asyncio.timeout(1.0):
        await client.close()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(result, ClientClosed | asyncio.CancelledError) for result in results)
    assert leftovers() == []


async def test_a_failed_connect_leaves_nothing(unused_tcp_port: int) -> None:
    """A client that could not connect leaves neither task nor thread."""
    for _ in range(3):
        with pytest.raises(ConnectFailed):
            await Client(
                f"http://127.0.0.1:{unused_tcp_port}", connect_timeout=0.05, retry=FAST
            ).connect()
    assert leftovers() == []


async def test_connecting_twice_waits_once(server: FakeServer) -> None:
    """Tasks that connect one client at the same time share the connection."""
    client = Client(server.url)
    await asyncio.gather(client.connect(), client.connect(), client.connect())
    assert client.connected
    assert len(server.connections) == 1
    await client.close()


async def test_a_cancelled_connect_leaves_nothing(server: FakeServer) -> None:
    """Cancelling connect() leaves neither task nor thread."""
    server.mute = True
    connecting = asyncio.ensure_future(Client(server.url).connect())
    await server.until(lambda: server.frames > 0)
    connecting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await connecting
    assert leftovers() == []


def test_tls_files_are_read(tmp_path: Any) -> None:
    """TLS contexts trust what they are given, and insist on TLS 1.2 or newer."""
    context = TLS().context()
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.verify_mode == ssl.CERT_REQUIRED
    with pytest.raises(OSError, match="No such file"):
        TLS(ca=tmp_path / "none.pem").context()
    assert TLS(verify=False).context().verify_mode == ssl.CERT_NONE


def certificate(folder: Path) -> tuple[Path, Path]:
    """Write a certificate for localhost that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    day = datetime.timedelta(days=1)
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "cert.pem").write_bytes(made.public_bytes(pem))
    (folder / "key.pem").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return folder / "cert.pem", folder / "key.pem"


async def test_https_endpoints_speak_tls(tmp_path: Path) -> None:
    """An https endpoint is spoken to over TLS, and only if its certificate is trusted."""
    cert, key = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    async with fake_server(context=context) as server:
        url = f"https://localhost:{server.port}"
        async with Client(url, tls=TLS(ca=cert), retry=FAST) as client:
            assert (await client.kv.put("a", b"x" * 100_000)).revision == 2
            server.drop()
            found = await client.kv.get("a")
            assert found is not None
        with pytest.raises(ConnectFailed, match="does not trust"):
            await Client(url, connect_timeout=0.5, retry=FAST).connect()
