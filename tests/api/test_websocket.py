"""The WebSocket: frames, greeting, both subprotocols, streams, limits."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from coordinator.api import keyspace
from coordinator_sdk.protocol.cluster import (
    ClusterMembers,
    ClusterMembersResult,
    ClusterStatus,
    ClusterStatusResult,
    Hello,
    Ping,
)
from coordinator_sdk.protocol.codec import JSON, MSGPACK, Codec
from coordinator_sdk.protocol.frames import Failure, Result
from coordinator_sdk.protocol.kv import (
    Cancel,
    Compact,
    CompactResult,
    Compare,
    Credit,
    KeyValue,
    LeaseGrant,
    LeaseGrantResult,
    LeaseInfo,
    LeaseKeepAlive,
    LeaseKeepAliveResult,
    LeaseList,
    LeaseListResult,
    LeaseRevoke,
    LeaseRevokeResult,
    LeaseTimeToLive,
    Progress,
    Put,
    PutResult,
    Range,
    RangeResult,
    Txn,
    TxnResult,
    Watch,
    WatchEvents,
    WatchItem,
    WatchProgress,
)
from coordinator_sdk.protocol.sessions import (
    SessionClose,
    SessionGet,
    SessionInfo,
    SessionList,
    SessionListResult,
    SessionOpen,
    SessionOpenResult,
)
from tests.api.member import Raw, Running, until

pytestmark = pytest.mark.asyncio(loop_scope="module")
both = pytest.mark.parametrize("codec", [MSGPACK, JSON], ids=["msgpack", "json"])
_ITEM: Any = WatchItem

UPGRADE = (
    b"GET /v1/ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Protocol: coordinator.v1.msgpack\r\n\r\n"
)


def masked(lead: int, payload: bytes, length: int | None = None) -> bytes:
    """Make a masked frame; the mask is zero, so the payload stays as it is."""
    size = len(payload) if length is None else length
    if size < 126:
        head = struct.pack("!BB", lead, 0x80 | size)
    elif size < 65_536:
        head = struct.pack("!BBH", lead, 0x80 | 126, size)
    else:
        head = struct.pack("!BBQ", lead, 0x80 | 127, size)
    return head + b"\0\0\0\0" + payload


@contextlib.asynccontextmanager
async def upgraded(member: Running, upgrade: bytes = UPGRADE) -> AsyncIterator[Raw]:
    """Open a WebSocket by hand."""
    async with member.raw() as raw:
        raw.send(upgrade)
        assert (await raw.answer("HEAD")).status == 101
        yield raw


def close_code(data: bytes) -> int | None:
    """Find the code of the close frame at the end of what a server sent."""
    at = data.rfind(b"\x88")
    return int.from_bytes(data[at + 2 : at + 4], "big") if at >= 0 else None


@both
async def test_writes_and_reads(member: Running, codec: Codec) -> None:
    """Both subprotocols write and read, and every frame says who answers and where it stood."""
    key = b"both/" + codec.name.encode()
    async with member.web_socket(codec) as socket:
        written = await socket.call(Put(key, b"\xff\x00"), PutResult)
        assert socket.header is not None
        assert socket.header.cluster == member.node.cluster_id
        assert socket.header.member == member.node.member_id
        assert socket.header.revision == written.revision
        read = await socket.call(Range(key), RangeResult)
        assert read.kvs == [KeyValue(key, written.revision, written.revision, 1, 0, b"\xff\x00")]


async def test_one_turn_one_frame(member: Running) -> None:
    """All answers of one turn of the loop leave in one message."""
    async with member.web_socket() as socket:
        await socket.send(*(Ping() for _ in range(50)))
        _, items = MSGPACK.decode_frame(await socket.inner.recv())
        assert len(items) == 50


async def test_requests_overlap(member: Running) -> None:
    """Requests of one message are answered each by its id, wrong ones apart from right ones."""
    async with member.web_socket() as socket:
        ids = await socket.send(Put(b"a", b"1"), Put(b"", b"2"), LeaseRevoke(77), Ping())
        answers = await socket.answers(ids)
        assert [type(answers[id]) for id in ids] == [Result, Failure, Failure, Result]
        wrong, missing = answers[ids[1]], answers[ids[2]]
        assert isinstance(wrong, Failure)
        assert isinstance(missing, Failure)
        assert (wrong.code, wrong.details) == ("invalid_request", {"field": "key"})
        assert missing.code == "lease_not_found"


# ---------------------------------------------------------------- the greeting


async def test_greeting_gives_an_id_once(member: Running) -> None:
    """A new client is given an id by the log; one that comes back is known by it."""
    async with member.web_socket(greet=False) as socket:
        first = await socket.greet()
        assert first.client > 0
        assert not first.resumed
        assert first.cluster == member.node.cluster_id
    async with member.web_socket(greet=False) as socket:
        again = await socket.greet(client=first.client, cluster=first.cluster)
        assert (again.client, again.resumed) == (first.client, True)


async def test_greeting_comes_first(member: Running) -> None:
    """What comes before the greeting is refused; what comes behind it in one message waits."""
    async with member.web_socket(greet=False) as socket:
        refused = await socket.call(Ping())
        assert isinstance(refused, Failure)
        assert refused.details == {"field": "operation"}
        ids = await socket.send(Hello(), Put(b"behind", b"1"), Ping())
        answers = await socket.answers(ids)
        assert all(isinstance(answer, Result) for answer in answers.values())


async def test_another_cluster_is_refused(member: Running) -> None:
    """A client that belongs to another cluster is refused."""
    async with member.web_socket(greet=False) as socket:
        refused = await socket.call(Hello(cluster=12345))
        assert refused.code == "cluster_mismatch"


async def test_greeting_happens_once(member: Running) -> None:
    """A second greeting is refused."""
    async with member.web_socket() as socket:
        refused = await socket.call(Hello())
        assert refused.details == {"field": "operation"}


async def test_retry_is_applied_once(member: Running) -> None:
    """A change that is sent again with its id, on another connection, is applied once."""
    async with member.web_socket(greet=False) as socket:
        client = (await socket.greet()).client
        socket.next_id = 500
        first = await socket.call(LeaseGrant(60_000), LeaseGrantResult)
    async with member.web_socket(greet=False) as socket:
        await socket.greet(client=client)
        socket.next_id = 500
        second = await socket.call(LeaseGrant(60_000), LeaseGrantResult)
        assert second == first
        socket.next_id = 500
        other = await socket.call(LeaseGrant(61_000), LeaseGrantResult)
        assert other.code == "request_reused"


# ---------------------------------------------------------------- operations


async def test_transactions(member: Running) -> None:
    """A transaction compares and writes; one that only reads takes no place in the log."""
    async with member.web_socket() as socket:
        op = Txn([Compare(0, 0, b"txn")], [Put(b"txn", b"1")], [Range(b"txn")])
        first = await socket.call(op, TxnResult)
        second = await socket.call(op, TxnResult)
        assert (first.succeeded, second.succeeded) == (True, False)
        index = member.node.status().index
        read = await socket.call(Txn([], [Range(b"txn")]), TxnResult)
        assert read.responses[0].kvs[0].value == b"1"
        assert member.node.status().index == index


async def test_history(member: Running) -> None:
    """The past can be read back to the compact revision, and no further."""
    async with member.web_socket() as socket:
        first = await socket.call(Put(b"past", b"1"), PutResult)
        second = await socket.call(Put(b"past", b"2"), PutResult)
        read = await socket.call(Range(b"past", revision=first.revision), RangeResult)
        assert read.kvs[0].value == b"1"
        future = await socket.call(Range(b"past", revision=second.revision + 1000), RangeResult)
        assert future.code == "future_revision"
        await socket.call(Compact(second.revision), CompactResult)
        gone = await socket.call(Range(b"past", revision=first.revision), RangeResult)
        assert gone.code == "compacted"


async def test_writing_transactions_read_the_past(
    member: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A transaction that writes reads the past as well, wherever its values lie."""
    log = member.node.keyspace.log
    async with member.web_socket() as socket:
        first = await socket.call(Put(b"older", b"1"), PutResult)
        second = await socket.call(Put(b"older", b"2"), PutResult)
        monkeypatch.setattr(log, "bytes_max", 0)
        await until(lambda: log.first > second.revision)
        op = Txn([], [Put(b"newer", b"1"), Range(b"older", revision=first.revision)])
        result = await socket.call(op, TxnResult)
        assert result.responses[1].kvs[0].value == b"1"
        socket.next_id -= 1
        retried = await socket.call(op)
        assert retried.details == {"revision": result.revision}


