"""What leaves for other members, what comes in from them, and who is let in."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from coordinator.node import peers as peers_module
from coordinator.node.peers import OTHER_DIRECTORY, REMOVED, Links, Peers
from coordinator.raft import InvariantBroken, ProgressState
from coordinator.replica.members import Member
from coordinator.storage.identity import Identity
from coordinator.transport.ports import PEER_FORMAT, PeerHello
from coordinator.wire.peer import (
    Forward,
    PeerFrame,
    Placed,
    Renew,
    Renewed,
    decode_frame,
    encode_frame,
)
from coordinator.wire.raft import Entry, Message, MessageType
from coordinator_sdk.protocol.kv import Put
from tests.node.replicas import Replicas

CLUSTER = 5


class FakeNetwork:
    """Keeps what is sent.

    Attributes:
        linked: Members with a link that takes things.
        room: Frames that are taken before the links are full.
        sent: (member, frame).
    """

    def __init__(self) -> None:
        self.linked = {2, 3}
        self.room = 1000
        self.sent: list[tuple[int, PeerFrame]] = []
        self.peers: list[dict[int, Sequence[str]]] = []

    def is_linked(self, member: int) -> bool:
        return member in self.linked

    def send(self, member: int, frame: bytes) -> bool:
        if member not in self.linked or not self.room:
            return False
        self.room -= 1
        self.sent.append((member, decode_frame(frame)))
        return True

    def set_peers(self, peers: Any) -> None:
        self.peers.append(peers)


class Book:
    """Notes every call."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *args: self.calls.append((name, *args))


class One:
    """Member 1, the leader of three, with everything around its `Peers` replaced."""

    def __init__(self) -> None:
        self.group = Replicas(3)
        self.replica = self.group.leader
        self.network = FakeNetwork()
        self.links = Links(self.network)  # type: ignore[arg-type]
        self.refusals: list[str] = []
        self.failures: list[BaseException] = []
        self.turns: list[None] = []
        self.peers = Peers(
            Identity(member_id=1, directory_id=11, cluster_id=CLUSTER),
            77,
            self.replica,
            self.network,  # type: ignore[arg-type]
            self.links,
            ("http://127.0.0.1:1",),
            schedule=lambda: self.turns.append(None),
            on_refused=self.refusals.append,
            on_failure=self.failures.append,
        )
        self.book = Book()
        self.peers.forwarding = self.peers.keepalive = self.book  # type: ignore[assignment]
        self.peers.failover = self.peers.sender = self.book  # type: ignore[assignment]

    def hello(self, **changes: Any) -> PeerHello:
        """Give the hello of member 2."""
        facts = {"format": PEER_FORMAT, "cluster": CLUSTER, "member": 2, "directory": 2}
        return PeerHello(**(facts | {"incarnation": 8} | changes))


# ---------------------------------------------------------------- who is who


async def test_who_was_added_in_what_this_member_lacks_gets_answers():
    """A member that this one has never heard of, and that may lead, is linked to where it says it
    is reached, until it is known, or known to be removed."""
    one = One()
    stranger = one.hello(member=9, directory=9, urls=("http://10.0.0.9:2380",))
    assert one.peers.admit(stranger) == ""
    await asyncio.sleep(0)
    assert one.network.peers[-1][9] == ("http://10.0.0.9:2380",)
    assert set(one.network.peers[-1]) == {2, 3, 9}
    machine = one.replica.machine
    machine.members[9] = Member(9, "m9", [], 9, 1, ["http://10.0.0.9:2390"])
    one.peers.follow_members()
    assert one.network.peers[-1][9] == ("http://10.0.0.9:2390",)
    del machine.members[9]
    machine.removed[9] = None
    one.peers.follow_members()
    assert set(one.network.peers[-1]) == {2, 3}
    assert one.peers.admit(stranger)
    one.peers.follow_members()
    await asyncio.sleep(0)
    assert set(one.network.peers[-1]) == {2, 3}


