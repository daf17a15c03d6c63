"""Subscriptions: from replay to live and, for those that cannot keep up, back again.

One `Fanout` carries the messages of a namespace. It sees every message once, as it is
published, makes it ready once for all subscriptions with the same pattern, encodes each
batch once per codec, and sends each connection one item with the ids of all its
subscriptions that get it. A batch is what one turn of the loop published.

A subscription is *live*, and gets these batches, or it *replays* at its own pace:

1. It begins with `TopicReady`, and replays until nothing is left to read (`Replay`).
2. In that very moment it joins its group. Batches may still hold messages that it has read
   already: those are not above its revision, and are left out.
3. Without credit, or with a connection that is full, it leaves the group before the batch
   that it cannot take, and replays from its positions once it can go on. Nothing is
   buffered for it.

No clock, no I/O: the state, the loop's next turn and the connections are handed in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from coordinator.domains.topics import model
from coordinator.domains.topics.replay import Records, Replay
from coordinator.wire import systemkey
from coordinator_sdk.protocol.kv import Event, EventType
from coordinator_sdk.protocol.topics import (
    SEQUENCE,
    SubscriptionInfo,
    TopicGap,
    TopicMessage,
    TopicMessages,
    TopicReady,
    TopicSubscribe,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from msgspec import Struct

BATCH_MESSAGES_MAX = 500
"""Messages of one item."""
BATCH_BYTES_MAX = 256 << 10
"""Payload bytes of one item, unless it is a single message."""
ROUTES_MAX = 10_000
"""Topics whose groups are remembered."""
POSITIONS_SHOWN_MAX = 1000
"""Positions of one subscription that are shown."""


class Encoder(Protocol):
    """What a connection's items are encoded with."""

    name: str

    def encode_value(self, value: Struct) -> bytes:
        """Encode what a stream carries."""


class Outlet(Protocol):
    """A connection, as a subscription sees it."""

    is_full: bool

    @property
    def codec(self) -> Encoder:
        """What its items are encoded with."""

    def send(self, ids: Sequence[int], item: Struct) -> None:
        """Send an item to the streams ``ids``."""

    def deliver(self, ids: Sequence[int], revision: int, batch: bytes) -> None:
        """Send an encoded item to the streams ``ids``."""

    def defer(self, work: Any) -> bool:
        """Call ``work`` once the client has read what was sent; False if it has."""


class _Group:
    """The live subscriptions of one pattern."""

    __slots__ = ("members", "pending", "positions", "revision")

    def __init__(self, revision: int) -> None:
        self.members: dict[Subscription, None] = {}
        self.pending: list[TopicMessage] = []
        self.positions: dict[str, int] = {}
        """The last sequence of each topic that was sent while the group has existed."""
        self.revision = revision
        """Everything up to here was sent to the members."""


