"""A group begun from what another one has left: from a backup, or from the last data directory.

Both happen while no member runs on the directory. The identity is written last in a directory that
is new, and first in one that is not: whatever a crash leaves behind either does not start, or is
refused by the members of the old group.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import shutil
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from coordinator.config import Config
from coordinator.node.bootstrap import Origin, founder, initial_cluster
from coordinator.node.initial_cluster import cluster_id
from coordinator.node.loading import load_machine
from coordinator.node.persistence import machine_batch
from coordinator.replica import membership
from coordinator.replica.restore import begin_anew
from coordinator.storage.backup import BackupStatus, restore_backup
from coordinator.storage.errors import REMEDY, ArchiveDamaged, DirectoryForeign, StateDamaged
from coordinator.storage.files import DiskFiles, discard
from coordinator.storage.identity import DataDirectory, Identity
from coordinator.storage.record import LogBatch
from coordinator.storage.snapshot import finish_install
from coordinator.storage.state import StateStore
from coordinator.storage.wal import LogWriter, open_log
from coordinator.wire.raft import HardState, SnapshotMetadata, decode_conf_change

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from coordinator.replica.domain import Domain
    from coordinator.replica.machine import Machine
    from coordinator.replica.members import Member
    from coordinator.storage.errors import StorageError
    from coordinator.storage.recovery import LogContents
    from coordinator.wire.raft import Entry

_log = logging.getLogger("coordinator.node")


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore has made.

    Attributes:
        backup: What it was made from.
        identity: Who the data directory belongs to now.
        revision: The revision that the new group begins with.
        sessions_ended: How many sessions of the old group ended.
    """

    backup: BackupStatus
    identity: Identity
    revision: int
    sessions_ended: int


def restored_cluster_id(origin: Origin, sha256: str) -> int:
    """Give the id of a cluster restored by several members: the same for all, and a new one.

    Args:
        origin: The members, by ``--initial-cluster``; random for a member that is alone.
        sha256: The digest of the backup, in hexadecimal digits.
    """
    if not origin.members:
        return origin.cluster_id
    return cluster_id([*(one.member for one in origin.members), int(sha256[:15], 16)])


def restored_origin(
    name: str,
    initial_cluster_text: str,
    token: str,
    peer_urls: tuple[str, ...],
    draw: Callable[[int], int],
) -> Origin:
    """Find out who a restored member is to be; the arguments are those of the flags.

    Without ``--initial-cluster`` and peer URLs it is alone, under new random ids.

    Args:
        name: Its name.
        initial_cluster_text: All members that are restored from the same backup.
        token: Tells clusters apart.
        peer_urls: Its own.
        draw: Gives that many random bits.

    Raises:
        ConfigError: They do not fit together.
    """
    text = initial_cluster_text or ",".join(f"{name}={url}" for url in peer_urls)
    if not text:
        return Origin(draw(62) + 1, draw(62) + 1)
    settings = dataclasses.replace(
        Config(),
        name=name,
        initial_cluster=text,
        initial_cluster_token=token or Config().initial_cluster_token,
        initial_advertise_peer_urls=peer_urls,
    )
    cluster = initial_cluster(settings)
    assert cluster is not None
    return founder(settings, cluster)


async def restore_directory(
    backup: str, data_dir: str, domains: Sequence[Domain], origin: Origin
) -> Restored:
    """Make a data directory from a backup.

    Args:
        backup: The file.
        data_dir: The directory; it must be empty, or absent in a folder that exists.
        domains: The domains of this program.
        origin: The member to make, and the others that are made from the same backup.

    Raises:
        ArchiveDamaged: The backup is incomplete, altered, or none.
        SchemaTooNew: A newer release made it.
        DirectoryRefused: The directory is not empty, or is in use.
        NoSpace: The disk is full.
        StorageFailed: The disk failed.
    """
    is_new = await asyncio.to_thread(_require_empty, Path(data_dir))
    directory = await asyncio.to_thread(DataDirectory.open, data_dir)
    try:
        restored = await _restore(backup, directory, domains, origin)
    except BaseException:
        await asyncio.to_thread(_clear, directory, is_new)
        raise
    directory.close()
    return restored


def _require_empty(path: Path) -> bool:
    """Refuse a directory with something in it; tells whether there is none yet."""
    if not path.exists():
        return True
    if not path.is_dir() or {each.name for each in path.iterdir()} - {"lost+found"}:
        raise DirectoryForeign(f"{path} is not empty; restore into a new or empty directory")
    return False


async def _restore(
    backup: str, directory: DataDirectory, domains: Sequence[Domain], origin: Origin
) -> Restored:
    status = await asyncio.to_thread(restore_backup, backup, directory.state_path)
    cluster = restored_cluster_id(origin, status.sha256)
    voters = [one.member for one in origin.members] or [origin.member_id]
    store = await StateStore.open(directory.state_path)
    try:
        machine = await load_machine(domains, store)
        if not machine.index:
            raise ArchiveDamaged(f"{backup} holds no state")
        sessions_ended = begin_anew(machine, voters, origin.members)
        batch = machine_batch(machine)
        batch.meta |= {"cluster_id": cluster, "times": []}
        await store.write(batch)
    finally:
        await store.close()
    log, _ = await _open_log(directory)
    await _begin_log(log, machine)
    identity = await asyncio.to_thread(directory.create_identity, origin.member_id, cluster)
    return Restored(status, identity, machine.keyspace.revision, sessions_ended)


