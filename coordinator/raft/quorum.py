"""Majorities, and pairs of majorities. Pure functions over sorted tuples of ids.

A configuration is a tuple of voters in ascending order. A joint configuration is a pair of them,
and decides only what both halves decide (Raft thesis §4.3). The empty configuration agrees with
everything, so that an empty second half makes a pair behave like its first half.
"""

from collections.abc import Mapping
from enum import IntEnum
from typing import Final

INFINITE_INDEX: Final = (1 << 64) - 1
"""What a configuration without voters has committed: everything."""


class VoteResult(IntEnum):
    """How an election stands."""

    PENDING = 1
    """Votes still missing decide."""
    LOST = 2
    """Enough voters refused: it cannot be won any more."""
    WON = 3


def majority_committed(voters: tuple[int, ...], acked: Mapping[int, int]) -> int:
    """Return the highest index that a majority has acknowledged.

    Args:
        voters: The configuration.
        acked: Highest index acknowledged, by voter; one that is missing has acknowledged nothing.

    Returns:
        The index; `INFINITE_INDEX` if there are no voters.
    """
    return majority_index([acked.get(voter, 0) for voter in voters])


def majority_index(indexes: list[int]) -> int:
    """Return the highest index that a majority has reached; `INFINITE_INDEX` if there is no one.

    Args:
        indexes: What each voter has reached. Sorted in place.
    """
    if not indexes:
        return INFINITE_INDEX
    indexes.sort()
    # Counted from the top, the first index that half the voters plus one have reached.
    return indexes[(len(indexes) - 1) // 2]


def majority_vote(voters: tuple[int, ...], votes: Mapping[int, bool]) -> VoteResult:
    """Return how an election stands in one configuration.

    Args:
        voters: The configuration.
        votes: Granted or refused, by voter; one that is missing has not answered yet.
    """
    if not voters:
        return VoteResult.WON
    granted = missing = 0
    for voter in voters:
        vote = votes.get(voter)
        if vote is None:
            missing += 1
        elif vote:
            granted += 1
    needed = len(voters) // 2 + 1
    if granted >= needed:
        return VoteResult.WON
    if granted + missing >= needed:
        return VoteResult.PENDING
    return VoteResult.LOST


def joint_committed(
    incoming: tuple[int, ...], outgoing: tuple[int, ...], acked: Mapping[int, int]
) -> int:
    """Return the highest index that a majority of each half has acknowledged."""
    committed = majority_committed(incoming, acked)
    if outgoing:
        return min(committed, majority_committed(outgoing, acked))
    return committed


def joint_vote(
    incoming: tuple[int, ...], outgoing: tuple[int, ...], votes: Mapping[int, bool]
) -> VoteResult:
    """Return how an election stands that has to be won in each half."""
    first = majority_vote(incoming, votes)
    second = majority_vote(outgoing, votes)
    if first == second:
        return first
    if VoteResult.LOST in (first, second):
        return VoteResult.LOST
    return VoteResult.PENDING


def describe_majority(voters: tuple[int, ...]) -> str:
    """Return a configuration as text: ids in hexadecimal, in parentheses."""
    return "(" + " ".join(f"{voter:x}" for voter in voters) + ")"
