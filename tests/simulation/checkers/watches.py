"""A watch tells the whole history, each event once and in order, or says what it missed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordinator_sdk.protocol.kv import Event, KeyValue

if TYPE_CHECKING:
    from tests.simulation.record import Record

Told = tuple[int, int, bytes, bytes]


def check_watches(
    record: Record,
    watched: dict[int, list[Event]],
    lost: dict[int, list[tuple[int, int]]],
    spaces: dict[int, int],
    last: int,
) -> list[str]:
    """Compare what every watcher saw with the history of its space, up to a revision."""
    found: list[str] = []
    for number, events in watched.items():
        gaps = lost.get(number, [])
        expected = [
            _facts(event)
            for revision in record.revisions
            if revision.number <= last
            and not any(first <= revision.number < end for first, end in gaps)
            for space, event in revision.events
            if space == spaces[number]
        ]
        told = [_facts(event) for event in events if event.kv.mod_revision <= last]
        if told != expected:
            found.append(f"watcher {number} {_difference(told, expected)}")
        found += _check_before(record, number, events, spaces[number])
    return found


def _facts(event: Event) -> Told:
    kv = event.kv
    return kv.mod_revision, kv.version, kv.key, kv.value


def _difference(told: list[Told], expected: list[Told]) -> str:
    for position, (one, other) in enumerate(zip(told, expected, strict=False)):
        if one != other:
            return f"was told {one[:3]} as event {position}, in the history it is {other[:3]}"
    return f"was told {len(told)} events, the history has {len(expected)}"


def _check_before(record: Record, number: int, events: list[Event], space: int) -> list[str]:
    """Where an event tells the record before it, that is the right one."""
    before: dict[bytes, dict[int, KeyValue | None]] = {}
    for revision in record.revisions:
        for at, event in revision.events:
            if at == space:
                before.setdefault(event.kv.key, {})[event.kv.mod_revision] = event.prev_kv
    return [
        f"watcher {number} was told a wrong record before {event.kv.key!r} at "
        f"{event.kv.mod_revision}"
        for event in events
        if event.prev_kv is not None
        and not _is_same(event.prev_kv, before[event.kv.key].get(event.kv.mod_revision))
    ]


def _is_same(one: KeyValue, other: KeyValue | None) -> bool:
    # Within one revision a key may change twice; then only the last one is remembered here.
    return other is None or one == other or one.mod_revision == other.mod_revision
