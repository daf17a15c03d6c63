"""The claims of the Raft paper, by section of its extended version."""

import random

import pytest

from coordinator.raft import StateType
from coordinator.wire.raft import Entry, HardState, Message, MessageType
from tests.raft.group import ELECTION_TICK, Group, Member, entry, storage_of

APP = MessageType.MSG_APP
APP_RESP = MessageType.MSG_APP_RESP
VOTE = MessageType.MSG_VOTE
VOTE_RESP = MessageType.MSG_VOTE_RESP
HEARTBEAT = MessageType.MSG_HEARTBEAT


def member_of(voters: tuple[int, ...] = (1, 2, 3), **settings: object) -> Member:
    return Member(1, storage_of(voters), **settings)


def candidate(member: Member) -> list[Message]:
    member.node.campaign()
    return member.work()


def leader(member: Member, voters: int = 3) -> Member:
    """Make a fresh member the leader, with an empty log but for its own first entry."""
    candidate(member)
    for voter in range(2, voters // 2 + 2):
        member.step(Message(VOTE_RESP, 1, voter, member.node.term))
    assert member.node.is_leader
    return member


def acknowledge(member: Member, sent: list[Message]) -> list[Message]:
    """Answer every MSG_APP like a follower that has appended it."""
    answers = [
        Message(
            APP_RESP,
            message.from_,
            message.to,
            message.term,
            index=message.index + len(message.entries),
        )
        for message in sent
        if message.type == APP
    ]
    return member.step(*answers)


@pytest.mark.parametrize("role", [StateType.FOLLOWER, StateType.CANDIDATE, StateType.LEADER])
def test_higher_term_makes_a_follower(role: StateType) -> None:
    """Whoever sees a higher term moves to it and becomes a follower (§5.1)."""
    member = member_of()
    if role == StateType.FOLLOWER:
        member.step(Message(HEARTBEAT, 1, 2, 1))
    elif role == StateType.CANDIDATE:
        candidate(member)
    else:
        leader(member)
    assert member.node.raft.state == role
    member.step(Message(APP, 1, 2, member.node.term + 1))
    assert member.node.raft.state == StateType.FOLLOWER
    assert member.node.lead == 2


def test_stale_requests_are_rejected() -> None:
    """A request with a stale term changes nothing (§5.1)."""
    member = member_of()
    member.step(Message(HEARTBEAT, 1, 2, 5))
    sent = member.step(Message(APP, 1, 3, 4, entries=[entry(4, 1)]))
    assert sent == []
    assert member.log == []
    assert member.node.lead == 2


def test_members_start_as_followers() -> None:
    """When servers start up, they begin as followers (§5.2)."""
    assert member_of().node.raft.state == StateType.FOLLOWER


def test_leader_sends_heartbeats() -> None:
    """A leader sends heartbeats to everyone at every heartbeat interval, to stay leader (§5.2)."""
    member = leader(member_of(heartbeat_tick=2))
    assert member.tick() == []
    sent = member.tick()
    assert [(message.type, message.to, message.term) for message in sent] == [
        (HEARTBEAT, 2, 1),
        (HEARTBEAT, 3, 1),
    ]


@pytest.mark.parametrize("role", [StateType.FOLLOWER, StateType.CANDIDATE])
def test_no_leader_starts_an_election(role: StateType) -> None:
    """Without a leader for an election timeout: next term, own vote, requests to all (§5.2)."""
    member = member_of()
    if role == StateType.FOLLOWER:
        member.step(Message(HEARTBEAT, 1, 2, 1))
    else:
        candidate(member)
    sent = member.tick(2 * ELECTION_TICK - 1)
    assert member.node.raft.state == StateType.CANDIDATE
    assert (member.node.term, member.node.raft.vote) == (2, 1)
    assert [(message.type, message.to, message.term) for message in sent] == [
        (VOTE, 2, 2),
        (VOTE, 3, 2),
    ]


@pytest.mark.parametrize(
    ("size", "granted", "refused", "state"),
    [
        (1, 0, 0, StateType.LEADER),
        (3, 2, 0, StateType.LEADER),
        (3, 1, 0, StateType.LEADER),
        (5, 4, 0, StateType.LEADER),
        (5, 2, 0, StateType.LEADER),
        (3, 0, 2, StateType.FOLLOWER),
        (5, 0, 4, StateType.FOLLOWER),
        (5, 1, 3, StateType.FOLLOWER),
        (3, 0, 0, StateType.CANDIDATE),
        (5, 1, 0, StateType.CANDIDATE),
        (5, 0, 2, StateType.CANDIDATE),
    ],
)
def test_election_in_one_round(size: int, granted: int, refused: int, state: StateType) -> None:
    """A candidate wins with a majority, loses against one, and otherwise goes on waiting (§5.2)."""
    member = member_of(tuple(range(1, size + 1)))
    candidate(member)
    for voter in range(2, 2 + granted + refused):
        member.step(Message(VOTE_RESP, 1, voter, 1, reject=voter >= 2 + granted))
    assert member.node.raft.state == state
    assert member.node.term == 1


@pytest.mark.parametrize(
    ("vote", "asked_by", "refused"),
    [(0, 2, False), (0, 3, False), (2, 2, False), (3, 3, False), (2, 3, True), (3, 2, True)],
)
def test_one_vote_per_term(vote: int, asked_by: int, refused: bool) -> None:
    """A server votes for at most one candidate in a term, first come, first served (§5.2)."""
    storage = storage_of(hard_state=HardState(1, vote, 0))
    [answer] = Member(1, storage).step(Message(VOTE, 1, asked_by, 1))
    assert answer == Message(VOTE_RESP, asked_by, 1, 1, reject=refused)


@pytest.mark.parametrize("ahead", [0, 1])
def test_candidate_gives_way_to_a_leader(ahead: int) -> None:
    """A candidate that hears from a leader of its term or a later one follows it (§5.2)."""
    member = member_of()
    candidate(member)
    member.step(Message(APP, 1, 2, 1 + ahead))
    assert member.node.raft.state == StateType.FOLLOWER
    assert (member.node.lead, member.node.term) == (2, 1 + ahead)


@pytest.mark.parametrize("role", [StateType.FOLLOWER, StateType.CANDIDATE])
def test_election_timeouts_are_random(role: StateType) -> None:
    """Election timeouts are chosen at random from a fixed interval, here [T, 2T) (§5.2)."""
    member = member_of(rng=random.Random(7))
    seen = []
    for term in range(1, 300):
        if role == StateType.FOLLOWER:
            member.step(Message(HEARTBEAT, 1, 2, 2 * term))
        else:
            candidate(member)
        ticks = 0
        before = member.node.term
        while member.node.term == before:
            member.tick()
            ticks += 1
        seen.append(ticks)
    assert sorted(set(seen)) == list(range(ELECTION_TICK, 2 * ELECTION_TICK))


def test_split_votes_are_rare() -> None:
    """Random timeouts make most elections have a single first candidate (§5.2)."""
    rng = random.Random(11)
    alone = 0
    for _ in range(300):
        timeouts = [member_of(rng=rng).node.raft.randomized_election_timeout for _ in range(5)]
        alone += timeouts.count(min(timeouts)) == 1
    assert alone > 180


def test_leader_appends_and_replicates_in_parallel() -> None:
    """A leader appends a command to its log and sends it to everyone at the same time (§5.3)."""
    member = leader(member_of())
    acknowledge(member, member.tick())
    acknowledge(member, [Message(APP, to, 1, 1, entries=[entry(1, 1)]) for to in (2, 3)])
    member.node.propose([b"some data"])
    sent = member.work()
    new = [entry(1, 2, b"some data")]
    assert member.log[1:] == new
    assert [(one.to, one.index, one.log_term, one.entries) for one in sent] == [
        (2, 1, 1, new),
        (3, 1, 1, new),
    ]


def test_leader_commits_and_tells() -> None:
    """An entry on a majority is applied, and the followers are told the commit index (§5.3)."""
    member = leader(member_of())
    acknowledge(member, [Message(APP, to, 1, 1, entries=[entry(1, 1)]) for to in (2, 3)])
    member.node.propose([b"some data"])
    sent = acknowledge(member, member.work())
    assert member.node.committed == 2
    assert member.applied_data() == [b"some data"]
    assert [(one.type, one.commit) for one in sent] == [(APP, 2), (APP, 2)]


@pytest.mark.parametrize(
    ("size", "acknowledged_by", "committed"),
    [
        (1, (), True),
        (3, (), False),
        (3, (2,), True),
        (3, (2, 3), True),
        (5, (), False),
        (5, (2,), False),
        (5, (2, 3), True),
        (5, (2, 3, 4, 5), True),
    ],
)
def test_commit_needs_a_majority(
    size: int, acknowledged_by: tuple[int, ...], committed: bool
) -> None:
    """An entry is committed once the leader has replicated it on a majority (§5.3)."""
    member = leader(member_of(tuple(range(1, size + 1))), size)
    everyone = [Message(APP, to, 1, 1, entries=[entry(1, 1)]) for to in range(2, size + 1)]
    acknowledge(member, everyone)
    member.node.propose([b"x"])
    sent = member.work()
    acknowledge(member, [message for message in sent if message.to in acknowledged_by])
    assert (member.node.committed == 2) is committed


@pytest.mark.parametrize(
    "before",
    [
        [],
        [entry(2, 1)],
        [entry(1, 1), entry(2, 2)],
        [entry(1, 1)],
    ],
)
def test_commit_covers_preceding_entries(before: list[Entry]) -> None:
    """A commit covers all preceding entries, those of earlier leaders included (§5.3)."""
    member = Member(1, storage_of(entries=before, hard_state=HardState(2, 0, 0)))
    leader(member)
    member.node.propose([b"some data"])
    last = len(before) + 2
    member.step(Message(APP_RESP, 1, 2, 3, index=last))
    expected = [*before, entry(3, last - 1), entry(3, last, b"some data")]
    assert member.applied == expected


@pytest.mark.parametrize("commit", [1, 2, 3, 4])
def test_follower_applies_what_is_committed(commit: int) -> None:
    """A follower applies an entry, in log order, once it learns that it is committed (§5.3)."""
    member = member_of()
    entries = [entry(1, index, b"%d" % index) for index in (1, 2, 3, 4)]
    member.step(Message(APP, 1, 2, 1, entries=entries, commit=commit))
    assert member.applied == entries[:commit]


@pytest.mark.parametrize(
    ("term", "index", "matching", "reject", "hint", "hint_term"),
    [
        # Entries up to the commit index match by definition; so does the empty prefix.
        (0, 0, 1, False, 0, 0),
        (1, 1, 1, False, 0, 0),
        (2, 2, 2, False, 0, 0),
        # A wrong term, and a gap.
        (1, 2, 2, True, 1, 1),
        (3, 3, 3, True, 2, 2),
    ],
)
def test_follower_checks_consistency(
    term: int, index: int, matching: int, reject: bool, hint: int, hint_term: int
) -> None:
    """Entries are refused unless the one before them has the same index and term (§5.3)."""
    member = Member(
        1,
        storage_of(entries=[entry(1, 1), entry(2, 2)], hard_state=HardState(2, 0, 1)),
    )
    [answer] = member.step(Message(APP, 1, 2, 2, log_term=term, index=index))
    assert answer == Message(
        APP_RESP, 2, 1, 2, hint_term, matching, reject=reject, reject_hint=hint
    )


@pytest.mark.parametrize(
    ("index", "term", "sent", "log"),
    [
        (2, 2, [(3, 3)], [(1, 1), (2, 2), (3, 3)]),
        (1, 1, [(3, 2), (4, 3)], [(1, 1), (3, 2), (4, 3)]),
        (0, 0, [(1, 1)], [(1, 1), (2, 2)]),
        (0, 0, [(3, 1)], [(3, 1)]),
    ],
)
def test_follower_replaces_conflicting_entries(
    index: int, term: int, sent: list[tuple[int, int]], log: list[tuple[int, int]]
) -> None:
    """A conflicting entry is deleted with all that follow it; new ones are appended (§5.3)."""
    member = Member(1, storage_of(entries=[entry(1, 1), entry(2, 2)]))
    member.step(
        Message(
            APP,
            1,
            2,
            4,
            log_term=term,
            index=index,
            entries=[entry(its_term, its_index) for its_term, its_index in sent],
        )
    )
    assert [(one.term, one.index) for one in member.log] == log


LEADER_LOG = (1, 1, 1, 4, 4, 5, 5, 6, 6, 6)


@pytest.mark.parametrize(
    "terms",
    [
        (1, 1, 1, 4, 4, 5, 5, 6, 6),
        (1, 1, 1, 4),
        (1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6),
        (1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7),
        (1, 1, 1, 4, 4, 4, 4),
        (1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3),
    ],
    ids="abcdef",
)
def test_leader_brings_logs_into_line(terms: tuple[int, ...]) -> None:
    """Whatever a follower's log looks like, the leader makes it equal to its own (figure 7)."""

    def log(terms: tuple[int, ...]) -> list[Entry]:
        return [entry(term, index) for index, term in enumerate(terms, 1)]

    lead = Member(
        1, storage_of(entries=log(LEADER_LOG), hard_state=HardState(7, 0, len(LEADER_LOG)))
    )
    follower = Member(2, storage_of(entries=log(terms), hard_state=HardState(7)))
    # The third member only lends its vote: the follower's log may be the better one.
    group = Group([lead, follower])
    lead.node.campaign()
    lead.work()
    lead.step(Message(VOTE_RESP, 1, 3, 8))
    assert lead.node.is_leader
    group.tick(1, 1)
    group.propose(1, b"new")
    assert follower.log == lead.log
    assert follower.node.committed == lead.node.committed == len(LEADER_LOG) + 2


@pytest.mark.parametrize("log", [[(1, 1)], [(1, 1), (2, 2)]])
def test_vote_requests_describe_the_log(log: list[tuple[int, int]]) -> None:
    """A vote request says how the candidate's log ends, and goes to everyone else (§5.4.1)."""
    entries = [entry(term, index) for term, index in log]
    last = entries[-1]
    member = Member(1, storage_of(entries=entries, hard_state=HardState(last.term)))
    assert candidate(member) == [
        Message(VOTE, to, 1, last.term + 1, last.term, last.index) for to in (2, 3)
    ]


@pytest.mark.parametrize(
    ("log", "log_term", "index", "refused"),
    [
        ([(1, 1)], 1, 1, False),
        ([(1, 1)], 1, 2, False),
        ([(1, 1), (1, 2)], 1, 1, True),
        ([(1, 1)], 2, 1, False),
        ([(1, 1)], 2, 2, False),
        ([(1, 1), (1, 2)], 2, 1, False),
        ([(2, 1)], 1, 1, True),
        ([(2, 1)], 1, 2, True),
        ([(2, 1), (1, 2)], 1, 1, True),
    ],
)
def test_voters_want_an_up_to_date_log(
    log: list[tuple[int, int]], log_term: int, index: int, refused: bool
) -> None:
    """A voter refuses a candidate whose log is behind its own, by last term and index (§5.4.1)."""
    entries = [entry(term, position) for term, position in log]
    member = Member(1, storage_of(entries=entries))
    [answer] = member.step(Message(VOTE, 1, 2, 3, log_term, index))
    assert (answer.type, answer.reject) == (VOTE_RESP, refused)


@pytest.mark.parametrize(("index", "commit"), [(1, 0), (2, 0), (3, 3)])
def test_only_entries_of_the_current_term_are_counted(index: int, commit: int) -> None:
    """Entries of earlier terms are only committed along with one of the current term (§5.4.2)."""
    member = Member(
        1,
        storage_of(entries=[entry(1, 1), entry(2, 2)], hard_state=HardState(2)),
    )
    leader(member)
    assert member.node.term == 3
    member.step(Message(APP_RESP, 1, 2, 3, index=index))
    assert member.node.committed == commit


def test_figure_8() -> None:
    """An entry on a majority can still be replaced if it is of an earlier term (figure 8)."""
    first = entry(1, 1, b"one")
    old, other = entry(2, 2, b"two"), entry(3, 2, b"three")
    logs = {1: [first, old], 2: [first, old], 3: [first], 4: [first], 5: [first, other]}
    group = Group(
        Member(
            member,
            storage_of(logs, log, hard_state=HardState(3, 0, 1)),
            max_size_per_msg=0,  # one entry per message
        )
        for member, log in logs.items()
    )
    # (c) Member 1 is elected in term 4 and brings its old command to member 3; its own first entry
    # reaches no one who could take it. A majority has the old command, yet it is not committed.
    group.isolated = [4, 5]
    group.lost = lambda message: (
        message.type == APP and message.index == 2 == len(group[message.to].log)
    )
    group.elect(1)
    assert [group[member].log for member in (1, 2, 3)] == [
        [first, old, entry(4, 3)],
        [first, old],
        [first, old],
    ]
    assert group[1].node.committed == 1
    # (d) Member 5 is elected by 3 and 4, and replaces it everywhere.
    group.lost = lambda message: False
    group.isolated = [1, 2]
    group[5].step(Message(HEARTBEAT, 5, 1, 4))
    group.elect(5)
    group.isolated = []
    group.tick(2)
    assert group.leaders() == [5]
    expected = [[b"one", b"three"]] * 5
    assert [member.applied_data() for member in group.members.values()] == expected
