"""The greeting, and the operations and routes of the cluster."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from coordinator import __version__
from coordinator.api.connection import Connection
from coordinator.api.dispatch import new_id, refusal
from coordinator.api.http import Routes
from coordinator.api.limits import Limits
from coordinator.api.registry import Caller, Change, Live, Operation, chosen_id
from coordinator.node.initial_cluster import peer_url
from coordinator_sdk.errors import (
    AlreadyExists,
    ClusterMismatch,
    Conflict,
    CoordinatorError,
    InvalidRequest,
    NoLeader,
    NotFound,
)
from coordinator_sdk.protocol.cluster import (
    PROTOCOL_VERSION,
    ClientRegister,
    ClusterMembers,
    ClusterMembersResult,
    ClusterSample,
    ClusterStatus,
    ClusterStatusResult,
    ClusterWatch,
    Hello,
    HelloResult,
    LeaderMove,
    LeaderMoveResult,
    MemberAdd,
    MemberChangeResult,
    MemberPromote,
    MemberRemove,
    MemberUpdate,
    Ping,
    StreamList,
    StreamListResult,
)

if TYPE_CHECKING:
    from coordinator.api.websocket import WebSocketConnection
    from coordinator.node.node import Node
    from coordinator.replica.requests import Outcome

FEATURES = ["batch", "credit", "guard", "ticket"]
"""What this member can do, for clients to know before they ask."""
PEER_URLS_MAX = 16


def operations(status: Callable[[], ClusterStatusResult]) -> Mapping[type[Any], Operation]:
    """Give the operations of the cluster by request type.

    Args:
        status: Tells how this member stands.
    """
    return {
        Hello: Live(_late_hello, judges_itself=True),
        Ping: Live(_ping, judges_itself=True),
        ClusterStatus: Live(partial(_status, status), at_once=True),
        ClusterMembers: Live(_members, at_once=True),
        MemberAdd: Change(prepare=_prepare_add, check=_check_urls),
        MemberRemove: Change(),
        MemberPromote: Change(),
        MemberUpdate: Change(prepare=_prepare_update, check=_check_urls),
        LeaderMove: Live(_move_leader),
    }


# ---------------------------------------------------------------- the greeting


def greet(connection: WebSocketConnection, id: int, hello: Hello, limits: Limits) -> None:
    """Answer a greeting; a client that the cluster does not know is given an id by the log.

    Raises:
        ClusterMismatch: The client belongs to another cluster.
        Exhausted: There are so many connections that only root gets one.
        InvalidRequest: It speaks another version of the protocol.
    """
    node = connection.node
    if connection.place is not None:
        connection.place.check_kept(connection.caller)
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
            client_urls(node),
            limits.request_bytes,
            limits.in_flight,
        )
        connection.greeted(id, outcome.revision, result)

    node.propose(
        ClientRegister(hello.client or new_id(), hello.agent),
        done=done,
        actor=connection.caller.actor,
        origin=connection.caller.origin,
        auth_revision=connection.caller.auth_revision,
        scope=connection.caller.scope,
    )


def _late_hello(connection: Connection, id: int, hello: Hello) -> None:
    raise InvalidRequest("a connection is greeted once, by its first request", field="operation")


# ---------------------------------------------------------------- the cluster


def _ping(connection: Connection, id: int, ping: Ping) -> None:
    connection.answer(id, connection.node.revision, None)


def _status(
    status: Callable[[], ClusterStatusResult], connection: Connection, id: int, op: ClusterStatus
) -> None:
    connection.answer(id, connection.node.revision, status())


def _members(connection: Connection, id: int, op: ClusterMembers) -> None:
    node = connection.node
    connection.answer(id, node.revision, ClusterMembersResult(node.members()))


def client_urls(node: Node, *, others_only: bool = False) -> list[str]:
    """Give the client URLs of all members, this one's first, so that clients know them."""
    own = node.member_id
    members = node.machine.members
    # Each member goes on where its own id stands, so that those who lose it part ways.
    order = sorted(members, key=lambda member: (member < own, member))
    found = [] if others_only else list(node.config.advertise_client_urls)
    for member in order:
        if member != own:
            found += [url for url in members[member].client_urls if url not in found]
    return found


# ---------------------------------------------------------------- changes of the members


def _check_urls(op: MemberAdd | MemberUpdate) -> None:
    if not 1 <= len(op.peer_urls) <= PEER_URLS_MAX:
        raise InvalidRequest(f"peer_urls: from 1 to {PEER_URLS_MAX} URLs", field="peer_urls")
    for index, url in enumerate(op.peer_urls):
        try:
            peer_url(url)
        except ValueError as error:
            field = f"peer_urls[{index}]"
            raise InvalidRequest(f"{field}: {error}", field=field) from None


def _prepare_add(op: MemberAdd, caller: Caller, id: int) -> None:
    if not op.member:
        op.member = chosen_id(caller, id)
    op.peer_urls = _in_one_form(op.peer_urls)


def _prepare_update(op: MemberUpdate, caller: Caller, id: int) -> None:
    op.peer_urls = _in_one_form(op.peer_urls)


def _in_one_form(urls: list[str]) -> list[str]:
    return sorted({peer_url(url) for url in urls})


def _move_leader(connection: Connection, id: int, op: LeaderMove) -> None:
    node = connection.node
    former = node.replica.raw.lead

    def done(answer: int | CoordinatorError) -> None:
        if isinstance(answer, CoordinatorError):
            connection.fail(id, answer)
        else:
            connection.answer(id, node.revision, LeaderMoveResult(former, answer))

    node.group.membership.transfer(op.member, done)


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
    made.stream(
        "/cluster/watch",
        ClusterWatch,
        (ClusterSample,),
        summary="Watch how all members stand",
        exclude=(),
    )
    made.add(
        "GET",
        "/cluster/streams",
        StreamList,
        StreamListResult,
        summary="List the streams that this member serves",
    )
    _member_routes(made)
    made.add(
        "POST",
        "/cluster/move-leader",
        LeaderMove,
        LeaderMoveResult,
        summary="Hand leadership over",
        raises=(Conflict, NoLeader),
        example={"member": "0000000000000a1b"},
    )
    return made


def _member_routes(made: Routes) -> None:
    made.add(
        "GET", "/cluster/members", ClusterMembers, ClusterMembersResult, summary="List the members"
    )
    made.add(
        "POST",
        "/cluster/members",
        MemberAdd,
        MemberChangeResult,
        summary="Add a member",
        status=201,
        raises=(AlreadyExists, Conflict),
        example={"peer_urls": ["http://10.0.0.4:2380"], "promote_when_ready": True},
        descriptions={"member": "Its id; left out, the server chooses one."},
    )
    made.add(
        "DELETE",
        "/cluster/members/{member}",
        MemberRemove,
        MemberChangeResult,
        summary="Remove a member for good",
        raises=(NotFound, Conflict),
    )
    made.add(
        "POST",
        "/cluster/members/{member}/promote",
        MemberPromote,
        MemberChangeResult,
        summary="Make a voter of a learner",
        raises=(NotFound, Conflict),
    )
    made.add(
        "PUT",
        "/cluster/members/{member}",
        MemberUpdate,
        MemberChangeResult,
        summary="Change the peer URLs of a member",
        raises=(NotFound, AlreadyExists),
        example={"peer_urls": ["http://10.0.0.4:2380"]},
    )
