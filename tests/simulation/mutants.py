"""Classic mistakes, planted from outside: the simulation has to find each of them.

A mutant replaces functions of the product for as long as a run lasts. No switch for it stands
in the product.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from coordinator.keyspace.watch import WatchHub
from coordinator.node.node import Node
from coordinator.node.persistence import Persistence
from coordinator.replica import tickets
from coordinator.replica.deadlines import LeaderClock
from coordinator.replica.entry import EntryTxn
from coordinator.replica.machine import Machine
from coordinator.replica.replica import Replica
from coordinator.replica.requests import RequestTable
from coordinator.storage.segments import SegmentedLog
from coordinator.storage.write_behind import WriteBehind
from tests.simulation.disk import DelayedLog

Patch = tuple[Any, str, Callable[[Any], Any]]
"""(owner, name, function that makes the replacement from the original)"""


def _acknowledge_before_sync(submit: Any) -> Any:
    def mutant(self: DelayedLog, batch: Any, callback: Any, *, reserve: bool = False) -> None:
        submit(self, batch, lambda error: None, reserve=reserve)
        self._loop.call_soon(callback, None)

    return mutant


def _forget_outcomes(find: Any) -> Any:
    def mutant(self: RequestTable, client: int, sequence: int, body: object) -> None:
        try:
            find(self, client, sequence, body)
        except Exception:
            return

    return mutant


def _lose_outcomes_at_restart(load: Any) -> Any:
    def mutant(self: RequestTable, rows: list[tuple[int, bytes]]) -> None:
        load(self, rows)
        for known in self._clients.values():
            known.records.clear()

    return mutant


def _end_leases_early(set_time: Any) -> Any:
    def mutant(self: LeaderClock, lease: int, ttl_ms: int) -> None:
        set_time(self, lease, ttl_ms * 7 // 10)

    return mutant


def _revive_leases(renew: Any) -> Any:
    def mutant(self: LeaderClock, lease: int, now_ms: int) -> int:
        renew(self, lease, now_ms)
        found = self.machine.keyspace.leases.get(lease)
        return 0 if found is None else found.ttl_ms

    return mutant


def _keep_deadlines_of_the_last_leader(take_office: Any) -> Any:
    def mutant(self: LeaderClock, now_ms: int) -> None:
        take_office(self, now_ms)
        for lease in self.machine.keyspace.leases.by_id.values():
            self._leases.set(lease.id, now_ms + lease.ttl_ms // 5)

    return mutant


def _serve_the_last_first(scan: Any) -> Any:
    def mutant(
        self: EntryTxn, start: bytes, end: bytes, limit: int = 1000, reverse: bool = False
    ) -> Any:
        return scan(self, start, end, limit, not reverse if limit == 1 else reverse)

    return mutant


def _pass_every_guard(check: Any) -> Any:
    return lambda txn, guard: None


def _skip_events(publish: Any) -> Any:
    def mutant(self: WatchHub, revision: int, events: Any) -> None:
        publish(self, revision, events if revision % 97 else [])

    return mutant


def _drop_questions(catch_up: Any) -> Any:
    def mutant(self: Node) -> None:
        catch_up(self)
        self._fetches.clear()

    return mutant


def _lose_rows(add: Any) -> Any:
    def mutant(self: WriteBehind, batch: Any) -> None:
        if len(batch.versions) > 3:
            del batch.versions[1]
        add(self, batch)

    return mutant


def _store_the_index_too_high(hand_over: Any) -> Any:
    def mutant(self: Persistence) -> None:
        machine = self._machine
        meta = machine.meta
        machine.meta = lambda: meta() | {"applied_index": machine.index + 1}  # type: ignore[method-assign]
        try:
            hand_over(self)
        finally:
            del machine.meta

    return mutant


def _read_before_the_first_commit(may_read: Any) -> Any:
    return lambda self: True


def _read_without_waiting(read: Any) -> Any:
    def mutant(self: Replica, done: Any, *, applied: bool = True) -> None:
        done(None)

    return mutant


def _trust_the_cache(repair: Any) -> Any:
    def mutant(self: SegmentedLog, first: int, tail: int, last_record: bytes) -> None:
        repair(self, first, tail, b"")

    return mutant


def _forget_timers_at_restart(load: Any) -> Any:
    def mutant(self: Machine, meta: dict[str, Any]) -> None:
        load(self, meta)
        self.chain = bytes(16)

    return mutant


MUTANTS: dict[str, Patch] = {
    "acknowledge before sync": (DelayedLog, "submit", _acknowledge_before_sync),
    "forget outcomes": (RequestTable, "find", _forget_outcomes),
    "lose outcomes at restart": (RequestTable, "load", _lose_outcomes_at_restart),
    "end leases early": (LeaderClock, "granted", _end_leases_early),
    "revive leases": (LeaderClock, "renew", _revive_leases),
    "keep deadlines": (LeaderClock, "take_office", _keep_deadlines_of_the_last_leader),
    "serve the last first": (EntryTxn, "scan", _serve_the_last_first),
    "pass every guard": (tickets, "check_guard", _pass_every_guard),
    "skip events": (WatchHub, "publish", _skip_events),
    "drop questions": (Node, "catch_up", _drop_questions),
    "lose rows": (WriteBehind, "add", _lose_rows),
    "index too high": (Persistence, "_hand_over", _store_the_index_too_high),
    "read before the first commit": (Replica, "_may_read", _read_before_the_first_commit),
    "read without waiting": (Replica, "read", _read_without_waiting),
    "trust the cache": (SegmentedLog, "repair", _trust_the_cache),
    "forget the chain": (Machine, "load_meta", _forget_timers_at_restart),
}


@contextmanager
def planted(name: str) -> Iterator[None]:
    """Plant one mistake."""
    owner, attribute, make = MUTANTS[name]
    original = getattr(owner, attribute)
    owners = [owner]
    if owner is tickets:
        # Those who imported it have their own name for it.
        from coordinator.domains.topics import commands as topics
        from coordinator.replica import commands

        owners += [commands, topics]
    for each in owners:
        setattr(each, attribute, make(original))
    try:
        yield
    finally:
        for each in owners:
            setattr(each, attribute, original)
