"""HTTP/2: what is strict, what is limited, and what floods meet."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from coordinator.api.protocol import HTTP2_PREFACE
from coordinator.etcd import frames
from coordinator.etcd.frames import H2Error
from coordinator.etcd.http2 import CONTINUATIONS_MAX
from coordinator.etcd.messages import METHODS
from coordinator.etcd.outgoing import PATIENCE, RESETS
from tests.api.member import Running, few, running, until
from tests.etcd.client import Grpc, Refused, connected

pytestmark = pytest.mark.asyncio(loop_scope="module")

PUT, RANGE, WATCH = "/etcdserverpb.KV/Put", "/etcdserverpb.KV/Range", "/etcdserverpb.Watch/Watch"
ENDS = frames.END_HEADERS | frames.END_STREAM


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def strict(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    """A member with small limits."""
    limits = few(streams_per_connection=3, header_bytes=2000, output_bytes=1 << 20)
    async with running(tmp_path_factory.mktemp("strict"), limits=limits) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hasty(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    """A member with little patience."""
    limits = few(header_s=0.3, ping_s=0.2, silence_s=0.6)
    async with running(tmp_path_factory.mktemp("hasty"), limits=limits) as made:
        yield made


async def ended(grpc: Grpc) -> H2Error | None:
    """Wait until the server has closed; give the code of its GOAWAY."""
    await grpc.closed.wait()
    return H2Error(grpc.goaway.code) if grpc.goaway is not None else None


async def works(grpc: Grpc) -> None:
    """The connection still serves calls."""
    assert (await grpc.call(PUT, key=b"works")).header.revision


# ---------------------------------------------------------------- beginning


async def test_one_port_speaks_both(member: Running) -> None:
    """The first bytes of a connection tell HTTP/2 from HTTP/1.1, in whatever pieces they come."""
    assert (await member.ask("GET", "/health")).status == 200
    async with connected(member.port, greets=False) as grpc:
        for byte in HTTP2_PREFACE:
            grpc.writer.write(bytes((byte,)))
            await grpc.writer.drain()
        grpc.writer.write(frames.settings_frame({}))
        await works(grpc)
    async with member.raw() as raw:
        raw.send(b"P")
        raw.send(b"OST /v3/kv/range HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 2\r\n\r\n{}")
        assert (await raw.answer()).status == 400


async def test_connections_are_counted_until_they_end(member: Running) -> None:
    """A connection that became HTTP/2 counts once, and no more when it is gone."""
    census = member.serving.census
    before = census.connections
    async with connected(member.port) as grpc:
        await works(grpc)
        assert census.connections == before + 1
    await until(lambda: census.connections == before)


@pytest.mark.parametrize(
    "data",
    [
        HTTP2_PREFACE[:18] + b"XX\r\n\r\n",
        HTTP2_PREFACE + b"GET / HTTP/1.1\r\n\r\n",
        HTTP2_PREFACE + frames.frame(frames.PING, 0, 0, b"12345678"),
        HTTP2_PREFACE + frames.frame(frames.HEADERS, ENDS, 1, b"\x82"),
    ],
)
async def test_what_is_no_http2_is_closed(member: Running, data: bytes) -> None:
    """Whoever begins wrongly is closed."""
    async with connected(member.port, greets=False) as grpc:
        grpc.writer.write(data)
        if data.startswith(HTTP2_PREFACE):
            assert await ended(grpc) in (H2Error.PROTOCOL_ERROR, H2Error.FRAME_SIZE_ERROR)
        else:
            await grpc.closed.wait()


async def test_silence_at_the_beginning_is_closed(hasty: Running) -> None:
    """Whoever says nothing after the preface is closed."""
    async with connected(hasty.port, greets=False) as grpc:
        grpc.writer.write(HTTP2_PREFACE)
        assert await ended(grpc) is None


# ---------------------------------------------------------------- strictness


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> Callable[[Grpc], None]:
    return lambda grpc: grpc.send(kind, flags, stream, payload)


_BREACHES: list[tuple[str, Callable[[Grpc], None], H2Error]] = [
    ("settings of a stream", _frame(frames.SETTINGS, 0, 1), H2Error.PROTOCOL_ERROR),
    ("settings cut off", _frame(frames.SETTINGS, 0, 0, b"12345"), H2Error.FRAME_SIZE_ERROR),
    ("ack with payload", _frame(frames.SETTINGS, 1, 0, b"123456"), H2Error.FRAME_SIZE_ERROR),
    (
        "push is 2",
        _frame(frames.SETTINGS, 0, 0, struct.pack(">HL", 2, 2)),
        H2Error.PROTOCOL_ERROR,
    ),
    (
        "window too large",
        _frame(frames.SETTINGS, 0, 0, struct.pack(">HL", 4, 1 << 31)),
        H2Error.FLOW_CONTROL_ERROR,
    ),
    (
        "frames too small",
        _frame(frames.SETTINGS, 0, 0, struct.pack(">HL", 5, 100)),
        H2Error.PROTOCOL_ERROR,
    ),
    ("ping of a stream", _frame(frames.PING, 0, 1, b"12345678"), H2Error.PROTOCOL_ERROR),
    ("short ping", _frame(frames.PING, 0, 0, b"1234"), H2Error.FRAME_SIZE_ERROR),
    ("even stream", _frame(frames.HEADERS, ENDS, 2, b"\x82"), H2Error.PROTOCOL_ERROR),
    ("stream 0", _frame(frames.HEADERS, ENDS, 0, b"\x82"), H2Error.PROTOCOL_ERROR),
    ("data of stream 0", _frame(frames.DATA, 0, 0, b"x"), H2Error.PROTOCOL_ERROR),
    ("data of no stream", _frame(frames.DATA, 0, 99, b"x"), H2Error.PROTOCOL_ERROR),
    ("reset of no stream", _frame(frames.RST_STREAM, 0, 99, b"0000"), H2Error.PROTOCOL_ERROR),
    ("short reset", _frame(frames.RST_STREAM, 0, 1, b"00"), H2Error.FRAME_SIZE_ERROR),
    ("push", _frame(frames.PUSH_PROMISE, 0, 1, b"0000"), H2Error.PROTOCOL_ERROR),
    ("continuation", _frame(frames.CONTINUATION, 0, 1, b""), H2Error.PROTOCOL_ERROR),
    ("window of no stream", _frame(frames.WINDOW_UPDATE, 0, 99, b"0001"), H2Error.PROTOCOL_ERROR),
    (
        "window by nothing",
        _frame(frames.WINDOW_UPDATE, 0, 0, bytes(4)),
        H2Error.FLOW_CONTROL_ERROR,
    ),
    (
        "window overflows",
        _frame(frames.WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff"),
        H2Error.FLOW_CONTROL_ERROR,
    ),
    ("short priority", _frame(frames.PRIORITY, 0, 1, b"12"), H2Error.FRAME_SIZE_ERROR),
    ("priority of nothing", _frame(frames.PRIORITY, 0, 0, b"12345"), H2Error.PROTOCOL_ERROR),
    (
        "a stream depends on itself",
        _frame(frames.HEADERS, ENDS | frames.HAS_PRIORITY, 1, b"\0\0\0\1\0\x82"),
        H2Error.PROTOCOL_ERROR,
    ),
    (
        "padding longer than the frame",
        _frame(frames.HEADERS, ENDS | frames.PADDED, 1, b"\x09\x82"),
        H2Error.PROTOCOL_ERROR,
    ),
    ("headers that are none", _frame(frames.HEADERS, ENDS, 1, b"\xff"), H2Error.COMPRESSION_ERROR),
    ("a frame too large", _frame(frames.PING, 0, 0, bytes(16_385)), H2Error.FRAME_SIZE_ERROR),
    ("half a goaway", _frame(frames.GOAWAY, 0, 0, b"1234"), H2Error.PROTOCOL_ERROR),
]


@pytest.mark.parametrize(
    ("breach", "code"),
    [one[1:] for one in _BREACHES],
    ids=[one[0].replace(" ", "-") for one in _BREACHES],
)
async def test_breaches_end_the_connection(
    grpc: Grpc, breach: Callable[[Grpc], None], code: H2Error
) -> None:
    """A frame against the rules ends the connection with the code that the rules have for it."""
    breach(grpc)
    assert await ended(grpc) is code


async def test_a_header_block_is_not_interrupted(grpc: Grpc) -> None:
    """Between HEADERS and the end of its block nothing else may come."""
    grpc.send(frames.HEADERS, 0, 1, grpc.headers(PUT)[:3])
    grpc.send(frames.PING, 0, 0, b"12345678")
    assert await ended(grpc) is H2Error.PROTOCOL_ERROR


@pytest.mark.parametrize(
    "headers",
    [
        [(":method", "POST"), (":scheme", "http")],
        [(":method", "POST"), (":scheme", "http"), (":path", "")],
        [(":method", "POST"), (":path", PUT)],
        [(":path", PUT), (":scheme", "http"), (":method", "POST"), (":path", PUT)],
        [(":method", "POST"), (":scheme", "http"), ("te", "trailers"), (":path", PUT)],
        [(":method", "POST"), (":scheme", "http"), (":path", PUT), (":status", "200")],
        [(":method", "POST"), (":scheme", "http"), (":path", PUT), ("Upper", "case")],
        [(":method", "POST"), (":scheme", "http"), (":path", PUT), ("connection", "close")],
        [(":method", "POST"), (":scheme", "http"), (":path", PUT), ("te", "gzip")],
        [(":method", "POST"), (":scheme", "http"), (":path", PUT), ("a", "b\r\nc: d")],
        [(":method", "POST"), (":scheme", "http"), (":path", PUT), ("grpc-timeout", "soon")],
    ],
)
async def test_malformed_requests_are_reset(grpc: Grpc, headers: list[tuple[str, str]]) -> None:
    """A malformed request is reset; the connection goes on."""
    grpc.next_stream = 3
    grpc.send(frames.HEADERS, ENDS, 1, grpc.encoder.encode(headers))
    frame = await grpc.frame(1)
    assert frame is not None
    assert (frame.kind, frame.code) == (frames.RST_STREAM, H2Error.PROTOCOL_ERROR)
    await works(grpc)


async def test_data_after_the_end_is_refused(grpc: Grpc) -> None:
    """Nothing may follow the end of a request."""
    stream = grpc.open(WATCH)
    grpc.send(frames.DATA, frames.END_STREAM, stream)
    grpc.send(frames.DATA, 0, stream, b"x")
    with pytest.raises(Refused, match=f"reset: {H2Error.STREAM_CLOSED:d}"):
        [payload async for payload in grpc.payloads(stream)]
    await works(grpc)


async def test_a_body_is_as_long_as_it_says(grpc: Grpc) -> None:
    """A content-length that does not fit resets the stream."""
    for length in ("3", "99"):
        stream = grpc.open(PUT, ("content-length", length))
        grpc.write(stream, METHODS[PUT].request(key=b"k"), last=True)
        with pytest.raises(Refused, match=f"reset: {H2Error.PROTOCOL_ERROR:d}"):
            [payload async for payload in grpc.payloads(stream)]
    message = METHODS[PUT].request(key=b"k")
    stream = grpc.open(PUT, ("content-length", str(5 + message.ByteSize())))
    grpc.write(stream, message, last=True)
    assert (await grpc.answer(stream, PUT)).header.revision


async def test_padding_priority_and_trailers_are_understood(grpc: Grpc) -> None:
    """What HTTP/2 allows and nobody needs is taken in stride."""
    block = grpc.headers(PUT)
    padded = b"\x05" + b"\0\0\0\0\x10" + block + bytes(5)
    flags = frames.END_HEADERS | frames.PADDED | frames.HAS_PRIORITY
    grpc.send(frames.HEADERS, flags, 1, padded)
    message = METHODS[PUT].request(key=b"padded").SerializeToString()
    body = b"\0" + len(message).to_bytes(4, "big") + message
    for at in range(len(body)):
        grpc.send(frames.DATA, frames.PADDED, 1, b"\x02" + body[at : at + 1] + bytes(2))
    grpc.send(frames.PRIORITY, 0, 1, b"\0\0\0\0\x01")
    grpc.send(0x42, 0, 1, b"unknown")
    grpc.send(frames.HEADERS, ENDS, 1, grpc.encoder.encode([("some", "trailer")]))
    assert (await grpc.answer(1, PUT)).header.revision
    grpc.next_stream = 3
    stream = grpc.open(PUT)
    grpc.send(frames.HEADERS, frames.END_HEADERS, stream, grpc.encoder.encode([("a", "b")]))
    with pytest.raises(Refused, match=f"reset: {H2Error.PROTOCOL_ERROR:d}"):
        [payload async for payload in grpc.payloads(stream)]


async def test_headers_come_in_pieces(grpc: Grpc) -> None:
    """A block may go on in CONTINUATION frames."""
    block = grpc.headers(PUT)
    grpc.send(frames.HEADERS, 0, 1, block[:5])
    grpc.send(frames.CONTINUATION, 0, 1, block[5:9])
    grpc.send(frames.CONTINUATION, frames.END_HEADERS, 1, block[9:])
    grpc.write(1, METHODS[PUT].request(key=b"pieces"), last=True)
    assert (await grpc.answer(1, PUT)).header.revision


# ---------------------------------------------------------------- gRPC


@pytest.mark.parametrize(
    ("replaced", "status"),
    [
        ({"__method": "GET"}, "405"),
        ({"content_type": "application/json"}, "415"),
        ({"content_type": "application/grpcish"}, "415"),
        ({"origin": "http://evil.example"}, "403"),
    ],
)
async def test_what_is_no_grpc_gets_a_status_of_http(
    grpc: Grpc, replaced: dict[str, str], status: str
) -> None:
    """Other methods, other contents and web pages are refused before any call is made."""
    stream = grpc.open(PUT, flags=frames.END_STREAM, **replaced)
    frame = await grpc.frame(stream)
    assert frame is not None
    assert grpc.heads[stream][0][":status"] == status
    await works(grpc)


async def test_compression_is_refused(grpc: Grpc) -> None:
    """Compressed messages are UNIMPLEMENTED, whether announced or not."""
    stream = grpc.open(PUT, ("grpc-encoding", "gzip"))
    with pytest.raises(Refused, match="12: grpc: Decompressor is not installed"):
        [payload async for payload in grpc.payloads(stream)]
    stream = grpc.open(PUT)
    grpc.send(frames.DATA, frames.END_STREAM, stream, b"\1\0\0\0\2hi")
    with pytest.raises(Refused, match="12: grpc: compressed messages are not supported"):
        [payload async for payload in grpc.payloads(stream)]


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "a unary call without a message"),
        (b"\0\0\0", "the last message is incomplete"),
        (b"\0\0\0\0\5abc", "the last message is incomplete"),
        (b"\0\0\0\0\0\0\0\0\0\0", "key is not provided"),
        (b"\0\0\0\0\3\x0a\x7fx", "error unmarshalling request"),
    ],
)
async def test_bodies_that_are_no_message_are_refused(grpc: Grpc, body: bytes, text: str) -> None:
    """What is not exactly one message is INTERNAL, as with gRPC's own servers."""
    stream = grpc.open(PUT)
    grpc.send(frames.DATA, frames.END_STREAM, stream, body)
    with pytest.raises(Refused, match=text) as error:
        [payload async for payload in grpc.payloads(stream)]
    assert error.value.code == (3 if "key" in text else 13)


