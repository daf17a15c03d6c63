"""The consensus core: one member of a Raft group, without clock, network, disk or randomness.

It follows "Consensus: Bridging Theory and Practice" (Ongaro, 2014; "the Raft thesis") in the form
etcd has given it, message for message. It may import `coordinator.wire.raft` and nothing else of
the project. Everything is bounded: the window of every follower in messages and bytes, the
uncommitted tail, the committed entries handed out, the reads waiting. What is put out between two
calls to `ready` is bounded by what was put in.

The caller's part
-----------------

A `RawNode` is stepped (`step`, `tick`, `propose`, ...) and asked for the work that follows from it
(`ready`). Nothing happens in between: no call waits, and none has an effect outside. Take in all
there is, then ask for work once: one bundle for many inputs is what makes it quick.

With `Config.async_storage_writes` off, each `Ready` is worked off in this order:

1. Store `hard_state`, `entries` and `snapshot`, if set, so that a crash leaves either all or a
   prefix of it: entries first or together with the hard state, never a commit index ahead of the
   log. Storing an entry discards everything at its index and after it. If `must_sync` is set, go
   on only when it is durable. If storing fails, stop for good: what is on the disk is not known
   any more.
2. Send `messages` to other members. They may be lost, repeated and reordered. None may leave
   before step 1 of this bundle is done, except MSG_APP, MSG_HEARTBEAT and MSG_SNAP, which a leader
   may send while it stores (Raft thesis §10.2.1). For every MSG_SNAP call `report_snapshot` in the
   end, and for messages that cannot be delivered `report_unreachable`.
3. Apply `snapshot`, then `committed_entries`, in order. For every entry that carries a
   configuration change, call `apply_conf_change` with it, and record what it returns in snapshots.
   Empty entries apply to nothing.
4. Answer the reads in `read_states` whose index has been applied.
5. Call `advance`, then ask for the next bundle. What has been stored must be visible through the
   `Storage` by then.

With `Config.async_storage_writes` on, storing and applying are messages, and `advance` is not
used:

- `MSG_STORAGE_APPEND` to `LOCAL_APPEND` asks to store `entries`, the hard state (`hard_state_of`)
  and `snapshot`. When they are durable, deliver `responses`: to `step` of this member, or to
  others. One without responses need not be made durable at once. Work them off strictly in order;
  several may be made durable together.
- `MSG_STORAGE_APPLY` to `LOCAL_APPLY` asks to apply `entries`; then deliver `responses`. Strictly
  in order as well, but independently of the other queue.
- All other messages may be sent at once: what promises something durable travels as a response. A
  caller may hold back more than that, for instance whatever is not from a leader until the hard
  state is durable: messages are never awaited.

The fields `hard_state`, `entries`, `snapshot` and `committed_entries` of a `Ready` then repeat
what those messages carry.

Starting
--------

Members have positive ids that are never used again. A new group starts from storages with the same
snapshot at an index of at least 1 whose configuration names the first members: a member that joins
later then has to be sent a snapshot, and learns the configuration with it. Their hard state is
best given the term of that snapshot, so that the first election takes place in a later one. After
a restart `applied` tells from where entries are handed out; the storage must know the
configuration at that index.

Membership
----------

A configuration change is proposed like a command and takes effect when it is applied. While one
may be pending, another one is turned into an empty entry. One that touches more than one voter
goes through a joint configuration, in which two majorities have to agree, and which is left by
itself or on demand.

Time
----

A tick is the only notion of time. A leader sends heartbeats every `heartbeat_tick`; a follower
that has not heard from one for `election_tick` to twice as much stands for election.
`RawNode.propose` tells at once if a command could not be appended, but never that it will be
committed.
"""

from coordinator.raft.config import Config, Logger, ReadOnlyOption, Rng
from coordinator.raft.errors import (
    Compacted,
    ConfChangeRefused,
    ConfigInvalid,
    InvariantBroken,
    ProposalDropped,
    RaftError,
    SnapshotOutOfDate,
    SnapshotTemporarilyUnavailable,
    StepLocalMessage,
    StepPeerNotFound,
    StorageError,
    Unavailable,
)
from coordinator.raft.messages import (
    LOCAL_APPEND,
    LOCAL_APPLY,
    NO_LIMIT,
    NO_ONE,
    entries_size,
    entry_size,
    limit_size,
)
from coordinator.raft.progress import Progress, ProgressState
from coordinator.raft.rawnode import RawNode, hard_state_of
from coordinator.raft.ready import ReadState, Ready, SoftState, StateType
from coordinator.raft.status import BasicStatus, Status
from coordinator.raft.storage import MemoryStorage, Storage
from coordinator.raft.tracker import TrackerConfig

__all__ = [
    "LOCAL_APPEND",
    "LOCAL_APPLY",
    "NO_LIMIT",
    "NO_ONE",
    "BasicStatus",
    "Compacted",
    "ConfChangeRefused",
    "Config",
    "ConfigInvalid",
    "InvariantBroken",
    "Logger",
    "MemoryStorage",
    "Progress",
    "ProgressState",
    "ProposalDropped",
    "RaftError",
    "RawNode",
    "ReadOnlyOption",
    "ReadState",
    "Ready",
    "Rng",
    "SnapshotOutOfDate",
    "SnapshotTemporarilyUnavailable",
    "SoftState",
    "StateType",
    "Status",
    "StepLocalMessage",
    "StepPeerNotFound",
    "Storage",
    "StorageError",
    "TrackerConfig",
    "Unavailable",
    "entries_size",
    "entry_size",
    "hard_state_of",
    "limit_size",
]
