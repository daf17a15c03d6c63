"""Elections as the state machine applies them, on a machine in miniature."""

from __future__ import annotations

import pytest

from coordinator.domains.elections import model
from coordinator.domains.elections.commands import DOMAIN
from coordinator.replica.tickets import check_guard
from coordinator_sdk.errors import GuardFailed, NotHeld, WouldDeadlock
from coordinator_sdk.protocol.elections import (
    ElectionCampaign,
    ElectionCancel,
    ElectionProclaim,
    ElectionResign,
)
from coordinator_sdk.protocol.kv import Guard
from coordinator_sdk.protocol.tickets import TicketState
from tests.domains.fake_txn import FakeMachine

NS, NAME = "default", "scheduler"


@pytest.fixture
def machine() -> FakeMachine:
    made = FakeMachine(DOMAIN)
    for session in (1, 2, 3):
        made.open_session(session)
    return made


def campaign(machine: FakeMachine, session: int, value: bytes = b"") -> TicketState:
    state: TicketState = machine.apply(
        ElectionCampaign(NS, NAME, session, "o", value, f"t{session}")
    )
    return state


def test_the_first_candidate_leads(machine):
    """The first candidate is elected in the entry that campaigns, with its value."""
    elected = campaign(machine, 1, b"here")
    info = model.election_view(machine, NS, NAME)
    assert info.leader is not None
    assert (info.leader.token, info.leader.value) == (elected.token, b"here")


def test_resigning_elects_the_next_with_its_own_value(machine):
    """A leader that resigns is followed, in the same revision, by the first candidate."""
    token = campaign(machine, 1, b"a").token
    campaign(machine, 2, b"b")
    campaign(machine, 3, b"c")
    machine.apply(ElectionResign(NS, NAME, 1, "o", token))
    info = model.election_view(machine, NS, NAME)
    assert info.leader is not None
    assert (info.leader.value, info.leader.token) == (b"b", machine.published)
    assert [c.session for c in info.candidates] == [3]


def test_proclaiming_keeps_the_term(machine):
    """A proclaimed value replaces the old one; the token and the guard stay good."""
    token = campaign(machine, 1, b"a").token
    machine.apply(ElectionProclaim(NS, NAME, 1, "o", token, b"new"))
    info = model.election_view(machine, NS, NAME)
    assert info.leader is not None
    assert (info.leader.value, info.leader.token, info.leader.session) == (b"new", token, 1)
    check_guard(machine, Guard("elections", NS, NAME, token, 1, "o"))
    machine.end_session(1)
    assert model.election_view(machine, NS, NAME).leader is None
    with pytest.raises(GuardFailed):
        check_guard(machine, Guard("elections", NS, NAME, token, 1, "o"))


def test_only_the_leader_proclaims_and_resigns(machine):
    """Who does not lead with this token changes nothing."""
    token = campaign(machine, 1).token
    campaign(machine, 2)
    for session, owner, wrong in ((2, "o", token), (1, "x", token), (1, "o", token + 1)):
        with pytest.raises(NotHeld):
            machine.apply(ElectionProclaim(NS, NAME, session, owner, wrong, b"x"))
        with pytest.raises(NotHeld):
            machine.apply(ElectionResign(NS, NAME, session, owner, wrong))
    with pytest.raises(WouldDeadlock):
        machine.apply(ElectionCampaign(NS, NAME, 1, "o", b"", "again"))


def test_a_candidate_withdraws(machine):
    """Cancelling a ticket withdraws a candidacy, or resigns."""
    campaign(machine, 1)
    campaign(machine, 2)
    assert machine.apply(ElectionCancel(NS, NAME, "t2")).done
    assert machine.apply(ElectionCancel(NS, NAME, "t1")).done
    assert not machine.apply(ElectionCancel(NS, NAME, "t1")).done
    assert model.election_view(machine, NS, NAME).leader is None


def test_a_candidate_whose_deadline_passes_withdraws(machine):
    """A candidacy ends at its deadline."""
    campaign(machine, 1)
    machine.apply(ElectionCampaign(NS, NAME, 2, "o", b"", "t2", timeout_ms=30))
    (key,) = machine.timers
    machine.run_timer(key)
    assert model.ticket_view(machine, NS, NAME, "t2").state == "expired"
    assert model.election_view(machine, NS, NAME).candidates == []
