"""A group of members for tests: storage in memory, links that can be cut, and no time but ticks."""

import random
from collections.abc import Callable, Iterable

from coordinator.raft import Config, MemoryStorage, ProposalDropped, RawNode, StepPeerNotFound
from coordinator.wire.raft import (
    ConfState,
    Entry,
    HardState,
    Message,
    MessageType,
    Snapshot,
    SnapshotMetadata,
    decode_conf_change,
)

ELECTION_TICK = 10
FOREVER = 10_000


def entry(term: int, index: int, data: bytes = b"") -> Entry:
    """Return a normal entry."""
    return Entry(term, index, data=data)


def storage_of(
    voters: Iterable[int] = (1, 2, 3),
    entries: Iterable[Entry] = (),
    *,
    learners: Iterable[int] = (),
    index: int = 0,
    term: int = 0,
    hard_state: HardState | None = None,
) -> MemoryStorage:
    """Return a storage with a snapshot that names the members, and entries after it."""
    storage = MemoryStorage()
    state = ConfState(voters=tuple(voters), learners=tuple(learners))
    storage.apply_snapshot(Snapshot(metadata=SnapshotMetadata(state, index, term)))
    storage.append(list(entries))
    if hard_state is not None:
        storage.set_hard_state(hard_state)
    return storage


def config_of(member: int, storage: MemoryStorage, **settings: object) -> Config:
    """Return settings for tests: short timeouts, and a generator that begins with the id."""
    defaults: dict[str, object] = {
        "election_tick": ELECTION_TICK,
        "heartbeat_tick": 1,
        "rng": random.Random(member),
    }
    return Config(id=member, storage=storage, **(defaults | settings))  # type: ignore[arg-type]


class Member:
    """One member with its storage and the entries it has applied."""

    def __init__(self, member: int, storage: MemoryStorage, **settings: object) -> None:
        self.storage = storage
        self.config = config_of(member, storage, **settings)
        self.node = RawNode(self.config)
        self.applied: list[Entry] = []
        self.conf_states: list[ConfState] = []
        self.reads: dict[bytes, int] = {}

    @property
    def id(self) -> int:
        return self.node.id

    @property
    def log(self) -> list[Entry]:
        """The whole log as it would be after a restart."""
        storage = self.storage
        if storage.last_index() < storage.first_index():
            return []
        return storage.entries(storage.first_index(), storage.last_index() + 1)

    def step(self, *messages: Message) -> list[Message]:
        """Take in messages, do the work, and return what was sent."""
        for message in messages:
            self.node.step(message)
        return self.work()

    def tick(self, count: int = 1) -> list[Message]:
        """Let time pass, do the work, and return what was sent."""
        for _ in range(count):
            self.node.tick()
        return self.work()

    def work(self) -> list[Message]:
        """Do all the work there is, and return what was sent."""
        sent: list[Message] = []
        node, storage = self.node, self.storage
        while node.has_ready():
            rd = node.ready()
            if rd.snapshot is not None:
                storage.apply_snapshot(rd.snapshot)
                self.applied = []
            storage.append(rd.entries)
            if rd.hard_state is not None:
                storage.set_hard_state(rd.hard_state)
            for one in rd.committed_entries:
                change = decode_conf_change(one)
                if change is not None:
                    self.conf_states.append(node.apply_conf_change(change))
            self.applied.extend(rd.committed_entries)
            self.reads.update({read.context: read.index for read in rd.read_states})
            sent.extend(rd.messages)
            node.advance()
        return sent

    def restart(self, **settings: object) -> None:
        """Come up again from storage; what was applied is kept, as by a durable state machine."""
        applied = self.applied[-1].index if self.applied else self.config.applied
        self.config = config_of(self.id, self.storage, **({"applied": applied} | settings))
        self.node = RawNode(self.config)

    def applied_data(self) -> list[bytes]:
        """Return the commands applied, without the empty entries of new leaders."""
        return [one.data for one in self.applied if one.data and not one.type]


class Group:
    """Members, the messages between them, and faults on their way."""

    def __init__(self, members: Iterable[Member]) -> None:
        self.members = {member.id: member for member in members}
        self.lost: Callable[[Message], bool] = lambda message: False
        self.isolated: list[int] = []
        self.sent: list[Message] = []

    def __getitem__(self, member: int) -> Member:
        return self.members[member]

    def settle(self) -> None:
        """Deliver messages and do the work until nothing is left."""
        queue = [message for member in self.members.values() for message in member.work()]
        for _ in range(FOREVER):
            if not queue:
                return
            message = queue.pop(0)
            self.sent.append(message)
            if self._is_lost(message):
                continue
            receiver = self.members[message.to]
            try:
                receiver.node.step(message)
            except (ProposalDropped, StepPeerNotFound):
                continue
            queue.extend(receiver.work())
        raise AssertionError("the group does not come to rest")

    def _is_lost(self, message: Message) -> bool:
        cut = message.to in self.isolated or message.from_ in self.isolated
        return cut or message.to not in self.members or self.lost(message)

    def elect(self, member: int) -> Member:
        """Let a member stand for election, and win it."""
        self[member].node.campaign()
        self.settle()
        assert self[member].node.is_leader
        return self[member]

    def propose(self, member: int, *payloads: bytes) -> None:
        """Propose commands and let them go where they go."""
        self[member].node.propose(payloads)
        self.settle()

    def tick(self, count: int = 1, *members: int) -> None:
        """Let time pass everywhere, or for some members only."""
        for _ in range(count):
            for member in members or tuple(self.members):
                self[member].node.tick()
            self.settle()

    def leaders(self) -> list[int]:
        """Return who leads, or thinks so."""
        return [member.id for member in self.members.values() if member.node.is_leader]

    def forget_sent(self) -> None:
        """Begin a new record of messages."""
        self.sent = []

    def kinds_sent(self) -> list[MessageType]:
        """Return the types of the messages recorded, in order."""
        return [message.type for message in self.sent]


def group_of(size: int, **settings: object) -> Group:
    """Return a group of voters with empty logs."""
    voters = tuple(range(1, size + 1))
    return Group([Member(voter, storage_of(voters), **settings) for voter in voters])
