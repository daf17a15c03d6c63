"""A snapshot takes the place of a member's state: nothing is lost, half done or told twice."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from coordinator.keyspace.records import USER
from coordinator.node.surroundings import ThisMachine
from coordinator.replica.effects import Proposal
from coordinator.replica.requests import Outcome
from coordinator.storage.errors import ArchiveDamaged, StateDamaged, StorageError
from coordinator.storage.stream import read_snapshot
from coordinator.wire.raft import ConfState, Entry, Message, MessageType
from coordinator_sdk.protocol.kv import Compact, Delete, Event, Put, Watch
from tests.node.installing import LEADER, MemoryMachine, Target
from tests.node.running import copied
from tests.replica.member import Member, state_of

KINDS = ["disk", "memory"]


class Crash(Exception):
    """The process ends here."""


def crash(*_: object, **__: object) -> Any:
    raise Crash


@pytest.fixture(params=KINDS)
async def target(request: pytest.FixtureRequest, tmp_path: Path):
    """A member that has begun a group of one."""
    machine = ThisMachine() if request.param == "disk" else MemoryMachine()
    target = Target(tmp_path / "target", machine)
    await target.start()
    yield target
    await target.stop()


def leader_of(target: Target) -> Member:
    """Give a member of the target's group that is further than it."""
    leader = Member()
    leader.machine.conf_state = ConfState(
        voters=(LEADER,), learners=(target.booted.identity.member_id,)
    )
    leader.register(9)
    for number in range(300):
        leader.execute(Put(b"key/%03d" % (number % 100), b"%d" % number))
    leader.open_session(11)
    leader.grant(12)
    leader.execute(Put(b"leased", b"1", lease=12))
    leader.execute(Delete(b"key/007"))
    leader.execute(Put(b"asked", b"1"), client=9, sequence=4)
    return leader


async def snapshot_of(leader: Member) -> list[bytes]:
    """Give what the leader streams."""
    leader.save()
    return [chunk async for chunk in read_snapshot(leader.store, chunk_bytes=2000)]


async def install(target: Target, leader: Member) -> None:
    """Bring a target to where the leader is."""
    finishing = await target.receive(await snapshot_of(leader))
    await target.turn()
    await finishing


async def test_installed_state_equals_the_senders(target: Target):
    """After an installation the member has the sender's state to the last bit, and so its next run.

    Also what the database holds afterwards leads to the same machine.
    """
    leader = leader_of(target)
    await install(target, leader)
    assert state_of(target.machine) == state_of(leader.machine)
    assert target.seen_machines == [target.machine]
    assert target.let_go == 1
    assert target.persistence._write_behind.durable_index == leader.machine.index
    assert target.replica.raw.applied == target.replica.raw.committed == leader.machine.index
    await target.stop()
    await target.start()
    assert state_of(target.machine) == state_of(leader.machine)


async def test_log_goes_on_after_the_snapshot(target: Target):
    """Entries after the snapshot are applied on top of it, stored, and there after a start."""
    leader = leader_of(target)
    await install(target, leader)
    for number in range(3):
        leader.execute(Put(b"later", b"%d" % number))
    first = target.machine.index + 1
    entries = leader.replica.log.entries(first, leader.machine.index + 1)
    term = target.replica.raw.term
    target.replica.step(
        Message(
            MessageType.MSG_APP,
            target.booted.identity.member_id,
            LEADER,
            term,
            leader.machine.term,
            first - 1,
            [Entry(each.term, each.index, each.type, each.data) for each in entries],
            commit=leader.machine.index,
        )
    )
    await target.turn()
    assert target.machine.chain == leader.machine.chain
    await target.stop(flush=False)
    await target.start()
    await target.turn()
    assert target.machine.chain == leader.machine.chain
    leader.save()
    assert (await target.booted.store.load_meta())["applied_index"] <= leader.machine.index


STEPS: list[tuple[str, bool]] = [
    ("received", False),
    ("noted", True),
    ("let go", True),
    ("released", True),
    ("replaced", True),
    ("opened", True),
    ("taken over", True),
]


@pytest.mark.parametrize(("step", "is_new"), STEPS)
@pytest.mark.parametrize("kind", KINDS)
async def test_crash_at_every_step(
    tmp_path: Path, kind: str, step: str, is_new: bool, monkeypatch: pytest.MonkeyPatch
):
    """Stopped after any step, the next start has the old state or the new one, and always whole.

    It is the new one as soon as the snapshot is noted in the log.
    """
    machine = ThisMachine() if kind == "disk" else MemoryMachine()
    target = Target(tmp_path / "first", machine)
    await target.start()
    await target.lead()
    done: list[Outcome] = []
    target.replica.propose(Proposal(Put(b"old", b"1"), done.append))
    await target.turn()
    leader = leader_of(target)
    await target.receive(await snapshot_of(leader))
    old, new = state_of(target.machine), state_of(leader.machine)
    place: dict[str, tuple[Any, str]] = {
        "received": (target, "write"),
        "noted": (target.installation, "commit"),
        "let go": (target.persistence, "release"),
        "released": (target.booted.directory, "finish_install"),
        "replaced": (target.booted.directory, "open_state"),
        "opened": (target.persistence, "resume"),
        "taken over": (target.replica, "persisted"),
    }
    with monkeypatch.context() as patch:
        patch.setattr(*place[step], crash)
        with pytest.raises(Crash):
            await target.turn()
    second = Target(tmp_path / "second", machine)
    if kind == "disk":
        copied(tmp_path / "first", tmp_path / "second")
    await target.stop(flush=False)
    await second.start()
    if not is_new:
        await second.lead()
        new = old | {key: state_of(second.machine)[key] for key in ("index", "term", "chain")}
    assert state_of(second.machine) == new
    await second.stop()


