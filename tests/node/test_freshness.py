"""Reads that accept an age get no older state than that."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from coordinator.node.freshness import Freshness
from coordinator_sdk.errors import CoordinatorError, NoLeader


class Reader:
    """A replica whose reads are answered when a test says so, and its clock."""

    def __init__(self) -> None:
        self.waiting: list[Any] = []
        self.now_ms = 5000
        self.told: list[CoordinatorError | None] = []
        surroundings: Any = SimpleNamespace(monotonic_ns=lambda: self.now_ms * 1_000_000)
        replica: Any = SimpleNamespace(read=self.waiting.append)
        self.freshness = Freshness(replica, surroundings)

    def read(self) -> None:
        self.freshness.read(self.told.append)

    def answer(self, error: CoordinatorError | None = None) -> None:
        self.waiting.pop(0)(error)


def test_any_age_will_do():
    """Without a bound nothing has to be known of the state."""
    assert Reader().freshness.is_within(0)


def test_one_read_serves_all_that_come_within_the_age():
    """The state is as old as the beginning of the last linearizable read that succeeded."""
    reader = Reader()
    assert not reader.freshness.is_within(10_000)
    reader.read()
    reader.now_ms += 300
    assert not reader.freshness.is_within(10_000), "it has not been answered"
    reader.answer()
    assert reader.told == [None]
    assert reader.freshness.is_within(300)
    assert not reader.freshness.is_within(299)
    reader.now_ms += 200
    assert not reader.freshness.is_within(499)
    assert reader.freshness.is_within(500)


def test_a_read_that_failed_proves_nothing():
    """Without a leader the state grows older, and who asked is told."""
    reader = Reader()
    reader.read()
    reader.answer(NoLeader("no leader"))
    assert isinstance(reader.told[0], NoLeader)
    assert not reader.freshness.is_within(10_000)


def test_answers_out_of_order_make_it_no_older():
    """What is known already is not forgotten over an earlier read that ends later."""
    reader = Reader()
    reader.read()
    reader.now_ms += 100
    reader.read()
    reader.waiting.reverse()
    reader.answer()
    reader.answer()
    assert reader.freshness.is_within(1)
