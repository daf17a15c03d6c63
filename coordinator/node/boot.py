"""From a data directory to a running replica: what a start reads, checks and decides."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from coordinator.config import ConfigError
from coordinator.node.bootstrap import (
    CannotJoin,
    Inquire,
    Origin,
    find_origin,
    note_changed_flags,
    rejoin,
)
from coordinator.node.initial_cluster import InitialCluster
from coordinator.node.loading import load_machine
from coordinator.node.persistence import machine_batch
from coordinator.node.restore import force_new_cluster
from coordinator.node.surroundings import Directory
from coordinator.raft import Config as RaftConfig
from coordinator.raft import MemoryStorage, RawNode
from coordinator.replica import membership
from coordinator.replica.log import ReplicaLog
from coordinator.replica.machine import Machine
from coordinator.replica.replica import Replica
from coordinator.storage.errors import REMEDY, DirectoryForeign, StateDamaged, StorageError
from coordinator.storage.identity import Identity
from coordinator.storage.ports import LogPort, StatePort
from coordinator.storage.record import LogBatch
from coordinator.wire.raft import ConfState, HardState, Snapshot, SnapshotMetadata

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from coordinator.config import Config
    from coordinator.keyspace.records import Events
    from coordinator.node.surroundings import Surroundings
    from coordinator.replica.domain import Domain
    from coordinator.replica.members import Member
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
    peers: dict[int, tuple[str, ...]] = field(default_factory=dict)
    """The other members and their peer URLs, as far as they are known."""

    @property
    def is_joining(self) -> bool:
        """Whether its cluster exists and it still has nothing of its state."""
        return self.machine.index == 0

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
    inquire: Inquire | None = None,
) -> Booted:
    """Open a data directory, or make one, and build the replica from it.

    Args:
        config: The settings. Those of the cluster count for the first start only.
        domains: The domains to serve.
        surroundings: The machine underneath.
        on_events: Takes the changes of each revision.
        inquire: Asks the member at a peer URL who is in its cluster; needed by one that joins.

    Raises:
        ConfigError: The settings of the cluster do not fit together.
        CannotJoin: The cluster can't be joined as they ask for.
        DirectoryRefused: It is in use, belongs to another program or a newer release.
        StorageDamaged: It can't be read back.
    """
    draw = surroundings.random.getrandbits
    if config.force_new_cluster:
        await force_new_cluster(config.data_dir, domains, draw)
    async with AsyncExitStack() as opened:
        directory = await surroundings.open_directory(config.data_dir)
        opened.callback(directory.close)
        log, contents = await directory.open_log(asyncio.get_running_loop().call_soon_threadsafe)
        opened.push_async_callback(asyncio.to_thread, log.close)
        origin: Origin | None = None
        if directory.identity is None:
            origin = await find_origin(config, draw, inquire)
            if origin.is_joining:
                await _mark_joiner(log, contents)
            directory.create_identity(member_id=origin.member_id, cluster_id=origin.cluster_id)
        identity = directory.identity
        assert identity is not None
        noted = contents.install
        await directory.finish_install(noted.index if noted is not None else None)
        store = await directory.open_state()
        opened.push_async_callback(store.close)
        machine = await load_machine(domains, store)
        peers: dict[int, tuple[str, ...]] = {}
        if machine.index == 0 and _is_joiner(contents):
            peers = dict(origin.peers) if origin else await _find_again(config, identity, inquire)
        elif machine.index == 0:
            origin = origin or await find_origin(config, draw, inquire)
            await _begin_group(machine, identity, origin.members, store, log, contents)
        elif machine.index > contents.last_index:
            await _drop_log(machine, log, contents)
        if machine.index:
            peers = membership.peer_urls(machine, identity.member_id)
            note_changed_flags(config, machine.members.get(identity.member_id))
        memory = raft_storage(machine, contents)
        raw = RawNode(raft_config(config, identity.member_id, memory, machine.index, draw(64)))
        replica = Replica(raw, memory, machine, incarnation=draw(63), on_events=on_events)
        opened.pop_all()
    return Booted(directory, identity, log, store, machine, replica, peers)


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
        max_inflight_bytes=16 << 20,
        check_quorum=True,
        pre_vote=True,
        disable_proposal_forwarding=True,
    )


async def _begin_group(
    machine: Machine,
    identity: Identity,
    members: Sequence[Member],
    store: StatePort,
    log: LogPort,
    contents: LogContents,
) -> None:
    """Make a group, or go on with a start that was interrupted while it did.

    Args:
        machine: The empty state.
        identity: Who this member is.
        members: The first members; none for a group of one.
        store: The state database.
        log: The log.
        contents: What the log holds.

    Raises:
        StateDamaged: The state database is gone, and with it the members.
        DirectoryForeign: The directory belongs to a member that is none of them.
    """
    ids = tuple(sorted(member.member for member in members)) or (identity.member_id,)
    if identity.member_id not in ids:
        raise DirectoryForeign(
            f"the data directory belongs to member {identity.member_id:016x}, which is not among "
            "the first members of the cluster; point this member to its own directory"
        )
    metadata = first_snapshot(ids, contents)
    if metadata.conf_state.voters != ids:
        raise StateDamaged(f"the state database is empty, and so are the members; {REMEDY}")
    machine.begin(metadata.index, metadata.term, metadata.conf_state)
    if members:
        # Before the log: what is in the database counts, and the log is begun behind it.
        for member in members:
            machine.members[member.member] = member
            machine.note_member(member.member)
        await store.write(machine_batch(machine))
    if contents.install is None:
        await _write(log, LogBatch(install=metadata))
        contents.boundary_index, contents.boundary_term = metadata.index, metadata.term


async def _mark_joiner(log: LogPort, contents: LogContents) -> None:
    """Note that the log is that of a joining member: it has a term and begins nowhere."""
    contents.hard_state = HardState(max(contents.hard_state.term, FIRST_TERM))
    await _write(log, LogBatch(hard_state=contents.hard_state))


def _is_joiner(contents: LogContents) -> bool:
    """Tell whether the log waits for its first snapshot; a new group's begins behind one."""
    is_empty = contents.install is None and contents.last_index == 0
    return is_empty and contents.hard_state.term > 0


