"""Keeping leases alive, by a clock that is an argument."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator_sdk._renewal import CONNECTED, LOST, SUSPENDED, Renewal, Renewals, margin


class Watcher:
    """Notes the states of a renewal."""

    def __init__(self) -> None:
        self.states: list[str] = []

    def __call__(self, renewal: Renewal) -> None:
        self.states.append(renewal.state)


@pytest.mark.parametrize(
    ("ttl", "wanted"), [(10, 1.0), (60, 6.0), (2, 0.25), (1, 0.25), (0.4, 0.2), (0.1, 0.05)]
)
def test_the_margin(ttl: float, wanted: float) -> None:
    """A lease is given up 10 % early, at least 250 ms, at most half its TTL."""
    assert margin(ttl) == pytest.approx(wanted)


def test_a_renewal_is_due_every_third_of_the_ttl() -> None:
    """Renewals leave every third of the TTL, whether answered or not."""
    renewals = Renewals()
    renewals.add(1, 9.0, 100.0, Watcher())
    assert renewals.due(102.0) == []
    assert renewals.due(103.0) == [1]
    assert renewals.due(105.0) == []
    assert renewals.due(106.0) == [1]


def test_leases_due_soon_ride_along() -> None:
    """Leases that are due soon are renewed in the same batch."""
    renewals = Renewals()
    renewals.add(1, 9.0, 100.0, Watcher())
    renewals.add(2, 9.0, 100.5, Watcher())
    renewals.add(3, 9.0, 102.5, Watcher())
    assert renewals.due(103.0) == [1, 2]


def test_the_deadline_counts_from_the_sending() -> None:
    """The deadline is the send time of the last acknowledged renewal plus TTL minus margin."""
    renewals, watcher = Renewals(), Watcher()
    renewal = renewals.add(1, 10.0, 100.0, watcher)
    assert renewal.deadline == 109.0
    renewals.answered([1], [10_000], sent_at=103.0)
    assert renewal.deadline == 112.0
    renewals.answered([1], [10_000], sent_at=101.0)  # a late answer takes nothing back
    assert renewal.deadline == 112.0
    renewals.expire(111.9)
    assert renewal.trusted(111.9)
    renewals.expire(112.0)
    assert watcher.states == [LOST]
    assert len(renewals) == 0


def test_looking_at_the_clock_is_enough_to_lose_it() -> None:
    """A lease whose time has passed is lost at the first look, before any timer fires."""
    watcher = Watcher()
    renewal = Renewals().add(1, 10.0, 100.0, watcher)
    assert renewal.trusted(108.9)
    assert not renewal.trusted(200.0)
    assert (watcher.states, renewal.state) == ([LOST], LOST)
    assert "10 s" in renewal.reason


def test_an_expired_lease_is_lost_at_once() -> None:
    """A lease that the cluster does not know any more is lost when the answer says so."""
    renewals, watcher = Renewals(), Watcher()
    renewals.add(1, 10.0, 100.0, watcher)
    renewals.answered([1, 2], [0, 0], sent_at=101.0)
    assert watcher.states == [LOST]


def test_states_follow_the_connection() -> None:
    """A lease is suspended while there is no connection, and renewed at once after it."""
    renewals, watcher = Renewals(), Watcher()
    renewals.add(1, 10.0, 100.0, watcher)
    renewals.suspend()
    assert renewals.due(104.0) == []
    renewals.resume(105.0)
    assert renewals.due(105.0) == [1]
    assert watcher.states == [SUSPENDED, CONNECTED]


def test_a_failed_renewal_is_repeated_soon() -> None:
    """A renewal that was refused is repeated after a tenth of the TTL, half a second at most."""
    renewals = Renewals()
    renewals.add(1, 9.0, 100.0, Watcher())
    assert renewals.due(103.0) == [1]
    renewals.failed([1, 99], 103.1)
    assert renewals.due(103.5) == []
    assert renewals.due(103.6) == [1]


@given(st.lists(st.tuples(st.floats(0.01, 5), st.booleans()), max_size=60), st.floats(0.5, 30))
def test_no_lease_is_trusted_beyond_its_time(steps: list[tuple[float, bool]], ttl: float) -> None:
    """Whatever is answered or lost, a lease is never trusted beyond its last renewal plus TTL."""
    renewals = Renewals()
    now = renewed_at = 50.0
    renewal = renewals.add(1, ttl, now, Watcher())
    for pause, arrives in steps:
        sent_at = now
        due = renewals.due(now)
        now += pause
        if due and arrives and renewal.state != LOST:
            renewals.answered(due, [int(ttl * 1000)], sent_at)
            renewed_at = sent_at
        renewals.expire(now)
        if renewal.trusted(now):
            assert now < renewed_at + ttl


def test_a_failed_renewal_is_noted_until_another_member_is_met() -> None:
    """A batch that is refused or lost tells that the member at hand cannot renew; an answer, or
    the next greeting, takes that back."""
    renewals = Renewals()
    renewals.add(1, 9.0, 100.0, Watcher())
    renewals.failed([1], 103.0)
    assert renewals.is_failing
    renewals.answered([1], [9000], 103.5)
    assert not renewals.is_failing
    renewals.failed([1], 104.0)
    renewals.suspend()
    renewals.resume(105.0)
    assert not renewals.is_failing
