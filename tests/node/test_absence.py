"""Clients are sent away from a member that is alone, in time and not too soon."""

from __future__ import annotations

import pytest

from coordinator.node.absence import Absence
from tests.node.replicas import Replicas

TIMEOUT_MS = 1000


class Watched:
    """The absence of one member of a group, with the moments at which it told its clients."""

    def __init__(self, id: int, voters: int = 3) -> None:
        self.group = Replicas(voters)
        self.raw = self.group.by_id[id].raw
        self.heard: dict[int, int] = {}
        self.absence = Absence(self.raw, self.heard, timeout_ms=TIMEOUT_MS)
        self.told: list[int] = []
        self.now_ms = 0
        self.absence.told.append(lambda: self.told.append(self.now_ms))

    def pass_ms(self, span_ms: int, *heard: int) -> None:
        """Let time pass, with something from ``heard`` before each tick."""
        for _ in range(0, span_ms, 100):
            self.now_ms += 100
            self.heard.update(dict.fromkeys(heard, self.now_ms))
            self.absence.tick(self.now_ms)


def test_a_leader_without_a_majority_sends_its_clients_away_after_one_timeout():
    """It does so while it still leads, tells them once, and goes on when somebody is back."""
    alone = Watched(1)
    alone.pass_ms(3000, 2)
    assert not alone.told
    alone.pass_ms(1000)
    assert not alone.told
    alone.pass_ms(3000)
    assert len(alone.told) == 1
    assert 4000 < alone.told[0] <= 4000 + 200
    assert alone.raw.is_leader
    assert alone.absence.is_long
    alone.pass_ms(100, 3)
    assert not alone.absence.is_long


def test_it_goes_on_counting_when_it_gives_up_its_office():
    """A leader that steps down because nobody answers has no more patience than before."""
    alone = Watched(1)
    alone.pass_ms(1000, 2, 3)
    alone.pass_ms(800)
    alone.raw.raft.become_follower(alone.raw.term, 0)
    alone.pass_ms(400)
    assert len(alone.told) == 1
    assert alone.absence.is_long


def test_a_leader_that_was_paused_listens_first():
    """One tick after a pause proves nothing: what others have sent is read after it."""
    paused = Watched(1)
    paused.pass_ms(1000, 2)
    paused.now_ms += 60_000
    paused.pass_ms(100)
    paused.pass_ms(1000, 2)
    assert not paused.told


def test_a_leader_of_itself_is_never_alone():
    """A group of one has a majority always."""
    alone = Watched(1, voters=1)
    alone.pass_ms(10_000)
    assert not alone.told


def test_a_follower_counts_from_the_last_sign_of_its_leader():
    """Two timeouts after it clients are sent away, whenever it gave the leader up."""
    follower = Watched(2)
    follower.pass_ms(1000, 1)
    follower.pass_ms(1500)
    follower.raw.forget_leader()
    follower.pass_ms(500)
    assert not follower.told
    assert not follower.absence.is_long
    follower.pass_ms(200)
    assert len(follower.told) == 1
    assert follower.absence.is_long


@pytest.mark.parametrize("gap_ms", [900, 1900])
def test_an_election_in_time_is_waited_for(gap_ms: int):
    """Nobody is sent away when a leader is found within two timeouts."""
    follower = Watched(2)
    follower.pass_ms(1000, 1)
    follower.raw.forget_leader()
    follower.pass_ms(gap_ms)
    follower.raw.raft.become_follower(follower.raw.term + 1, 3)
    follower.pass_ms(1000, 3)
    assert not follower.told
