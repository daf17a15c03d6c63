"""The quick way to a new leader: taken on evidence of death, and harmless if it was wrong."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from coordinator.node.failover import (
    AGAIN_MS,
    FIRST_MS,
    TRIES_MAX,
    UNDECIDED_TRIES_MAX,
    Failover,
)
from tests.node.replicas import Replicas


class Timers:
    """Calls what is due when a test says so.

    Attributes:
        due: What waits, as (seconds, callback).
        turns: How often a turn was asked for.
    """

    def __init__(self) -> None:
        self.due: list[tuple[float, Callable[[], None]]] = []
        self.turns = 0

    def call_later(self, delay: float, callback: Callable[[], None]) -> None:
        self.due.append((delay, callback))

    def schedule(self) -> None:
        self.turns += 1

    def run(self) -> float:
        """Call the next; give its delay in milliseconds."""
        delay, callback = self.due.pop(0)
        callback()
        return delay * 1000


def failing(voters: int = 3, seed: int = 0) -> tuple[Replicas, Timers, Failover]:
    """Give a group, and the failover of member 2 with its timers."""
    group, timers = Replicas(voters), Timers()
    failover = Failover(
        group.by_id[2].raw,
        random.Random(seed),
        call_later=timers.call_later,
        schedule=timers.schedule,
    )
    return group, timers, failover


def test_a_dead_leader_is_replaced_without_waiting():
    """With evidence on both sides a new leader is elected though no tick has passed."""
    group, timers, failover = failing()
    group.down = {1}
    group.by_id[3].raw.forget_leader()
    failover.deserted(1)
    assert group.by_id[2].raw.lead == 0
    assert FIRST_MS[0] <= timers.run() <= FIRST_MS[1]
    group.settle()
    assert group.by_id[2].is_leader
    timers.run()
    assert timers.due == []


def test_the_death_of_a_follower_changes_nothing():
    """Only the leader's death counts, and a leader does not care about others."""
    group, timers, failover = failing()
    failover.deserted(3)
    assert (group.by_id[2].raw.lead, timers.due) == (1, [])
    leading = Failover(
        group.leader.raw, random.Random(0), call_later=timers.call_later, schedule=timers.schedule
    )
    leading.deserted(1)
    leading.deserted(2)
    assert (group.leader.raw.id, timers.due) == (1, [])


def test_a_wrong_hint_costs_nothing():
    """A leader that lives stays: the others protect it, and its next heartbeat ends the attempt."""
    group, timers, failover = failing()
    term = group.leader.raw.term
    failover.deserted(1)
    timers.run()
    group.settle()
    assert group.leader.raw.id == 1
    group.tick(2)
    assert group.by_id[2].raw.lead == 1
    timers.run()
    assert timers.due == []
    assert group.leader.raw.term == term


def test_it_tries_again_for_a_while():
    """A candidate that nobody elects tries again, in its own rhythm, and stops in the end."""
    group, timers, failover = failing()
    group.down = {1, 3}
    failover.deserted(1)
    delays = []
    while timers.due:
        delays.append(timers.run())
        group.settle()
    assert len(delays) == TRIES_MAX
    assert all(AGAIN_MS[0] <= delay <= AGAIN_MS[1] for delay in delays[1:])
    assert timers.turns == 1 + TRIES_MAX
    assert group.by_id[2].raw.term == 2, "pre-votes raise no term"


def test_hints_do_not_add_up():
    """Several hints of one death make one attempt at a time."""
    _, timers, failover = failing()
    for _ in range(5):
        failover.deserted(1)
    assert len(timers.due) == 1


def test_two_deaths_in_a_row():
    """A leader that dies while the last attempt has not ended is replaced as well."""
    group, timers, failover = failing(5)
    group.down = {1}
    failover.deserted(1)
    for member in (4, 5):
        group.by_id[member].raw.forget_leader()
    group.by_id[3].raw.forget_leader()
    group.by_id[3].raw.campaign()
    group.settle()
    assert group.by_id[2].raw.lead == 3
    group.down = {1, 3}
    failover.deserted(3)
    for member in (4, 5):
        group.by_id[member].raw.forget_leader()
    assert len(timers.due) == 1
    timers.run()
    group.settle()
    assert group.by_id[2].is_leader


@pytest.mark.parametrize("seed", range(3))
def test_delays_are_drawn(seed: int):
    """Two followers draw their delays, so that they do not stand at the same time."""
    _, first, failover = failing(seed=seed)
    _, second, other = failing(seed=seed + 100)
    failover.deserted(1)
    other.deserted(1)
    assert first.due[0][0] != second.due[0][0]


def test_a_stopped_member_does_not_stand():
    """After the node has stopped, nothing is done any more."""
    group, timers, failover = failing()
    failover.deserted(1)
    failover.is_stopped = True
    turns = timers.turns
    timers.run()
    assert (timers.due, timers.turns) == ([], turns)
    assert not group.by_id[2].raw.has_ready() or group.by_id[2].raw.term == 2


def test_a_candidate_whom_nobody_elected_tries_again_soon():
    """After a split vote a candidate does not wait for a whole timeout, but tries a few times, and
    then rests until the next."""
    group, timers, failover = failing()
    group.down = {1, 3}
    raw = group.by_id[2].raw
    raw.forget_leader()
    failover.tick(0, 1000)
    assert not timers.due
    raw.campaign()
    group.settle()
    for now_ms in (100, 200):
        failover.tick(now_ms, 1000)
    for _ in range(UNDECIDED_TRIES_MAX):
        assert AGAIN_MS[0] <= timers.run() <= AGAIN_MS[1]
        failover.tick(300, 1000)
    assert not timers.due
    failover.tick(1100, 1000)
    group.down = {1}
    group.by_id[3].raw.forget_leader()
    timers.run()
    group.settle()
    assert group.by_id[2].is_leader


def test_a_silent_leader_is_replaced_after_one_timeout():
    """A follower that hears nothing for an election timeout stands at once, not after up to two."""
    group, timers, failover = failing()
    group.down = {1}
    raw = group.by_id[2].raw
    for tick in range(raw.raft.election_timeout):
        assert not timers.due, tick
        for follower in (2, 3):
            group.by_id[follower].raw.tick()
        failover.tick(100 * (tick + 1), 1000)
    assert raw.lead == 0
    assert timers.run() <= FIRST_MS[1]
    group.settle()
    assert group.by_id[2].is_leader


def test_a_leader_is_not_silent_to_itself():
    """The timeout of a leader's own quorum check starts no election."""
    group, timers, _ = failing()
    leading = Failover(
        group.leader.raw, random.Random(0), call_later=timers.call_later, schedule=timers.schedule
    )
    group.leader.raw.raft.election_elapsed = group.leader.raw.raft.election_timeout
    leading.tick(1000, 1000)
    assert (group.leader.raw.id, timers.due) == (1, [])
