"""The feed of how all members stand: sampled while somebody watches, encoded once for all.

A sample is a state and no change: a client that reads too slowly misses some and loses nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from coordinator.api.connection import Connection
from coordinator.api.registry import Change, Live, Operation, Query
from coordinator_sdk.protocol.cluster import (
    ClusterSample,
    ClusterStatusResult,
    ClusterWatch,
    MemberStanding,
)
from coordinator_sdk.protocol.kv import Range

if TYPE_CHECKING:
    from coordinator.api.census import Census
    from coordinator.api.dispatch import Dispatcher
    from coordinator.node.node import Node
    from coordinator_sdk.errors import CoordinatorError

INTERVAL_SECONDS: Final = 0.5


class Feed:
    """Samples the cluster for all who watch it at this member.

    Args:
        node: The member.
        census: Who is connected.
    """

    def __init__(self, node: Node, census: Census) -> None:
        self._node = node
        self._census = census
        self._clock = asyncio.get_running_loop().time
        self._dispatcher: Dispatcher | None = None
        self._watchers: dict[FeedStream, None] = {}
        self._next_at = 0.0
        self._own = ClusterStatusResult(0, 0, "", "", 0, "", 0, 0, 0, 0, 0, 0, 0, 0)
        self._has_asked = False
        self._seen: tuple[int, int, int] = (0, 0, 0)
        self._led_at = self._clock()
        self._probed_at: float | None = None
        self._read_us = 0
        node.group.standings.status = self.status
        node.on_tick.append(self.tick)

    def operations(self) -> Mapping[type[Any], Operation]:
        """Give the operation that watches it."""
        return {ClusterWatch: Live(self._watch, at_once=True)}

    def count(self, dispatcher: Dispatcher) -> None:
        """Say who counts the requests of this member."""
        self._dispatcher = dispatcher

    def status(self) -> ClusterStatusResult:
        """Tell how this member stands, its clients and their requests included."""
        status = self._node.status()
        status.connections = self._census.connections
        if self._dispatcher is not None:
            status.reads, status.writes = _counts(self._dispatcher)
        return status

    # ------------------------------------------------------------ watching

    def _watch(self, connection: Connection, id: int, op: ClusterWatch) -> None:
        stream = FeedStream(self, connection, id)
        connection.open_stream(id, stream, op)
        connection.answer(id, self._node.revision, None)
        if not self._watchers:
            self._ask()
        self._watchers[stream] = None
        self._deliver({stream: None})

    def leave(self, stream: FeedStream) -> None:
        """Forget one that watches no more."""
        self._watchers.pop(stream, None)

    def tick(self) -> None:
        """Take a sample if it is time, or if another member leads."""
        node, now = self._node, self._clock()
        lead = node.replica.raw.lead
        if lead:
            self._led_at = now
        if not self._watchers:
            return
        seen = (lead, node.term, node.machine.members_version)
        if self._has_asked or seen != self._seen:
            self._seen = seen
            self._has_asked = False
            self._deliver(self._watchers)
        elif now >= self._next_at:
            self._ask()

    def _ask(self) -> None:
        """Ask the others for the next sample, and a quorum for the time that it takes.

        The answers are there with the next tick; what this member tells is of the same moment.
        """
        node = self._node
        self._next_at = self._clock() + INTERVAL_SECONDS
        self._has_asked = True
        self._own = self.status()
        node.group.standings.ask(one for one in node.machine.members if one != node.member_id)
        if self._probed_at is None:
            self._probed_at = self._clock()
            node.read(self._probed)

    def _probed(self, error: CoordinatorError | None) -> None:
        started, self._probed_at = self._probed_at, None
        if error is None and started is not None:
            self._read_us = round((self._clock() - started) * 1e6)

    def _deliver(self, watchers: Mapping[FeedStream, None]) -> None:
        sample = self._sample()
        encoded: dict[str, bytes] = {}
        revision = self._node.revision
        for stream in list(watchers):
            connection = stream.connection
            if connection.is_full:
                continue
            codec = connection.codec
            if codec.name not in encoded:
                encoded[codec.name] = codec.encode_value(sample)
            connection.deliver((stream.id,), revision, encoded[codec.name])

    def _sample(self) -> ClusterSample:
        node, now = self._node, self._clock()
        heard = node.group.standings.heard
        members = []
        for info in node.members():
            told = heard.get(info.member)
            if info.member == node.member_id:
                members.append(MemberStanding(info, 0, 0, self._own))
            elif told is None:
                members.append(MemberStanding(info))
            else:
                ago_ms, trip_us = round((now - told.at) * 1e3), round(told.round_trip * 1e6)
                members.append(MemberStanding(info, ago_ms, trip_us, told.status))
        lead = node.replica.raw.lead
        return ClusterSample(
            node.member_id,
            time.time_ns() // 1_000_000,
            lead,
            node.term,
            0 if lead else round((now - self._led_at) * 1e3),
            self._read_us,
            members,
        )


class FeedStream:
    """One who watches."""

    __slots__ = ("_feed", "connection", "id")

    def __init__(self, feed: Feed, connection: Connection, id: int) -> None:
        self._feed = feed
        self.connection = connection
        self.id = id

    def cancel(self) -> None:
        """The client wants no more, or is gone."""
        self._feed.leave(self)

    def credit(self, amount: int) -> None:
        """Samples need none."""


def _counts(dispatcher: Dispatcher) -> tuple[int, int]:
    """Count the requests served so far: those that read, those that change something."""
    served, reads, writes = dispatcher.served, 0, 0
    for kind, operation in dispatcher.operations.items():
        count = served.get(str(kind.__struct_config__.tag), 0)
        if isinstance(operation, Change):
            writes += count
        elif isinstance(operation, Query) or kind is Range:
            reads += count
    return reads, writes