async def test_watches_miss_nothing(target: Target):
    """Watches go on from their own positions: every later event once, in order, across the swap."""
    await target.lead()
    seen: dict[str, list[Event]] = {"all": [], "one": [], "before": []}
    target.hub.watch_local(Watch(b"\0", b"\0"), lambda _, events: seen["all"].extend(events))
    target.hub.watch_local(Watch(b"key/005"), lambda _, events: seen["one"].extend(events))
    leader = leader_of(target)
    at = leader.machine.keyspace.revision - 20
    target.hub.watch_local(
        Watch(b"\0", b"\0", at, prev_kv=True), lambda _, events: seen["before"].extend(events)
    )
    await install(target, leader)
    await target.catch_up()
    wanted = [event for _, events in leader.published for space, event in events if space == USER]
    plain = [(event.type, event.kv) for event in wanted]
    assert [(event.type, event.kv) for event in seen["all"]] == plain
    assert [(event.type, event.kv) for event in seen["one"]] == [
        pair for pair in plain if pair[1].key == b"key/005"
    ]
    assert seen["before"] == [event for event in wanted if event.kv.mod_revision >= at]
    assert not target.hub.is_lagging


async def test_watch_is_told_of_lost_history(target: Target):
    """A watch whose next revisions the snapshot no longer has is told so, and ends."""
    lost: list[int] = []
    seen: list[Event] = []
    target.hub.watch_local(Watch(b"\0", b"\0"), lambda _, events: seen.extend(events), lost.append)
    leader = leader_of(target)
    revision = leader.machine.keyspace.revision - 5
    leader.execute(Compact(revision))
    await install(target, leader)
    await target.catch_up()
    assert lost == [revision]
    assert seen == []


async def test_waiting_callers_are_answered(target: Target):
    """Proposals and reads that waited for entries in the snapshot are answered, each once.

    With a request id the answer is what the group decided; without one it is unknown.
    """
    await target.lead()
    outcomes: dict[str, list[Outcome]] = {"asked": [], "lost": [], "plain": []}
    reads: list[Any] = []
    asked = Put(b"asked", b"1")
    replica = target.replica
    replica.propose(Proposal(asked, outcomes["asked"].append, 9, 4))
    replica.propose(Proposal(Put(b"asked", b"2"), outcomes["lost"].append, 9, 5))
    replica.propose(Proposal(asked, outcomes["plain"].append))
    effects = replica.turn()
    assert effects.appends
    replica._awaiting_apply.append((replica.machine.index + 2, reads.append, replica.now_ms))
    leader = leader_of(target)
    finishing = await target.receive(await snapshot_of(leader))
    assert (list(outcomes.values()), reads) == ([[], [], []], [])
    for append in effects.appends:
        await target.write(append)
        replica.persisted(append)
    await target.turn()
    await finishing
    assert reads == [None]
    assert outcomes["asked"][0].error is None
    assert outcomes["asked"][0].revision == leader.machine.keyspace.revision
    assert [outcome.error[0] for outcome in outcomes["lost"] if outcome.error] == ["unavailable"]
    assert [outcome.error[0] for outcome in outcomes["plain"] if outcome.error] == [
        "outcome_unknown"
    ]
    assert not replica._in_flight
    assert [len(told) for told in outcomes.values()] == [1, 1, 1]


async def test_what_was_committed_before_is_not_applied_twice(target: Target):
    """Entries that wait to be applied when the core takes a snapshot are left to the snapshot."""
    await target.lead()
    replica = target.replica
    replica.propose(Proposal(Put(b"old", b"1"), None))
    for append in replica.turn().appends:
        await target.write(append)
        replica.persisted(append)
    replica.turn()
    assert replica.has_committed
    leader = leader_of(target)
    finishing = await target.receive(await snapshot_of(leader))
    assert not replica.has_committed
    assert not replica.apply()
    await target.turn()
    await finishing
    assert state_of(target.machine) == state_of(leader.machine)
    assert replica.raw.applied == leader.machine.index


