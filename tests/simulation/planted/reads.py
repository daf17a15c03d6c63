"""Mistakes in reads and watches."""

from __future__ import annotations

from typing import Any

from coordinator.keyspace.watch import WatchHub
from coordinator.node.feeding import Feeding
from coordinator.replica.replica import Replica


def skip_events(publish: Any) -> Any:
    def mutant(self: WatchHub, revision: int, events: Any) -> None:
        publish(self, revision, events if revision % 97 else [])

    return mutant


def drop_questions(catch_up: Any) -> Any:
    def mutant(self: Feeding) -> None:
        catch_up(self)
        self._fetches.clear()

    return mutant


def read_before_the_first_commit(turn: Any) -> Any:
    """A new leader takes its commit index for the newest one before it has committed anything.

    Once in a turn: renewals ask again and again until an entry of the term is applied.
    """

    def mutant(self: Replica, *, hold: bool = False) -> Any:
        if self._reads or self._round_reads:
            self._start_round()
        return turn(self, hold=hold)

    return mutant


def read_without_waiting(read: Any) -> Any:
    def mutant(self: Replica, done: Any, *, applied: bool = True) -> None:
        done(None)

    return mutant


def read_without_a_quorum(start_round: Any) -> Any:
    """A leader takes its own commit index for the newest one, even when it is none any more."""

    def mutant(self: Replica) -> None:
        if not self.raw.is_leader:
            start_round(self)
            return
        reads, self._reads = self._reads, []
        for read in reads:
            if not read.applied or self.machine.index >= self.raw.committed:
                read.done(None)
            else:
                self._awaiting_apply.append((self.raw.committed, read.done, read.since_ms))

    return mutant


def join_an_old_round(read: Any) -> Any:
    """A read joins the round that is under way: its index may be older than the read."""

    def mutant(self: Replica, done: Any, *, applied: bool = True) -> None:
        before = len(self._reads)
        read(self, done, applied=applied)
        if self._round_reads and len(self._reads) > before:
            self._round_reads.append(self._reads.pop())

    return mutant
