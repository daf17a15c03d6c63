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
from tests.simulation.planted import consensus, disks, members, reads, state


@dataclass(frozen=True)
class Mutant:
    """One mistake.

    Attributes:
        owner: Class or module that holds the function to be replaced.
        name: Its name there.
        make: Gives the wrong function, from the right one.
        sizes: Clusters of which sizes can show it; seeds of others are passed over.
    """

    owner: Any
    name: str
    make: Callable[[Any], Any]
    sizes: tuple[int, ...] = (1, 3, 5)


ALONE = (1,)
"""For mistakes that other members make up for."""
TOGETHER = (3, 5)
"""For mistakes that take other members to show."""

MUTANTS: dict[str, Mutant] = {
    # Durability.
    "acknowledge before sync": Mutant(DelayedLog, "submit", disks.acknowledge_before_sync),
    "vote not persisted": Mutant(DelayedLog, "submit", disks.forget_the_vote, TOGETHER),
    "promise before the sync": Mutant(Replica, "turn", consensus.promise_before_the_sync, TOGETHER),
    "lose rows": Mutant(WriteBehind, "add", disks.lose_rows),
    "index too high": Mutant(Persistence, "_hand_over", disks.store_the_index_too_high),
    "log cut above the database": Mutant(Persistence, "_cut", disks.cut_above_the_database),
    "trust the cache": Mutant(SegmentedLog, "repair", disks.trust_the_cache, ALONE),
    "snapshot without requests": Mutant(
        MemoryStateStore, "dump", disks.leave_requests_out, TOGETHER
    ),
    # Consensus.
    "commit an old term by counting": Mutant(
        RaftLog, "maybe_commit", consensus.commit_old_terms_by_counting, TOGETHER
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
    "vote for any log": Mutant(RaftLog, "is_up_to_date", consensus.vote_for_any_log, TOGETHER),
    "commit without a quorum": Mutant(
        ProgressTracker, "committed", consensus.commit_without_a_quorum, TOGETHER
    ),
    # Between members.
    "resend without an id": Mutant(Forwarding, "_in_doubt", members.resend_without_an_id, TOGETHER),
    "deny what is in doubt": Mutant(
        Forwarding, "_in_doubt", members.deny_what_is_in_doubt, TOGETHER
    ),
    "renew without a quorum": Mutant(Keepalive, "_here", members.renew_without_a_quorum, TOGETHER),
    "watches skip a snapshot": Mutant(
        WatchHub, "reset", members.leave_watches_where_they_are, TOGETHER
    ),
    "wiped member admitted": Mutant(Peers, "admit", members.admit_anybody, TOGETHER),
    # Reads and watches.
    "stale read after deposition": Mutant(
        Replica, "_start_round", reads.read_without_a_quorum, TOGETHER
    ),
    "read joins an old round": Mutant(Replica, "read", reads.join_an_old_round, TOGETHER),
    "read before the first commit": Mutant(
        Replica, "_may_read", reads.read_before_the_first_commit, ALONE
    ),
    "read without waiting": Mutant(Replica, "read", reads.read_without_waiting),
    "skip events": Mutant(WatchHub, "publish", reads.skip_events),
    "drop questions": Mutant(Feeding, "catch_up", reads.drop_questions),
    # State.
    "forget outcomes": Mutant(RequestTable, "find", state.forget_outcomes),
    "lose outcomes at restart": Mutant(RequestTable, "_take_in", state.lose_outcomes_at_restart),
    "forget the chain": Mutant(Machine, "load_meta", state.forget_timers_at_restart),
    "end leases early": Mutant(LeaderClock, "granted", state.end_leases_early),
    "revive leases": Mutant(LeaderClock, "renew", state.revive_leases),
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
