"""Elections: standing for one, and voting in one (Raft thesis §3.4, §9.6)."""

from enum import Enum

from coordinator.raft.core import LEADER, Raft
from coordinator.raft.messages import NO_ONE, TRANSFER_CONTEXT, vote_response
from coordinator.wire.raft import Message, MessageType


class CampaignType(Enum):
    """Why a member stands for election."""

    PRE_ELECTION = "pre-election"
    """To find out whether it could win, before it makes anyone move to a new term."""
    ELECTION = "election"
    TRANSFER = "transfer"
    """Because the leader asked it to; voters do not protect that leader."""


def hup(raft: Raft, kind: CampaignType) -> None:
    """Stand for election, if this member may."""
    if raft.state == LEADER:
        raft.logger.debug("%x ignoring MSG_HUP because already leader", raft.id)
    elif not raft.promotable():
        raft.logger.warning("%x is unpromotable and can not campaign", raft.id)
    elif raft.log.applied < raft.log.committed and raft.log.has_unapplied_conf_change():
        # It might count on voters that are none any more, or lose one it has already gained.
        raft.logger.warning("%x cannot campaign: configuration changes to apply", raft.id)
    else:
        campaign(raft, kind)


def campaign(raft: Raft, kind: CampaignType) -> None:
    """Ask everyone for their vote, including oneself.

    One's own vote counts, like everyone else's, once it is durable: it comes back as a message.
    """
    if kind == CampaignType.PRE_ELECTION:
        raft.become_pre_candidate()
        request = MessageType.MSG_PRE_VOTE
        term = raft.term + 1  # the term it would stand for
    else:
        raft.become_candidate()
        request = MessageType.MSG_VOTE
        term = raft.term
    context = TRANSFER_CONTEXT if kind == CampaignType.TRANSFER else b""
    for member in raft.tracker.config.voter_ids():
        if member == raft.id:
            raft.send(Message(vote_response(request), member, term=term))
            continue
        raft.logger.info("%x sent %s to %x at term %d", raft.id, request.name, member, term)
        raft.send(
            Message(
                request,
                member,
                term=term,
                log_term=raft.log.last_term,
                index=raft.log.last_index,
                context=context,
            )
        )


def on_hup(raft: Raft, _message: Message) -> None:
    """Handle the order to stand for election."""
    hup(
        raft,
        CampaignType.PRE_ELECTION if raft.config.pre_vote else CampaignType.ELECTION,
    )


def on_vote_request(raft: Raft, message: Message) -> None:
    """Grant or refuse a vote or pre-vote.

    Learners vote as well: a learner may have been promoted without knowing it yet, and its vote may
    be the one that is needed to elect the member that could tell it.
    """
    is_pre_vote = message.type == MessageType.MSG_PRE_VOTE
    can_vote = (
        # A repeat of a vote already cast,
        raft.vote == message.from_
        # or no vote cast and no leader known in this term,
        or (raft.vote == NO_ONE and raft.lead == NO_ONE)
        # or a question about a future term.
        or (is_pre_vote and message.term > raft.term)
    )
    if can_vote and raft.log.is_up_to_date(message.index, message.log_term):
        raft.logger.info("%x cast %s for %x", raft.id, message.type.name, message.from_)
        # With the term of the request: for a pre-vote it lies ahead of ours, and the candidate
        # would take an answer with ours for an old one.
        raft.send(Message(vote_response(message.type), message.from_, term=message.term))
        if not is_pre_vote:
            raft.election_elapsed = 0
            raft.vote = message.from_
    else:
        raft.logger.info("%x rejected %s from %x", raft.id, message.type.name, message.from_)
        raft.send(Message(vote_response(message.type), message.from_, term=raft.term, reject=True))
