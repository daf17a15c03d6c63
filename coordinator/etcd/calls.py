"""A call as the services see it, whatever carries it.

A unary call gets one `Call.reply` or `Call.fail`. A streaming one has a `Conversation`: the
service's side of it, told what arrives; it answers with `Call.send` and ends with `Call.finish` or
`Call.fail`. Payloads are encoded messages, so that what many clients see is encoded once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from coordinator.api.limits import Limits
from coordinator.api.shares import Shares
from coordinator.etcd.messages import HeaderMessage, Message, Method
from coordinator.etcd.permits import Streams, in_manner_of
from coordinator.etcd.status import StatusError, status_of
from coordinator.etcd.tally import Tally
from coordinator.node.node import Node
from coordinator_sdk.errors import CoordinatorError

if TYPE_CHECKING:
    from coordinator.api.registry import Caller

logger = logging.getLogger("coordinator.etcd")


class Conversation(Protocol):
    """A service's side of a streaming call."""

    def received(self, message: Message) -> None:
        """Take the next message of the client."""

    def half_closed(self) -> None:
        """The client sends no more, and still listens."""

    def cancelled(self) -> None:
        """The call is over, whoever ended it: let go of everything."""


class Call:
    """One call.

    Attributes:
        caller: Who asks.
        is_closed: Whether it has ended; what is sent from then on is lost.
        doubt: Why its token proves nothing, for calls that go on all the same.
    """

    __slots__ = ("caller", "doubt", "is_closed")

    caller: Caller
    doubt: StatusError | None
    is_closed: bool

    @property
    def is_full(self) -> bool:
        """Whether the client reads too slowly to be sent more for now."""
        return False

    def recognize(self) -> Caller:
        """Tell anew who asks, by what came with the call.

        Raises:
            CoordinatorError: It proves nothing any more.
        """
        raise NotImplementedError

    def reply(self, payload: bytes) -> None:
        """Answer a unary call."""
        raise NotImplementedError

    def send(self, payload: bytes) -> None:
        """Send an item of a stream."""
        raise NotImplementedError

    def finish(self) -> None:
        """End a stream well."""
        raise NotImplementedError

    def fail(self, error: BaseException) -> None:
        """End the call with the status of an error."""
        raise NotImplementedError

    def defer(self, work: Callable[[], None]) -> bool:
        """Call ``work`` once the client has read what was sent; False if it has."""
        raise NotImplementedError

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine that is cancelled with the call; its failure is the call's."""
        raise NotImplementedError


Unary = Callable[[Call, Message], None]
Converse = Callable[[Call], Conversation]


@dataclass(frozen=True, slots=True)
class Served:
    """A call that is served, in one of the two ways, and the count of it."""

    method: Method
    unary: Unary | None = None
    converse: Converse | None = None
    tally: Tally = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tally", Tally(self.method))


def ending(error: BaseException, path: str) -> StatusError:
    """Give the status with which a call ends that failed so; what should not happen is logged."""
    status = in_manner_of(path, status_of(error))
    if not isinstance(error, StatusError | CoordinatorError):
        logger.error("a call broke: %r", error, exc_info=error)
    return status


async def guarded(call: Call, work: Coroutine[Any, Any, None]) -> None:
    """Await ``work``; its failure becomes the status of the call."""
    try:
        await work
    except asyncio.CancelledError:
        raise
    except Exception as error:
        call.fail(error)


# ---------------------------------------------------------------- headers


def varint(number: int) -> bytes:
    """Encode an int64 or uint64 as protobuf does."""
    number &= 0xFFFFFFFFFFFFFFFF
    if number < 0x80:
        return bytes((number,))
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)


class Headers:
    """Writes the header field that begins every answer.

    An encoded message may be put together from parts: the header first, then the rest.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._ids = b"\x08" + varint(node.cluster_id) + b"\x10" + varint(node.member_id)

    def at(self, revision: int) -> bytes:
        """Write the header with a revision; 0 leaves it out."""
        inner = self._ids
        if revision:
            inner += b"\x18" + varint(revision)
        term = self._node.term
        if term:
            inner += b"\x20" + varint(term)
        return b"\x0a" + varint(len(inner)) + inner

    def now(self) -> bytes:
        """Write the header with the published revision."""
        return self.at(self._node.revision)

    def message(self, revision: int) -> Message:
        """Give the header as a message."""
        node = self._node
        return HeaderMessage(
            cluster_id=node.cluster_id,
            member_id=node.member_id,
            revision=revision,
            raft_term=node.term,
        )


@dataclass(frozen=True)
class Shared:
    """What all services work with.

    Attributes:
        node: The member.
        headers: Writes the headers of answers.
        limits: What a client may ask.
        streams: Those that are open.
        shares: What each user takes.
    """

    node: Node
    headers: Headers
    limits: Limits
    streams: Streams
    shares: Shares