async def test_large_transactions_are_served_in_slices(member: Running) -> None:
    """A transaction that reads or compares very many keys goes through the log, in slices."""
    async with member.web_socket() as socket:
        for start in range(0, 1100, 100):
            puts = [Put(b"many/%05d" % number, b"x") for number in range(start, start + 100)]
            await socket.call(Txn([], list(puts)), TxnResult)
        half, end = b"many/00550", b"many0"
        for op in (
            Txn([], [Range(b"many/", half), Range(half, end)]),
            Txn([Compare(0, 1, b"many/", 0, b"", end)], [Range(b"many/00000")]),
        ):
            index = member.node.status().index
            read = await socket.call(op, TxnResult)
            assert read.succeeded
            assert member.node.status().index == index + 1


async def test_large_ranges_are_read_in_slices(member: Running) -> None:
    """A large range is one revision of the keyspace, although writes happen while it is read."""
    async with member.web_socket() as socket, member.web_socket(JSON) as browser:
        for start in range(0, 6000, 100):
            puts = [Put(b"slices/%05d" % number, b"x") for number in range(start, start + 100)]
            assert (await socket.call(Txn([], list(puts)), TxnResult)).succeeded
        before = member.node.revision
        body = Range(b"slices/", b"slices0")
        ids = await socket.send(body, Put(b"slices/00001", b"y"), Put(b"slices/99999", b"y"))
        answers = await socket.answers(ids)
        found = answers[ids[0]]
        assert isinstance(found, Result)
        result = MSGPACK.decode_value(found.result, RangeResult)
        # Whether the writes come before or after it is free, but it is one revision.
        seen = {record.key: record.value for record in result.kvs}
        assert seen.get(b"slices/00001") == (b"x" if result.revision == before else b"y")
        assert (b"slices/99999" in seen) == (result.revision >= before + 2)
        assert len(seen) == result.count == 6000 + (result.revision >= before + 2)
        future = await socket.call(msgspec.structs.replace(body, revision=before + 1000))
        assert future.code == "future_revision"
        down = Range(b"slices/", b"slices0", limit=2, sort_order=2)
        last = await browser.call(down, RangeResult)
        assert [record.key for record in last.kvs] == [b"slices/99999", b"slices/05999"]
        assert last.more


