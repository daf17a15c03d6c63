"""When a member has been without the others for so long that its clients do better elsewhere."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from coordinator.raft.quorum import joint_committed
from coordinator.replica.effects import no_leader

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from coordinator.raft import RawNode
    from coordinator_sdk.errors import NoLeader

_log = logging.getLogger("coordinator.node")


class Absence:
    """Looks with every tick for the leader, or for those whom this member leads.

    A follower counts from the last sign of its leader, not from when it gave it up, and has the
    patience of two election timeouts: one for the others to notice, one for the vote. A leader
    that hears of no majority for one timeout is the one that the others are about to replace. It
    sends its clients there even before it gives up its office, which takes a check of the quorum,
    one in each timeout, that finds nobody.

    Args:
        raw: The consensus core.
        heard: When each member was heard of last, in milliseconds of the replica's clock.
        timeout_ms: The election timeout.

    Attributes:
        told: Called once for each time that it has been alone for so long.
    """

    def __init__(self, raw: RawNode, heard: Mapping[int, int], *, timeout_ms: int) -> None:
        self._raw = raw
        self._heard = heard
        self._timeout_ms = timeout_ms
        self._limit_ms = 2 * timeout_ms
        self.told: list[Callable[[], None]] = []
        self._seen_ms = -1
        self._led = (0, 0)
        self._is_lost = False
        self._was_silent = False
        self._is_told = False

    @property
    def is_long(self) -> bool:
        """Whether nobody should wait here for a leader to come."""
        return self._is_lost and (not self._raw.lead or self._raw.is_leader)

    @property
    def error(self) -> NoLeader:
        """What those are told who ask here."""
        return no_leader()

    def tick(self, now_ms: int) -> None:
        """Look who is there."""
        self._tell_of_changes()
        raw = self._raw
        if self._seen_ms < 0:
            self._seen_ms = now_ms
        if raw.is_leader:
            self._seen_ms = max(self._seen_ms, self._majority_heard_ms(now_ms))
            self._limit_ms = self._timeout_ms
        elif raw.lead:
            self._seen_ms = max(self._seen_ms, self._heard.get(raw.lead, now_ms))
            self._limit_ms = 2 * self._timeout_ms
        is_silent = now_ms - self._seen_ms > self._limit_ms
        if raw.is_leader:
            # After a pause of this process, what has come meanwhile is read after the first tick.
            self._is_lost = is_silent and self._was_silent
        else:
            self._is_lost = not raw.lead and (self._is_lost or is_silent)
        self._was_silent = is_silent
        if self._is_lost and not self._is_told:
            for tell in self.told:
                tell()
        self._is_told = self._is_lost

    def _majority_heard_ms(self, now_ms: int) -> int:
        """Give since when a majority, with this member, has not been silent at once."""
        config = self._raw.raft.tracker.config
        moments = {**self._heard, self._raw.id: now_ms}
        return min(now_ms, joint_committed(config.voters, config.outgoing, moments))

    def _tell_of_changes(self) -> None:
        raw = self._raw
        lead, term = raw.lead, raw.term
        if lead == self._led[0] and (term == self._led[1] or not lead):
            return
        self._led = (lead, term)
        if not lead:
            _log.info("no leader in term %d", term)
        else:
            who = "this member" if lead == raw.id else f"member {lead:016x}"
            _log.info("%s leads in term %d", who, term)
