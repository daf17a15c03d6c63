"""When a member has had no leader for so long that its clients do better elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordinator.replica.effects import no_leader

if TYPE_CHECKING:
    from collections.abc import Callable

    from coordinator.raft import RawNode
    from coordinator_sdk.errors import NoLeader


class Absence:
    """Looks for the leader with every tick.

    Args:
        raw: The consensus core.
        limit_ms: How long a member may be without a leader before it says so.

    Attributes:
        told: Called once for each time that it has been without one for so long.
    """

    def __init__(self, raw: RawNode, *, limit_ms: int) -> None:
        self._raw = raw
        self._limit_ms = limit_ms
        self.told: list[Callable[[], None]] = []
        self._seen_ms = -1
        self._is_long = False

    @property
    def is_long(self) -> bool:
        """Whether nobody should wait here for a leader to come."""
        return self._is_long and not self._raw.lead

    @property
    def error(self) -> NoLeader:
        """What those are told who ask here."""
        return no_leader()

    def tick(self, now_ms: int) -> None:
        """Look whether there is a leader."""
        if self._raw.lead or self._seen_ms < 0:
            self._seen_ms = now_ms
            self._is_long = False
        elif not self._is_long and now_ms - self._seen_ms > self._limit_ms:
            self._is_long = True
            for tell in self.told:
                tell()