class Subscription:
    """One subscription; the connection steers it with `credit` and `cancel`."""

    def __init__(
        self, fanout: Fanout, outlet: Outlet, id: int, request: TopicSubscribe, peer: str
    ) -> None:
        self.outlet = outlet
        self.id = id
        self.request = request
        self.peer = peer
        self.replay = Replay(request, fanout.records().revision)
        self.is_closed = False
        self.budget: int | None = request.credit or None
        """Messages that may be sent; None for any number."""
        self.first_sequence = request.position if request.start == SEQUENCE else 0
        """Messages of topics that were not seen before come from this sequence on."""
        self.group: _Group | None = None
        """Set while it is live."""
        self._fanout = fanout
        self._is_scheduled = False

    def start(self) -> None:
        """Send the first item, and begin to replay."""
        self.outlet.send([self.id], TopicReady(self.replay.ready_revision))
        self.schedule()

    def credit(self, amount: int) -> None:
        """Take that many messages more."""
        if self.budget is not None:
            self.budget += amount
            if self.group is None:
                self.schedule()

    def cancel(self) -> None:
        """End it."""
        if not self.is_closed:
            self.is_closed = True
            self._fanout.leave(self)

    def schedule(self) -> None:
        """Replay in the next turn of the loop."""
        if not self._is_scheduled and not self.is_closed:
            self._is_scheduled = True
            self._fanout.call_soon(self._step)

    def _step(self) -> None:
        self._is_scheduled = False
        if self.is_closed or self.group is not None or self.budget == 0:
            return
        if self.outlet.defer(self.schedule):
            return
        records = self._fanout.records()
        if not self.replay.is_current(records):
            count = BATCH_MESSAGES_MAX
            if self.budget is not None:
                count = min(count, self.budget)
            for item in self.replay.read(records, count, BATCH_BYTES_MAX):
                self._send(item)
        if self.replay.is_current(records):
            self._fanout.join(self)
        else:
            self.schedule()

    def _send(self, item: TopicMessages | TopicGap) -> None:
        if isinstance(item, TopicMessages) and self.budget is not None:
            self.budget -= len(item.messages)
        self.outlet.send([self.id], item)

    def fall_behind(self) -> None:
        """Leave the live messages, before those that are still to be sent."""
        assert self.group is not None
        self.replay.resume(self.group.revision, self.group.positions)
        self.group = None
        self.schedule()

    def wanted(self, batch: list[TopicMessage], skip: int) -> list[TopicMessage] | None:
        """Give the part of a batch that is wanted; None if it is all behind ``skip``."""
        first, after = self.first_sequence, self.request.after
        wanted = [m for m in batch[skip:] if m.sequence >= first or m.topic in after]
        return None if len(wanted) == len(batch) - skip else wanted

    def positions(self) -> dict[str, int]:
        """Give the last sequence of each topic that was sent or told as gone."""
        if self.group is None:
            return dict(self.replay.positions)
        return self.replay.positions_with(self.group.positions)

    def info(self, records: Records) -> SubscriptionInfo:
        """Show it, with how many messages are still to be sent."""
        positions = self.positions()
        lag = 0
        namespace, pattern = self.request.namespace, self.request.pattern
        revision = self.group.revision if self.group is not None else self.replay.revision
        for topic, record in model.live_topics(records, namespace, pattern):
            last = model.last_message(records, namespace, topic, record.first_sequence)
            if last is None or last.mod_revision <= revision:
                continue
            first, _ = model.bounds(records, namespace, topic, record)
            lag += max(0, model.sequence_of(last.key) - max(positions.get(topic, 0), first - 1))
        shown = dict(list(positions.items())[:POSITIONS_SHOWN_MAX])
        request = self.request
        return SubscriptionInfo(
            namespace, pattern, request.name, request.session, self.peer, shown, lag
        )


