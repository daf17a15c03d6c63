"""Links between members: order, bounds, breaks and what they mean."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import socket
import sys
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from coordinator.config import Address
from coordinator.transport.errors import CannotListen, PeerUnreachable
from coordinator.transport.frames import PREAMBLE, Kind, encode
from coordinator.transport.greeting import encode_hello
from coordinator.transport.network import StreamNetwork
from coordinator.transport.traffic import Traffic
from tests.transport.member import HANGING_S, QUICK, Machine, Member, connect, via
from tests.transport.test_handshake import HELLO, answer

pytestmark = pytest.mark.asyncio


async def test_frames_arrive_whole_and_in_order(machine: Machine) -> None:
    """Frames of all sizes up to the limit arrive unchanged and in the order of sending."""
    one, two = await machine.pair()
    sizes = [0, 1, 9, 200, 70_000, 3, 1_000_000, 20_000, QUICK.frame_bytes_max, 5]
    sent = [hashlib.sha256(bytes([n])).digest()[:1] * size for n, size in enumerate(sizes)]
    sent += [n.to_bytes(4, "big") for n in range(20_000)]
    assert all(one.network.send(2, frame) for frame in sent)
    assert two.network.send(1, b"the other way")
    await two.until(lambda: len(two.frames) == len(sent))
    assert two.frames == sent
    await one.until_event("received", 2, b"the other way")
    with pytest.raises(ValueError, match="bytes in one frame"):
        one.network.send(2, bytes(QUICK.frame_bytes_max + 1))


async def test_nothing_is_kept_while_a_link_is_down(machine: Machine) -> None:
    """A frame to a member without a link is dropped, and the sender is told by the result."""
    one, two = await machine.member(1), await machine.member(2)
    assert not one.network.send(2, b"unknown")
    via(one, (two, [two.url]))
    assert not one.network.send(2, b"not linked yet")
    assert not one.network.is_linked(2)
    await one.until_event("linked", 2)
    assert one.network.is_linked(2)
    assert one.network.send(2, b"linked")
    await two.until_event("received", 1, b"linked")
    assert two.frames == [b"linked"]


async def test_what_is_unsent_is_bounded(machine: Machine) -> None:
    """Above its limit a link drops frames, tells that once, and works again when it has drained."""
    limits = replace(QUICK, unsent_bytes_max=1 << 20, silent_pings_max=10_000)
    one, two = await machine.member(1, limits=limits), await machine.member(2, limits=limits)
    proxy = await machine.proxy(two.url)
    via(one, (two, [proxy.url]))
    await one.until_event("linked", 2)
    proxy.freeze()
    frame, taken = bytes(100_000), 0
    while one.network.send(2, frame):
        taken += 1
        await asyncio.sleep(0)  # what the system's buffers take is not unsent
    dropped = [one.network.send(2, frame) for _ in range(100)]
    assert not any(dropped)
    await one.until_event("unreachable", 2)
    assert one.network.is_linked(2)
    proxy.thaw()
    await two.until(lambda: len(two.frames) == taken)
    assert one.network.send(2, b"again")
    await two.until_event("received", 1, b"again")
    assert len(two.frames) == taken + 1
    assert one.count("unreachable", 2) == 1


async def test_what_goes_over_a_link_is_counted(machine: Machine) -> None:
    """Frames and bytes are counted on both sides, dropped frames where they were sent; they are
    forgotten with the member. A link that is up has a round trip, one that is down has none."""
    one, two = await machine.member(1), await machine.member(2)
    via(one, (two, [two.url]))
    assert not one.network.send(2, b"not linked yet")
    via(two, (one, [one.url]))
    await one.until_linked(two)
    for frame in (b"", b"12345", b"67"):
        assert one.network.send(2, frame)
    await two.until_event("received", 1, b"67")
    (sent,), (received,) = one.network.links(), two.network.links()
    assert (sent.member, sent.is_up, sent.traffic) == (2, True, Traffic(3, 7, 0, 0, 1))
    assert (received.member, received.traffic) == (1, Traffic(0, 0, 3, 7, 0))
    if sys.platform == "linux":
        assert sent.round_trip_s is not None
        assert 0 < sent.round_trip_s < HANGING_S
    await two.network.close()
    await one.until_event("unreachable", 2)
    (broken,) = one.network.links()
    assert (broken.is_up, broken.round_trip_s) == (False, None)
    assert broken.traffic.frames_sent == 3
    via(one)
    assert one.network.links() == []


async def test_a_link_comes_back_to_a_new_process(machine: Machine) -> None:
    """A restarted member is linked again, and gets nothing that was sent to its former process."""
    one, two = await machine.pair()
    one.network.send(2, b"to the first")
    await two.until_event("received", 1, b"to the first")
    await two.network.close()
    one.network.send(2, b"lost with the link")
    await one.until_event("unreachable", 2)
    assert not one.network.send(2, b"nobody there")
    again = await machine.restart(two)
    connect(one, again)
    await one.until_linked(again)
    assert one.network.send(2, b"to the second")
    await again.until_event("received", 1, b"to the second")
    assert again.frames == [b"to the second"]
    assert one.count("linked", 2) == 2


async def test_the_next_url_is_tried(machine: Machine) -> None:
    """A member is found at any of its URLs, also when the first is dead or nonsense."""
    one, two = await machine.member(1), await machine.member(2)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        dead = f"http://127.0.0.1:{taken.getsockname()[1]}"
    via(one, (two, [dead, "nonsense", "https://127.0.0.1:1", two.url]))
    await one.until_event("linked", 2)


async def test_peers_come_and_go(machine: Machine) -> None:
    """A removed peer is neither sent to nor heard any more; what was sent to it before arrives."""
    one, two = await machine.pair()
    one.network.send(2, b"you are removed")
    one.network.set_peers({})
    assert not one.network.is_linked(2)
    await two.until_event("received", 1, b"you are removed")
    one.refusal = "removed"
    await two.until_event("refused", 1, "removed")
    assert not two.network.is_linked(1)
    assert ("unreachable", 2) not in one.events
    one.refusal = ""
    connect(one, two)
    await one.until_linked(two)


async def test_a_changed_url_is_dialled(machine: Machine) -> None:
    """A member that is not reached is dialled at once at a URL that is added."""
    one, two = await machine.member(1), await machine.member(2)
    one.network.set_peers({2: []})
    via(one, (two, [two.url]))
    await one.until_event("linked", 2)


async def test_a_dead_process_has_deserted(machine: Machine) -> None:
    """When a link ends and its member's address refuses, the member has deserted: told once."""
    one, two = await machine.pair()
    await two.network.close()
    await one.until_event("deserted", 2)
    again = await machine.restart(two)
    connect(one, again)
    await one.until_linked(again)
    assert one.count("deserted", 2) == 1


