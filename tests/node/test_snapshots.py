"""Sending snapshots: of a state that is new enough, few at a time, with the log kept for after."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from coordinator.node import persistence as persistence_module
from coordinator.node import snapshots
from coordinator.node.snapshots import SnapshotSender
from coordinator.node.surroundings import ThisMachine
from coordinator.replica.effects import Proposal
from coordinator.storage.stream import read_header
from coordinator.transport.errors import PeerRefused, PeerUnreachable
from coordinator.wire.raft import (
    ConfState,
    Message,
    MessageType,
    Snapshot,
    SnapshotMetadata,
    decode_message,
)
from coordinator_sdk.protocol.kv import Put
from tests.node.installing import LEADER, MemoryMachine, Target
from tests.replica.member import state_of

Stream = Callable[[int, bytes, AsyncIterator[bytes]], Any]


class Network:
    """Takes snapshots; each goes on when the test says so.

    Attributes:
        streams: Per member: what became of what is sent to it.
        open: The members a stream is open to.
    """

    def __init__(self) -> None:
        self.heads: list[Message] = []
        self.chunks: dict[int, list[bytes]] = {}
        self.open: list[int] = []
        self.started = asyncio.Event()
        self.go_on: dict[int, asyncio.Event] = {}
        self.error: Exception | None = None

    def hold(self, member: int) -> asyncio.Event:
        """Let streams to a member wait until the event is set."""
        return self.go_on.setdefault(member, asyncio.Event())

    async def send_snapshot(self, member: int, head: bytes, chunks: AsyncIterator[bytes]) -> None:
        """See `PeerNetwork.send_snapshot`."""
        self.heads.append(decode_message(head))
        self.open.append(member)
        self.started.set()
        try:
            got = self.chunks[member] = []
            async for chunk in chunks:
                got.append(chunk)
                if len(got) == 1 and member in self.go_on:
                    await self.go_on[member].wait()
            if self.error is not None:
                raise self.error
        finally:
            self.open.remove(member)


@pytest.fixture(params=["disk", "memory"])
async def source(request: pytest.FixtureRequest, tmp_path: Path):
    """A leader with some state, nothing of which is in the database yet."""
    machine = ThisMachine() if request.param == "disk" else MemoryMachine()
    source = Target(tmp_path / "source", machine)
    await source.start()
    await source.lead()
    await put(source, 50)
    yield source
    await source.stop()


async def put(source: Target, count: int) -> None:
    for number in range(count):
        source.replica.propose(Proposal(Put(b"key/%d" % number, b"x" * 500), None))
    await source.turn()


def request(source: Target, member: int) -> Message:
    """Give what the core asks for when a member needs a snapshot."""
    machine = source.machine
    metadata = SnapshotMetadata(machine.conf_state, machine.index, machine.term)
    return Message(
        MessageType.MSG_SNAP,
        member,
        source.booted.identity.member_id,
        source.replica.raw.term,
        snapshot=Snapshot(b"", metadata),
    )


def sender_of(source: Target, network: Network, **changes: Any) -> SnapshotSender:
    match: dict[int, int] = changes.pop("match", {})
    return SnapshotSender(
        network,  # type: ignore[arg-type]
        source.persistence,
        match_of=match.get,
        last_index=lambda: source.replica.raw.last_index,
        **changes,
    )


async def until_idle(sender: SnapshotSender) -> None:
    await asyncio.gather(*sender._tasks.values(), return_exceptions=True)


async def test_what_is_sent_is_new_enough(source: Target):
    """The stream holds everything up to the index asked for, though nothing was written before."""
    network, done = Network(), asyncio.get_running_loop().create_future()
    sender = sender_of(source, network)
    index = source.machine.index
    sender.send(request(source, 5), done.set_result)
    assert await done
    assert network.heads == [request(source, 5)]
    header = read_header(network.chunks[5][0])
    assert header.fact("applied_index") == index
    await until_idle(sender)
    assert sender.sending_to == []
    assert source.persistence._pins == {}


@pytest.mark.parametrize("error", [PeerUnreachable("gone"), PeerRefused("no")])
async def test_failure_is_reported(source: Target, error: Exception):
    """A stream that breaks or is refused is reported as not delivered, and nothing stays open."""
    network, done = Network(), asyncio.get_running_loop().create_future()
    network.error = error
    sender = sender_of(source, network)
    sender.send(request(source, 5), done.set_result)
    assert not await done
    await until_idle(sender)
    assert (sender.sending_to, source.persistence._pins) == ([], {})


async def test_one_for_each_member(source: Target):
    """A second snapshot to a member takes the place of the first, of which nobody hears again."""
    network, done = Network(), asyncio.get_running_loop().create_future()
    network.hold(5)
    sender = sender_of(source, network)
    told: list[bool] = []
    sender.send(request(source, 5), told.append)
    await network.started.wait()
    await put(source, 3)
    sender.send(request(source, 5), done.set_result)
    network.hold(5).set()
    assert await done
    assert told == []
    assert network.open == []
    assert [head.snapshot for head in network.heads] == [
        head.snapshot for head in (network.heads[0], request(source, 5))
    ]
    await until_idle(sender)


async def test_few_at_a_time(source: Target):
    """No more than the limit are streamed at once; the others follow."""
    network = Network()
    sender = sender_of(source, network, sending_max=2)
    done = [asyncio.get_running_loop().create_future() for _ in range(4)]
    for member, future in enumerate(done):
        network.hold(member)
        sender.send(request(source, member), future.set_result)
    seen: list[list[int]] = []
    for member, future in enumerate(done):
        network.hold(member).set()
        assert await future
        seen.append(list(network.open))
    assert all(len(members) <= 2 for members in seen)
    assert sorted(network.chunks) == [0, 1, 2, 3]
    await until_idle(sender)


async def test_log_is_kept_for_a_snapshot_in_flight(
    source: Target, monkeypatch: pytest.MonkeyPatch
):
    """While a snapshot is under way the log is not cut past it, and for a while after."""
    monkeypatch.setattr(persistence_module, "LOOK_EVERY", 1)
    monkeypatch.setattr(snapshots, "LOOK_SECONDS", 0.0)
    network, done = Network(), asyncio.get_running_loop().create_future()
    network.hold(5)
    match = {5: 0}
    sender = sender_of(source, network, match=match)
    asked = request(source, 5)
    assert asked.snapshot is not None
    index = asked.snapshot.metadata.index
    sender.send(asked, done.set_result)
    await network.started.wait()
    for _ in range(4):
        await put(source, 1000)
        await source.persistence.flush()
        source.persistence.tick()
    assert source.replica.log.first_index() <= index + 1
    network.hold(5).set()
    assert await done
    await put(source, 1000)
    await source.persistence.flush()
    source.persistence.tick()
    assert source.replica.log.first_index() <= index + 1
    # The member is about to be where the log ends: nothing more is kept for it.
    match[5] = source.replica.raw.last_index
    await until_idle(sender)
    await put(source, 10)
    await source.persistence.flush()
    source.persistence.tick()
    assert source.replica.log.first_index() > index + 1000


async def test_kept_log_is_let_go_of(source: Target, monkeypatch: pytest.MonkeyPatch):
    """Nothing is kept for a member that does not move for long, nor once this one is deposed."""
    monkeypatch.setattr(snapshots, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(snapshots, "PATIENCE_SECONDS", 0.0)
    await put(source, 2000)
    match = {5: 1}
    sender = sender_of(source, Network(), match=match)
    for patience in (0.0, 3600.0):
        monkeypatch.setattr(snapshots, "PATIENCE_SECONDS", patience)
        done = asyncio.get_running_loop().create_future()
        sender.send(request(source, 5), done.set_result)
        assert await done
        if patience:
            assert source.persistence._pins == {5: source.machine.index}
            match.clear()
        await until_idle(sender)
        assert source.persistence._pins == {}


async def test_giving_up_lets_go_of_the_database(source: Target):
    """Stopping ends what is under way, so that the database can be closed."""
    network = Network()
    network.hold(5)
    sender = sender_of(source, network)
    told: list[bool] = []
    sender.send(request(source, 5), told.append)
    await network.started.wait()
    await sender.stop()
    assert (told, network.open, sender.sending_to) == ([], [], [])
    assert source.persistence._pins == {}
    await source.persistence.release()


class Pipe:
    """A network to one member, in this process."""

    def __init__(self, target: Target) -> None:
        self.target = target

    async def send_snapshot(self, member: int, head: bytes, chunks: AsyncIterator[bytes]) -> None:
        """See `PeerNetwork.send_snapshot`."""
        sink = self.target.receiver.open(decode_message(head).from_, head)
        try:
            async for chunk in chunks:
                await sink.write(chunk)
            await sink.finish()
        except BaseException:
            await sink.abort()
            raise


async def test_from_one_member_into_another(source: Target, tmp_path: Path):
    """What one member sends is what another one has afterwards, whichever disks they have."""
    target = Target(tmp_path / "target", MemoryMachine())
    await target.start()
    source.machine.conf_state = ConfState(
        voters=(LEADER,), learners=(target.booted.identity.member_id,)
    )
    await put(source, 1)
    await put(source, 400)
    sender = sender_of(source, Pipe(target))  # type: ignore[arg-type]
    asked = request(source, target.booted.identity.member_id)
    done = asyncio.get_running_loop().create_future()
    sender.send(asked, done.set_result)
    await target.scheduled.wait()
    await target.turn()
    assert await done
    await until_idle(sender)
    assert state_of(target.machine) == state_of(source.machine)
    await target.stop()
