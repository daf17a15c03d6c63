"""Taking back what a transaction did, and seeing past it to what is published.

Pure. Every change of a key leaves an event, which tells what the key had before; every change of
a lease leaves a call that undoes it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .records import SPACES

if TYPE_CHECKING:
    from coordinator_sdk.protocol.kv import Event, KeyValue

    from .keyspace import Keyspace
    from .records import Events, Version
    from .space import Space

LeaseUndo = tuple[int, Callable[[], object]]
"""How many events came before a lease's change, and what undoes it."""


class Replaced:
    """The published records of the keys that a transaction has changed; grows with it."""

    __slots__ = ("_events", "_records", "_seen")

    def __init__(self, events: Events) -> None:
        self._events = events
        self._seen = 0
        self._records: tuple[dict[bytes, KeyValue | None], ...] = tuple({} for _ in range(SPACES))

    def records(self, space: int) -> dict[bytes, KeyValue | None]:
        """By key; None where nothing is published."""
        events = self._events
        for position in range(self._seen, len(events)):
            changed, event = events[position]
            self._records[changed].setdefault(event.kv.key, event.prev_kv)
        self._seen = len(events)
        return self._records[space]


def roll_back(keyspace: Keyspace, events: Events, leases: list[LeaseUndo], revision: int) -> None:
    """Take back everything the transaction of ``revision`` did, last change first."""
    for count in range(len(events), -1, -1):
        while leases and leases[-1][0] == count:
            leases.pop()[1]()
        if count:
            space, event = events[count - 1]
            _restore(keyspace, keyspace.stores[space], event, revision)


def _restore(keyspace: Keyspace, store: Space, event: Event, revision: int) -> None:
    key, old = event.kv.key, event.prev_kv
    current = store.live.pop(key, None)
    store.subs.pop(key, None)
    store.digests.pop(key, None)
    if current is None:
        _forget_newest(keyspace, store, key, revision)
        store.ghosts.remove(key)
    elif current.lease:
        keyspace.leases.detach(current.lease, store.number, key)
    if old is None:
        store.keys.remove(key)
        if key in store.history:
            store.ghosts.insert(key)
        return
    version = _forget_newest(keyspace, store, key, revision)
    if current is None:
        store.keys.insert(key)
    store.live[key] = old
    if version.sub:
        store.subs[key] = version.sub
    if old.lease:
        keyspace.leases.attach(old.lease, store.number, key)


def _forget_newest(keyspace: Keyspace, store: Space, key: bytes, revision: int) -> Version:
    """Take back the newest version of a key's history, which the transaction put there."""
    versions = store.history[key]
    version = versions.pop()
    if not versions:
        del store.history[key]
    late = version.mod_revision == revision
    queued = (keyspace.late if late else keyspace.superseded).pop()
    assert queued is version, "changes are undone in the reverse order"
    return version
