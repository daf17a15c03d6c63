"""Elections as the API shows them, and the changes that observers see."""

from __future__ import annotations

import pytest

from coordinator.domains.elections import model
from coordinator.domains.elections.commands import DOMAIN
from coordinator_sdk.protocol.elections import (
    ElectionCampaign,
    ElectionChange,
    ElectionProclaim,
    ElectionResign,
)
from tests.domains.fake_txn import FakeMachine

NS, NAME = "default", "scheduler"


@pytest.fixture
def machine() -> FakeMachine:
    made = FakeMachine(DOMAIN)
    for session in (1, 2):
        made.open_session(session)
    return made


def changes(machine: FakeMachine) -> list[ElectionChange]:
    key = model.leader_key(NS, NAME)
    found = [
        (revision, [event for event in events if event.kv.key == key])
        for revision, events in machine.log.items()
    ]
    return [model.change(revision, events) for revision, events in found if events]


def test_every_change_of_leadership_is_one_change(machine):
    """Elected, proclaimed, elected and vacant follow; a succession is a single change."""
    token = machine.apply(ElectionCampaign(NS, NAME, 1, "o", b"a", "t1")).token
    machine.apply(ElectionProclaim(NS, NAME, 1, "o", token, b"b"))
    machine.apply(ElectionCampaign(NS, NAME, 2, "o", b"c", "t2"))
    machine.apply(ElectionResign(NS, NAME, 1, "o", token))
    machine.end_session(2)
    seen = [(c.kind, c.leader.value if c.leader else None) for c in changes(machine)]
    assert seen == [("elected", b"a"), ("proclaimed", b"b"), ("elected", b"c"), ("vacant", None)]
    tokens = [c.leader.token for c in changes(machine) if c.leader]
    assert tokens[0] == tokens[1] < tokens[2]


def test_an_observer_begins_with_the_state(machine):
    """The state that an observer begins with is vacant, elected or proclaimed."""
    assert model.state_change(machine, 5, NS, NAME) == ElectionChange(5, "vacant")
    token = machine.apply(ElectionCampaign(NS, NAME, 1, "o", b"a", "t1")).token
    assert model.state_change(machine, 6, NS, NAME).kind == "elected"
    machine.apply(ElectionProclaim(NS, NAME, 1, "o", token, b"b"))
    change = model.state_change(machine, 7, NS, NAME)
    assert (change.kind, change.revision) == ("proclaimed", 7)


def test_the_list_has_the_elections_with_a_leader(machine):
    """The list gives the elections of a prefix that have a leader, and how many stand."""
    machine.apply(ElectionCampaign(NS, "a/x", 1, "o", b"", "t1"))
    machine.apply(ElectionCampaign(NS, "a/x", 2, "o", b"", "t2"))
    machine.apply(ElectionCampaign(NS, "b", 2, "o", b"", "t3"))
    shown = model.elections_view(machine, NS, "a/")
    assert [(e.name, e.waiting, e.candidates) for e in shown] == [("a/x", 1, [])]
    assert len(model.elections_view(machine, NS, "")) == 2
