"""Majorities and joint majorities, compared with definitions too slow to be used."""

from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from coordinator.raft.quorum import (
    INFINITE_INDEX,
    VoteResult,
    describe_majority,
    joint_committed,
    joint_vote,
    majority_committed,
    majority_vote,
)
from tests.raft.tables import naive_committed

IDS = st.integers(1, 9)
VOTERS = st.lists(IDS, unique=True, max_size=9).map(lambda ids: tuple(sorted(ids)))
ACKED = st.dictionaries(IDS, st.integers(0, 12))
VOTES = st.dictionaries(IDS, st.booleans())


def wins(voters: tuple[int, ...], votes: dict[int, bool]) -> bool:
    return 2 * sum(votes.get(voter, False) for voter in voters) > len(voters) or not voters


def naive_vote(
    incoming: tuple[int, ...], outgoing: tuple[int, ...], votes: dict[int, bool]
) -> VoteResult:
    """Return how an election stands, by looking at every way in which it may go on."""
    missing = [voter for voter in dict.fromkeys(incoming + outgoing) if voter not in votes]
    outcomes = []
    for answers in product((True, False), repeat=len(missing)):
        complete = votes | dict(zip(missing, answers, strict=True))
        outcomes.append(wins(incoming, complete) and wins(outgoing, complete))
    if all(outcomes):
        return VoteResult.WON
    return VoteResult.PENDING if any(outcomes) else VoteResult.LOST


@given(VOTERS, ACKED)
def test_committed_is_what_a_majority_has(voters: tuple[int, ...], acked: dict[int, int]) -> None:
    """The committed index is the highest one that more than half of the voters have."""
    assert majority_committed(voters, acked) == naive_committed(voters, acked)


@given(VOTERS, VOTERS, ACKED)
def test_joint_committed_is_what_both_have(
    incoming: tuple[int, ...], outgoing: tuple[int, ...], acked: dict[int, int]
) -> None:
    """A joint configuration commits what both majorities have, whichever comes first."""
    expected = min(naive_committed(incoming, acked), naive_committed(outgoing, acked))
    assert joint_committed(incoming, outgoing, acked) == expected
    assert joint_committed(outgoing, incoming, acked) == expected


@given(VOTERS, ACKED, IDS)
def test_committed_never_falls(voters: tuple[int, ...], acked: dict[int, int], voter: int) -> None:
    """An acknowledgement never lowers the committed index."""
    before = majority_committed(voters, acked)
    acked[voter] = acked.get(voter, 0) + 3
    assert majority_committed(voters, acked) >= before


@given(VOTERS, VOTERS, VOTES)
def test_votes_are_decided_as_early_as_possible(
    incoming: tuple[int, ...], outgoing: tuple[int, ...], votes: dict[int, bool]
) -> None:
    """An election is won or lost as soon as no missing answer can change that, and not before."""
    assert joint_vote(incoming, outgoing, votes) == naive_vote(incoming, outgoing, votes)
    assert joint_vote(outgoing, incoming, votes) == naive_vote(incoming, outgoing, votes)


@given(VOTERS, VOTES)
def test_an_empty_half_changes_nothing(voters: tuple[int, ...], votes: dict[int, bool]) -> None:
    """Joined with nobody, or with itself, a configuration decides as it would alone."""
    assert joint_vote(voters, (), votes) == majority_vote(voters, votes)
    assert joint_vote(voters, voters, votes) == majority_vote(voters, votes)


def test_nobody_agrees_with_everything() -> None:
    """The empty configuration has committed everything and wins every election."""
    assert majority_committed((), {}) == INFINITE_INDEX
    assert joint_committed((), (), {}) == INFINITE_INDEX
    assert majority_vote((), {}) == VoteResult.WON
    assert describe_majority(()) == "()"
    assert describe_majority((1, 10, 11)) == "(1 a b)"
