"""A leader whose disk has stopped answering, or is full, lets another lead.

Its heartbeats would go on, and nobody would stand for election, while all that it is asked for
waits behind the disk.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_log = logging.getLogger("coordinator.node.stall")
_NOTHING: Final = object()


class Stall:
    """Looks at the oldest write to the log with every tick.

    Args:
        limit_ms: How long a write may take.
        is_leader: Whether this member leads.
        hand_over: Asks for another leader.
    """

    def __init__(
        self, *, limit_ms: int, is_leader: Callable[[], bool], hand_over: Callable[[], None]
    ) -> None:
        self._limit_ms = limit_ms
        self._is_leader = is_leader
        self._hand_over = hand_over
        self._oldest: object = _NOTHING
        self._since_ms = 0
        self._full_ms = -limit_ms

    def tick(self, now_ms: int, oldest: object | None, *, is_full: bool = False) -> None:
        """Hand leadership over if the same write has been the oldest for too long, or none fits.

        Args:
            now_ms: Monotonic time.
            oldest: The oldest write under way, None if there is none.
            is_full: Whether the disk has no space left.
        """
        if is_full and self._is_leader() and now_ms - self._full_ms > self._limit_ms:
            self._full_ms = now_ms
            _log.warning("the disk is full: another member should lead")
            self._hand_over()
        if oldest is None or oldest is not self._oldest:
            self._oldest = _NOTHING if oldest is None else oldest
            self._since_ms = now_ms
        elif now_ms - self._since_ms > self._limit_ms and self._is_leader():
            self._since_ms = now_ms  # Tried again after as long a while, should it fail.
            _log.warning("a write to the log takes too long: another member should lead")
            self._hand_over()
