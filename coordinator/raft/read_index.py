"""Linearizable reads without writing to the log (Raft thesis §6.4).

The leader notes its commit index when a read comes in, and answers with it once a quorum has
acknowledged a heartbeat sent after that. Reads are numbered in the order they came in; a heartbeat
carries the number of the last read waiting, and an acknowledgement of it counts for every read up
to that number. A read thus joins only rounds that start after it arrived, and any number of reads
share one round.
"""

from collections import deque

from coordinator.raft.config import ReadOnlyOption
from coordinator.raft.quorum import joint_committed
from coordinator.raft.tracker import TrackerConfig
from coordinator.wire.raft import Message


class ReadOnly:
    """The reads of one leader in one term, in the order they came in."""

    __slots__ = (
        "_acks",
        "_confirmed",
        "_configured",
        "_unconfirmed",
        "_unconfirmed_max",
        "option",
    )

    option: ReadOnlyOption
    """How reads are confirmed from now on."""

    def __init__(self, option: ReadOnlyOption, unconfirmed_max: int) -> None:
        """Start without reads.

        Args:
            option: How reads are confirmed.
            unconfirmed_max: Reads that may wait; further ones are dropped.
        """
        self.option = self._configured = option
        self._unconfirmed_max = unconfirmed_max
        self._unconfirmed: deque[tuple[Message, int]] = deque()
        # Number of the last read that was confirmed; the first one waiting has the next number.
        self._confirmed = 0
        # Number of the last read each member has acknowledged.
        self._acks: dict[int, int] = {}

    def fresh(self) -> "ReadOnly":
        """Return an empty one with the same settings, for the next term."""
        return ReadOnly(self._configured, self._unconfirmed_max)

    def forfeit_lease(self) -> None:
        """Confirm reads by a quorum for the rest of the term.

        A member that has been told to stand for election may do so at any time, and is elected
        although others still hear from this leader: its lease is worth nothing from then on.
        """
        self.option = ReadOnlyOption.SAFE

    def add(self, request: Message, commit: int) -> bool:
        """Note a read. Returns False if too many are waiting.

        Args:
            request: The request, kept for the answer.
            commit: The commit index when it came in.
        """
        if len(self._unconfirmed) >= self._unconfirmed_max:
            return False
        self._unconfirmed.append((request, commit))
        return True

    def heartbeat_context(self) -> bytes:
        """Return what a heartbeat has to carry to confirm every read waiting; empty if none is."""
        if not self._unconfirmed:
            return b""
        return (self._confirmed + len(self._unconfirmed)).to_bytes(8, "little")

    def receive_ack(self, member: int, context: bytes) -> None:
        """Note that a member has acknowledged the heartbeat with this context."""
        if context:
            number = int.from_bytes(context[:8], "little")
            self._acks[member] = max(self._acks.get(member, 0), number)

    def advance(self, config: TrackerConfig) -> list[tuple[Message, int]]:
        """Return the reads that a quorum has confirmed by now, each with its commit index."""
        reached = joint_committed(config.voters, config.outgoing, self._acks)
        count = min(reached - self._confirmed, len(self._unconfirmed))
        if count <= 0:
            return []
        self._confirmed += count
        return [self._unconfirmed.popleft() for _ in range(count)]