async def test_a_new_process_shows_that_the_old_deserted(machine: Machine) -> None:
    """When a link ends and another incarnation answers, the former process has deserted."""
    one, two = await machine.member(1), await machine.member(2)
    proxy = await machine.proxy(one.url)
    via(two, (one, [proxy.url]))
    via(one, (two, [two.url]))
    await one.until_linked(two)
    two.incarnation += 1
    proxy.cut()
    await one.until_event("deserted", 2)


def at_least(member: Member, times: int, *event: Any) -> bool:
    """Whether something has happened so often."""
    return member.count(*event) >= times


async def test_a_cut_is_no_desertion(machine: Machine) -> None:
    """When only connections are cut, a member is linked again and has not deserted."""
    one, two = await machine.member(1), await machine.member(2)
    there, back = await machine.proxy(two.url), await machine.proxy(one.url)
    via(one, (two, [there.url]))
    via(two, (one, [back.url]))
    await one.until_linked(two)
    for probes in range(1, 6):
        back.cut()
        await two.until(partial(at_least, two, probes, "described"))
        await two.until(partial(at_least, two, probes + 1, "linked", 1))
    for links in range(2, 7):
        there.cut()
        back.cut()
        await one.until(partial(at_least, one, links, "linked", 2))
        await two.until(partial(at_least, two, links, "linked", 1))
        await one.until_linked(two)
    one.network.send(2, b"still there?")
    await two.until_event("received", 1, b"still there?")
    assert [e for e in one.events + two.events if e[0] == "deserted"] == []


async def test_an_unreachable_address_is_no_desertion(machine: Machine) -> None:
    """A redial that meets silence at one URL and a refusal at another is no evidence of death."""
    limits = replace(QUICK, handshake_s=0.1)
    one, two = await machine.member(1, limits=limits), await machine.member(2, limits=limits)
    there = await machine.proxy(two.url)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        dead = f"http://127.0.0.1:{taken.getsockname()[1]}"
    via(one, (two, [there.url, dead]))
    via(two, (one, [one.url]))
    await one.until_linked(two)
    there.freeze()
    via(two)  # its link ends
    for _ in range(3):  # each takes as long as the redial
        with pytest.raises(PeerUnreachable):
            await one.network.inquire(there.url)
    assert ("deserted", 2) not in one.events


