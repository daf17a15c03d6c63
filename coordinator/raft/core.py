"""The state of one member, its transitions between roles, and the gate every message passes.

What a role does with a message stands in the file of that role; `dispatch` puts the handlers into
one table, by role and message type. Here is what they share: sending, appending, the timers, and
the rule that a higher term always wins (Raft thesis §3.3).
"""

from collections.abc import Callable, Sequence

from coordinator.raft.config import Config
from coordinator.raft.errors import InvariantBroken, ProposalDropped
from coordinator.raft.log import RaftLog
from coordinator.raft.messages import (
    IS_FROM_LEADER,
    IS_TERMLESS,
    IS_VOTE,
    NO_LIMIT,
    NO_ONE,
    TRANSFER_CONTEXT,
    WAITS_FOR_APPEND,
    payloads_size,
)
from coordinator.raft.progress import Progress
from coordinator.raft.read_index import ReadOnly
from coordinator.raft.ready import ReadState, SoftState, StateType
from coordinator.raft.tracker import ProgressTracker
from coordinator.wire.raft import (
    Entry,
    HardState,
    Message,
    MessageType,
    Snapshot,
    conf_change_entry,
)

Handler = Callable[["Raft", Message], None]
HandlerTable = tuple[tuple[Handler | None, ...], ...]
"""By `StateType`, then by `MessageType`: what to do, or None to ignore the message."""

FOLLOWER = StateType.FOLLOWER
CANDIDATE = StateType.CANDIDATE
LEADER = StateType.LEADER
PRE_CANDIDATE = StateType.PRE_CANDIDATE

MSG_APP_RESP = MessageType.MSG_APP_RESP