async def _find_again(
    config: Config, identity: Identity, inquire: Inquire | None
) -> dict[int, tuple[str, ...]]:
    """Give the members of a cluster that is being joined, by another start than the first.

    Raises:
        CannotJoin: The flags do not say where they are, or they do not know this member.
    """
    text = config.initial_cluster
    if not text or config.initial_cluster_state == "new":
        raise CannotJoin(
            f"member {identity.member_id:016x} has not caught up with its cluster yet: start it "
            "with --initial-cluster-state existing and --initial-cluster, as the first time"
        )
    try:
        cluster = InitialCluster.parse(text, config.initial_cluster_token)
    except ValueError as error:
        raise ConfigError([f"--initial-cluster {text}: {error}"]) from None
    assert inquire is not None, "nobody can be asked without a network"
    return await rejoin(cluster, config.name, identity, inquire)


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


def first_snapshot(members: Sequence[int] | int, contents: LogContents) -> SnapshotMetadata:
    """Give the snapshot that a group begins behind: it names its members, all of them voters.

    Raises:
        StateDamaged: The log is not new: what it led to was in a state database that is gone.
    """
    if contents.install is not None and contents.install.index == FIRST_INDEX:
        return contents.install
    if contents.last_index:
        raise StateDamaged(
            f"the state database is empty, but the log reaches up to {contents.last_index}; "
            f"{REMEDY}"
        )
    voters = (members,) if isinstance(members, int) else tuple(sorted(members))
    return SnapshotMetadata(ConfState(voters=voters), FIRST_INDEX, FIRST_TERM)


def raft_storage(machine: Machine, contents: LogContents) -> ReplicaLog:
    """Put the durable log before the core, beginning where the state database ends or earlier.

    Raises:
        StateDamaged: The log begins after the state database ends: entries are missing.
    """
    memory = ReplicaLog()
    memory.machine = machine
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
