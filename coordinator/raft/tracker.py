"""The configuration in force, the progress of its members, and the votes of an election."""

from dataclasses import dataclass

from coordinator.raft.progress import Inflights, Progress
from coordinator.raft.quorum import (
    VoteResult,
    describe_majority,
    joint_committed,
    joint_vote,
    majority_index,
)
from coordinator.wire.raft import ConfState


@dataclass(slots=True, frozen=True)
class TrackerConfig:
    """Who votes and who learns. All tuples are sorted; an empty one means "none".

    A voter that is to become a learner cannot be one while the outgoing half of a joint
    configuration still needs its vote: nobody is voter and learner at once, so that a member knows
    its role without knowing about joint consensus. It waits in `learners_next` until the joint
    configuration is left.
    """

    voters: tuple[int, ...] = ()
    """Voters of the configuration, or of the incoming half of a joint one."""
    outgoing: tuple[int, ...] = ()
    """Voters of the outgoing half; not empty if and only if the configuration is joint."""
    learners: tuple[int, ...] = ()
    learners_next: tuple[int, ...] = ()
    """Voters of the outgoing half that become learners. Invariant: a subset of `outgoing`."""
    auto_leave: bool = False
    """Whether the leader leaves the joint configuration by itself."""

    @property
    def is_joint(self) -> bool:
        """Whether two majorities have to agree."""
        return bool(self.outgoing)

    def voter_ids(self) -> tuple[int, ...]:
        """Return the voters of both halves, sorted, each once."""
        if not self.outgoing:
            return self.voters
        return tuple(sorted(dict.fromkeys(self.voters + self.outgoing)))

    def conf_state(self) -> ConfState:
        """Return the configuration in the form that goes into snapshots."""
        return ConfState(
            voters=self.voters,
            learners=self.learners,
            voters_outgoing=self.outgoing,
            learners_next=self.learners_next,
            auto_leave=self.auto_leave,
        )

    def __str__(self) -> str:
        """Return the configuration as text, leaving out what is empty."""
        text = "voters=" + describe_majority(self.voters)
        if self.outgoing:
            text += "&&" + describe_majority(self.outgoing)
        if self.learners:
            text += " learners=" + describe_majority(self.learners)
        if self.learners_next:
            text += " learners_next=" + describe_majority(self.learners_next)
        if self.auto_leave:
            text += " autoleave"
        return text


class ProgressTracker:
    """A configuration and what is known of its members."""

    __slots__ = ("config", "inflight_bytes_max", "inflight_count_max", "progress", "votes")

    config: TrackerConfig
    progress: dict[int, Progress]
    """By id, in ascending order of ids: whoever goes through it does so in the same order
    everywhere."""
    votes: dict[int, bool]
    """Answers in the election under way; the first answer of a voter counts."""

    def __init__(self, inflight_count_max: int, inflight_bytes_max: int) -> None:
        """Start without members.

        Args:
            inflight_count_max: Window of every member, in messages.
            inflight_bytes_max: Window of every member, in bytes; 0 for no limit.
        """
        self.config = TrackerConfig()
        self.progress = {}
        self.votes = {}
        self.inflight_count_max = inflight_count_max
        self.inflight_bytes_max = inflight_bytes_max

    def new_inflights(self) -> Inflights:
        """Return an empty window of the configured size."""
        return Inflights(self.inflight_count_max, self.inflight_bytes_max)

    def is_singleton(self) -> bool:
        """Whether a single voter decides alone."""
        return len(self.config.voters) == 1 and not self.config.outgoing

    def committed(self) -> int:
        """Return the highest index that a quorum is known to have."""
        config = self.config
        if config.outgoing:
            acked = {member: its.match for member, its in self.progress.items()}
            return joint_committed(config.voters, config.outgoing, acked)
        progress = self.progress
        return majority_index([progress[voter].match for voter in config.voters])

    def quorum_active(self) -> bool:
        """Whether a quorum has been heard from since the last check."""
        active = {
            member: its.recent_active for member, its in self.progress.items() if not its.is_learner
        }
        return joint_vote(self.config.voters, self.config.outgoing, active) == VoteResult.WON

    def reset_votes(self) -> None:
        """Begin a new count."""
        self.votes = {}

    def record_vote(self, member: int, granted: bool) -> None:
        """Note an answer, unless that member has answered before."""
        self.votes.setdefault(member, granted)

    def tally_votes(self) -> tuple[int, int, VoteResult]:
        """Return how many granted and refused, and what that means."""
        granted = refused = 0
        for member, its in self.progress.items():
            if its.is_learner or member not in self.votes:
                continue
            if self.votes[member]:
                granted += 1
            else:
                refused += 1
        return granted, refused, joint_vote(self.config.voters, self.config.outgoing, self.votes)
