"""Topics: durable, ordered, replayable publish and subscribe.

Topic names are tokens joined by ``.``. In a pattern ``*`` stands for one token and ``>``,
at the end, for one or more.
"""

from __future__ import annotations

from msgspec import Struct

from .kv import Guard, Id

LATEST = "latest"
EARLIEST = "earliest"
SEQUENCE = "sequence"
REVISION = "revision"


class Retention(Struct, array_like=True):
    """What a topic keeps; 0 means no limit. The oldest messages go first."""

    max_age_ms: int = 86_400_000
    max_messages: int = 100_000
    max_bytes: int = 268_435_456


class TopicCreate(Struct, array_like=True, tag="topics.create"):
    """Create a topic, or change its retention."""

    namespace: str
    topic: str
    retention: Retention | None = None


class TopicDelete(Struct, array_like=True, tag="topics.delete"):
    """Delete a topic and its messages."""

    namespace: str
    topic: str


class TopicPublish(Struct, array_like=True, tag="topics.publish"):
    """Append one message. An unknown topic is created with the default retention."""

    namespace: str
    topic: str
    payload: bytes
    headers: dict[str, str] = {}
    guard: Guard | None = None


class TopicSubscribe(Struct, array_like=True, tag="topics.subscribe"):
    """Stream the messages of every topic that matches ``pattern``.

    ``start`` is ``latest``, ``earliest``, ``sequence`` (``position`` is the first sequence
    wanted) or ``revision`` (messages written after revision ``position``). ``after`` gives,
    per topic, the last sequence already seen, and wins over ``start`` for that topic; it is
    how a subscription resumes. ``name`` labels the subscription for operators.
    """

    namespace: str
    pattern: str
    start: str = LATEST
    position: int = 0
    after: dict[str, int] = {}
    credit: int = 0
    session: Id = 0
    name: str = ""


class TopicGet(Struct, array_like=True, tag="topics.get"):
    """Read one topic."""

    namespace: str
    topic: str
    revision: int = 0


class TopicList(Struct, array_like=True, tag="topics.list"):
    """List topics."""

    namespace: str
    pattern: str = ">"
    revision: int = 0


class TopicRead(Struct, array_like=True, tag="topics.read"):
    """Read up to ``limit`` messages of one topic from sequence ``first`` on, at once."""

    namespace: str
    topic: str
    first: int = 0
    limit: int = 100


class TopicSubscribers(Struct, array_like=True, tag="topics.subscribers"):
    """List the subscriptions that this member serves, with their positions."""

    namespace: str
    topic: str = ""


class TopicMessage(Struct, array_like=True):
    """One message."""

    topic: str
    sequence: int
    revision: int
    timestamp_ms: int
    payload: bytes
    headers: dict[str, str] = {}


class TopicMessages(Struct, array_like=True, tag="messages"):
    """Messages, in the order of their revisions; ``revision`` is the last one's."""

    messages: list[TopicMessage]
    revision: int = 0


class TopicGap(Struct, array_like=True, tag="truncated"):
    """Messages were removed before they were sent; ``first_sequence`` comes next.

    ``after_sequence`` is the last one that was sent before, 0 if that is not known. If it is
    not below ``first_sequence``, the topic was begun anew.
    """

    topic: str
    first_sequence: int
    after_sequence: int


class TopicReady(Struct, array_like=True, tag="ready"):
    """The subscription stands: what is published after ``revision`` will be delivered."""

    revision: int


TopicItem = TopicMessages | TopicGap | TopicReady


class TopicInfo(Struct, array_like=True):
    """A topic. ``last_sequence`` is 0 if nothing was ever published."""

    namespace: str
    topic: str
    retention: Retention
    first_sequence: int = 1
    last_sequence: int = 0
    messages: int = 0
    bytes: int = 0
    created_ms: int = 0


class TopicPublishResult(Struct, array_like=True):
    """Answer to `TopicPublish`."""

    revision: int
    sequence: int


class TopicResult(Struct, array_like=True):
    """Answer to create and delete."""

    revision: int
    changed: bool = True


class TopicListResult(Struct, array_like=True):
    """Answer to `TopicList`."""

    topics: list[TopicInfo]


class TopicReadResult(Struct, array_like=True):
    """Answer to `TopicRead`."""

    first_sequence: int
    last_sequence: int
    messages: list[TopicMessage]


class SubscriptionInfo(Struct, array_like=True):
    """A subscription as the member that serves it sees it."""

    namespace: str
    pattern: str
    name: str
    session: Id
    peer: str
    positions: dict[str, int]
    lag: int


class TopicSubscribersResult(Struct, array_like=True):
    """Answer to `TopicSubscribers`."""

    subscriptions: list[SubscriptionInfo]


REQUESTS = (
    TopicCreate,
    TopicDelete,
    TopicPublish,
    TopicSubscribe,
    TopicGet,
    TopicList,
    TopicRead,
    TopicSubscribers,
)