async def test_a_deadline_ends_a_call(grpc: Grpc) -> None:
    """A call that is not done in the time its client gave it ends with DEADLINE_EXCEEDED."""
    talk = grpc.talk(WATCH, ("grpc-timeout", "50m"))
    talk.say(create_request={"key": b"late"})
    assert (await talk.hear()).created
    with pytest.raises(Refused, match="4: context deadline exceeded"):
        await talk.hear()
    answer = await grpc.ask(PUT, METHODS[PUT].request(key=b"k"), ("grpc-timeout", "5S"))
    assert answer.header.revision


async def test_status_messages_are_percent_encoded(grpc: Grpc) -> None:
    """A status message with other than plain characters arrives escaped."""
    stream = grpc.open("/etcdserverpb.KV/100%\u00e9")
    with pytest.raises(Refused) as error:
        [payload async for payload in grpc.payloads(stream)]
    assert "%25" in error.value.message
    assert error.value.message.isascii()


# ---------------------------------------------------------------- limits and floods


async def test_streams_have_a_limit(strict: Running) -> None:
    """One stream too many is refused, and may be tried again once another has ended."""
    async with connected(strict.port) as grpc:
        talks = [grpc.talk(WATCH) for _ in range(3)]
        stream = grpc.open(PUT)
        with pytest.raises(Refused, match=f"reset: {H2Error.REFUSED_STREAM:d}"):
            [payload async for payload in grpc.payloads(stream)]
        talks[0].reset()
        await works(grpc)


