"""Requests on their way, and where their answers go.

Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from msgspec import Raw, Struct

    from ._streams import Stream
    from .errors import CoordinatorError

READ, CHANGE, BEAT, NOTICE = 0, 1, 2, 3
"""Kinds of calls; what a broken connection means for each is told in `_session`. A notice gets
no answer."""


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


class Call:
    """One request until its answer.

    Attributes:
        id: Its id, 0 until it is sent for the first time.
        body: The operation.
        decode: Makes the result of the answer's bytes.
        sink: Where the answer goes.
        mode: ``READ``, ``CHANGE``, ``BEAT`` or ``NOTICE``.
        stream: The stream that it opens.
        limit: Seconds until it gives up; None for the client's policy.
        waits_from: When it was first held back, 0 if it was sent at once.
        sent_at: When it was first sent.
        attempts: How often the cluster asked to try later.
        refusal: The answer that asked to try later, until it is sent again.
        in_doubt: Whether a connection broke between its sending and its answer.
    """

    __slots__ = (
        "attempts",
        "body",
        "decode",
        "id",
        "in_doubt",
        "limit",
        "mode",
        "refusal",
        "sent_at",
        "sink",
        "stream",
        "waits_from",
    )

    def __init__(
        self,
        body: Struct,
        decode: Callable[[Raw], Any],
        mode: int,
        sink: Sink,
        stream: Stream[Any] | None = None,
        limit: float | None = None,
    ) -> None:
        self.id = 0
        self.body = body
        self.decode = decode
        self.mode = mode
        self.sink = sink
        self.stream = stream
        self.limit = limit
        self.waits_from = 0.0
        self.sent_at = 0.0
        self.attempts = 0
        self.refusal: CoordinatorError | None = None
        self.in_doubt = False


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
