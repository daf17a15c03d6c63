"""Locks at the edge: what is checked, how requests are served, the routes."""

from __future__ import annotations

from typing import Any

from coordinator.api.http import Routes
from coordinator.api.registry import Change, DomainApi, Live, Query, View
from coordinator.api.tickets import TicketApi, admit_ticket, check_session, name_ticket
from coordinator.domains.locks import model
from coordinator.domains.locks.commands import DOMAIN
from coordinator_sdk import errors
from coordinator_sdk.errors import InvalidRequest
from coordinator_sdk.protocol.locks import (
    LockAcquire,
    LockCancel,
    LockForceRelease,
    LockGet,
    LockInfo,
    LockList,
    LockListResult,
    LockRelease,
    LockReleaseResult,
    LockTicket,
)
from coordinator_sdk.protocol.tickets import TicketState


def _check_release(request: LockRelease) -> None:
    check_session(request)
    if not request.token:
        raise InvalidRequest("token: must be the fencing token of the grant", field="token")


def _get(view: View, request: LockGet) -> LockInfo:
    return model.lock_view(view, request.namespace, request.name)


def _list(view: View, request: LockList) -> LockListResult:
    return LockListResult(model.locks_view(view, request.namespace, request.prefix))


TICKETS = TicketApi(model.QUEUES)
OPERATIONS: dict[type[Any], Change | Query | Live] = {
    LockAcquire: Change(check_session, name_ticket, TICKETS.follow_wait, admit_ticket),
    LockRelease: Change(_check_release),
    LockCancel: Change(),
    LockForceRelease: Change(),
    LockTicket: Live(TICKETS.serve, fresh=True),
    LockGet: Query(_get, ranges=TICKETS.ranges_of_one),
    LockList: Query(_list, ranges=TICKETS.ranges_of_all),
}


def _routes() -> Routes:
    made = Routes("Locks")
    made.add(
        "POST",
        "/locks/{name:path}/acquire",
        LockAcquire,
        TicketState,
        summary="Take a lock or join its queue",
        exclude=("follow",),
        raises=(errors.SessionNotFound, errors.WouldDeadlock, errors.AlreadyExists),
        example={"session": "0000000000000a1b", "owner": "worker-1", "timeout_ms": 5000},
        descriptions={
            "ticket": "Asking again with the same ticket tells its state. Left out, one is made.",
            "timeout_ms": "Left out waits for ever, 0 does not wait.",
        },
    )
    made.add(
        "POST",
        "/locks/{name:path}/release",
        LockRelease,
        LockReleaseResult,
        summary="Give a lock back",
        raises=(errors.NotHeld,),
        example={"session": "0000000000000a1b", "owner": "worker-1", "token": 42},
    )
    made.add(
        "POST",
        "/locks/{name:path}/cancel",
        LockCancel,
        LockReleaseResult,
        summary="Withdraw a ticket",
        example={"ticket": "3f2a.7"},
    )
    made.add(
        "POST",
        "/locks/{name:path}/force-release",
        LockForceRelease,
        LockReleaseResult,
        summary="Take a lock from its holder",
        raises=(errors.NotFound, errors.NotHeld),
        example={"reason": "holder is stuck", "token": 42},
    )
    made.add(
        "GET",
        "/locks/{name:path}/tickets/{ticket}",
        LockTicket,
        TicketState,
        summary="Read the state of a ticket",
        exclude=("follow",),
    )
    past = (errors.Compacted, errors.FutureRevision)
    made.add("GET", "/locks", LockList, LockListResult, summary="List the held locks", raises=past)
    made.add(
        "GET",
        "/locks/{name:path}",
        LockGet,
        LockInfo,
        summary="Read a lock: holder and queue",
        raises=past,
    )
    return made


API = DomainApi(DOMAIN, OPERATIONS, _routes().router)
