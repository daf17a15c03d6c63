"""Requests on their way, and where their answers go.

Pure.
"""

from __future__ import annotations

# ruff: noqa: TC004 - a call is never encoded, so nothing evaluates its annotations
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import msgspec
from msgspec import Struct

from ._modes import CHANGE, READ
from .errors import CoordinatorError, error_from_wire

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from msgspec import Raw

    from ._streams import Stream

T = TypeVar("T")


def decoder(kind: type[T]) -> Callable[[Raw], T]:
    """The decoder of one type of answer."""
    return msgspec.msgpack.Decoder(kind).decode


def nothing(raw: Raw) -> None:
    """The decoder of an answer without content."""


class Sink(Protocol):
    """Where an answer goes."""

    def done(self) -> bool:
        """Whether it has its answer, or wants none any more."""

    def cancelled(self) -> bool:
        """Whether it wants none any more."""

    def set_result(self, result: Any, /) -> None:
        """Take the answer."""

    def set_exception(self, exception: BaseException, /) -> None:
        """Take the failure."""


class Call(Struct, eq=False):
    """One request until its answer.

    Attributes:
        body: The operation.
        decode: Makes the result of the answer's bytes.
        mode: ``READ``, ``CHANGE``, ``BEAT`` or ``NOTICE``.
        sink: Where the answer goes.
        stream: The stream that it opens.
        limit: Seconds until it gives up; None for the client's policy.
        id: Its id, 0 until it is sent for the first time.
        waits_from: When it was first held back, 0 if it was sent at once.
        sent_at: When it was first sent.
        attempts: How often the cluster asked to try later.
        refusal: The answer that asked to try later, until it is sent again.
        in_doubt: Whether a connection broke between its sending and its answer.
        moves: How often its member was left because it got no answer there.
        is_reproved: Whether it was sent again after the client proved anew who it is.
    """

    body: Struct
    decode: Callable[[Raw], Any]
    mode: int
    sink: Sink
    stream: Stream[Any] | None = None
    limit: float | None = None
    id: int = 0
    waits_from: float = 0.0
    sent_at: float = 0.0
    attempts: int = 0
    refusal: CoordinatorError | None = None
    in_doubt: bool = False
    moves: int = 0
    is_reproved: bool = False


class Unproven:
    """Calls that were refused because the cluster wants to be told again who asks.

    Attributes:
        calls: Those that wait for it.
        is_asked: Whether somebody should see to it.
        is_wanted: Tells whether a refusal means that, and something can be done about it.
        advised: Gives a refusal with what mends it.
    """

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.is_asked = False
        self.is_wanted: Callable[[CoordinatorError], bool] = lambda error: False
        self.advised: Callable[[CoordinatorError], CoordinatorError] = lambda error: error

    def wants(self, error: CoordinatorError) -> bool:
        """Whether a refusal means that; it is then seen to."""
        wanted = self.is_wanted(error)
        self.is_asked = self.is_asked or wanted
        return wanted

    def holds(self, call: Call, error: CoordinatorError) -> bool:
        """Keep a refused call, if proving anew may mend it; each call once."""
        if not self.wants(error) or call.mode not in (READ, CHANGE):
            return False
        if call.is_reproved or call.sink.done():
            return False
        call.is_reproved, call.refusal = True, error
        self.calls.append(call)
        return True

    def take(self) -> list[Call]:
        """Take the calls out; nothing is asked for any more."""
        calls, self.calls, self.is_asked = self.calls, [], False
        return calls


def told_error(code: str, message: str, details: dict[str, Any] | None = None) -> CoordinatorError:
    """Rebuild an error that a member told."""
    error = error_from_wire(code, message, details)
    assert isinstance(error, CoordinatorError)
    return error


class Firm:
    """A future whose call is made even if nobody waits for it any more."""

    __slots__ = ("done", "future")

    def __init__(self, future: asyncio.Future[Any]) -> None:
        self.future = future
        self.done = future.done

    def cancelled(self) -> bool:
        return False

    def set_result(self, result: Any, /) -> None:
        self.future.set_result(result)

    def set_exception(self, exception: BaseException, /) -> None:
        self.future.set_exception(exception)


class _Nobody:
    """A sink for what nobody waits for."""

    def done(self) -> bool:
        return False

    def cancelled(self) -> bool:
        return False

    def set_result(self, result: Any, /) -> None:
        """Forget it."""

    def set_exception(self, exception: BaseException, /) -> None:
        """Forget it."""


NOBODY = _Nobody()
