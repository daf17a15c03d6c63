"""Operating a cluster: alarms, and hashes that tell whether members hold the same."""

from __future__ import annotations

from msgspec import Struct

from .kv import Id


class Alarm(Struct, array_like=True):
    """An alarm that a member raised: ``NOSPACE`` or ``CORRUPT``."""

    member: Id
    alarm: str


class AlarmList(Struct, array_like=True, tag="alarms.list"):
    """List the alarms that are raised."""


class AlarmDisarm(Struct, array_like=True, tag="alarms.disarm"):
    """End alarms: those of ``member``, 0 for all, of the kind ``alarm``, empty for all."""

    member: Id = 0
    alarm: str = ""


class AlarmListResult(Struct, array_like=True):
    """Answer to `AlarmList` and `AlarmDisarm`: the alarms there are, or those that were ended."""

    alarms: list[Alarm]


class HashKeys(Struct, array_like=True, tag="cluster.hash"):
    """Ask a member for a hash of everything that was live at ``revision``; 0 for now."""

    revision: int = 0


class HashKeysResult(Struct, array_like=True):
    """Answer to `HashKeys`: equal on all members that hold the same at that revision."""

    hash: int
    revision: int
    compact_revision: int


class RevisionAt(Struct, array_like=True, tag="cluster.revision_at"):
    """Ask which revision was the newest at ``clock_ms``, Unix time; 0 for now."""

    clock_ms: int = 0


class RevisionAtResult(Struct, array_like=True):
    """Answer to `RevisionAt`.

    Attributes:
        revision: The newest that had happened by then; 0 if the history does not reach back so far.
        clock_ms: When it happened, by the cluster's clock, a second too early at most; 0: unknown.
        now_ms: Unix time by the clock of the member that answers.
    """

    revision: int
    clock_ms: int
    now_ms: int


REQUESTS = (AlarmList, AlarmDisarm, HashKeys, RevisionAt)
