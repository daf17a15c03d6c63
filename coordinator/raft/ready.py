"""What leaves the core: the work a caller has to do, and the answers it was waiting for."""

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import msgspec

from coordinator.wire.raft import Entry, HardState, Message, Snapshot


class StateType(IntEnum):
    """The role of a member."""

    FOLLOWER = 0
    CANDIDATE = 1
    LEADER = 2
    PRE_CANDIDATE = 3
    """Asks whether it could win an election, before it starts one."""


class SoftState(NamedTuple):
    """What is worth knowing and not worth storing."""

    lead: int
    """The leader, as far as known; 0 if not."""
    state: StateType


@dataclass(slots=True, frozen=True)
class ReadState:
    """The answer to a read request."""

    index: int
    """Once this has been applied, a read of the local state is linearizable."""
    context: bytes
    """What the request was given to be recognised by."""


class Ready(msgspec.Struct, gc=False):
    """A bundle of work, read-only; see `coordinator.raft` for what to do in which order."""

    messages: list[Message]
    """To be sent, or (with asynchronous storage writes) handed to the log writer and the state
    machine."""
    entries: list[Entry]
    """To be stored before the messages leave, replacing what stood at their indexes and after
    them."""
    committed_entries: list[Entry]
    """To be applied, in order, after those of earlier bundles."""
    read_states: list[ReadState]
    snapshot: Snapshot | None = None
    """To be stored, replacing the log and the state."""
    hard_state: HardState | None = None
    """Set if it has changed: to be stored before the messages leave. With asynchronous storage
    writes it is for information only, as are `entries`, `snapshot` and `committed_entries`: the
    messages carry them."""
    soft_state: SoftState | None = None
    """Set if it has changed."""
    must_sync: bool = False
    """Whether storing `hard_state` and `entries` must be durable; otherwise a crash may undo it.
    A snapshot must be durable in any case."""

    def __bool__(self) -> bool:
        """Whether there is anything to do."""
        return bool(
            self.messages
            or self.entries
            or self.committed_entries
            or self.read_states
            or self.hard_state is not None
            or self.soft_state is not None
            or self.snapshot is not None
        )
