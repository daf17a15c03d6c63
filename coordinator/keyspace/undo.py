"""Taking back what a transaction did, and seeing past it to what is published.

Pure. Every change of a transaction leaves one entry: what a key had before, or a call that
undoes a lease's change.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from coordinator_sdk.protocol.kv import KeyValue

from .records import SPACES
from .space import Space

if TYPE_CHECKING:
    from .keyspace import Keyspace

KeyUndo = tuple[Space, bytes, KeyValue | None, int]
"""A key, the record it had (None if none) and that record's position within its entry."""

Undo = KeyUndo | Callable[[], object]


class Replaced:
    """The published records of the keys that a transaction has changed; grows with it."""

    __slots__ = ("_records", "_seen", "_undo")

    def __init__(self, undo: list[Undo]) -> None:
        self._undo = undo
        self._seen = 0
        self._records: tuple[dict[bytes, KeyValue | None], ...] = tuple({} for _ in range(SPACES))

    def records(self, space: int) -> dict[bytes, KeyValue | None]:
        """By key; None where nothing is published."""
        undos = self._undo
        for position in range(self._seen, len(undos)):
            undo = undos[position]
            if isinstance(undo, tuple):
                store, key, old, _ = undo
                self._records[store.number].setdefault(key, old)
        self._seen = len(undos)
        return self._records[space]


def roll_back(keyspace: Keyspace, undos: list[Undo], revision: int) -> None:
    """Take back everything the transaction of ``revision`` did, last change first."""
    for undo in reversed(undos):
        if isinstance(undo, tuple):
            _restore(keyspace, undo, revision)
        else:
            undo()


def _restore(keyspace: Keyspace, undo: KeyUndo, revision: int) -> None:
    store, key, old, old_sub = undo
    current = store.live.pop(key, None)
    store.subs.pop(key, None)
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
    _forget_newest(keyspace, store, key, revision)
    if current is None:
        store.keys.insert(key)
    store.live[key] = old
    if old_sub:
        store.subs[key] = old_sub
    if old.lease:
        keyspace.leases.attach(old.lease, store.number, key)


def _forget_newest(keyspace: Keyspace, store: Space, key: bytes, revision: int) -> None:
    """Take back the newest version of a key's history, which the transaction put there."""
    versions = store.history[key]
    version = versions.pop()
    if not versions:
        del store.history[key]
    late = version.mod_revision == revision
    queued = (keyspace.late if late else keyspace.superseded).pop()
    assert queued is version, "changes are undone in the reverse order"
