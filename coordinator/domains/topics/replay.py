"""What a subscription has not had yet, read from the live messages in the order of revisions.

Pure. A replay goes in rounds. A round takes the published revision as its horizon, finds for
each matching topic where to go on, and merges their messages up to the horizon; messages
above it are left to the next round. Once a round has ended and its horizon is still the
published revision, nothing is missing, and what comes next comes live.

Nothing is read from history, so compaction does not matter. What retention removed first is
told as a gap, in the place where it would have come.
"""

from __future__ import annotations

import heapq
from collections import deque
from typing import TYPE_CHECKING, Protocol

from coordinator.domains.topics import model
from coordinator_sdk.protocol.topics import (
    EARLIEST,
    LATEST,
    REVISION,
    SEQUENCE,
    TopicGap,
    TopicMessage,
    TopicMessages,
    TopicSubscribe,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from coordinator.domains.topics.model import TopicRecord
    from coordinator_sdk.protocol.kv import KeyValue

READ_AHEAD = 256
"""Messages that a topic's cursor reads at once, if it is alone."""
READ_AHEAD_TOTAL = 4096
"""Messages that all cursors together hold, as long as each has one."""
TOPICS_PER_STEP = 500
"""Topics that one step of a round looks at."""

Item = TopicMessages | TopicGap


class Records(Protocol):
    """The system keyspace at the published revision."""

    revision: int

    def get(self, key: bytes) -> KeyValue | None:
        """Read one record."""

    def scan(
        self, start: bytes, end: bytes, limit: int = 1, reverse: bool = False
    ) -> list[KeyValue]:
        """Read the records with start <= key < end."""


class _Cursor:
    """One topic's place in a round."""

    __slots__ = ("buffer", "gap", "next", "topic")

    def __init__(self, topic: str, next_sequence: int, gap: TopicGap | None) -> None:
        self.topic = topic
        self.next = next_sequence
        self.gap = gap
        self.buffer: deque[KeyValue] = deque()


class Replay:
    """The state of one subscription's reading.

    Attributes:
        ready_revision: The published revision when it began.
        positions: Per topic, the last sequence that was given or told as gone.
        revision: Every message up to here has been given, if no round is under way.
    """

    def __init__(self, request: TopicSubscribe, revision: int) -> None:
        """Prepare to read.

        Args:
            request: Which topics, and from where.
            revision: The published revision now.
        """
        self._namespace = request.namespace
        self._pattern = request.pattern
        self._start = REVISION if request.start == LATEST else request.start
        self._after = revision if request.start == LATEST else request.position
        """Of topics without a position: the last revision, or sequence, that is not wanted."""
        if request.start == SEQUENCE:
            self._after -= 1
        self.positions: dict[str, int] = dict(request.after)
        self._unproved: dict[str, None] = dict.fromkeys(request.after)
        self.ready_revision = revision
        self.revision = revision if request.start == LATEST and not request.after else 0
        self._horizon = 0
        self._topics: Iterator[tuple[str, TopicRecord]] | None = None
        self._heap: list[tuple[int, str, _Cursor]] = []
        self._cursors = 0

    def resume(self, revision: int, positions: dict[str, int]) -> None:
        """Go on from where the live messages have come to.

        Args:
            revision: Every message up to here has been given.
            positions: The last sequence of each topic that had messages meanwhile.
        """
        self.revision = max(revision, self.revision)
        self.positions = self.positions_with(positions)
        self._close_round()

    def positions_with(self, later: dict[str, int]) -> dict[str, int]:
        """Give the positions, with those that live messages have come to."""
        merged = dict(self.positions)
        for topic, sequence in later.items():
            if sequence > merged.get(topic, 0):
                merged[topic] = sequence
        return merged

    def is_current(self, records: Records) -> bool:
        """Tell whether nothing is left to read."""
        return self._topics is None and self.revision == records.revision

    def read(self, records: Records, count: int, size: int) -> list[Item]:
        """Read the next messages, or do a part of the work that comes before them.

        Args:
            records: The state now.
            count: Messages to give at most.
            size: Payload bytes to give, roughly.

        Returns:
            Batches of messages and gaps, in order; possibly none although more will come.
        """
        if self._topics is None:
            self._horizon = records.revision
            found = model.live_topics(records, self._namespace, self._pattern, with_deleted=True)
            self._topics = iter(found)
            self._cursors = len(found)
        items: list[Item] = []
        if not self._prepare(records, items):
            return items
        batch: list[TopicMessage] = []
        while self._heap and count > 0 and size > 0:
            cursor = self._heap[0][2]
            message = self._take(records, cursor, items, batch)
            batch.append(message)
            count -= 1
            size -= len(message.payload)
        if batch:
            items.append(TopicMessages(batch, batch[-1].revision))
        if not self._heap:
            self.revision = self._horizon
            self._close_round()
        return items

    def _close_round(self) -> None:
        self._topics = None
        self._heap = []
        self._unproved = {}
        if self._start != SEQUENCE and self.revision:
            # Topics that appear from now on have no message up to here.
            self._start, self._after = REVISION, max(self.revision, self._after)

    # ------------------------------------------------------------ the beginning of a round

    def _prepare(self, records: Records, items: list[Item]) -> bool:
        """Find the place of some more topics; True once all have theirs."""
        assert self._topics is not None
        for _ in range(TOPICS_PER_STEP):
            found = next(self._topics, None)
            if found is None:
                return True
            self._place(records, *found, items)
        return False

    def _place(self, records: Records, topic: str, record: TopicRecord, items: list[Item]) -> None:
        position = self.positions.get(topic)
        gap = None
        if position is None:
            position, gap = self._begin(records, topic, record)
        elif topic in self._unproved:
            position, gap = self._prove(records, topic, record, position)
        if gap is None and position + 1 < record.first_sequence:
            gap = TopicGap(topic, record.first_sequence, position)
        position = max(position, record.first_sequence - 1)
        self.positions[topic] = position
        cursor = _Cursor(topic, position + 1, gap)
        self._fill(records, cursor)
        if cursor.gap is not None and not cursor.buffer:
            items.append(cursor.gap)

    def _begin(
        self, records: Records, topic: str, record: TopicRecord
    ) -> tuple[int, TopicGap | None]:
        """Find where a topic without a position begins, and whether it should begin before."""
        first = model.first_message(records, self._namespace, topic, record.first_sequence)
        if first is None:
            sequence, revision_before = record.first_sequence, record.last_revision
        else:
            sequence = model.sequence_of(first.key)
            revision_before = model.decode_head(first.value).revision_before
        if self._start == EARLIEST:
            return sequence - 1, None
        if self._start == SEQUENCE:
            if sequence <= self._after + 1:
                return self._after, None
            missed = revision_before > 0
            return sequence - 1, TopicGap(topic, sequence, self._after) if missed else None
        if revision_before > self._after:
            return sequence - 1, TopicGap(topic, sequence, 0)
        if first is None or first.mod_revision > self._after:
            return sequence - 1, None
        return self._last_up_to(records, topic, sequence), None

    def _last_up_to(self, records: Records, topic: str, first: int) -> int:
        """Find the last sequence whose message is not above the revision to begin after."""

        def is_wanted(sequence: int) -> bool:
            found = records.get(model.message_key(self._namespace, topic, sequence))
            return found is None or found.mod_revision > self._after

        known, step = first, 1
        while not is_wanted(known + step):
            known, step = known + step, step * 2
        wanted = known + step
        while wanted - known > 1:
            middle = (known + wanted) // 2
            if is_wanted(middle):
                wanted = middle
            else:
                known = middle
        return known

    def _prove(
        self, records: Records, topic: str, record: TopicRecord, position: int
    ) -> tuple[int, TopicGap | None]:
        """Check a position that a client brought: beyond the end, the topic began anew."""
        _, last = model.bounds(records, self._namespace, topic, record)
        if position <= last:
            return position, None
        return last, TopicGap(topic, last + 1, position)

    # ------------------------------------------------------------ the messages of a round

    def _fill(self, records: Records, cursor: _Cursor) -> None:
        """Read ahead, and put the cursor into its place among the others."""
        limit = max(1, min(READ_AHEAD, READ_AHEAD_TOTAL // max(1, self._cursors)))
        found = records.scan(
            *model.messages(self._namespace, cursor.topic, cursor.next), limit=limit
        )
        for record in found:
            if record.mod_revision > self._horizon:
                break
            cursor.buffer.append(record)
        if cursor.buffer:
            first = model.sequence_of(cursor.buffer[0].key)
            if first > cursor.next:
                after = cursor.next - 1 if cursor.gap is None else cursor.gap.after_sequence
                cursor.gap = TopicGap(cursor.topic, first, after)
            heapq.heappush(self._heap, (cursor.buffer[0].mod_revision, cursor.topic, cursor))

    def _take(
        self,
        records: Records,
        cursor: _Cursor,
        items: list[Item],
        batch: list[TopicMessage],
    ) -> TopicMessage:
        """Take the message with the lowest revision, and tell of a gap before it."""
        heapq.heappop(self._heap)
        if cursor.gap is not None:
            if batch:
                items.append(TopicMessages(batch[:], batch[-1].revision))
                batch.clear()
            items.append(cursor.gap)
            cursor.gap = None
        message = model.message_view(cursor.topic, cursor.buffer.popleft())
        self.positions[cursor.topic] = message.sequence
        cursor.next = message.sequence + 1
        if cursor.buffer:
            entry = (cursor.buffer[0].mod_revision, cursor.topic, cursor)
            heapq.heappush(self._heap, entry)
        else:
            self._fill(records, cursor)
        return message
