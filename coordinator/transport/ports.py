"""What node and transport are to each other, whichever network lies between the members.

Every member dials every other one. A link has one direction: frames go out on the connection that
this member dialled and come in on the one the other dialled. A link keeps its frames in order and
either delivers all of them up to a point or breaks at that point; nothing is kept while it is down
and nothing of an old link is sent again on a new one.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from enum import IntEnum
from typing import Final, Protocol

from msgspec import Struct

PEER_FORMAT: Final = 1
"""Version of what members say to each other; a hello of another version is refused."""


class Purpose(IntEnum):
    """What a connection was made for; the numbers are part of the wire format."""

    LINK = 0
    """Frames, in one direction, for as long as it holds."""
    SNAPSHOT = 1
    """One snapshot, then it is over."""
    INQUIRY = 2
    """One question: who are you and whom do you know?"""


class PeerHello(Struct, array_like=True, frozen=True):
    """Who somebody is: the first frame in both directions of every connection.

    Wire format: MessagePack array in the order of the fields; fields are only ever appended.

    Attributes:
        format: `PEER_FORMAT` of the sender.
        cluster: Cluster id; 0 while joining.
        member: Member id; 0 while it is not known.
        directory: Id of the data directory, by which a wiped member is told from the old one.
        incarnation: Differs with every start of the process.
        purpose: A `Purpose`; answers repeat it.
        target: Member id of the one who is meant; 0 for whoever answers.
        release: Version of the program, for people.
        refusal: Only in an answer: why the hello was refused; empty if it was not.
        urls: Where the sender is reached, for one that lags behind and has never heard of it.
    """

    format: int
    cluster: int
    member: int
    directory: int
    incarnation: int
    purpose: int = 0
    target: int = 0
    release: str = ""
    refusal: str = ""
    urls: tuple[str, ...] = ()


class SnapshotSink(Protocol):
    """Where an incoming snapshot goes. One call at a time; `finish` or `abort` is the last one.

    An error raised by `write` or `finish` ends the stream: `abort` follows, and the sender gets the
    error's text as `PeerRefused`.
    """

    async def write(self, chunk: bytes) -> None:
        """Take the next chunk; the sender is slowed down to the pace of this."""

    async def finish(self) -> None:
        """Take the snapshot over: it is complete."""

    async def abort(self) -> None:
        """Forget what was written; the snapshot will not be completed."""


class PeerHandler(Protocol):
    """The node, as the transport sees it.

    Calls come on the event loop and must not block. None comes from within a call of the node's to
    the network: what `PeerNetwork.send` or `set_peers` causes is told in a later turn of the loop.
    """

    def hello(self) -> PeerHello:
        """Say who we are now; the transport fills in purpose, target and refusal."""

    def admit(self, hello: PeerHello) -> str:
        """Return why a peer is refused (other cluster, removed, other directory), else "".

        Asked about whoever dials us for a link or a snapshot, and about whoever answers our own
        hello. Not asked about inquiries: a member that joins knows neither cluster nor itself.
        """

    def received(self, member: int, frame: bytes) -> None:
        """Take one frame of the incoming link of a member; they come in order."""

    def linked(self, member: int) -> None:
        """Hear that the outgoing link to a member is up."""

    def unreachable(self, member: int) -> None:
        """Hear that something sent to a member was lost: the link broke or was full.

        Called once per incident, however many frames were lost.
        """

    def deserted(self, member: int) -> None:
        """Hear that a member's process is gone.

        Its link to us ended, and dialling it again was refused or met another incarnation. Told
        once per broken link; never when only the connection was cut.
        """

    def refused(self, member: int, reason: str) -> None:
        """Hear that a member, or we on its answer, found that we do not belong together.

        The link is tried again all the same. Told when the reason changes, not with every try.
        """

    def open_snapshot(self, member: int, head: bytes) -> SnapshotSink:
        """Begin to receive a snapshot; an exception refuses it with its text."""

    def describe(self) -> bytes:
        """Answer an inquiry."""


class PeerNetwork(Protocol):
    """The links to all other members."""

    async def start(self, handler: PeerHandler, *, listens: bool = True) -> None:
        """Listen, and begin to dial the peers. May be called again if it fails.

        Args:
            handler: Takes what comes in.
            listens: Whether others can dial us.

        Raises:
            CannotListen: An address can't be listened on.
        """

    def set_peers(self, peers: Mapping[int, Sequence[str]]) -> None:
        """Say who the others are: member id → peer URLs. Dials new ones and closes gone ones."""

    def send(self, member: int, frame: bytes) -> bool:
        """Queue a frame on the outgoing link.

        Returns:
            False if it was dropped: the link is down or has too much unsent. True promises order,
            not arrival: the frame comes after all earlier ones, unless the link breaks before it.
        """

    def is_linked(self, member: int) -> bool:
        """Whether the outgoing link is up."""

    async def send_snapshot(self, member: int, head: bytes, chunks: AsyncIterator[bytes]) -> None:
        """Stream a snapshot on a connection of its own; return once the other's sink finished.

        If the connection breaks it is made anew, and the stream goes on where it was. Cancelling
        this aborts the other's sink. `chunks` is closed in any case.

        Args:
            member: Whom to.
            head: What `PeerHandler.open_snapshot` is given.
            chunks: The content, drawn no faster than the other side writes it.

        Raises:
            PeerUnreachable: No connection, or it broke and did not come back in time.
            PeerRefused: The other side refused the snapshot, or its sink failed.
        """

    async def inquire(self, url: str) -> bytes:
        """Ask whoever listens at a peer URL for its `PeerHandler.describe`.

        Works before `start` as well.

        Raises:
            PeerUnreachable: Nobody answers there.
            PeerRefused: Whoever is there does not answer us.
        """

    async def close(self) -> None:
        """End everything; nothing is called back afterwards."""
