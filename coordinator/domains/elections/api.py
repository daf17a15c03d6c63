"""Elections at the edge: what is checked, how requests are served, the routes."""

from __future__ import annotations

from typing import Any

from coordinator.api.http import Routes
from coordinator.api.registry import Change, DomainApi, Live, Query, View
from coordinator.api.tickets import TicketApi, admit_ticket, check_session, name_ticket
from coordinator.domains.elections import model
from coordinator.domains.elections.commands import DOMAIN
from coordinator.domains.elections.observing import serve_observe
from coordinator_sdk import errors
from coordinator_sdk.errors import InvalidRequest
from coordinator_sdk.protocol.elections import (
    ElectionCampaign,
    ElectionCancel,
    ElectionChange,
    ElectionGet,
    ElectionInfo,
    ElectionList,
    ElectionListResult,
    ElectionObserve,
    ElectionProclaim,
    ElectionResign,
    ElectionResult,
    ElectionTicket,
)
from coordinator_sdk.protocol.tickets import TicketState

VALUE_BYTES_MAX = 65_536
"""Of what a leader proclaims."""


def _check_value(request: ElectionCampaign | ElectionProclaim) -> None:
    if len(request.value) > VALUE_BYTES_MAX:
        raise InvalidRequest(f"value: at most {VALUE_BYTES_MAX} bytes", field="value")


def _check_campaign(request: ElectionCampaign) -> None:
    check_session(request)
    _check_value(request)


def _check_leader(request: ElectionProclaim | ElectionResign) -> None:
    check_session(request)
    if not request.token:
        raise InvalidRequest("token: must be the fencing token of the term", field="token")


def _check_proclaim(request: ElectionProclaim) -> None:
    _check_leader(request)
    _check_value(request)


def _get(view: View, request: ElectionGet) -> ElectionInfo:
    return model.election_view(view, request.namespace, request.name)


def _list(view: View, request: ElectionList) -> ElectionListResult:
    return ElectionListResult(model.elections_view(view, request.namespace, request.prefix))


TICKETS = TicketApi(model.QUEUES)
OPERATIONS: dict[type[Any], Change | Query | Live] = {
    ElectionCampaign: Change(_check_campaign, name_ticket, TICKETS.follow_wait, admit_ticket),
    ElectionProclaim: Change(_check_proclaim),
    ElectionResign: Change(_check_leader),
    ElectionCancel: Change(),
    ElectionTicket: Live(TICKETS.serve, fresh=True),
    ElectionGet: Query(_get, ranges=TICKETS.ranges_of_one),
    ElectionList: Query(_list, ranges=TICKETS.ranges_of_all),
    ElectionObserve: Live(serve_observe, fresh=True),
}


def _routes() -> Routes:
    made = Routes("Elections")
    made.add(
        "POST",
        "/elections/{name:path}/campaign",
        ElectionCampaign,
        TicketState,
        summary="Become leader or join the candidates",
        exclude=("follow",),
        raises=(errors.SessionNotFound, errors.WouldDeadlock, errors.AlreadyExists),
        example={"session": "0000000000000a1b", "owner": "scheduler-1", "value": "10.0.0.5:80"},
        descriptions={
            "ticket": "Asking again with the same ticket tells its state. Left out, one is made.",
            "timeout_ms": "Left out waits for ever, 0 does not wait.",
        },
    )
    made.add(
        "POST",
        "/elections/{name:path}/proclaim",
        ElectionProclaim,
        ElectionResult,
        summary="Change the leader's value",
        raises=(errors.NotHeld,),
        example={
            "session": "0000000000000a1b",
            "owner": "scheduler-1",
            "token": 42,
            "value": "10.0.0.5:81",
        },
    )
    made.add(
        "POST",
        "/elections/{name:path}/resign",
        ElectionResign,
        ElectionResult,
        summary="Give leadership up",
        raises=(errors.NotHeld,),
        example={"session": "0000000000000a1b", "owner": "scheduler-1", "token": 42},
    )
    made.add(
        "POST",
        "/elections/{name:path}/cancel",
        ElectionCancel,
        ElectionResult,
        summary="Withdraw a candidacy",
        example={"ticket": "3f2a.7"},
    )
    _reading_routes(made)
    return made


def _reading_routes(made: Routes) -> None:
    past = (errors.Compacted, errors.FutureRevision)
    made.add(
        "GET",
        "/elections/{name:path}/tickets/{ticket}",
        ElectionTicket,
        TicketState,
        summary="Read the state of a candidacy",
        exclude=("follow",),
    )
    made.stream(
        "/elections/{name:path}/observe",
        ElectionObserve,
        (ElectionChange,),
        summary="Stream every change of leadership",
        raises=past,
        descriptions={
            "start_revision": "The last revision seen; left out, the stream begins anew.",
        },
    )
    made.add(
        "GET",
        "/elections",
        ElectionList,
        ElectionListResult,
        summary="List the elections that have a leader",
        raises=past,
    )
    made.add(
        "GET",
        "/elections/{name:path}",
        ElectionGet,
        ElectionInfo,
        summary="Read an election: leader and candidates",
        raises=past,
    )


API = DomainApi(DOMAIN, OPERATIONS, _routes().router)
