"""Builds a keyspace from the rows, leases and numbers of the state database.

Pure. Rows arrive in the order in which they were written, so replaying them rebuilds history and
the queues of superseded versions exactly as the member that wrote them had them. The ordered
sets are built once, from sorted keys.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from coordinator_sdk.protocol.kv import KeyValue

from . import refusals
from .history import TAIL_BYTES_MAX, RevisionLog
from .keyspace import Keyspace, Meta
from .ranges import Steps, drain
from .records import DIGEST_MASK, DIGEST_WEIGHTS, OVERHEAD_BYTES, SPACES, Row, Version, row_digest
from .space import key_set

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .space import KeySet

_PAUSE_RECORDS: Final = 2000
_PAUSE_KEYS: Final = 500
"""Keys put into an ordered set without a pause; one may take a few microseconds."""


def _set_steps(keys: Iterator[bytes]) -> Steps[KeySet]:
    """Build an ordered set from keys in any order, in slices."""
    made = key_set()
    while names := sorted(islice(keys, _PAUSE_KEYS)):
        made.update(names)
        yield
    return made


class Loader:
    """Takes a stored keyspace in portions; `finish` hands it out."""

    __slots__ = ("_keyspace", "_last")

    def __init__(self, tail_bytes_max: int = TAIL_BYTES_MAX) -> None:
        self._keyspace = Keyspace(tail_bytes_max)
        self._last = (0, -1)

    def lease(self, record: bytes) -> None:
        """Add a lease from its stored record.

        Raises:
            Internal: It was added before.
        """
        self._keyspace.leases.load(record)

    def time(self, clock_ms: int, revision: int) -> None:
        """Add a sample of the time index, oldest first."""
        self._keyspace.times.note(clock_ms, revision)

    def rows(self, rows: Iterable[Row]) -> None:
        """Add rows, ordered by (mod_revision, sub) over all portions.

        Raises:
            Internal: A row is out of order, or is a tombstone with a value.
        """
        keyspace = self._keyspace
        lives = [store.live for store in keyspace.stores]
        subs = [store.subs for store in keyspace.stores]
        last_revision, last_sub = self._last
        used = 0
        for mod_revision, sub, space, key, create_revision, version, lease, value in rows:
            if mod_revision <= last_revision and (mod_revision < last_revision or sub <= last_sub):
                raise refusals.damaged(f"row ({mod_revision}, {sub}) is out of order")
            last_revision, last_sub = mod_revision, sub
            live = lives[space]
            if key in live:
                self._supersede(space, live[key], mod_revision)
            used += len(key) + len(value) + OVERHEAD_BYTES
            if version:
                live[key] = KeyValue(key, create_revision, mod_revision, version, lease, value)
                if sub:
                    subs[space][key] = sub
            else:
                self._bury(space, key, mod_revision, sub)
        keyspace.bytes_used += used
        self._last = last_revision, last_sub

    def _supersede(self, space: int, old: KeyValue, revision: int) -> None:
        keyspace = self._keyspace
        store = keyspace.stores[space]
        late = old.mod_revision == revision
        size = len(old.key) + len(old.value) + OVERHEAD_BYTES
        keyspace.history_bytes += size
        version = Version(
            old.key,
            space,
            old.mod_revision,
            store.subs.pop(old.key, 0),
            old.create_revision,
            old.version,
            old.lease,
            size,
            revision + 1 if late else revision,
        )
        (keyspace.late if late else keyspace.superseded).append(version)
        store.history.setdefault(old.key, []).append(version)

    def _bury(self, space: int, key: bytes, revision: int, sub: int) -> None:
        keyspace = self._keyspace
        store = keyspace.stores[space]
        size = len(key) + OVERHEAD_BYTES
        keyspace.history_bytes += size
        tombstone = Version(key, space, revision, sub, 0, 0, 0, size, revision + 1)
        keyspace.late.append(tombstone)
        store.history.setdefault(key, []).append(tombstone)
        store.live.pop(key, None)

    def finish(self, meta: Meta, verify: bool = True) -> Keyspace:
        """See `finish_steps`."""
        return drain(self.finish_steps(meta, verify))

    def finish_steps(
        self, meta: Meta, verify: bool = True, in_slices: bool = False
    ) -> Steps[Keyspace]:
        """Put the pieces together, in slices; the loader must not be used after it.

        Args:
            meta: What was stored with the rows.
            verify: Whether to recompute the digest instead of trusting the stored one.
            in_slices: Whether to build the ordered sets in slices too, which takes twice the time.

        Yields:
            Nothing, between portions of the work.

        Returns:
            The keyspace.

        Raises:
            Internal: Rows, leases and numbers do not belong together.
        """
        keyspace = self._keyspace
        if self._last[0] > meta.revision:
            raise refusals.damaged("there are rows above the stored revision")
        if keyspace.bytes_used != meta.bytes_used:
            raise refusals.damaged(
                f"the rows are {keyspace.bytes_used} bytes, and not {meta.bytes_used} as stored"
            )
        for space in range(SPACES):
            yield from self._index_steps(space, in_slices)
            yield from self._records_steps(space, verify)
        keyspace.revision = meta.revision
        keyspace.compact_revision = meta.compact_revision
        keyspace.log = RevisionLog(meta.revision, keyspace.log.bytes_max)
        if verify and keyspace.digest & DIGEST_MASK != meta.digest:
            raise refusals.damaged("the digest of the rows is not the stored one")
        keyspace.digest = meta.digest
        return keyspace

    def _index_steps(self, space: int, in_slices: bool) -> Steps[None]:
        store = self._keyspace.stores[space]
        live = store.live
        if not in_slices:
            store.keys = key_set(sorted(live))
            yield
            store.ghosts = key_set(sorted(key for key in store.history if key not in live))
            yield
            return
        store.keys = yield from _set_steps(iter(live))
        store.ghosts = yield from _set_steps(key for key in store.history if key not in live)

    def _records_steps(self, space: int, verify: bool) -> Steps[None]:
        keyspace = self._keyspace
        store = keyspace.stores[space]
        leases = keyspace.leases
        total = 0
        for number, record in enumerate(store.live.values()):
            if record.lease:
                if record.lease not in leases:
                    raise refusals.damaged(f"lease {record.lease:016x} of a key is missing")
                leases.attach(record.lease, space, record.key)
            if verify:
                total += row_digest(record)
            if number % _PAUSE_RECORDS == 0:
                yield
        keyspace.digest += total * DIGEST_WEIGHTS[space]