async def test_answers_in_json_are_bounded(
    member: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In JSON an answer has so many keys at most, and tells that there are more."""
    monkeypatch.setattr(keyspace, "JSON_KEYS_MAX", 3)
    async with member.web_socket(JSON) as browser:
        for number in range(5):
            await browser.call(Put(b"bounded/%d" % number), PutResult)
        found = await browser.call(Range(b"bounded/", b"bounded0"), RangeResult)
        assert (len(found.kvs), found.more, found.count) == (3, True, 5)
        listed = (await member.ask("GET", "/v1/kv?prefix=bounded/")).json
        assert (len(listed["kvs"]), listed["more"]) == (3, True)


async def test_leases(member: Running) -> None:
    """A lease is granted, renewed, looked at, listed and revoked with its keys."""
    async with member.web_socket() as socket:
        lease = (await socket.call(LeaseGrant(60_000), LeaseGrantResult)).lease
        await socket.call(Put(b"leased", b"1", lease), PutResult)
        renewed = await socket.call(LeaseKeepAlive([lease, 99]), LeaseKeepAliveResult)
        assert renewed.ttls_ms == [60_000, 0]
        info = await socket.call(LeaseTimeToLive(lease, keys=True), LeaseInfo)
        assert (info.ttl_ms, info.keys) == (60_000, [b"leased"])
        assert 0 < info.remaining_ms <= 60_000
        listed = await socket.call(LeaseList(), LeaseListResult)
        assert lease in [one.lease for one in listed.leases]
        revoked = await socket.call(LeaseRevoke(lease), LeaseRevokeResult)
        assert revoked.deleted == 1
        gone = await socket.call(LeaseTimeToLive(lease), LeaseInfo)
        assert gone.remaining_ms == -1


async def test_sessions(member: Running) -> None:
    """A session is opened, read, listed and closed, and is no lease to the lease calls."""
    async with member.web_socket() as socket:
        opened = await socket.call(
            SessionOpen(60_000, application="app", host="h", pid=7, metadata={"a": "b"}),
            SessionOpenResult,
        )
        info = await socket.call(SessionGet(opened.session), SessionInfo)
        assert (info.application, info.host, info.pid, info.metadata) == ("app", "h", 7, {"a": "b"})
        assert 0 < info.remaining_ms <= 60_000
        listed = await socket.call(SessionList(), SessionListResult)
        assert opened.session in [one.session for one in listed.sessions]
        refused = await socket.call(LeaseRevoke(opened.session), LeaseRevokeResult)
        assert refused.code == "lease_not_found"
        await socket.call(SessionClose(opened.session))
        gone = await socket.call(SessionGet(opened.session), SessionInfo)
        assert gone.code == "session_not_found"


async def test_cluster(member: Running) -> None:
    """A member tells how it stands, and who the members are."""
    async with member.web_socket() as socket:
        status = await socket.call(ClusterStatus(), ClusterStatusResult)
        assert status.leader == status.member == member.node.member_id
        assert status.connections >= 1
        members = await socket.call(ClusterMembers(), ClusterMembersResult)
        assert [one.member for one in members.members] == [member.node.member_id]


# ---------------------------------------------------------------- streams


@both
async def test_watch(member: Running, codec: Codec) -> None:
    """A watch is confirmed, then tells every change of its range, from a past revision too."""
    prefix = b"w" + codec.name.encode() + b"/"
    async with member.web_socket(codec) as socket:
        start = (await socket.call(Put(prefix + b"1", b"x"), PutResult)).revision
        await socket.call(Watch(prefix, prefix + b"\xff", start_revision=start))
        seen = await socket.stream_item(_ITEM)
        assert isinstance(seen, WatchEvents)
        assert [event.kv.key for event in seen.events] == [prefix + b"1"]
        async with member.web_socket() as other:
            revision = (await other.call(Put(prefix + b"2", b"y"), PutResult)).revision
        live = await socket.stream_item(_ITEM)
        assert (live.revision, live.events[0].kv.value) == (revision, b"y")


async def test_watch_from_the_first_revision(member: Running) -> None:
    """A watch may begin at the very first revision, at which nothing was written."""
    async with member.web_socket() as socket:
        compact = member.node.keyspace.compact_revision
        answer = await socket.call(Watch(b"none", start_revision=1))
        assert (answer is None) == (compact <= 1)
        await socket.call(Ping())
    assert member.node.failure is None


async def test_credit_holds_a_watch_back(member: Running) -> None:
    """A watch with credit sends so many events and goes on when it is given more."""
    async with member.web_socket() as socket:
        (stream,) = await socket.send(Watch(b"credit", credit=1))
        await socket.answers([stream])
        async with member.web_socket() as other:
            for value in (b"1", b"2"):
                await other.call(Put(b"credit", value), PutResult)
        first = await socket.stream_item(_ITEM)
        assert [event.kv.value for event in first.events] == [b"1"]
        await socket.call(Ping())
        await socket.send(Credit(stream, 5))
        second = await socket.stream_item(_ITEM)
        assert [event.kv.value for event in second.events] == [b"2"]


async def test_progress_and_cancel(member: Running) -> None:
    """A watch tells its position when asked, and ends when cancelled."""
    async with member.web_socket() as socket:
        (stream,) = await socket.send(Watch(b"progress"))
        await socket.answers([stream])
        (asked,) = await socket.send(Progress(stream))
        notice = await socket.stream_item(_ITEM)
        assert notice == WatchProgress(member.node.revision)
        await socket.answers([asked])
        await socket.call(Cancel(stream))
        refused = await socket.call(Progress(stream))
        assert refused.details == {"field": "stream"}


async def test_watch_of_compacted_history_is_refused(member: Running) -> None:
    """A watch that begins below the compact revision is refused, and told where history begins."""
    async with member.web_socket() as socket:
        for value in (b"1", b"2", b"3"):
            last = (await socket.call(Put(b"compacted", value), PutResult)).revision
        await socket.call(Compact(last), CompactResult)
        refused = await socket.call(Watch(b"compacted", start_revision=last - 1))
        assert (refused.code, refused.details) == ("compacted", {"compact_revision": last})


async def test_streams_end_with_their_connection(member: Running) -> None:
    """When a connection goes, its watches go."""
    before = len(member.node.hub)
    async with member.web_socket() as socket:
        await socket.call(Watch(b"gone"))
        assert len(member.node.hub) == before + 1
    await until(lambda: len(member.node.hub) == before)


async def test_streams_have_a_number(strict: Running) -> None:
    """A connection has so many streams, and no id twice."""
    async with strict.web_socket() as socket:
        for _ in range(3):
            await socket.call(Watch(b"s"))
        refused = await socket.call(Watch(b"s"))
        assert (refused.code, refused.details) == (
            "exhausted",
            {"limit": "streams_per_connection"},
        )
        socket.next_id -= 3
        twice = await socket.call(Watch(b"s"))
        assert twice.details == {"field": "id"}


async def test_no_stream_outlives_its_id(member: Running) -> None:
    """A stream whose id is used again by a request that fails has ended, and leaves nothing."""
    before = len(member.node.hub)
    async with member.web_socket() as socket:
        for again in (Watch(b"twice"), Put(b"")):
            await socket.call(Watch(b"twice"))
            assert len(member.node.hub) == before + 1
            socket.next_id -= 1
            assert (await socket.call(again)).code == "invalid_request"
            assert len(member.node.hub) == before


# ---------------------------------------------------------------- limits


async def test_many_requests_wait_their_turn(strict: Running) -> None:
    """More requests than may be in flight wait, and all are answered."""
    async with strict.web_socket() as socket:
        ids = await socket.send(*(Put(b"many", b"%d" % number) for number in range(200)))
        answers = await socket.answers(ids)
        assert all(isinstance(answer, Result) for answer in answers.values())


async def test_largest_request(member: Running) -> None:
    """A request of the largest size passes, one byte more is refused, and the next is served."""
    async with member.web_socket() as socket:
        overhead = len(MSGPACK.encode_value(Put(b"large", b"x" * 70_000))) - 70_000
        most = 1_572_864 - overhead
        fits = await socket.call(Put(b"large", b"x" * most), PutResult)
        assert isinstance(fits, PutResult)
        refused = await socket.call(Put(b"large", b"x" * (most + 1)), PutResult)
        assert refused.code == "request_too_large"
        assert refused.message == "etcdserver: request is too large"
        await socket.call(Put(b"large", b""), PutResult)


async def test_largest_message(member: Running) -> None:
    """A message beyond the limit closes the connection with 1009, before it is read."""
    async with member.web_socket() as socket:
        with contextlib.suppress(ConnectionClosed):
            await socket.inner.send(b"x" * 2_000_000)
        assert (await socket.closed())[0] == 1009


async def test_client_that_does_not_read(member: Running) -> None:
    """A client that does not read holds up itself only: it is not read from any more."""
    async with member.web_socket() as writer:
        await writer.call(Put(b"unread", b"x" * 1_000_000), PutResult)
        async with member.web_socket(max_queue=1) as socket:
            await socket.send(*(Range(b"unread") for _ in range(100)))
            await writer.call(Ping())
            (connection,) = [one for one in member.serving.websockets if one.in_flight > 50]
            await until(lambda: connection.is_full)
            assert connection.transport.get_write_buffer_size() < 16_000_000
            await writer.call(Put(b"unread", b""), PutResult)
            answered = await socket.answers(list(range(2, 102)))
            assert len(answered) == 100


async def test_silence_ends_a_connection(hasty: Running) -> None:
    """A client that shows no sign of life is closed; one that answers pings stays."""
    async with hasty.web_socket() as lively, upgraded(hasty) as raw:
        raw.send(masked(0x82, MSGPACK.encode_requests(0, [(1, Hello())])))
        data = await raw.rest()
        assert b"silent" in data
        await lively.call(Ping())


async def test_no_greeting_ends_a_connection(hasty: Running) -> None:
    """A client that does not greet is closed."""
    async with hasty.web_socket(greet=False) as socket:
        code, _ = await socket.closed()
        assert code == 1008


# ---------------------------------------------------------------- attacks


HELLO = masked(0x82, MSGPACK.encode_requests(0, [(1, Hello())]))
ATTACKS = {
    "not masked": (b"\x82\x01x", 1002),
    "not masked, long": (b"\x82\x7e\x00\xff" + b"x" * 255, 1002),
    "reserved bit": (masked(0xC2, b"x"), 1002),
    "reserved opcode": (masked(0x83, b"x"), 1002),
    "reserved control opcode": (masked(0x8B, b"x"), 1002),
    "declared 2^62": (masked(0x82, b"", 1 << 62), 1009),
    "declared 2^63": (masked(0x82, b"", 1 << 63), 1009),
    "declared too large": (masked(0x82, b"", 2_000_000), 1009),
    "continuation of nothing": (masked(0x80, b"x"), 1002),
    "new message inside another": (masked(0x02, b"x") + masked(0x82, b"x"), 1002),
    "fragmented ping": (masked(0x09, b"x"), 1002),
    "long ping": (masked(0x89, b"x" * 126), 1002),
    "text on the binary subprotocol": (masked(0x81, b"[]"), 1003),
    "no frame": (masked(0x82, b"\xc1"), 1007),
    "empty message": (masked(0x82, b""), 1007),
    "deep nesting": (masked(0x82, b"\x91" * 100_000 + b"\xc0"), 1007),
    "close with a wrong code": (masked(0x88, struct.pack("!H", 1005)), 1002),
    "close with wrong text": (masked(0x88, b"\x03\xe8\xff"), 1007),
    "fragments": (masked(0x02, b"") + masked(0x00, b"") * 5000, 1008),
    "pings": (masked(0x89, b"") * 5000, 1008),
    "large in fragments": (
        masked(0x02, b"x" * 250_000) + masked(0x00, b"x" * 250_000) * 10,
        1009,
    ),
}


@pytest.mark.parametrize("name", ATTACKS)
async def test_wrong_frames(strict: Running, name: str) -> None:
    """Frames against the rules close their connection with the right code, and nothing else."""
    attack, code = ATTACKS[name]
    async with strict.web_socket() as bystander, upgraded(strict) as raw:
        raw.send(HELLO + attack)
        assert close_code(await raw.rest()) == code
        await bystander.call(Ping())


async def test_frames_in_pieces(strict: Running) -> None:
    """Messages arrive byte by byte, and in fragments with pings between, and are served."""
    async with upgraded(strict) as raw:
        for byte in HELLO:
            raw.send(bytes((byte,)))
            await raw.writer.drain()
        payload = MSGPACK.encode_requests(0, [(2, Put(b"pieces", b"x" * 300))])
        middle = len(payload) // 2
        raw.send(
            masked(0x02, payload[:middle]) + masked(0x89, b"!") + masked(0x80, payload[middle:])
        )
        data = b""
        while b"\xa3put" not in data:
            data += await raw.reader.read(65_536)
        assert b"\x8a\x01!" in data


async def test_text_must_be_utf8(strict: Running) -> None:
    """Text that is not UTF-8 closes the connection with 1007."""
    async with upgraded(strict, UPGRADE.replace(b".msgpack", b".json")) as raw:
        raw.send(masked(0x81, b'[0,[[1,["ping\xff"]]]]'))
        assert close_code(await raw.rest()) == 1007


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ((b"/v1/ws", b"/v1/other"), 404),
        ((b"Host: 127.0.0.1", b"Host: evil.example"), 403),
        ((b"Host: 127.0.0.1", b"Host: 127.0.0.1\r\nOrigin: http://evil.example"), 403),
        ((b"Host: 127.0.0.1", b"Host: 127.0.0.1\r\nOrigin: null"), 403),
        ((b"Host: 127.0.0.1\r\n", b""), 400),
        ((b"coordinator.v1.msgpack", b"other.v1"), 400),
        ((b"Version: 13", b"Version: 12"), 400),
        ((b"dGhlIHNhbXBsZSBub25jZQ==", b"short"), 400),
    ],
)
async def test_handshake_is_refused(
    member: Running, change: tuple[bytes, bytes], status: int
) -> None:
    """A wrong path, host, origin, subprotocol or version is refused as HTTP."""
    async with member.raw() as raw:
        raw.send(UPGRADE.replace(*change))
        assert (await raw.answer("HEAD")).status == status


async def test_pages_of_this_host_may_connect(member: Running) -> None:
    """A page that the member itself served may open the WebSocket."""
    async with member.web_socket(JSON, origin=f"http://127.0.0.1:{member.port}") as socket:
        await socket.call(Ping())


async def test_without_subprotocol_it_is_json(member: Running) -> None:
    """A client that offers no subprotocol speaks JSON."""
    async with member.web_socket(JSON, subprotocols=None) as socket:
        await socket.call(Ping())


async def test_no_compression(member: Running) -> None:
    """Compression is not agreed to."""
    async with member.raw() as raw:
        raw.send(UPGRADE[:-2] + b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n")
        answer = await raw.answer("HEAD")
        assert answer.status == 101
        assert "sec-websocket-extensions" not in answer.headers


async def test_refusal_reaches_ordinary_clients(member: Running) -> None:
    """The reason of a refused handshake can be read."""
    with pytest.raises(InvalidStatus) as refused:
        async with member.web_socket(subprotocols=["nothing.v1"]):
            pass
    assert b"coordinator.v1.msgpack" in refused.value.response.body


async def test_a_broken_answer_harms_nobody(
    member: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer that cannot be written is an internal error of its request; the member goes on."""
    async with member.web_socket(greet=False) as socket, member.web_socket() as other:
        client = (await socket.greet()).client
        served = next(one for one in member.serving.websockets if one.caller.client == client)

        def fail(*_: Any) -> bytes:
            raise TypeError("planted")

        names = [name for name in dir(MSGPACK) if not name.startswith("_")]
        planted = SimpleNamespace(**{name: getattr(MSGPACK, name) for name in names})
        planted.encode_result = fail
        monkeypatch.setattr(served, "codec", planted)
        broken = await socket.call(Put(b"broken", b"1"), PutResult)
        assert broken.code == "internal"
        assert isinstance(await other.call(Put(b"broken", b"2"), PutResult), PutResult)
    assert member.node.failure is None
