"""A leader whose disk does not answer any more."""

from __future__ import annotations

from coordinator.node.stall import Stall
from coordinator.replica.effects import Append, Proposal
from coordinator.replica.requests import Outcome
from coordinator_sdk.protocol.kv import Put
from tests.node.replicas import TICK_MS, Replicas

LIMIT_MS = 2000


class Watched:
    """A watch over writes that are given by hand."""

    def __init__(self, *, leads: bool = True) -> None:
        self.now_ms = 0
        self.handed_over: list[int] = []
        self.stall = Stall(
            limit_ms=LIMIT_MS,
            is_leader=lambda: leads,
            hand_over=lambda: self.handed_over.append(self.now_ms),
        )

    def pass_time(self, ms: int, write: object | None) -> None:
        for _ in range(ms // TICK_MS):
            self.now_ms += TICK_MS
            self.stall.tick(self.now_ms, write)


def test_a_write_that_takes_too_long():
    """One write that stays the oldest for too long makes the leader hand over, now and again."""
    watched, write = Watched(), object()
    watched.pass_time(LIMIT_MS + TICK_MS, write)
    assert watched.handed_over == []
    watched.pass_time(LIMIT_MS, write)
    assert len(watched.handed_over) == 1
    watched.pass_time(LIMIT_MS, write)
    assert len(watched.handed_over) == 2


def test_a_busy_disk_is_no_stall():
    """Writes that each end in time are no reason, however many there are; nor are none."""
    watched = Watched()
    for _ in range(10):
        watched.pass_time(LIMIT_MS, object())
        watched.pass_time(LIMIT_MS * 2, None)
    assert watched.handed_over == []


def test_a_follower_hands_nothing_over():
    """Only a leader cares."""
    watched = Watched(leads=False)
    watched.pass_time(10 * LIMIT_MS, object())
    assert watched.handed_over == []


def test_leadership_moves_away_from_a_stalled_disk():
    """Another member leads although the former leader's disk never answers, nothing is lost, and
    the former leader says nothing in the new term."""
    group = Replicas(3)
    former, outcomes = group.by_id[1], list[Outcome]()
    held: list[Append] = []
    former.persisted = held.append  # type: ignore[method-assign,assignment]
    former.propose(Proposal(Put(b"a", b"1"), outcomes.append))
    group.settle()
    assert held
    stall = Stall(
        limit_ms=0,
        is_leader=lambda: former.is_leader,
        hand_over=lambda: group.memberships[1].transfer(0, lambda answer: None),
    )
    stall.tick(1, held[0])
    stall.tick(2, held[0])
    group.settle()
    group.tick(2)
    assert group.leader.raw.id != 1
    assert not former.is_leader
    assert group.leader.machine.keyspace.revision == 2
    assert outcomes == []