class Fanout:
    """The live messages of one namespace, and everybody who subscribes to them.

    Attributes:
        records: Gives the published state.
        call_soon: Calls a function in the loop's next turn.
        subscriptions: All of them, in the order in which they came.
    """

    def __init__(
        self,
        namespace: str,
        records: Callable[[], Records],
        call_soon: Callable[[Callable[[], None]], object],
    ) -> None:
        self.records = records
        self.call_soon = call_soon
        self.subscriptions: dict[Subscription, None] = {}
        self._name_at = len(systemkey.pack(namespace, model.DOMAIN, "message")) + 1
        self._groups: dict[str, _Group] = {}
        self._routes: dict[bytes, tuple[str, list[_Group]]] = {}
        """By the bytes of a topic's name in keys: the name, and the groups it belongs to."""
        self._revision = 0
        self._is_scheduled = False

    def subscribe(
        self, request: TopicSubscribe, outlet: Outlet, id: int, peer: str = ""
    ) -> Subscription:
        """Make a subscription; `Subscription.start` sets it going."""
        made = Subscription(self, outlet, id, request, peer)
        self.subscriptions[made] = None
        return made

    def join(self, subscription: Subscription) -> None:
        """Take in a subscription that has read everything that there is."""
        pattern = subscription.request.pattern
        group = self._groups.get(pattern)
        if group is None:
            group = self._groups[pattern] = _Group(subscription.replay.revision)
            self._routes.clear()
        group.members[subscription] = None
        subscription.group = group

    def leave(self, subscription: Subscription) -> None:
        """Forget a subscription."""
        self.subscriptions.pop(subscription, None)
        if subscription.group is not None:
            self._remove(subscription, subscription.group)

    def _remove(self, subscription: Subscription, group: _Group) -> None:
        del group.members[subscription]
        if not group.members:
            del self._groups[subscription.request.pattern]
            self._routes.clear()

    def lose_track(self) -> None:
        """Events may have been missed: everybody reads from where it is."""
        for group in list(self._groups.values()):
            group.pending = []
            for member in list(group.members):
                self._remove(member, group)
                member.fall_behind()

    def on_events(self, revision: int, events: Sequence[Event]) -> None:
        """Take in what one revision did to the namespace's messages."""
        self._revision = revision
        for event in events:
            if event.type != EventType.PUT:
                continue
            name = event.kv.key[self._name_at : -10]
            route = self._routes.get(name)
            if route is None:
                route = self._route(name, event.kv.key)
            topic, groups = route
            if groups:
                message = model.message_view(topic, event.kv)
                for group in groups:
                    group.pending.append(message)
                if not self._is_scheduled:
                    self._is_scheduled = True
                    self.call_soon(self.flush)

    def _route(self, name: bytes, key: bytes) -> tuple[str, list[_Group]]:
        if len(self._routes) >= ROUTES_MAX:
            self._routes.clear()
        topic = model.topic_of(key)
        groups = [group for pattern, group in self._groups.items() if model.matches(pattern, topic)]
        self._routes[name] = topic, groups
        return topic, groups

    def flush(self) -> None:
        """Send what this turn published."""
        self._is_scheduled = False
        for group in list(self._groups.values()):
            if group.pending:
                pending, group.pending = group.pending, []
                for batch in _batches(pending):
                    self._send(group, batch)
                    for message in batch:
                        group.positions[message.topic] = message.sequence
                    group.revision = batch[-1].revision

    def _send(self, group: _Group, batch: list[TopicMessage]) -> None:
        """Send a batch to those who can take it; the others fall behind."""
        ids: dict[tuple[Outlet, int], list[int]] = {}
        first, last, count = batch[0].revision, batch[-1].revision, len(batch)
        for member in list(group.members):
            known = member.replay.revision
            skip = 0
            if known >= first:
                skip = sum([message.revision <= known for message in batch])
            wanted = member.wanted(batch, skip) if member.first_sequence else None
            cost = count - skip if wanted is None else len(wanted)
            if not cost:
                continue
            if member.outlet.is_full or (member.budget is not None and member.budget < cost):
                self._remove(member, group)
                member.fall_behind()
                continue
            if member.budget is not None:
                member.budget -= cost
            if wanted is None:
                ids.setdefault((member.outlet, skip), []).append(member.id)
            else:
                member.outlet.send([member.id], TopicMessages(wanted, last))
        encoded: dict[tuple[str, int], bytes] = {}
        for (outlet, skip), members in ids.items():
            codec = outlet.codec
            value = encoded.get((codec.name, skip))
            if value is None:
                value = codec.encode_value(TopicMessages(batch[skip:] if skip else batch, last))
                encoded[codec.name, skip] = value
            outlet.deliver(members, last, value)


def _batches(messages: list[TopicMessage]) -> list[list[TopicMessage]]:
    """Split messages into batches of a bounded size."""
    if len(messages) <= BATCH_MESSAGES_MAX:
        size = sum([len(message.payload) for message in messages])
        if size <= BATCH_BYTES_MAX:
            return [messages]
    batches: list[list[TopicMessage]] = []
    size = BATCH_BYTES_MAX
    for message in messages:
        size += len(message.payload)
        if size > BATCH_BYTES_MAX or len(batches[-1]) == BATCH_MESSAGES_MAX:
            batches.append([])
            size = len(message.payload)
        batches[-1].append(message)
    return batches
