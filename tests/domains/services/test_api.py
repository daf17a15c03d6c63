"""Services as clients use them: operations, watches, routes."""

from __future__ import annotations

from typing import Any

import pytest

from coordinator_sdk.errors import Compacted, FutureRevision, InvalidRequest
from coordinator_sdk.protocol.services import (
    ServiceChange,
    ServiceDeregister,
    ServiceDiscover,
    ServiceList,
    ServiceRegister,
    ServiceSetStatus,
    ServiceSnapshot,
    ServiceWatch,
)
from tests.domains.small_node import TestedConnection, turns

NS = "default"


def register(connection: TestedConnection, instance: str = "", **fields: Any) -> str:
    body = ServiceRegister(NS, "orders", 1, instance, **fields)
    made: str = connection.ask(body).instance
    return made


def items(connection: TestedConnection, id: int) -> list[Any]:
    return connection.items(id, ServiceSnapshot | ServiceChange)


def told(connection: TestedConnection, id: int) -> list[tuple[list[str], list[str]]]:
    """The changes after the snapshot: who came or changed, and who went."""
    return [
        ([i.instance for i in item.changed], [i.instance for i in item.removed])
        for item in items(connection, id)
        if isinstance(item, ServiceChange)
    ]


async def test_an_instance_gets_an_id_that_a_retry_repeats(small):
    """Without an id the server makes one, from the client and the request."""
    connection = small.connect()
    id = connection.send_request(ServiceRegister(NS, "orders", 1))
    name = connection.answers[id][1].instance
    assert len(name) == 16
    again = TestedConnection(small.node, small.dispatcher.table, connection.caller.client)
    again.send_request(ServiceRegister(NS, "orders", 1), id)
    assert again.answers[id][1].instance == name
    assert register(connection) != name


async def test_a_watch_begins_with_all_and_goes_on_with_changes(small):
    """The first item is a snapshot, then each revision that changes something is an item."""
    connection, watcher = small.connect(), small.connect()
    register(connection, "a")
    id = watcher.send_request(ServiceWatch(NS, "orders"))
    (snapshot,) = items(watcher, id)
    assert [i.instance for i in snapshot.instances] == ["a"]
    register(connection, "b")
    connection.ask(ServiceSetStatus(NS, "orders", "a", "draining"))
    connection.ask(ServiceRegister(NS, "other", 1, "x"))
    connection.ask(ServiceDeregister(NS, "orders", "a"))
    assert told(watcher, id) == [(["b"], []), (["a"], []), ([], ["a"])]
    assert items(watcher, id)[-1].removed[0].status == "draining"


async def test_the_end_of_a_session_is_one_change(small):
    """All instances of a session that ends go in one item."""
    connection, watcher = small.connect(), small.connect()
    for name in "abc":
        register(connection, name)
    id = watcher.send_request(ServiceWatch(NS))
    small.node.end_session(1)
    assert told(watcher, id) == [([], ["a", "b", "c"])]
    assert items(watcher, id)[-1].revision == small.node.revision


async def test_a_watch_of_all_services_sees_them_all(small):
    """Without a service the whole namespace is watched, and no other namespace."""
    connection, watcher = small.connect(), small.connect()
    id = watcher.send_request(ServiceWatch(NS))
    connection.ask(ServiceRegister(NS, "other", 1, "x"))
    connection.ask(ServiceRegister("elsewhere", "orders", 1, "y"))
    register(connection, "a")
    assert told(watcher, id) == [(["x"], []), (["a"], [])]


async def test_a_watch_resumes_behind_a_revision(small):
    """A watch that names the last revision it has seen gets the changes after it."""
    connection, watcher = small.connect(), small.connect()
    register(connection, "a")
    then = small.node.revision
    register(connection, "b")
    connection.ask(ServiceDeregister(NS, "orders", "a"))
    id = watcher.send_request(ServiceWatch(NS, "orders", then))
    assert told(watcher, id) == [(["b"], []), ([], ["a"])]
    assert len(items(watcher, id)) == 2


async def test_a_watch_sends_no_more_than_it_has_credit_for(small):
    """Credit counts items, the snapshot included."""
    connection, watcher = small.connect(), small.connect()
    id = watcher.send_request(ServiceWatch(NS, "orders", credit=1))
    for name in "abc":
        register(connection, name)
    assert told(watcher, id) == []
    watcher.give_credit(id, 2)
    assert told(watcher, id) == [(["a"], []), (["b"], [])]
    watcher.give_credit(id, 5)
    register(connection, "d")
    assert told(watcher, id)[2:] == [(["c"], []), (["d"], [])]
    unlimited = watcher.send_request(ServiceWatch(NS))
    watcher.give_credit(unlimited, 5)
    watcher.cancel_stream(id)
    watcher.cancel_stream(unlimited)
    assert len(small.node.hub) == 0


