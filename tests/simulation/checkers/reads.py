"""Reads are linearizable, and the end of the run is what the history leads to."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING, Any

from coordinator.keyspace.keyspace import Keyspace

if TYPE_CHECKING:
    from tests.simulation.record import Record


def check_reads(record: Record, reads: list[Any]) -> list[str]:
    """A read shows everything acknowledged or read before it began, and nothing but history."""
    found: list[str] = []
    history: dict[bytes, tuple[list[int], list[bytes | None]]] = {}
    for revision in record.revisions:
        for space, event in revision.events:
            if space == 0:
                numbers, values = history.setdefault(event.kv.key, ([], []))
                numbers.append(revision.number)
                values.append(event.kv.value if event.kv.version else None)
    acknowledged = [(told.told_at, told.revision) for told in record.told]
    # What somebody has read is there for all that ask later.
    acknowledged += [(read.told_at, read.revision) for read in reads]
    acknowledged.sort()
    newest: list[int] = []
    for _, number in acknowledged:
        newest.append(max(number, newest[-1] if newest else 0))
    times = [at for at, _ in acknowledged]
    for read in reads:
        position = bisect_left(times, read.asked_at)
        if position and read.revision < newest[position - 1]:
            found.append(
                f"a read at {read.asked_at:.3f} showed revision {read.revision}, but "
                f"{newest[position - 1]} had been acknowledged"
            )
        numbers, values = history.get(read.key, ([], []))
        position = bisect_right(numbers, read.revision)
        expected = values[position - 1] if position else None
        if read.value != expected:
            found.append(f"{read.key!r} at {read.revision} read {read.value!r}, not {expected!r}")
    return found


def check_final_state(record: Record, keyspace: Keyspace) -> list[str]:
    """What a member holds is exactly what the recorded history leads to."""
    found: list[str] = []
    for space, store in enumerate(keyspace.stores):
        state: dict[bytes, Any] = {}
        for revision in record.revisions:
            for at, event in revision.events:
                if at != space:
                    continue
                if event.kv.version:
                    state[event.kv.key] = event.kv
                else:
                    state.pop(event.kv.key, None)
        if state != store.live:
            different = [
                key for key in {**state, **store.live} if state.get(key) != store.live.get(key)
            ]
            found.append(f"space {space} differs from the history at {sorted(different)[:3]}")
    last = record.revisions[-1].number if record.revisions else 1
    if keyspace.revision != last:
        found.append(f"the member stands at revision {keyspace.revision}, the history at {last}")
    return found
