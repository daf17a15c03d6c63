"""One live token per lock, rising; grants in the order of the queue; guards that hold."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from coordinator.keyspace.records import SYSTEM
from coordinator.replica.tickets import decode_holder, decode_waiter
from coordinator.wire import systemkey
from coordinator_sdk.protocol.kv import Event
from coordinator_sdk.protocol.locks import LockAcquire
from coordinator_sdk.protocol.tickets import GRANTED

if TYPE_CHECKING:
    from tests.simulation.record import Record, Revision


@dataclass
class _Lock:
    """One lock as the history tells it."""

    token: int = 0
    last_token: int = 0
    queue: dict[int, str] = field(default_factory=dict)
    """Ticket by the revision of its enqueueing."""


def check_locks(record: Record) -> list[str]:
    """Follow every lock through the history."""
    found: list[str] = []
    locks: dict[str, _Lock] = {}
    tickets: dict[str, int] = {}
    for revision in record.revisions:
        for space, event in revision.events:
            if space == SYSTEM:
                found += _follow(locks, tickets, revision, event)
            elif event.kv.key.startswith(b"guarded/") and event.kv.version:
                name = event.kv.key.removeprefix(b"guarded/").decode()
                live = locks.setdefault(name, _Lock()).token
                if int(event.kv.value) != live:
                    found.append(
                        f"revision {revision.number} wrote under token {event.kv.value!r} of "
                        f"{name}, the live one is {live}"
                    )
    for told in record.told:
        if type(told.body) is LockAcquire and told.result.state == GRANTED:
            if tickets.get(told.body.ticket) != told.result.token:
                found.append(f"ticket {told.body.ticket} was told token {told.result.token}")
    return found


def _follow(
    locks: dict[str, _Lock], tickets: dict[str, int], revision: Revision, event: Event
) -> list[str]:
    parts = systemkey.unpack(event.kv.key)
    if parts[1] != "locks":
        return []
    kind, name = parts[2], str(parts[3])
    lock = locks.setdefault(name, _Lock())
    if kind == "waiter":
        order = int(parts[4])
        if event.kv.version:
            lock.queue[order] = decode_waiter(event.kv.value).ticket
        else:
            # Whoever is granted leaves the queue first; `_first` says who it should be.
            lock.queue.pop(order, None)
        return []
    if kind != "holder":
        return []
    if not event.kv.version:
        lock.token = 0
        return []
    return _granted(lock, tickets, revision, event, name)


def _granted(
    lock: _Lock, tickets: dict[str, int], revision: Revision, event: Event, name: str
) -> list[str]:
    found = []
    token, ticket = event.kv.create_revision, decode_holder(event.kv.value).ticket
    if lock.token and lock.token != token:
        found.append(f"{name} was granted with token {token} while {lock.token} was live")
    if token <= lock.last_token and token != lock.token:
        found.append(f"{name}: token {token} does not rise above {lock.last_token}")
    # A waiter that is granted has left the queue before, in the same revision.
    left = [
        int(systemkey.unpack(other.kv.key)[4])
        for space, other in revision.events
        if space == SYSTEM
        and not other.kv.version
        and other.prev_kv is not None
        and systemkey.unpack(other.kv.key)[1:4] == ("locks", "waiter", name)
        and decode_waiter(other.prev_kv.value).ticket == ticket
    ]
    before = [order for order in lock.queue if not left or order < left[0]]
    if before and lock.token != token:
        found.append(f"{name}: {ticket} was granted before {lock.queue[before[0]]}")
    lock.token = lock.last_token = token
    tickets[ticket] = token
    return found
