"""What a leader proposes from time to time without being asked: compaction and the quota.

Pure decisions over the machine's state; the node calls them with every tick.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from coordinator.wire.command import QuotaSet
from coordinator_sdk.protocol.kv import Compact

if TYPE_CHECKING:
    from coordinator.replica.machine import Machine


@dataclass(frozen=True, slots=True)
class Retention:
    """How much history to keep; 0 means without limit.

    Attributes:
        age_ms: Revisions younger than this are kept.
        revisions: That many of the newest revisions are kept.
        history_bytes: History beyond this is compacted, whatever its age.
    """

    age_ms: int = 3_600_000
    revisions: int = 0
    history_bytes: int = 512 << 20


class Housekeeping:
    """Decides on compaction, at most once in a while."""

    PAUSE_MS = 10_000
    PAUSE_WHEN_FULL_MS = 2000
    """As long as writes are refused: each time, half of the history may free nothing yet."""

    def __init__(self, machine: Machine, retention: Retention, quota_bytes: int) -> None:
        self._machine = machine
        self._retention = retention
        self._quota_bytes = quota_bytes
        self._next_ms = 0

    def due(self, now_ms: int) -> list[tuple[object, str]]:
        """Give the commands to propose now, each with its cause."""
        if now_ms < self._next_ms:
            return []
        self._next_ms = now_ms + (
            self.PAUSE_WHEN_FULL_MS if self._machine.is_full else self.PAUSE_MS
        )
        commands: list[tuple[object, str]] = []
        if self._machine.quota_bytes != self._quota_bytes:
            commands.append((QuotaSet(self._quota_bytes), "configuration"))
        target = self.target()
        if target > self._machine.keyspace.compact_revision:
            commands.append((Compact(target), "automatic"))
        return commands

    def target(self) -> int:
        """Give the revision to compact to; 0 if there is no reason to."""
        machine, keep = self._machine, self._retention
        keyspace = machine.keyspace
        targets = [0]
        if keep.age_ms:
            targets.append(keyspace.times.revision_at(machine.clock_ms - keep.age_ms))
        if keep.revisions:
            targets.append(keyspace.revision - keep.revisions)
        if keep.history_bytes and keyspace.history_bytes > keep.history_bytes or machine.is_full:
            # To where about half of the history is gone; in the end all of it, because what was
            # deleted last is kept until the very revision that deleted it.
            targets.append((keyspace.compact_revision + keyspace.revision + 1) // 2)
        return min(max(targets), keyspace.revision)
