"""Reads as a leader handles them: taken in, confirmed, answered (Raft thesis §6.4)."""

from coordinator.raft.config import ReadOnlyOption
from coordinator.raft.core import Raft
from coordinator.raft.messages import NO_ONE
from coordinator.raft.ready import ReadState
from coordinator.raft.replication import broadcast_heartbeat
from coordinator.wire.raft import Message, MessageType


def on_read_index(raft: Raft, message: Message) -> None:
    """Take in a read."""
    if len(message.entries) != 1:
        raft.logger.error("%x invalid MSG_READ_INDEX from %x", raft.id, message.from_)
    elif raft.tracker.is_singleton():
        # No one else could have been elected.
        _answer(raft, message, raft.log.committed)
    elif raft.committed_in_term():
        _ask_quorum(raft, message)
    elif len(raft.pending_reads) < raft.config.max_pending_reads:
        # A new leader does not know yet how far its predecessors have committed.
        raft.pending_reads.append(message)
    else:
        raft.logger.warning("%x too many reads waiting, dropping one", raft.id)


def _ask_quorum(raft: Raft, message: Message) -> None:
    commit = raft.log.committed
    reads = raft.read_only
    if reads.option == ReadOnlyOption.LEASE_BASED:
        _answer(raft, message, commit)
        return
    if not reads.add(message, commit):
        raft.logger.warning("%x too many reads waiting, dropping one", raft.id)
        return
    reads.receive_ack(raft.id, reads.heartbeat_context())
    broadcast_heartbeat(raft)


def confirm_reads(raft: Raft, message: Message) -> None:
    """Count the answer to a heartbeat, and answer the reads that a quorum has confirmed by now."""
    reads = raft.read_only
    if reads.option != ReadOnlyOption.SAFE:
        return
    reads.receive_ack(message.from_, message.context)
    for request, commit in reads.advance(raft.tracker.config):
        _answer(raft, request, commit)


def release_pending_reads(raft: Raft) -> None:
    """Take in the reads that waited for the first commit of this term."""
    if not raft.pending_reads or not raft.committed_in_term():
        return
    waiting = raft.pending_reads
    raft.pending_reads = []
    for message in waiting:
        _ask_quorum(raft, message)


def _answer(raft: Raft, request: Message, index: int) -> None:
    if request.from_ in (NO_ONE, raft.id):
        raft.read_states.append(ReadState(index, request.entries[0].data))
        return
    raft.send(
        Message(
            MessageType.MSG_READ_INDEX_RESP,
            request.from_,
            index=index,
            entries=request.entries,
        )
    )
