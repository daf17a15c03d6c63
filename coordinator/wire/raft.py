"""What the members of a Raft group say to each other, and what they keep in the log.

The structs follow the vocabulary of the Raft thesis (Ongaro, 2014): terms and indexes are counted
from 1 and zero means "none". Ids of members are positive and fit in 63 bits. Structs are treated as
immutable once they have been handed over; the core replaces them instead of changing them.

Wire format: MessagePack arrays, in the order of the fields. Fields are only ever appended.
"""

from enum import IntEnum
from typing import Annotated, Final

import msgspec

INT63_MAX: Final = (1 << 63) - 1
"""Largest id, term, index or revision: what fits in a signed 64-bit integer everywhere else."""

Uint63 = Annotated[int, msgspec.Meta(ge=0, le=INT63_MAX)]
"""A non-negative 63-bit integer; checked when decoding, not when building."""


class EntryType(IntEnum):
    """What the payload of a log entry is."""

    NORMAL = 0
    """A command of the state machine; empty for the entry a new leader appends."""
    CONF_CHANGE = 1
    """A `ConfChange`: one member at a time."""
    CONF_CHANGE_V2 = 2
    """A `ConfChangeV2`: any number of members, through a joint configuration if need be."""


class MessageType(IntEnum):
    """Everything that can be stepped into the core; the numbers are part of the wire format."""

    MSG_HUP = 0
    """Local: campaign now."""
    MSG_BEAT = 1
    """Local: the leader's heartbeat interval has passed."""
    MSG_PROP = 2
    """Append these entries."""
    MSG_APP = 3
    """Leader to follower: entries after (log_term, index), and the commit index."""
    MSG_APP_RESP = 4
    """Answer to MSG_APP and MSG_SNAP; `reject_hint` says where to look next."""
    MSG_VOTE = 5
    MSG_VOTE_RESP = 6
    MSG_SNAP = 7
    """Leader to follower: replace the log by this snapshot."""
    MSG_HEARTBEAT = 8
    MSG_HEARTBEAT_RESP = 9
    MSG_UNREACHABLE = 10
    """Local: the last message to this member did not get through."""
    MSG_SNAP_STATUS = 11
    """Local: the snapshot to this member was delivered, or (reject) was not."""
    MSG_CHECK_QUORUM = 12
    """Local: the leader asks whether a quorum has been heard from."""
    MSG_TRANSFER_LEADER = 13
    MSG_TIMEOUT_NOW = 14
    """Leader to its chosen successor: campaign now."""
    MSG_READ_INDEX = 15
    MSG_READ_INDEX_RESP = 16
    MSG_PRE_VOTE = 17
    MSG_PRE_VOTE_RESP = 18
    MSG_STORAGE_APPEND = 19
    """Core to its own storage: write entries, hard state and snapshot."""
    MSG_STORAGE_APPEND_RESP = 20
    MSG_STORAGE_APPLY = 21
    """Core to its own state machine: apply these committed entries."""
    MSG_STORAGE_APPLY_RESP = 22
    MSG_FORGET_LEADER = 23
    """Local: a follower forgets its leader, without campaigning."""


class Entry(msgspec.Struct, array_like=True, gc=False):
    """One position of the log."""

    term: Uint63 = 0
    """Term of the leader that created the entry; kept when a later leader copies it."""
    index: Uint63 = 0
    """Position in the log, from 1, without gaps."""
    type: EntryType = EntryType.NORMAL
    data: bytes = b""


class HardState(msgspec.Struct, array_like=True, gc=False):
    """What a member must not forget (Raft thesis §3.8)."""

    term: Uint63 = 0
    vote: Uint63 = 0
    """Whom this member voted for in `term`; 0 for nobody."""
    commit: Uint63 = 0
    """Highest index known to be committed. May lag behind; never ahead of the log."""


class ConfState(msgspec.Struct, array_like=True, gc=False):
    """The configuration in force at some index; joint if `voters_outgoing` is not empty."""

    voters: tuple[Uint63, ...] = ()
    """Voters of the configuration, or of the incoming half of a joint one."""
    learners: tuple[Uint63, ...] = ()
    voters_outgoing: tuple[Uint63, ...] = ()
    learners_next: tuple[Uint63, ...] = ()
    """Outgoing voters that become learners when the joint configuration is left."""
    auto_leave: bool = False
    """Whether the leader leaves the joint configuration by itself."""


