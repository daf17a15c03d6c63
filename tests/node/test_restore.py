"""What becomes of a group's state when another group begins with it."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from coordinator.config import Config
from coordinator.domains import DOMAINS
from coordinator.keyspace.records import SYSTEM
from coordinator.node import restore as restore_module
from coordinator.node.boot import boot
from coordinator.node.bootstrap import Origin, founder, initial_cluster
from coordinator.node.node import Node
from coordinator.node.restore import Restored, force_new_cluster, restore_directory
from coordinator.node.surroundings import ThisMachine
from coordinator.replica.restore import REVISIONS_SKIPPED
from coordinator.storage.backup import verify_backup
from coordinator.storage.errors import (
    ArchiveDamaged,
    DirectoryForeign,
    DirectoryInUse,
)
from coordinator.storage.identity import DataDirectory
from coordinator.storage.state import StateStore
from coordinator.wire import systemkey
from coordinator.wire.raft import ConfState
from coordinator_sdk.errors import (
    Compacted,
    CoordinatorError,
    GuardFailed,
    LeaseNotFound,
    OutcomeUnknown,
    SessionNotFound,
)
from coordinator_sdk.protocol.cluster import ClientRegister
from coordinator_sdk.protocol.elections import ElectionCampaign
from coordinator_sdk.protocol.kv import Guard, LeaseGrant, LeaseRevoke, Put, Range
from coordinator_sdk.protocol.locks import LockAcquire, LockRelease
from coordinator_sdk.protocol.sessions import SessionClose, SessionOpen
from coordinator_sdk.protocol.topics import TopicPublish
from tests.node.running import config, copied, names, running, value
from tests.replica.member import state_of

ALONE = Origin(1001, 2002)


class Crash(Exception):
    """The process ends here."""


async def fill(node: Node) -> int:
    """Give a member something of everything; returns the token of a lock."""
    for session in (11, 12, 13):
        await node.execute(SessionOpen(60_000, session))
    held = await node.execute(LockAcquire("default", "backup", 11, "me", "ticket-1"))
    await node.execute(LockAcquire("default", "backup", 12, "you", "ticket-2"))
    await node.execute(LockAcquire("default", "backup", 13, "she", "ticket-3", 60_000))
    await node.execute(ElectionCampaign("default", "boss", 12, "you", b"x", "ticket-4"))
    await node.execute(ElectionCampaign("default", "boss", 13, "she", b"y", "ticket-5"))
    await node.execute(LeaseGrant(60_000, 21))
    await node.execute(Put(b"leased", b"1", lease=21))
    await node.execute(TopicPublish("default", "news", b"hello"))
    await node.execute(ClientRegister(31))
    await node.execute(Put(b"asked", b"1"), client=31, sequence=1)
    for number in range(50):
        await node.execute(Put(b"key/%02d" % (number % 20), b"%d" % number))
    token: int = held.result.token
    return token


async def backed_up(tmp_path: Path) -> tuple[Path, int, int]:
    """Give a backup of a member with something of everything, its revision and a token."""
    async with running(tmp_path / "old") as node:
        token = await fill(node)
        status = await node.save_backup(tmp_path / "backup.db")
        assert status.revision == node.revision
        assert status.cluster_id == node.cluster_id
    return tmp_path / "backup.db", status.revision, token


async def restored(backup: Path, target: Path, origin: Origin = ALONE) -> Restored:
    return await restore_directory(str(backup), str(target), DOMAINS, origin)


def system_keys(node: Node, domain: str) -> list[bytes]:
    start, end = systemkey.children("default", domain)
    return [kv.key for chunk in node.keyspace.record_chunks(SYSTEM, start, end) for kv in chunk]


async def test_keys_come_back_and_holders_do_not(tmp_path: Path):
    """Keys, topics and leases are restored; sessions and all that hung on them are gone."""
    backup, revision, _ = await backed_up(tmp_path)
    found = await restored(backup, tmp_path / "new")
    assert (found.identity.member_id, found.identity.cluster_id) == (1001, 2002)
    assert found.sessions_ended == 3
    assert found.revision == revision + REVISIONS_SKIPPED + 1
    async with running(tmp_path / "new") as node:
        assert (node.member_id, node.cluster_id) == (1001, 2002)
        assert node.revision == found.revision
        assert value(node, b"key/07") == b"47"
        assert value(node, b"leased") == b"1"
        assert system_keys(node, "locks") == []
        assert system_keys(node, "elections") == []
        assert len(system_keys(node, "topics")) > 0
        assert [lease.id for lease in node.keyspace.leases.by_id.values()] == [21]
        assert node.replica.clock.remaining_ms(21, node.replica.now_ms) > 55_000
        assert len(node.machine.requests) == 0
        assert not [key for key in node.machine.timers.records if b"waiter" in key]
        assert list(node.machine.members) == [1001]
        await node.execute(Put(b"key/07", b"on"))


async def test_everything_from_before_is_refused(tmp_path: Path):
    """Every token, session, guard and request id from before a restore is refused after it."""
    backup, revision, token = await backed_up(tmp_path)
    await restored(backup, tmp_path / "new")
    guard = Guard("locks", "default", "backup", token, 11, "me")
    refused: list[tuple[Any, type[CoordinatorError]]] = [
        (Put(b"guarded", b"1", guard=guard), GuardFailed),
        (LockRelease("default", "backup", 11, "me", token), CoordinatorError),
        (LockAcquire("default", "backup", 12, "you", "ticket-2"), SessionNotFound),
        (SessionClose(11), SessionNotFound),
        (ElectionCampaign("default", "boss", 13, "she", b"y", "ticket-6"), SessionNotFound),
    ]
    async with running(tmp_path / "new") as node:
        for command, error in refused:
            with pytest.raises(error):
                await node.execute(command)
        with pytest.raises(OutcomeUnknown):
            await node.execute(Put(b"asked", b"1"), client=31, sequence=1)
        with pytest.raises(Compacted):
            node.keyspace.range(Range(b"key/07", revision=revision))
        await node.execute(SessionOpen(60_000, 14))
        held = await node.execute(LockAcquire("default", "backup", 14, "me", "ticket-7"))
        assert held.result.token > token + REVISIONS_SKIPPED
        assert value(node, b"guarded") is None
        await node.execute(LeaseRevoke(21))
        with pytest.raises(LeaseNotFound):
            await node.execute(LeaseRevoke(12))


async def test_backup_under_load_holds_what_was_acknowledged(tmp_path: Path):
    """A backup taken while clients write holds every write answered before it was asked for."""
    answered: dict[bytes, int] = {}

    async def write(client: int) -> None:
        for number in range(150):
            key = b"load/%d" % client
            await node.execute(Put(key, b"%d" % number))
            answered[key] = number

    async with running(tmp_path / "old") as node:
        clients = [asyncio.ensure_future(write(client)) for client in range(8)]
        while len(answered) < 8:
            await asyncio.wait(clients, timeout=0.01)
        before = dict(answered)
        status = await node.save_backup(tmp_path / "backup.db")
        await asyncio.gather(*clients)
        assert before != answered or status.revision == node.revision
    await restored(tmp_path / "backup.db", tmp_path / "new")
    async with running(tmp_path / "new") as node:
        for key, number in before.items():
            found = value(node, key)
            assert found is not None
            assert int(found) >= number


async def test_flipped_bit_is_refused(tmp_path: Path):
    """A backup with a single wrong bit, wherever it is, makes nothing."""
    backup, _, _ = await backed_up(tmp_path)
    content = backup.read_bytes()
    rng = random.Random(7)
    for _ in range(60):
        altered = bytearray(content)
        altered[rng.randrange(len(altered))] ^= 1 << rng.randrange(8)
        backup.write_bytes(altered)
        with pytest.raises(ArchiveDamaged):
            verify_backup(backup)
        with pytest.raises(ArchiveDamaged):
            await restored(backup, tmp_path / "new")
    assert names(tmp_path) == ["backup.db", "old"]


async def test_restore_wants_an_empty_directory(tmp_path: Path):
    """A restore touches nothing in a directory that is not empty."""
    backup, _, _ = await backed_up(tmp_path)
    for target in (tmp_path / "old", tmp_path, backup):
        before = names(target) if target.is_dir() else []
        with pytest.raises(DirectoryForeign, match="not empty"):
            await restored(backup, target)
        assert (names(target) if target.is_dir() else []) == before
    os.mkdir(tmp_path / "empty")
    await restored(backup, tmp_path / "empty")
    with pytest.raises(DirectoryForeign, match="not empty"):
        await restored(backup, tmp_path / "empty")


@pytest.mark.parametrize("step", ["load_machine", "begin_anew", "machine_batch", "_begin_log"])
async def test_failed_restore_leaves_nothing(
    tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
):
    """A restore that fails at any step leaves the directory as empty as it was."""
    backup, _, _ = await backed_up(tmp_path)
    os.mkdir(tmp_path / "empty")

    def fail(*_: object, **__: object) -> Any:
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(restore_module, step, fail)
        for target in ("new", "empty"):
            with pytest.raises(Crash):
                await restored(backup, tmp_path / target)
    assert names(tmp_path / "empty") == []
    assert not (tmp_path / "new").exists()
    await restored(backup, tmp_path / "empty")


def origin_of(name: str, token: str = "again") -> Origin:
    settings = replace(
        Config(),
        name=name,
        initial_cluster="a=http://10.0.0.1:2380,b=http://10.0.0.2:2380,c=http://10.0.0.3:2380",
        initial_cluster_token=token,
        initial_advertise_peer_urls=(f"http://10.0.0.{'abc'.index(name) + 1}:2380",),
    )
    cluster = initial_cluster(settings)
    assert cluster is not None
    return founder(settings, cluster)


async def test_members_restored_from_one_file_are_one_cluster(tmp_path: Path):
    """Three members restored from the same file are equal in all but who they are."""
    backup, _, _ = await backed_up(tmp_path)
    found = [await restored(backup, tmp_path / name, origin_of(name)) for name in "abc"]
    states = []
    for name in "abc":
        booted = await boot(config(tmp_path / name), DOMAINS, ThisMachine(), lambda *_: None)
        states.append(state_of(booted.machine))
        assert booted.replica.raw.committed == booted.machine.index
        assert sorted(booted.peers) == sorted(
            one.identity.member_id
            for one in found
            if one.identity.member_id != booted.identity.member_id
        )
        await booted.store.close()
        booted.close()
    assert states[0] == states[1] == states[2]
    assert states[0]["configuration"] == ConfState(
        voters=tuple(sorted(one.identity.member_id for one in found))
    )
    assert [one.name for _, one in sorted(states[0]["members"].items())] == [
        name
        for _, name in sorted(
            (one.identity.member_id, name) for one, name in zip(found, "abc", strict=True)
        )
    ]
    clusters = {one.identity.cluster_id for one in found}
    assert len(clusters) == 1
    assert clusters != {origin_of("a").cluster_id}
    other = await restored(backup, tmp_path / "other", origin_of("a", "once more"))
    assert other.identity.cluster_id not in clusters


async def test_restored_twice_goes_further_each_time(tmp_path: Path):
    """A backup of a restored group restores as well, at a revision that is higher again."""
    backup, revision, _ = await backed_up(tmp_path)
    await restored(backup, tmp_path / "second")
    async with running(tmp_path / "second") as node:
        await node.execute(SessionOpen(60_000, 11))
        status = await node.save_backup(tmp_path / "again.db")
    found = await restored(tmp_path / "again.db", tmp_path / "third")
    assert found.sessions_ended == 1
    assert found.revision > status.revision + REVISIONS_SKIPPED > revision + 2 * REVISIONS_SKIPPED


# ---------------------------------------------------------------- a new cluster of what is left


async def bereaved(path: Path) -> dict[bytes, bytes]:
    """Make the directory of a member whose peers are lost; some of its log is in no database."""
    node = Node(config(path), DOMAINS)
    await node.start()
    await fill(node)
    node.machine.conf_state = ConfState(voters=(5, 6, node.member_id))
    await node.execute(Put(b"early", b"1"))
    await node._persistence.flush()
    node._persistence.tick = lambda: None  # type: ignore[method-assign]
    node._persistence.collect = lambda *_: None  # type: ignore[method-assign]
    await node.execute(Put(b"late", b"1"))
    await node.execute(SessionOpen(60_000, 14))
    node.failure = Crash()
    await node.stop()
    return {b"early": b"1", b"late": b"1", b"key/07": b"47"}


async def test_member_becomes_the_only_one(tmp_path: Path):
    """Forced, a member whose peers are lost goes on alone with all that its log has."""
    expected = await bereaved(tmp_path / "old")
    copied(tmp_path / "old", tmp_path / "new")
    directory = DataDirectory.open(tmp_path / "old")
    before = directory.require()
    directory.close()
    async with running(tmp_path / "new", force_new_cluster=True) as node:
        assert node.member_id == before.member_id
        assert node.cluster_id != before.cluster_id
        assert node.machine.conf_state == ConfState(voters=(node.member_id,))
        assert {key: value(node, key) for key in expected} == expected
        assert node.revision > REVISIONS_SKIPPED
        assert system_keys(node, "locks") == system_keys(node, "elections") == []
        assert [lease.id for lease in node.keyspace.leases.by_id.values()] == [21]
        with pytest.raises(Compacted):
            node.keyspace.range(Range(b"early", revision=5))
        revision, cluster = node.revision, node.cluster_id
    async with running(tmp_path / "new", force_new_cluster=True) as node:
        assert (node.revision, node.cluster_id) == (revision, cluster)


@pytest.mark.parametrize("step", ["change_cluster", "write", "_begin_log"])
async def test_forced_again_after_a_crash(
    tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
):
    """Stopped half way, the same flag completes it: nothing is lost, and the old id is gone."""
    expected = await bereaved(tmp_path / "old")
    directory = DataDirectory.open(tmp_path / "old")
    before = directory.require()
    directory.close()

    def fail(*_: object, **__: object) -> Any:
        raise Crash

    place = {"change_cluster": DataDirectory, "write": StateStore, "_begin_log": restore_module}
    with monkeypatch.context() as patch:
        patch.setattr(place[step], step, fail)
        with pytest.raises(Crash):
            await force_new_cluster(str(tmp_path / "old"), DOMAINS, random.Random(1).getrandbits)
    async with running(tmp_path / "old", force_new_cluster=True) as node:
        assert node.cluster_id != before.cluster_id
        assert node.machine.conf_state == ConfState(voters=(node.member_id,))
        assert {key: value(node, key) for key in expected} == expected
        assert system_keys(node, "locks") == []


async def test_forcing_needs_a_member_that_is_down(tmp_path: Path):
    """A directory without a member, or with a running one, is refused; a lone member stays."""
    draw: Callable[[int], int] = random.Random(1).getrandbits
    os.mkdir(tmp_path / "empty")
    with pytest.raises(DirectoryForeign):
        await force_new_cluster(str(tmp_path / "empty"), DOMAINS, draw)
    async with running(tmp_path / "alone") as node:
        await node.execute(Put(b"a", b"1"))
        with pytest.raises(DirectoryInUse):
            await force_new_cluster(str(tmp_path / "alone"), DOMAINS, draw)
        cluster = node.cluster_id
    assert not await force_new_cluster(str(tmp_path / "alone"), DOMAINS, draw)
    async with running(tmp_path / "alone") as node:
        assert node.cluster_id == cluster
        assert node.revision == 2