def test_a_hello_tells_where_this_member_is_reached():
    """A member says at which addresses the others reach it, as the cluster knows them."""
    one = One()
    assert one.peers.hello().urls == ("http://h1:1",)
    del one.replica.machine.members[1]
    assert one.peers.hello().urls == ("http://127.0.0.1:1",)


# ---------------------------------------------------------------- what leaves


def test_one_frame_for_each_member():
    """Everything for one member leaves in one frame, at the end of the turn."""
    one = One()
    assert one.links.forward(2, Forward(1, b"x"))
    one.links.place(2, Placed(2, 3, 4))
    one.links.renewed(3, Renewed(5, [6]))
    assert one.links.renew(2, Renew(6, [7]))
    assert one.links.has_frames
    assert one.network.sent == []
    beat = Message(MessageType.MSG_HEARTBEAT, 2, 1, 2)
    one.peers.send([beat])
    assert one.network.sent == [
        (2, PeerFrame([Placed(2, 3, 4)], [Forward(1, b"x")], [Renew(6, [7])], [], [beat])),
        (3, PeerFrame(renewed=[Renewed(5, [6])])),
    ]
    assert not one.links.has_frames


def test_nothing_is_asked_over_a_link_that_is_down():
    """Commands and renewals stay where they are while there is no link."""
    one = One()
    one.network.linked = set()
    assert not one.links.forward(2, Forward(1, b"x"))
    assert not one.links.renew(2, Renew(6, [7]))
    assert not one.links.has_frames


def test_a_large_turn_goes_in_parts(monkeypatch: pytest.MonkeyPatch):
    """A turn that is too large for a frame goes in several, in order, nothing left out."""
    monkeypatch.setattr(peers_module, "FRAME_BYTES", 2000)
    one = One()
    forwards = [Forward(number, bytes(300)) for number in range(20)]
    renewed = [Renewed(number, list(range(50))) for number in range(9)]
    placed = [Placed(number, 1, 1) for number in range(9)]
    messages = [
        Message(MessageType.MSG_APP, 2, 1, 2, index=number, entries=[Entry(2, number, data=b"x")])
        for number in range(40)
    ]
    large = Message(MessageType.MSG_APP, 2, 1, 2, entries=[Entry(2, 99, data=bytes(5000))])
    for forward in forwards:
        one.links.forward(2, forward)
    for each in renewed:
        one.links.renewed(2, each)
    for answer in placed:
        one.links.place(2, answer)
    one.peers.send([*messages, large])
    frames = [frame for _, frame in one.network.sent]
    assert [each for frame in frames for each in frame.forwards] == forwards
    assert [each for frame in frames for each in frame.renewed] == renewed
    assert [each for frame in frames for each in frame.placed] == placed
    assert [each for frame in frames for each in frame.messages] == [*messages, large]
    sizes = [len(encode_frame(frame)) for frame in frames]
    assert all(size <= 2000 for size in sizes[:-1])
    first = next(at for at, frame in enumerate(frames) if frame.messages)
    assert not any(frame.placed for frame in frames[first:]), "whose an entry is comes first"


def test_a_follower_far_behind_gets_frames_that_fit():
    """However far behind a follower is, what leaves for it in one turn fits into frames, and into
    a link."""
    one = One()
    group, leader = one.group, one.replica
    group.down = {3}
    for number in range(40):
        group.execute(Put(b"%d" % number, bytes(1 << 20)))
    group.down = set()
    leader.raw.report_unreachable(3)
    leader.tick()
    follower = group.by_id[3]
    found: list[Message] = []
    while len(found) < 2:
        found = [message for message in leader.turn().messages if message.to == 3]
        for message in found:
            follower.step(message)
        answers = follower.turn()
        for append in answers.appends:
            follower.persisted(append)
        for message in [*answers.messages, *follower.turn().messages]:
            leader.step(message)
    assert len(found) > 4
    one.peers.send(found)
    sizes = [len(encode_frame(frame)) for _, frame in one.network.sent]
    assert len(sizes) > 1
    assert max(sizes) <= peers_module.FRAME_BYTES
    assert sum(sizes) < 32 << 20


