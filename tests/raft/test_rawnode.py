"""The door to the core: bundles, their order, settings, status, and the wire format."""

import ast
import logging
import random
from pathlib import Path

import msgspec
import pytest

import coordinator.raft
from coordinator.raft import (
    LOCAL_APPEND,
    LOCAL_APPLY,
    BasicStatus,
    ConfigInvalid,
    InvariantBroken,
    MemoryStorage,
    RawNode,
    SoftState,
    StateType,
    hard_state_of,
)
from coordinator.wire import raft as wire
from coordinator.wire.raft import (
    ConfChange,
    ConfChangeSingle,
    ConfChangeType,
    ConfChangeV2,
    ConfState,
    Entry,
    EntryType,
    HardState,
    Message,
    MessageType,
    Snapshot,
    SnapshotMetadata,
)
from tests.raft.group import Member, config_of, entry, group_of, storage_of


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"heartbeat_tick": 0}, "heartbeat_tick"),
        ({"election_tick": 1}, "election_tick"),
        ({"max_inflight_msgs": 0}, "max_inflight_msgs"),
        ({"max_inflight_bytes": 5, "max_size_per_msg": 6}, "max_inflight_bytes"),
        ({"max_pending_reads": 0}, "max_pending_reads"),
        ({"applied": -1}, "applied"),
    ],
)
def test_settings_are_checked(settings: dict[str, object], message: str) -> None:
    """Settings that contradict each other are refused, with every rule that is violated."""
    with pytest.raises(ConfigInvalid, match=message):
        RawNode(config_of(1, storage_of(), **settings))
    with pytest.raises(ConfigInvalid, match=f"id must be positive; .*{message}"):
        RawNode(config_of(0, storage_of(), **settings))


def test_a_bundle_comes_in_order() -> None:
    """A lone member: vote, first entry, commit and apply, each in a bundle after the one before."""
    storage = storage_of((1,))
    node = RawNode(config_of(1, storage))
    node.campaign()
    rd = node.ready()
    assert (rd.soft_state, rd.hard_state) == (
        SoftState(0, StateType.CANDIDATE),
        HardState(1, 1, 0),
    )
    assert rd.must_sync
    node.advance()
    rd = node.ready()
    assert rd.soft_state == SoftState(1, StateType.LEADER)
    assert rd.entries == [entry(1, 1)]
    assert rd.committed_entries == []
    storage.append(rd.entries)
    node.advance()
    rd = node.ready()
    assert (rd.hard_state, rd.must_sync) == (HardState(1, 1, 1), False)
    assert rd.committed_entries == [entry(1, 1)]
    node.advance()
    assert not node.has_ready()
    assert not node.ready()


def test_a_bundle_has_to_be_advanced_over() -> None:
    """Two bundles without a call in between, or a call where answers take its place, are errors."""
    node = RawNode(config_of(1, storage_of((1,))))
    node.campaign()
    node.ready()
    with pytest.raises(InvariantBroken, match="two Readys"):
        node.ready()
    other = RawNode(config_of(1, storage_of((1,)), async_storage_writes=True))
    with pytest.raises(InvariantBroken, match="asynchronous"):
        other.advance()


def test_both_ways_of_storing_end_alike() -> None:
    """With and without asynchronous storage writes the same commands give the same log."""
    logs = []
    for is_async in (False, True):
        storage = storage_of((1,))
        node = RawNode(config_of(1, storage, async_storage_writes=is_async))
        applied: list[Entry] = []
        node.campaign()
        for turn in range(20):
            if turn > 5 and node.is_leader:
                node.propose([b"%d" % turn, b"more"])
            while node.has_ready():
                rd = node.ready()
                if not is_async:
                    storage.append(rd.entries)
                    applied.extend(rd.committed_entries)
                    node.advance()
                    continue
                for message in rd.messages:
                    if message.to == LOCAL_APPEND:
                        storage.append(message.entries)
                    elif message.to == LOCAL_APPLY:
                        applied.extend(message.entries)
                    for response in message.responses:
                        node.step(response)
        logs.append((applied, storage.entries(1, storage.last_index() + 1)))
    assert logs[0] == logs[1]
    assert len(logs[0][0]) == 29


