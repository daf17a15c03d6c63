"""Timers: replicated records that the leader times, with generations against late firing."""

from coordinator.keyspace.records import SYSTEM
from coordinator.wire.command import TimerFire
from tests.replica import probe
from tests.replica.member import TICK_MS, Member, state_of
from tests.replica.probe import PROBE, Do


def fired(member: Member, name: str) -> int:
    """Give how often a timer has run."""
    record = member.machine.keyspace.get(SYSTEM, probe.key(name, "fired"))
    return 0 if record is None else int(record.value)


def test_timer_runs_once():
    """A timer runs once, not before its duration has passed."""
    member = Member((PROBE,))
    member.execute(Do(timers=["t"], duration_ms=1000))
    member.advance(1000 - TICK_MS)
    assert fired(member, "t") == 0
    member.advance(2 * TICK_MS)
    assert fired(member, "t") == 1
    member.advance(60_000)
    assert fired(member, "t") == 1
    assert member.machine.timers.records == {}


def test_cancelled_timer_does_not_run():
    """A cancelled timer does not run, even if its firing is on its way."""
    member = Member((PROBE,))
    member.execute(Do(timers=["t"], duration_ms=1000))
    cancel = member.propose(Do(cancels=["t"]))
    member.advance(5000, settles=False)
    member.settle()
    cancel.result()
    member.advance(5000)
    assert fired(member, "t") == 0


def test_generation_stops_a_late_firing():
    """A firing of an earlier generation does nothing to a timer that was set anew."""
    member = Member((PROBE,))
    member.execute(Do(timers=["t"], duration_ms=1000))
    generation = member.machine.timers.records[probe.key("t")].generation
    member.execute(Do(timers=["t"], duration_ms=9000))
    member.execute(TimerFire(probe.key("t"), generation))
    assert fired(member, "t") == 0
    member.advance(8000)
    assert fired(member, "t") == 0
    member.advance(1000 + TICK_MS)
    assert fired(member, "t") == 1


def test_timer_that_is_shortened_runs_early():
    """A timer set anew with a shorter duration runs after that one."""
    member = Member((PROBE,))
    member.execute(Do(timers=["t"], duration_ms=60_000))
    member.execute(Do(timers=["t"], duration_ms=500))
    member.advance(600)
    assert fired(member, "t") == 1


def test_hook_may_set_its_timer_again():
    """A timer that its own hook sets again keeps running."""
    member = Member((PROBE,))
    member.execute(Do(timers=["again"], duration_ms=1000))
    member.advance(10_500)
    assert fired(member, "again") in (8, 9, 10)


def test_firing_twice_counts_once():
    """A firing that is proposed twice runs the timer once."""
    member = Member((PROBE,))
    member.execute(Do(timers=["t"], duration_ms=1000))
    generation = member.machine.timers.records[probe.key("t")].generation
    for _ in range(2):
        member.execute(TimerFire(probe.key("t"), generation))
    assert fired(member, "t") == 1


def test_new_leader_starts_the_full_duration():
    """After taking office every timer runs its full duration again."""
    member = Member((PROBE,))
    member.execute(Do(timers=["t"], duration_ms=2000))
    member.advance(1900)
    for saves in (False, True):
        member.restart(saves=saves)
        member.advance(1800)
        assert fired(member, "t") == 0
    member.advance(300)
    assert fired(member, "t") == 1
    assert state_of(member.reloaded()) == state_of(member.machine)


def test_ended_deadlines_are_forgotten():
    """Timers and leases that end long before their time leave nothing with the leader."""
    member = Member((PROBE,))
    clock = member.replica.clock
    for lease in range(1, 3001):
        member.execute(Do(timers=["t"], duration_ms=3_600_000))
        member.execute(Do(cancels=["t"]))
        clock.granted(lease, 3_600_000)
        clock.ended(lease)
    for deadlines in (clock._timers, clock._leases):
        assert len(deadlines) == 0
        assert len(deadlines._heap) <= 2000


def test_timer_of_a_refused_entry_is_as_before():
    """A refused entry leaves the deadlines of timers that it had set anew, cancelled or begun."""
    member = Member((PROBE,))
    member.execute(Do(timers=["again", "kept"], duration_ms=1000))
    member.refusal(Do(timers=["again", "new"], cancels=["kept"], duration_ms=9000, fails=True))
    assert len(member.replica.clock._timers) == 2
    member.advance(1500)
    assert (fired(member, "kept"), fired(member, "new")) == (1, 0)
    assert fired(member, "again") >= 1
