"""Who watches and subscribes at this member, and how far behind they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from heapq import nlargest
from typing import TYPE_CHECKING, Any, Final

from coordinator.api.connection import Connection
from coordinator.api.registry import Live, Operation
from coordinator_sdk.errors import InvalidRequest
from coordinator_sdk.protocol.cluster import StreamInfo, StreamList, StreamListResult
from coordinator_sdk.protocol.kv import Watch

if TYPE_CHECKING:
    from coordinator.keyspace.watcher import Lag

LIMIT_MAX: Final = 10_000
_NAMED_BY: Final = ("name", "service", "pattern", "topic")
"""Fields by which the streams of domains name what they are about."""


class Listing:
    """Lists the streams of a member's clients.

    Attributes:
        connections: Gives every connection that may have streams.
    """

    def __init__(self) -> None:
        self.connections: Callable[[], Iterable[Connection]] = tuple

    def operations(self) -> Mapping[type[Any], Operation]:
        """Give the operation that lists them."""
        return {StreamList: Live(self._list, _check)}

    def _list(self, connection: Connection, id: int, op: StreamList) -> None:
        node = connection.node
        hub = node.hub
        lags = {(lag.sink, lag.stream): lag for lag in hub.lags()}
        found: list[StreamInfo] = []
        watches = 0
        for one in self.connections():
            for stream in one.streams:
                request = one.requests.get(stream)
                if request is not None:
                    watches += type(request) is Watch
                    found.append(_told(one, request, lags.get((one.watches, stream))))
        shown = nlargest(op.limit, found, key=lambda info: info.lag)
        result = StreamListResult(shown, len(found), max(0, len(hub) - watches))
        connection.answer(id, node.revision, result)


def _check(op: StreamList) -> None:
    if not 1 <= op.limit <= LIMIT_MAX:
        raise InvalidRequest(f"limit: from 1 to {LIMIT_MAX}", field="limit")


def _told(connection: Connection, request: Any, lag: Lag | None) -> StreamInfo:
    caller = connection.caller
    info = StreamInfo(
        caller.origin, caller.actor, caller.client, str(request.__struct_config__.tag)
    )
    if type(request) is Watch:
        info.space, info.key, info.range_end = request.space, request.key, request.range_end
        if lag is not None:
            info.state, info.lag = lag.state.name.lower(), lag.behind
    else:
        info.namespace = getattr(request, "namespace", "")
        named = (getattr(request, field, "") for field in _NAMED_BY)
        info.name = next(filter(None, named), "")
    return info