def test_a_proposal_lands_where_the_caller_expects_it() -> None:
    """Commands take the positions after last_index, in order, in the term of that moment."""
    member = Member(1, storage_of((1,)))
    member.node.campaign()
    member.work()
    before, term = member.node.last_index, member.node.term
    member.node.propose([b"a", b"b", b"c"])
    assert member.node.last_index == before + 3
    member.work()
    assert member.log[before:] == [
        Entry(term, before + offset, data=data) for offset, data in enumerate((b"a", b"b", b"c"), 1)
    ]
    with pytest.raises(InvariantBroken, match="empty"):
        member.node.propose([])


def test_status_shows_what_there_is() -> None:
    """The status of a leader shows everyone's progress; that of a follower does not."""
    group = group_of(3)
    group.elect(1)
    status = group[1].node.status()
    assert (status.id, status.term, status.lead, status.state) == (1, 1, 1, StateType.LEADER)
    assert (status.commit, status.applied, status.first_index, status.last_index) == (1, 1, 1, 1)
    assert [its.match for its in status.progress.values()] == [1, 1, 1]
    assert status.config.voters == (1, 2, 3)
    follower = group[2].node
    assert follower.status().progress == {}
    assert follower.basic_status() == BasicStatus(
        id=2,
        hard_state=HardState(1, 1, 1),
        soft_state=SoftState(1, StateType.FOLLOWER),
        applied=1,
        first_index=1,
        last_index=1,
        lead_transferee=0,
    )
    assert (follower.lead, follower.committed, follower.applied) == (1, 1, 1)


def test_a_restart_goes_on_after_what_was_applied() -> None:
    """After a restart only entries beyond the applied index are handed out."""
    entries = [entry(1, index, b"%d" % index) for index in (1, 2, 3)]
    member = Member(1, storage_of(entries=entries, hard_state=HardState(1, 2, 3)), applied=1)
    member.work()
    assert member.applied == entries[1:]
    assert (member.node.term, member.node.raft.vote) == (1, 2)


def test_a_hard_state_travels_whole_or_not_at_all() -> None:
    """A message to the storage carries the hard state if it has changed, else none."""
    message = Message(MessageType.MSG_STORAGE_APPEND, term=3, vote=2, commit=1)
    assert hard_state_of(message) == HardState(3, 2, 1)
    assert hard_state_of(Message(MessageType.MSG_STORAGE_APPEND)) is None


def test_a_broken_configuration_is_refused() -> None:
    """A storage whose configuration contradicts itself does not start."""
    storage = MemoryStorage()
    state = ConfState(voters=(1, 2), learners=(2,))
    storage.apply_snapshot(Snapshot(b"", SnapshotMetadata(state, 1, 1)))
    with pytest.raises(InvariantBroken):
        RawNode(config_of(1, storage))


def test_the_story_can_be_listened_to(caplog: pytest.LogCaptureFixture) -> None:
    """A logger of the standard library can be handed in, and hears of every transition."""
    caplog.set_level(logging.DEBUG)
    group = group_of(3, logger=logging.getLogger("raft"))
    group.elect(1)
    group.isolated = [3]
    group.propose(1, b"x")
    group.isolated = []
    group.tick(2, 1)
    assert "1 became leader at term 1" in caplog.text
    assert "2 cast MSG_VOTE for 1" in caplog.text
    assert "decreased progress" in caplog.text


