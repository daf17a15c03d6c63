"""Snapshot streams: whole, slow, cut, given up."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from functools import partial

import pytest

from coordinator.transport.errors import PeerRefused, PeerUnreachable
from tests.transport.member import QUICK, Machine, Member, Proxy, Sink, connect, via

pytestmark = pytest.mark.asyncio


class Source:
    """Yields chunks, counting them, and notes that it was closed."""

    def __init__(self, chunks: list[bytes], fails_at: int | None = None) -> None:
        self.chunks = chunks
        self.fails_at = fails_at
        self.drawn = 0
        self.is_closed = False
        self.changed = asyncio.Event()

    async def until(self, drawn: int) -> None:
        """Wait until so many chunks have been asked for."""
        while self.drawn < drawn:
            self.changed.clear()
            await self.changed.wait()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            for number, chunk in enumerate(self.chunks):
                if number == self.fails_at:
                    raise OSError("the source cannot be read")
                self.drawn += 1
                self.changed.set()
                yield chunk
        finally:
            self.is_closed = True


def some_chunks(count: int, size_max: int = 100_000) -> list[bytes]:
    """Make chunks of different content and size."""
    chance = random.Random(count)
    return [chance.randbytes(chance.randrange(size_max)) for _ in range(count)]


def has_written(sink: Sink, chunks: int) -> bool:
    """Whether a sink has so many chunks."""
    return len(sink.chunks) >= chunks


async def send(one: Member, source: Source, head: bytes = b"head") -> None:
    await one.network.send_snapshot(2, head, aiter(source))


async def proxied(
    machine: Machine, limits_one: object = QUICK, limits_two: object = QUICK
) -> tuple[Member, Member, Proxy]:
    """Start two members; the first finds the second behind a proxy."""
    one = await machine.member(1, limits=limits_one)  # type: ignore[arg-type]
    two = await machine.member(2, limits=limits_two)  # type: ignore[arg-type]
    proxy = await machine.proxy(two.url)
    via(one, (two, [proxy.url]))
    via(two, (one, [one.url]))
    await one.until_linked(two)
    return one, two, proxy


@pytest.mark.parametrize("count", [0, 1, 16, 500])
async def test_a_snapshot_arrives_whole(machine: Machine, count: int) -> None:
    """Head and chunks arrive unchanged and in order; sending ends after the sink has finished."""
    one, two = await machine.pair()
    source = Source(some_chunks(count))
    await send(one, source)
    (sink,) = two.sinks
    assert (sink.head, sink.chunks, sink.end) == (b"head", source.chunks, "finished")
    assert source.is_closed
    await send(one, Source([b"once more"]))
    assert two.sinks[1].chunks == [b"once more"]


async def test_a_slow_sink_slows_the_source(machine: Machine) -> None:
    """The source is asked for no more chunks than may be on their way, in number and in bytes."""
    one, two = await machine.pair()
    two.prepare = lambda sink: sink.gate.clear()
    source = Source([b"x" * 1000] * 100)
    sending = asyncio.create_task(send(one, source))
    await two.until(lambda: two.sinks)
    await source.until(QUICK.chunks_in_flight_max)
    one.network.send(2, b"heartbeat")
    await two.until_event("received", 1, b"heartbeat")
    assert source.drawn == QUICK.chunks_in_flight_max
    two.sinks[0].gate.set()
    await sending
    assert source.drawn == 100

    limits = replace(QUICK, snapshot_bytes_in_flight_max=5000)
    three = await machine.member(3, limits=limits)
    via(three, (two, [two.url]))
    source = Source([b"x" * 1000] * 100)
    sending = asyncio.create_task(send(three, source))
    await two.until(lambda: len(two.sinks) == 2)
    await source.until(5)
    await two.network.inquire(two.url)
    assert source.drawn == 5
    two.sinks[1].gate.set()
    await sending


async def test_the_receiver_bounds_its_memory(machine: Machine) -> None:
    """A receiver that holds enough reads no more, whatever the sender's bounds are."""
    limits = replace(QUICK, snapshot_bytes_in_flight_max=1_000_000)
    one, two, _ = await proxied(machine, limits_two=limits)
    two.prepare = lambda sink: sink.gate.clear()
    chunk = bytes(1_000_000)
    sending = asyncio.create_task(send(one, Source([chunk] * 30)))
    await two.until(lambda: two.sinks)
    one.network.send(2, b"heartbeat")  # passes by
    await two.until_event("received", 1, b"heartbeat")
    two.sinks[0].gate.set()
    await sending
    assert two.sinks[0].chunks == [chunk] * 30


@pytest.mark.parametrize("seed", range(5))
async def test_a_cut_stream_goes_on(machine: Machine, seed: int) -> None:
    """A stream whose connection is cut again and again still arrives whole, each chunk once."""
    one, two, proxy = await proxied(machine)
    chance = random.Random(seed)
    source = Source(some_chunks(200, 50_000))

    def cut_soon(sink: Sink) -> None:
        proxy.bytes_left = chance.randrange(200_000)
        sink.gate.set()

    two.prepare = cut_soon
    sending = asyncio.create_task(send(one, source))
    await two.until(lambda: two.sinks)
    (sink,) = two.sinks
    for written in range(20, 200, 20):
        await two.until(partial(has_written, sink, written))
        proxy.bytes_left = chance.randrange(300_000)
    await sending
    assert len(two.sinks) == 1
    assert sink.chunks == source.chunks
    assert sink.end == "finished"
    assert proxy.accepted > 5


