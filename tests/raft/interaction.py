"""A group of members without network, disk or clock, driven by the commands of a transcript.

Besides the commands of the recorded corpus there are some of our own, for what that corpus lacks:
`read-index`, `restart`, `report-snapshot`, `set-applied`, `hold-msgs`, `duplicate-msgs` and
`reverse-msgs`.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec

from coordinator.raft import (
    LOCAL_APPEND,
    LOCAL_APPLY,
    Config,
    MemoryStorage,
    RaftError,
    RawNode,
    ReadOnlyOption,
    hard_state_of,
)
from coordinator.wire.raft import (
    AnyConfChange,
    ConfChange,
    ConfChangeTransition,
    ConfChangeV2,
    ConfState,
    Entry,
    HardState,
    Message,
    MessageType,
    Snapshot,
    SnapshotMetadata,
    decode_conf_change,
)
from tests.raft.datadriven import Case
from tests.raft.describe import (
    MESSAGE_NAMES,
    camel,
    describe_entries,
    describe_message,
    describe_ready,
    parse_changes,
)

LEVELS = ("debug", "info", "warn", "error", "fatal", "none")
QUIET = "none"
UNLIMITED_MESSAGES = (1 << 31) - 1
TRUE_WORDS = ("1", "t", "T", "TRUE", "true", "True")
TRANSITIONS = {
    "auto": ConfChangeTransition.AUTO,
    "implicit": ConfChangeTransition.JOINT_IMPLICIT,
    "explicit": ConfChangeTransition.JOINT_EXPLICIT,
}
READ_ONLY = {"safe": ReadOnlyOption.SAFE, "lease-based": ReadOnlyOption.LEASE_BASED}


class CommandError(Exception):
    """A command that could not be carried out; its text becomes part of the output."""


class _Storage(MemoryStorage):
    """A storage that offers the state after the last entry applied as its snapshot."""

    __slots__ = ("history",)

    def __init__(self, initial: Snapshot) -> None:
        super().__init__()
        self.history = [initial]

    def snapshot(self) -> Snapshot:
        return self.history[-1]


class Member:
    """One member with its storage, and the storage work it has not done yet."""

    def __init__(self, config: Config, storage: _Storage) -> None:
        self.config = config
        self.storage = storage
        self.node = RawNode(config)
        self.append_work: list[Message] = []
        self.apply_work: list[Message] = []

    @property
    def is_async(self) -> bool:
        return self.config.async_storage_writes


def _flag(word: str) -> bool:
    return word in TRUE_WORDS


class Interaction:
    """The group, the messages on their way, and the output of the command at hand."""

    def __init__(self) -> None:
        self.members: list[Member] = []
        self.messages: list[Message] = []
        self.held: list[Message] = []
        self.level = "debug"
        self._output: list[str] = []
        self._indent = ""
        self._commands: dict[str, Callable[[Case], None]] = {
            "_breakpoint": lambda case: None,
            "add-nodes": self._add_nodes,
            "campaign": lambda case: self._first(case).node.campaign(),
            "compact": self._compact,
            "deliver-msgs": self._deliver_msgs,
            "duplicate-msgs": self._duplicate_msgs,
            "forget-leader": lambda case: self._first(case).node.forget_leader(),
            "hold-msgs": self._hold_msgs,
            "log-level": self._log_level,
            "process-append-thread": lambda case: self._each(
                case, "processing append thread", self._process_append_thread
            ),
            "process-apply-thread": lambda case: self._each(
                case, "processing apply thread", self._process_apply_thread
            ),
            "process-ready": lambda case: self._each(case, "handling Ready", self._process_ready),
            "propose": self._propose,
            "propose-conf-change": self._propose_conf_change,
            "raft-log": lambda case: self._raft_log(self._first(case)),
            "raft-state": self._raft_state,
            "read-index": self._read_index,
            "release-msgs": self._release_msgs,
            "report-snapshot": self._report_snapshot,
            "report-unreachable": self._report_unreachable,
            "restart": self._restart,
            "reverse-msgs": self._reverse_msgs,
            "send-snapshot": self._send_snapshot,
            "set-randomized-election-timeout": self._set_randomized_election_timeout,
            "stabilize": self._stabilize_command,
            "status": self._status,
            "tick": self._tick,
            "tick-election": self._tick_election,
            "tick-heartbeat": self._tick_heartbeat,
            "transfer-leadership": self._transfer_leadership,
        }

    def run(self, case: Case) -> str:
        """Carry out one command and return its output."""
        self._output = []
        command = self._commands.get(case.command)
        try:
            if command is None:
                raise CommandError("unknown command")
            command(case)
        except (CommandError, RaftError, ValueError) as error:
            # Errors are shown even when everything else is suppressed.
            if self.level == QUIET:
                return str(error)
            self._output.append(str(error))
        return "".join(self._output) or "ok"

    # Output.

    def _write(self, text: str) -> None:
        """Add text, each line of it indented."""
        if self.level == QUIET or not text:
            return
        for line in text.splitlines():
            self._output.append(f"{self._indent}{line}\n")

    def _write_bare(self, text: str) -> None:
        """Add text that ends without a line break."""
        if self.level != QUIET:
            self._output.append(f"{self._indent}{text}" + ("\n" if self._indent else ""))

    @contextmanager
    def _indented(self) -> Iterator[None]:
        before = self._indent
        self._indent = before + "  "
        try:
            yield
        finally:
            self._indent = before

    # Arguments.

    def _member(self, word: str) -> Member:
        number = int(word)
        if not 1 <= number <= len(self.members):
            raise CommandError(f"no node {word}")
        return self.members[number - 1]

    def _first(self, case: Case) -> Member:
        return self._member(case.arguments[0].key)

    def _named(self, case: Case) -> list[Member]:
        return [self._member(word) for word in case.words()]

    def _each(self, case: Case, title: str, action: Callable[[Member], None]) -> None:
        members = self._named(case)
        for member in members:
            if len(members) > 1:
                self._write(f"> {member.node.id} {title}")
                with self._indented():
                    action(member)
            else:
                action(member)

    # Setting up.

    def _add_nodes(self, case: Case) -> None:
        count = int(case.arguments[0].key)
        options: dict[str, int | bool | ReadOnlyOption] = {}
        voters: list[int] = []
        learners: list[int] = []
        index, content = 0, b""
        for key, value in case.pairs():
            if key == "voters":
                voters.append(int(value))
            elif key == "learners":
                learners.append(int(value))
            elif key == "index":
                options["applied"] = index = int(value)
            elif key == "content":
                content = value.encode()
            elif key == "read-only":
                if value not in READ_ONLY:
                    raise CommandError(f'invalid read-only option "{value}"')
                options["read_only_option"] = READ_ONLY[value]
            elif key in _NUMBERS:
                options[_NUMBERS[key]] = int(value)
            elif key in _FLAGS:
                options[_FLAGS[key]] = _flag(value)
        snapshot = Snapshot()
        if voters or learners or index or content:
            if index <= 1:
                raise CommandError("index must be specified as > 1 due to bootstrap")
            state = ConfState(voters=tuple(voters), learners=tuple(learners))
            snapshot = Snapshot(content, SnapshotMetadata(state, index, 1))
        for _ in range(count):
            self._add_node(snapshot, options)

    def _add_node(
        self, snapshot: Snapshot, options: dict[str, int | bool | ReadOnlyOption]
    ) -> None:
        storage = _Storage(snapshot)
        if snapshot.metadata.index:
            storage.apply_snapshot(snapshot)
        defaults: dict[str, object] = {
            "election_tick": 3,
            "heartbeat_tick": 1,
            "max_inflight_msgs": UNLIMITED_MESSAGES,
        }
        config = Config(
            id=len(self.members) + 1,
            storage=storage,
            rng=random.Random(len(self.members)),
            **(defaults | options),  # type: ignore[arg-type]
        )
        self.members.append(Member(config, storage))

    def _restart(self, case: Case) -> None:
        """Lose everything that was not stored, and come up from storage again."""
        member = self._first(case)
        member.config.applied = member.storage.history[-1].metadata.index
        member.append_work = []
        member.apply_work = []
        member.node = RawNode(member.config)

    def _log_level(self, case: Case) -> None:
        self._set_level(case.arguments[0].key)

    def _set_level(self, name: str) -> None:
        if name.lower() not in LEVELS:
            names = " ".join(level.upper() for level in LEVELS)
            raise CommandError(f"log levels must be either of [{names}]")
        self.level = name.lower()

    def _set_randomized_election_timeout(self, case: Case) -> None:
        timeout = int(case.value("timeout") or 0)
        self._first(case).node.raft.randomized_election_timeout = timeout

    # Asking.

    def _propose(self, case: Case) -> None:
        words = case.words()[1:]
        self._first(case).node.propose([word.encode() for word in words])

    def _propose_conf_change(self, case: Case) -> None:
        is_v1 = False
        transition = ConfChangeTransition.AUTO
        for key, value in case.pairs():
            if key == "v1":
                is_v1 = _flag(value)
            elif key == "transition":
                if value not in TRANSITIONS:
                    raise CommandError(f"unknown transition {value}")
                transition = TRANSITIONS[value]
            else:
                raise CommandError(f"unknown command {key}")
        changes = parse_changes(case.input)
        change: AnyConfChange = ConfChangeV2(transition, changes)
        if is_v1:
            if len(changes) > 1 or transition != ConfChangeTransition.AUTO:
                raise CommandError("v1 conf change can only have one operation and no transition")
            change = ConfChange(changes[0].type, changes[0].node_id)
        self._first(case).node.propose_conf_change(change)

    def _read_index(self, case: Case) -> None:
        self._first(case).node.read_index(case.words()[1].encode())

    def _report_unreachable(self, case: Case) -> None:
        words = case.words()
        if len(words) != 2:
            raise CommandError(
                "must specify exactly two node indexes: node on which to report, and reported node"
            )
        self._member(words[0]).node.report_unreachable(self._member(words[1]).config.id)

    def _report_snapshot(self, case: Case) -> None:
        reporter, about, outcome = case.words()
        self._member(reporter).node.report_snapshot(int(about), delivered=outcome == "delivered")

    def _transfer_leadership(self, case: Case) -> None:
        source, target = case.value("from") or "0", case.value("to") or "0"
        self._member(target)
        self._member(source).node.transfer_leader(int(target))

    def _send_snapshot(self, case: Case) -> None:
        source, target = self._named(case)
        message = Message(
            MessageType.MSG_SNAP,
            target.config.id,
            source.config.id,
            source.node.term,
            snapshot=source.storage.snapshot(),
        )
        self.messages.append(message)
        self._write_bare(describe_message(message))

    def _tick_election(self, case: Case) -> None:
        member = self._first(case)
        self._let_pass(member, member.config.election_tick)

    def _tick_heartbeat(self, case: Case) -> None:
        member = self._first(case)
        self._let_pass(member, member.config.heartbeat_tick)

    def _tick(self, case: Case) -> None:
        words = case.words()
        self._let_pass(self._member(words[0]), int(words[1]))

    def _let_pass(self, member: Member, ticks: int) -> None:
        for _ in range(ticks):
            member.node.tick()

    # Looking.

    def _raft_log(self, member: Member) -> None:
        first, last = member.storage.first_index(), member.storage.last_index()
        if last < first:
            self._write_bare(f"log is empty: first index={first}, last index={last}")
            return
        self._write(describe_entries(member.storage.entries(first, last + 1)))

    def _raft_state(self, _case: Case) -> None:
        for member in self.members:
            status = member.node.status()
            is_voter = status.id in status.config.voter_ids()
            self._write(
                f"{status.id}: State{camel(status.state.name)} "
                f"({'Voter' if is_voter else 'Non-Voter'}) Term:{status.term} Lead:{status.lead}"
            )

    def _status(self, case: Case) -> None:
        status = self._first(case).node.status()
        for member, its in sorted(status.progress.items()):
            self._write(f"{member}: {its}")

    def _compact(self, case: Case) -> None:
        member = self._first(case)
        member.storage.compact(int(case.arguments[1].key))
        self._raft_log(member)

    # Working.

    def _process_ready(self, member: Member) -> None:
        rd = member.node.ready()
        text = describe_ready(rd)
        if text.endswith("\n"):
            self._write(text)
        else:
            self._write_bare(text)
        if not member.is_async:
            self._store(member, rd.hard_state, rd.entries, rd.snapshot)
            self._apply(member, rd.committed_entries)
        for message in rd.messages:
            if message.to == LOCAL_APPEND:
                member.append_work.append(message)
            elif message.to == LOCAL_APPLY:
                member.apply_work.append(message)
            else:
                self.messages.append(message)
        if not member.is_async:
            member.node.advance()

    def _store(
        self,
        member: Member,
        hard_state: HardState | None,
        entries: list[Entry],
        snapshot: Snapshot | None,
    ) -> None:
        if hard_state is not None:
            member.storage.set_hard_state(hard_state)
        if snapshot is not None:
            if entries:
                raise CommandError("can't apply snapshot and entries at the same time")
            member.storage.apply_snapshot(snapshot)
        else:
            member.storage.append(entries)

    def _apply(self, member: Member, entries: list[Entry]) -> None:
        """Append payloads to the state, and remember the state after every entry."""
        history = member.storage.history
        for entry in entries:
            before = history[-1]
            state = before.metadata.conf_state
            change = decode_conf_change(entry)
            update = entry.data if change is None else change.context
            if change is not None:
                state = member.node.apply_conf_change(change)
            metadata = SnapshotMetadata(state, entry.index, entry.term)
            history.append(Snapshot(before.data + update, metadata))

    def _process_append_thread(self, member: Member) -> None:
        if not member.append_work:
            self._write_bare("no append work to perform")
            return
        message = self._begin(member.append_work)
        hard_state = hard_state_of(message)
        self._store(member, hard_state, message.entries, message.snapshot)

    def _process_apply_thread(self, member: Member) -> None:
        if not member.apply_work:
            self._write_bare("no apply work to perform")
            return
        self._apply(member, self._begin(member.apply_work).entries)

    def _begin(self, work: list[Message]) -> Message:
        """Take the first piece of work, show it, and put its responses on their way."""
        message = work.pop(0)
        responses = message.responses
        message = msgspec.structs.replace(message, responses=[])
        self._write("Processing:")
        self._write(describe_message(message))
        self._write("Responses:")
        for response in responses:
            self._write(describe_message(response))
        self.messages.extend(responses)
        return message

    # Delivering.

    def _deliver_msgs(self, case: Case) -> None:
        receivers = [(int(word), False) for word in case.words()]
        kind: MessageType | None = None
        for key, value in case.pairs():
            if key == "drop":
                if (int(value), False) in receivers:
                    raise CommandError(f"can't both deliver and drop msgs to {value}")
                receivers.append((int(value), True))
            elif key == "type":
                if value not in MESSAGE_NAMES:
                    raise CommandError(f"unknown message type {value}")
                kind = MESSAGE_NAMES[value]
        delivered = sum(self._deliver(receiver, kind, drop=drop) for receiver, drop in receivers)
        if delivered == 0:
            self._write("no messages")

    def _take(self, receiver: int, kind: MessageType | None, *, drop: bool) -> list[Message]:
        """Take the messages for a receiver off the way, in order."""
        taken, left = [], []
        for message in self.messages:
            wanted = message.to == receiver and kind in (None, message.type)
            # What a member tells itself or its own storage cannot get lost.
            if wanted and not (drop and _is_local(message)):
                taken.append(message)
            else:
                left.append(message)
        self.messages = left
        return taken

    def _deliver(self, receiver: int, kind: MessageType | None = None, *, drop: bool) -> int:
        messages = self._take(receiver, kind, drop=drop)
        for message in messages:
            self._write(("dropped: " if drop else "") + describe_message(message))
            if drop:
                continue
            try:
                self._member(str(receiver)).node.step(message)
            except RaftError as error:
                self._write(str(error))
        return len(messages)

    def _hold_msgs(self, case: Case) -> None:
        """Take the messages for a receiver off the way, to be released later."""
        taken = self._take(int(case.arguments[0].key), None, drop=True)
        for message in taken:
            self._write("held: " + describe_message(message))
        self.held.extend(taken)

    def _release_msgs(self, _case: Case) -> None:
        self.messages.extend(self.held)
        self.held = []

    def _duplicate_msgs(self, case: Case) -> None:
        """Let every message to a receiver arrive twice."""
        receiver = int(case.arguments[0].key)
        self.messages.extend(
            [one for one in self.messages if one.to == receiver and not _is_local(one)]
        )

    def _reverse_msgs(self, case: Case) -> None:
        """Let the messages to a receiver arrive in the opposite order."""
        receiver = int(case.arguments[0].key)
        taken = self._take(receiver, None, drop=True)
        self.messages.extend(reversed(taken))

    # Until nothing is left to do.

    def _stabilize_command(self, case: Case) -> None:
        before = self.level
        try:
            for key, value in case.pairs():
                if key == "log-level":
                    self._set_level(value)
            self._stabilize(self._named(case) or self.members)
        finally:
            self.level = before

    def _stabilize(self, members: list[Member]) -> None:
        done = False
        while not done:
            done = True
            for member in members:
                if member.node.has_ready():
                    self._write(f"> {member.node.id} handling Ready")
                    with self._indented():
                        self._process_ready(member)
                    done = False
            for member in members:
                receiver = member.node.id
                if any(message.to == receiver for message in self.messages):
                    self._write(f"> {receiver} receiving messages")
                    with self._indented():
                        self._deliver(receiver, drop=False)
                    done = False
            for member in members:
                if self._work_off(member, member.append_work, "append"):
                    done = False
            for member in members:
                if self._work_off(member, member.apply_work, "apply"):
                    done = False

    def _work_off(self, member: Member, work: list[Message], name: str) -> bool:
        if not work:
            return False
        self._write(f"> {member.node.id} processing {name} thread")
        action = self._process_append_thread if name == "append" else self._process_apply_thread
        while work:
            with self._indented():
                action(member)
        return True


def _is_local(message: Message) -> bool:
    local = (LOCAL_APPEND, LOCAL_APPLY)
    return message.from_ == message.to or message.from_ in local or message.to in local


_NUMBERS = {
    "inflight": "max_inflight_msgs",
    "max-committed-size-per-ready": "max_committed_size_per_ready",
    # Our own:
    "inflight-bytes": "max_inflight_bytes",
    "max-size-per-msg": "max_size_per_msg",
    "max-uncommitted-size": "max_uncommitted_size",
    "election-tick": "election_tick",
}
_FLAGS = {
    "async-storage-writes": "async_storage_writes",
    "checkquorum": "check_quorum",
    "disable-conf-change-validation": "disable_conf_change_validation",
    "prevote": "pre_vote",
    "step-down-on-removal": "step_down_on_removal",
    # Our own:
    "disable-proposal-forwarding": "disable_proposal_forwarding",
}
