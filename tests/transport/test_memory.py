"""The network in memory: order, faults, and what each side learns of them. In virtual time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from coordinator.transport.errors import CannotListen, PeerRefused, PeerUnreachable
from coordinator.transport.memory import MemoryNetwork, MemorySwitchboard
from coordinator.transport.ports import PEER_FORMAT, PeerHello, Purpose, SnapshotSink
from tests.simulation.clock import VirtualLoop

CLUSTER = 77


class Sink:
    """Collects a snapshot."""

    def __init__(self, owner: Peer, head: bytes) -> None:
        self._owner = owner
        self._head = head
        self._chunks: list[bytes] = []

    async def write(self, chunk: bytes) -> None:
        if chunk == b"poison":
            raise ValueError("it tastes bad")
        self._chunks.append(chunk)

    async def finish(self) -> None:
        self._owner.snapshots.append((self._head, b"".join(self._chunks)))

    async def abort(self) -> None:
        self._owner.aborted += 1


class Peer:
    """A member that notes what it is told."""

    def __init__(self, board: MemorySwitchboard, number: int, incarnation: int = 1) -> None:
        self.number = number
        self.incarnation = incarnation
        self.network: MemoryNetwork = board.open(f"host{number}", [url(number)])
        self.frames: list[tuple[int, bytes]] = []
        self.told: list[tuple[str, int]] = []
        self.snapshots: list[tuple[bytes, bytes]] = []
        self.aborted = 0
        self.refusals: dict[int, str] = {}
        self.reasons: list[str] = []

    async def start(self, *others: int) -> None:
        self.network.set_peers({number: [url(number)] for number in others})
        await self.network.start(self)

    def hello(self) -> PeerHello:
        return PeerHello(PEER_FORMAT, CLUSTER, self.number, self.number * 10, self.incarnation)

    def admit(self, hello: PeerHello) -> str:
        if hello.purpose == Purpose.INQUIRY:
            return ""
        if hello.cluster != CLUSTER:
            return "another cluster"
        return self.refusals.get(hello.member, "")

    def received(self, member: int, frame: bytes) -> None:
        self.frames.append((member, frame))

    def linked(self, member: int) -> None:
        self.told.append(("linked", member))

    def unreachable(self, member: int) -> None:
        self.told.append(("unreachable", member))

    def deserted(self, member: int) -> None:
        self.told.append(("deserted", member))

    def refused(self, member: int, reason: str) -> None:
        self.told.append(("refused", member))
        self.reasons.append(reason)

    def open_snapshot(self, member: int, head: bytes) -> SnapshotSink:
        if head == b"unwanted":
            raise ValueError("not now")
        return Sink(self, head)

    def describe(self) -> bytes:
        return b"I am %d" % self.number


def url(number: int) -> str:
    return f"http://10.0.0.{number}:2380"


Play = Callable[[MemorySwitchboard], Coroutine[Any, Any, None]]


def play(scene: Play, latency: float = 0.01) -> None:
    """Run a scene in virtual time."""
    loop = VirtualLoop()
    asyncio.set_event_loop(loop)
    try:
        board = MemorySwitchboard(random.Random(1), lambda source, target: latency)
        loop.run_until_complete(scene(board))
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        asyncio.set_event_loop(None)
        loop.close()


async def pair(board: MemorySwitchboard) -> tuple[Peer, Peer]:
    one, two = Peer(board, 1), Peer(board, 2)
    await one.start(2)
    await two.start(1)
    await asyncio.sleep(1)
    assert one.network.is_linked(2)
    assert two.network.is_linked(1)
    one.told.clear()
    two.told.clear()
    return one, two


def numbered(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(count)]


def test_frames_arrive_in_order_on_a_link_of_each_direction():
    """What is sent on a link arrives, in the order in which it was sent."""

    async def scene(board: MemorySwitchboard) -> None:
        one, two = await pair(board)
        board.latency = lambda source, target: board.rng.random()
        assert all(one.network.send(2, frame) for frame in numbered(50))
        assert two.network.send(1, b"back")
        await asyncio.sleep(2)
        assert two.frames == [(1, frame) for frame in numbered(50)]
        assert one.frames == [(2, b"back")]

    play(scene)


def test_nothing_is_sent_without_a_link():
    """A frame for a member that is not linked is dropped at once, and not kept."""

    async def scene(board: MemorySwitchboard) -> None:
        one = Peer(board, 1)
        await one.start(2)
        assert not one.network.send(2, b"early")
        two = Peer(board, 2)
        await two.start(1)
        await asyncio.sleep(1)
        assert two.frames == []
        assert one.network.send(2, b"late")
        await asyncio.sleep(1)
        assert two.frames == [(1, b"late")]

    play(scene)


def test_cut_delays_what_is_under_way_and_a_long_one_breaks_the_link():
    """Frames sent into a short cut arrive late; a long cut loses them and breaks the link."""

    async def scene(board: MemorySwitchboard) -> None:
        one, two = await pair(board)
        board.cut("host1", "host2")
        one.network.send(2, b"late")
        two.network.send(1, b"through")
        await asyncio.sleep(1)
        assert two.frames == []
        assert one.frames == [(2, b"through")]
        board.mend("host1", "host2")
        await asyncio.sleep(1)
        assert two.frames == [(1, b"late")]
        board.cut("host1", "host2")
        one.network.send(2, b"lost")
        await asyncio.sleep(3)
        assert one.told == [("unreachable", 2)]
        assert not one.network.is_linked(2)
        board.mend_all()
        await asyncio.sleep(1)
        assert one.network.send(2, b"after")
        await asyncio.sleep(1)
        assert two.frames == [(1, b"late"), (1, b"after")]
        assert two.told == []

    play(scene)


def test_broken_link_loses_its_frames_and_is_dialled_again():
    """A reset loses what was on its way; both sides learn of it, and the link comes back."""

    async def scene(board: MemorySwitchboard) -> None:
        one, two = await pair(board)
        one.network.send(2, b"lost")
        assert board.break_link("host1", "host2")
        await asyncio.sleep(1)
        assert one.told == [("unreachable", 2), ("linked", 2)]
        assert two.told == []  # dialled back, it met the same process
        assert one.network.send(2, b"after")
        await asyncio.sleep(1)
        assert two.frames == [(1, b"after")]

    play(scene)


def test_end_of_a_process_is_told_as_desertion():
    """When a process ends, the others hear of it as soon as their redial is refused."""

    async def scene(board: MemorySwitchboard) -> None:
        one, two = await pair(board)
        board.end(one.network)
        await asyncio.sleep(0.1)
        assert ("deserted", 1) in two.told
        assert ("unreachable", 1) in two.told
        await asyncio.sleep(3)
        assert two.told.count(("deserted", 1)) == 1

    play(scene)


def test_end_of_a_machine_is_silent():
    """When a machine loses power nobody is told, until frames stay unanswered for long."""

    async def scene(board: MemorySwitchboard) -> None:
        one, two = await pair(board)
        board.end(one.network, is_silent=True)
        two.network.send(1, b"into the dark")
        await asyncio.sleep(1)
        assert two.told == []
        await asyncio.sleep(2)
        assert two.told == [("unreachable", 1)]
        again = Peer(board, 1, incarnation=2)
        await again.start(2)
        await asyncio.sleep(1)
        assert ("deserted", 1) in two.told
        assert two.network.is_linked(1)
        two.network.send(1, b"hello again")
        await asyncio.sleep(1)
        assert again.frames == [(2, b"hello again")]

    play(scene)


def test_frames_for_an_earlier_process_never_reach_the_next():
    """What was sent to a process does not arrive at the one that is started in its place."""

    async def scene(board: MemorySwitchboard) -> None:
        one, two = await pair(board)
        one.network.send(2, b"for the old one")
        board.end(two.network)
        again = Peer(board, 2, incarnation=2)
        await again.start(1)
        await asyncio.sleep(1)
        assert again.frames == []
        assert one.network.send(2, b"for the new one")
        await asyncio.sleep(1)
        assert again.frames == [(1, b"for the new one")]

    play(scene)


def test_fate_drops_repeats_and_reorders():
    """Single frames can be lost, repeated and overtaken, on demand."""

    async def scene(board: MemorySwitchboard) -> None:
        one, two = await pair(board)
        fates: dict[bytes, list[tuple[float | None, bytes]] | None] = {
            b"0": [],
            b"1": [(0.5, b"1"), (0.2, b"1"), (None, b"one")],
            b"2": None,
        }
        board.fate = lambda source, target, frame: fates[frame]
        for frame in fates:
            assert one.network.send(2, frame)
        await asyncio.sleep(1)
        assert two.frames == [(1, b"one"), (1, b"2"), (1, b"1"), (1, b"1")]

    play(scene)


def test_refused_member_is_told_why():
    """A member that is not admitted gets no link, and the reason."""

    async def scene(board: MemorySwitchboard) -> None:
        one, two = Peer(board, 1), Peer(board, 2)
        two.refusals[1] = "removed"
        await one.start(2)
        await two.start(1)
        await asyncio.sleep(0.5)
        assert not one.network.is_linked(2)
        assert ("refused", 2) in one.told
        assert set(one.reasons) == {"removed"}
        assert not two.network.is_linked(1)  # whom two refuses itself
        two.refusals.clear()
        await asyncio.sleep(1)
        assert one.network.is_linked(2)

    play(scene)


def test_wrong_target_is_refused():
    """Whoever answers at an address but is another member than the one meant is not linked."""

    async def scene(board: MemorySwitchboard) -> None:
        one, two = Peer(board, 1), Peer(board, 2)
        await two.start()
        one.network.set_peers({3: [url(2)]})
        await one.network.start(one)
        await asyncio.sleep(0.5)
        assert not one.network.is_linked(3)
        assert "not 3" in one.reasons[0]

    play(scene)


def test_peers_can_be_changed():
    """A member that is no longer a peer loses its link; a new one is dialled."""

    async def scene(board: MemorySwitchboard) -> None:
        one, two = await pair(board)
        three = Peer(board, 3)
        await three.start(1)
        one.network.set_peers({3: [url(3)]})
        assert not one.network.is_linked(2)
        await asyncio.sleep(1)
        assert one.network.is_linked(3)
        assert ("deserted", 1) not in two.told

    play(scene)


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


def test_snapshot_travels_on_its_own_connection():
    """A snapshot arrives whole, and the sender hears of it when it has been taken over."""

    async def scene(board: MemorySwitchboard) -> None:
        one, two = await pair(board)
        await one.network.send_snapshot(2, b"head", chunks(b"a", b"b", b"c"))
        assert two.snapshots == [(b"head", b"abc")]

    play(scene)


def test_snapshot_that_is_not_wanted_is_refused():
    """The sender gets the words with which the other side refuses a snapshot or fails over it."""

    async def scene(board: MemorySwitchboard) -> None:
        one, two = await pair(board)
        with pytest.raises(PeerRefused, match="not now"):
            await one.network.send_snapshot(2, b"unwanted", chunks(b"a"))
        with pytest.raises(PeerRefused, match="it tastes bad"):
            await one.network.send_snapshot(2, b"head", chunks(b"a", b"poison", b"c"))
        assert two.aborted == 1
        assert two.snapshots == []

    play(scene)


async def cut_in_the_middle(board: MemorySwitchboard, fault: Callable[[], None]) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"a"
        fault()
        yield b"b"

    one, two = await pair(board)
    with pytest.raises(PeerUnreachable):
        await one.network.send_snapshot(2, b"head", broken())
    await asyncio.sleep(5)
    assert two.snapshots == []


def test_snapshot_ends_with_the_connection():
    """A cut, or the end of the receiver, ends a snapshot; the sender hears that it failed."""

    async def cut(board: MemorySwitchboard) -> None:
        await cut_in_the_middle(board, lambda: board.cut("host1", "host2"))

    async def end(board: MemorySwitchboard) -> None:
        one, two = await pair(board)
        sending = asyncio.ensure_future(
            one.network.send_snapshot(2, b"head", chunks(*numbered(100)))
        )
        await asyncio.sleep(0.1)
        board.end(two.network)
        with pytest.raises(PeerUnreachable):
            await sending

    async def end_of_sender(board: MemorySwitchboard) -> None:
        one, two = await pair(board)
        sending = asyncio.ensure_future(
            one.network.send_snapshot(2, b"head", chunks(*numbered(100)))
        )
        await asyncio.sleep(0.1)
        board.end(one.network)
        await asyncio.sleep(1)
        assert two.aborted == 1
        sending.cancel()

    for scene in (cut, end, end_of_sender):
        play(scene)


def test_inquiry_is_answered():
    """Whoever listens at a URL tells who it is; nobody there, or no way, is an error."""

    async def scene(board: MemorySwitchboard) -> None:
        one, _ = await pair(board)
        assert await one.network.inquire(url(2)) == b"I am 2"
        with pytest.raises(PeerUnreachable):
            await one.network.inquire(url(9))
        board.cut("host2", "host1")
        with pytest.raises(PeerUnreachable):
            await one.network.inquire(url(2))

    play(scene)


def test_close_ends_everything():
    """After `close` nothing is sent and nobody is called back."""

    async def scene(board: MemorySwitchboard) -> None:
        one, two = await pair(board)
        await one.network.close()
        assert not one.network.send(2, b"too late")
        two.network.send(1, b"too late")
        await asyncio.sleep(1)
        assert one.told == []
        assert one.frames == []

    play(scene)


def test_address_is_used_once():
    """Two members can't listen at one address."""

    async def scene(board: MemorySwitchboard) -> None:
        await pair(board)
        with pytest.raises(CannotListen, match="in use"):
            await Peer(board, 2).start()

    play(scene)


def test_runs_repeat_exactly():
    """The same seed gives the same run."""

    async def told(board: MemorySwitchboard) -> list[float]:
        one, two = await pair(board)
        board.latency = lambda source, target: board.rng.random() / 10
        times: list[float] = []
        two.received = lambda member, frame: times.append(  # type: ignore[method-assign]
            asyncio.get_running_loop().time()
        )
        for number in range(20):
            one.network.send(2, b"%d" % number)
            await asyncio.sleep(0.01)
            if number == 10:
                board.break_link("host1", "host2")
        await asyncio.sleep(1)
        return times

    runs: list[list[float]] = []

    async def scene(board: MemorySwitchboard) -> None:
        runs.append(await told(board))

    play(scene)
    play(scene)
    assert runs[0] == runs[1] != []
