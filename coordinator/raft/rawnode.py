"""The door to the core: what a caller may ask for, and the bundles of work that come out."""

from collections.abc import Sequence
from typing import Final

from coordinator.raft import membership, status
from coordinator.raft.config import Config
from coordinator.raft.core import LEADER, Raft
from coordinator.raft.dispatch import start
from coordinator.raft.errors import (
    InvariantBroken,
    StepLocalMessage,
    StepPeerNotFound,
)
from coordinator.raft.messages import IS_LOCAL, IS_RESPONSE, LOCAL_APPEND, LOCAL_APPLY
from coordinator.raft.ready import Ready
from coordinator.raft.status import BasicStatus, Status
from coordinator.wire.raft import (
    AnyConfChange,
    ConfState,
    Entry,
    EntryType,
    HardState,
    Message,
    MessageType,
    Snapshot,
    conf_change_entry,
)

MSG_STORAGE_APPEND: Final = MessageType.MSG_STORAGE_APPEND
MSG_STORAGE_APPEND_RESP: Final = MessageType.MSG_STORAGE_APPEND_RESP
MSG_STORAGE_APPLY: Final = MessageType.MSG_STORAGE_APPLY
MSG_STORAGE_APPLY_RESP: Final = MessageType.MSG_STORAGE_APPLY_RESP
MSG_PROP: Final = MessageType.MSG_PROP
NORMAL: Final = EntryType.NORMAL


