"""Service instances as the state machine applies them, on a machine in miniature."""

from __future__ import annotations

from typing import Any

import pytest

from coordinator.domains.services import model
from coordinator.domains.services.commands import DOMAIN
from coordinator_sdk.errors import NotFound, SessionNotFound
from coordinator_sdk.protocol.services import (
    Instance,
    ServiceDeregister,
    ServiceDiscover,
    ServiceRegister,
    ServiceRegisterResult,
    ServiceSetStatus,
)
from tests.domains.fake_txn import FakeMachine

NS = "default"


@pytest.fixture
def machine() -> FakeMachine:
    made = FakeMachine(DOMAIN)
    made.open_session(1)
    made.open_session(2)
    return made


def register(machine: FakeMachine, session: int = 1, **fields: Any) -> ServiceRegisterResult:
    command = ServiceRegister(NS, "orders", session, "i1", **fields)
    result: ServiceRegisterResult = machine.apply(command)
    return result


def instances(machine: FakeMachine) -> list[Instance]:
    return model.discover(machine, ServiceDiscover(NS, "orders", statuses=["*"]))


def test_an_instance_is_registered_with_all_it_said(machine):
    """A registered instance is found with every field, its session and its revision."""
    result = register(
        machine, address="10.0.0.5", port=80, tags=["a"], metadata={"k": "v"}, zone="z", weight=3
    )
    assert result == ServiceRegisterResult(machine.published, "i1", created=True)
    (found,) = instances(machine)
    assert found == Instance(
        NS,
        "orders",
        "i1",
        1,
        "10.0.0.5",
        80,
        ["a"],
        {"k": "v"},
        "z",
        "",
        3,
        registered_ms=1_000_000,
        revision=machine.published,
    )


def test_registering_again_replaces_and_keeps_the_time(machine):
    """A second registration replaces the first; when it first registered stays."""
    register(machine, port=80)
    machine.meta.clock_ms += 5
    again = register(machine, port=81)
    assert not again.created
    (found,) = instances(machine)
    assert (found.port, found.registered_ms, found.revision) == (81, 1_000_000, again.revision)


def test_registering_the_same_again_writes_nothing(machine):
    """A registration that changes nothing makes no revision."""
    first = register(machine, port=80)
    machine.meta.clock_ms += 5
    again = register(machine, port=80)
    assert (again.revision, again.created) == (first.revision, False)
    assert machine.published == first.revision


def test_another_session_takes_an_instance_over(machine):
    """After a take-over the instance lives and dies with the new session."""
    register(machine, session=1)
    assert not register(machine, session=2).created
    machine.end_session(1)
    (found,) = instances(machine)
    assert found.session == 2
    machine.end_session(2)
    assert instances(machine) == []


def test_an_instance_needs_a_live_session(machine):
    """A session that has ended registers nothing."""
    with pytest.raises(SessionNotFound):
        register(machine, session=9)


def test_deregistering_twice_is_no_fault(machine):
    """Deregistering removes an instance; without one it changes nothing and says so."""
    register(machine)
    assert machine.apply(ServiceDeregister(NS, "orders", "i1")).changed
    before = machine.published
    again = machine.apply(ServiceDeregister(NS, "orders", "i1"))
    assert (again.changed, again.revision) == (False, before)


def test_a_status_carries_a_reason_and_keeps_the_session(machine):
    """A status is set with its reason; the instance still goes with its session."""
    register(machine)
    machine.apply(ServiceSetStatus(NS, "orders", "i1", "critical", "disk full"))
    (found,) = instances(machine)
    assert (found.status, found.status_reason, found.session) == ("critical", "disk full", 1)
    before = machine.published
    assert not machine.apply(ServiceSetStatus(NS, "orders", "i1", "critical", "disk full")).changed
    assert machine.published == before
    machine.end_session(1)
    assert instances(machine) == []
    with pytest.raises(NotFound):
        machine.apply(ServiceSetStatus(NS, "orders", "i1", "passing"))


@pytest.mark.parametrize(
    ("status", "kept"), [("maintenance", True), ("critical", False), ("draining", False)]
)
def test_only_maintenance_survives_a_registration(machine, status, kept):
    """An instance in maintenance stays there when it registers again; other statuses do not."""
    register(machine)
    machine.apply(ServiceSetStatus(NS, "orders", "i1", status, "why"))
    register(machine, port=2)
    (found,) = instances(machine)
    assert (found.status, found.status_reason) == ((status, "why") if kept else ("passing", ""))