def _clear(directory: DataDirectory, is_new: bool) -> None:
    """Remove what a failed restore has made in a directory that was empty."""
    for suffix in ("", ".restore", ".restore-journal", "-wal", "-shm"):
        with contextlib.suppress(OSError):
            discard(DiskFiles(), f"{directory.state_path}{suffix}")
    shutil.rmtree(directory.log_path, ignore_errors=True)
    with contextlib.suppress(OSError):
        discard(DiskFiles(), str(directory.path / "lock"))
    directory.close()
    if is_new:
        with contextlib.suppress(OSError):
            directory.path.rmdir()


async def force_new_cluster(
    data_dir: str, domains: Sequence[Domain], draw: Callable[[int], int]
) -> bool:
    """Make the member of a data directory the only one of a new cluster.

    For when its peers are lost for good. Everything in its log counts as committed: what the lost
    quorum may have acknowledged must be in it, as far as anything is left of that.

    Args:
        data_dir: The data directory of the member.
        domains: The domains of this program.
        draw: Gives that many random bits.

    Returns:
        Whether anything was done; False if the member is alone already.

    Raises:
        DirectoryRefused: There is no member in it, or it is in use.
        StorageDamaged: It can't be read back.
        StorageError: The disk is full, or failed.
    """
    directory = await asyncio.to_thread(DataDirectory.open, data_dir)
    try:
        identity = directory.require()
        log, contents = await _open_log(directory)
        try:
            noted = contents.install
            index = noted.index if noted is not None else None
            await asyncio.to_thread(finish_install, directory.state_path, index)
            store = await StateStore.open(directory.state_path)
            try:
                machine = await load_machine(domains, store)
                _begin(machine, contents)
                if machine.conf_state.voters == (identity.member_id,) and not (
                    machine.conf_state.learners or _has_conf_change(contents, machine.index)
                ):
                    _log.info("--force-new-cluster: the member is alone already")
                    return False
                _replay(machine, contents)
                own = machine.members.get(identity.member_id)
                members: list[Member] = [] if own is None else [own]
                term = contents.hard_state.term
                ended = begin_anew(machine, [identity.member_id], members, term)
                identity = await asyncio.to_thread(directory.change_cluster, draw(62) + 1)
                batch = machine_batch(machine)
                batch.meta |= {"cluster_id": identity.cluster_id, "times": []}
                await store.write(batch)
            finally:
                await store.close()
            await _begin_log(log, machine)
        finally:
            await asyncio.to_thread(log.close)
    finally:
        directory.close()
    _log.warning(
        "this member is the only one of the new cluster %016x now; %d sessions have ended",
        identity.cluster_id,
        ended,
    )
    return True


def _has_conf_change(contents: LogContents, index: int) -> bool:
    """Tell whether the log has changes of the members that the state does not have."""
    return any(entry.type for entry in contents.entries if entry.index > index)


def _begin(machine: Machine, contents: LogContents) -> None:
    """Let an empty state stand where the group began, and refuse a gap behind it."""
    if not machine.index and contents.install is not None and contents.install.index == 1:
        first = contents.install
        machine.begin(first.index, first.term, first.conf_state)
    if not machine.index or contents.boundary_index > machine.index:
        raise StateDamaged(
            f"the log begins at index {contents.boundary_index + 1}, but the state database ends "
            f"at {machine.index}; {REMEDY}"
        )


def _replay(machine: Machine, contents: LogContents) -> None:
    """Apply everything that the log has beyond the state."""
    for entry in contents.entries:
        if entry.index > machine.index:
            _apply(machine, entry)


def _apply(machine: Machine, entry: Entry) -> None:
    change = decode_conf_change(entry)
    if change is not None:
        # The members are about to be replaced; what else the entry did counts.
        decision = membership.decide(machine, change)
        machine.apply_conf_change(entry, decision, machine.conf_state)
        return
    applied = machine.apply(entry)
    if isinstance(applied, Generator):
        for _ in applied:
            """Nothing else is to be done between slices."""


async def _open_log(directory: DataDirectory) -> tuple[LogWriter, LogContents]:
    notify = asyncio.get_running_loop().call_soon_threadsafe
    return await asyncio.to_thread(open_log, directory.log_path, notify=notify)


async def _begin_log(log: LogWriter, machine: Machine) -> None:
    """Begin the log anew behind the state, durably, and close it."""
    metadata = SnapshotMetadata(machine.conf_state, machine.index, machine.term)
    done: asyncio.Future[StorageError | None] = asyncio.get_running_loop().create_future()
    hard_state = HardState(machine.term, 0, machine.index)
    log.submit(LogBatch(metadata, hard_state=hard_state), done.set_result)
    error = await done
    await asyncio.to_thread(log.close)
    if error is not None:
        raise error
