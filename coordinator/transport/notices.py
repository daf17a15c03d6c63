"""Log lines about what strangers do, which must not become many because they are."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio

logger: Final = logging.getLogger("coordinator.transport")


def log_failure(task: asyncio.Task[None]) -> None:
    """Tell of a task that nobody waits for and that ended with an error."""
    if not task.cancelled() and (error := task.exception()):
        logger.error("%s broke: %r", task.get_coro(), error, exc_info=error)


class Notices:
    """Writes a line, and then only counts for a while.

    Args:
        interval_s: Least time between two lines.
        log: Where to; the log of this room by default.
    """

    def __init__(self, interval_s: float, log: logging.Logger = logger) -> None:
        self._interval_s = interval_s
        self._log = log
        self._next_at: float | None = None
        self._suppressed = 0

    def warn(self, text: str, now_s: float) -> None:
        """Write a warning, unless there was one a moment ago.

        Args:
            text: What happened.
            now_s: Seconds on any clock that does not jump.
        """
        if self._next_at is not None and now_s < self._next_at:
            self._suppressed += 1
            return
        more = f" ({self._suppressed} more since the last such line)" if self._suppressed else ""
        self._log.warning("%s%s", text, more)
        self._next_at = now_s + self._interval_s
        self._suppressed = 0
