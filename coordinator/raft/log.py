"""The log as one: what is in storage, and after it what is not durable yet.

Positions, from the front to the back::

    first_index .. applied .. applying .. committed .. last_index
                    handed out ^          ^ a quorum has it

Invariants: applied <= applying <= committed <= last_index, and the entries up to committed never
change.
"""

from collections import deque

from coordinator.raft.errors import Compacted, InvariantBroken, StorageError, Unavailable
from coordinator.raft.messages import NO_LIMIT, all_normal, entries_size, limit_size
from coordinator.raft.storage import Storage
from coordinator.raft.unstable import Unstable
from coordinator.wire.raft import Entry, Snapshot


class RaftLog:
    """The log of one member, with the positions commit and apply have reached."""

    __slots__ = (
        "_handed_out",
        "applied",
        "applying",
        "applying_paused",
        "applying_size",
        "applying_size_max",
        "committed",
        "last_index",
        "last_term",
        "storage",
        "unstable",
    )

    storage: Storage
    unstable: Unstable
    last_index: int
    """Index of the last entry. Kept here because only the core moves it: storage follows."""
    last_term: int
    """Term of the last entry."""
    committed: int
    """Highest index known to be on a quorum."""
    applying: int
    """Highest index handed out to be applied."""
    applied: int
    """Highest index the state machine has confirmed."""
    applying_size_max: int
    """Bytes of entries that may be handed out and not confirmed."""
    applying_size: int
    """Bytes of entries handed out and not confirmed."""
    applying_paused: bool
    """Whether the limit has been reached, or the next entry would exceed it."""

    def __init__(self, storage: Storage, applying_size_max: int = NO_LIMIT) -> None:
        """Start where storage ends, with nothing committed beyond its snapshot."""
        self.storage = storage
        self.last_index = storage.last_index()
        self.last_term = storage.term(self.last_index)
        self.unstable = Unstable(self.last_index + 1)
        self.committed = self.applying = self.applied = storage.first_index() - 1
        self.applying_size_max = applying_size_max
        self.applying_size = 0
        # Last index and size of every bundle of entries handed out and not confirmed.
        self._handed_out: deque[tuple[int, int]] = deque()
        self.applying_paused = False

    # Reading.

    def first_index(self) -> int:
        """Return the index of the first entry that can be read."""
        snapshot = self.unstable.snapshot
        if snapshot is not None:
            return snapshot.metadata.index + 1
        return self.storage.first_index()

    def term(self, index: int) -> int:
        """Return the term of an entry in [first_index - 1, last_index].

        Raises:
            Compacted: The entry lies before that range.
            Unavailable: The entry lies after it.
        """
        if index == self.last_index:
            return self.last_term
        unstable = self.unstable
        if index >= unstable.offset or unstable.snapshot is not None:
            term = unstable.term(index)
            if term:
                return term
            if index > self.last_index:
                raise Unavailable
            # Whatever storage still has before the snapshot is about to go.
            raise Compacted
        return self.storage.term(index)

    def term_or_zero(self, index: int) -> int:
        """Return the term of an entry; 0 if it cannot be read, which is the term of no entry."""
        try:
            return self.term(index)
        except StorageError:
            return 0

    def match_term(self, index: int, term: int) -> bool:
        """Whether the entry at an index is there and has a term."""
        try:
            return self.term(index) == term
        except StorageError:
            return False

    def is_up_to_date(self, index: int, term: int) -> bool:
        """Whether a log that ends there is at least as good as this one (Raft thesis §3.6.1)."""
        return term > self.last_term or (term == self.last_term and index >= self.last_index)

    def entries(self, lo: int, size_max: int) -> list[Entry]:
        """Return the entries from an index on, up to a number of bytes.

        Raises:
            Compacted: The first of them has been compacted away.
        """
        if lo > self.last_index:
            return []
        return self.slice(lo, self.last_index + 1, size_max)

    def slice(self, lo: int, hi: int, size_max: int = NO_LIMIT) -> list[Entry]:
        """Return the entries with indexes in [lo, hi), up to a number of bytes but at least one.

        Raises:
            Compacted: The first of them has been compacted away.
            InvariantBroken: The range exceeds the log, or storage does not have what it confirmed.
        """
        offset = self.unstable.offset
        if not lo <= hi <= self.last_index + 1:
            raise InvariantBroken(f"slice [{lo},{hi}) out of bound {self.last_index}")
        if lo >= offset:
            entries = self.unstable.entries[lo - offset : hi - offset]
            return limit_size(entries, size_max) if hi - lo > 1 else entries
        if self.unstable.snapshot is not None:
            raise Compacted
        if lo == hi:
            return []
        cut = min(hi, offset)
        try:
            stored = self.storage.entries(lo, cut, size_max)
        except Unavailable as error:
            raise InvariantBroken(f"entries [{lo},{cut}) are unavailable from storage") from error
        # Fewer than asked for: the limit has been reached within storage.
        if hi <= offset or len(stored) < cut - lo:
            return stored
        if size_max >= NO_LIMIT:
            return stored + self.unstable.slice(offset, hi)
        size = entries_size(stored)
        if size >= size_max:
            return stored
        rest = limit_size(self.unstable.slice(offset, hi), size_max - size)
        # Only a single entry may exceed what is left: it has come without being asked for.
        if len(rest) == 1 and size + entries_size(rest) > size_max:
            return stored
        return stored + rest

    def snapshot(self) -> Snapshot:
        """Return the latest snapshot.

        Raises:
            SnapshotTemporarilyUnavailable: Storage is preparing one.
        """
        return self.unstable.snapshot or self.storage.snapshot()

    # Appending.

    def append(self, entries: list[Entry]) -> int:
        """Append entries, replacing uncommitted ones at their indexes. Returns the last index."""
        if not entries:
            return self.last_index
        if entries[0].index <= self.committed:
            raise InvariantBroken(
                f"append at {entries[0].index} is out of range [committed({self.committed})]"
            )
        self.unstable.truncate_and_append(entries)
        last = entries[-1]
        self.last_index = last.index
        self.last_term = last.term
        return last.index

    def maybe_append(
        self, prev_index: int, prev_term: int, entries: list[Entry], committed: int
    ) -> int | None:
        """Append what a leader sent, if it fits (Raft thesis §3.5).

        Entries are replaced only from the first conflict on: a message that arrives late or twice
        must not cut off what has been acknowledged since.

        Args:
            prev_index: Index of the entry before them.
            prev_term: Term that entry has in the leader's log.
            entries: Consecutive entries after it, possibly none.
            committed: The leader's commit index.

        Returns:
            The index of the last of them, or None if the entry before them does not match.
        """
        at_end = prev_index == self.last_index
        if prev_term != self.last_term if at_end else not self.match_term(prev_index, prev_term):
            return None
        last_new = prev_index + len(entries)
        if entries:
            # Nothing can conflict with entries that begin where this log ends.
            conflict = prev_index + 1 if at_end else self.find_conflict(entries)
            if conflict:
                if conflict <= self.committed:
                    raise InvariantBroken(
                        f"entry {conflict} conflicts with committed entry "
                        f"[committed({self.committed})]"
                    )
                self.append(entries[conflict - prev_index - 1 :])
        if committed > self.committed:
            self.commit_to(min(committed, last_new))
        return last_new

    def find_conflict(self, entries: list[Entry]) -> int:
        """Return the index of the first entry that is not in the log with that term, or 0."""
        for entry in entries:
            if not self.match_term(entry.index, entry.term):
                return entry.index
        return 0

    def find_conflict_by_term(self, index: int, term: int) -> tuple[int, int]:
        """Guess where this log ends matching another one that has `term` at `index`.

        Terms never fall along a log, so entries of a higher term cannot match: they are skipped, a
        whole term at a time from the other side's point of view.

        Returns:
            The highest index up to `index` whose term is at most `term`, and that term. The term is
            0, and the index only a guess, if it cannot be read.
        """
        while index > 0:
            try:
                ours = self.term(index)
            except StorageError:
                return index, 0
            if ours <= term:
                return index, ours
            index -= 1
        return 0, 0

    # Committing and applying.

    def commit_to(self, index: int) -> None:
        """Move the commit index forward, never back.

        Raises:
            InvariantBroken: The log does not reach that far: it has lost what it had acknowledged.
        """
        if index > self.committed:
            if index > self.last_index:
                raise InvariantBroken(
                    f"tocommit({index}) is out of range [lastIndex({self.last_index})]. "
                    "Was the raft log corrupted, truncated, or lost?"
                )
            self.committed = index

    def maybe_commit(self, index: int, term: int) -> bool:
        """Commit an index if that is news and the entry has this term (Raft thesis §3.6.2)."""
        # Term 0 belongs to no entry; a comparison must not succeed because neither side has one.
        if index > self.committed and term and self.match_term(index, term):
            self.commit_to(index)
            return True
        return False

    def has_next_committed(self, allow_unstable: bool) -> bool:
        """Whether `hand_out_committed` would return anything."""
        if self.applying >= self.committed or self.applying_paused:
            return False
        # A snapshot goes first; whether entries come before or after it must never be a question.
        if self.unstable.snapshot is not None:
            return False
        return allow_unstable or self.applying < self.unstable.offset - 1

    def hand_out_committed(self, allow_unstable: bool) -> list[Entry]:
        """Return committed entries that have not been handed out, up to the limit of bytes.

        Args:
            allow_unstable: Whether entries may be among them that are not durable here yet.
        """
        if not self.has_next_committed(allow_unstable):
            return []
        end = self.committed
        if not allow_unstable:
            end = min(end, self.unstable.offset - 1)
        left = self.applying_size_max - self.applying_size
        if left <= 0:
            raise InvariantBroken(f"applying entry size {left} not positive")
        try:
            entries = self.slice(self.applying + 1, end + 1, left)
        except StorageError as error:
            raise InvariantBroken("committed entries cannot be read") from error
        self.applying = index = entries[-1].index
        if self.applying_size_max < NO_LIMIT:
            size = entries_size(entries)
            self._handed_out.append((index, size))
            self.applying_size += size
        # Either the limit is reached, or what is handed out stops short of what could have been:
        # then the next entry would have exceeded it.
        self.applying_paused = index < end or self.applying_size >= self.applying_size_max
        return entries

    def confirm_handed_out(self, index: int) -> None:
        """Take entries up to an index off what has been handed out and not confirmed."""
        handed_out = self._handed_out
        while handed_out and handed_out[0][0] <= index:
            self.applying_size -= handed_out.popleft()[1]

    def applied_to(self, index: int) -> None:
        """Note that the state machine has applied everything up to an index.

        Raises:
            InvariantBroken: It had applied more already, or more than was committed.
        """
        if not self.applied <= index <= self.committed:
            raise InvariantBroken(
                f"applied({index}) is out of range "
                f"[prevApplied({self.applied}), committed({self.committed})]"
            )
        self.applied = index
        if self.applying < index:
            self.applying = index
        self.applying_paused = self.applying_size >= self.applying_size_max

    def has_unapplied_conf_change(self) -> bool:
        """Whether a configuration change has been committed here but not applied."""
        lo, hi = self.applied + 1, self.committed + 1
        while lo < hi:
            # Page by page: there may be far more than fits into memory.
            page = self.slice(lo, hi, self.applying_size_max)
            if not all_normal(page):
                return True
            lo += len(page)
        return False

    # Storage.

    def restore(self, snapshot: Snapshot) -> None:
        """Replace the whole log by a snapshot, which by its nature is committed."""
        metadata = snapshot.metadata
        self.unstable.restore(snapshot)
        self.committed = metadata.index
        self.last_index = metadata.index
        self.last_term = metadata.term
