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
    """Answer to `Hello`. ``resumed`` is False if the client's id was new or unknown."""

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
    """A member of the cluster."""

    member: Id
    name: str = ""
    peer_urls: list[str] = []
    client_urls: list[str] = []
    is_learner: bool = False


class ClusterMembersResult(Struct, array_like=True):
    """Answer to `ClusterMembers`."""

    members: list[MemberInfo]


class ClusterStatusResult(Struct, array_like=True):
    """How a member stands. Sizes are bytes, times milliseconds."""

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


REQUESTS = (Hello, Ping, ClusterStatus, ClusterMembers)