class SnapshotMetadata(msgspec.Struct, array_like=True, gc=False):
    """Where in the log a snapshot stands."""

    conf_state: ConfState = msgspec.field(default_factory=ConfState)
    index: Uint63 = 0
    """Last index the snapshot contains; 0 means "no snapshot"."""
    term: Uint63 = 0


class Snapshot(msgspec.Struct, array_like=True, gc=False):
    """A prefix of the log, replaced by the state it produced.

    `data` belongs to the caller: the state itself, or merely a reference to where it can be
    fetched.
    """

    data: bytes = b""
    metadata: SnapshotMetadata = msgspec.field(default_factory=SnapshotMetadata)


class Message(msgspec.Struct, array_like=True, gc=False):
    """The one kind of input and output of the core. Unused fields stay at zero."""

    type: MessageType
    to: Uint63 = 0
    from_: Uint63 = 0
    term: Uint63 = 0
    """Term of the sender; 0 for local messages and for forwarded proposals and reads."""
    log_term: Uint63 = 0
    """Term of the entry at `index`: in MSG_APP the entry before `entries`, in a vote the
    candidate's last one."""
    index: Uint63 = 0
    entries: list[Entry] = []
    commit: Uint63 = 0
    vote: Uint63 = 0
    """Only in MSG_STORAGE_APPEND, which carries a `HardState` in (term, vote, commit)."""
    snapshot: Snapshot | None = None
    reject: bool = False
    reject_hint: Uint63 = 0
    """In a rejected MSG_APP_RESP: the highest index at which the logs may still match."""
    context: bytes = b""
    """Opaque to the receiver and sent back by it: tells apart rounds of reads, and forced
    elections."""
    responses: list["Message"] = []
    """Only in messages to the local storage: what to deliver once the write is done."""


class ConfChangeType(IntEnum):
    """What happens to one member."""

    ADD_NODE = 0
    """Add a voter, or promote a learner."""
    REMOVE_NODE = 1
    UPDATE_NODE = 2
    """Nothing changes for the core: lets the caller change what it knows of a member."""
    ADD_LEARNER_NODE = 3
    """Add a learner, or demote a voter."""


class ConfChangeTransition(IntEnum):
    """How a `ConfChangeV2` passes from one configuration to the next."""

    AUTO = 0
    """The simple protocol if it is enough, else a joint configuration that is left by itself."""
    JOINT_IMPLICIT = 1
    """A joint configuration that the leader leaves by itself."""
    JOINT_EXPLICIT = 2
    """A joint configuration that stays until an empty `ConfChangeV2` is proposed."""


class ConfChangeSingle(msgspec.Struct, array_like=True, gc=False):
    """One step of a `ConfChangeV2`. A `node_id` of 0 makes it a no-op."""

    type: ConfChangeType = ConfChangeType.ADD_NODE
    node_id: Uint63 = 0


class ConfChangeV2(msgspec.Struct, array_like=True, gc=False):
    """A change of any number of members; empty and AUTO to leave a joint configuration."""

    transition: ConfChangeTransition = ConfChangeTransition.AUTO
    changes: tuple[ConfChangeSingle, ...] = ()
    context: bytes = b""
    """The caller's own: never looked at."""

    def as_v2(self) -> "ConfChangeV2":
        """Return the change itself; lets callers treat both versions alike."""
        return self

    def leaves_joint(self) -> bool:
        """Whether this change asks to leave a joint configuration."""
        return self.transition == ConfChangeTransition.AUTO and not self.changes

    def enters_joint(self) -> bool:
        """Whether this change goes through a joint configuration.

        More changes could do with the simple protocol, depending on the configuration they meet;
        joint consensus is used liberally instead.
        """
        return self.transition != ConfChangeTransition.AUTO or len(self.changes) > 1

    def leaves_automatically(self) -> bool:
        """Whether the joint configuration entered by this change is left without being asked."""
        return self.enters_joint() and self.transition != ConfChangeTransition.JOINT_EXPLICIT


