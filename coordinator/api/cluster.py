"""The greeting, and the operations and routes of the cluster."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from coordinator import __version__
from coordinator.api.connection import Connection
from coordinator.api.dispatch import new_id, refusal
from coordinator.api.http import Routes
from coordinator.api.limits import Limits
from coordinator.api.registry import Live, Operation
from coordinator_sdk.errors import ClusterMismatch, InvalidRequest
from coordinator_sdk.protocol.cluster import (
    PROTOCOL_VERSION,
    ClientRegister,
    ClusterMembers,
    ClusterMembersResult,
    ClusterStatus,
    ClusterStatusResult,
    Hello,
    HelloResult,
    Ping,
)

if TYPE_CHECKING:
    from coordinator.api.serving import Census
    from coordinator.api.websocket import WebSocketConnection
    from coordinator.replica.requests import Outcome

FEATURES = ["batch", "credit", "guard", "ticket"]
"""What this member can do, for clients to know before they ask."""


def operations(census: Census) -> Mapping[type[Any], Operation]:
    """Give the operations of the cluster by request type."""
    return {
        Hello: Live(_late_hello),
        Ping: Live(_ping),
        ClusterStatus: Live(partial(_status, census)),
        ClusterMembers: Live(_members),
    }


# ---------------------------------------------------------------- the greeting


def greet(connection: WebSocketConnection, id: int, hello: Hello, limits: Limits) -> None:
    """Answer a greeting; a client that the cluster does not know is given an id by the log.

    Raises:
        ClusterMismatch: The client belongs to another cluster.
        InvalidRequest: It speaks another version of the protocol.
    """
    node = connection.node
    if hello.version < 1:
        raise InvalidRequest("version: counts from 1", field="version")
    if hello.client < 0:
        raise InvalidRequest("client: ids are positive", field="client")
    if len(hello.agent) > 256:
        raise InvalidRequest("agent: at most 256 characters", field="agent")
    if hello.cluster and hello.cluster != node.cluster_id:
        raise ClusterMismatch(
            f"this member belongs to cluster {node.cluster_id:016x}, "
            f"the client to {hello.cluster:016x}",
            cluster=f"{node.cluster_id:016x}",
        )

    def done(outcome: Outcome) -> None:
        if outcome.error is not None:
            connection.fail(id, refusal(outcome.error))
            return
        client: ClientRegister = outcome.result
        result = HelloResult(
            PROTOCOL_VERSION,
            client.client,
            bool(hello.client) and client.agent == "known",
            node.cluster_id,
            node.member_id,
            node.name,
            f"coordinator/{__version__}",
            FEATURES,
            list(node.config.advertise_client_urls),
            limits.request_bytes,
            limits.in_flight,
        )
        connection.greeted(id, outcome.revision, result)

    node.propose(
        ClientRegister(hello.client or new_id(), hello.agent),
        done=done,
        origin=connection.caller.origin,
    )


def _late_hello(connection: Connection, id: int, hello: Hello) -> None:
    raise InvalidRequest("a connection is greeted once, by its first request", field="operation")


# ---------------------------------------------------------------- the cluster


def _ping(connection: Connection, id: int, ping: Ping) -> None:
    connection.answer(id, connection.node.revision, None)


def _status(census: Census, connection: Connection, id: int, op: ClusterStatus) -> None:
    node = connection.node
    status = node.status()
    status.connections = census.connections
    connection.answer(id, node.revision, status)


def _members(connection: Connection, id: int, op: ClusterMembers) -> None:
    node = connection.node
    connection.answer(id, node.revision, ClusterMembersResult(node.members()))


def routes() -> Routes:
    """Make the HTTP face of the cluster."""
    made = Routes("Cluster")
    made.add(
        "GET",
        "/cluster/status",
        ClusterStatus,
        ClusterStatusResult,
        summary="How this member stands",
    )
    made.add(
        "GET", "/cluster/members", ClusterMembers, ClusterMembersResult, summary="List the members"
    )
    return made
