"""What a leader does (Raft thesis §3.5, §3.6, §3.10, §6.2)."""

from collections.abc import Callable

from coordinator.raft.core import Handler, Raft
from coordinator.raft.errors import InvariantBroken, ProposalDropped
from coordinator.raft.messages import NO_ONE, all_normal
from coordinator.raft.progress import PROBE, REPLICATE, SNAPSHOT, Progress
from coordinator.raft.reads import confirm_reads, release_pending_reads
from coordinator.raft.replication import (
    broadcast_append,
    broadcast_heartbeat,
    maybe_send_append,
    send_append,
    send_timeout_now,
)
from coordinator.wire.raft import Entry, EntryType, Message, decode_conf_change

ProgressHandler = Callable[[Raft, Message, Progress], None]


def with_progress(handler: ProgressHandler) -> Handler:
    """Return a handler that finds the sender's progress, and ignores those who are no members."""

    def handle(raft: Raft, message: Message) -> None:
        its = raft.tracker.progress.get(message.from_)
        if its is None:
            raft.logger.debug("%x no progress available for %x", raft.id, message.from_)
            return
        handler(raft, message, its)

    return handle


def on_beat(raft: Raft, _message: Message) -> None:
    """Send heartbeats."""
    broadcast_heartbeat(raft)


def on_check_quorum(raft: Raft, _message: Message) -> None:
    """Step down if no quorum has been heard from since the last check."""
    if not raft.tracker.quorum_active():
        raft.logger.warning("%x stepped down: quorum is not active", raft.id)
        raft.become_follower(raft.term, NO_ONE)
    for member, its in raft.tracker.progress.items():
        if member != raft.id:
            its.recent_active = False


def on_proposal(raft: Raft, message: Message) -> None:
    """Append entries and send them out."""
    entries = message.entries
    if not entries:
        raise InvariantBroken(f"{raft.id:x} stepped empty MSG_PROP")
    if raft.id not in raft.tracker.progress:
        # It has been removed, and only leads on until the removal is known.
        raise ProposalDropped
    if raft.lead_transferee != NO_ONE:
        raft.logger.debug("%x transfer in progress; dropping proposal", raft.id)
        raise ProposalDropped
    if not all_normal(entries):
        entries = [
            _admit_conf_change(raft, entry, raft.log.last_index + 1 + offset)
            for offset, entry in enumerate(entries)
        ]
    if not raft.append_entries(entries):
        raise ProposalDropped
    broadcast_append(raft)


def _admit_conf_change(raft: Raft, entry: Entry, index: int) -> Entry:
    """Return the entry, or an empty one in its place if it is a change that does not fit.

    Best effort: what counts is the configuration at the time the change is applied, which may
    differ from the one in force now. But at most one change is under way at any time.
    """
    change = decode_conf_change(entry)
    if change is None:
        return entry
    wants_leave = not change.as_v2().changes
    is_joint = raft.tracker.config.is_joint
    refusal = ""
    if raft.pending_conf_index > raft.log.applied:
        refusal = f"possible unapplied conf change at index {raft.pending_conf_index}"
    elif is_joint and not wants_leave:
        refusal = "must transition out of joint config first"
    elif not is_joint and wants_leave:
        refusal = "not in joint state; refusing empty conf change"
    if refusal and not raft.config.disable_conf_change_validation:
        raft.logger.info("%x ignoring conf change %s: %s", raft.id, change, refusal)
        return Entry(type=EntryType.NORMAL)
    raft.pending_conf_index = index
    return entry


