"""Locks as clients use them: operations, followed tickets, routes."""

from __future__ import annotations

from typing import Any

import pytest

from coordinator.api.limits import Limits
from coordinator.domains.locks import model
from coordinator_sdk.errors import Exhausted, InvalidRequest, NoLeader
from coordinator_sdk.protocol.locks import (
    LockAcquire,
    LockCancel,
    LockForceRelease,
    LockGet,
    LockList,
    LockRelease,
    LockTicket,
)
from coordinator_sdk.protocol.tickets import TicketState
from tests.domains.small_node import TestedConnection, turns

NS, NAME = "default", "backup"


def acquire(connection: TestedConnection, session: int, **fields: Any) -> int:
    body = LockAcquire(NS, NAME, session, f"o{session}", follow=True)
    for name, value in fields.items():
        setattr(body, name, value)
    return connection.send_request(body)


def state(connection: TestedConnection, id: int) -> TicketState:
    found: TicketState = connection.answers[id][1]
    return found


def states(connection: TestedConnection, id: int) -> list[tuple[str, str]]:
    """The followed states of a ticket, with their reasons."""
    return [(item.state, item.reason) for item in connection.items(id, TicketState)]


async def test_a_ticket_is_named_after_its_request(small):
    """A WebSocket client's ticket is its client id and the id of the request."""
    connection = small.connect()
    first = acquire(connection, 1)
    assert state(connection, first).ticket == f"{connection.caller.client:x}.{first:x}"
    assert state(connection, acquire(connection, 2, ticket="mine")).ticket == "mine"


async def test_a_follower_hears_of_its_grant_after_the_answer(small):
    """A waiter that follows gets the answer, then its grant with the token, and no more."""
    holder, waiter = small.connect(), small.connect()
    token = state(holder, acquire(holder, 1)).token
    assert holder.streams == {}, "a grant at once is no stream"
    id = acquire(waiter, 2)
    assert state(waiter, id).position == 1
    await turns()
    assert waiter.items(id, TicketState) == []
    holder.ask(LockRelease(NS, NAME, 1, "o1", token))
    (granted,) = waiter.items(id, TicketState)
    assert (granted.state, granted.token) == ("granted", small.node.revision)
    assert waiter.order == [("answer", id), ("item", id)]
    assert waiter.streams == {}
    assert len(small.node.hub) == 0


async def test_only_the_one_that_is_granted_is_woken(small):
    """Of many waiters only the next one is told of a release."""
    holder = small.connect()
    token = state(holder, acquire(holder, 1)).token
    waiters = [small.connect() for _ in range(10)]
    for number, waiter in enumerate(waiters):
        acquire(waiter, 2, owner=f"w{number}")
    holder.ask(LockRelease(NS, NAME, 1, "o1", token))
    assert [len(waiter.raw) for waiter in waiters] == [1] + [0] * 9


async def test_a_follower_hears_how_its_wait_ended(small):
    """Cancelled, out of time or without a session: the last item says so."""
    holder, waiter = small.connect(), small.connect()
    acquire(holder, 1)
    cancelled = acquire(waiter, 2)
    expired = acquire(waiter, 2, owner="late", timeout_ms=50)
    orphaned = acquire(waiter, 3)
    waiter.ask(LockCancel(NS, NAME, state(waiter, cancelled).ticket))
    (timer,) = [key for key in small.node.machine.timers.records if b"waiter" in key]
    small.node.run_timer(timer)
    small.node.end_session(3)
    assert states(waiter, cancelled) == [("cancelled", "cancelled")]
    assert states(waiter, expired) == [("expired", "timeout")]
    assert states(waiter, orphaned) == [("expired", "the session has ended")]
    assert waiter.streams == {}
    assert len(small.node.hub) == 0


