"""What can be seen of a member from outside. Copies: nothing here changes later."""

from dataclasses import dataclass, field

from coordinator.raft.core import LEADER, Raft
from coordinator.raft.progress import Progress
from coordinator.raft.ready import SoftState, StateType
from coordinator.raft.tracker import TrackerConfig
from coordinator.wire.raft import HardState


@dataclass(slots=True, frozen=True)
class BasicStatus:
    """What is cheap to know."""

    id: int
    hard_state: HardState
    soft_state: SoftState
    applied: int
    """Last index confirmed by the state machine."""
    first_index: int
    """First index still in the log."""
    last_index: int
    lead_transferee: int
    """Whom leadership is being transferred to; 0 for nobody."""

    @property
    def term(self) -> int:
        """The current term."""
        return self.hard_state.term

    @property
    def commit(self) -> int:
        """The commit index, as far as known here."""
        return self.hard_state.commit

    @property
    def lead(self) -> int:
        """The leader, as far as known here; 0 if not."""
        return self.soft_state.lead

    @property
    def state(self) -> StateType:
        """The role."""
        return self.soft_state.state


@dataclass(slots=True, frozen=True)
class Status(BasicStatus):
    """All there is to know."""

    config: TrackerConfig
    progress: dict[int, Progress] = field(default_factory=dict)
    """By id; only a leader knows it."""


def basic_status(raft: Raft) -> BasicStatus:
    """Return what is cheap to know."""
    return BasicStatus(
        id=raft.id,
        hard_state=raft.hard_state(),
        soft_state=raft.soft_state(),
        applied=raft.log.applied,
        first_index=raft.log.first_index(),
        last_index=raft.log.last_index,
        lead_transferee=raft.lead_transferee,
    )


def full_status(raft: Raft) -> Status:
    """Return all there is to know."""
    basic = basic_status(raft)
    progress: dict[int, Progress] = {}
    if raft.state == LEADER:
        progress = {member: its.snapshot_copy() for member, its in raft.tracker.progress.items()}
    return Status(
        id=basic.id,
        hard_state=basic.hard_state,
        soft_state=basic.soft_state,
        applied=basic.applied,
        first_index=basic.first_index,
        last_index=basic.last_index,
        lead_transferee=basic.lead_transferee,
        config=raft.tracker.config,
        progress=progress,
    )
