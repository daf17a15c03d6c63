"""Who is let in, who is not, and what becomes of strangers."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

import msgspec
import pytest

from coordinator.transport.errors import PeerRefused, PeerUnreachable
from coordinator.transport.frames import HEADER_BYTES, MAGIC, PREAMBLE, FrameReader, Kind, encode
from coordinator.transport.greeting import encode_hello
from coordinator.transport.limits import Limits
from coordinator.transport.network import StreamNetwork
from coordinator.transport.ports import PEER_FORMAT, PeerHello, Purpose
from tests.transport.member import CLUSTER, QUICK, Machine, Member, connect, via

pytestmark = pytest.mark.asyncio

HELLO = PeerHello(PEER_FORMAT, CLUSTER, 2, 5, 6, Purpose.LINK, 1)


async def answer(reader: asyncio.StreamReader) -> PeerHello:
    """Read preamble and hello."""
    assert await reader.readexactly(len(PREAMBLE)) == PREAMBLE
    header = await reader.readexactly(HEADER_BYTES)
    body = await reader.readexactly(int.from_bytes(header[:4], "big"))
    frames = FrameReader(Limits().hello_bytes_max)
    ((kind, hello),) = frames.feed(PREAMBLE + header + body)
    assert kind == Kind.HELLO
    return msgspec.msgpack.decode(hello, type=PeerHello)


async def greet(machine: Machine, member: Member, hello: PeerHello) -> PeerHello:
    """Say hello without any network of ours; give the answer."""
    reader, writer = await machine.raw(member.url)
    writer.write(PREAMBLE + encode(Kind.HELLO, encode_hello(hello)))
    return await answer(reader)


async def test_both_sides_say_who_they_are(machine: Machine) -> None:
    """Each side of a link is shown the hello of the other, with purpose and target."""
    one, two = await machine.pair()
    for here, there in ((one, two), (two, one)):
        dialled = PeerHello(
            PEER_FORMAT, CLUSTER, there.member, 5, there.incarnation, 0, here.member
        )
        assert dialled in here.greeted
        assert here.greeted.count(dialled) == 2  # as the caller, and as the one who answers


async def test_another_cluster_is_refused(machine: Machine) -> None:
    """Members whose clusters differ do not link; the reason is told at both ends, once."""
    one, two = await machine.member(1), await machine.member(2)
    two.cluster = 99
    connect(one, two)
    await one.until_event("refused", 2, "cluster 77 is not 99")
    await two.until_event("refused", 1, "cluster 99 is not 77")
    greeted = len(one.greeted)
    await one.until(lambda: len(one.greeted) > greeted + 1)
    assert one.count("refused", 2, "cluster 77 is not 99") == 1
    assert not one.network.is_linked(2)
    assert not one.network.send(2, b"x")
    two.cluster = CLUSTER
    await one.until_linked(two)


async def test_an_answer_is_judged_as_well(machine: Machine) -> None:
    """A member that was let in still refuses who answered, if that is not whom it wants."""
    one, two = await machine.member(1), await machine.member(2)
    one.refusal = "its data directory was wiped"
    via(one, (two, [two.url]))
    await one.until_event("refused", 2, "its data directory was wiped")
    assert not one.network.is_linked(2)


async def test_the_wrong_member_is_refused(machine: Machine) -> None:
    """Whoever answers at the address of another member is not linked."""
    one, two = await machine.member(1), await machine.member(2)
    one.network.set_peers({3: [two.url]})
    await one.until_event("refused", 3, "this is member 2, not 3")
    assert not one.network.is_linked(3)
    one.network.set_peers({1: [one.url]})
    await one.until_event("refused", 1, "this is member 1 itself")
    assert two.greeted == one.greeted == []


async def test_another_format_is_refused(machine: Machine) -> None:
    """A hello of a newer format is refused with both formats named, and so is such an answer."""
    one, two = await machine.member(1), await machine.member(2)
    two.format = PEER_FORMAT + 1
    connect(one, two)
    told = "peer format {} is not the one spoken here, which is 1".format
    await two.until_event("refused", 1, told(PEER_FORMAT + 1))
    assert [event[:2] for event in one.events] in ([], [("refused", 2)])
    await one.until_event("refused", 2, told(PEER_FORMAT + 1))
    assert not one.network.is_linked(2)
    assert not two.network.is_linked(1)


async def test_hellos_that_make_no_sense_are_refused(machine: Machine) -> None:
    """An unknown purpose, and a link or a snapshot of nobody, are refused in the answer."""
    one = await machine.member(1)
    odd = msgspec.structs.replace(HELLO, purpose=9)
    assert (await greet(machine, one, odd)).refusal == "purpose 9 is not known here"
    nobody = msgspec.structs.replace(HELLO, member=0)
    assert (await greet(machine, one, nobody)).refusal == "a member without an id can only inquire"
    one.refusal = "x" * 100_000
    assert (await greet(machine, one, HELLO)).refusal == "x" * 500


async def test_a_longer_hello_is_understood(machine: Machine) -> None:
    """A hello with fields that are not known yet is read as far as it is known."""
    one = await machine.member(1)
    reader, writer = await machine.raw(one.url)
    longer = [*msgspec.structs.astuple(HELLO), "a field of the future"]
    writer.write(PREAMBLE + encode(Kind.HELLO, msgspec.msgpack.encode(longer)))
    assert (await answer(reader)).member == 1
    assert one.greeted == [HELLO]


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP, which belongs on a client address"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01", "TLS, which is not expected on this address"),
        (MAGIC + b"\x07", "framing 7; this member speaks 1"),
        (b"x", "not a peer's preamble"),
        (bytes(1000), "not a peer's preamble"),
        (PREAMBLE + b"\xff" * 4 + b"\x00" * 5, "a frame of 4294967295 bytes, at most 4096"),
        (PREAMBLE + encode(Kind.HELLO, bytes(5000)), "a frame of 5000 bytes, at most 4096"),
        (PREAMBLE + encode(Kind.HELLO, b"\xc1"), "an unreadable hello"),
        (PREAMBLE + encode(Kind.HELLO, b"\x91\x01"), "an unreadable hello"),
        (PREAMBLE + encode(Kind.MESSAGE, b"let me in"), "a frame before the hello"),
        (PREAMBLE + encode(Kind.HELLO, b"abc")[:-1] + b"d", "a frame was damaged on its way"),
    ],
)
async def test_strangers_are_sent_away(
    machine: Machine, caplog: pytest.LogCaptureFixture, sent: bytes, told: str
) -> None:
    """Whoever speaks another protocol is closed at the first wrong byte, with one line why."""
    one = await machine.member(1, limits=replace(QUICK, handshake_s=600))
    reader, writer = await machine.raw(one.url)
    writer.write(sent)
    await reader.read()
    (line,) = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert told in line
    assert "127.0.0.1" in line
    assert one.events == []


async def test_many_strangers_make_few_lines(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    """Lines about strangers are limited in rate; the next one counts those left out."""
    one = await machine.member(1)
    for _ in range(50):
        reader, writer = await machine.raw(one.url)
        writer.write(b"SSH-2.0-OpenSSH_9.6\r\n")
        await reader.read()
    assert len([r for r in caplog.records if r.name == "coordinator.transport"]) == 1


async def test_who_says_nothing_is_closed(machine: Machine) -> None:
    """A connection without a complete hello ends in time, also one whose sending side is shut."""
    one = await machine.member(1, limits=replace(QUICK, handshake_s=0.05))
    for start in (b"", PREAMBLE[:3], PREAMBLE, PREAMBLE + encode(Kind.HELLO, bytes(99))[:20]):
        reader, writer = await machine.raw(one.url)
        writer.write(start)
        assert await reader.read() == PREAMBLE
        reader, writer = await machine.raw(one.url)
        writer.write(start)
        writer.write_eof()
        assert await reader.read() in (b"", PREAMBLE)


async def test_strangers_are_bounded(machine: Machine) -> None:
    """Above the limit of connections without a hello new ones are closed at once."""
    limits = replace(QUICK, handshake_s=600, handshakes_max=3)
    one = await machine.member(1, limits=limits)
    waiting = [await machine.raw(one.url) for _ in range(3)]
    for reader, _ in waiting:
        await reader.readexactly(len(PREAMBLE))
    reader, _ = await machine.raw(one.url)
    assert await reader.read() in (b"", PREAMBLE)
    waiting[0][1].write(PREAMBLE + encode(Kind.HELLO, encode_hello(HELLO)))
    await one.until(lambda: one.greeted)
    assert (await greet(machine, one, HELLO)).member == 1


@pytest.mark.parametrize(
    "frame",
    [
        encode(Kind.CHUNK, b"no snapshot"),
        encode(200),
        (17 << 20).to_bytes(4, "big") + b"\x02" + bytes(4),
        encode(Kind.MESSAGE, b"abc")[:-1] + b"d",
    ],
    ids=["kind", "unknown", "oversized", "damaged"],
)
async def test_a_link_ends_at_the_first_wrong_frame(machine: Machine, frame: bytes) -> None:
    """On an established link a wrong, oversized or damaged frame ends the connection."""
    one = await machine.member(1)
    reader, writer = await machine.raw(one.url)
    writer.write(PREAMBLE + encode(Kind.HELLO, encode_hello(HELLO)))
    await answer(reader)
    writer.write(encode(Kind.MESSAGE, b"good") + frame + encode(Kind.MESSAGE, b"too late"))
    while await reader.read(1000):
        pass
    assert one.frames == [b"good"]


async def test_a_network_that_answers_nonsense_is_no_peer(machine: Machine) -> None:
    """A listener that speaks another protocol, says nothing, or hangs up is not linked."""
    hung: list[asyncio.StreamWriter] = []

    async def http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hung.append(writer)
        await reader.read()
        writer.close()

    async def rude(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    one = await machine.member(1, limits=replace(QUICK, handshake_s=0.1))
    for serve in (http, mute, rude):
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(PeerUnreachable):
            await one.network.inquire(url)
        server.close()
        await server.wait_closed()
    assert hung


async def test_an_inquiry_needs_no_membership(machine: Machine) -> None:
    """Who is no member yet, or of no cluster, gets the description of whoever it asks."""
    one, two = await machine.member(1), await machine.member(2)
    two.cluster = two.member = 0
    assert await two.network.inquire(one.url) == b"member 1"
    assert one.greeted == []
    stranger = StreamNetwork([])
    assert await stranger.inquire(one.url) == b"member 1"
    await stranger.close()
    with pytest.raises(PeerUnreachable):
        await stranger.inquire(one.url)


async def test_an_inquiry_may_fail(machine: Machine) -> None:
    """An inquiry tells an absent member from one that refuses to answer."""
    one, two = await machine.member(1), await machine.member(2)
    one.format = 7
    with pytest.raises(PeerRefused, match="peer format 7"):
        await one.network.inquire(two.url)
    await two.network.close()
    with pytest.raises(PeerUnreachable, match="nobody listens"):
        await one.network.inquire(two.url)
    for url in ("ftp://x", "https://127.0.0.1:1", "http://name.invalid:1"):
        with pytest.raises(PeerUnreachable):
            await one.network.inquire(url)
