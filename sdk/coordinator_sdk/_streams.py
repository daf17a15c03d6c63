"""Streams: what they carry, how they resume, how much the server may send ahead.

Pure. A stream collects items until its reader takes them; the reader's pace gives the server
credit. After a broken connection the session opens it again with `Stream.request`, which
asks for exactly what has not been received yet.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from ._modes import CHANGE, READ
from .errors import Compacted, CoordinatorError, NotFound, TopicTruncated, error_from_wire
from .protocol import elections, kv, services, tickets, topics

if TYPE_CHECKING:
    from collections.abc import Callable

    from msgspec import Raw, Struct

T = TypeVar("T")

CREDIT_ITEMS = 1024
"""How many items the server may send ahead of the reader."""


def _ignore(raw: Raw) -> Any:
    return None


class Stream(Generic[T]):
    """A stream of items.

    Attributes:
        id: The request that opened it on this connection; 0 while there is none.
        mode: Whether opening it is a read or a change.
        decode: Makes the answer to its opening of bytes.
        items: Received and not yet read.
        ready: Whether the server has confirmed it, at least once.
        closed: Whether its reader wants no more.
        error: What ended it.
        resumes: How often it was opened again after a broken connection.
        attempts: How often the cluster asked to try later, since the last item.
        wake: Called when there is something new for the reader.
    """

    mode = READ
    credit = CREDIT_ITEMS

    def __init__(self) -> None:
        self.id = 0
        self.decode: Callable[[Raw], Any] = _ignore
        self.items: deque[T] = deque()
        self.ready = False
        self.closed = False
        self.error: Exception | None = None
        self.resumes = 0
        self.attempts = 0
        self.wake: Callable[[], None] | None = None
        self._owed = 0

    # The face of a sink, for the call that opens the stream.

    def done(self) -> bool:
        """Whether nothing more will come."""
        return self.closed or self.error is not None

    def cancelled(self) -> bool:
        """Whether its reader wants no more."""
        return self.closed

    def set_result(self, result: Any, /) -> None:
        """Take the answer to the opening."""
        self.answered(0, result)

    def set_exception(self, exception: BaseException, /) -> None:
        """End with an error; what was received before can still be read."""
        if self.error is None and isinstance(exception, Exception):
            self.error = exception
            self._notify()

    # What the kinds of streams differ in.

    def request(self) -> Struct:
        """The operation that opens the stream at its resume point."""
        raise NotImplementedError

    def answered(self, revision: int, value: Any) -> None:
        """Take in the answer to the opening; the stream stands from ``revision`` on."""
        self.attempts = 0
        self._establish()

    def deliver(self, raw: Raw) -> None:
        """Take in an item."""
        raise NotImplementedError

    def survives(self, error: CoordinatorError) -> bool:
        """Whether the stream can be opened again after an error that is not retryable."""
        return False

    # The reader's side.

    def take(self) -> T:
        """Take out the oldest item."""
        item = self.items.popleft()
        self._owed += 1
        return item

    def credit_due(self) -> int:
        """How much credit to give the server now; 0 for none yet."""
        if self._owed * 2 < self.credit:
            return 0
        owed, self._owed = self._owed, 0
        return owed

    def room(self) -> int:
        """The credit to open with."""
        self._owed = 0
        return max(1, self.credit - len(self.items))

    def _establish(self) -> None:
        if not self.ready:
            self.ready = True
            self._notify()

    def _notify(self) -> None:
        if self.wake is not None:
            self.wake()


class Event(kv.Event, array_like=True, gc=False):
    """One change of one key.

    Attributes:
        type: 0 for put, 1 for delete; see `is_put` and `is_delete`.
        kv: The record after a put; for a delete its key, and the revision of the deletion
            as ``mod_revision``.
        prev_kv: The record before, if the watch asks for it and history still has it.
    """

    @property
    def synthetic(self) -> bool:
        """Whether it stands for changes that could not be seen one by one (a resync)."""
        return False

    @property
    def is_put(self) -> bool:
        """Whether the key was written."""
        return self.type == kv.EventType.PUT

    @property
    def is_delete(self) -> bool:
        """Whether the key was deleted."""
        return self.type == kv.EventType.DELETE

    @property
    def key(self) -> bytes:
        """The key."""
        return self.kv.key

    @property
    def value(self) -> bytes:
        """The new value; empty for a delete."""
        return self.kv.value

    @property
    def revision(self) -> int:
        """The revision of the change."""
        return self.kv.mod_revision


class SyntheticEvent(Event, array_like=True, gc=False):
    """The difference of one key between what the reader saw and a later state."""

    @property
    def synthetic(self) -> bool:
        """True."""
        return True


class _Events(msgspec.Struct, array_like=True, tag="events", gc=False):
    revision: int
    events: list[Event]


_WATCH_ITEM: Callable[[Raw], Any] = msgspec.msgpack.Decoder(
    _Events | kv.WatchProgress | kv.WatchCancelled
).decode


class WatchStream(Stream[Event]):
    """The changes of a key or range.

    Attributes:
        next_revision: The first revision not yet received; 0 until the server said where
            the watch begins.
        noticed: The revision of the last progress notice; 0 before the first.
    """

    def __init__(self, body: kv.Watch, credit: int = CREDIT_ITEMS) -> None:
        super().__init__()
        self.body = body
        self.credit = credit
        self.next_revision = body.start_revision
        self.noticed = 0

    def request(self) -> Struct:
        return msgspec.structs.replace(
            self.body, start_revision=self.next_revision, credit=self.room()
        )

    def answered(self, revision: int, value: Any) -> None:
        if not self.next_revision:
            self.next_revision = revision + 1
        super().answered(revision, value)

    def deliver(self, raw: Raw) -> None:
        item = _WATCH_ITEM(raw)
        self.attempts = 0
        if type(item) is _Events:
            self._events(item)
        elif type(item) is kv.WatchProgress:
            self.noticed = item.revision
            self.next_revision = max(self.next_revision, item.revision + 1)
        else:
            details = {"compact_revision": item.compact_revision} if item.compact_revision else {}
            self.set_exception(error_from_wire(item.code, item.message, details))
            return
        if not self.ready:
            self._establish()

    def _events(self, item: _Events) -> None:
        events, wanted = item.events, self.next_revision
        if events and events[0].kv.mod_revision < wanted:
            events = [event for event in events if event.kv.mod_revision >= wanted]
            self._owed += len(item.events) - len(events)
        self.next_revision = max(wanted, item.revision + 1)
        if events:
            self.items.extend(events)
            self._notify()


_TOPIC_ITEM: Callable[[Raw], Any] = msgspec.msgpack.Decoder(topics.TopicItem).decode


class SubscriptionStream(Stream[topics.TopicMessage]):
    """The messages of the topics that match a pattern.

    Attributes:
        positions: The last sequence received, by topic.
        gaps: Whether to go on after messages were lost to retention; an error otherwise.
        on_gap: Called with each such gap when going on.
    """

    def __init__(
        self,
        body: topics.TopicSubscribe,
        gaps: bool = False,
        credit: int = CREDIT_ITEMS,
        on_gap: Callable[[topics.TopicGap], None] | None = None,
    ) -> None:
        super().__init__()
        self.body = body
        self.credit = credit
        self.gaps = gaps
        self.on_gap = on_gap
        self.positions: dict[str, int] = dict(body.after)
        self._start, self._position = body.start, body.position

    def request(self) -> Struct:
        return msgspec.structs.replace(
            self.body,
            start=self._start,
            position=self._position,
            after=dict(self.positions),
            credit=self.room(),
        )

    def deliver(self, raw: Raw) -> None:
        item = _TOPIC_ITEM(raw)
        self.attempts = 0
        if type(item) is topics.TopicMessages:
            positions, items = self.positions, self.items
            for message in item.messages:
                if message.sequence > positions.get(message.topic, 0):
                    positions[message.topic] = message.sequence
                    items.append(message)
                else:
                    self._owed += 1
            self._notify()
        elif type(item) is topics.TopicGap:
            self._gap(item)
        elif self._start == topics.LATEST:
            # From here on nothing may be missed, whatever happens to the connection.
            self._start, self._position = topics.REVISION, item.revision
        self._establish()

    def _gap(self, gap: topics.TopicGap) -> None:
        # Also downwards: a topic that was deleted and made anew may begin below what was seen.
        self.positions[gap.topic] = gap.first_sequence - 1
        if not self.gaps:
            self.set_exception(
                TopicTruncated(
                    f"messages {gap.after_sequence + 1} to {gap.first_sequence - 1} of topic "
                    f"{gap.topic!r} are gone by retention",
                    topic=gap.topic,
                    first_sequence=gap.first_sequence,
                    after_sequence=gap.after_sequence,
                )
            )
        elif self.on_gap is not None:
            self.on_gap(gap)

    def survives(self, error: CoordinatorError) -> bool:
        if not (self.gaps and isinstance(error, TopicTruncated)):
            return False
        topic, first = error.details.get("topic"), error.details.get("first_sequence")
        if not isinstance(topic, str) or not isinstance(first, int):
            return False
        seen = self.positions.get(topic, 0)
        if first - 1 <= seen:
            return False
        self._gap(topics.TopicGap(topic, first, seen))
        return True


_SERVICE_ITEM: Callable[[Raw], Any] = msgspec.msgpack.Decoder(
    services.ServiceSnapshot | services.ServiceChange
).decode


class ServiceStream(Stream[tuple[int, dict[tuple[str, str], services.Instance]]]):
    """The instances of a service, whole, after every change.

    After a broken connection it begins with the current state again, and only says so if
    that differs from what its reader has.
    """

    credit = 64

    def __init__(self, namespace: str, service: str) -> None:
        super().__init__()
        self._namespace, self._service = namespace, service
        self._known: dict[tuple[str, str], services.Instance] | None = None

    def request(self) -> Struct:
        return services.ServiceWatch(self._namespace, self._service, credit=self.room())

    def deliver(self, raw: Raw) -> None:
        item = _SERVICE_ITEM(raw)
        self.attempts = 0
        if type(item) is services.ServiceSnapshot:
            state = {(found.service, found.instance): found for found in item.instances}
        else:
            state = dict(self._known or {})
            state.update({(found.service, found.instance): found for found in item.changed})
            for gone in item.removed:
                state.pop((gone.service, gone.instance), None)
        if state != self._known:
            self._known = state
            self.items.append((item.revision, state))
            self._notify()
        else:
            self._owed += 1
        self._establish()


_ELECTION_ITEM: Callable[[Raw], Any] = msgspec.msgpack.Decoder(elections.ElectionChange).decode


class ElectionStream(Stream[elections.ElectionChange]):
    """Every change of the leadership of an election."""

    def __init__(self, namespace: str, name: str, start_revision: int = 0) -> None:
        super().__init__()
        self._namespace, self._name = namespace, name
        self._seen = start_revision

    def request(self) -> Struct:
        return elections.ElectionObserve(
            self._namespace, self._name, start_revision=self._seen, credit=self.room()
        )

    def deliver(self, raw: Raw) -> None:
        change = _ELECTION_ITEM(raw)
        self.attempts = 0
        if change.revision > self._seen:
            self._seen = change.revision
            self.items.append(change)
            self._notify()
        else:
            self._owed += 1
        self._establish()

    def survives(self, error: CoordinatorError) -> bool:
        if isinstance(error, Compacted) and self._seen:
            self._seen = 0  # history is gone: go on with the current state
            return True
        return False


_TICKET: Callable[[Raw], tickets.TicketState] = msgspec.msgpack.Decoder(tickets.TicketState).decode


class TicketStream(Stream[tickets.TicketState]):
    """A place in a queue, until it is granted or ends.

    Opening it is a change; opening it again names the same ticket, and so finds its state.

    Attributes:
        state: The last state told.
    """

    mode = CHANGE

    def __init__(self, opening: Callable[[], Struct]) -> None:
        super().__init__()
        self.decode = _TICKET
        self.state: tickets.TicketState | None = None
        self._opening = opening

    def request(self) -> Struct:
        return self._opening()

    def answered(self, revision: int, value: Any) -> None:
        self._tell(value)

    def deliver(self, raw: Raw) -> None:
        self._tell(_TICKET(raw))

    def _tell(self, state: tickets.TicketState) -> None:
        self.attempts = 0
        self.ready = True
        self.state = state
        if state.state != tickets.QUEUED:
            self.closed = True
        self._notify()


class GrantStream(Stream[tickets.TicketState]):
    """What becomes of a grant while it is held."""

    def __init__(self, body: Struct, on_end: Callable[[str], None]) -> None:
        super().__init__()
        self.decode = _TICKET
        self._body = body
        self._on_end = on_end

    def request(self) -> Struct:
        return self._body

    def answered(self, revision: int, value: Any) -> None:
        self.ready = True
        self._tell(value)

    def deliver(self, raw: Raw) -> None:
        self._tell(_TICKET(raw))

    def set_exception(self, exception: BaseException, /) -> None:
        super().set_exception(exception)
        if isinstance(exception, NotFound):
            self._on_end("the cluster does not know the grant any more")

    def _tell(self, state: tickets.TicketState) -> None:
        self.attempts = 0
        if state.state != tickets.GRANTED and not self.closed:
            self.closed = True
            self._on_end(state.reason or state.state)
