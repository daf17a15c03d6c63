"""From the rows of a state database to a state machine, in one go or slice by slice.

A start has nothing else to do and takes the quick way. A member that received a snapshot goes on
meanwhile: it pauses after every slice, none of which takes more than a few milliseconds.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from coordinator.keyspace.keyspace import Meta
from coordinator.keyspace.load import Loader
from coordinator.keyspace.ranges import drain
from coordinator.replica.machine import Machine
from coordinator.replica.members import Member
from coordinator.storage.errors import REMEDY, StateDamaged
from coordinator.storage.state import LOAD_ROWS
from coordinator_sdk.errors import Internal

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from coordinator.keyspace.keyspace import Keyspace
    from coordinator.replica.domain import Domain
    from coordinator.storage.ports import StatePort

SLICE_ROWS: Final = 1000
SLICE_CLIENTS: Final = 50
"""A client's row may hold a few hundred outcomes."""

Pause = Callable[[], Awaitable[None]]
"""Lets others run between two slices."""

Result = TypeVar("Result")


async def load_machine(
    domains: Sequence[Domain], store: StatePort, pause: Pause | None = None
) -> Machine:
    """Build the machine as the state database has it.

    Args:
        domains: The domains on top of it.
        store: The database; nobody may write to it meanwhile.
        pause: Called between slices to let others run; None to load without stopping.

    Raises:
        StateDamaged: Rows, records and the digest stored with them do not belong together.
    """
    meta = await store.load_meta()
    if not meta.get("applied_index"):
        return Machine(domains)
    count = SLICE_ROWS if pause else LOAD_ROWS
    try:
        machine = Machine(domains, await _load_keyspace(store, meta, count, pause))
    except Internal as error:
        raise StateDamaged(f"the state database is damaged: {error}; {REMEDY}") from error
    machine.load_meta(meta)
    async for records in store.load_records("timers", count):
        for key, data in records:
            machine.timers.load(key, data)
        if pause:
            await pause()
    rows: list[tuple[int, bytes]] = []
    async for records in store.load_records("requests", count):
        rows += records
    await _run(machine.requests.load_steps(rows, SLICE_CLIENTS), pause)
    for member, data in (await store.load_table("members")).items():
        machine.members[member] = msgspec.msgpack.decode(data, type=Member)
    tables = {name: await store.load_table(name) for name in ("users", "roles", "api_keys")}
    machine.auth.load(meta.get("auth"), tables)
    begins: list[int] = []
    async for records in store.load_records("audit", count):
        begins += [revision for revision, _ in records]
        if pause:
            await pause()
    machine.trail.load(meta.get("trail"), begins)
    return machine


async def _load_keyspace(
    store: StatePort, meta: dict[str, Any], count: int, pause: Pause | None
) -> Keyspace:
    loader = Loader()
    async for records in store.load_records("leases", count):
        for _, data in records:
            loader.lease(data)
        if pause:
            await pause()
    async for rows in store.load_versions(count):
        loader.rows(rows)
        if pause:
            await pause()
    numbers = msgspec.msgpack.decode(meta["keyspace"], type=Meta)
    for clock_ms, revision in meta.get("times", ()):
        loader.time(clock_ms, revision)
    keyspace = await _run(loader.finish_steps(numbers, in_slices=pause is not None), pause)
    keyspace.times.forget_below(keyspace.compact_revision)
    return keyspace


async def _run(steps: Generator[None, None, Result], pause: Pause | None) -> Result:
    if pause is None:
        return drain(steps)
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            result: Result = stop.value
            return result
        await pause()
