"""What the core is told when it is built. Time is counted in ticks, space in bytes."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Protocol

from coordinator.raft.errors import ConfigInvalid
from coordinator.raft.messages import NO_LIMIT
from coordinator.raft.storage import Storage

READS_PENDING_MAX: Final = 65_536
"""Default bound on linearizable reads that wait for confirmation."""


class ReadOnlyOption(IntEnum):
    """How a leader makes sure that it still leads before it answers a read (Raft thesis §6.4)."""

    SAFE = 0
    """By a round of heartbeats to a quorum. The default."""
    LEASE_BASED = 1
    """By trusting the clocks: no follower elects anyone within an election timeout. Unsafe if ticks
    of different members may drift apart by an election timeout, as they do when a process is
    stopped and continued."""


class Rng(Protocol):
    """Where randomness comes from; `random.Random` fits, and so does a seeded one."""

    def randrange(self, stop: int, /) -> int:
        """Return a number from 0 up to, not including, `stop`."""
        ...


class Logger(Protocol):
    """Where the core tells its story; `logging.Logger` fits. Messages have %-style arguments."""

    def debug(self, message: str, /, *args: object) -> None:
        """Tell about flow control."""
        ...

    def info(self, message: str, /, *args: object) -> None:
        """Tell about elections, configurations and snapshots."""
        ...

    def warning(self, message: str, /, *args: object) -> None:
        """Tell about something refused."""
        ...

    def error(self, message: str, /, *args: object) -> None:
        """Tell about a caller's mistake."""
        ...


class SilentLogger:
    """A logger that says nothing; the default."""

    __slots__ = ()

    def debug(self, message: str, /, *args: object) -> None:
        """Say nothing."""

    def info(self, message: str, /, *args: object) -> None:
        """Say nothing."""

    def warning(self, message: str, /, *args: object) -> None:
        """Say nothing."""

    def error(self, message: str, /, *args: object) -> None:
        """Say nothing."""


SILENT: Final = SilentLogger()


@dataclass(slots=True, kw_only=True)
class Config:
    """The settings of one member."""

    id: int
    """This member, a positive 63-bit integer. Never used again once the member has been removed."""
    storage: Storage
    """The durable log. The core only reads from it; the caller writes what a `Ready` asks for."""
    rng: Rng
    """Spreads election timeouts, so that members do not stand for election at the same time."""
    election_tick: int
    """Ticks without a leader before a follower stands for election; the real timeout is random in
    [election_tick, 2 * election_tick). About 10 times `heartbeat_tick`."""
    heartbeat_tick: int
    """Ticks between two heartbeats of a leader."""
    applied: int = 0
    """Last index the state machine has applied; entries up to it are not handed out again."""
    async_storage_writes: bool = False
    """Ask for storage writes by message (see `coordinator.raft`) instead of `Ready` and
    `advance`."""
    max_size_per_msg: int = NO_LIMIT
    """Bytes of entries in one MSG_APP; 0 for one entry per message. Smaller values recover faster
    from loss, larger ones move more."""
    max_committed_size_per_ready: int = 0
    """Bytes of committed entries handed out but not yet applied, over all outstanding `Ready`s. 0
    for the value of `max_size_per_msg`."""
    max_uncommitted_size: int = 0
    """Bytes of payload in the uncommitted tail of a leader's log, beyond which proposals are
    dropped. A tail that is empty takes a proposal of any size. 0 for no limit."""
    max_inflight_msgs: int = 256
    """MSG_APPs on their way to one follower; beyond it the leader waits for answers."""
    max_inflight_bytes: int = 0
    """Bytes of payload on their way to one follower. 0 for no limit, else at least
    `max_size_per_msg`. Bounds the throughput of a link to this many bytes per round trip."""
    max_pending_reads: int = READS_PENDING_MAX
    """Reads waiting for confirmation; further ones are dropped, and have to be asked for again."""
    check_quorum: bool = False
    """A leader that has not heard from a quorum for an election timeout steps down, and followers
    that hear from a leader refuse to elect another one (Raft thesis §6.2)."""
    pre_vote: bool = False
    """Ask whether an election could be won before starting it, so that a member that comes back
    from a partition does not depose a healthy leader (Raft thesis §9.6)."""
    read_only_option: ReadOnlyOption = ReadOnlyOption.SAFE
    """How reads are confirmed. LEASE_BASED needs `check_quorum`."""
    disable_proposal_forwarding: bool = False
    """A follower drops proposals instead of passing them on to the leader. For callers that let the
    leader complete a proposal, with a timestamp for instance."""
    disable_conf_change_validation: bool = False
    """Append configuration changes without looking at them. Only for callers that make sure by
    themselves that at most one is under way and that it fits: one that does not fit stops every
    member."""
    step_down_on_removal: bool = False
    """A leader that is removed or demoted becomes a follower at once, instead of leading on without
    a vote."""
    logger: Logger = SILENT

    def validate(self) -> None:
        """Check the settings against each other.

        Raises:
            ConfigInvalid: With every rule that is violated.
        """
        rules = (
            (self.id > 0, "id must be positive"),
            (self.heartbeat_tick > 0, "heartbeat_tick must be greater than 0"),
            (
                self.election_tick > self.heartbeat_tick,
                "election_tick must be greater than heartbeat_tick",
            ),
            (self.max_inflight_msgs > 0, "max_inflight_msgs must be greater than 0"),
            (
                self.max_inflight_bytes == 0 or self.max_inflight_bytes >= self.max_size_per_msg,
                "max_inflight_bytes must be 0 or at least max_size_per_msg",
            ),
            (self.max_pending_reads > 0, "max_pending_reads must be greater than 0"),
            (self.applied >= 0, "applied must not be negative"),
            (
                self.read_only_option == ReadOnlyOption.SAFE or self.check_quorum,
                "check_quorum must be enabled when read_only_option is LEASE_BASED",
            ),
        )
        broken = [text for holds, text in rules if not holds]
        if broken:
            raise ConfigInvalid("; ".join(broken))
