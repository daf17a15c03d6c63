"""Frames: what one WebSocket message carries.

A client's message is ``[floor, [[id, body], ...]]``. ``id`` counts up for the life of the
client, across its connections, and names the request in every answer; ``floor`` is the
lowest id of a change whose answer the client still waits for, so that the cluster may
forget the outcomes below it.

A server's message is ``[[cluster, member, term, revision, members], [item, ...]]``.
"""

from __future__ import annotations

from typing import Any

from msgspec import Raw, Struct

from .kv import Id

SUBPROTOCOL_MSGPACK = "coordinator.v1.msgpack"
SUBPROTOCOL_JSON = "coordinator.v1.json"
WEBSOCKET_PATH = "/v1/ws"


class Header(Struct, array_like=True):
    """Who answers, and where it stood.

    ``members`` is another number whenever the members of the cluster are others than before; it
    says nothing across connections.
    """

    cluster: Id
    member: Id
    term: int
    revision: int
    members: int = 0


class Result(Struct, array_like=True, tag=0):
    """The answer to request ``id``. ``revision`` is that of the write, or of the read."""

    id: int
    revision: int
    result: Raw


class Failure(Struct, array_like=True, tag=1):
    """Request ``id`` failed, or stream ``id`` ended with an error."""

    id: int
    code: str
    message: str
    details: dict[str, Any] = {}


class Stream(Struct, array_like=True, tag=2):
    """An item of each of the streams ``ids``; its type depends on what opened them."""

    ids: list[int]
    item: Raw


class Closing(Struct, array_like=True, tag=3):
    """The member is about to close the connection; ``endpoints`` are those of the others."""

    code: str
    message: str
    endpoints: list[str] = []


Item = Result | Failure | Stream | Closing
