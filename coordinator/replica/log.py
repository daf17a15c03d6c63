"""The durable entries in memory, as the consensus core reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordinator.raft import MemoryStorage
from coordinator.wire.raft import Snapshot, SnapshotMetadata

if TYPE_CHECKING:
    from coordinator.replica.machine import Machine


class ReplicaLog(MemoryStorage):
    """The log of a replica, whose snapshot is whatever the state machine holds by now.

    Attributes:
        machine: The state machine, as soon as there is one.
    """

    __slots__ = ("machine",)

    machine: Machine

    def snapshot(self) -> Snapshot:
        """Return a reference to the applied state; the state itself travels by another way."""
        machine = self.machine
        return Snapshot(b"", SnapshotMetadata(machine.conf_state, machine.index, machine.term))
