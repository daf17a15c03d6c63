"""The promises, each as a function from what happened to a list of complaints."""

from __future__ import annotations

from tests.simulation.checkers.leases import check_leases, live_sessions
from tests.simulation.checkers.locks import check_locks
from tests.simulation.checkers.reads import check_final_state, check_reads
from tests.simulation.checkers.topics import check_topics
from tests.simulation.checkers.watches import check_watches
from tests.simulation.checkers.writes import check_writes

__all__ = [
    "check_final_state",
    "check_leases",
    "check_locks",
    "check_reads",
    "check_topics",
    "check_watches",
    "check_writes",
    "live_sessions",
]
