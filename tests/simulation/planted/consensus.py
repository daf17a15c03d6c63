"""Mistakes in the consensus: the classic ones."""

from __future__ import annotations

from typing import Any

from coordinator.raft.core import Raft
from coordinator.raft.log import RaftLog
from coordinator.raft.tracker import ProgressTracker
from coordinator.replica.replica import Replica
from coordinator.wire.raft import Entry, Message, MessageType


def commit_old_terms_by_counting(maybe_commit: Any) -> Any:
    """An entry of an earlier term is committed because a quorum has it (figure 3.7)."""

    def mutant(self: RaftLog, index: int, term: int) -> bool:
        if index <= self.committed:
            return False
        self.commit_to(index)
        return True

    return mutant


def truncate_with_every_append(maybe_append: Any) -> Any:
    """What a leader sends replaces all that follows, even if it comes late or twice."""

    def mutant(
        self: RaftLog, prev_index: int, prev_term: int, entries: list[Entry], committed: int
    ) -> int | None:
        if not self.match_term(prev_index, prev_term):
            return None
        last_new = prev_index + len(entries)
        if entries and prev_index >= self.committed:
            self.append(entries)
        if committed > self.committed:
            self.commit_to(min(committed, last_new))
        return last_new

    return mutant


def truncate_below_commit(handle_append: Any) -> Any:
    """Entries that come late replace what follows them, though it is committed."""

    def mutant(raft: Raft, message: Message) -> None:
        log, index = raft.log, message.index
        if (
            index >= log.committed
            or not message.entries
            or not log.match_term(index, message.log_term)
        ):
            handle_append(raft, message)
            return
        log.committed = index
        last = log.append(message.entries)
        raft.send(Message(MessageType.MSG_APP_RESP, message.from_, index=last))

    return mutant


def commit_what_was_not_compared(broadcast_heartbeat: Any) -> Any:
    """Heartbeats carry the leader's commit index also to those who may not have as much."""

    def mutant(raft: Raft) -> None:
        before = {member: its.match for member, its in raft.tracker.progress.items()}
        for its in raft.tracker.progress.values():
            its.match = max(its.match, raft.log.committed)
        broadcast_heartbeat(raft)
        for member, its in raft.tracker.progress.items():
            its.match = before[member]

    return mutant


def vote_for_any_log(is_up_to_date: Any) -> Any:
    """A vote is given without a look at the candidate's log."""
    return lambda self, index, term: True


def commit_without_a_quorum(committed: Any) -> Any:
    """One member less than a quorum is enough to commit."""

    def mutant(self: ProgressTracker) -> int:
        found = sorted(self.progress[voter].match for voter in self.config.voters)
        return found[min(len(found) // 2 + 1, len(found) - 1)]

    return mutant


def promise_before_the_sync(turn: Any) -> Any:
    """Votes and acknowledgements leave before what they promise is durable."""

    def mutant(self: Replica, *, hold: bool = False) -> Any:
        effects = turn(self, hold=hold)
        for append in effects.appends:
            early = [message for message in append.responses if message.to != self.raw.id]
            append.responses = [each for each in append.responses if each.to == self.raw.id]
            effects.messages += early
        return effects

    return mutant