class ConfChange(msgspec.Struct, array_like=True, gc=False):
    """A change of one member, by the simple protocol."""

    type: ConfChangeType = ConfChangeType.ADD_NODE
    node_id: Uint63 = 0
    context: bytes = b""
    """The caller's own: never looked at."""

    def as_v2(self) -> ConfChangeV2:
        """Return the same change in its newer form."""
        return ConfChangeV2(
            changes=(ConfChangeSingle(self.type, self.node_id),), context=self.context
        )


AnyConfChange = ConfChange | ConfChangeV2

_LEAVE_JOINT: Final = ConfChangeV2()

_encoder: Final = msgspec.msgpack.Encoder()
_message_decoder: Final = msgspec.msgpack.Decoder(Message)
_messages_decoder: Final = msgspec.msgpack.Decoder(list[Message])
_entry_decoder: Final = msgspec.msgpack.Decoder(Entry)
_hard_state_decoder: Final = msgspec.msgpack.Decoder(HardState)
_snapshot_metadata_decoder: Final = msgspec.msgpack.Decoder(SnapshotMetadata)
_conf_change_decoder: Final = msgspec.msgpack.Decoder(ConfChange)
_conf_change_v2_decoder: Final = msgspec.msgpack.Decoder(ConfChangeV2)


def encode_message(message: Message) -> bytes:
    """Return the wire form of one message."""
    return _encoder.encode(message)


def decode_message(data: bytes) -> Message:
    """Return the message in `data`.

    Raises:
        msgspec.DecodeError: `data` is not a message, or a field is out of its range.
    """
    return _message_decoder.decode(data)


def encode_messages(messages: list[Message]) -> bytes:
    """Return the wire form of a batch of messages."""
    return _encoder.encode(messages)


def decode_messages(data: bytes) -> list[Message]:
    """Return the batch of messages in `data`.

    Raises:
        msgspec.DecodeError: `data` is not a batch of messages, or a field is out of its range.
    """
    return _messages_decoder.decode(data)


def encode_entry(entry: Entry) -> bytes:
    """Return the wire form of one log entry."""
    return _encoder.encode(entry)


def decode_entry(data: bytes) -> Entry:
    """Return the log entry in `data`.

    Raises:
        msgspec.DecodeError: `data` is not an entry, or a field is out of its range.
    """
    return _entry_decoder.decode(data)


def encode_hard_state(state: HardState) -> bytes:
    """Return the wire form of a hard state."""
    return _encoder.encode(state)


def decode_hard_state(data: bytes) -> HardState:
    """Return the hard state in `data`.

    Raises:
        msgspec.DecodeError: `data` is not a hard state, or a field is out of its range.
    """
    return _hard_state_decoder.decode(data)


def encode_snapshot_metadata(metadata: SnapshotMetadata) -> bytes:
    """Return the wire form of a snapshot's position and configuration."""
    return _encoder.encode(metadata)


def decode_snapshot_metadata(data: bytes) -> SnapshotMetadata:
    """Return the snapshot's position and configuration in `data`.

    Raises:
        msgspec.DecodeError: `data` is not a snapshot's metadata, or a field is out of its range.
    """
    return _snapshot_metadata_decoder.decode(data)


def conf_change_entry(change: AnyConfChange | None) -> Entry:
    """Return the entry, without term and index, that proposes a configuration change.

    Args:
        change: The change; None for the one that leaves a joint configuration. That one has an
            empty payload, so that no limit on uncommitted bytes can ever refuse it.
    """
    if isinstance(change, ConfChange):
        return Entry(type=EntryType.CONF_CHANGE, data=_encoder.encode(change))
    if change is None or change == _LEAVE_JOINT:
        return Entry(type=EntryType.CONF_CHANGE_V2)
    return Entry(type=EntryType.CONF_CHANGE_V2, data=_encoder.encode(change))


def decode_conf_change(entry: Entry) -> AnyConfChange | None:
    """Return the configuration change that an entry carries, or None for a normal entry.

    Raises:
        msgspec.DecodeError: The payload is not a configuration change.
    """
    if entry.type == EntryType.NORMAL:
        return None
    if entry.type == EntryType.CONF_CHANGE:
        return _conf_change_decoder.decode(entry.data) if entry.data else ConfChange()
    return _conf_change_v2_decoder.decode(entry.data) if entry.data else ConfChangeV2()
