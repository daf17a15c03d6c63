"""Subscriptions of a member: one fan-out per namespace, fed by the hub.

A fan-out watches the messages of its namespace while somebody subscribes to them.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from coordinator.api.dispatch import broken
from coordinator.api.reading import NowView
from coordinator.domains.topics import model
from coordinator.domains.topics.fanout import Fanout, Subscription
from coordinator.keyspace import SYSTEM
from coordinator.sessions import records
from coordinator_sdk.errors import CoordinatorError, FutureRevision, SessionNotFound
from coordinator_sdk.protocol.kv import Watch
from coordinator_sdk.protocol.topics import (
    REVISION,
    TopicSubscribe,
    TopicSubscribers,
    TopicSubscribersResult,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from coordinator.api.connection import Connection
    from coordinator.keyspace.watcher import Watcher
    from coordinator.node.node import Node

SUBSCRIPTIONS_SHOWN_MAX = 1000


class Feed:
    """A namespace's fan-out, and the watch that feeds it."""

    def __init__(self, node: Node, namespace: str) -> None:
        loop = asyncio.get_running_loop()
        self._node = node
        self._range = model.every_message(namespace)
        self._watcher: Watcher | None = None
        self.fanout = Fanout(namespace, self._view, loop.call_soon)

    def _view(self) -> NowView:
        return NowView(self._node.keyspace)

    def open(self) -> None:
        """Watch, unless it does already."""
        if self._watcher is None:
            start, end = self._range
            watch = Watch(
                start, end, self._node.keyspace.revision + 1, no_delete=True, space=SYSTEM
            )
            self._watcher = self._node.hub.watch_local(watch, self.fanout.on_events, self._lost)

    def _lost(self, compact_revision: int) -> None:
        self._watcher = None
        self.open()
        self.fanout.lose_track()

    def close_if_idle(self) -> bool:
        """Watch no more if nobody subscribes; tells whether so."""
        if self.fanout.subscriptions:
            return False
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            self._node.hub.cancel(watcher.sink, watcher.stream)
        return True


_FEEDS: WeakKeyDictionary[Node, dict[str, Feed]] = WeakKeyDictionary()


def feeds(node: Node) -> dict[str, Feed]:
    """Give the feeds of a member by namespace."""
    return _FEEDS.setdefault(node, {})


class SubscriptionStream:
    """A subscription as the connection steers it; it may end with its session."""

    def __init__(
        self, connection: Connection, id: int, feed: Feed, on_idle: Callable[[], None]
    ) -> None:
        self._connection = connection
        self._id = id
        self._feed = feed
        self._on_idle = on_idle
        self._subscription: Subscription | None = None
        self._session: Watcher | None = None

    def begin(self, request: TopicSubscribe) -> None:
        """Subscribe, and send the first item."""
        connection = self._connection
        self._feed.open()
        if request.session:
            self._watch_session(request.session)
        self._subscription = self._feed.fanout.subscribe(
            request, connection, self._id, connection.caller.origin
        )
        self._subscription.start()

    def _watch_session(self, session: int) -> None:
        node = self._connection.node
        start = node.keyspace.revision + 1
        watch = Watch(records.key(session), start_revision=start, space=SYSTEM)
        self._session = node.hub.watch_local(watch, self._session_changed, self._session_lost)

    def _session_lost(self, compact_revision: int) -> None:
        """A snapshot took the place of the state, without the history in between."""
        assert self._subscription is not None
        self._watch_session(self._subscription.request.session)
        self._session_changed(compact_revision, None)

    def _session_changed(self, revision: int, events: object) -> None:
        node = self._connection.node
        assert self._subscription is not None
        session = self._subscription.request.session
        if node.keyspace.get(SYSTEM, records.key(session)) is None:
            self.cancel()
            self._connection.fail(self._id, _no_session(session))

    def credit(self, amount: int) -> None:
        """The client takes that many messages more."""
        if self._subscription is not None:
            self._subscription.credit(amount)

    def cancel(self) -> None:
        """The client wants no more, or is gone."""
        if self._session is not None:
            self._connection.node.hub.cancel(self._session.sink, self._session.stream)
            self._session = None
        if self._subscription is not None:
            self._subscription.cancel()
        if self._feed.close_if_idle():
            self._on_idle()


def _no_session(session: int) -> SessionNotFound:
    return SessionNotFound(
        f"session {session:016x} does not exist or has ended", session=f"{session:016x}"
    )


def serve_subscribe(connection: Connection, id: int, request: TopicSubscribe) -> None:
    """Open a subscription."""
    node = connection.node
    revision = node.keyspace.revision
    if request.start == REVISION and request.position > revision:
        raise FutureRevision(
            f"position: revision {request.position} is still to come", field="position"
        )
    if request.session and node.keyspace.get(SYSTEM, records.key(request.session)) is None:
        raise _no_session(request.session)
    known = feeds(node)
    feed = known.get(request.namespace)
    if feed is None:
        feed = Feed(node, request.namespace)
    on_idle = partial(_forget, known, request.namespace, feed)
    stream = SubscriptionStream(connection, id, feed, on_idle)
    connection.open_stream(id, stream, request)
    known[request.namespace] = feed
    connection.answer(id, revision, None)
    stream.begin(request)


def _forget(known: dict[str, Feed], namespace: str, feed: Feed) -> None:
    if known.get(namespace) is feed:
        del known[namespace]


def serve_subscribers(connection: Connection, id: int, request: TopicSubscribers) -> None:
    """List the subscriptions that this member serves."""
    connection.node.read(partial(_list_subscribers, connection, id, request), serializable=True)


def _list_subscribers(
    connection: Connection, id: int, request: TopicSubscribers, error: CoordinatorError | None
) -> None:
    if error is not None:
        connection.fail(id, error)
        return
    try:
        view = NowView(connection.node.keyspace)
        feed = feeds(connection.node).get(request.namespace)
        shown = [
            subscription.info(view)
            for subscription in (feed.fanout.subscriptions if feed is not None else ())
            if not request.topic or model.matches(subscription.request.pattern, request.topic)
        ][:SUBSCRIPTIONS_SHOWN_MAX]
        connection.answer(id, view.revision, TopicSubscribersResult(shown))
    except CoordinatorError as refused:
        connection.fail(id, refused)
    except Exception as failure:
        broken(connection, id, failure)
