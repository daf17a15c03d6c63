"""What a leader knows of one follower, and what it may send to it.

A follower is in one of three states::

                     becomes probe
              +-------------------------+
              v                         |
    +--->  PROBE  --- match found ---> REPLICATE
    |        |                          |
    |        |   log compacted away     |
    |        v                          |
    +---  SNAPSHOT  <-------------------+

PROBE: where its log ends is unknown; one message per heartbeat interval. REPLICATE: entries stream,
several messages ahead of the answers, up to the window. SNAPSHOT: nothing is sent until the
snapshot has been reported.
"""

from collections import deque
from enum import IntEnum

from coordinator.raft.errors import InvariantBroken


class ProgressState(IntEnum):
    """How the leader deals with a follower."""

    PROBE = 0
    REPLICATE = 1
    SNAPSHOT = 2


PROBE = ProgressState.PROBE
REPLICATE = ProgressState.REPLICATE
SNAPSHOT = ProgressState.SNAPSHOT


class Inflights:
    """The messages on their way to one follower: a window bounded by number and by bytes.

    Each message is remembered by the index of its last entry; an answer for an index frees every
    message up to it.
    """

    __slots__ = ("_window", "bytes", "bytes_max", "count_max")

    def __init__(self, count_max: int, bytes_max: int = 0) -> None:
        """Start with an empty window.

        Args:
            count_max: Messages that may be on their way.
            bytes_max: Bytes of payload that may be on their way; 0 for no limit.
        """
        self.count_max = count_max
        self.bytes_max = bytes_max
        self.bytes = 0
        self._window: deque[tuple[int, int]] = deque()

    def copy(self) -> "Inflights":
        """Return an independent window with the same messages."""
        twin = Inflights(self.count_max, self.bytes_max)
        twin.bytes = self.bytes
        twin._window = self._window.copy()
        return twin

    def add(self, index: int, size: int) -> bool:
        """Note a message that has been sent. Returns whether the window is full now.

        Args:
            index: Index of its last entry; higher than that of any message before it.
            size: Bytes of its payload.

        Raises:
            InvariantBroken: The window is full.
        """
        window = self._window
        if len(window) == self.count_max or 0 < self.bytes_max <= self.bytes:
            raise InvariantBroken("cannot add to a full window of inflight messages")
        window.append((index, size))
        self.bytes += size
        return len(window) == self.count_max or 0 < self.bytes_max <= self.bytes

    def free_to(self, index: int) -> None:
        """Note that everything up to an index has arrived."""
        window = self._window
        while window and window[0][0] <= index:
            self.bytes -= window.popleft()[1]

    def full(self) -> bool:
        """Whether the next message has to wait. The last one may exceed the limit of bytes."""
        return len(self._window) == self.count_max or 0 < self.bytes_max <= self.bytes

    def count(self) -> int:
        """Return how many messages are on their way."""
        return len(self._window)

    def reset(self) -> None:
        """Forget every message."""
        self._window.clear()
        self.bytes = 0


