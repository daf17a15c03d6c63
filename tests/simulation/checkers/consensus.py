"""Leaders and logs: one leader per term, matching logs, and leaders that lack nothing committed.

These are followed while the run goes on: what a log held is gone later.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from coordinator.raft import RawNode
from coordinator.raft.errors import Compacted, StorageError
from coordinator.replica.replica import Replica
from coordinator.wire.raft import Entry, Message

Stored = tuple[int, int, bytes]
"""Term of the entry before, type and data."""


@dataclass
class Consensus:
    """What the members' logs and leaders have been so far.

    Attributes:
        leaders: The leader of each term.
        entries: By (index, term), the entry that some member has stored there.
        wiped: Members that have lost their disk.
        committed: By index, the term of the entry and the data, as first applied by anybody.
    """

    violate: Callable[[str], None]
    note: Callable[[str], None]
    leaders: dict[int, int] = field(default_factory=dict)
    entries: dict[tuple[int, int], Stored] = field(default_factory=dict)
    committed: dict[int, tuple[int, bytes]] = field(default_factory=dict)
    wiped: dict[int, None] = field(default_factory=dict)
    votes: dict[int, tuple[int, int]] = field(default_factory=dict)
    """By member, the last term in which it voted for another one, and for whom."""
    _counted: dict[int, tuple[int, int]] = field(default_factory=dict)
    """By leader, its term and how far it has committed."""
    _seen_in_term: list[tuple[int, int]] = field(default_factory=list)
    """(term of whoever applied it first, index); both rise."""

    def elected(self, replica: Replica) -> None:
        """Somebody leads: nobody else may in this term, and it lacks nothing committed before."""
        raw = replica.raw
        self.note(f"{raw.id:x} leads in term {raw.term}")
        other = self.leaders.setdefault(raw.term, raw.id)
        if other != raw.id:
            self.violate(f"{raw.id:x} and {other:x} both lead in term {raw.term}")
        self._counted[raw.id] = (raw.term, raw.committed)
        for term, index in reversed(self._seen_in_term):
            # Whoever applied it stood in a lower term: it was committed before this election.
            if term < raw.term:
                self._require(replica, index)
                return

    def _require(self, replica: Replica, index: int) -> None:
        raw = replica.raw
        if index <= replica.machine.index:
            return  # Applied, and compared by the chain.
        try:
            term = raw.raft.log.term(index)
        except Compacted:
            return
        except StorageError:
            term = 0
        if term != self.committed[index][0]:
            self.violate(
                f"{raw.id:x} leads in term {raw.term} without entry {index} of term "
                f"{self.committed[index][0]}, which had been committed (there: {term})"
            )

    def led(self, replica: Replica) -> None:
        """A leader may have committed something: by counting, only entries of its own term."""
        raw = replica.raw
        term, index = self._counted.get(raw.id, (0, 0))
        committed = raw.committed
        if term == raw.term and committed > index:
            self._counted[raw.id] = (term, committed)
            found = raw.raft.log.term_or_zero(committed)
            if found not in (0, term):
                self.violate(
                    f"{raw.id:x} committed entry {committed} of term {found} by counting, as "
                    f"leader of term {term}"
                )

    def voted(self, message: Message) -> None:
        """A vote leaves a member: it is the only one in its term, for good."""
        known = self.votes.get(message.from_)
        if known is not None and known[0] == message.term and known[1] != message.to:
            self.violate(
                f"{message.from_:x} voted for {known[1]:x} and {message.to:x} in {message.term}"
            )
        if known is None or known[0] < message.term:
            self.votes[message.from_] = (message.term, message.to)

    def begun(self, raw: RawNode) -> None:
        """A member has started: it knows whom it has voted for."""
        term, candidate = self.votes.get(raw.id, (0, 0))
        if raw.id in self.wiped:
            return  # It does not, and must not get to vote.
        if raw.term < term or (raw.term == term and raw.raft.vote != candidate):
            self.violate(
                f"{raw.id:x} started in term {raw.term} with vote {raw.raft.vote:x}, but had "
                f"voted for {candidate:x} in term {term}"
            )

    def stored(self, replica: Replica, entries: Sequence[Entry]) -> None:
        """A member has made entries durable: logs that agree on one agree on all before it."""
        log = replica.log
        before = -1
        for entry in entries:
            if before < 0 and entry.index > log.first_index() - 1:
                before = log.term(entry.index - 1)
            if before < 0:
                continue
            stored = (before, int(entry.type), entry.data)
            known = self.entries.setdefault((entry.index, entry.term), stored)
            if known != stored:
                self.violate(
                    f"{replica.raw.id:x} stored another entry {entry.index} of term {entry.term}"
                )
            committed = self.committed.get(entry.index)
            if committed is not None and committed[0] > entry.term:
                self._overwritten(replica, entry, committed[0])
            before = entry.term

    def _overwritten(self, replica: Replica, entry: Entry, term: int) -> None:
        """Storing an older entry where a newer one is committed is fine for a member that lags."""
        if replica.machine.index >= entry.index:
            self.violate(
                f"{replica.raw.id:x} truncated entry {entry.index} of term {term}, which it had "
                f"applied, for one of term {entry.term}"
            )

    def applied(self, replica: Replica, entry: Entry) -> None:
        """A member has applied an entry: all apply the same at the same place."""
        fact = (entry.term, entry.data)
        known = self.committed.get(entry.index)
        if known is None:
            self.committed[entry.index] = fact
            term = replica.raw.term
            if not self._seen_in_term or self._seen_in_term[-1][0] <= term:
                seen = (term, entry.index)
                if self._seen_in_term and self._seen_in_term[-1][0] == term:
                    self._seen_in_term[-1] = seen
                else:
                    self._seen_in_term.append(seen)
        elif known != fact:
            self.violate(
                f"{replica.raw.id:x} applied another entry {entry.index}: of term {entry.term}, "
                f"not {known[0]}"
            )