async def test_what_cannot_be_followed_is_not_queued(small):
    """An acquisition that wants a stream beyond the limit is refused before anything changes."""
    holder, waiter = small.connect(), small.connect()
    waiter.limits = Limits(streams_per_connection=1)
    acquire(holder, 1)
    acquire(waiter, 2)
    revision = small.node.revision
    refused = acquire(waiter, 2, owner="more")
    assert isinstance(waiter.failures[refused], Exhausted)
    assert small.node.revision == revision


async def test_a_ticket_outlives_its_connection(small):
    """After a disconnect the ticket waits on; the same ticket on a new connection follows it."""
    holder, waiter = small.connect(), small.connect()
    token = state(holder, acquire(holder, 1)).token
    acquire(waiter, 2, ticket="mine")
    waiter.end()
    assert len(small.node.hub) == 0
    again = small.connect()
    id = acquire(again, 2, ticket="mine")
    assert state(again, id).state == "queued"
    holder.ask(LockRelease(NS, NAME, 1, "o1", token))
    assert states(again, id) == [("granted", "")]


async def test_a_retry_whose_first_answer_is_old_hears_of_the_grant(small):
    """A retried request gets its first outcome, and then the grant that came since."""
    holder, waiter = small.connect(), small.connect()
    token = state(holder, acquire(holder, 1)).token
    id = acquire(waiter, 2)
    waiter.end()
    holder.ask(LockRelease(NS, NAME, 1, "o1", token))
    again = TestedConnection(small.node, small.dispatcher.table, waiter.caller.client)
    body = LockAcquire(NS, NAME, 2, "o2", follow=True)
    again.send_request(body, id)
    assert state(again, id).state == "queued"
    await turns()
    assert states(again, id) == [("granted", "")]
    assert again.order == [("answer", id), ("item", id)]


async def test_a_retry_of_a_wait_that_has_ended_hears_so(small):
    """A retried request whose ticket has been cancelled since gets that as its next state."""
    holder, waiter = small.connect(), small.connect()
    acquire(holder, 1)
    id = acquire(waiter, 2)
    ticket = state(waiter, id).ticket
    waiter.end()
    holder.ask(LockCancel(NS, NAME, ticket))
    again = TestedConnection(small.node, small.dispatcher.table, waiter.caller.client)
    again.send_request(LockAcquire(NS, NAME, 2, "o2", follow=True), id)
    await turns()
    assert states(again, id) == [("cancelled", "cancelled")]
    assert again.streams == {}


async def test_a_holder_that_follows_hears_of_a_forced_release(small):
    """Following a granted ticket tells at once that an operator took the lock, and why."""
    holder, operator = small.connect(), small.connect()
    ticket = state(holder, acquire(holder, 1)).ticket
    id = holder.send_request(LockTicket(NS, NAME, ticket, follow=True))
    assert state(holder, id).state == "granted"
    acquire(operator, 2)
    assert states(holder, id) == []
    operator.ask(LockForceRelease(NS, NAME, "stuck"))
    assert states(holder, id) == [("released", "stuck")]
    assert holder.streams == {}


async def test_a_followed_ticket_is_told_from_the_queue_to_its_end(small):
    """Following a waiting ticket tells its grant and then its end."""
    holder, waiter = small.connect(), small.connect()
    token = state(holder, acquire(holder, 1)).token
    acquire(waiter, 2, ticket="mine", follow=False)
    id = waiter.send_request(LockTicket(NS, NAME, "mine", follow=True))
    assert (state(waiter, id).state, state(waiter, id).position) == ("queued", 1)
    holder.ask(LockRelease(NS, NAME, 1, "o1", token))
    small.node.end_session(2)
    assert states(waiter, id) == [("granted", ""), ("released", "the session has ended")]
    assert len(small.node.hub) == 0


async def test_a_cancelled_stream_leaves_the_ticket(small):
    """Ending the stream ends no ticket."""
    holder, waiter = small.connect(), small.connect()
    acquire(holder, 1)
    id = acquire(waiter, 2)
    waiter.cancel_stream(id)
    assert len(small.node.hub) == 0
    assert waiter.ask(LockTicket(NS, NAME, state(waiter, id).ticket)).state == "queued"