async def test_a_newer_link_takes_the_place_of_the_older(machine: Machine) -> None:
    """A second incoming link of a member ends the first, whose later frames are not delivered."""
    one = await machine.member(1)
    links = []
    for word in (b"old", b"new"):
        reader, writer = await machine.raw(one.url)
        writer.write(PREAMBLE + encode(Kind.HELLO, encode_hello(HELLO)))
        await answer(reader)
        writer.write(encode(Kind.MESSAGE, word))
        await one.until_event("received", 2, word)
        links.append((reader, writer))
    links[0][1].write(encode(Kind.MESSAGE, b"too late"))
    with contextlib.suppress(ConnectionResetError):
        async with asyncio.timeout(10):
            while await links[0][0].read(1000):
                pass
    links[1][1].write(encode(Kind.MESSAGE, b"newer"))
    await one.until_event("received", 2, b"newer")
    assert one.frames == [b"old", b"new", b"newer"]
    assert ("deserted", 2) not in one.events


async def test_a_silent_peer_is_noticed(machine: Machine) -> None:
    """A link over which nothing comes back is given up, although its connection is open."""
    one, two = await machine.member(1), await machine.member(2)
    proxy = await machine.proxy(two.url)
    via(one, (two, [proxy.url]))
    await one.until_event("linked", 2)
    proxy.freeze()
    await one.until_event("unreachable", 2)
    assert not one.network.is_linked(2)
    assert ("deserted", 1) not in two.events
    proxy.thaw()
    await one.until(lambda: one.network.is_linked(2))


async def test_an_idle_link_stays(machine: Machine) -> None:
    """A link on which nobody says anything stays up by its pings."""
    limits = replace(QUICK, ping_interval_s=0.005, silent_pings_max=100)
    one, two = await machine.pair(limits)
    proxy = await machine.proxy(one.url)
    third = await machine.member(3, limits=replace(limits, silent_pings_max=2))
    via(third, (one, [proxy.url]))
    await third.until_event("linked", 1)
    proxy.freeze()
    await third.until_event("unreachable", 1)  # so many intervals have passed
    assert one.count("linked", 2) == two.count("linked", 1) == 1
    assert ("unreachable", 2) not in one.events


async def test_a_taken_address_is_told(machine: Machine) -> None:
    """An address that is in use is an error which names the flag."""
    one = await machine.member(1)
    port = int(one.url.rpartition(":")[2])
    taken = StreamNetwork([Address("http", "127.0.0.1", 0), Address("http", "127.0.0.1", port)])
    with pytest.raises(CannotListen, match="--listen-peer-urls"):
        await taken.start(one)
    await taken.close()


async def test_several_addresses_are_listened_on(machine: Machine) -> None:
    """A member is found at every address it listens on; before it starts it refuses."""
    one = await machine.member(1)
    places = [Address("http", "127.0.0.1", 0), Address("http", "127.0.0.1", 0)]
    two = StreamNetwork(places, limits=QUICK)
    urls = [f"http://127.0.0.1:{address.port}" for address in two.bind()]
    with pytest.raises(ConnectionRefusedError):
        await machine.raw(urls[0])
    await two.start(one)
    assert [await one.network.inquire(url) for url in urls] == [b"member 1"] * 2
    await two.close()


async def test_closing_ends_everything(machine: Machine) -> None:
    """A closed network sends, calls and answers nothing any more; closing twice is harmless."""
    one, two = await machine.pair()
    await one.network.close()
    await one.network.close()
    events = list(one.events)
    await two.until_event("deserted", 1)
    assert not one.network.send(2, b"x")
    assert not one.network.is_linked(2)
    one.network.set_peers({2: [two.url], 3: [two.url]})
    with pytest.raises(ConnectionRefusedError):
        await machine.raw(one.url)
    assert one.events == events


async def test_an_address_taken_in_between_is_told(machine: Machine) -> None:
    """Of two who took the same address before either listened, the later one to start is told."""
    one = await machine.member(1)
    first = StreamNetwork([Address("http", "127.0.0.1", 0)])
    (address,) = first.bind()
    second = StreamNetwork([address])
    second.bind()
    await first.start(one)
    with pytest.raises(CannotListen, match="--listen-peer-urls"):
        await second.start(one)
    await second.close()
    await first.close()
