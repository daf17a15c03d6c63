"""Reads: from when on the local state may be read, and that nothing older is ever shown."""

import pytest

from coordinator.raft.messages import NO_ONE
from coordinator_sdk.errors import CoordinatorError, NoLeader
from coordinator_sdk.protocol.kv import Put
from tests.replica.member import Member


def test_read_sees_every_acknowledged_write():
    """A read that begins after a write was acknowledged sees it."""
    member = Member()
    seen: list[bytes | None] = []
    for number in range(20):
        member.execute(Put(b"a", b"%d" % number))
        member.replica.read(lambda error: seen.append(member.value(b"a")))
        member.settle()
        assert seen[-1] == b"%d" % number


@pytest.mark.parametrize("saves", [False, True])
def test_read_after_a_crash_sees_what_was_acknowledged_before(saves: bool):
    """After a crash no read is answered before everything acknowledged earlier is applied,
    although the commit index on disk lags behind."""
    member = Member()
    seen: list[bytes | None] = []

    def note(error: CoordinatorError | None) -> None:
        if error is None:
            seen.append(member.value(b"a"))

    for number in range(200):
        member.execute(Put(b"a", b"%d" % number))
        if saves and number == 150:
            member.save()
    member.crash()
    member.start(campaigns=False)
    member.replica.raw.campaign()
    while not seen:
        member.replica.read(note)
        member.turn()
        member.replica.apply(entries_max=1)
    assert seen[0] == b"199"


def test_read_without_a_leader_waits_and_is_refused():
    """Without a leader a read waits for one, then is refused; never answered from what is there."""
    member = Member()
    member.execute(Put(b"a", b"1"))
    member.stop()
    member.start(campaigns=False)
    assert member.replica.raw.lead == NO_ONE
    answers: list[CoordinatorError | None] = []
    member.replica.read(answers.append)
    member.turn()
    assert not answers
    member.now_ms += 60_000  # One tick: too few for an election.
    member.replica.set_time(member.now_ms, member.wall_ms)
    member.replica.tick()
    assert len(answers) == 1
    assert isinstance(answers[0], NoLeader)


def test_one_round_serves_all_reads_of_a_turn():
    """Reads that arrive in one turn are answered together, each once."""
    member = Member()
    answers: list[CoordinatorError | None] = []
    for _ in range(100):
        member.replica.read(answers.append)
    member.settle()
    assert answers == [None] * 100
