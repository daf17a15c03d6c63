"""Classic mistakes, planted from outside: the simulation has to find each of them.

A mutant replaces functions of the product for as long as a run lasts. No switch for it stands
in the product.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from coordinator.keyspace.watch import WatchHub
from coordinator.node.feeding import Feeding
from coordinator.node.forward import Forwarding
from coordinator.node.keepalive import Keepalive
from coordinator.node.peers import Peers
from coordinator.node.persistence import Persistence
from coordinator.raft import follower, leader
from coordinator.raft.log import RaftLog
from coordinator.raft.tracker import ProgressTracker
from coordinator.replica import commands, tickets
from coordinator.replica.deadlines import LeaderClock
from coordinator.replica.entry import EntryTxn
from coordinator.replica.machine import Machine
from coordinator.replica.replica import Replica
from coordinator.replica.requests import RequestTable
from coordinator.replica.tickets import TicketQueue
from coordinator.storage.memory_state import MemoryStateStore
from coordinator.storage.segments import SegmentedLog
from coordinator.storage.write_behind import WriteBehind
from tests.simulation.disk import DelayedLog
from tests.simulation.faults import AS_DRAWN, Profile
from tests.simulation.planted import consensus, disks, members, reads, state


@dataclass(frozen=True)
class Mutant:
    """One mistake.

    Attributes:
        owner: Class or module that holds the function to be replaced.
        name: Its name there.
        make: Gives the wrong function, from the right one.
        sizes: Clusters of which sizes can show it; seeds of others are passed over.
        profile: What has to happen for it to show.
    """

    owner: Any
    name: str
    make: Callable[[Any], Any]
    sizes: tuple[int, ...] = (1, 3, 5)
    profile: Profile = AS_DRAWN


ALONE = (1,)
"""For mistakes that other members make up for."""
TOGETHER = (3, 5)
"""For mistakes that take other members to show."""

STORM = Profile(
    {
        "crash in an election": 30,
        "crash behind a cut": 30,
        "isolation of the leader": 30,
        "cut in an election": 20,
        "crash of the leader": 20,
    },
    pace_seconds=0.3,
)
"""Leaders come and go, and logs diverge."""
BROKEN_LINKS = Profile(
    {"broken link": 40, "isolation of the leader": 20, "one-way cut": 20, "slow network": 10},
    pace_seconds=0.3,
    mend_seconds=0.5,
    more=("write_plainly",) * 6,
)
"""Commands get lost on their way to a leader that stays."""
OLD_LEADERS = Profile(
    {"isolation of the leader": 40, "pause of the leader": 40},
    pace_seconds=0.5,
    mend_seconds=2.0,
    more=("lock",) * 6 + ("read",) * 3,
)
"""Somebody takes itself for the leader, and is not."""
LATE_RENEWALS = Profile(
    {"isolation of the leader": 30, "pause of the leader": 30},
    pace_seconds=1.0,
    mend_seconds=4.0,
    more=("lock",) * 8,
)
"""Somebody takes itself for the leader, and stays away until leases have ended."""
SLOW_NETWORKS = Profile({"slow network": 50}, pace_seconds=1.0, more=("read",) * 6 + ("write",) * 4)
"""Much happens while an answer is under way."""
LAGGARDS = Profile({"isolation": 40}, pace_seconds=1.0, mend_seconds=4.0, snapshot_count=100)
"""Members fall behind until they need a snapshot."""
RESTARTS = Profile({"slow disk": 60, "crash": 40, "kill": 20}, pace_seconds=0.3, more=("read",) * 4)
"""A member starts again, and its disk takes its time."""
SLOW_DATABASES = Profile({"slow disk": 60, "crash": 20, "kill": 20}, 0.5, snapshot_count=100)
"""The database of a member that starts again is far behind its log."""
FAILED_SYNCS = Profile({"failed sync": 40, "crash": 40}, pace_seconds=0.5)
"""What a sync has left in the cache alone is gone with the power."""
WIPED_DISKS = Profile({"wiped disk": 40, "crash": 10}, pace_seconds=1.0)
"""Members come back without what they have promised."""

MUTANTS: dict[str, Mutant] = {
    # Durability.
    "acknowledge before sync": Mutant(DelayedLog, "submit", disks.acknowledge_before_sync),
    "vote not persisted": Mutant(DelayedLog, "submit", disks.forget_the_vote, TOGETHER),
    "promise before the sync": Mutant(Replica, "turn", consensus.promise_before_the_sync, TOGETHER),
    "lose rows": Mutant(WriteBehind, "add", disks.lose_rows),
    "index too high": Mutant(Persistence, "_hand_over", disks.store_the_index_too_high),
    "log cut above the database": Mutant(
        Persistence, "_cut", disks.cut_above_the_database, profile=SLOW_DATABASES
    ),
    "trust the cache": Mutant(SegmentedLog, "repair", disks.trust_the_cache, ALONE, FAILED_SYNCS),
    "snapshot without requests": Mutant(
        MemoryStateStore, "dump", disks.leave_requests_out, TOGETHER
    ),
    # Consensus.
    "commit an old term by counting": Mutant(
        RaftLog, "maybe_commit", consensus.commit_old_terms_by_counting, TOGETHER, STORM
    ),
    "truncate with every append": Mutant(
        RaftLog, "maybe_append", consensus.truncate_with_every_append, TOGETHER
    ),
    "truncate below commit": Mutant(
        follower, "handle_append", consensus.truncate_below_commit, TOGETHER
    ),
    "commit what was not compared": Mutant(
        leader, "broadcast_heartbeat", consensus.commit_what_was_not_compared, TOGETHER
    ),
    "vote for any log": Mutant(
        RaftLog, "is_up_to_date", consensus.vote_for_any_log, TOGETHER, STORM
    ),
    "commit without a quorum": Mutant(
        ProgressTracker, "committed", consensus.commit_without_a_quorum, TOGETHER, STORM
    ),
    # Between members.
    "resend without an id": Mutant(
        Forwarding, "_in_doubt", members.resend_without_an_id, TOGETHER, BROKEN_LINKS
    ),
    "deny what is in doubt": Mutant(
        Forwarding, "_in_doubt", members.deny_what_is_in_doubt, TOGETHER, BROKEN_LINKS
    ),
    "renew without a quorum": Mutant(
        Keepalive, "_here", members.renew_without_a_quorum, TOGETHER, LATE_RENEWALS
    ),
    "watches skip a snapshot": Mutant(
        WatchHub, "reset", members.leave_watches_where_they_are, TOGETHER, LAGGARDS
    ),
    "wiped member admitted": Mutant(Peers, "admit", members.admit_anybody, TOGETHER, WIPED_DISKS),
    # Reads and watches.
    "stale read after deposition": Mutant(
        Replica, "_start_round", reads.read_without_a_quorum, TOGETHER, OLD_LEADERS
    ),
    "read joins an old round": Mutant(
        Replica, "read", reads.join_an_old_round, TOGETHER, SLOW_NETWORKS
    ),
    "read before the first commit": Mutant(
        Replica, "turn", reads.read_before_the_first_commit, ALONE, RESTARTS
    ),
    "read without waiting": Mutant(Replica, "read", reads.read_without_waiting),
    "skip events": Mutant(WatchHub, "publish", reads.skip_events),
    "drop questions": Mutant(Feeding, "catch_up", reads.drop_questions),
    # State.
    "forget outcomes": Mutant(RequestTable, "find", state.forget_outcomes),
    "lose outcomes at restart": Mutant(RequestTable, "_take_in", state.lose_outcomes_at_restart),
    "forget the chain": Mutant(Machine, "load_meta", state.forget_timers_at_restart),
    "end leases early": Mutant(LeaderClock, "granted", state.end_leases_early),
    "revive leases": Mutant(LeaderClock, "renew", state.revive_leases, profile=OLD_LEADERS),
    "new leader keeps deadlines": Mutant(
        LeaderClock, "take_office", state.keep_deadlines_of_the_last_leader
    ),
    "waiter granted twice": Mutant(TicketQueue, "_forget", state.leave_the_waiter_in_the_queue),
    "serve the last first": Mutant(EntryTxn, "scan", state.serve_the_last_first),
    "pass every guard": Mutant(tickets, "check_guard", state.pass_every_guard),
}


@contextmanager
def planted(name: str) -> Iterator[None]:
    """Plant one mistake."""
    mutant = MUTANTS[name]
    original = getattr(mutant.owner, mutant.name)
    owners = [mutant.owner]
    if mutant.owner is tickets:
        # Those who imported it have their own name for it.
        from coordinator.domains.topics import commands as topics

        owners += [commands, topics]
    for each in owners:
        setattr(each, mutant.name, mutant.make(original))
    try:
        yield
    finally:
        for each in owners:
            setattr(each, mutant.name, original)
