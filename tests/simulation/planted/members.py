"""Mistakes between members: forwarding, renewals, snapshots, who is who."""

from __future__ import annotations

from typing import Any

from coordinator.keyspace.watch import WatchHub
from coordinator.node.forward import Forwarding
from coordinator.node.keepalive import Keepalive
from coordinator_sdk.errors import NoLeader


def resend_without_an_id(in_doubt: Any) -> Any:
    """What may have been applied is sent again, though nothing tells that it is the same."""

    def mutant(self: Forwarding, proposal: Any) -> None:
        proposal.in_doubt = True
        self._waiting.append(proposal)

    return mutant


def deny_what_is_in_doubt(in_doubt: Any) -> Any:
    """Of what may have been applied it is said that it was not."""

    def mutant(self: Forwarding, proposal: Any) -> None:
        self._replica.refuse(proposal, NoLeader("the link to the leader broke"))

    return mutant


def renew_without_a_quorum(here: Any) -> Any:
    """A leader renews leases without asking whether it still is one."""

    def mutant(self: Keepalive, leases: list[int], done: Any, *, only_look: bool) -> None:
        clock, now_ms = self._replica.clock, self._replica.now_ms
        tell = clock.remaining_ms if only_look else clock.renew
        done([tell(lease, now_ms) for lease in leases])

    return mutant


def leave_watches_where_they_are(reset: Any) -> Any:
    """Watches go on behind the snapshot, without what it contains."""

    def mutant(self: WatchHub, log: Any, compact_revision: int) -> None:
        self._log = log
        self._fetch = None
        self.revision = self._published = log.last
        self.compacted(compact_revision)

    return mutant


def admit_anybody(admit: Any) -> Any:
    """A member that has lost its disk is taken for the one it was."""
    return lambda self, hello: ""
