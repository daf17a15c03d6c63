"""What a candidate and a pre-candidate do (Raft thesis §3.4, §9.6)."""

from coordinator.raft import follower
from coordinator.raft.core import PRE_CANDIDATE, Raft
from coordinator.raft.election import CampaignType, campaign
from coordinator.raft.errors import ProposalDropped
from coordinator.raft.messages import NO_ONE
from coordinator.raft.quorum import VoteResult
from coordinator.raft.replication import broadcast_append
from coordinator.wire.raft import Message


def on_proposal(raft: Raft, _message: Message) -> None:
    """Refuse a proposal: there is no leader."""
    raft.logger.info("%x no leader at term %d; dropping proposal", raft.id, raft.term)
    raise ProposalDropped


def on_append(raft: Raft, message: Message) -> None:
    """Give way: someone leads in this term."""
    raft.become_follower(message.term, message.from_)
    follower.handle_append(raft, message)


def on_heartbeat(raft: Raft, message: Message) -> None:
    """Give way: someone leads in this term."""
    raft.become_follower(message.term, message.from_)
    follower.handle_heartbeat(raft, message)


def on_snapshot(raft: Raft, message: Message) -> None:
    """Give way: someone leads in this term."""
    raft.become_follower(message.term, message.from_)
    follower.handle_snapshot(raft, message)


def on_vote_response(raft: Raft, message: Message) -> None:
    """Count an answer, and draw the consequence if the election is decided.

    Only answers to the present question arrive here: a candidate ignores those to its own earlier
    pre-vote, which may still be on their way in the same term.
    """
    raft.tracker.record_vote(message.from_, not message.reject)
    granted, refused, result = raft.tracker.tally_votes()
    raft.logger.info("%x has %d votes and %d rejections", raft.id, granted, refused)
    if result == VoteResult.WON:
        if raft.state == PRE_CANDIDATE:
            campaign(raft, CampaignType.ELECTION)
        else:
            raft.become_leader()
            broadcast_append(raft)
    elif result == VoteResult.LOST:
        # In one's own term: a granted pre-vote carries one that nobody has entered yet.
        raft.become_follower(raft.term, NO_ONE)