def test_what_a_full_link_drops_is_told():
    """Whoever gave something that was dropped hears that it never left; Raft hears it too."""
    one = One()
    one.network.room = 0
    one.links.forward(2, Forward(4, b"x"))
    one.links.renew(2, Renew(5, [1]))

    def state() -> ProgressState:
        return one.replica.raw.raft.tracker.progress[2].state

    assert state() == ProgressState.REPLICATE
    one.peers.send([])
    assert one.book.calls == [("unsent", [4]), ("unsent", [5])]
    assert state() == ProgressState.PROBE


def test_parts_after_a_lost_one_are_lost(monkeypatch: pytest.MonkeyPatch):
    """When a link is full in the middle of a turn, the rest of the turn is not sent either."""
    monkeypatch.setattr(peers_module, "FRAME_BYTES", 1000)
    one = One()
    one.network.room = 2
    for number in range(16):
        one.links.forward(2, Forward(number, bytes(300)))
    one.peers.send([])
    arrived = [each.call for _, frame in one.network.sent for each in frame.forwards]
    lost = [call for _, calls in one.book.calls for call in calls]
    assert arrived + lost == list(range(16))
    assert arrived
    assert lost


def test_a_snapshot_goes_by_another_way():
    """A snapshot never stands in a frame: heartbeats do not wait behind it."""
    one = One()
    one.peers.send([Message(MessageType.MSG_SNAP, 2, 1, 2)])
    assert one.network.sent == []
    [(name, message, done)] = one.book.calls
    assert (name, message.to) == ("send", 2)
    done(False)
    assert one.turns == [None]


# ---------------------------------------------------------------- what comes in


def test_placed_entries_come_before_what_might_apply_them():
    """The parts of a frame are taken in an order in which no answer comes too late."""
    one = One()
    one.replica.step = lambda message: one.book.step(message)  # type: ignore[method-assign]
    message = Message(MessageType.MSG_HEARTBEAT_RESP, 1, 2, 2)
    frame = PeerFrame(
        [Placed(1, 2, 3)], [Forward(2, b"")], [Renew(3, [])], [Renewed(4, [])], [message]
    )
    one.peers.received(2, encode_frame(frame))
    names = [(call[0], type(call[-1])) for call in one.book.calls]
    assert names == [
        ("placed", Placed),
        ("take", Forward),
        ("take", Renew),
        ("told", Renewed),
        ("step", Message),
    ]
    assert one.turns == [None]


def test_garbage_is_left_alone():
    """A frame that can't be read changes nothing and stops nobody."""
    one = One()
    one.peers.received(2, b"\xc1garbage")
    assert (one.book.calls, one.failures, one.turns) == ([], [], [])


@pytest.mark.parametrize(
    "message",
    [
        Message(MessageType.MSG_HEARTBEAT, 1, 3, 9),
        Message(MessageType.MSG_HEARTBEAT, 3, 2, 9),
        Message(MessageType.MSG_SNAP, 1, 2, 9),
        Message(MessageType.MSG_PROP, 1, 2, 0, entries=[Entry(data=b"x")]),
        Message(MessageType.MSG_HUP, 1, 2),
        Message(MessageType.MSG_UNREACHABLE, 1, 2),
        Message(MessageType.MSG_APP_RESP, 1, 9, 2),
    ],
)
def test_messages_that_nobody_may_send(message: Message):
    """Messages for or from somebody else, local ones, snapshots and commands are passed over."""
    one = One()
    term, last = one.replica.raw.term, one.replica.raw.last_index
    sender = 9 if message.from_ == 9 else 2
    one.peers.received(sender, encode_frame(PeerFrame(messages=[message])))
    assert (one.replica.raw.term, one.replica.raw.last_index) == (term, last)
    assert one.replica.raw.is_leader
    assert one.failures == []