@pytest.mark.parametrize("is_written", [False, True])
async def test_no_chunk_is_written_twice(machine: Machine, is_written: bool) -> None:
    """Chunks that came before a cut, written or not, are neither sent again nor waited for."""
    one, two, proxy = await proxied(machine)
    two.prepare = lambda sink: sink.gate.clear()
    source = Source(some_chunks(60, 1000))
    sending = asyncio.create_task(send(one, source))
    await source.until(QUICK.chunks_in_flight_max)
    for _ in range(5):
        await one.network.inquire(proxy.url)  # behind which the chunks have arrived
    proxy.freeze()
    (sink,) = two.sinks
    if is_written:
        sink.gate.set()
        await two.until(lambda: len(sink.chunks) == QUICK.chunks_in_flight_max)
    accepted = proxy.accepted
    proxy.cut()
    proxy.thaw()
    while proxy.accepted < accepted + 2:  # the link and the stream
        await one.network.inquire(two.url)
    for _ in range(5):
        await one.network.inquire(two.url)
    sink.gate.set()
    await sending
    assert sink.chunks == source.chunks


async def test_the_answer_survives_a_cut(machine: Machine) -> None:
    """A sender that lost the connection before the answer comes back and gets it."""
    one, two, proxy = await proxied(machine)
    two.prepare = lambda sink: sink.last_gate.clear()
    sending = asyncio.create_task(send(one, Source([b"a", b"b"])))
    await two.until(lambda: two.sinks and two.sinks[0].is_complete)
    proxy.freeze()
    two.sinks[0].last_gate.set()
    await two.until(lambda: two.sinks[0].end)
    proxy.cut()
    proxy.thaw()
    await sending
    assert [sink.chunks for sink in two.sinks] == [[b"a", b"b"]]


async def test_a_silent_stream_is_taken_up_again(machine: Machine) -> None:
    """A stream whose connection stays open but carries nothing goes on over another one."""
    one, two, proxy = await proxied(machine)
    source = Source(some_chunks(100))
    two.prepare = lambda sink: proxy.freeze()
    sending = asyncio.create_task(send(one, source))
    await two.until(lambda: two.sinks)
    await one.until_event("unreachable", 2)
    proxy.thaw()
    await sending
    assert two.sinks[0].chunks == source.chunks


async def test_a_sender_that_stays_away_is_given_up(machine: Machine) -> None:
    """Both ends of a broken stream give up in time: the sink is aborted, the sender told."""
    limits = replace(QUICK, resume_s=0.1, handshake_s=0.1)
    one, two, proxy = await proxied(machine, limits, limits)
    two.prepare = lambda sink: sink.gate.clear()
    sending = asyncio.create_task(send(one, Source([b"x"] * 20)))
    await two.until(lambda: two.sinks)
    proxy.freeze()
    proxy.cut()
    two.sinks[0].gate.set()
    await two.until(lambda: two.sinks[0].end)
    assert two.sinks[0].end == "aborted"
    with pytest.raises(PeerUnreachable):
        await sending


async def test_a_forgotten_stream_is_not_begun_anew(machine: Machine) -> None:
    """A receiver that was restarted in the middle does not take a stream without its beginning."""
    one, two = await machine.pair()
    source = Source([b"x"] * 100)
    two.prepare = lambda sink: setattr(sink, "limit", 20)
    sending = asyncio.create_task(send(one, source))
    await two.until(lambda: two.sinks and len(two.sinks[0].chunks) > 0)
    two.sinks[0].gate.clear()
    again = asyncio.create_task(machine.restart(two))
    await one.until_event("unreachable", 2)
    two.sinks[0].gate.set()
    await again
    with pytest.raises((PeerUnreachable, PeerRefused)):
        await sending
    assert two.sinks[0].end == "aborted"
    assert (await again).sinks == []


@pytest.mark.parametrize(
    ("prepare", "head", "told", "end"),
    [
        (lambda sink: setattr(sink, "fails_at", 0), b"", "the disk is full", "aborted"),
        (lambda sink: setattr(sink, "fails_at", 50), b"", "the disk is full", "aborted"),
        (lambda sink: setattr(sink, "fails_at", -1), b"", "the archive is damaged", "aborted"),
        (lambda sink: None, b"unwanted", "an older snapshot is of no use", ""),
    ],
    ids=["first", "middle", "finish", "open"],
)
async def test_the_sinks_error_reaches_the_sender(
    machine: Machine, prepare: Callable[[Sink], None], head: bytes, told: str, end: str
) -> None:
    """An error of the sink aborts it, and its text reaches the sender."""
    one, two = await machine.pair()
    two.prepare = prepare
    source = Source(some_chunks(100))
    with pytest.raises(PeerRefused, match=told):
        await send(one, source, head)
    await two.until(lambda: [sink.end for sink in two.sinks] == ([end] if end else []))
    two.prepare = lambda sink: None
    await send(one, Source([b"the next"]))
    assert two.sinks[-1].end == "finished"


