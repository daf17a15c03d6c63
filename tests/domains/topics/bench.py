"""Subscriptions on a machine in miniature: a loop of turns, and connections that remember."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from coordinator.domains.topics import model
from coordinator.domains.topics.commands import DOMAIN
from coordinator.domains.topics.fanout import Fanout, Subscription
from coordinator_sdk.protocol.codec import MSGPACK, Codec
from coordinator_sdk.protocol.kv import Event
from coordinator_sdk.protocol.topics import (
    TopicGap,
    TopicItem,
    TopicMessage,
    TopicMessages,
    TopicPublish,
    TopicReady,
    TopicSubscribe,
)
from tests.domains.fake_txn import FakeMachine

NS = "default"
_decode: Any = msgspec.msgpack.Decoder(TopicItem).decode


class FakeOutlet:
    """A connection whose client reads when the test says so."""

    def __init__(self, codec: Codec = MSGPACK) -> None:
        self.codec = codec
        self.is_full = False
        self.items: dict[int, list[Any]] = {}
        self.deliveries: list[tuple[list[int], bytes]] = []
        self.deferred: list[Callable[[], None]] = []

    def send(self, ids: Sequence[int], item: Struct) -> None:
        self.deliver(ids, 0, self.codec.encode_value(item))

    def deliver(self, ids: Sequence[int], revision: int, batch: bytes) -> None:
        self.deliveries.append((list(ids), batch))
        for id in ids:
            self.items.setdefault(id, []).append(_decode(batch))

    def defer(self, work: Callable[[], None]) -> bool:
        if self.is_full:
            self.deferred.append(work)
        return self.is_full

    def set_full(self, is_full: bool) -> None:
        self.is_full = is_full
        if not is_full:
            deferred, self.deferred = self.deferred, []
            for work in deferred:
                work()


class Bench:
    """A machine with topics, its fan-out and a loop."""

    def __init__(self) -> None:
        self.machine = FakeMachine(DOMAIN)
        self.due: list[Callable[[], None]] = []
        self.fanout = Fanout(NS, lambda: self.machine, self.due.append)
        self.range = model.every_message(NS)
        self.machine.watchers.append(self._on_revision)
        self.outlet = FakeOutlet()
        self.ids = 0

    def _on_revision(self, revision: int, events: list[Event]) -> None:
        start, end = self.range
        inside = [event for event in events if start <= event.kv.key < end]
        if inside:
            self.fanout.on_events(revision, inside)

    def publish(self, topic: str, payload: bytes = b"x") -> int:
        revision: int = self.machine.apply(TopicPublish(NS, topic, payload)).revision
        return revision

    def subscribe(
        self, pattern: str = ">", outlet: FakeOutlet | None = None, **fields: Any
    ) -> Subscription:
        self.ids += 1
        request = TopicSubscribe(NS, pattern, **fields)
        made = self.fanout.subscribe(request, outlet or self.outlet, self.ids)
        made.start()
        return made

    def turn(self) -> None:
        """Run what is due now."""
        due, self.due[:] = list(self.due), []
        for work in due:
            work()

    def settle(self) -> None:
        """Run turns until nothing is due."""
        for _ in range(10_000):
            if not self.due:
                return
            self.turn()
        raise AssertionError("the loop never rests")

    def items(self, subscription: Subscription) -> list[Any]:
        outlet: Any = subscription.outlet
        found: list[Any] = outlet.items.get(subscription.id, [])
        return found

    def messages(self, subscription: Subscription) -> list[TopicMessage]:
        """Every message that was sent, in order; the first item must be the ready one."""
        items = self.items(subscription)
        assert isinstance(items[0], TopicReady)
        batches = [item for item in items[1:] if isinstance(item, TopicMessages)]
        return [message for batch in batches for message in batch.messages]

    def gaps(self, subscription: Subscription) -> list[TopicGap]:
        return [item for item in self.items(subscription) if isinstance(item, TopicGap)]

    def seen(self, subscription: Subscription) -> list[tuple[str, int]]:
        return [(message.topic, message.sequence) for message in self.messages(subscription)]