def test_everything_crosses_the_wire() -> None:
    """A message with everything in it comes back equal, alone and in a batch."""
    state = ConfState((1, 2), (3,), (1, 4), (4,), True)
    message = Message(
        MessageType.MSG_APP,
        2,
        1,
        3,
        4,
        5,
        [Entry(1, 2, EntryType.CONF_CHANGE, b"x")],
        6,
        7,
        Snapshot(b"data", SnapshotMetadata(state, 8, 9)),
        True,
        10,
        b"context",
    )
    assert wire.decode_message(wire.encode_message(message)) == message
    assert wire.decode_messages(wire.encode_messages([message, message])) == [message] * 2
    one = Entry(1, 2, EntryType.NORMAL, b"\x00\xff")
    assert wire.decode_entry(wire.encode_entry(one)) == one
    hard = HardState(1, 2, 3)
    assert wire.decode_hard_state(wire.encode_hard_state(hard)) == hard
    metadata = SnapshotMetadata(state, 1, 2)
    assert wire.decode_snapshot_metadata(wire.encode_snapshot_metadata(metadata)) == metadata


@pytest.mark.parametrize(
    "change",
    [
        ConfChange(ConfChangeType.REMOVE_NODE, 3, b"why"),
        ConfChangeV2(changes=(ConfChangeSingle(ConfChangeType.ADD_NODE, 3),), context=b"why"),
        ConfChangeV2(),
    ],
)
def test_configuration_changes_travel_in_entries(change: ConfChange | ConfChangeV2) -> None:
    """A configuration change comes back from the entry that carries it."""
    assert wire.decode_conf_change(wire.conf_change_entry(change)) == change


def test_leaving_a_joint_configuration_weighs_nothing() -> None:
    """The entry that leaves a joint configuration has no payload, so no limit refuses it."""
    assert wire.conf_change_entry(None) == Entry(type=EntryType.CONF_CHANGE_V2)
    assert wire.conf_change_entry(ConfChangeV2()).data == b""
    assert wire.decode_conf_change(Entry(type=EntryType.CONF_CHANGE)) == ConfChange()
    assert wire.decode_conf_change(Entry()) is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        msgspec.msgpack.encode([99]),
        msgspec.msgpack.encode([3, -1]),
        msgspec.msgpack.encode([3, 1 << 63]),
        msgspec.msgpack.encode([3, "x"]),
        msgspec.msgpack.encode([19, 1, LOCAL_APPEND]),
        msgspec.msgpack.encode({"type": 3}),
    ],
)
def test_garbage_is_refused(data: bytes) -> None:
    """What is no message, or out of range, or pretends to come from the storage, is refused."""
    with pytest.raises(msgspec.DecodeError):
        wire.decode_message(data)


def test_versions_understand_each_other() -> None:
    """Unknown trailing fields are ignored, and missing ones take their defaults."""
    heartbeat = Message(MessageType.MSG_HEARTBEAT, 2, 1)
    longer = msgspec.msgpack.encode([*msgspec.structs.astuple(heartbeat), "new"])
    assert wire.decode_message(longer) == heartbeat
    assert wire.decode_message(msgspec.msgpack.encode([8, 2, 1])) == heartbeat


def test_the_core_is_pure() -> None:
    """The core imports the wire room and harmless parts of the standard library, nothing else."""
    allowed = {"collections", "dataclasses", "enum", "typing", "msgspec", "coordinator"}
    imported = set()
    for path in Path(coordinator.raft.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(node.module or "")
    assert {name.split(".")[0] for name in imported} <= allowed
    own = {name for name in imported if name.startswith("coordinator")}
    assert {".".join(name.split(".")[:2]) for name in own} == {
        "coordinator.raft",
        "coordinator.wire",
    }


def test_the_same_inputs_give_the_same_outputs() -> None:
    """Two groups with the same generator and the same inputs do exactly the same."""
    histories = []
    for _ in range(2):
        group = group_of(3, rng=random.Random(5), pre_vote=True, check_quorum=True)
        group.tick(60)
        lead = group.leaders()[0]
        group.propose(lead, b"x")
        group[lead].node.transfer_leader(lead % 3 + 1)
        group.tick(30)
        histories.append(group.sent)
    assert histories[0] == histories[1]
    assert len(histories[0]) > 100