async def test_headers_have_a_size(strict: Running) -> None:
    """Headers that are too large, packed or unpacked, end the connection."""
    async with connected(strict.port) as grpc:
        grpc.open(PUT, ("large", "x" * 3000))
        assert await ended(grpc) is H2Error.ENHANCE_YOUR_CALM
    async with connected(strict.port) as grpc:
        grpc.open(PUT, *[("bomb", "x" * 60)] * 40)
        assert await ended(grpc) is H2Error.ENHANCE_YOUR_CALM


async def test_a_flood_of_continuations_is_stopped(grpc: Grpc) -> None:
    """A header block has an end, even if its pieces are empty."""
    grpc.send(frames.HEADERS, 0, 1, b"")
    for _ in range(CONTINUATIONS_MAX + 1):
        grpc.send(frames.CONTINUATION, 0, 1, b"")
    assert await ended(grpc) is H2Error.ENHANCE_YOUR_CALM


@pytest.mark.parametrize(
    "flood",
    [
        _frame(frames.PING, 0, 0, b"12345678"),
        _frame(frames.SETTINGS, 0, 0),
        _frame(frames.PRIORITY, 0, 1, b"\0\0\0\0\1"),
        _frame(frames.WINDOW_UPDATE, 0, 0, b"\0\0\0\1"),
        _frame(0x42, 0, 0),
    ],
    ids=["ping", "settings", "priority", "window", "unknown"],
)
async def test_floods_of_frames_without_use_are_stopped(
    grpc: Grpc, flood: Callable[[Grpc], None]
) -> None:
    """Who sends frames that ask for nothing, and nothing else, is told to calm down."""
    await works(grpc)
    for _ in range(PATIENCE + 100):
        flood(grpc)
    assert await ended(grpc) is H2Error.ENHANCE_YOUR_CALM