def on_append_response(raft: Raft, message: Message) -> None:
    """Learn how far a follower's log agrees (or one's own is durable), and what follows from it."""
    its = raft.tracker.progress.get(message.from_)
    if its is None:
        raft.logger.debug("%x no progress available for %x", raft.id, message.from_)
        return
    its.recent_active = True
    if message.reject:
        _step_back(raft, message, its)
        return
    index = message.index
    # An answer without news may still end a probe: after a follower was reported unreachable,
    # nothing may be left to send but the question whether it is there.
    if not (its.maybe_update(index) or (its.match == index and its.state == PROBE)):
        return
    state = its.state
    if state == PROBE:
        its.become_replicate()
    elif state == SNAPSHOT and its.match + 1 >= raft.log.first_index():
        # The log goes on from here, whichever snapshot got the follower this far.
        raft.logger.debug("%x recovered from needing snapshot: %x", raft.id, message.from_)
        its.become_probe()
        its.become_replicate()
    elif state == REPLICATE:
        its.inflights.free_to(index)

    sender = message.from_
    # An index that is committed already cannot help to commit a higher one.
    if index > raft.log.committed and raft.maybe_commit():
        release_pending_reads(raft)
        broadcast_append(raft)
    elif sender != raft.id and its.can_bump_commit(raft.log.committed):
        # The next heartbeat would tell it as well, only later.
        send_append(raft, sender)
    if sender != raft.id:
        # There may be room for several messages now.
        while its.next <= raft.log.last_index:
            if not maybe_send_append(raft, sender, its, if_empty=False):
                break
    if sender == raft.lead_transferee and its.match == raft.log.last_index:
        raft.logger.info("%x sent MSG_TIMEOUT_NOW to %x", raft.id, sender)
        send_timeout_now(raft, sender)


def _step_back(raft: Raft, message: Message, its: Progress) -> None:
    """Try again further back, after a follower did not have the entry before those it was sent.

    The hint is the follower's guess where the logs agree, with the term of its entry there. Entries
    of ours with a higher term cannot agree with it, as terms never fall along a log. With both
    sides skipping whole terms, finding the place takes at most one round per term, however long the
    logs that have to go.
    """
    hint = message.reject_hint
    if message.log_term > 0:
        hint, _ = raft.log.find_conflict_by_term(hint, message.log_term)
    if its.maybe_decrease(message.index, hint):
        raft.logger.debug("%x decreased progress of %x to [%s]", raft.id, message.from_, its)
        if its.state == REPLICATE:
            its.become_probe()
        maybe_send_append(raft, message.from_, its, if_empty=True)


def on_heartbeat_response(raft: Raft, message: Message, its: Progress) -> None:
    """Note that a follower is there, let it have more, and count it for the reads waiting."""
    its.recent_active = True
    its.flow_paused = False
    # Also with a full window: the message will be empty, and its answer shows what was lost. And
    # also when it has everything but is being probed: the answer to an empty message ends that.
    if its.match < raft.log.last_index or its.state == PROBE:
        maybe_send_append(raft, message.from_, its, if_empty=True)
    if message.context:
        confirm_reads(raft, message)


def on_snapshot_status(_raft: Raft, message: Message, its: Progress) -> None:
    """Go on after a snapshot was delivered, or was not."""
    if its.state != SNAPSHOT:
        return
    if message.reject:
        # Before probing, lest it begins behind a snapshot that never arrived.
        its.pending_snapshot = 0
    its.become_probe()
    # Delivered: its answer comes before the next message. Failed: not before the next heartbeat.
    its.flow_paused = True


def on_unreachable(raft: Raft, message: Message, its: Progress) -> None:
    """Probe a follower again: some of what was streamed to it is most likely lost."""
    if its.state == REPLICATE:
        its.become_probe()
    raft.logger.debug("%x failed to reach %x [%s]", raft.id, message.from_, its)


def on_transfer_leader(raft: Raft, message: Message, its: Progress) -> None:
    """Begin to hand leadership over: the successor catches up, then stands for election.

    Proposals are dropped meanwhile. The attempt ends after an election timeout.
    """
    successor = message.from_
    if its.is_learner:
        raft.logger.debug("%x is a learner; not transferring leadership", successor)
        return
    if raft.lead_transferee != NO_ONE:
        if raft.lead_transferee == successor:
            return
        raft.lead_transferee = NO_ONE
    if successor == raft.id:
        return
    raft.logger.info("%x starts to transfer leadership to %x", raft.id, successor)
    raft.election_elapsed = 0
    raft.lead_transferee = successor
    if its.match == raft.log.last_index:
        send_timeout_now(raft, successor)
    else:
        maybe_send_append(raft, successor, its, if_empty=True)
