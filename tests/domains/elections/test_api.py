"""Elections as clients use them: operations, observers, followed candidacies, routes."""

from __future__ import annotations

from typing import Any

import pytest

from coordinator.api.limits import Limits
from coordinator_sdk.errors import Compacted, Exhausted, FutureRevision, InvalidRequest
from coordinator_sdk.protocol.elections import (
    ElectionCampaign,
    ElectionCancel,
    ElectionChange,
    ElectionGet,
    ElectionList,
    ElectionObserve,
    ElectionProclaim,
    ElectionResign,
    ElectionTicket,
)
from coordinator_sdk.protocol.tickets import TicketState
from tests.domains.small_node import TestedConnection, turns

NS, NAME = "default", "scheduler"


def campaign(connection: TestedConnection, session: int, value: bytes = b"") -> int:
    return connection.send_request(
        ElectionCampaign(NS, NAME, session, f"o{session}", value, follow=True)
    )


def token(connection: TestedConnection, id: int) -> int:
    found: int = connection.answers[id][1].token
    return found


def seen(connection: TestedConnection, id: int) -> list[tuple[str, Any]]:
    changes = connection.items(id, ElectionChange)
    return [(change.kind, change.leader.value if change.leader else None) for change in changes]


async def test_what_cannot_be_followed_is_no_candidacy(small):
    """A candidacy that wants a stream beyond the limit is refused before anything changes."""
    leader, candidate = small.connect(), small.connect()
    candidate.limits = Limits(streams_per_connection=0)
    campaign(leader, 1)
    revision = small.node.revision
    refused = campaign(candidate, 2)
    assert isinstance(candidate.failures[refused], Exhausted)
    assert small.node.revision == revision


async def test_a_candidate_hears_that_it_leads(small):
    """A candidate that follows gets the answer, then its election."""
    leader, candidate = small.connect(), small.connect()
    first = campaign(leader, 1)
    id = campaign(candidate, 2)
    leader.ask(ElectionResign(NS, NAME, 1, "o1", token(leader, first)))
    (elected,) = candidate.items(id, TicketState)
    assert (elected.state, elected.token) == ("granted", small.node.revision)
    follow = candidate.send_request(ElectionTicket(NS, NAME, elected.ticket, follow=True))
    candidate.ask(ElectionCancel(NS, NAME, elected.ticket))
    assert [item.state for item in candidate.items(follow, TicketState)] == ["released"]


async def test_an_observer_sees_every_change(small):
    """An observer gets the state, then each change of leadership once, in order."""
    leader, other, observer = small.connect(), small.connect(), small.connect()
    id = observer.send_request(ElectionObserve(NS, NAME))
    assert observer.answers[id][1] is None
    first = token(leader, campaign(leader, 1, b"a"))
    leader.ask(ElectionProclaim(NS, NAME, 1, "o1", first, b"b"))
    campaign(other, 2, b"c")
    leader.ask(ElectionResign(NS, NAME, 1, "o1", first))
    small.node.end_session(2)
    assert seen(observer, id) == [
        ("vacant", None),
        ("elected", b"a"),
        ("proclaimed", b"b"),
        ("elected", b"c"),
        ("vacant", None),
    ]
    observer.cancel_stream(id)
    assert len(small.node.hub) == 0


async def test_an_observer_resumes_behind_a_revision(small):
    """An observer that names the last revision it has seen gets what came after it."""
    leader, observer = small.connect(), small.connect()
    first = token(leader, campaign(leader, 1, b"a"))
    leader.ask(ElectionProclaim(NS, NAME, 1, "o1", first, b"b"))
    leader.ask(ElectionResign(NS, NAME, 1, "o1", first))
    id = observer.send_request(ElectionObserve(NS, NAME, start_revision=first))
    assert seen(observer, id) == [("proclaimed", b"b"), ("vacant", None)]
    now = observer.send_request(ElectionObserve(NS, NAME, start_revision=small.node.revision))
    assert observer.raw.get(now) is None
    campaign(leader, 1, b"c")
    assert seen(observer, now) == [("elected", b"c")]


async def test_an_observer_without_credit_gets_its_changes_later(small):
    """Credit counts items; what came without credit comes when there is some, one by one."""
    leader, observer = small.connect(), small.connect()
    id = observer.send_request(ElectionObserve(NS, NAME, credit=2))
    first = token(leader, campaign(leader, 1, b"0"))
    for number in range(5):
        leader.ask(ElectionProclaim(NS, NAME, 1, "o1", first, b"%d" % number))
    assert seen(observer, id) == [("vacant", None), ("elected", b"0")]
    assert len(small.node.hub) == 0, "without credit nothing is watched"
    observer.give_credit(id, 3)
    assert [value for _, value in seen(observer, id)[2:]] == [b"0", b"1", b"2"]
    observer.give_credit(id, 10)
    leader.ask(ElectionProclaim(NS, NAME, 1, "o1", first, b"x"))
    assert [value for _, value in seen(observer, id)[5:]] == [b"3", b"4", b"x"]


