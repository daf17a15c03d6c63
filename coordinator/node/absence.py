"""When a member has had no leader for so long that its clients do better elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from coordinator.raft import RawNode


class Absence:
    """Looks for the leader with every tick.

    Args:
        raw: The consensus core.
        limit_ms: How long a member may be without a leader before it says so.
        told: Called once for each time that it has been without one for so long.
    """

    def __init__(self, raw: RawNode, *, limit_ms: int, told: list[Callable[[], None]]) -> None:
        self._raw = raw
        self._limit_ms = limit_ms
        self._told = told
        self._seen_ms = -1
        self._is_long = False

    @property
    def is_long(self) -> bool:
        """Whether nobody should wait here for a leader to come."""
        return self._is_long and not self._raw.lead

    def tick(self, now_ms: int) -> None:
        """Look whether there is a leader."""
        if self._raw.lead or self._seen_ms < 0:
            self._seen_ms = now_ms
            self._is_long = False
        elif not self._is_long and now_ms - self._seen_ms > self._limit_ms:
            self._is_long = True
            for tell in self._told:
                tell()