class Progress:
    """One follower (or the leader itself), as the leader sees it."""

    __slots__ = (
        "flow_paused",
        "inflights",
        "is_learner",
        "match",
        "next",
        "pending_snapshot",
        "recent_active",
        "sent_commit",
        "state",
    )

    match: int
    """Highest index at which its log is known to agree with the leader's."""
    next: int
    """Index of the next entry to send. Invariant: match < next; what lies between is on its way.
    In SNAPSHOT it is pending_snapshot + 1."""
    sent_commit: int
    """Highest commit index on its way to it. Falls back when messages may have been lost."""
    state: ProgressState
    pending_snapshot: int
    """In SNAPSHOT: index of the snapshot that was sent. The follower leaves the state when it
    acknowledges an entry from which the log can continue, whatever its index: snapshots may come
    from elsewhere."""
    recent_active: bool
    """Whether it has been heard from since the quorum was last checked. Always true for the
    leader."""
    flow_paused: bool
    """Whether MSG_APPs wait for the next answer to a heartbeat: a probe is under way, or the window
    is full. One message per interval still goes out, so that a window whose messages were all lost
    cannot stay full for ever."""
    inflights: Inflights
    is_learner: bool

    def __init__(
        self,
        *,
        match: int,
        next: int,
        inflights: Inflights,
        is_learner: bool = False,
        recent_active: bool = False,
    ) -> None:
        """Start probing at `next`."""
        self.match = match
        self.next = next
        self.sent_commit = 0
        self.state = PROBE
        self.pending_snapshot = 0
        self.recent_active = recent_active
        self.flow_paused = False
        self.inflights = inflights
        self.is_learner = is_learner

    def copy(self) -> "Progress":
        """Return a copy for a new configuration; it shares the window of messages on their way."""
        twin = Progress(
            match=self.match,
            next=self.next,
            inflights=self.inflights,
            is_learner=self.is_learner,
            recent_active=self.recent_active,
        )
        twin.sent_commit = self.sent_commit
        twin.state = self.state
        twin.pending_snapshot = self.pending_snapshot
        twin.flow_paused = self.flow_paused
        return twin

    def snapshot_copy(self) -> "Progress":
        """Return a copy that shares nothing, for those who only look."""
        twin = self.copy()
        twin.inflights = self.inflights.copy()
        return twin

    def _reset(self, state: ProgressState) -> None:
        self.flow_paused = False
        self.pending_snapshot = 0
        self.state = state
        self.inflights.reset()

    def become_probe(self) -> None:
        """Look again for the place where the logs agree; after a snapshot, start behind it."""
        base = self.match
        if self.state == SNAPSHOT:
            base = max(base, self.pending_snapshot)
        self._reset(PROBE)
        self.next = base + 1
        self.sent_commit = min(self.sent_commit, base)

    def become_replicate(self) -> None:
        """Stream entries from the place where the logs agree."""
        self._reset(REPLICATE)
        self.next = self.match + 1

    def become_snapshot(self, index: int) -> None:
        """Wait for a snapshot up to an index to be delivered."""
        self._reset(SNAPSHOT)
        self.pending_snapshot = index
        self.next = index + 1
        self.sent_commit = index

    def sent_entries(self, count: int, size: int) -> None:
        """Note a MSG_APP that has been sent.

        Args:
            count: How many entries it carries, possibly none.
            size: Bytes of their payloads.
        """
        if self.state == REPLICATE:
            # A message sent although the window is full, or that fills it, counts as a probe.
            if count > 0:
                self.next += count
                self.flow_paused = self.inflights.add(self.next - 1, size)
            else:
                self.flow_paused = self.inflights.full()
        elif self.state == PROBE:
            # An empty message in PROBE does not pause the flow: it carries no entry whose answer
            # would have to be waited for.
            if count > 0:
                self.flow_paused = True
        else:
            raise InvariantBroken(f"MSG_APP sent in state {self.state.name}")

    def can_bump_commit(self, commit: int) -> bool:
        """Whether telling it this commit index could let it commit more than it has been told."""
        return commit > self.sent_commit and self.sent_commit < self.next - 1

    def maybe_update(self, index: int) -> bool:
        """Note that its log agrees up to an index. Returns whether that was news."""
        if index <= self.match:
            return False
        self.match = index
        if self.next <= index:
            self.next = index + 1
        self.flow_paused = False
        return True

    def maybe_decrease(self, rejected: int, hint: int) -> bool:
        """Step back after a rejection. Returns whether the rejection was worth anything.

        Args:
            rejected: Index of the entry it does not have: the one before the entries it was sent.
            hint: Highest index at which the logs may still agree.
        """
        if self.state == REPLICATE:
            if rejected <= self.match:
                return False  # an answer overtaken by a later one
            self.next = self.match + 1
            self.sent_commit = min(self.sent_commit, self.match)
            return True
        # Probes go out one at a time, so any other index is an answer to an earlier one.
        if self.next - 1 != rejected:
            return False
        self.next = max(min(rejected, hint + 1), self.match + 1)
        self.sent_commit = min(self.sent_commit, self.next - 1)
        self.flow_paused = False
        return True

    def is_paused(self) -> bool:
        """Whether no MSG_APP may be sent now."""
        return self.flow_paused or self.state == SNAPSHOT

    def __str__(self) -> str:
        """Return the state and the positions; everything unusual is named."""
        parts = [f"State{self.state.name.title()} match={self.match} next={self.next}"]
        if self.is_learner:
            parts.append("learner")
        if self.is_paused():
            parts.append("paused")
        if self.pending_snapshot > 0:
            parts.append(f"pendingSnap={self.pending_snapshot}")
        if not self.recent_active:
            parts.append("inactive")
        inflight = self.inflights.count()
        if inflight > 0:
            parts.append(f"inflight={inflight}" + ("[full]" if self.inflights.full() else ""))
        return " ".join(parts)
