"""One watch, what it asks for, and those that share its deliveries.

Pure. Watchers of one sink that ask for the same span in the same way form a `Member` of the
span's `Group`: they get one delivery with all their ids. Their credit is counted together: a
member counts what it has spent, and each watcher knows the count at which its credit ends.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Any, Final, NamedTuple, Protocol

from msgspec import Struct

from coordinator_sdk.protocol.kv import (
    Event,
    EventType,
    WatchCancelled,
    WatchEvents,
    WatchItem,
    WatchProgress,
)

from .history import EVENT_OVERHEAD_BYTES
from .matching import Span

Accept = Callable[[bytes], bool]
"""Whether a watcher may see a key."""

NEVER: Final = 1 << 63
"""Above every count of events."""

_PUT: Final = int(EventType.PUT)


class EncodedBatch:
    """An item of a watch, encoded at most once for each codec, however many sinks send it."""

    __slots__ = ("_encoded", "item")

    def __init__(self, item: WatchItem) -> None:
        self.item = item
        self._encoded: dict[str, bytes] = {}

    def encoded(self, codec: str, encode: Callable[[WatchItem], bytes]) -> bytes:
        """The encoded item.

        Args:
            codec: A name for ``encode``; two functions with one name must encode alike.
            encode: Encodes the item, called once for each name.

        Returns:
            What ``encode`` made.
        """
        done = self._encoded.get(codec)
        if done is None:
            done = self._encoded[codec] = encode(self.item)
        return done


class Sink(Protocol):
    """Where watchers deliver to, such as a connection. Told apart by identity."""

    @property
    def is_full(self) -> bool:
        """Whether nothing more should be delivered for now; checked before every delivery."""

    def deliver(self, ids: list[int], revision: int, batch: EncodedBatch) -> None:
        """Take an item for the streams ``ids``.

        Must not fail, and must not change ``ids``.

        Args:
            ids: The streams of this sink that the item is for.
            revision: The last revision that the item covers.
            batch: The item: events, a progress notice, or the end of the stream.
        """


class State(IntEnum):
    """Where a watcher stands."""

    SYNCED = 0
    """It has everything that is published."""
    WAITING = 1
    """Its start lies in the future."""
    READY = 2
    """It lags, and can be fed."""
    BLOCKED = 3
    """It lags, and has no credit."""
    STALLED = 4
    """It lags, and its sink is full."""
    GONE = 5
    """It has ended."""


class Variant(NamedTuple):
    """What of its span a watcher wants to see."""

    no_put: bool = False
    no_delete: bool = False
    prev_kv: bool = False
    accept: Accept | None = None

    def view(self, events: list[Event]) -> list[Event]:
        """The events that are wanted, in the form that is wanted."""
        if self.no_put:
            events = [event for event in events if event.type != _PUT]
        if self.no_delete:
            events = [event for event in events if event.type == _PUT]
        accept = self.accept
        if accept is not None:
            events = [event for event in events if accept(event.kv.key)]
        if self.prev_kv:
            return events
        return [Event(event.type, event.kv) if event.prev_kv else event for event in events]


class Watcher:
    """One watch. Read its attributes, and leave changing them to the hub.

    Attributes:
        sink: Where it delivers to.
        stream: Its id among the streams of the sink.
        span: What it watches.
        variant: What of that it wants to see.
        state: Where it stands.
        next_revision: The first revision it has not got; kept only while it is not synced.
        credit: How many events it may still get, or None for any number; kept only while it is
            not synced. A revision is never split, so it can fall below zero.
        wants_progress: Whether it asked for progress notices.
    """

    __slots__ = (
        "credit",
        "limit_at",
        "member",
        "next_revision",
        "noticed",
        "sink",
        "span",
        "state",
        "stream",
        "variant",
        "wants_progress",
    )

    def __init__(
        self, sink: Sink, stream: int, span: Span, variant: Variant, credit: int, progress: bool
    ) -> None:
        self.sink = sink
        self.stream = stream
        self.span = span
        self.variant = variant
        self.state = State.WAITING
        self.next_revision = 0
        self.credit: int | None = credit or None
        self.wants_progress = progress
        self.member: Member | None = None
        self.limit_at = NEVER
        self.noticed = 0

    @property
    def has_credit(self) -> bool:
        """Whether it may get more; meaningful while it is not synced."""
        return self.credit is None or self.credit > 0


class Member:
    """The synced watchers of one sink that see the same events."""

    __slots__ = ("_ids", "delivered", "ends_at", "group", "sink", "spent", "variant", "watchers")

    def __init__(self, group: Group, sink: Sink, variant: Variant) -> None:
        self.group = group
        self.sink = sink
        self.variant = variant
        self.watchers: dict[int, Watcher] = {}
        self.spent = 0
        """How many events were delivered to it."""
        self.ends_at = NEVER
        """At most the smallest ``limit_at`` of its watchers."""
        self.delivered = 0
        """The last revision delivered to it."""
        self._ids: list[int] | None = None

    def ids(self) -> list[int]:
        """The streams of its watchers; the list is never changed once it was handed out."""
        if self._ids is None:
            self._ids = list(self.watchers)
        return self._ids

    def add(self, watcher: Watcher) -> None:
        """Let a watcher join, with its credit."""
        self.watchers[watcher.stream] = watcher
        self._ids = None
        watcher.member = self
        if watcher.credit is not None:
            watcher.limit_at = self.spent + watcher.credit
            self.ends_at = min(self.ends_at, watcher.limit_at)

    def remove(self, watcher: Watcher) -> None:
        """Let a watcher leave, with the credit that is left."""
        del self.watchers[watcher.stream]
        self._ids = None
        watcher.member = None
        if watcher.credit is not None:
            watcher.credit = watcher.limit_at - self.spent

    def exhausted(self) -> list[Watcher]:
        """The watchers whose credit is used up."""
        found = []
        self.ends_at = NEVER
        for watcher in self.watchers.values():
            if watcher.limit_at <= self.spent:
                found.append(watcher)
            elif watcher.limit_at < self.ends_at:
                self.ends_at = watcher.limit_at
        return found


MemberKey = tuple[Sink, Variant]


class Group:
    """The synced watchers of one span."""

    __slots__ = ("members", "span")

    def __init__(self, span: Span) -> None:
        self.span = span
        self.members: dict[MemberKey, Member] = {}


class Fetch(Struct, frozen=True):
    """Revisions to read from the state database, for `WatchHub.feed`."""

    first: int
    last: int
    prev_kv: bool
    """Whether the records before the changes are wanted."""


class Lag(Struct, frozen=True):
    """Where one watcher stands."""

    stream: int
    span: Span
    state: State
    next_revision: int
    behind: int
    """How many published revisions it has not got."""
    sink: Any = None


class LocalSink:
    """Hands the events of one watcher to a function inside the server. Never full."""

    __slots__ = ("_on_events", "_on_lost")

    is_full = False

    def __init__(
        self,
        on_events: Callable[[int, list[Event]], None],
        on_lost: Callable[[int], None] | None,
    ) -> None:
        self._on_events = on_events
        self._on_lost = on_lost

    def deliver(self, ids: list[int], revision: int, batch: EncodedBatch) -> None:
        """Pass an item on."""
        item = batch.item
        if isinstance(item, WatchEvents):
            self._on_events(item.revision, item.events)
        elif isinstance(item, WatchCancelled) and self._on_lost is not None:
            self._on_lost(item.compact_revision)


class Cohort:
    """Lagging watchers that stand at one place and see the same, while they are being fed."""

    __slots__ = ("_bytes", "_bytes_max", "_credit", "closed", "events", "last", "next", "watchers")

    def __init__(self, watcher: Watcher, bytes_max: int) -> None:
        self.watchers: list[Watcher] = []
        self.next = watcher.next_revision
        """The first revision they have not got."""
        self.last = 0
        """The last revision of ``events``."""
        self.events: list[Event] = []
        self.closed = False
        """Whether credit or size allow no more."""
        self._credit = watcher.credit
        self._bytes = 0
        self._bytes_max = bytes_max

    def add(self, revision: int, events: list[Event]) -> None:
        """Add what they see of a revision."""
        self.events += events
        self.last = revision
        for event in events:
            self._bytes += len(event.kv.key) + len(event.kv.value) + EVENT_OVERHEAD_BYTES
        if self._credit is not None and len(self.events) >= self._credit:
            self.closed = True
        if self._bytes >= self._bytes_max:
            self.closed = True

    def batch(self) -> EncodedBatch:
        """What they get."""
        return EncodedBatch(WatchEvents(self.last, self.events))


def progress_batch(revision: int) -> EncodedBatch:
    """A progress notice."""
    return EncodedBatch(WatchProgress(revision))