async def test_reads_of_the_past_wait_for_the_new_database(
    target: Target, monkeypatch: pytest.MonkeyPatch
):
    """A read of old values during the swap is answered from the new database."""
    leader = leader_of(target)
    event = leader.published[3][1][0][1]
    answers: list[asyncio.Task[list[bytes | None]]] = []
    real = target.booted.directory.finish_install

    async def ask(index: int | None) -> bool:
        reading = target.persistence.old_values([(event.kv.mod_revision, 0)])
        answers.append(asyncio.ensure_future(reading))
        await asyncio.sleep(0)
        return await real(index)

    monkeypatch.setattr(target.booted.directory, "finish_install", ask)
    await install(target, leader)
    assert await answers[0] == [event.kv.value]


async def test_snapshot_the_core_does_not_want_is_removed(target: Target):
    """A snapshot of a deposed leader changes nothing, and leaves nothing behind."""
    await target.lead()
    before = state_of(target.machine)
    leader = leader_of(target)
    target.replica.raw.campaign()
    finishing = await target.receive(await snapshot_of(leader), term=1)
    await finishing
    await target.turn()
    assert state_of(target.machine) == before
    assert not target.installation.is_pending
    assert not await target.booted.directory.finish_install(leader.machine.index)
    await install(target, leader)
    assert state_of(target.machine) == state_of(leader.machine)


async def test_old_snapshot_is_refused_at_its_header(target: Target):
    """A snapshot of what is here already is refused before its rows are received."""
    leader = leader_of(target)
    chunks = await snapshot_of(leader)
    await install(target, leader)
    sink = target.receiver.open(LEADER, target.head())
    with pytest.raises(StorageError, match="already"):
        await sink.write(chunks[0])
    await sink.abort()


async def test_damaged_snapshot_is_refused(target: Target):
    """A flipped bit anywhere in the stream is noticed, and the next snapshot is welcome."""
    leader = leader_of(target)
    chunks = await snapshot_of(leader)
    before = state_of(target.machine)
    for number in range(0, len(chunks), 3):
        altered = [bytearray(chunk) for chunk in chunks]
        altered[number][len(altered[number]) * number // len(chunks)] ^= 4
        with pytest.raises(StorageError):
            await target.take_in([bytes(chunk) for chunk in altered])
        assert state_of(target.machine) == before
    with pytest.raises(ArchiveDamaged):
        target.receiver.open(LEADER, b"\xc1")
    with pytest.raises(ArchiveDamaged):
        target.receiver.open(LEADER + 1, target.head())
    await install(target, leader)
    assert state_of(target.machine) == state_of(leader.machine)


async def test_later_snapshot_takes_the_place_of_one_coming_in(target: Target):
    """A second stream ends one that is still coming in; one that is complete keeps its place."""
    leader = leader_of(target)
    chunks = await snapshot_of(leader)
    first = target.receiver.open(LEADER, target.head())
    await first.write(chunks[0])
    await first.write(chunks[1])
    second = target.receiver.open(LEADER, target.head())
    with pytest.raises(StorageError, match="given up"):
        await first.write(chunks[2])
    for chunk in chunks[:2]:
        await second.write(chunk)
    await first.abort()
    for chunk in chunks[2:]:
        await second.write(chunk)
    target.scheduled.clear()
    finishing = asyncio.ensure_future(second.finish())
    await target.scheduled.wait()
    assert target.installation.is_pending
    with pytest.raises(StorageError, match="being installed"):
        target.receiver.open(LEADER, target.head())
    await target.turn()
    await finishing
    assert state_of(target.machine) == state_of(leader.machine)


async def test_interrupted_transfer_leaves_room_for_the_next(target: Target):
    """A stream that ends half way is removed; giving up the wait does not end an installation."""
    leader = leader_of(target)
    chunks = await snapshot_of(leader)
    sink = target.receiver.open(LEADER, target.head())
    await sink.write(chunks[0])
    await sink.abort()
    with pytest.raises(ArchiveDamaged):
        await target.receiver.open(LEADER, target.head()).finish()
    finishing = await target.receive(chunks)
    finishing.cancel()
    await asyncio.wait([finishing])
    assert target.installation.is_pending
    await target.turn()
    assert state_of(target.machine) == state_of(leader.machine)


async def test_lost_snapshot_stops_the_member(target: Target):
    """If what was received is gone when it is to be installed, the member stops."""
    leader = leader_of(target)
    finishing = await target.receive(await snapshot_of(leader))
    await target.booted.directory.finish_install(None)
    with pytest.raises(StateDamaged, match="disappeared"):
        await target.turn()
    with pytest.raises(StorageError):
        await finishing


async def test_empty_state_behind_a_snapshot_is_refused(tmp_path: Path):
    """A member whose log was reset to a snapshot never starts without the state of it."""
    machine = MemoryMachine()
    target = Target(tmp_path, machine)
    await target.start()
    leader = leader_of(target)
    await install(target, leader)
    await target.stop()
    machine.database = type(machine.database)()
    with pytest.raises(StateDamaged):
        await Target(tmp_path, machine).start()