async def test_the_past_of_a_lock_is_readable(small):
    """A lock and the list of locks can be read as they were at a past revision."""
    connection = small.connect()
    token = state(connection, acquire(connection, 1)).token
    acquire(connection, 2)
    then = small.node.revision
    connection.ask(LockRelease(NS, NAME, 1, "o1", token))
    for body in (LockGet(NS, NAME, then), LockList(NS, "", then)):
        id = connection.send_request(body)
        await turns()
        answer = connection.answers[id][1]
        lock = answer.locks[0] if isinstance(body, LockList) else answer
        assert (lock.holder.session, lock.waiting) == (1, 1)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (LockAcquire(NS, NAME, 0, "o"), "session"),
        (LockAcquire(NS, NAME, 1, ""), "owner"),
        (LockAcquire(NS, "", 1, "o"), "name"),
        (LockAcquire("", NAME, 1, "o"), "namespace"),
        (LockAcquire(NS, "x" * 300, 1, "o"), "name"),
        (LockAcquire(NS, NAME, 1, "o", timeout_ms=-1), "timeout_ms"),
        (LockAcquire(NS, NAME, 1, "o", ticket="a\nb"), "ticket"),
        (LockRelease(NS, NAME, 0, "o", 1), "session"),
        (LockRelease(NS, NAME, 1, "o", 0), "token"),
        (LockTicket(NS, NAME, ""), "ticket"),
        (LockForceRelease(NS, NAME, "x" * 5000), "reason"),
    ],
)
async def test_a_wrong_request_is_refused_before_the_log(small, body, field):
    """A request that can never be right names its field and leaves no entry."""
    connection = small.connect()
    before = small.node.machine.index
    with pytest.raises(InvalidRequest) as refused:
        connection.ask(body)
    assert refused.value.details["field"] == field
    assert small.node.machine.index == before


async def test_a_member_that_cannot_read_says_so(small):
    """Without a leader a ticket is not told, and the stream is not opened."""
    connection = small.connect()
    small.node.refusal = NoLeader("nobody leads")
    with pytest.raises(NoLeader):
        connection.ask(LockTicket(NS, NAME, "t", follow=True))
    assert connection.streams == {}


async def test_every_operation_has_its_route(small):
    """Over HTTP a lock is taken, awaited, shown, cancelled, released and broken."""
    async with small.http() as http:
        path = f"/v1/locks/db/{NAME}"
        body = {"session": f"{1:016x}", "owner": "o"}
        taken = (await http.post(f"{path}/acquire", json=body)).json()
        assert taken["state"] == "granted"
        waiting = await http.post(f"{path}/acquire", json={**body, "session": f"{2:016x}"})
        ticket = waiting.json()["ticket"]
        assert (await http.get(f"{path}/tickets/{ticket}")).json()["position"] == 1
        shown = (await http.get(path)).json()
        assert shown["holder"]["token"] == taken["token"]
        assert [one["ticket"] for one in shown["queue"]] == [ticket]
        listed = (await http.get("/v1/locks", params={"prefix": "db/"})).json()
        assert [one["name"] for one in listed["locks"]] == [f"db/{NAME}"]
        assert (await http.post(f"{path}/cancel", json={"ticket": ticket})).json()["released"]
        stale = await http.post(f"{path}/release", json={**body, "token": taken["token"] + 1})
        assert (stale.status_code, stale.json()["error"]["code"]) == (409, "not_held")
        done = await http.post(f"{path}/release", json={**body, "token": taken["token"]})
        assert done.json()["released"]
        nobody = await http.post(f"{path}/force-release", json={"reason": "stuck"})
        assert nobody.status_code == 404
    assert small.node.get(model.holder_key(NS, NAME)) is None
