"""The end of the log that is not known to be durable yet.

It holds new entries, and a snapshot that has come in, from the moment the core knows them until
storage has confirmed them. Part of it may be on its way to storage already; it stays here until
then, because a read from storage would not find it.
"""

from coordinator.raft.errors import InvariantBroken
from coordinator.wire.raft import Entry, Snapshot


class Unstable:
    """Entries and a snapshot that storage has not confirmed.

    `entries[i]` stands at index `offset + i`. The offset may be lower than the last index in
    storage: then the next write to storage cuts the log there before it appends.
    """

    __slots__ = (
        "entries",
        "offset",
        "offset_in_progress",
        "snapshot",
        "snapshot_in_progress",
    )

    entries: list[Entry]
    offset: int
    offset_in_progress: int
    """Index after the last entry on its way to storage. Invariant: offset <= offset_in_progress."""
    snapshot: Snapshot | None
    snapshot_in_progress: bool
    """Whether the snapshot is on its way to storage."""

    def __init__(self, offset: int) -> None:
        """Start with nothing, after the last index in storage."""
        self.entries = []
        self.offset = offset
        self.offset_in_progress = offset
        self.snapshot = None
        self.snapshot_in_progress = False

    def term(self, index: int) -> int:
        """Return the term of an entry or of the snapshot; 0 if it is not here."""
        position = index - self.offset
        if position >= 0:
            return self.entries[position].term if position < len(self.entries) else 0
        if self.snapshot is not None and self.snapshot.metadata.index == index:
            return self.snapshot.metadata.term
        return 0

    def has_next_entries(self) -> bool:
        """Whether there are entries that are not on their way to storage yet."""
        return self.offset_in_progress - self.offset < len(self.entries)

    def has_next_snapshot(self) -> bool:
        """Whether there is a snapshot that is not on its way to storage yet."""
        return self.snapshot is not None and not self.snapshot_in_progress

    def hand_out_entries(self) -> list[Entry]:
        """Return the entries that are not on their way to storage yet; now they are."""
        started = self.offset_in_progress - self.offset
        entries = self.entries[started:]
        self.offset_in_progress += len(entries)
        return entries

    def hand_out_snapshot(self) -> Snapshot | None:
        """Return the snapshot unless it is on its way to storage already; now it is."""
        if self.snapshot_in_progress:
            return None
        self.snapshot_in_progress = self.snapshot is not None
        return self.snapshot

    def stable_to(self, index: int, term: int) -> None:
        """Let go of entries that storage has confirmed.

        The confirmation is worth nothing if the entry at `index` has been replaced since by one of
        another term. The caller makes sure that no write on its way could still replace it by an
        older one.

        Args:
            index: Last index confirmed.
            term: Term of the entry that was confirmed there.
        """
        position = index - self.offset
        if position < 0 or position >= len(self.entries):
            return
        if self.entries[position].term != term:
            return
        del self.entries[: position + 1]
        self.offset = index + 1
        self.offset_in_progress = max(self.offset_in_progress, self.offset)

    def stable_snapshot_to(self, index: int) -> None:
        """Let go of the snapshot once storage has confirmed it."""
        if self.snapshot is not None and self.snapshot.metadata.index == index:
            self.snapshot = None
            self.snapshot_in_progress = False

    def restore(self, snapshot: Snapshot) -> None:
        """Replace everything by a snapshot."""
        self.offset = snapshot.metadata.index + 1
        self.offset_in_progress = self.offset
        self.entries = []
        self.snapshot = snapshot
        self.snapshot_in_progress = False

    def truncate_and_append(self, entries: list[Entry]) -> None:
        """Append entries, replacing whatever stood at their indexes and after them.

        Args:
            entries: Consecutive entries, at least one, that begin at most one position after the
                last.
        """
        first = entries[0].index
        end = self.offset + len(self.entries)
        if first == end:
            self.entries.extend(entries)
        elif first <= self.offset:
            self.entries = list(entries)
            self.offset = first
            self.offset_in_progress = first
        else:
            self.check_bounds(self.offset, first)
            del self.entries[first - self.offset :]
            self.entries.extend(entries)
            self.offset_in_progress = min(self.offset_in_progress, first)

    def slice(self, lo: int, hi: int) -> list[Entry]:
        """Return the entries with indexes in [lo, hi), all of which must be here."""
        self.check_bounds(lo, hi)
        return self.entries[lo - self.offset : hi - self.offset]

    def check_bounds(self, lo: int, hi: int) -> None:
        """Raise unless offset <= lo <= hi <= index after the last entry."""
        end = self.offset + len(self.entries)
        if not self.offset <= lo <= hi <= end:
            raise InvariantBroken(f"unstable slice [{lo},{hi}) out of bound [{self.offset},{end}]")
