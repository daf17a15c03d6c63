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


REQUESTS = (AlarmList, AlarmDisarm, HashKeys)
