"""How old the state of this member may be, for reads that accept an age."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from coordinator.node.surroundings import Surroundings
    from coordinator.replica.replica import Replica
    from coordinator_sdk.errors import CoordinatorError


class Freshness:
    """Knows since when the state is sure to lack nothing.

    A linearizable read proves that the state holds whatever was committed before it began. One
    such read so serves all that come within the age they accept.

    Args:
        replica: Reads linearizably.
        surroundings: Where time comes from.
    """

    def __init__(self, replica: Replica, surroundings: Surroundings) -> None:
        self._replica = replica
        self._now_ns = surroundings.monotonic_ns
        self._sure_ns: int | None = None

    def is_within(self, max_staleness_ms: int) -> bool:
        """Whether the state lacks nothing that is older than this; 0 accepts any age."""
        if not max_staleness_ms:
            return True
        if self._sure_ns is None:
            return False
        return self._now_ns() - self._sure_ns <= max_staleness_ms * 1_000_000

    def read(self, done: Callable[[CoordinatorError | None], None]) -> None:
        """Read linearizably, and remember when that was."""
        began_ns = self._now_ns()

        def answered(error: CoordinatorError | None) -> None:
            if error is None:
                self._sure_ns = max(self._sure_ns or 0, began_ns)
            done(error)

        self._replica.read(answered)
