"""Commands over pure functions: quorums and configuration changes."""

from collections.abc import Mapping

from coordinator.raft.confchange import Changer
from coordinator.raft.errors import ConfChangeRefused
from coordinator.raft.quorum import (
    INFINITE_INDEX,
    VoteResult,
    joint_committed,
    joint_vote,
    majority_committed,
    majority_vote,
)
from coordinator.raft.tracker import ProgressTracker
from tests.raft.datadriven import Case
from tests.raft.describe import camel, parse_changes

Voters = tuple[int, ...]
VOTES = {"y": True, "n": False}


def naive_committed(voters: Voters, acked: Mapping[int, int]) -> int:
    """Return the highest index that a majority has acknowledged, by trying each of them."""
    if not voters:
        return INFINITE_INDEX
    indexes = [acked.get(voter, 0) for voter in voters]
    return max(
        (index for index in indexes if 2 * sum(other >= index for other in indexes) > len(voters)),
        default=0,
    )


class QuorumTable:
    """The commands `committed` and `vote`."""

    def run(self, case: Case) -> str:
        """Carry out one command and return its output."""
        voters = _ids(case, "cfg")
        is_joint = any(key == "cfgj" for key, _ in case.pairs())
        others = _ids(case, "cfgj")
        everyone = tuple(dict.fromkeys(voters + others))
        key = {"committed": "idx", "vote": "votes"}.get(case.command)
        if key is None:
            return "unknown command"
        values = [value for name, value in case.pairs() if name == key]
        if len(values) != len(everyone):
            return (
                f"error: mismatched input (explicit or _) for voters {sorted(everyone)}: {values}"
            )
        given = dict(zip(everyone, values, strict=True))
        known = {voter: value for voter, value in given.items() if value != "_"}
        voters, others = tuple(sorted(voters)), tuple(sorted(others))
        if case.command == "vote":
            votes = {voter: VOTES[value] for voter, value in known.items()}
            return _vote(voters, others, votes, is_joint=is_joint)
        acked = {voter: int(value) for voter, value in known.items()}
        return _committed(voters, others, acked, is_joint=is_joint)


def _ids(case: Case, key: str) -> Voters:
    return tuple(int(value) for name, value in case.pairs() if name == key and value != "zero")


def _vote(voters: Voters, others: Voters, votes: dict[int, bool], *, is_joint: bool) -> str:
    if not is_joint:
        return _vote_name(majority_vote(voters, votes))
    result = joint_vote(voters, others, votes)
    text = ""
    if joint_vote(others, voters, votes) != result:
        text = "differs <-- via symmetry\n"
    return text + _vote_name(result)


def _vote_name(result: VoteResult) -> str:
    return "Vote" + camel(result.name)


def _committed(voters: Voters, others: Voters, acked: dict[int, int], *, is_joint: bool) -> str:
    """Return the picture, the index, and every way of computing it that gives another one."""
    if is_joint:
        index = joint_committed(voters, others, acked)
        text = _picture(tuple(sorted(dict.fromkeys(voters + others))), acked)
        if joint_committed(others, voters, acked) != index:
            text += "differs <-- via symmetry\n"
        return text + _index_name(index)
    index = majority_committed(voters, acked)
    text = _picture(voters, acked)
    alternatives = {
        "via alternative computation": naive_committed(voters, acked),
        "via zero-joint quorum": joint_committed(voters, (), acked),
        "via self-joint quorum": joint_committed(voters, voters, acked),
    }
    for voter, its in acked.items():
        # Whoever lags behind the committed index may lag further without changing it.
        if voter in voters and 0 < its < index:
            for lower in (its - 1, 0):
                alternatives[f"overlaying {voter}->{lower}"] = majority_committed(
                    voters, acked | {voter: lower}
                )
    for name, alternative in alternatives.items():
        if alternative != index:
            text += f"{_index_name(alternative)} <-- {name}\n"
    return text + _index_name(index)


def _index_name(index: int) -> str:
    return "∞" if index == INFINITE_INDEX else str(index)


def _picture(voters: Voters, acked: Mapping[int, int]) -> str:
    """Return a bar for each voter, the longer the more voters lag behind it."""
    if not voters:
        return "<empty majority quorum>"
    count = len(voters)
    ordered = sorted(voters, key=lambda voter: (acked.get(voter, 0), voter))
    bars = dict.fromkeys(voters, 0)
    for position in range(1, count):
        before, voter = ordered[position - 1], ordered[position]
        is_ahead = acked.get(before, 0) < acked.get(voter, 0)
        bars[voter] = position if is_ahead else bars[before]
    text = " " * count + "    idx\n"
    for voter in voters:
        bar = bars[voter]
        drawn = "x" * bar + ">" + " " * (count - bar) if voter in acked else "?" + " " * count
        text += f"{drawn} {acked.get(voter, 0):5d}    (id={voter:x})\n"
    return text


class ConfChangeTable:
    """The commands `simple`, `enter-joint` and `leave-joint`, on one configuration."""

    def __init__(self) -> None:
        """Begin with the empty configuration."""
        self._tracker = ProgressTracker(10, 0)
        self._last_index = 0

    def run(self, case: Case) -> str:
        """Carry out one command and return its output."""
        try:
            return self._run(case)
        except (ConfChangeRefused, ValueError) as error:
            return str(error)
        finally:
            self._last_index += 1

    def _run(self, case: Case) -> str:
        changes = parse_changes(case.input)
        changer = Changer(self._tracker, self._last_index)
        if case.command == "simple":
            membership = changer.simple(changes)
        elif case.command == "enter-joint":
            auto_leave = (case.value("autoleave") or "false").lower() in ("1", "t", "true")
            membership = changer.enter_joint(changes, auto_leave=auto_leave)
        elif case.command == "leave-joint":
            if changes:
                return "this command takes no input"
            membership = changer.leave_joint()
        else:
            return "unknown command"
        self._tracker.config, self._tracker.progress = membership
        text = f"{self._tracker.config}\n"
        for member, its in self._tracker.progress.items():
            text += f"{member}: {its}\n"
        return text