class Raft:
    """One member of a group. Built by `dispatch.start`, driven by `RawNode`."""

    __slots__ = (
        "_row",
        "_table",
        "check_quorum",
        "config",
        "election_elapsed",
        "election_timeout",
        "heartbeat_elapsed",
        "id",
        "is_learner",
        "lead",
        "lead_transferee",
        "log",
        "logger",
        "max_msg_size",
        "max_uncommitted_size",
        "msgs",
        "msgs_after_append",
        "pending_conf_index",
        "pending_reads",
        "randomized_election_timeout",
        "read_only",
        "read_states",
        "state",
        "term",
        "tracker",
        "uncommitted_size",
        "vote",
    )

    def __init__(self, config: Config, table: HandlerTable) -> None:
        """Start as a follower that knows its log and nobody else; `dispatch.start` does the rest.

        Args:
            config: The settings, already validated.
            table: What to do with each message in each role.
        """
        self._table = table
        self._row = table[FOLLOWER]
        self.config = config
        self.id = config.id
        self.logger = config.logger
        # At least 1: zero would hand out nothing, one hands out one entry at a time.
        self.log = RaftLog(
            config.storage, config.max_committed_size_per_ready or config.max_size_per_msg or 1
        )
        self.tracker = ProgressTracker(config.max_inflight_msgs, config.max_inflight_bytes)
        self.state = FOLLOWER
        self.term = 0
        self.vote = NO_ONE
        self.lead = NO_ONE
        self.is_learner = False
        self.check_quorum = config.check_quorum
        self.max_msg_size = config.max_size_per_msg
        self.max_uncommitted_size = config.max_uncommitted_size or NO_LIMIT

        # Ticks since the last election timeout of a leader or candidate, or since a follower
        # heard from its leader; and since the last heartbeat of a leader.
        self.election_elapsed = 0
        self.heartbeat_elapsed = 0
        self.election_timeout = config.election_tick
        self.randomized_election_timeout = 0

        # What may leave at once, and what has to wait until everything handed out for storage
        # so far, and everything that will be with it, is durable. Only the latter may be for
        # this member itself.
        self.msgs: list[Message] = []
        self.msgs_after_append: list[Message] = []
        self.read_states: list[ReadState] = []

        # Whom leadership is being transferred to, if anyone (Raft thesis §3.10).
        self.lead_transferee = NO_ONE
        # No configuration change may be proposed until this index has been applied: it is at or
        # after the one pending, if any.
        self.pending_conf_index = 0
        # Estimate of the payload in the uncommitted tail, in bytes. Only kept by a leader, and
        # only if there is a limit.
        self.uncommitted_size = 0
        self.read_only = ReadOnly(config.read_only_option, config.max_pending_reads)
        # Reads that came in before this leader has committed an entry of its term.
        self.pending_reads: list[Message] = []

    # What others may ask.

    def soft_state(self) -> SoftState:
        """Return role and leader."""
        return SoftState(self.lead, self.state)

    def hard_state(self) -> HardState:
        """Return what must not be forgotten."""
        return HardState(self.term, self.vote, self.log.committed)

    def promotable(self) -> bool:
        """Whether this member could lead: it may vote, and has no snapshot left to store."""
        its = self.tracker.progress.get(self.id)
        return its is not None and not its.is_learner and self.log.unstable.snapshot is None

    def committed_in_term(self) -> bool:
        """Whether an entry of the current term has been committed."""
        return self.log.term_or_zero(self.log.committed) == self.term

    # Sending and appending.

    def send(self, message: Message) -> None:
        """Put a message out, now or when what it promises is durable.

        The sender is filled in, and so is the term, except where the message brings its own
        (elections) or travels without one (forwarded proposals and reads).
        """
        kind = message.type
        if not message.from_:
            message.from_ = self.id
        if IS_VOTE[kind]:
            if not message.term:
                raise InvariantBroken(f"term should be set when sending {kind.name}")
        elif message.term:
            raise InvariantBroken(f"term should not be set when sending {kind.name}")
        elif not IS_TERMLESS[kind]:
            message.term = self.term
        if WAITS_FOR_APPEND[kind]:
            self.msgs_after_append.append(message)
        elif message.to == self.id:
            raise InvariantBroken(f"{kind.name} must not be sent to its sender")
        else:
            self.msgs.append(message)

    def append_entries(self, proposed: Sequence[Entry]) -> bool:
        """Append proposals of this leader. Returns False if the uncommitted tail is full.

        The entries are copied: the same proposal may arrive twice, and each arrival gets positions
        of its own.
        """
        if not self._reserve(proposed):
            self.logger.warning("%x uncommitted entry size limit reached, dropping", self.id)
            return False
        term = self.term
        index = self.log.last_index
        last = self.log.append(
            [
                Entry(term, position, entry.type, entry.data)
                for position, entry in enumerate(proposed, index + 1)
            ]
        )
        # The leader acknowledges its own entries like everyone else: once they are durable.
        self.msgs_after_append.append(
            Message(MSG_APP_RESP, self.id, self.id, self.term, index=last)
        )
        return True

    def _reserve(self, proposed: Sequence[Entry]) -> bool:
        if self.max_uncommitted_size >= NO_LIMIT:
            return True
        size = payloads_size(proposed)
        # An empty tail takes anything, and an empty payload fits always: a new leader's first
        # entry and the way out of a joint configuration must never be refused.
        if self.uncommitted_size and size:
            if self.uncommitted_size + size > self.max_uncommitted_size:
                return False
        self.uncommitted_size += size
        return True

    def release_uncommitted(self, entries: Sequence[Entry]) -> None:
        """Take entries that have been applied out of the estimate of the uncommitted tail."""
        if self.max_uncommitted_size < NO_LIMIT:
            self.uncommitted_size = max(self.uncommitted_size - payloads_size(entries), 0)

    def maybe_commit(self) -> bool:
        """Commit what a quorum has, if it is an entry of this term. Returns whether it was news.

        Entries of earlier terms are only committed along with one of this term (Raft thesis §3.6.2,
        figure 3.7).
        """
        return self.log.maybe_commit(self.tracker.committed(), self.term)

    # Applying.

    def applied_to(self, index: int) -> None:
        """Note that entries have been applied; leave a joint configuration if it is time to.

        Args:
            index: Index of the last one applied; the state machine may be further already, by a
                snapshot.
        """
        index = max(index, self.log.applied)
        self.log.applied_to(index)
        if not self.tracker.config.auto_leave:
            return
        if self.state != LEADER or index < self.pending_conf_index:
            return
        leave = Message(MessageType.MSG_PROP, entries=[conf_change_entry(None)])
        try:
            self.step(leave)
        except ProposalDropped:
            # A transfer is under way. Either the next leader leaves, or the transfer fails and
            # the next entry applied brings us here again.
            self.logger.debug("%x not leaving joint configuration yet", self.id)

    def applied_snapshot(self, snapshot: Snapshot) -> None:
        """Note that a snapshot has been stored and applied."""
        index = snapshot.metadata.index
        self.log.unstable.stable_snapshot_to(index)
        self.applied_to(index)

    # Transitions between roles.

    def _enter(self, state: StateType) -> None:
        self.state = state
        self._row = self._table[state]

    def reset(self, term: int) -> None:
        """Forget everything that belongs to a role; if the term is new, also the vote."""
        if self.term != term:
            self.term = term
            self.vote = NO_ONE
        self.lead = NO_ONE
        self.election_elapsed = 0
        self.heartbeat_elapsed = 0
        self.reset_election_timeout()
        self.lead_transferee = NO_ONE
        self.tracker.reset_votes()
        last = self.log.last_index
        for member, its in self.tracker.progress.items():
            self.tracker.progress[member] = Progress(
                match=last if member == self.id else 0,
                next=last + 1,
                inflights=self.tracker.new_inflights(),
                is_learner=its.is_learner,
            )
        self.pending_conf_index = 0
        self.uncommitted_size = 0
        self.read_only = self.read_only.fresh()

    def reset_election_timeout(self) -> None:
        """Draw the ticks until the next election, from [election_tick, 2 * election_tick)."""
        spread = self.config.rng.randrange(self.election_timeout)
        self.randomized_election_timeout = self.election_timeout + spread

    def become_follower(self, term: int, lead: int) -> None:
        """Follow a leader, or nobody yet (`NO_ONE`), in a term."""
        self.reset(term)
        self.lead = lead
        self._enter(FOLLOWER)
        self.logger.info("%x became follower at term %d", self.id, term)

    def become_candidate(self) -> None:
        """Stand for election in the next term, with one's own vote."""
        if self.state == LEADER:
            raise InvariantBroken("invalid transition [leader -> candidate]")
        self.reset(self.term + 1)
        self.vote = self.id
        self._enter(CANDIDATE)
        self.logger.info("%x became candidate at term %d", self.id, self.term)

    def become_pre_candidate(self) -> None:
        """Ask whether an election could be won. Term and vote stay as they are."""
        if self.state == LEADER:
            raise InvariantBroken("invalid transition [leader -> pre-candidate]")
        self.tracker.reset_votes()
        self.lead = NO_ONE
        self._enter(PRE_CANDIDATE)
        self.logger.info("%x became pre-candidate at term %d", self.id, self.term)

    def become_leader(self) -> None:
        """Lead, beginning with an empty entry.

        Only entries of the leader's own term are committed by counting, so without this entry those
        of earlier terms could stay uncommitted, and reads unanswered, until the next proposal (Raft
        thesis §6.4).
        """
        if self.state == FOLLOWER:
            raise InvariantBroken("invalid transition [follower -> leader]")
        self.reset(self.term)
        self.lead = self.id
        self._enter(LEADER)
        own = self.tracker.progress[self.id]
        own.become_replicate()
        own.recent_active = True
        # A configuration change may or may not be among the entries not applied yet. Waiting for
        # all of them is safe, and cheaper than looking.
        self.pending_conf_index = self.log.last_index
        self.append_entries([Entry()])
        self.logger.info("%x became leader at term %d", self.id, self.term)

    # Time.

    def tick(self) -> None:
        """Let one tick pass."""
        self.election_elapsed += 1
        if self.state == LEADER:
            self._tick_leader()
        elif self.election_elapsed >= self.randomized_election_timeout and self.promotable():
            self.election_elapsed = 0
            self.step(Message(MessageType.MSG_HUP, from_=self.id))

    def _tick_leader(self) -> None:
        self.heartbeat_elapsed += 1
        if self.election_elapsed >= self.election_timeout:
            self.election_elapsed = 0
            if self.check_quorum:
                self.step(Message(MessageType.MSG_CHECK_QUORUM, from_=self.id))
            # A transfer that takes longer than an election has failed: proposals flow again.
            if self.state == LEADER:
                self.lead_transferee = NO_ONE
        if self.state == LEADER and self.heartbeat_elapsed >= self.config.heartbeat_tick:
            self.heartbeat_elapsed = 0
            self.step(Message(MessageType.MSG_BEAT, from_=self.id))

    # The gate.

    def step(self, message: Message) -> None:
        """Take in one message.

        Raises:
            ProposalDropped: It was a proposal, and has not been appended.
            InvariantBroken: The member must stop.
        """
        term = message.term
        # Term 0: local, or forwarded by someone who did not know the leader's term.
        if term and term != self.term:
            if term > self.term:
                if not self._meet_higher_term(message):
                    return
            else:
                self._meet_lower_term(message)
                return
        handler = self._row[message.type]
        if handler is not None:
            handler(self, message)

    def _meet_higher_term(self, message: Message) -> bool:
        """Move to the message's term, unless it asks for a vote. Returns whether to go on."""
        kind = message.type
        if kind == MessageType.MSG_VOTE or kind == MessageType.MSG_PRE_VOTE:
            # Someone who has heard from a leader within an election timeout neither votes nor
            # moves to the new term: members that are cut off or removed cannot depose the leader
            # (Raft thesis §4.2.3). A leader that hands over on purpose asks to be deposed.
            in_lease = (
                self.check_quorum
                and self.lead != NO_ONE
                and self.election_elapsed < self.election_timeout
            )
            if in_lease and message.context != TRANSFER_CONTEXT:
                self.logger.info(
                    "%x ignored %s from %x: lease is not expired", self.id, kind.name, message.from_
                )
                return False
            if kind == MessageType.MSG_PRE_VOTE:
                return True  # a question about the future does not bring it about
        if kind == MessageType.MSG_PRE_VOTE_RESP and not message.reject:
            # The answer carries the term we asked about. We move there when a quorum agrees; a
            # refusal carries the term of a voter that is really ahead.
            return True
        self.become_follower(message.term, message.from_ if IS_FROM_LEADER[kind] else NO_ONE)
        return True

    def _meet_lower_term(self, message: Message) -> None:
        kind = message.type
        if kind in (MessageType.MSG_HEARTBEAT, MessageType.MSG_APP) and (
            self.check_quorum or self.config.pre_vote
        ):
            # A leader of a lower term: delayed messages, or we have moved on while cut off and can
            # neither win an election nor, as votes are refused in its lease, make it notice our
            # term. An answer with our term deposes it and frees us.
            self.send(Message(MessageType.MSG_APP_RESP, message.from_))
        elif kind == MessageType.MSG_PRE_VOTE:
            # Answered, not dropped: a candidate of a lower term with the better log could otherwise
            # wait for ever in a group that has just switched pre-vote on.
            self.send(
                Message(MessageType.MSG_PRE_VOTE_RESP, message.from_, term=self.term, reject=True)
            )
        elif kind == MessageType.MSG_STORAGE_APPEND_RESP:
            # Entries confirmed in an earlier term may have been replaced since, and the write that
            # does so may still be on its way (see `RawNode`). A snapshot is committed state, and
            # stays valid whatever the term.
            if message.snapshot is not None:
                self.applied_snapshot(message.snapshot)
        else:
            self.logger.info(
                "%x [term: %d] ignored %s of lower term %d from %x",
                self.id,
                self.term,
                kind.name,
                message.term,
                message.from_,
            )
