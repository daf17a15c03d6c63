"""What can go wrong in the core, as a tree.

    RaftError ├─ ProposalDropped             certainly not in the log: propose again, elsewhere or
    later ├─ StepLocalMessage            a local message arrived from a peer ├─ StepPeerNotFound
    an answer arrived from a member that is not in the configuration ├─ ConfChangeRefused
    a configuration change that does not fit the configuration it meets ├─ ConfigInvalid
    the core cannot run with these settings ├─ StorageError                answers a `Storage` may
    give │  ├─ Compacted                the entry lies before the first one kept │  ├─ Unavailable
    the entry lies after the last one │  ├─ SnapshotOutOfDate        an older snapshot than the one
    at hand │  └─ SnapshotTemporarilyUnavailable   ask again later └─ InvariantBroken
    the core or its storage is damaged: stop, never go on

Invariants are raised rather than asserted: they hold whatever the interpreter's options.
"""


class RaftError(Exception):
    """Anything the core raises."""


class ProposalDropped(RaftError):
    """The proposal was not appended, so that the proposer can fail fast.

    Raised when there is no leader, when a leadership transfer is under way, when this leader has
    been removed, when forwarding is disabled, or when the uncommitted tail of the log is full.
    """

    def __init__(self) -> None:
        """Say it in the words every implementation of this family uses."""
        super().__init__("raft proposal dropped")


class StepLocalMessage(RaftError):
    """A message that only this member may give itself came from somewhere else."""

    def __init__(self) -> None:
        """Say what happened."""
        super().__init__("raft: cannot step raft local message")


class StepPeerNotFound(RaftError):
    """An answer came from a member that is not in the configuration."""

    def __init__(self) -> None:
        """Say what happened."""
        super().__init__("raft: cannot step as peer not found")


class ConfChangeRefused(RaftError):
    """A configuration change cannot be applied to the configuration in force."""


class ConfigInvalid(RaftError):
    """The settings contradict each other; the text names each rule that is violated."""


class StorageError(RaftError):
    """An answer that a `Storage` may give instead of data."""


class Compacted(StorageError):
    """The entry has been compacted away: it lies before the first index kept."""

    def __init__(self) -> None:
        """Say what happened."""
        super().__init__("requested index is unavailable due to compaction")


class Unavailable(StorageError):
    """The entry does not exist yet: it lies after the last index."""

    def __init__(self) -> None:
        """Say what happened."""
        super().__init__("requested entry at index is unavailable")


class SnapshotOutOfDate(StorageError):
    """A newer snapshot is already there."""

    def __init__(self) -> None:
        """Say what happened."""
        super().__init__("requested index is older than the existing snapshot")


class SnapshotTemporarilyUnavailable(StorageError):
    """A snapshot is being prepared; the core asks again with the next message to that member."""

    def __init__(self) -> None:
        """Say what happened."""
        super().__init__("snapshot is temporarily unavailable")


class InvariantBroken(RaftError):
    """Something that cannot happen has happened. The member must stop; its data needs a look."""
