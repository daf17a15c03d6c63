"""Mistakes in what is made durable, and when."""

from __future__ import annotations

from typing import Any

import msgspec

from coordinator.node.persistence import Persistence
from coordinator.storage.memory_state import MemoryStateStore
from coordinator.storage.segments import SegmentedLog
from coordinator.storage.write_behind import WriteBehind
from coordinator.wire.raft import HardState
from tests.simulation.disk import DelayedLog


def acknowledge_before_sync(submit: Any) -> Any:
    def mutant(self: DelayedLog, batch: Any, callback: Any, *, reserve: bool = False) -> None:
        submit(self, batch, lambda error: None, reserve=reserve)
        self._loop.call_soon(callback, None)

    return mutant


def lose_rows(add: Any) -> Any:
    def mutant(self: WriteBehind, batch: Any) -> None:
        if len(batch.versions) > 3:
            del batch.versions[1]
        add(self, batch)

    return mutant


def store_the_index_too_high(hand_over: Any) -> Any:
    def mutant(self: Persistence) -> None:
        machine = self._machine
        meta = machine.meta
        machine.meta = lambda: meta() | {"applied_index": machine.index + 1}  # type: ignore[method-assign]
        try:
            hand_over(self)
        finally:
            del machine.meta

    return mutant


def trust_the_cache(repair: Any) -> Any:
    def mutant(self: SegmentedLog, first: int, tail: int, last_record: bytes) -> None:
        repair(self, first, tail, b"")

    return mutant


def forget_the_vote(submit: Any) -> Any:
    """The term is made durable, but not whom this member has voted for in it."""

    def mutant(self: DelayedLog, batch: Any, callback: Any, *, reserve: bool = False) -> None:
        hard = batch.hard_state
        if hard is not None:
            forgetful = HardState(hard.term, 0, hard.commit)
            batch = msgspec.structs.replace(batch, hard_state=forgetful)
        submit(self, batch, callback, reserve=reserve)

    return mutant


def cut_above_the_database(cut: Any) -> Any:
    """The log is cut where the machine is, though the database is not there yet."""

    def mutant(self: Persistence, durable_index: int) -> None:
        kept, self._entries_kept = self._entries_kept, 0
        try:
            cut(self, self._machine.index)
        finally:
            self._entries_kept = kept

    return mutant


def leave_requests_out(dump: Any) -> Any:
    """A snapshot comes without the table of requests."""

    async def mutant(self: MemoryStateStore, *sizes: int) -> Any:
        async for table, rows in dump(self, *sizes):
            if table != "requests":
                yield table, rows

    return mutant