async def test_a_failing_source_aborts_the_sink(machine: Machine) -> None:
    """An error of the source is raised to whoever sends, and the other's sink is aborted."""
    one, two = await machine.pair()
    with pytest.raises(OSError, match="the source cannot be read"):
        await send(one, Source(some_chunks(100), fails_at=50))
    await two.until(lambda: two.sinks and two.sinks[0].end == "aborted")
    with pytest.raises(ValueError, match="at most"):
        await send(one, Source([*[b"x"] * 50, bytes(QUICK.frame_bytes_max + 1)]))
    await two.until(lambda: len(two.sinks) > 1 and two.sinks[1].end == "aborted")


async def test_cancelling_aborts_the_sink(machine: Machine) -> None:
    """Cancelling a snapshot that is sent aborts the other's sink and closes the source."""
    one, two = await machine.pair()
    two.prepare = lambda sink: sink.gate.clear()
    source = Source([b"x"] * 100)
    sending = asyncio.create_task(send(one, source))
    await two.until(lambda: two.sinks)
    await source.until(1)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    assert source.is_closed
    two.sinks[0].gate.set()
    await two.until(lambda: two.sinks[0].end == "aborted")


async def test_a_newer_snapshot_takes_the_place_of_an_older(machine: Machine) -> None:
    """A second snapshot of a member begins after the sink of the first was aborted."""
    one, two = await machine.pair()
    two.prepare = lambda sink: sink.gate.clear()
    first = asyncio.create_task(send(one, Source([b"old"] * 100)))
    await two.until(lambda: two.sinks)
    two.prepare = lambda sink: None
    second = asyncio.create_task(send(one, Source([b"new"])))
    one.network.send(2, b"meanwhile")
    await two.until_event("received", 1, b"meanwhile")
    assert len(two.sinks) == 1
    two.sinks[0].gate.set()
    await second
    with pytest.raises(PeerRefused, match="a newer snapshot"):
        await first
    assert [sink.end for sink in two.sinks] == ["aborted", "finished"]


async def test_a_snapshot_to_nobody_fails(machine: Machine) -> None:
    """A snapshot to a member that is no peer, is gone or refuses us is told as what it is."""
    one, two = await machine.pair()
    source = Source([b"x"])
    with pytest.raises(PeerUnreachable, match="no peer"):
        await one.network.send_snapshot(9, b"", aiter(source))
    two.refusal = "removed"
    with pytest.raises(PeerRefused, match="removed"):
        await send(one, Source([b"x"]))
    await two.network.close()
    with pytest.raises(PeerUnreachable):
        await send(one, Source([b"x"]))
    one.network.set_peers({2: []})
    with pytest.raises(PeerUnreachable, match="no address"):
        await send(one, Source([b"x"]))


async def test_a_removed_peer_gets_no_snapshot(machine: Machine) -> None:
    """A snapshot under way ends at both sides when its member is removed."""
    one, two = await machine.pair()
    two.prepare = lambda sink: sink.gate.clear()
    sending = asyncio.create_task(send(one, Source([b"x"] * 100)))
    await two.until(lambda: two.sinks)
    one.network.set_peers({})
    with pytest.raises(PeerUnreachable):
        await sending
    two.sinks[0].gate.set()
    await two.until(lambda: two.sinks[0].end == "aborted")

    connect(one, two)
    await one.until_linked(two)
    sending = asyncio.create_task(send(one, Source([b"x"] * 100)))
    await two.until(lambda: len(two.sinks) == 2)
    two.network.set_peers({})
    two.sinks[1].gate.set()
    await two.until(lambda: two.sinks[1].end == "aborted")
    with pytest.raises(PeerRefused, match="no peer any more"):
        await sending


async def test_closing_ends_snapshots(machine: Machine) -> None:
    """A network that is closed ends its snapshots, both those it sends and those it receives."""
    one, two = await machine.pair()
    third = await machine.member(3)
    connect(one, two, third)
    await third.until_linked(two)
    for member in (one, two):
        member.prepare = lambda sink: sink.gate.clear()
    going = asyncio.create_task(two.network.send_snapshot(1, b"", aiter(Source([b"x"] * 50))))
    coming = asyncio.create_task(send(third, Source([b"x"] * 50)))
    await one.until(lambda: one.sinks)
    await two.until(lambda: two.sinks)
    closing = asyncio.create_task(two.network.close())
    with pytest.raises(PeerUnreachable):
        await going
    two.sinks[0].gate.set()
    await closing
    assert two.sinks[0].end == "aborted"
    with pytest.raises(PeerRefused, match="stopping"):
        await coming
    one.sinks[0].gate.set()
    await one.until(lambda: one.sinks[0].end == "aborted")
