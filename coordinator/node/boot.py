"""From a data directory to a running replica: what a start reads, checks and decides."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from coordinator.keyspace.keyspace import Meta
from coordinator.keyspace.load import Loader
from coordinator.node.surroundings import Directory
from coordinator.raft import Config as RaftConfig
from coordinator.raft import MemoryStorage, RawNode
from coordinator.replica.machine import Machine
from coordinator.replica.members import Member
from coordinator.replica.replica import Replica
from coordinator.storage.errors import REMEDY, StateDamaged, StorageError
from coordinator.storage.identity import Identity
from coordinator.storage.ports import LogPort, StatePort
from coordinator.storage.record import LogBatch
from coordinator.wire.raft import ConfState, HardState, Snapshot, SnapshotMetadata
from coordinator_sdk.errors import Internal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from coordinator.config import Config
    from coordinator.keyspace.records import Events
    from coordinator.node.surroundings import Surroundings
    from coordinator.replica.domain import Domain
    from coordinator.storage.recovery import LogContents

FIRST_INDEX: Final = 1
"""A new group begins as if a snapshot at this index had named its members."""
FIRST_TERM: Final = 1


@dataclass(slots=True)
class Booted:
    """A member that is open and has not begun to run."""

    directory: Directory
    identity: Identity
    log: LogPort
    store: StatePort
    machine: Machine
    replica: Replica

    @property
    def is_only_voter(self) -> bool:
        """Whether the group has no other voter."""
        return self.machine.conf_state.voters == (self.identity.member_id,)

    def close(self) -> None:
        """Close the log and give the directory free; blocks."""
        self.log.close()
        self.directory.close()


async def boot(
    config: Config,
    domains: Sequence[Domain],
    surroundings: Surroundings,
    on_events: Callable[[int, Events], None],
) -> Booted:
    """Open a data directory, or make one, and build the replica from it.

    Raises:
        DirectoryRefused: It is in use, belongs to another program or a newer release.
        StorageDamaged: It can't be read back.
    """
    draw = surroundings.random.getrandbits
    async with AsyncExitStack() as opened:
        directory = await surroundings.open_directory(config.data_dir)
        opened.callback(directory.close)
        log, contents = await directory.open_log(asyncio.get_running_loop().call_soon_threadsafe)
        opened.push_async_callback(asyncio.to_thread, log.close)
        identity = directory.identity or directory.create_identity(
            member_id=draw(62) + 1, cluster_id=draw(62) + 1
        )
        store = await directory.open_state()
        opened.push_async_callback(store.close)
        machine = await load_machine(domains, store)
        if machine.index == 0:
            await _begin_group(machine, identity, log, contents)
        elif machine.index > contents.last_index:
            await _drop_log(machine, log, contents)
        memory = raft_storage(machine, contents)
        raw = RawNode(raft_config(config, identity.member_id, memory, machine.index, draw(64)))
        replica = Replica(raw, memory, machine, incarnation=draw(63), on_events=on_events)
        opened.pop_all()
    return Booted(directory, identity, log, store, machine, replica)


def raft_config(
    config: Config, member_id: int, storage: MemoryStorage, applied: int, seed: int
) -> RaftConfig:
    """Give the settings of a member's consensus core."""
    return RaftConfig(
        id=member_id,
        storage=storage,
        rng=random.Random(seed),
        election_tick=max(2, config.election_timeout_ms // config.heartbeat_interval_ms),
        heartbeat_tick=1,
        applied=applied,
        async_storage_writes=True,
        max_size_per_msg=1 << 20,
        max_committed_size_per_ready=8 << 20,
        max_uncommitted_size=64 << 20,
        check_quorum=True,
        pre_vote=True,
        disable_proposal_forwarding=True,
    )


async def load_machine(domains: Sequence[Domain], store: StatePort) -> Machine:
    """Build the machine as the state database has it.

    Raises:
        StateDamaged: Rows, records and the digest stored with them do not belong together.
    """
    meta = await store.load_meta()
    if not meta.get("applied_index"):
        return Machine(domains)
    loader = Loader()
    try:
        for data in (await store.load_table("leases")).values():
            loader.lease(data)
        async for rows in store.load_versions():
            loader.rows(rows)
        keyspace = loader.finish(msgspec.msgpack.decode(meta["keyspace"], type=Meta))
    except Internal as error:
        raise StateDamaged(f"the state database is damaged: {error}; {REMEDY}") from error
    machine = Machine(domains, keyspace)
    machine.load_meta(meta)
    for key, data in (await store.load_table("timers")).items():
        machine.timers.load(key, data)
    machine.requests.load(list((await store.load_table("requests")).items()))
    for member, data in (await store.load_table("members")).items():
        machine.members[member] = msgspec.msgpack.decode(data, type=Member)
    return machine


async def _begin_group(
    machine: Machine, identity: Identity, log: LogPort, contents: LogContents
) -> None:
    """Make a group of one, or go on with a start that was interrupted while it did."""
    metadata = first_snapshot(identity.member_id, contents)
    if contents.install is None:
        await _write(log, LogBatch(install=metadata))
        contents.boundary_index, contents.boundary_term = metadata.index, metadata.term
    machine.begin(metadata.index, metadata.term, metadata.conf_state)


async def _drop_log(machine: Machine, log: LogPort, contents: LogContents) -> None:
    """Begin the log anew behind the state database, if it lags behind what it has fed."""
    metadata = SnapshotMetadata(machine.conf_state, machine.index, machine.term)
    hard = contents.hard_state
    contents.hard_state = HardState(max(hard.term, machine.term), hard.vote, machine.index)
    await _write(log, LogBatch(metadata, hard_state=contents.hard_state))
    contents.boundary_index, contents.boundary_term = machine.index, machine.term
    contents.entries = []


async def _write(log: LogPort, batch: LogBatch) -> None:
    done: asyncio.Future[StorageError | None] = asyncio.get_running_loop().create_future()
    log.submit(batch, done.set_result)
    error = await done
    if error is not None:
        raise error


def first_snapshot(member_id: int, contents: LogContents) -> SnapshotMetadata:
    """Give the snapshot that a group of one begins behind: it names the only voter.

    Raises:
        StateDamaged: The log is not new: what it led to was in a state database that is gone.
    """
    if contents.install is not None:
        return contents.install
    if contents.last_index:
        raise StateDamaged(
            f"the state database is empty, but the log reaches up to {contents.last_index}; "
            f"{REMEDY}"
        )
    return SnapshotMetadata(ConfState(voters=(member_id,)), FIRST_INDEX, FIRST_TERM)


def raft_storage(machine: Machine, contents: LogContents) -> MemoryStorage:
    """Put the durable log before the core, beginning where the state database ends or earlier.

    Raises:
        StateDamaged: The log begins after the state database ends: entries are missing.
    """
    memory = MemoryStorage()
    index, term = contents.boundary_index, contents.boundary_term
    hard = contents.hard_state
    if index > machine.index:
        raise StateDamaged(
            f"the log begins at index {index + 1}, but the state database ends at {machine.index}; "
            f"{REMEDY}"
        )
    memory.apply_snapshot(Snapshot(b"", SnapshotMetadata(machine.conf_state, index, term)))
    memory.append(contents.entries)
    memory.set_hard_state(
        HardState(max(hard.term, machine.term), hard.vote, max(hard.commit, machine.index))
    )
    return memory
