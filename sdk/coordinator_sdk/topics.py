"""Topics: durable publish and subscribe."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Literal

from ._connection import Connection, decoder
from ._keys import Bytes, Guarding, to_bytes, to_guard, to_milliseconds
from ._modes import CHANGE
from ._reader import Reader
from ._streams import CREDIT_ITEMS, SubscriptionStream
from .errors import InvalidRequest
from .protocol.topics import (
    Retention,
    SubscriptionInfo,
    TopicCreate,
    TopicDelete,
    TopicGap,
    TopicGet,
    TopicInfo,
    TopicList,
    TopicListResult,
    TopicMessage,
    TopicPublish,
    TopicPublishResult,
    TopicRead,
    TopicReadResult,
    TopicResult,
    TopicSubscribe,
    TopicSubscribers,
    TopicSubscribersResult,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .protocol.kv import Guard

__all__ = ["Subscription", "Topics"]

GAPS_KEPT = 100
_PUBLISHED = decoder(TopicPublishResult)
_RESULT = decoder(TopicResult)
_INFO = decoder(TopicInfo)
_LIST = decoder(TopicListResult)
_READ = decoder(TopicReadResult)
_SUBSCRIBERS = decoder(TopicSubscribersResult)

Start = Literal["latest", "earliest", "sequence", "revision"]


class Subscription(Reader[TopicMessage]):
    """The messages of the topics that match a pattern; made by `Topics.subscribe`.

    Attributes:
        gaps: The last gaps that were passed over, with ``on_gap="continue"``.
    """

    def __init__(
        self, link: Connection, body: TopicSubscribe, credit: int, gaps_allowed: bool
    ) -> None:
        self.gaps: deque[TopicGap] = deque(maxlen=GAPS_KEPT)
        stream = SubscriptionStream(body, gaps_allowed, credit, self.gaps.append)
        super().__init__(link, stream)
        self._positions = stream.positions

    @property
    def positions(self) -> dict[str, int]:
        """The last sequence received, by topic."""
        return dict(self._positions)


class Topics:
    """Topics; `Client.topics`.

    Names are tokens joined by ``.``; in a pattern ``*`` stands for one token and ``>``, at
    the end, for one or more.
    """

    def __init__(self, link: Connection, namespace: str) -> None:
        self._link = link
        self._namespace = namespace

    async def publish(
        self,
        topic: str,
        payload: Bytes,
        *,
        headers: Mapping[str, str] | None = None,
        guard: Guarding | Guard | None = None,
    ) -> TopicPublishResult:
        """Append one message.

        Args:
            topic: Name of the topic; an unknown one is created.
            payload: The message; text is encoded as UTF-8.
            headers: Facts about the message, text to text.
            guard: A held lock or leadership; the message is refused if it is not held any
                more.

        Returns:
            The sequence of the message within the topic, and the revision of the write.

        Raises:
            GuardFailed: The guard's token is stale; nothing was published.
            OutcomeUnknown: No answer came; it may have been published.
        """
        body = TopicPublish(
            self._namespace,
            topic,
            to_bytes(payload, "payload"),
            dict(headers) if headers else {},
            to_guard(guard),
        )
        return await self._link.call(body, _PUBLISHED, CHANGE)

    async def create(
        self,
        topic: str,
        *,
        max_age: float | None = None,
        max_messages: int | None = None,
        max_bytes: int | None = None,
    ) -> TopicResult:
        """Create a topic, or change what it keeps. The oldest messages go first.

        Args:
            topic: Name of the topic.
            max_age: Seconds to keep a message; 0 for no limit, None for the default of a day.
            max_messages: How many to keep; 0 for no limit, None for the default of 100,000.
            max_bytes: How much to keep; 0 for no limit, None for the default of 256 MiB.
        """
        retention = Retention()
        if max_age is not None:
            retention.max_age_ms = to_milliseconds(max_age, "max_age")
        if max_messages is not None:
            retention.max_messages = max_messages
        if max_bytes is not None:
            retention.max_bytes = max_bytes
        return await self._link.call(
            TopicCreate(self._namespace, topic, retention), _RESULT, CHANGE
        )

    async def delete(self, topic: str) -> TopicResult:
        """Delete a topic and its messages."""
        return await self._link.call(TopicDelete(self._namespace, topic), _RESULT, CHANGE)

    def subscribe(
        self,
        pattern: str,
        *,
        start: Start = "latest",
        position: int = 0,
        after: Mapping[str, int] | None = None,
        on_gap: Literal["raise", "continue"] = "raise",
        name: str = "",
        credit: int = CREDIT_ITEMS,
    ) -> Subscription:
        """Follow the messages of topics, each once and in order.

        Example::

            async for message in client.topics.subscribe("orders.>", start="earliest"):
                print(message.topic, message.sequence, message.payload)

        Args:
            pattern: Name or pattern of the topics.
            start: ``latest`` for what is published from now on, ``earliest`` for everything
                kept, ``sequence`` for messages from sequence ``position`` on, ``revision``
                for messages written after revision ``position``.
            position: See ``start``.
            after: The last sequence already seen, by topic; wins over ``start``.
            on_gap: What to do when messages that come next are gone by retention: ``raise``
                `TopicTruncated`, or ``continue`` with the oldest that is left and note the
                gap in `Subscription.gaps`.
            name: Shown to operators.
            credit: How many messages the server may send ahead of the reader.

        Returns:
            An asynchronous iterator of messages. It goes on by itself after a broken
            connection, without gap or repetition.
        """
        if on_gap not in ("raise", "continue"):
            raise InvalidRequest("on_gap: is 'raise' or 'continue'", field="on_gap")
        body = TopicSubscribe(
            self._namespace, pattern, start, position, dict(after or {}), credit, 0, name
        )
        return Subscription(self._link, body, credit, on_gap == "continue")

    async def get(self, topic: str, *, revision: int = 0) -> TopicInfo:
        """Read what a topic keeps and how much it holds.

        Raises:
            NotFound: There is no such topic.
        """
        return await self._link.call(TopicGet(self._namespace, topic, revision), _INFO)

    async def read(self, topic: str, *, first: int = 0, limit: int = 100) -> TopicReadResult:
        """Read messages of one topic at once.

        Args:
            topic: Name of the topic.
            first: The first sequence wanted; 0 for the oldest kept.
            limit: At most so many.

        Raises:
            NotFound: There is no such topic.
        """
        return await self._link.call(TopicRead(self._namespace, topic, first, limit), _READ)

    async def subscribers(self, topic: str = "") -> list[SubscriptionInfo]:
        """List the subscriptions that the member at hand serves, with their positions."""
        answer = await self._link.call(TopicSubscribers(self._namespace, topic), _SUBSCRIBERS)
        return answer.subscriptions

    async def list(self, pattern: str = ">", *, revision: int = 0) -> list[TopicInfo]:
        """List the topics that match a pattern.

        Args:
            pattern: Name or pattern of the topics.
            revision: As it was at this revision; 0 for now.
        """
        answer = await self._link.call(TopicList(self._namespace, pattern, revision), _LIST)
        return answer.topics
