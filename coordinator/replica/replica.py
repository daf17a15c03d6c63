"""A whole member without its disk, network and clock.

The caller owns the order of things; each call is cheap and none blocks:

1. ``tick`` now and then with the time, ``step`` what peers sent, ``propose`` and ``read``
   what users want.
2. ``turn``: take the effects. Make every `Append` durable, in order, and only then report it
   with ``persisted``; send the messages.
3. ``apply`` until it says that nothing is left.

Callbacks given to ``propose`` and ``read`` run inside ``apply``, ``turn`` or ``step``, once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, Final

import msgspec

from coordinator.raft import LOCAL_APPEND, LOCAL_APPLY, RawNode, hard_state_of
from coordinator.raft.errors import ProposalDropped, StepPeerNotFound
from coordinator.replica import membership
from coordinator.replica.deadlines import LeaderClock
from coordinator.replica.effects import (
    PROMISES_NOTHING,
    Append,
    Effects,
    Proposal,
    Read,
    ReadDone,
    dropped,
    envelope_of,
    no_leader,
    superseded,
)
from coordinator.replica.machine import Applied, Machine
from coordinator.replica.requests import Outcome
from coordinator.wire.raft import (
    Entry,
    EntryType,
    Message,
    decode_conf_change,
)
from coordinator_sdk.errors import (
    CoordinatorError,
    Exhausted,
    NotApplied,
    OutcomeUnknown,
    Unavailable,
)

if TYPE_CHECKING:
    from coordinator.replica.log import ReplicaLog
    from coordinator_sdk.protocol.kv import Event

QUEUE_MAX: Final = 65_536
"""Proposals that may wait for the next turn."""
ROUND_RETRY_MS: Final = 150
"""When the question for a read index, or its answer, counts as lost: it is asked anew."""


class Replica:
    """One member's consensus and state machine.

    Args:
        raw: The consensus core, with asynchronous storage writes, over ``log``.
        log: The entries in memory that are durable; written by ``persisted`` only.
        machine: The state machine, at the index where ``raw`` starts to apply.
        incarnation: Differs between runs of this member; makes read contexts unique.
        patience_ms: How long reads wait for a leader, and proposals for a quorum.
        on_events: Called with (revision, events) of each applied entry that changed a key,
            before its proposer is told.
    """

    def __init__(
        self,
        raw: RawNode,
        log: ReplicaLog,
        machine: Machine,
        *,
        incarnation: int,
        patience_ms: int = 5000,
        on_events: Callable[[int, list[tuple[int, Event]]], None],
    ) -> None:
        self.raw = raw
        self.log = log
        log.machine = machine
        self.machine = machine
        self.clock = LeaderClock(machine)
        self.now_ms = 0
        self.wall_ms = 0
        self._on_events = on_events
        self._patience_ms = patience_ms
        self._queue: list[Proposal] = []
        self._in_flight: dict[int, Proposal] = {}
        self._reads: list[Read] = []
        self._round_context = b""
        self._round_reads: list[Read] = []
        self._awaiting_apply: deque[tuple[int, ReadDone, int]] = deque()
        # Takes proposals in doubt that are refused: only their request id tells what is true.
        self.ask_again: Callable[[Proposal], None] | None = None
        self._context = incarnation.to_bytes(8, "big") + raw.id.to_bytes(8, "big")
        self._round = 0
        self._knows_commit_of = 0
        self._applied_term = machine.term
        self._voted = (0, 0)
        self._unsynced: Append | None = None
        self._round_started_ms = 0
        self._committed: deque[tuple[list[Entry], list[Message]]] = deque()
        self._entries: list[Entry] = []
        self._position = 0
        self._after_apply: list[Message] = []
        self._steps: Generator[None, None, Applied] | None = None
        self._outgoing: list[Message] = []
        self.is_leader = False

    # What goes in.

    def set_time(self, now_ms: int, wall_ms: int) -> None:
        """Tell the time; to be done before every ``tick`` and ``turn``.

        Args:
            now_ms: Monotonic time; leases and timers are measured with it.
            wall_ms: Unix time; only stamped on commands.
        """
        self.now_ms, self.wall_ms = now_ms, wall_ms
        self.clock.set_time(now_ms)

    def tick(self) -> None:
        """Let one tick pass."""
        self.raw.tick()
        if self.is_leader:
            self.clock.collect(self.now_ms, self.raw.term, self.propose_internal)
        self._give_up_late()

    def _give_up_late(self) -> None:
        """Answer those who have waited long enough."""
        oldest_ms = self.now_ms - self._patience_ms
        if self._round_reads and self._round_reads[0].since_ms < oldest_ms:
            self._reads, self._round_reads = self._round_reads + self._reads, []
        while self._reads and self._reads[0].since_ms < oldest_ms:
            self._reads.pop(0).done(no_leader())
        if self._steps is None and not self.has_committed:
            # What these wait for is committed, but it does not come.
            waiting = self._awaiting_apply
            while waiting and waiting[0][2] < oldest_ms:
                waiting.popleft()[1](Unavailable("this member lags behind the others; try again"))
        # In about the order in which they came; a request id gets its outcome however late.
        for index, proposal in list(self._in_flight.items()):
            if proposal.since_ms >= oldest_ms:
                break
            if not proposal.client:
                del self._in_flight[index]
                self.refuse(proposal, OutcomeUnknown("etcdserver: request timed out"))

    def propose(self, proposal: Proposal) -> None:
        """Queue a command for the next turn; its ``done`` is called when it is decided."""
        if not self.raw.is_leader:
            self.refuse(proposal, no_leader(), is_final=False)
        elif len(self._queue) >= QUEUE_MAX:
            self.refuse(proposal, Exhausted("too many requests", limit="proposals"))
        else:
            proposal.since_ms = self.now_ms
            self._queue.append(proposal)

    def expect(self, proposal: Proposal, index: int, term: int) -> bool:
        """Wait for a command that the leader has proposed for this member.

        Args:
            proposal: The command.
            index: Where its entry is, if it is committed.
            term: Term of that entry; any other there means that the command was not applied.

        Returns:
            False if it is too late: what has become of the command can't be told from here.
        """
        known = self._in_flight.get(index)
        if index <= self.machine.index or (known is not None and known.term >= term):
            return False
        if term < self.machine.term:
            # It is too late for an entry of that term: a later one has been committed before it.
            self.refuse(proposal, superseded())
            return True
        if known is not None:
            # Another leader has put something else there, so its entry can't be committed.
            self.refuse(known, superseded())
        proposal.term = term
        self._in_flight[index] = proposal
        return True

    def propose_internal(self, body: Any, cause: str) -> None:
        """Queue a command of the member's own; nobody is told what becomes of it."""
        if len(self._queue) < QUEUE_MAX:  # Else it comes due again.
            self._queue.append(Proposal(body, None, cause=cause, since_ms=self.now_ms))

    def refuse(self, proposal: Proposal, error: CoordinatorError, *, is_final: bool = True) -> None:
        """Tell whoever waits for a proposal that it will not be applied, or what is known of it.

        Args:
            proposal: The command.
            error: Why.
            is_final: Whether another leader would say the same.
        """
        if proposal.placed is not None:
            proposal.placed(0, 0, error if is_final else None)
            return  # The member that waits for it knows what to do.
        if proposal.in_doubt and isinstance(error, NotApplied):
            # This try was not applied, but an earlier one may have been.
            if self.ask_again is not None and isinstance(error, (Unavailable, Exhausted)):
                self.ask_again(proposal)
                return
            error = OutcomeUnknown(f"an earlier try may have been applied; now: {error.message}")
        if proposal.done is not None:
            revision = self.machine.keyspace.revision
            proposal.done(Outcome(revision, None, (error.code, error.message, error.details)))

    def read(self, done: ReadDone, *, applied: bool = True) -> None:
        """Ask for a point in time from which reading the local state is linearizable.

        Args:
            done: Called with None at that point, or with the error that prevents it.
            applied: Whether the state must have caught up with it; False to learn only that
                a leader that still led after this call has answered.
        """
        self._reads.append(Read(applied, self.now_ms, done))

    def step(self, message: Message) -> None:
        """Take in a message from a peer."""
        self.raw.step(message)

    # What comes out.

    def turn(self, *, hold: bool = False) -> Effects:
        """Propose what is queued, ask for what is to be read, and give what is to be done.

        Args:
            hold: Leave what is queued in the queue, because something behind can't keep up.
        """
        if self._queue and not hold:
            self._propose_queued()
        if (self._reads or self._round_reads) and self._may_read():
            self._start_round()
        effects = Effects([], self._outgoing)
        self._outgoing = []
        raw = self.raw
        more = raw.has_ready()
        while more:
            ready = raw.ready()
            if ready.soft_state is not None:
                self._note_role()
            promises: list[Message] = []
            for message in ready.messages:
                if message.to == LOCAL_APPEND:
                    effects.appends.append(self._append_of(message, must_sync=ready.must_sync))
                elif message.to == LOCAL_APPLY:
                    self._committed.append((message.entries, message.responses))
                elif message.type in PROMISES_NOTHING:
                    effects.messages.append(message)
                else:
                    promises.append(message)
            if promises:
                # Nothing is said in a term, or about a vote, that a crash would make us forget.
                held = self._unsynced
                (effects.messages if held is None else held.responses).extend(promises)
            for state in ready.read_states:
                self._confirm_round(state.index, state.context)
            if ready.read_states and self._reads and not self._round_reads and self._may_read():
                self._start_round()
            # It has taken along all there was, but for committed entries, if they are too many:
            # the others come once these are applied.
            more = bool(ready.read_states) and raw.has_ready()
        return effects

    def _append_of(self, message: Message, *, must_sync: bool) -> Append:
        hard_state = hard_state_of(message)
        append = Append(message.entries, hard_state, message.snapshot, must_sync, message.responses)
        if hard_state is not None and (hard_state.term, hard_state.vote) != self._voted:
            self._voted = (hard_state.term, hard_state.vote)
            self._unsynced = append
        return append

    def _propose_queued(self) -> None:
        proposals, self._queue = self._queue, []
        changes = [each for each in proposals if type(each.body) in membership.CHANGES]
        if changes:
            proposals = [each for each in proposals if type(each.body) not in membership.CHANGES]
            self._propose_change(changes)
        if not proposals:
            return
        encode = self.encode
        payloads = [encode(proposal) for proposal in proposals]
        first = self.raw.last_index + 1
        try:
            self.raw.propose(payloads)
        except ProposalDropped:
            for proposal in proposals:
                self.refuse(proposal, dropped(), is_final=False)
        else:
            self._note_in_flight(proposals, first)

    def _propose_change(self, changes: list[Proposal]) -> None:
        """Propose one change of the members; the others wait until it has been applied."""
        raw = self.raw
        if raw.is_leader and raw.raft.pending_conf_index > raw.applied:
            self._queue += changes
            return
        self._queue += changes[1:]
        change = msgspec.structs.replace(
            membership.conf_change_of(changes[0].body), context=self.encode(changes[0])
        )
        first = raw.last_index + 1
        try:
            raw.propose_conf_change(change)
        except ProposalDropped:
            self.refuse(changes[0], dropped(), is_final=False)
        else:
            self._note_in_flight(changes[:1], first)

    def encode(self, proposal: Proposal) -> bytes:
        """Give the payload of a proposal's entry, stamped with the time."""
        machine = self.machine
        clock_ms = max(self.wall_ms, machine.clock_ms)
        return machine.codec.encode(envelope_of(proposal, clock_ms))

    def _note_in_flight(self, proposals: list[Proposal], first: int) -> None:
        term = self.raw.term
        for index, proposal in enumerate(proposals, first):
            proposal.term = term
            if proposal.placed is not None:
                proposal.placed(index, term, None)
            if proposal.done is not None:
                self._in_flight[index] = proposal

    def _may_read(self) -> bool:
        """Let reads wait while a new leader does not know yet what was committed before it.

        The core lets them wait only where there are other voters. But a leader without others
        does not know either: after a crash its log may hold more that was acknowledged than the
        commit index on disk tells.
        """
        term = self.raw.term
        if self._knows_commit_of != term and self.raw.is_leader:
            if not self.raw.raft.committed_in_term():
                return False
            self._knows_commit_of = term
        return True

    def _start_round(self) -> None:
        """One round for all reads that have arrived; it starts after each of them.

        While one is under way the others gather. It may have got lost on its way to the leader
        and back: then they all go into a new one.
        """
        if self._round_reads and self.now_ms - self._round_started_ms < ROUND_RETRY_MS:
            return
        if self.raw.lead == 0:
            return
        self._round += 1
        self._round_context = self._context + self._round.to_bytes(8, "big")
        self._round_reads, self._reads = self._round_reads + self._reads, []
        self._round_started_ms = self.now_ms
        self.raw.read_index(self._round_context)

    def _confirm_round(self, index: int, context: bytes) -> None:
        if context != self._round_context:
            return
        confirmed, self._round_reads = self._round_reads, []
        for read in confirmed:
            if not read.applied or self.machine.index >= index:
                read.done(None)
            else:
                self._awaiting_apply.append((index, read.done, read.since_ms))

    def _note_role(self) -> None:
        leads = self.raw.is_leader
        if leads and not self.is_leader:
            self.clock.take_office(self.now_ms)
        elif self.is_leader and not leads:
            self.clock.leave_office()
        self.is_leader = leads
        # Whoever led then may not know of the round any more.
        self._round_started_ms = self.now_ms - ROUND_RETRY_MS

    def persisted(self, append: Append) -> None:
        """Tell that an append is durable. In the order in which they were given."""
        if append.snapshot is not None:
            self.log.apply_snapshot(append.snapshot)
        if append.entries:
            self.log.append(append.entries)
        if append.hard_state is not None:
            self.log.set_hard_state(append.hard_state)
        if append is self._unsynced:
            self._unsynced = None
        raw = self.raw
        for message in append.responses:
            if message.to != raw.id:
                self._outgoing.append(message)
                continue
            try:
                raw.step(message)
            except StepPeerNotFound:
                pass  # What was written since this member was removed is no longer counted.

    @property
    def has_work(self) -> bool:
        """Whether a turn would do anything."""
        return bool(self._queue or self._outgoing) or self.raw.has_ready()

    # Applying.

    @property
    def has_committed(self) -> bool:
        """Whether there is something to apply."""
        return bool(self._committed or self._entries)

    def apply(self, entries_max: int = 64) -> bool:
        """Apply up to ``entries_max`` entries, or one slice of a large one.

        Returns:
            Whether more is left.
        """
        if self._steps is not None:
            return self._go_on()
        if not self._entries:
            if not self._committed:
                return False
            self._entries, self._after_apply = self._committed.popleft()
            self._position = 0
        end = min(self._position + entries_max, len(self._entries))
        while self._position < end:
            if not self._apply_entry(self._entries[self._position]):
                return True
            self._position += 1
        if self._position == len(self._entries):
            self._entries = []
            for message in self._after_apply:
                self.raw.step(message)
        return self.has_committed

    def _go_on(self) -> bool:
        assert self._steps is not None
        try:
            next(self._steps)
        except StopIteration as stop:
            self._steps = None
            self._applied(self._entries[self._position], stop.value)
            self._position += 1
            if self._position == len(self._entries):
                self._entries = []
                for message in self._after_apply:
                    self.raw.step(message)
        return self._steps is not None or self.has_committed

    def _apply_entry(self, entry: Entry) -> bool:
        """Apply one entry; False if it goes on in slices."""
        if entry.type != EntryType.NORMAL:
            change = decode_conf_change(entry)
            assert change is not None
            decision = membership.decide(self.machine, change)
            state = self.raw.apply_conf_change(decision.change)
            self._applied(entry, self.machine.apply_conf_change(entry, decision, state))
            return True
        applied = self.machine.apply(entry)
        if type(applied) is not Applied:
            assert isinstance(applied, Generator)
            self._steps = applied
            return False
        self._applied(entry, applied)
        return True

    def _applied(self, entry: Entry, applied: Applied) -> None:
        if entry.term != self._applied_term:
            self._applied_term = entry.term
            self._refuse_superseded(entry)
        if applied.events:
            self._on_events(self.machine.keyspace.revision, applied.events)
        if self._in_flight:
            proposal = self._in_flight.pop(entry.index, None)
            if proposal is not None:
                self._answer(proposal, entry, applied)
        waiting = self._awaiting_apply
        while waiting and waiting[0][0] <= entry.index:
            waiting.popleft()[1](None)

    def _answer(self, proposal: Proposal, entry: Entry, applied: Applied) -> None:
        if proposal.done is None:
            return
        if proposal.term == entry.term and applied.outcome is not None:
            proposal.done(applied.outcome)
        else:
            self.refuse(proposal, superseded())

    def _refuse_superseded(self, entry: Entry) -> None:
        """Nothing of an earlier term can be committed behind the first entry of a later one."""
        in_flight = self._in_flight
        for index in [i for i, each in in_flight.items() if i > entry.index]:
            if in_flight[index].term < entry.term:
                self.refuse(in_flight.pop(index), superseded())
