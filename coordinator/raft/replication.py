"""How a leader sends entries, snapshots and heartbeats (Raft thesis §3.5, §5, §10.2)."""

from coordinator.raft.core import Raft
from coordinator.raft.errors import (
    InvariantBroken,
    SnapshotTemporarilyUnavailable,
    StorageError,
)
from coordinator.raft.messages import payloads_size
from coordinator.raft.progress import REPLICATE, SNAPSHOT, Progress
from coordinator.wire.raft import Entry, Message, MessageType

MSG_APP = MessageType.MSG_APP


def maybe_send_append(raft: Raft, to: int, its: Progress, *, if_empty: bool) -> bool:
    """Send the next entries to a follower, if its window has room. Returns whether a message left.

    Args:
        raft: The leader.
        to: The follower.
        its: The follower's progress.
        if_empty: Whether to send a message without entries, which conveys the commit index.
    """
    if its.flow_paused or its.state is SNAPSHOT:
        return False
    log = raft.log
    prev = its.next - 1
    if prev == log.last_index and not if_empty:
        return False
    entries: list[Entry] = []
    try:
        prev_term = log.last_term if prev == log.last_index else log.term(prev)
        # While the window is full, only empty messages go out. If everything in it has been lost,
        # one of them gets through in the end, and its answer empties the window.
        if prev < log.last_index and (its.state is not REPLICATE or not its.inflights.full()):
            entries = log.slice(prev + 1, log.last_index + 1, raft.max_msg_size)
    except StorageError:
        return _maybe_send_snapshot(raft, to, its)
    if not entries and not if_empty:
        return False
    raft.msgs.append(
        Message(
            MSG_APP,
            to,
            raft.id,
            raft.term,
            log_term=prev_term,
            index=prev,
            entries=entries,
            commit=log.committed,
        )
    )
    size = payloads_size(entries) if its.inflights.bytes_max and entries else 0
    its.sent_entries(len(entries), size)
    its.sent_commit = log.committed
    return True


def _maybe_send_snapshot(raft: Raft, to: int, its: Progress) -> bool:
    """Send the latest snapshot to a follower that is there to take it."""
    if not its.recent_active:
        raft.logger.debug("%x sends no snapshot to %x: not recently active", raft.id, to)
        return False
    try:
        snapshot = raft.log.snapshot()
    except SnapshotTemporarilyUnavailable:
        raft.logger.debug("%x has no snapshot for %x yet", raft.id, to)
        return False
    index = snapshot.metadata.index
    if index == 0:
        raise InvariantBroken("need non-empty snapshot")
    its.become_snapshot(index)
    raft.logger.debug("%x sent snapshot at %d to %x [%s]", raft.id, index, to, its)
    raft.send(Message(MessageType.MSG_SNAP, to, snapshot=snapshot))
    return True


def send_append(raft: Raft, to: int) -> None:
    """Send the next entries to a follower, or at least the commit index."""
    maybe_send_append(raft, to, raft.tracker.progress[to], if_empty=True)


def broadcast_append(raft: Raft) -> None:
    """Send the next entries, or at least the commit index, to everyone else."""
    own = raft.id
    for member, its in raft.tracker.progress.items():
        if member != own:
            maybe_send_append(raft, member, its, if_empty=True)


def broadcast_new_entries(raft: Raft) -> None:
    """Send the next entries to everyone else who lacks any."""
    own = raft.id
    for member, its in raft.tracker.progress.items():
        if member != own:
            maybe_send_append(raft, member, its, if_empty=False)


def broadcast_heartbeat(raft: Raft) -> None:
    """Send a heartbeat to everyone else; it also asks them to confirm the reads waiting."""
    context = raft.read_only.heartbeat_context()
    own = raft.id
    for member, its in raft.tracker.progress.items():
        if member == own:
            continue
        # A follower must not commit what it may not have: its log is known up to `match` only.
        commit = min(its.match, raft.log.committed)
        raft.send(Message(MessageType.MSG_HEARTBEAT, member, commit=commit, context=context))
        its.sent_commit = commit


def send_timeout_now(raft: Raft, to: int) -> None:
    """Tell the chosen successor to stand for election at once (Raft thesis §3.10)."""
    raft.read_only.forfeit_lease()
    raft.send(Message(MessageType.MSG_TIMEOUT_NOW, to))
