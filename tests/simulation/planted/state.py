"""Mistakes in the state machine: requests, locks, guards, leases."""

from __future__ import annotations

from typing import Any

from coordinator.replica.deadlines import LeaderClock
from coordinator.replica.entry import EntryTxn
from coordinator.replica.machine import Machine
from coordinator.replica.requests import RequestTable
from coordinator.replica.tickets import TicketQueue
from coordinator_sdk.errors import NotApplied


def forget_outcomes(find: Any) -> Any:
    """The table of requests is not consulted: a retry is applied once more."""

    def mutant(self: RequestTable, *request: Any) -> None:
        try:
            find(self, *request)
        except NotApplied:
            return

    return mutant


def lose_outcomes_at_restart(take_in: Any) -> Any:
    """What a start loads of the table of requests has no outcomes."""

    def mutant(self: RequestTable, client: int, row: Any) -> None:
        take_in(self, client, row)
        self._clients[client].records.clear()

    return mutant


def serve_the_last_first(scan: Any) -> Any:
    def mutant(
        self: EntryTxn, start: bytes, end: bytes, limit: int = 1000, reverse: bool = False
    ) -> Any:
        return scan(self, start, end, limit, not reverse if limit == 1 else reverse)

    return mutant


def pass_every_guard(check: Any) -> Any:
    return lambda txn, guard: None


def forget_timers_at_restart(load: Any) -> Any:
    def mutant(self: Machine, meta: dict[str, Any]) -> None:
        load(self, meta)
        self.chain = bytes(16)

    return mutant


def end_leases_early(set_time: Any) -> Any:
    def mutant(self: LeaderClock, lease: int, ttl_ms: int) -> None:
        set_time(self, lease, ttl_ms * 7 // 10)

    return mutant


def revive_leases(renew: Any) -> Any:
    def mutant(self: LeaderClock, lease: int, now_ms: int) -> int:
        renew(self, lease, now_ms)
        found = self.machine.keyspace.leases.get(lease)
        return 0 if found is None else found.ttl_ms

    return mutant


def keep_deadlines_of_the_last_leader(take_office: Any) -> Any:
    def mutant(self: LeaderClock, now_ms: int) -> None:
        take_office(self, now_ms)
        for lease in self.machine.keyspace.leases.by_id.values():
            self._leases.set(lease.id, now_ms + lease.ttl_ms // 5)

    return mutant


def leave_the_waiter_in_the_queue(forget: Any) -> Any:
    """Whoever has been granted keeps waiting, and is granted once more."""

    def mutant(
        self: TicketQueue, txn: Any, namespace: str, name: str, record: Any, waiter: Any
    ) -> None:
        txn.cancel_timer(record.key)

    return mutant
