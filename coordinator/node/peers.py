"""The other members, as the node sees them: what leaves for them each turn, and what comes in."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

from coordinator import __version__
from coordinator.node.bootstrap import describe
from coordinator.raft.errors import ProposalDropped, StepLocalMessage, StepPeerNotFound
from coordinator.replica import membership
from coordinator.transport.ports import PEER_FORMAT, PeerHello
from coordinator.wire.peer import (
    Forward,
    Look,
    PeerFrame,
    Placed,
    Renew,
    Renewed,
    Standing,
    decode_frame,
    encode_frame,
)
from coordinator.wire.raft import Message, MessageType

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from coordinator.node.failover import Failover
    from coordinator.node.forward import Forwarding
    from coordinator.node.keepalive import Keepalive
    from coordinator.node.snapshots import SnapshotReceiver, SnapshotSender
    from coordinator.node.standings import Standings
    from coordinator.replica.machine import Machine
    from coordinator.replica.replica import Replica
    from coordinator.storage.identity import Identity
    from coordinator.transport.ports import PeerNetwork, SnapshotSink

_log = logging.getLogger("coordinator.node.peers")

REMOVED: Final = "removed"
"""How the refusal of a member begins that was taken out of the cluster."""
OTHER_DIRECTORY: Final = "other data directory"
"""How the refusal of a member begins that has lost what it had promised."""
MSG_SNAP: Final = MessageType.MSG_SNAP
STRANGERS_MAX: Final = 16
"""Members that this one has not heard of yet, and to which it makes links all the same."""
STRANGER_URLS_MAX: Final = 8
FRAME_BYTES: Final = 4 << 20
"""A frame that would be larger goes in parts; one command or message is never divided."""


class Links:
    """What leaves for the other members: one frame for each of them at the end of a turn.

    Args:
        network: Carries the frames.
    """

    def __init__(self, network: PeerNetwork) -> None:
        self._network = network
        self._frames: dict[int, PeerFrame] = {}
        self.is_linked = network.is_linked

    @property
    def has_frames(self) -> bool:
        """Whether anything waits to be sent."""
        return bool(self._frames)

    def _frame(self, member: int) -> PeerFrame:
        frame = self._frames.get(member)
        if frame is None:
            frame = self._frames[member] = PeerFrame()
        return frame

    def forward(self, member: int, forward: Forward) -> bool:
        """Send a command to the leader; False if there is no link to it."""
        if not self._network.is_linked(member):
            return False
        self._frame(member).forwards.append(forward)
        return True

    def place(self, member: int, placed: Placed) -> None:
        """Tell a follower what became of its command."""
        self._frame(member).placed.append(placed)

    def renew(self, member: int, renew: Renew) -> bool:
        """Ask the leader about leases; False if there is no link to it."""
        if not self._network.is_linked(member):
            return False
        self._frame(member).renews.append(renew)
        return True

    def renewed(self, member: int, renewed: Renewed) -> None:
        """Answer a follower that asked about leases."""
        self._frame(member).renewed.append(renewed)

    def look(self, member: int, look: Look) -> None:
        """Ask a member how it stands."""
        if self._network.is_linked(member):
            self._frame(member).looks.append(look)

    def stand(self, member: int, standing: Standing) -> None:
        """Answer a member that asked how this one stands."""
        self._frame(member).standings.append(standing)

    def add(self, message: Message) -> None:
        """Send a message of Raft."""
        self._frame(message.to).messages.append(message)

    def flush(self) -> list[tuple[int, PeerFrame]]:
        """Send everything; give what could not be sent, and to whom."""
        frames, self._frames = self._frames, {}
        lost: list[tuple[int, PeerFrame]] = []
        send = self._network.send
        for member, frame in frames.items():
            data = encode_frame(frame)
            if len(data) > FRAME_BYTES:
                lost += [(member, part) for part in self._send_parts(member, frame)]
            elif not send(member, data):
                lost.append((member, frame))
        return lost

    def _send_parts(self, member: int, frame: PeerFrame) -> list[PeerFrame]:
        """Send a frame in parts, in order; give those from the first that could not be sent."""
        lost: list[PeerFrame] = []
        for part, data in _parts(frame):
            if lost or not self._network.send(member, data):
                lost.append(part)
        return lost


def _parts(frame: PeerFrame) -> Iterator[tuple[PeerFrame, bytes]]:
    """Divide a frame, in the order in which it would be taken, until its parts are small."""
    data = encode_frame(frame)
    kinds = tuple(getattr(frame, name) for name in PeerFrame.__struct_fields__)
    last = max(position for position, things in enumerate(kinds) if things)
    half = 0 if any(kinds[:last]) else len(kinds[last]) // 2
    if len(data) <= FRAME_BYTES or not (half or any(kinds[:last])):
        yield frame, data
        return
    first: list[Any] = [*kinds[:last], kinds[last][:half], *kinds[last + 1 :]]
    second: list[Any] = [[]] * len(kinds)
    second[last] = kinds[last][half:]
    yield from _parts(PeerFrame(*first))
    yield from _parts(PeerFrame(*second))


class Peers:
    """What comes in from the other members; a `transport.ports.PeerHandler`.

    Args:
        identity: Who this member is.
        incarnation: Which run of it.
        replica: Takes messages.
        network: The links.
        links: What leaves.
        own_urls: Where this member is reached.
        schedule: Asks for a turn.
        on_refused: Told of a refusal after which this member can't be one any more.
        on_failure: Told of an invariant that what came in has broken: nothing may go on.

    Attributes:
        heard_ms: When each member was heard of last.
    """

    def __init__(
        self,
        identity: Identity,
        incarnation: int,
        replica: Replica,
        network: PeerNetwork,
        links: Links,
        own_urls: tuple[str, ...],
        *,
        schedule: Callable[[], None],
        on_refused: Callable[[str], None],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        self._identity = identity
        self._incarnation = incarnation
        self._replica = replica
        self._network = network
        self._links = links
        self._schedule = schedule
        self._on_refused = on_refused
        self._on_failure = on_failure
        self._own_urls = own_urls
        self.heard_ms: dict[int, int] = {}
        self._known: Mapping[int, tuple[str, ...]] = {}
        self._strangers: dict[int, tuple[str, ...]] = {}
        self.forwarding: Forwarding
        self.keepalive: Keepalive
        self.failover: Failover
        self.sender: SnapshotSender
        self.receiver: SnapshotReceiver
        self.standings: Standings

    @property
    def _machine(self) -> Machine:
        return self._replica.machine

    # ------------------------------------------------------------ out

    def set_peers(self, peers: Mapping[int, tuple[str, ...]]) -> None:
        """Say who the others are and where."""
        if peers != self._known:
            self._known = peers
            self._network.set_peers(peers)

    def follow_members(self) -> None:
        """Dial whom the replicated state names; to be called now and then."""
        if self._machine.index:
            known = membership.peer_urls(self._machine, self._identity.member_id)
            strangers = self._strangers
            for member in [one for one in strangers if one in known or self._is_removed(one)]:
                del strangers[member]
            self.set_peers({**strangers, **known})

    def _is_removed(self, member: int) -> bool:
        return member in self._machine.removed

    def _meet(self, hello: PeerHello) -> None:
        """Be able to answer one that was added in what this member still lacks: it may lead."""
        member = hello.member
        if member in self._machine.members or not hello.urls or not self._machine.index:
            return
        if len(self._strangers) < STRANGERS_MAX or member in self._strangers:
            self._strangers[member] = hello.urls[:STRANGER_URLS_MAX]
            asyncio.get_running_loop().call_soon(self.follow_members)

    def send(self, messages: list[Message]) -> None:
        """Send what a turn has brought."""
        for message in messages:
            if message.type == MSG_SNAP:
                self._send_snapshot(message)
            else:
                self._links.add(message)
        raw = self._replica.raw
        for member, lost in self._links.flush():
            raw.report_unreachable(member)
            if lost.forwards:
                self.forwarding.unsent([forward.call for forward in lost.forwards])
            if lost.renews:
                self.keepalive.unsent([renew.call for renew in lost.renews])

    def _send_snapshot(self, message: Message) -> None:
        member = message.to

        def done(delivered: bool) -> None:
            self._replica.raw.report_snapshot(member, delivered=delivered)
            self._schedule()

        self.sender.send(message, done)

    # ------------------------------------------------------------ who is who

    def hello(self) -> PeerHello:
        """Say who we are."""
        identity = self._identity
        own = self._machine.members.get(identity.member_id)
        return PeerHello(
            PEER_FORMAT,
            identity.cluster_id,
            identity.member_id,
            identity.directory_id,
            self._incarnation,
            release=__version__,
            urls=tuple(own.peer_urls) if own and own.peer_urls else self._own_urls,
        )

    def admit(self, hello: PeerHello) -> str:
        """Say why a peer is refused; empty if it is not.

        One that is not known is let in: this member may be the one that lags behind.
        """
        member, machine = hello.member, self._machine
        if hello.cluster != self._identity.cluster_id:
            return (
                f"other cluster: this is {self._identity.cluster_id:016x}, not {hello.cluster:016x}"
            )
        if member == self._identity.member_id:
            return f"member {member:016x} is this one: two must not have the same id"
        if member in machine.removed:
            return f"{REMOVED}: member {member:016x} was removed from the cluster"
        known = machine.members.get(member)
        if known and known.data_directory not in (0, hello.directory):
            return (
                f"{OTHER_DIRECTORY}: member {member:016x} has promised things in data directory "
                f"{known.data_directory:016x} that {hello.directory:016x} knows nothing of; "
                "remove it from the cluster and add it as a new member"
            )
        self._meet(hello)
        return ""

    def refused(self, member: int, reason: str) -> None:
        """Hear that a member and we do not belong together."""
        if f"member {self._identity.member_id:016x}" in reason and reason.startswith(
            (REMOVED, OTHER_DIRECTORY)
        ):
            self._on_refused(reason)
        else:
            _log.warning("no link to member %016x: %s", member, reason)

    def describe(self) -> bytes:
        """Tell one that wants to join who the members are."""
        return describe(self._identity, self._machine)

    # ------------------------------------------------------------ in

    def received(self, member: int, frame: bytes) -> None:
        """Take a frame; any exception is a broken invariant: stop, never limp."""
        try:
            parts = decode_frame(frame)
        except ValueError as error:
            _log.error("member %016x: %s", member, error)
            return
        try:
            self.take(member, parts)
        except Exception as error:
            self._on_failure(error)
        self.heard_ms[member] = self._replica.now_ms
        self._schedule()

    def take(self, member: int, parts: PeerFrame) -> None:
        """Take what a frame holds; placed entries before anything that might apply them."""
        for placed in parts.placed:
            self.forwarding.placed(placed)
        for forward in parts.forwards:
            self.forwarding.take(member, forward)
        for renew in parts.renews:
            self.keepalive.take(member, renew)
        for renewed in parts.renewed:
            self.keepalive.told(renewed)
        for message in parts.messages:
            self._step(member, message)
        for look in parts.looks:
            self.standings.take(member, look)
        for standing in parts.standings:
            self.standings.told(member, standing)

    def _step(self, member: int, message: Message) -> None:
        # A snapshot comes on a connection of its own, a command in a frame of its own, and
        # everybody speaks for himself.
        if message.type in _ELSEWHERE or message.to != self._identity.member_id:
            return
        if message.from_ != member and message.type not in _PASSED_ON:
            return
        try:
            self._replica.step(message)
        except (ProposalDropped, StepLocalMessage, StepPeerNotFound):
            return

    def linked(self, member: int) -> None:
        """A link is up: what has waited for it may go."""
        self._schedule()

    def unreachable(self, member: int) -> None:
        """Something that was sent to a member got lost."""
        self._replica.raw.report_unreachable(member)
        # What a full link dropped is known already; the rest is still on its way.
        if not self._links.is_linked(member):
            self.forwarding.lost(member)
            self.keepalive.lost(member)
        self._schedule()

    def deserted(self, member: int) -> None:
        """A member's process is gone."""
        self.failover.deserted(member)

    def open_snapshot(self, member: int, head: bytes) -> SnapshotSink:
        """Begin to receive a snapshot."""
        return self.receiver.open(member, head)


_PASSED_ON: Final[frozenset[Any]] = frozenset((MessageType.MSG_TRANSFER_LEADER,))
"""Messages that a follower passes on in the name of another."""
_ELSEWHERE: Final[frozenset[Any]] = frozenset((MSG_SNAP, MessageType.MSG_PROP))
