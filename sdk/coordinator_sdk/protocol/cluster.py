"""The cluster: greeting, status, events of the connection itself."""

from __future__ import annotations

from msgspec import Struct

from .kv import Id

PROTOCOL_VERSION = 1
"""Version of frames and structs. Fields and operations are added without raising it."""


class Hello(Struct, array_like=True, tag="hello"):
    """First request on every connection.

    ``client`` is the id that the cluster gave this client before, or 0 to be given one.
    ``cluster`` is the id of the cluster that the client belongs to, or 0 if it has never met
    one; a mismatch is refused.
    """

    version: int = PROTOCOL_VERSION
    client: Id = 0
    cluster: Id = 0
    agent: str = ""
    features: list[str] = []


class HelloResult(Struct, array_like=True):
    """Answer to `Hello`. ``resumed`` is False if the client's id was new or unknown.

    ``endpoints`` are the client URLs of all members, those of the one that answers first.
    """

    version: int
    client: Id
    resumed: bool
    cluster: Id
    member: Id
    member_name: str = ""
    server: str = ""
    features: list[str] = []
    endpoints: list[str] = []
    max_request_bytes: int = 1_572_864
    max_in_flight: int = 256


class Ping(Struct, array_like=True, tag="ping"):
    """Ask for an empty answer."""


class ClientRegister(Struct, array_like=True, tag="clients.register"):
    """Give a client its id. Part of the greeting; not for direct use."""

    client: Id = 0
    agent: str = ""


class ClusterStatus(Struct, array_like=True, tag="cluster.status"):
    """Ask a member how it stands."""


class ClusterMembers(Struct, array_like=True, tag="cluster.members"):
    """List the members."""


class MemberInfo(Struct, array_like=True):
    """A member of the cluster.

    ``is_started``: it has taken part and made itself known. ``promote_when_ready``: a learner
    that becomes a voter by itself once it has caught up.
    """

    member: Id
    name: str = ""
    peer_urls: list[str] = []
    client_urls: list[str] = []
    is_learner: bool = False
    is_started: bool = True
    promote_when_ready: bool = False


class ClusterMembersResult(Struct, array_like=True):
    """Answer to `ClusterMembers`."""

    members: list[MemberInfo]


class MemberAdd(Struct, array_like=True, tag="members.add"):
    """Add a member. ``member`` is its id; with 0 the server chooses one.

    A learner gets everything and does not count for quorums until it is promoted: by
    `MemberPromote`, or by itself as soon as it has caught up.
    """

    peer_urls: list[str]
    name: str = ""
    is_learner: bool = True
    promote_when_ready: bool = False
    member: Id = 0


class MemberRemove(Struct, array_like=True, tag="members.remove"):
    """Remove a member for good: its id is never accepted again."""

    member: Id


class MemberPromote(Struct, array_like=True, tag="members.promote"):
    """Make a voter of a learner that has caught up."""

    member: Id


class MemberUpdate(Struct, array_like=True, tag="members.update"):
    """Change the peer URLs of a member."""

    member: Id
    peer_urls: list[str]


class MemberChangeResult(Struct, array_like=True):
    """Answer to a change of the members: the member at hand, and all members after it."""

    member: MemberInfo
    members: list[MemberInfo]


class LeaderMove(Struct, array_like=True, tag="cluster.move_leader"):
    """Hand leadership over to ``member``; 0 for the voter that is the most up to date."""

    member: Id = 0


class LeaderMoveResult(Struct, array_like=True):
    """Answer to `LeaderMove`: who led before, and who leads now."""

    former: Id
    leader: Id


class ClusterStatusResult(Struct, array_like=True):
    """How a member stands. Sizes are bytes, times milliseconds.

    ``reads`` and ``writes`` count the requests that it has served since it was started.
    """

    cluster: Id
    member: Id
    name: str
    version: str
    leader: Id
    role: str
    term: int
    index: int
    applied_index: int
    revision: int
    compact_revision: int
    live_keys: int
    bytes_used: int
    bytes_quota: int
    alarms: list[str] = []
    connections: int = 0
    watches: int = 0
    leases: int = 0
    uptime_ms: int = 0
    commit_index: int = 0
    reads: int = 0
    writes: int = 0


class ClusterWatch(Struct, array_like=True, tag="cluster.watch"):
    """Stream how all members stand, as `ClusterSample` items.

    One comes at once, then one every half second and whenever another member leads.
    """


class MemberStanding(Struct, array_like=True):
    """A member as another one sees it.

    Attributes:
        member: Who it is.
        heard_ms: How long ago it told how it stands; -1 if it has not yet.
        round_trip_us: How long asking took; 0 for the member that tells.
        status: How it stood then.
    """

    member: MemberInfo
    heard_ms: int = -1
    round_trip_us: int = 0
    status: ClusterStatusResult | None = None


class ClusterSample(Struct, array_like=True):
    """How all members stand, as the one that tells knows it.

    Attributes:
        member: The one that tells.
        time_ms: Unix time by its clock.
        leader: Who leads; 0 for nobody.
        term: Its term.
        leaderless_ms: For how long nobody has led.
        read_us: How long it took of late until a quorum had confirmed a read; 0 if unknown.
        members: All members, by id.
    """

    member: Id
    time_ms: int
    leader: Id
    term: int
    leaderless_ms: int
    read_us: int
    members: list[MemberStanding]


class StreamList(Struct, array_like=True, tag="cluster.streams"):
    """List the streams that this member serves over WebSockets: watches, subscriptions, followers.

    At most ``limit`` of them, those that are the furthest behind first.
    """

    limit: int = 1000


class StreamInfo(Struct, array_like=True):
    """A stream of a client.

    Attributes:
        peer: The address of the client.
        user: Who it is; empty while authentication is off.
        client: Its id.
        operation: What opened it, such as ``watch.create``.
        space: Of a watch: 0 for user keys, 1 for system keys.
        key: Of a watch: where its range begins.
        range_end: Of a watch: where it ends.
        namespace: Of a domain's stream.
        name: Of a domain's stream: the lock, the service, the pattern of topics, the election.
        state: Of a watch: ``synced``, ``waiting`` for a revision to come, ``ready`` to be fed,
            ``blocked`` without credit, ``stalled`` by a client that does not read.
        lag: Of a watch: published revisions that it has not got.
    """

    peer: str
    user: str
    client: Id
    operation: str
    space: int = 0
    key: bytes = b""
    range_end: bytes = b""
    namespace: str = ""
    name: str = ""
    state: str = "synced"
    lag: int = 0


class StreamListResult(Struct, array_like=True):
    """Answer to `StreamList`.

    ``total``: how many there are; ``others``: watches of gRPC clients and of the member itself.
    """

    streams: list[StreamInfo]
    total: int = 0
    others: int = 0


REQUESTS = (
    Hello,
    Ping,
    ClusterStatus,
    ClusterMembers,
    ClusterWatch,
    StreamList,
    MemberAdd,
    MemberRemove,
    MemberPromote,
    MemberUpdate,
    LeaderMove,
)
