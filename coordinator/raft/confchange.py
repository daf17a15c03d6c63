"""From one configuration to the next, simply or jointly (Raft thesis chapter 4).

A simple change adds or removes at most one voter, so that every majority of the old configuration
overlaps with every majority of the new one. Anything else enters a joint configuration first, in
which both the old (outgoing) and the new (incoming) voters have to agree, and leaves it once that
has been committed.

Nothing here changes its arguments: a change that is refused leaves no trace.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from coordinator.raft.errors import ConfChangeRefused
from coordinator.raft.messages import NO_ONE
from coordinator.raft.progress import Progress
from coordinator.raft.tracker import ProgressTracker, TrackerConfig
from coordinator.wire.raft import ConfChangeSingle, ConfChangeType, ConfState


class Membership(NamedTuple):
    """A configuration with the progress of everyone in it."""

    config: TrackerConfig
    progress: dict[int, Progress]


class _Draft:
    """A configuration under construction. Members are kept in lists; there are never many."""

    __slots__ = (
        "incoming",
        "last_index",
        "learners",
        "learners_next",
        "outgoing",
        "progress",
        "tracker",
    )

    def __init__(self, tracker: ProgressTracker, membership: Membership, last_index: int) -> None:
        """Start from a membership."""
        config = membership.config
        self.tracker = tracker
        self.last_index = last_index
        self.incoming = list(config.voters)
        self.outgoing = list(config.outgoing)
        self.learners = list(config.learners)
        self.learners_next = list(config.learners_next)
        self.progress = {member: its.copy() for member, its in membership.progress.items()}

    def apply(self, changes: Iterable[ConfChangeSingle]) -> None:
        """Make the changes one after the other.

        Raises:
            ConfChangeRefused: No voter would be left.
        """
        for change in changes:
            if change.node_id == NO_ONE:
                continue  # the caller has cancelled this change after it was committed
            if change.type == ConfChangeType.ADD_NODE:
                self._make_voter(change.node_id)
            elif change.type == ConfChangeType.ADD_LEARNER_NODE:
                self._make_learner(change.node_id)
            elif change.type == ConfChangeType.REMOVE_NODE:
                self._remove(change.node_id)
        if not self.incoming:
            raise ConfChangeRefused("removed all voters")

    def _make_voter(self, member: int) -> None:
        its = self.progress.get(member)
        if its is None:
            self._add(member, is_learner=False)
            return
        its.is_learner = False
        _discard(self.learners, member)
        _discard(self.learners_next, member)
        _include(self.incoming, member)

    def _make_learner(self, member: int) -> None:
        its = self.progress.get(member)
        if its is None:
            self._add(member, is_learner=True)
            return
        if its.is_learner:
            return
        self._remove(member)
        self.progress[member] = its
        # The outgoing half still counts on its vote: it becomes a learner on leaving.
        if member in self.outgoing:
            _include(self.learners_next, member)
        else:
            its.is_learner = True
            _include(self.learners, member)

    def _remove(self, member: int) -> None:
        if member not in self.progress:
            return
        _discard(self.incoming, member)
        _discard(self.learners, member)
        _discard(self.learners_next, member)
        if member not in self.outgoing:
            del self.progress[member]

    def _add(self, member: int, *, is_learner: bool) -> None:
        _include(self.learners if is_learner else self.incoming, member)
        self.progress[member] = Progress(
            match=0,
            # Probing starts at the end of the log. It most likely has no log at all and will
            # need a snapshot, which the first rejection finds out.
            next=max(self.last_index, 1),
            inflights=self.tracker.new_inflights(),
            is_learner=is_learner,
            # A new member counts as active, lest the next quorum check deposes the leader
            # before the member had a chance to say anything.
            recent_active=True,
        )

    def finish(self, *, auto_leave: bool) -> Membership:
        """Return what was built, after checking it.

        Raises:
            ConfChangeRefused: An invariant does not hold.
        """
        config = TrackerConfig(
            voters=tuple(sorted(self.incoming)),
            outgoing=tuple(sorted(self.outgoing)),
            learners=tuple(sorted(self.learners)),
            learners_next=tuple(sorted(self.learners_next)),
            auto_leave=auto_leave,
        )
        progress = {member: self.progress[member] for member in sorted(self.progress)}
        return check_invariants(Membership(config, progress))


def _include(members: list[int], member: int) -> None:
    if member not in members:
        members.append(member)


def _discard(members: list[int], member: int) -> None:
    if member in members:
        members.remove(member)


def check_invariants(membership: Membership) -> Membership:
    """Return the membership if it makes sense. An empty one does: every group starts from it.

    Raises:
        ConfChangeRefused: An invariant does not hold.
    """
    config, progress = membership
    for member in config.voter_ids() + config.learners + config.learners_next:
        if member not in progress:
            raise ConfChangeRefused(f"no progress for {member}")
    for member in config.learners_next:
        if member not in config.outgoing:
            raise ConfChangeRefused(f"{member} is in LearnersNext, but not Voters[1]")
        if progress[member].is_learner:
            raise ConfChangeRefused(
                f"{member} is in LearnersNext, but is already marked as learner"
            )
    for member in config.learners:
        if member in config.outgoing:
            raise ConfChangeRefused(f"{member} is in Learners and Voters[1]")
        if member in config.voters:
            raise ConfChangeRefused(f"{member} is in Learners and Voters[0]")
        if not progress[member].is_learner:
            raise ConfChangeRefused(f"{member} is in Learners, but is not marked as learner")
    if config.auto_leave and not config.is_joint:
        raise ConfChangeRefused("AutoLeave must be false when not joint")
    return membership


class Changer:
    """Computes the next membership from the one in force."""

    __slots__ = ("_current", "_last_index", "_tracker")

    def __init__(
        self, tracker: ProgressTracker, last_index: int, current: Membership | None = None
    ) -> None:
        """Look at a membership without taking hold of it.

        Args:
            tracker: Where the membership in force and the size of the windows come from.
            last_index: Last index of the log: where new members are probed first.
            current: The membership to start from, if not the one in force.
        """
        self._tracker = tracker
        self._last_index = last_index
        self._current = current or Membership(tracker.config, tracker.progress)

    def _draft(self) -> _Draft:
        check_invariants(self._current)
        return _Draft(self._tracker, self._current, self._last_index)

    def enter_joint(self, changes: Sequence[ConfChangeSingle], *, auto_leave: bool) -> Membership:
        """Make the voters in force the outgoing half, and the changed ones the incoming half.

        Raises:
            ConfChangeRefused: The configuration is joint already, or has no voters.
        """
        draft = self._draft()
        if draft.outgoing:
            raise ConfChangeRefused("config is already joint")
        if not draft.incoming:
            # An empty configuration may be filled for convenience, but not by two majorities.
            raise ConfChangeRefused("can't make a zero-voter config joint")
        draft.outgoing = list(draft.incoming)
        draft.apply(changes)
        return draft.finish(auto_leave=auto_leave)

    def leave_joint(self) -> Membership:
        """Drop the outgoing half.

        Raises:
            ConfChangeRefused: The configuration is not joint.
        """
        draft = self._draft()
        if not draft.outgoing:
            raise ConfChangeRefused("can't leave a non-joint config")
        for member in draft.learners_next:
            _include(draft.learners, member)
            draft.progress[member].is_learner = True
        draft.learners_next = []
        for member in draft.outgoing:
            if member not in draft.incoming and member not in draft.learners:
                del draft.progress[member]
        draft.outgoing = []
        return draft.finish(auto_leave=False)

    def simple(self, changes: Sequence[ConfChangeSingle]) -> Membership:
        """Make changes that touch at most one voter.

        Raises:
            ConfChangeRefused: The configuration is joint, or more than one voter would change.
        """
        draft = self._draft()
        if draft.outgoing:
            raise ConfChangeRefused("can't apply simple config change in joint config")
        draft.apply(changes)
        before = self._current.config.voters
        changed = sum(voter not in draft.incoming for voter in before)
        changed += sum(voter not in before for voter in draft.incoming)
        if changed > 1:
            raise ConfChangeRefused("more than one voter changed without entering joint config")
        return draft.finish(auto_leave=self._current.config.auto_leave)


def restore(tracker: ProgressTracker, last_index: int, state: ConfState) -> Membership:
    """Return the membership that a `ConfState` describes, by replaying how it may have come about.

    For voters=(1 2 3) learners=(5) outgoing=(1 2 4 6) learners_next=(4) the voters 1, 2, 4 and 6
    are added one by one; a joint change then removes them all and adds voters 1, 2, 3 and learners
    5 and 4. Whether 5 had been a learner before makes no difference.

    Args:
        tracker: Must be empty; the configuration is built on top of it.
        last_index: Last index of the log.
        state: The configuration to restore.

    Raises:
        ConfChangeRefused: The state contradicts itself.
    """
    add, learn, drop = (
        ConfChangeType.ADD_NODE,
        ConfChangeType.ADD_LEARNER_NODE,
        ConfChangeType.REMOVE_NODE,
    )
    outgoing = [ConfChangeSingle(add, member) for member in state.voters_outgoing]
    incoming = [ConfChangeSingle(drop, member) for member in state.voters_outgoing]
    incoming += [ConfChangeSingle(add, member) for member in state.voters]
    incoming += [ConfChangeSingle(learn, member) for member in state.learners]
    incoming += [ConfChangeSingle(learn, member) for member in state.learners_next]

    membership = Membership(tracker.config, tracker.progress)
    for change in outgoing or incoming:
        membership = Changer(tracker, last_index, membership).simple([change])
    if outgoing:
        joint = Changer(tracker, last_index, membership)
        membership = joint.enter_joint(incoming, auto_leave=state.auto_leave)
    return membership
