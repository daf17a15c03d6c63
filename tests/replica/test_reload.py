"""What the state database keeps is the whole state: a reload in the middle changes nothing."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.replica.commands import MEETING
from tests.replica.member import Member, state_of

STEPS = st.lists(
    st.one_of(
        MEETING,
        st.sampled_from([100, 700, 3000]),  # milliseconds that pass
    ),
    max_size=40,
)


def play(member: Member, step: Any, number: int) -> Any:
    """Take one step: let time pass, or apply a command, every other one with a request id."""
    if isinstance(step, int):
        member.advance(step)
        return None
    who = {"client": 21, "sequence": number, "floor": max(1, number - 3)} if number % 2 else {}
    answer = member.propose(step, **who)
    member.settle()
    assert not member.faults
    return answer.outcome


def settled(member: Member) -> dict[str, Any]:
    """Give the state without what differs between a member that went on and one that restarted."""
    state = state_of(member.machine)
    for name in ("index", "term", "clock", "chain", "timers", "requests"):
        del state[name]
    return state


@given(STEPS)
def test_reload_gives_everything_back(steps: list[Any]):
    """Whatever was applied, loading the saved rows gives the same state, chain and all."""
    member = Member()
    member.register(21)
    for number, step in enumerate(steps, 1):
        play(member, step, number)
        if number % 7 == 0:
            assert state_of(member.reloaded()) == state_of(member.machine)
    assert state_of(member.reloaded()) == state_of(member.machine)


@given(STEPS, st.integers(0, 40), st.booleans())
def test_replay_over_a_saved_state_gives_the_same(steps: list[Any], at: int, tears: bool):
    """Saving anywhere, losing power at the end and replaying the rest gives the same state."""
    member = Member()
    member.register(21)
    for number, step in enumerate(steps, 1):
        if number == at:
            member.save()
        play(member, step, number)
    before = state_of(member.machine)
    member.crash(keep_bytes=17 if tears else 0)
    member.replay_to(member.machine.index)
    assert state_of(member.machine) == before


@given(STEPS, st.sets(st.integers(0, 40), max_size=4))
def test_restarts_do_not_change_outcomes(steps: list[Any], restarts: set[int]):
    """Commands have the same outcomes and effects on a member that restarts between them.

    Time stands still: how long leases and timers have run is forgotten by a restart.
    """
    plain, restarting = Member(), Member()
    plain.register(21)
    restarting.register(21)
    for number, step in enumerate(steps, 1):
        if isinstance(step, int):
            continue
        if number in restarts:
            restarting.restart(saves=number % 2 == 0)
        assert play(plain, step, number) == play(restarting, step, number)
    assert settled(plain) == settled(restarting)