class RawNode:
    """One member, driven by its caller. Not safe for use by several threads at once.

    See `coordinator.raft` for what a caller has to do with a `Ready`, and in which order.
    """

    __slots__ = (
        "_allow_unstable",
        "_async_storage_writes",
        "_prev_hard_state",
        "_prev_lead",
        "_prev_state",
        "_steps_on_advance",
        "raft",
    )

    raft: Raft
    """The member itself; only to look at."""

    def __init__(self, config: Config) -> None:
        """Bring up a member from its storage, as a follower.

        A new group begins with a storage whose snapshot, at an index of at least 1, names its
        members.

        Raises:
            ConfigInvalid: The settings contradict each other.
            InvariantBroken: The storage contradicts itself.
        """
        self.raft = raft = start(config)
        self._async_storage_writes = config.async_storage_writes
        # Without asynchronous writes the caller stores entries before it applies them, in one go.
        self._allow_unstable = not config.async_storage_writes
        self._prev_lead = raft.lead
        self._prev_state = raft.state
        self._prev_hard_state = raft.hard_state()
        self._steps_on_advance: list[Message] = []

    # Input.

    def tick(self) -> None:
        """Let one tick pass."""
        self.raft.tick()

    def step(self, message: Message) -> None:
        """Take in a message from another member, or an answer from the local storage.

        Raises:
            StepLocalMessage: A message only this member may give itself came from somewhere else.
            StepPeerNotFound: An answer came from someone who is not a member.
            ProposalDropped: It was a proposal, and has not been appended.
            InvariantBroken: The member must stop.
        """
        kind = message.type
        sender = message.from_
        if sender >= 0:
            if IS_LOCAL[kind]:
                raise StepLocalMessage
            if IS_RESPONSE[kind] and sender not in self.raft.tracker.progress:
                raise StepPeerNotFound
        self.raft.step(message)

    def propose(self, payloads: Sequence[bytes]) -> None:
        """Propose commands, in one step whatever their number; all of them or none are appended.

        On a leader they take the positions last_index + 1 and following, in order, in the current
        `term`: what is committed at such a position is this command if and only if the entry has
        that term. A follower passes them on to the leader, unless forwarding is disabled.

        Args:
            payloads: At least one command. Nothing promises that they are committed.

        Raises:
            ProposalDropped: Nothing has been appended; see there for the reasons.
        """
        raft = self.raft
        raft.step(
            Message(
                MSG_PROP,
                0,
                raft.id,
                entries=[Entry(0, 0, NORMAL, payload) for payload in payloads],
            )
        )

    def propose_conf_change(self, change: AnyConfChange) -> None:
        """Propose a change of the configuration.

        A leader that may still have another one pending, or whose configuration does not fit,
        appends an empty entry instead. An empty `ConfChangeV2` leaves a joint configuration.

        Raises:
            ProposalDropped: Nothing has been appended.
        """
        self.raft.step(Message(MSG_PROP, entries=[conf_change_entry(change)]))

    def apply_conf_change(self, change: AnyConfChange) -> ConfState:
        """Take up a committed change. To be called for every one, when its entry is applied.

        A caller that does not want the change, for reasons every member shares, sets its `node_id`s
        to 0.

        Returns:
            The configuration now in force, to be recorded in snapshots.

        Raises:
            InvariantBroken: The change does not fit; the member must stop.
        """
        return membership.apply_conf_change(self.raft, change)

    def campaign(self) -> None:
        """Stand for election now."""
        self.raft.step(Message(MessageType.MSG_HUP))

    def read_index(self, context: bytes) -> None:
        """Ask for an index from which a read is linearizable; it comes in `Ready.read_states`.

        The request may get lost without notice (no leader, lost messages): ask again, with another
        context.

        Args:
            context: What to recognise the answer by; unique among all members and restarts.
        """
        self.raft.step(Message(MessageType.MSG_READ_INDEX, entries=[Entry(data=context)]))

    def transfer_leader(self, successor: int) -> None:
        """Ask for leadership to be handed over. Gives up after an election timeout."""
        self.raft.step(Message(MessageType.MSG_TRANSFER_LEADER, from_=successor))

    def forget_leader(self) -> None:
        """Stop protecting the leader, without standing for election; only a follower does so.

        For callers that have other evidence of the leader's death. With pre-vote and check-quorum a
        follower refuses to elect anyone while it hears from a leader; a quorum that forgets it can
        elect another one at once. It follows the leader again when it hears from it.
        """
        self.raft.step(Message(MessageType.MSG_FORGET_LEADER))

    def report_unreachable(self, member: int) -> None:
        """Tell that the last message to a member did not get through."""
        self.raft.step(Message(MessageType.MSG_UNREACHABLE, from_=member))

    def report_snapshot(self, member: int, *, delivered: bool) -> None:
        """Tell what became of a snapshot.

        Must be called for every MSG_SNAP, else replication to that member stays paused.
        """
        self.raft.step(Message(MessageType.MSG_SNAP_STATUS, from_=member, reject=not delivered))

    # Output.

    def has_ready(self) -> bool:
        """Whether there is work to do."""
        raft = self.raft
        if raft.msgs or raft.msgs_after_append or raft.read_states:
            return True
        log = raft.log
        unstable = log.unstable
        # Written out as far as it says no: this is asked several times a turn.
        if unstable.offset_in_progress - unstable.offset < len(unstable.entries):
            return True
        if log.applying < log.committed and log.has_next_committed(self._allow_unstable):
            return True
        prev = self._prev_hard_state
        return (
            log.committed != prev.commit
            or raft.lead != self._prev_lead
            or raft.state != self._prev_state
            or raft.term != prev.term
            or raft.vote != prev.vote
            or (unstable.snapshot is not None and unstable.has_next_snapshot())
        )

    def ready(self) -> Ready:
        """Take out the work there is. It must be done; see `coordinator.raft`.

        Without asynchronous storage writes, `advance` must be called before the next one.

        Raises:
            InvariantBroken: The previous bundle has not been advanced over.
        """
        raft = self.raft
        log = raft.log
        unstable = log.unstable
        entries = unstable.hand_out_entries()
        committed: list[Entry] = []
        if log.applying < log.committed:
            committed = log.hand_out_committed(self._allow_unstable)
        rd = Ready(raft.msgs, entries, committed, raft.read_states)
        if unstable.snapshot is not None:
            rd.snapshot = unstable.hand_out_snapshot()
        if entries:
            rd.must_sync = True
        if raft.lead != self._prev_lead or raft.state != self._prev_state:
            rd.soft_state = raft.soft_state()
            self._prev_lead = raft.lead
            self._prev_state = raft.state
        prev = self._prev_hard_state
        if raft.term != prev.term or raft.vote != prev.vote:
            rd.hard_state = self._prev_hard_state = raft.hard_state()
            rd.must_sync = True
        elif log.committed != prev.commit:
            # Need not be durable: should it be lost, it is found again from the others.
            rd.hard_state = self._prev_hard_state = raft.hard_state()
        if self._async_storage_writes:
            self._enqueue_storage_messages(rd)
        else:
            self._note_steps_on_advance(rd)
        # What has been handed out is the caller's from here on.
        raft.read_states = []
        raft.msgs = []
        raft.msgs_after_append = []
        return rd

    def advance(self) -> None:
        """Tell that the work of the last bundle has been done; not with asynchronous writes.

        Raises:
            InvariantBroken: Storage is written asynchronously; answers take the place of this call.
        """
        if self._async_storage_writes:
            raise InvariantBroken("advance must not be called with asynchronous storage writes")
        steps = self._steps_on_advance
        self._steps_on_advance = []
        for message in steps:
            self.raft.step(message)

    def _note_steps_on_advance(self, rd: Ready) -> None:
        """Send what waits for storage along, and keep what is for this member itself."""
        if self._steps_on_advance:
            raise InvariantBroken("two Readys without a call to advance in between")
        raft = self.raft
        steps = self._steps_on_advance
        for message in raft.msgs_after_append:
            (steps if message.to == raft.id else rd.messages).append(message)
        if raft.log.unstable.entries or rd.snapshot is not None:
            steps.append(self._append_response(rd.snapshot))
        if rd.committed_entries:
            steps.append(self._apply_response(rd.committed_entries))

    def _enqueue_storage_messages(self, rd: Ready) -> None:
        """Turn what is to be stored and applied into messages."""
        raft = self.raft
        snapshot = rd.snapshot
        responses = raft.msgs_after_append
        hard_state = rd.hard_state
        if rd.entries or responses or hard_state is not None or snapshot is not None:
            # The response about stored entries comes last: while the leader's own MSG_APP_RESP is
            # handled, the new entries are still at hand and need not be read from storage.
            if raft.log.unstable.entries or snapshot is not None:
                responses.append(self._append_response(snapshot))
            append = Message(
                MSG_STORAGE_APPEND,
                LOCAL_APPEND,
                raft.id,
                entries=rd.entries,
                snapshot=snapshot,
                responses=responses,
            )
            # All three or none: zeros mean that the hard state has not changed.
            if hard_state is not None:
                append.term = hard_state.term
                append.vote = hard_state.vote
                append.commit = hard_state.commit
            rd.messages.append(append)
        committed = rd.committed_entries
        if committed:
            rd.messages.append(
                Message(
                    MSG_STORAGE_APPLY,
                    LOCAL_APPLY,
                    raft.id,
                    entries=committed,
                    responses=[self._apply_response(committed)],
                )
            )

    def _append_response(self, snapshot: Snapshot | None) -> Message:
        """Return the message that confirms everything handed out for storage so far.

        It names the last entry of the log, so that the unstable entries up to it can be let go.
        Term and index of that entry do not suffice to make this safe, because the same entry can
        come back:

        1. A leads; it appends entries X that only B receives. B starts to write X.
        2. C is elected by the others and sends B entries Y for the same positions. B starts to
        write Y.
        3. A is elected again and sends B the entries X, with their old terms. B starts to write X.
        4. The first write completes. Position and term match what B holds, so it would let go of X
           and read them from storage, where the second write is about to put Y for a moment.

        Hence the message also carries the current term, and is ignored once that has changed: while
        it has not, nobody is replacing entries. Writes of an earlier term are thus never confirmed
        as such; instead every later message confirms the whole unstable log, and there is at least
        one after each change of term, as the term itself has to be stored.
        """
        raft = self.raft
        response = Message(
            MSG_STORAGE_APPEND_RESP, raft.id, LOCAL_APPEND, raft.term, snapshot=snapshot
        )
        if raft.log.unstable.entries:
            response.index = raft.log.last_index
            response.log_term = raft.log.last_term
        return response

    def _apply_response(self, entries: list[Entry]) -> Message:
        """Return the message that confirms applied entries. It has no term: applied is applied."""
        return Message(MSG_STORAGE_APPLY_RESP, self.raft.id, LOCAL_APPLY, entries=entries)

    # Looking.

    @property
    def id(self) -> int:
        """This member."""
        return self.raft.id

    @property
    def term(self) -> int:
        """The current term."""
        return self.raft.term

    @property
    def lead(self) -> int:
        """The leader, as far as known; 0 if not."""
        return self.raft.lead

    @property
    def is_leader(self) -> bool:
        """Whether this member leads. It may have been deposed without knowing it yet."""
        return self.raft.state == LEADER

    @property
    def last_index(self) -> int:
        """Index of the last entry of the log, durable or not."""
        return self.raft.log.last_index

    @property
    def committed(self) -> int:
        """The commit index, as far as known here."""
        return self.raft.log.committed

    @property
    def applied(self) -> int:
        """Last index confirmed by the state machine."""
        return self.raft.log.applied

    def basic_status(self) -> BasicStatus:
        """Return what is cheap to know."""
        return status.basic_status(self.raft)

    def status(self) -> Status:
        """Return all there is to know, the progress of every follower included."""
        return status.full_status(self.raft)


def hard_state_of(message: Message) -> HardState | None:
    """Return the hard state that a MSG_STORAGE_APPEND asks to store, or None if it is unchanged."""
    if message.term or message.vote or message.commit:
        return HardState(message.term, message.vote, message.commit)
    return None