async def test_a_slow_observer_loses_nothing(small):
    """While its connection is full an observer gets nothing, and afterwards everything."""
    leader, observer = small.connect(), small.connect()
    id = observer.send_request(ElectionObserve(NS, NAME))
    observer.set_full(True)
    first = token(leader, campaign(leader, 1, b"a"))
    leader.ask(ElectionProclaim(NS, NAME, 1, "o1", first, b"b"))
    assert len(seen(observer, id)) == 1
    observer.set_full(False)
    assert seen(observer, id)[1:] == [("elected", b"a"), ("proclaimed", b"b")]


async def test_an_observer_is_told_that_history_is_gone(small):
    """An observer whose next change is compacted ends with an error that says so."""
    leader, observer = small.connect(), small.connect()
    id = observer.send_request(ElectionObserve(NS, NAME, credit=1))
    first = token(leader, campaign(leader, 1, b"a"))
    for number in range(5):
        leader.ask(ElectionProclaim(NS, NAME, 1, "o1", first, b"%d" % number))
    small.node.compact()
    observer.give_credit(id, 5)
    error = observer.failures[id]
    assert isinstance(error, Compacted)
    assert error.details["compact_revision"] == small.node.revision
    assert observer.streams == {}
    late = observer.send_request(ElectionObserve(NS, NAME, start_revision=2))
    assert isinstance(observer.failures[late], Compacted)


async def test_the_future_cannot_be_resumed(small):
    """A revision that is still to come is refused."""
    with pytest.raises(FutureRevision):
        small.connect().ask(ElectionObserve(NS, NAME, start_revision=10_000))


async def test_the_past_of_an_election_is_readable(small):
    """An election and the list of elections can be read as they were at a past revision."""
    connection = small.connect()
    first = token(connection, campaign(connection, 1, b"a"))
    campaign(connection, 2)
    then = small.node.revision
    connection.ask(ElectionResign(NS, NAME, 1, "o1", first))
    for body in (ElectionGet(NS, NAME, then), ElectionList(NS, "", then)):
        id = connection.send_request(body)
        await turns()
        answer = connection.answers[id][1]
        election = answer.elections[0] if isinstance(body, ElectionList) else answer
        assert (election.leader.value, election.waiting) == (b"a", 1)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (ElectionCampaign(NS, NAME, 0, "o"), "session"),
        (ElectionCampaign(NS, NAME, 1, "o", b"x" * 70_000), "value"),
        (ElectionProclaim(NS, NAME, 0, "o", 1, b""), "session"),
        (ElectionProclaim(NS, NAME, 1, "o", 0, b""), "token"),
        (ElectionProclaim(NS, NAME, 1, "o", 1, b"x" * 70_000), "value"),
        (ElectionResign(NS, NAME, 1, "o", 0), "token"),
        (ElectionObserve(NS, ""), "name"),
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


async def test_every_operation_has_its_route(small):
    """Over HTTP a candidate campaigns, proclaims, is shown and resigns."""
    async with small.http() as http:
        path = f"/v1/elections/jobs/{NAME}"
        body = {"session": f"{1:016x}", "owner": "o"}
        elected = (await http.post(f"{path}/campaign", json={**body, "value": "a"})).json()
        assert elected["state"] == "granted"
        other = {"session": f"{2:016x}", "owner": "o", "value": "b"}
        waiting = (await http.post(f"{path}/campaign", json=other)).json()
        ticket = await http.get(f"{path}/tickets/{waiting['ticket']}")
        assert ticket.json()["state"] == "queued"
        term = {**body, "token": elected["token"]}
        await http.post(f"{path}/proclaim", json={**term, "value": "c"})
        shown = (await http.get(path)).json()
        assert (shown["leader"]["value"], shown["waiting"]) == ("c", 1)
        listed = (await http.get("/v1/elections")).json()
        assert [one["name"] for one in listed["elections"]] == [f"jobs/{NAME}"]
        cancelled = await http.post(f"{path}/cancel", json={"ticket": waiting["ticket"]})
        assert cancelled.json()["done"]
        assert (await http.post(f"{path}/resign", json=term)).json()["done"]
        stale = await http.post(f"{path}/resign", json=term)
        assert stale.status_code == 409


async def test_a_stream_over_http_is_refused_like_any_request(small):
    """The observer's route answers with an error as long as no stream stands."""
    async with small.http() as http:
        path = f"/v1/elections/jobs/{NAME}/observe"
        refused = await http.get(path, params={"start_revision": 10_000})
        assert refused.status_code == 400
        assert refused.json()["error"]["code"] == "future_revision"
