"""All services, and what carries them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from coordinator.etcd.auth import Auth
from coordinator.etcd.calls import Headers, Served, Shared
from coordinator.etcd.elections import Elections
from coordinator.etcd.face import GrpcFace
from coordinator.etcd.http2 import Http2Connection
from coordinator.etcd.kv import KV
from coordinator.etcd.leases import Leases
from coordinator.etcd.locks import Locks
from coordinator.etcd.maintenance import Maintenance
from coordinator.etcd.members import Members
from coordinator.etcd.messages import METHODS
from coordinator.etcd.permits import Streams
from coordinator.etcd.watches import Watches

if TYPE_CHECKING:
    from coordinator.api.identity import Identity
    from coordinator.api.limits import Limits
    from coordinator.api.maintenance import Backups
    from coordinator.api.serving import MakeHttp2, Serving
    from coordinator.api.shares import Shares
    from coordinator.etcd.calls import Converse, Unary
    from coordinator.node.node import Node


def services(
    node: Node, limits: Limits, backups: Backups, identity: Identity, shares: Shares
) -> dict[str, Served]:
    """Give every call that is served, by its path.

    Args:
        node: The member, started.
        limits: What a client may ask.
        backups: Makes the backups that snapshots are.
        identity: Lets users log in.
        shares: What each user takes.
    """
    shared = Shared(node, Headers(node), limits, Streams(node, identity, shares), shares)
    leases, elections = Leases(shared), Elections(shared)
    maintenance = Maintenance(shared, backups)
    unary: dict[str, Unary] = {}
    for one in (KV(shared), leases, Members(shared), maintenance, Auth(shared, identity)):
        unary |= one.calls()
    unary |= Locks(shared).calls()
    unary |= elections.calls()
    streams: dict[str, Converse] = {}
    for other in (Watches(shared), leases, maintenance, elections):
        streams |= other.streams()
    found = {path: Served(METHODS[path], unary=call) for path, call in unary.items()}
    found |= {path: Served(METHODS[path], converse=call) for path, call in streams.items()}
    return found


def http2(serving: Serving, served: dict[str, Served]) -> MakeHttp2:
    """Give what makes the protocol of a connection that speaks HTTP/2.

    It takes every connection of the server, as uvicorn keeps them, the client's host and port, and
    what the connection takes of those that there may be.
    """
    face = GrpcFace(served)
    serving.node.group.absence.told.append(face.leaderless)
    return partial(Http2Connection, serving, face)
