"""Taking up a configuration: at start, from a snapshot, or when a change is applied.

A change takes effect when its entry is applied, not when it is appended. That is as safe: old and
new configuration overlap, and at most one change may be pending.
"""

from coordinator.raft import confchange
from coordinator.raft.confchange import Changer, Membership
from coordinator.raft.core import LEADER, Raft
from coordinator.raft.errors import ConfChangeRefused, InvariantBroken
from coordinator.raft.messages import NO_ONE
from coordinator.raft.replication import broadcast_append, broadcast_new_entries
from coordinator.raft.tracker import ProgressTracker
from coordinator.wire.raft import AnyConfChange, ConfState


def apply_conf_change(raft: Raft, change: AnyConfChange) -> ConfState:
    """Take up the configuration that a committed change leads to, and return it.

    Raises:
        InvariantBroken: It does not fit. Every member finds out alike, and none can go on.
    """
    change = change.as_v2()
    changer = Changer(raft.tracker, raft.log.last_index)
    try:
        if change.leaves_joint():
            membership = changer.leave_joint()
        elif change.enters_joint():
            membership = changer.enter_joint(
                change.changes, auto_leave=change.leaves_automatically()
            )
        else:
            membership = changer.simple(change.changes)
    except ConfChangeRefused as error:
        raise InvariantBroken(f"committed configuration change does not fit: {error}") from error
    return switch_to(raft, membership)


def restore(raft: Raft, state: ConfState) -> None:
    """Replace the configuration, and all progress, by what a snapshot or the storage says.

    Raises:
        InvariantBroken: The state contradicts itself.
    """
    tracker = ProgressTracker(raft.config.max_inflight_msgs, raft.config.max_inflight_bytes)
    raft.tracker = tracker
    try:
        membership = confchange.restore(tracker, raft.log.last_index, state)
    except ConfChangeRefused as error:
        raise InvariantBroken(f"unable to restore configuration: {error}") from error
    if _normal(switch_to(raft, membership)) != _normal(state):
        raise InvariantBroken("configuration restored differs from the one stored")


def _normal(state: ConfState) -> ConfState:
    return ConfState(
        voters=tuple(sorted(state.voters)),
        learners=tuple(sorted(state.learners)),
        voters_outgoing=tuple(sorted(state.voters_outgoing)),
        learners_next=tuple(sorted(state.learners_next)),
        auto_leave=state.auto_leave,
    )


def switch_to(raft: Raft, membership: Membership) -> ConfState:
    """Put a configuration in force, with all that follows for the role of this member."""
    tracker = raft.tracker
    tracker.config, tracker.progress = membership
    raft.logger.info("%x switched to configuration %s", raft.id, tracker.config)
    state = tracker.config.conf_state()

    own = tracker.progress.get(raft.id)
    raft.is_learner = own is not None and own.is_learner
    if (own is None or raft.is_learner) and raft.state == LEADER:
        # It goes on leading without counting itself (Raft thesis §4.2.2), unless told otherwise.
        if raft.config.step_down_on_removal:
            raft.become_follower(raft.term, NO_ONE)
        return state
    if raft.state != LEADER or not state.voters:
        return state

    # Fewer members may mean that more is committed; otherwise let new ones begin to catch up now,
    # not only at the next heartbeat.
    if raft.maybe_commit():
        broadcast_append(raft)
    else:
        broadcast_new_entries(raft)
    if raft.lead_transferee != NO_ONE and raft.lead_transferee not in tracker.config.voter_ids():
        raft.lead_transferee = NO_ONE
    return state