async def test_empty_data_is_a_flood_too(grpc: Grpc) -> None:
    """DATA frames without data are counted."""
    stream = grpc.open(WATCH)
    for _ in range(PATIENCE + 100):
        grpc.send(frames.DATA, 0, stream)
    assert await ended(grpc) is H2Error.ENHANCE_YOUR_CALM


async def test_rapid_resets_are_stopped(grpc: Grpc) -> None:
    """Who opens calls and resets them at once, again and again, is told to calm down."""
    for _ in range(RESETS + 1):
        grpc.talk(WATCH).reset()
    assert await ended(grpc) is H2Error.ENHANCE_YOUR_CALM


async def test_answered_calls_give_patience(grpc: Grpc) -> None:
    """Who measures the line with every answer, as Go's client does, is no flood."""
    for _ in range(PATIENCE // 2 + 100):
        grpc.send(frames.PING, 0, 0, b"12345678")
        grpc.send(frames.WINDOW_UPDATE, 0, 0, b"\0\0\0\1")
        assert (await grpc.call(RANGE, key=b"k", serializable=True)).header.revision


async def test_a_silent_connection_is_closed(hasty: Running) -> None:
    """Who does not answer pings is gone."""
    async with connected(hasty.port) as grpc:
        await works(grpc)
        grpc.send = lambda *_: None  # type: ignore[method-assign]
        assert await ended(grpc) is None


async def test_a_living_connection_stays(hasty: Running) -> None:
    """Who answers pings may be silent for as long as it likes."""
    async with connected(hasty.port) as grpc:
        for _ in range(6):
            frame = await grpc.frame(0)
            while frame is not None and frame.kind != frames.PING:
                frame = await grpc.frame(0)
        await works(grpc)


# ---------------------------------------------------------------- flow control


async def test_answers_wait_for_the_clients_windows(member: Running) -> None:
    """No more is sent than stream and connection allow; what waits follows, by turns."""
    async with connected(member.port, greets=False) as grpc:
        grpc.start({frames.INITIAL_WINDOW_SIZE: 100})
        grpc.replenishes = False
        stream = grpc.open(PUT)
        grpc.write(stream, METHODS[PUT].request(key=b"windows", value=b"x" * 1000), last=True)
        assert (await grpc.answer(stream, PUT)).header.revision
        streams = [grpc.open(RANGE) for _ in range(2)]
        for stream in streams:
            grpc.write(stream, METHODS[RANGE].request(key=b"windows"), last=True)
        bodies = dict.fromkeys(streams, b"")
        for stream in streams:
            while len(bodies[stream]) < 100:
                frame = await grpc.frame(stream)
                assert frame is not None
                bodies[stream] += frame.payload if frame.kind == frames.DATA else b""
            assert len(bodies[stream]) == 100
        grpc.send(frames.SETTINGS, 0, 0, struct.pack(">HL", frames.INITIAL_WINDOW_SIZE, 150))
        for stream in streams:
            frame = await grpc.frame(stream)
            assert frame is not None
            assert len(frame.payload) == 50
            grpc.writer.write(frames.window_update(stream, 5000))
            frame = await grpc.frame(stream)
            assert frame is not None
            assert frame.kind == frames.DATA


async def test_a_slow_watcher_catches_up(member: Running) -> None:
    """Who does not read gets nothing that grows a buffer, and later everything in order."""
    async with connected(member.port, greets=False) as slow, connected(member.port) as quick:
        slow.start({frames.INITIAL_WINDOW_SIZE: 1000})
        slow.replenishes = False
        talk = slow.talk(WATCH)
        talk.say(create_request={"key": b"slow/", "range_end": b"slow0"})
        assert (await talk.hear()).created
        for number in range(60):
            await quick.call(PUT, key=b"slow/%02d" % number, value=b"x" * 20_000)
        lags = member.node.hub.lags()
        assert len(lags) == 1
        assert lags[0].behind > 20
        slow.writer.write(frames.window_update(0, 1 << 24))
        slow.writer.write(frames.window_update(talk.stream, 1 << 24))
        told: list[bytes] = []
        while len(told) < 60:
            told += [event.kv.key for event in (await talk.hear()).events]
        assert told == [b"slow/%02d" % number for number in range(60)]


async def test_who_never_reads_is_cut_off(hasty: Running) -> None:
    """A client that leaves answers unread and takes none of them is closed after a while."""
    async with connected(hasty.port) as grpc:
        await grpc.call(PUT, key=b"unread", value=b"x" * 1_000_000)
    async with connected(hasty.port, greets=False) as grpc:
        grpc.start({frames.INITIAL_WINDOW_SIZE: 0})
        for _ in range(3):
            stream = grpc.open(RANGE)
            grpc.write(stream, METHODS[RANGE].request(key=b"unread"), last=True)
        await grpc.closed.wait()


async def test_long_client_streams_are_replenished(grpc: Grpc) -> None:
    """A stream may carry any number of messages: its window is filled up again and again."""
    talk = grpc.talk(WATCH)
    key = b"k" * 100_000
    for number in range(1, 31):
        talk.say(create_request={"key": key, "watch_id": number})
        assert (await talk.hear()).watch_id == number


# ---------------------------------------------------------------- the end


async def test_stopping_ends_streams_and_answers_calls(tmp_path_factory) -> None:
    """A server that stops says GOAWAY, ends the streams, and closes."""
    async with running(tmp_path_factory.mktemp("stopping")) as member:
        async with connected(member.port) as grpc:
            await works(grpc)
            talk = grpc.talk(WATCH)
            talk.say(create_request={"key": b"k"})
            assert (await talk.hear()).created
            member.server.stop()
            with pytest.raises(Refused, match="14: etcdserver: server stopped"):
                await talk.hear()
            assert await ended(grpc) is H2Error.NO_ERROR


async def test_a_goaway_of_the_client_closes_when_all_is_answered(grpc: Grpc) -> None:
    """After a client's GOAWAY its calls are still answered; then the connection ends."""
    stream = grpc.open(PUT)
    grpc.send(frames.GOAWAY, 0, 0, bytes(8))
    grpc.write(stream, METHODS[PUT].request(key=b"last"), last=True)
    assert (await grpc.answer(stream, PUT)).header.revision
    await grpc.closed.wait()


async def test_many_connections_at_once(member: Running) -> None:
    """Connections do not disturb each other."""

    async def one(number: int) -> int:
        async with connected(member.port) as grpc:
            answers = [grpc.call(PUT, key=b"c/%d/%d" % (number, n)) for n in range(20)]
            return len(await asyncio.gather(*answers))

    assert await asyncio.gather(*map(one, range(20))) == [20] * 20


async def test_messages_that_never_end_make_room(tmp_path: Path) -> None:
    """Messages over gRPC that never come whole are counted with all other requests of that kind;
    who has to go is told the limit, and a call that ends early holds nothing any more."""
    async with running(tmp_path, limits=few(unfinished_bytes=300_000)) as member:
        unfinished = member.serving.unfinished
        part = b"\0" + (200_000).to_bytes(4, "big") + b"x" * 10_000
        async with connected(member.port) as first, connected(member.port) as second:
            for grpc in first, second:
                stream = grpc.open(PUT)
                grpc.send(frames.DATA, 0, stream, part)
                for _ in range(13):
                    grpc.send(frames.DATA, 0, stream, b"x" * 10_000)
                held = 140_005 * (1 + (grpc is second))
                await until(lambda held=held: unfinished.held_bytes == held)  # type: ignore[misc]
            late = second.open(PUT)
            second.send(frames.DATA, 0, late, part)
            await until(lambda: unfinished.held_bytes == 290_015)
            second.send(frames.RST_STREAM, 0, late, (8).to_bytes(4, "big"))
            await until(lambda: unfinished.held_bytes == 280_010)
            second.send(frames.DATA, 0, stream, b"x" * 10_000)
            second.send(frames.DATA, 0, stream, b"x" * 10_000)
            assert await ended(first) is H2Error.ENHANCE_YOUR_CALM
            assert first.goaway is not None
            assert b"unfinished_bytes" in first.goaway.payload
            await works(second)
        await until(lambda: unfinished.held_bytes == 0)
        assert unfinished.dropped == 1
