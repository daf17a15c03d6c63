"""What a follower does, and a candidate once it has given way (Raft thesis §3.5)."""

from coordinator.raft import membership
from coordinator.raft.config import ReadOnlyOption
from coordinator.raft.core import FOLLOWER, Raft
from coordinator.raft.election import CampaignType, hup
from coordinator.raft.errors import ProposalDropped
from coordinator.raft.messages import NO_ONE
from coordinator.raft.ready import ReadState
from coordinator.wire.raft import Message, MessageType, Snapshot

MSG_APP_RESP = MessageType.MSG_APP_RESP


def on_proposal(raft: Raft, message: Message) -> None:
    """Pass a proposal on to the leader, if there is one and forwarding is enabled."""
    if raft.lead == NO_ONE or raft.config.disable_proposal_forwarding:
        raft.logger.info("%x not leading at term %d; dropping proposal", raft.id, raft.term)
        raise ProposalDropped
    _forward(raft, message)


def on_transfer_leader(raft: Raft, message: Message) -> None:
    """Pass the wish for another leader on to the present one."""
    _forward(raft, message)


def on_read_index(raft: Raft, message: Message) -> None:
    """Pass a read on to the leader. It is lost if there is none; the caller asks again."""
    _forward(raft, message)


def _forward(raft: Raft, message: Message) -> None:
    if raft.lead == NO_ONE:
        raft.logger.info("%x no leader at term %d; dropping %s", raft.id, raft.term, message.type)
        return
    raft.send(
        Message(
            message.type,
            raft.lead,
            message.from_,
            entries=message.entries,
            context=message.context,
        )
    )


def on_append(raft: Raft, message: Message) -> None:
    """Take entries from the leader."""
    raft.election_elapsed = 0
    raft.lead = message.from_
    handle_append(raft, message)


def on_heartbeat(raft: Raft, message: Message) -> None:
    """Take a heartbeat from the leader."""
    raft.election_elapsed = 0
    raft.lead = message.from_
    handle_heartbeat(raft, message)


def on_snapshot(raft: Raft, message: Message) -> None:
    """Take a snapshot from the leader."""
    raft.election_elapsed = 0
    raft.lead = message.from_
    handle_snapshot(raft, message)


def on_forget_leader(raft: Raft, _message: Message) -> None:
    """Stop protecting the leader, so that pre-votes for others can be granted at once."""
    if raft.config.read_only_option == ReadOnlyOption.LEASE_BASED:
        # The leader answers reads because followers protect it.
        raft.logger.error("ignoring MSG_FORGET_LEADER due to LEASE_BASED reads")
        return
    raft.lead = NO_ONE


def on_timeout_now(raft: Raft, _message: Message) -> None:
    """Stand for election because the leader asks for it.

    Nobody is cut off, so no pre-vote is needed.
    """
    hup(raft, CampaignType.TRANSFER)


def on_read_index_response(raft: Raft, message: Message) -> None:
    """Hand the answer to a read to whoever asked."""
    if len(message.entries) != 1:
        raft.logger.error("%x invalid MSG_READ_INDEX_RESP from %x", raft.id, message.from_)
        return
    raft.read_states.append(ReadState(message.index, message.entries[0].data))


def handle_append(raft: Raft, message: Message) -> None:
    """Append what fits; otherwise say where it might."""
    log = raft.log
    if message.index < log.committed:
        # Late: everything up to the commit index agrees by definition.
        raft.send(Message(MSG_APP_RESP, message.from_, index=log.committed))
        return
    last = log.maybe_append(message.index, message.log_term, message.entries, message.commit)
    if last is not None:
        # What `send` would do, on the way of every entry.
        raft.msgs_after_append.append(
            Message(MSG_APP_RESP, message.from_, raft.id, raft.term, index=last)
        )
        return
    # The logs disagree at that index. Entries here of a higher term than the leader has there
    # cannot be in the leader's log either: point before them, so that it need not try one by one.
    hint, hint_term = log.find_conflict_by_term(
        min(message.index, log.last_index), message.log_term
    )
    raft.logger.debug("%x rejected MSG_APP at %d, hint %d", raft.id, message.index, hint)
    raft.send(
        Message(
            MSG_APP_RESP,
            message.from_,
            log_term=hint_term,
            index=message.index,
            reject=True,
            reject_hint=hint,
        )
    )


def handle_heartbeat(raft: Raft, message: Message) -> None:
    """Learn the commit index, and send back what the leader wants to recognise."""
    raft.log.commit_to(message.commit)
    raft.send(Message(MessageType.MSG_HEARTBEAT_RESP, message.from_, context=message.context))


def handle_snapshot(raft: Raft, message: Message) -> None:
    """Take up a snapshot if it is ahead of this log; say how far the log reaches now."""
    restored = restore(raft, message.snapshot or Snapshot())
    index = raft.log.last_index if restored else raft.log.committed
    raft.send(Message(MSG_APP_RESP, message.from_, index=index))


def restore(raft: Raft, snapshot: Snapshot) -> bool:
    """Replace log and configuration by a snapshot. Returns False if it was not needed."""
    metadata = snapshot.metadata
    if metadata.index <= raft.log.committed:
        return False
    if raft.state != FOLLOWER:
        # Cannot happen. If it did, a leader would move on without stepping down.
        raft.logger.warning("%x attempted to restore snapshot as leader", raft.id)
        raft.become_follower(raft.term + 1, NO_ONE)
        return False
    state = metadata.conf_state
    if raft.id not in state.voters + state.learners + state.voters_outgoing:
        raft.logger.warning("%x is not in the snapshot's configuration", raft.id)
        return False
    if raft.log.match_term(metadata.index, metadata.term):
        # The log has that entry: there is nothing to replace, only something to commit.
        raft.log.commit_to(metadata.index)
        return False
    raft.log.restore(snapshot)
    membership.restore(raft, state)
    raft.logger.info("%x restored snapshot at %d", raft.id, metadata.index)
    return True