async def test_a_watch_is_told_that_history_is_gone(small):
    """A watch whose next change is compacted ends with an error that says so."""
    connection, watcher = small.connect(), small.connect()
    id = watcher.send_request(ServiceWatch(NS, "orders", credit=1))
    for name in "abc":
        register(connection, name)
    small.node.compact()
    watcher.give_credit(id, 5)
    assert isinstance(watcher.failures[id], Compacted)
    with pytest.raises(FutureRevision):
        watcher.ask(ServiceWatch(NS, "orders", 10_000))


async def test_a_watch_ends_with_its_connection(small):
    """The hub forgets the watches of a connection that is gone."""
    watcher = small.connect()
    watcher.send_request(ServiceWatch(NS))
    watcher.end()
    assert len(small.node.hub) == 0


async def test_the_past_is_readable(small):
    """Discovery and the list of services can be read as of a past revision."""
    connection = small.connect()
    register(connection, "a")
    then = small.node.revision
    connection.ask(ServiceDeregister(NS, "orders", "a"))
    discover = connection.send_request(ServiceDiscover(NS, "orders", revision=then))
    listed = connection.send_request(ServiceList(NS, revision=then))
    await turns()
    assert [i.instance for i in connection.answers[discover][1].instances] == ["a"]
    assert [s.service for s in connection.answers[listed][1].services] == ["orders"]
    assert connection.ask(ServiceDiscover(NS, "orders")).instances == []


def changed(**fields: Any) -> ServiceRegister:
    body = ServiceRegister(NS, "orders", 1)
    for name, value in fields.items():
        setattr(body, name, value)
    return body


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (changed(session=0), "session"),
        (changed(port=65_536), "port"),
        (changed(port=-1), "port"),
        (changed(weight=65_536), "weight"),
        (changed(address="x" * 300), "address"),
        (changed(address="a\x00"), "address"),
        (changed(zone="\n"), "zone"),
        (changed(version="x" * 300), "version"),
        (changed(tags=["t"] * 65), "tags"),
        (changed(tags=["a", ""]), "tags[1]"),
        (changed(tags=["!a"]), "tags[0]"),
        (changed(metadata={str(n): "" for n in range(65)}), "metadata"),
        (changed(metadata={"k": "x" * 1025}), "metadata.k"),
        (changed(status="fine"), "status"),
        (changed(service=""), "service"),
        (ServiceSetStatus(NS, "orders", "a", "fine"), "status"),
        (ServiceDiscover(NS, "orders", version=">=x"), "version"),
        (ServiceDiscover(NS, "orders", statuses=["passing", "fine"]), "statuses[1]"),
        (ServiceDiscover(NS, ""), "service"),
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
    """Over HTTP an instance is registered, found by filters, given a status and removed."""
    async with small.http() as http:
        path = "/v1/services/shop/orders/instances"
        body = {
            "session": f"{1:016x}",
            "instance": "a",
            "port": 80,
            "tags": ["blue"],
            "metadata": {"k": "v"},
            "version": "2.1",
        }
        made = (await http.post(path, json=body)).json()
        assert (made["instance"], made["created"]) == ("a", True)
        query = {"tags": ["blue", "!green"], "metadata": "k=v", "version": ">=2,<3"}
        found = (await http.get(path, params=query)).json()["instances"]
        assert [(one["instance"], one["session"]) for one in found] == [("a", f"{1:016x}")]
        none = await http.get(path, params={"version": "<2"})
        assert none.json()["instances"] == []
        status = await http.put(f"{path}/a/status", json={"status": "maintenance"})
        assert status.json()["changed"]
        listed = (await http.get("/v1/services", params={"prefix": "shop/"})).json()
        assert listed["services"][0]["statuses"] == {"maintenance": 1}
        assert (await http.delete(f"{path}/a")).json()["changed"]
        gone = await http.put(f"{path}/a/status", json={"status": "passing"})
        assert (gone.status_code, gone.json()["error"]["code"]) == (404, "not_found")
        wrong = await http.post(path, json={**body, "port": 70_000})
        assert wrong.status_code == 400
        assert wrong.json()["error"]["details"]["field"] == "port"
