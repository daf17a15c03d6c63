"""The table of all handlers, by role and message type, and the way into it.

What is not in the table is ignored: a role has no use for it, or it is a late answer to a question
of an earlier role.
"""

from typing import Final

from coordinator.raft import candidate, follower, leader, membership, reads
from coordinator.raft.config import Config
from coordinator.raft.core import Handler, HandlerTable, Raft
from coordinator.raft.election import on_hup, on_vote_request
from coordinator.raft.errors import InvariantBroken
from coordinator.raft.messages import NO_ONE
from coordinator.raft.ready import StateType
from coordinator.wire.raft import HardState, Message, MessageType


def on_storage_append_response(raft: Raft, message: Message) -> None:
    """Learn that entries, and possibly a snapshot, are durable."""
    if message.index:
        raft.log.unstable.stable_to(message.index, message.log_term)
    if message.snapshot is not None:
        raft.applied_snapshot(message.snapshot)


def on_storage_apply_response(raft: Raft, message: Message) -> None:
    """Learn that entries have been applied."""
    entries = message.entries
    if entries:
        index = entries[-1].index
        raft.log.confirm_handed_out(index)
        raft.applied_to(index)
        raft.release_uncommitted(entries)


_EVERYONE: Final[dict[MessageType, Handler]] = {
    MessageType.MSG_HUP: on_hup,
    MessageType.MSG_VOTE: on_vote_request,
    MessageType.MSG_PRE_VOTE: on_vote_request,
    MessageType.MSG_STORAGE_APPEND_RESP: on_storage_append_response,
    MessageType.MSG_STORAGE_APPLY_RESP: on_storage_apply_response,
}

_FOLLOWER: Final[dict[MessageType, Handler]] = {
    MessageType.MSG_PROP: follower.on_proposal,
    MessageType.MSG_APP: follower.on_append,
    MessageType.MSG_HEARTBEAT: follower.on_heartbeat,
    MessageType.MSG_SNAP: follower.on_snapshot,
    MessageType.MSG_TRANSFER_LEADER: follower.on_transfer_leader,
    MessageType.MSG_FORGET_LEADER: follower.on_forget_leader,
    MessageType.MSG_TIMEOUT_NOW: follower.on_timeout_now,
    MessageType.MSG_READ_INDEX: follower.on_read_index,
    MessageType.MSG_READ_INDEX_RESP: follower.on_read_index_response,
}

_ANY_CANDIDATE: Final[dict[MessageType, Handler]] = {
    MessageType.MSG_PROP: candidate.on_proposal,
    MessageType.MSG_APP: candidate.on_append,
    MessageType.MSG_HEARTBEAT: candidate.on_heartbeat,
    MessageType.MSG_SNAP: candidate.on_snapshot,
}

_LEADER: Final[dict[MessageType, Handler]] = {
    MessageType.MSG_BEAT: leader.on_beat,
    MessageType.MSG_CHECK_QUORUM: leader.on_check_quorum,
    MessageType.MSG_PROP: leader.on_proposal,
    MessageType.MSG_READ_INDEX: reads.on_read_index,
    MessageType.MSG_APP_RESP: leader.on_append_response,
    MessageType.MSG_HEARTBEAT_RESP: leader.with_progress(leader.on_heartbeat_response),
    MessageType.MSG_SNAP_STATUS: leader.with_progress(leader.on_snapshot_status),
    MessageType.MSG_UNREACHABLE: leader.with_progress(leader.on_unreachable),
    MessageType.MSG_TRANSFER_LEADER: leader.with_progress(leader.on_transfer_leader),
}

_ROLES: Final[dict[StateType, dict[MessageType, Handler]]] = {
    StateType.FOLLOWER: _FOLLOWER,
    # Each kind of candidate only counts answers to the question it asked.
    StateType.CANDIDATE: _ANY_CANDIDATE | {MessageType.MSG_VOTE_RESP: candidate.on_vote_response},
    StateType.LEADER: _LEADER,
    StateType.PRE_CANDIDATE: _ANY_CANDIDATE
    | {MessageType.MSG_PRE_VOTE_RESP: candidate.on_vote_response},
}

TABLE: Final[HandlerTable] = tuple(
    tuple((_EVERYONE | _ROLES[state]).get(kind) for kind in MessageType) for state in StateType
)


def start(config: Config) -> Raft:
    """Bring up a member from its storage, as a follower.

    Raises:
        ConfigInvalid: The settings contradict each other.
        InvariantBroken: The storage contradicts itself.
    """
    config.validate()
    hard_state, conf_state = config.storage.initial_state()
    raft = Raft(config, TABLE)
    membership.restore(raft, conf_state)
    if hard_state != HardState():
        _load(raft, hard_state)
    if config.applied > 0:
        raft.log.applied_to(config.applied)
    raft.become_follower(raft.term, NO_ONE)
    return raft


def _load(raft: Raft, state: HardState) -> None:
    log = raft.log
    if not log.committed <= state.commit <= log.last_index:
        raise InvariantBroken(
            f"{raft.id:x} stored commit {state.commit} is out of range "
            f"[{log.committed}, {log.last_index}]"
        )
    log.committed = state.commit
    raft.term = state.term
    raft.vote = state.vote