def test_a_wish_for_another_leader_may_be_passed_on():
    """A follower asks in the name of the one that is to lead."""
    one = One()
    wish = Message(MessageType.MSG_TRANSFER_LEADER, 1, 3)
    one.peers.received(2, encode_frame(PeerFrame(messages=[wish])))
    assert one.replica.raw.raft.lead_transferee == 3


def test_a_broken_invariant_stops_the_member():
    """A message that can't be true, such as a commit beyond the log of this member, stops it."""
    one = One()
    one.peers._replica = replica = one.group.by_id[2]
    one.peers._identity = Identity(member_id=2, directory_id=2, cluster_id=CLUSTER)
    beyond = Message(MessageType.MSG_HEARTBEAT, 2, 1, replica.raw.term, commit=1000)
    one.peers.received(1, encode_frame(PeerFrame(messages=[beyond])))
    [failure] = one.failures
    assert isinstance(failure, InvariantBroken)


def test_a_broken_link():
    """The end of a link leaves what it carried in doubt; a full one does not."""
    one = One()
    one.peers.unreachable(2)
    assert one.book.calls == []
    one.network.linked = {3}
    one.peers.unreachable(2)
    assert one.book.calls == [("lost", 2), ("lost", 2)]
    assert one.turns == [None, None]
    one.peers.linked(2)
    one.peers.deserted(2)
    assert one.book.calls[-1] == ("deserted", 2)


# ---------------------------------------------------------------- who is who


def test_who_is_let_in():
    """Members in their own directories are let in, and so are those that are not known yet."""
    one = One()
    assert one.peers.admit(one.hello()) == ""
    assert one.peers.admit(one.hello(member=9, directory=99)) == ""


def test_who_is_refused():
    """Other clusters, other directories, removed members and a second self are refused."""
    one = One()
    one.replica.machine.removed[9] = None
    assert one.peers.admit(one.hello(cluster=6)).startswith("other cluster")
    assert one.peers.admit(one.hello(directory=3)).startswith(OTHER_DIRECTORY)
    assert one.peers.admit(one.hello(member=9)).startswith(REMOVED)
    assert "two must not have the same id" in one.peers.admit(one.hello(member=1))


@pytest.mark.parametrize("kind", [REMOVED, OTHER_DIRECTORY])
def test_a_refusal_that_is_meant_for_us(kind: str):
    """Whoever hears that it was removed, or has lost its promises, can't go on."""
    one = One()
    one.peers.refused(2, f"{kind}: member {1:016x} …")
    assert len(one.refusals) == 1


def test_a_refusal_that_is_not():
    """A refusal about somebody else, or for another reason, is only told in the log."""
    one = One()
    one.peers.refused(2, f"{REMOVED}: member {2:016x} was removed")
    one.peers.refused(2, "other cluster")
    assert one.refusals == []


def test_the_hello():
    """The hello says who this member is, and which run of it."""
    one = One()
    hello = one.peers.hello()
    assert (hello.cluster, hello.member, hello.directory, hello.incarnation) == (CLUSTER, 1, 11, 77)


def test_members_are_followed():
    """Whom the replicated state names is dialled; the network is told of changes only."""
    one = One()
    one.peers.follow_members()
    one.peers.follow_members()
    assert one.network.peers == [{2: ("http://h2:1",), 3: ("http://h3:1",)}]
    del one.replica.machine.members[3]
    one.peers.follow_members()
    assert one.network.peers[1:] == [{2: ("http://h2:1",)}]


def test_snapshots_that_come_in():
    """A snapshot goes to whoever receives them."""
    one = One()
    one.peers.receiver = SimpleNamespace(open=lambda member, head: (member, head))  # type: ignore[assignment]
    opened: object = one.peers.open_snapshot(2, b"head")
    assert opened == (2, b"head")
