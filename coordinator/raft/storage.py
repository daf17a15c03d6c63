"""Where the core finds what has been written, and a storage that keeps it in memory.

The core only reads. The caller writes, in the order a `Ready` or the storage messages ask for it.
"""

from typing import Protocol

from coordinator.raft.errors import (
    Compacted,
    InvariantBroken,
    SnapshotOutOfDate,
    Unavailable,
)
from coordinator.raft.messages import NO_LIMIT, limit_size
from coordinator.wire.raft import ConfState, Entry, HardState, Snapshot, SnapshotMetadata


class Storage(Protocol):
    """The durable log as the core sees it: indexes first_index .. last_index, after a snapshot.

    What the core has been told to be written (by `advance`, or by an answer to MSG_STORAGE_APPEND)
    must be seen by every later call. An error other than the ones named stops the member.
    """

    def initial_state(self) -> tuple[HardState, ConfState]:
        """Return the state to start from: the last hard state, and the configuration at `applied`.

        Called once. Both are empty for a member that has never been written to.
        """
        ...

    def entries(self, lo: int, hi: int, size_max: int = NO_LIMIT, /) -> list[Entry]:
        """Return the entries with indexes in [lo, hi), or a prefix of them.

        Args:
            lo: First index.
            hi: Index after the last one, at most last_index + 1.
            size_max: Bytes to return, by `limit_size`; at least one entry is returned whatever
                its size.

        Returns:
            A list that belongs to the caller; the entries in it must not be changed.

        Raises:
            Compacted: `lo` lies before the first index.
            Unavailable: An entry of the range does not exist.
        """
        ...

    def term(self, index: int, /) -> int:
        """Return the term of an entry.

        Args:
            index: In [first_index - 1, last_index]. The term at first_index - 1 is that of the
                snapshot, and is needed to compare logs.

        Raises:
            Compacted: `index` lies before that range.
            Unavailable: `index` lies after it.
        """
        ...

    def first_index(self) -> int:
        """Return the index of the first entry kept: the one after the snapshot if none is."""
        ...

    def last_index(self) -> int:
        """Return the index of the last entry; that of the snapshot if there is none."""
        ...

    def snapshot(self) -> Snapshot:
        """Return the latest snapshot. Its index is at least first_index - 1 and at most applied.

        Raises:
            SnapshotTemporarilyUnavailable: It is being prepared; the core will ask again.
        """
        ...


class MemoryStorage:
    """A storage in memory: the reference for every other one, and enough for tests and simulation.

    Not durable, and not safe for use by several threads at once.
    """

    __slots__ = ("_base_index", "_base_term", "_entries", "_hard_state", "_snapshot")

    def __init__(self) -> None:
        """Start empty: no snapshot, and a log that begins at index 1."""
        self._hard_state = HardState()
        self._snapshot = Snapshot()
        # Position of the entry before the first one kept; its term serves to compare logs.
        self._base_index = 0
        self._base_term = 0
        self._entries: list[Entry] = []

    def initial_state(self) -> tuple[HardState, ConfState]:
        """Return the last hard state, and the configuration of the snapshot."""
        return self._hard_state, self._snapshot.metadata.conf_state

    def set_hard_state(self, state: HardState) -> None:
        """Replace the hard state."""
        self._hard_state = state

    def entries(self, lo: int, hi: int, size_max: int = NO_LIMIT, /) -> list[Entry]:
        """Return the entries with indexes in [lo, hi), or a prefix of them; see `Storage`."""
        base = self._base_index
        if lo <= base:
            raise Compacted
        if hi > base + len(self._entries) + 1:
            raise Unavailable
        return limit_size(self._entries[lo - base - 1 : hi - base - 1], size_max)

    def term(self, index: int, /) -> int:
        """Return the term of an entry; see `Storage`."""
        position = index - self._base_index - 1
        if position < 0:
            if position == -1:
                return self._base_term
            raise Compacted
        if position >= len(self._entries):
            raise Unavailable
        return self._entries[position].term

    def first_index(self) -> int:
        """Return the index of the first entry kept; see `Storage`."""
        return self._base_index + 1

    def last_index(self) -> int:
        """Return the index of the last entry; see `Storage`."""
        return self._base_index + len(self._entries)

    def snapshot(self) -> Snapshot:
        """Return the latest snapshot; see `Storage`."""
        return self._snapshot

    def append(self, entries: list[Entry]) -> None:
        """Write entries, replacing whatever stood at their indexes and after them.

        Entries that have been compacted away already are skipped.

        Args:
            entries: Consecutive entries that begin at most one position after the last index.

        Raises:
            InvariantBroken: They would leave a gap.
        """
        if not entries:
            return
        start = entries[0].index - self._base_index - 1
        if start < 0:
            entries = entries[-start:]
            start = 0
            if not entries:
                return
        if start > len(self._entries):
            raise InvariantBroken(
                f"missing log entry [last: {self.last_index()}, append at: {entries[0].index}]"
            )
        del self._entries[start:]
        self._entries.extend(entries)

    def compact(self, index: int) -> None:
        """Discard all entries up to and including an index, which must have been applied.

        Raises:
            Compacted: They have been discarded already.
            InvariantBroken: The log does not reach that far.
        """
        if index <= self._base_index:
            raise Compacted
        if index > self.last_index():
            raise InvariantBroken(
                f"compact {index} is out of bound last index ({self.last_index()})"
            )
        self._base_term = self.term(index)
        del self._entries[: index - self._base_index]
        self._base_index = index

    def create_snapshot(
        self, index: int, conf_state: ConfState | None = None, data: bytes = b""
    ) -> Snapshot:
        """Make a snapshot at an applied index. The log is left as it is.

        Args:
            index: Last index whose effect `data` contains.
            conf_state: The configuration at that index; None if it has not changed since the
                last snapshot.
            data: The state itself.

        Raises:
            SnapshotOutOfDate: There is one at that index or a later one.
            InvariantBroken: The log does not reach that far.
        """
        if index <= self._snapshot.metadata.index:
            raise SnapshotOutOfDate
        if index > self.last_index():
            raise InvariantBroken(
                f"snapshot {index} is out of bound last index ({self.last_index()})"
            )
        metadata = SnapshotMetadata(
            conf_state=conf_state or self._snapshot.metadata.conf_state,
            index=index,
            term=self.term(index),
        )
        self._snapshot = Snapshot(data=data, metadata=metadata)
        return self._snapshot

    def apply_snapshot(self, snapshot: Snapshot) -> None:
        """Replace everything by a snapshot: the log becomes empty and continues after it.

        Raises:
            SnapshotOutOfDate: There is one at that index or a later one.
        """
        current = self._snapshot.metadata.index
        # Index 0 carries nothing but a configuration: how a group may be given its first members.
        if current != 0 and current >= snapshot.metadata.index:
            raise SnapshotOutOfDate
        self._snapshot = snapshot
        self._base_index = snapshot.metadata.index
        self._base_term = snapshot.metadata.term
        self._entries = []
