"""Locks as the state machine applies them, on a machine in miniature."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from coordinator.domains.locks import model
from coordinator.domains.locks.commands import DOMAIN
from coordinator.replica.tickets import ENDED_TICKET_KEPT_MS, check_guard
from coordinator_sdk.errors import (
    AlreadyExists,
    GuardFailed,
    NotFound,
    NotHeld,
    SessionNotFound,
    WouldDeadlock,
)
from coordinator_sdk.protocol.kv import Guard
from coordinator_sdk.protocol.locks import (
    LockAcquire,
    LockCancel,
    LockForceRelease,
    LockRelease,
)
from coordinator_sdk.protocol.tickets import TicketState
from tests.domains.fake_txn import FakeMachine

NS, NAME = "default", "backup"


@pytest.fixture
def machine() -> FakeMachine:
    made = FakeMachine(DOMAIN)
    for session in (1, 2, 3):
        made.open_session(session)
    return made


def acquire(
    machine: FakeMachine, session: int, ticket: str, owner: str = "o", timeout_ms: int | None = None
) -> TicketState:
    state: TicketState = machine.apply(
        LockAcquire(NS, NAME, session, owner, ticket, timeout_ms=timeout_ms)
    )
    return state


def release(machine: FakeMachine, session: int, token: int, owner: str = "o") -> None:
    machine.apply(LockRelease(NS, NAME, session, owner, token))


def state(machine: FakeMachine, ticket: str) -> TicketState:
    return model.ticket_view(machine, NS, NAME, ticket)


def waiter_timer(machine: FakeMachine) -> bytes:
    (key,) = [key for key in machine.timers if b"waiter" in key]
    return key


def test_a_free_lock_is_granted_at_once(machine):
    """A free lock is granted in the entry that asks; the token is its revision."""
    granted = acquire(machine, 1, "t1")
    assert (granted.state, granted.token) == ("granted", machine.published)
    assert state(machine, "t1") == granted


def test_a_release_grants_the_next_in_the_same_revision(machine):
    """Release and the grant to the first waiter are one revision, with a higher token."""
    first = acquire(machine, 1, "t1")
    assert acquire(machine, 2, "t2").position == 1
    assert acquire(machine, 3, "t3").position == 2
    before = machine.published
    release(machine, 1, first.token)
    assert machine.published == before + 1
    second = state(machine, "t2")
    assert (second.state, second.token) == ("granted", machine.published)
    assert state(machine, "t3").position == 1
    assert state(machine, "t1").state == "released"


def test_a_try_does_not_wait(machine):
    """With timeout 0 a held lock is not waited for, and nothing is written."""
    acquire(machine, 1, "t1")
    before = machine.published
    assert acquire(machine, 2, "t2", timeout_ms=0).state == "expired"
    assert machine.published == before


def test_a_waiter_leaves_at_its_deadline(machine):
    """A waiter whose deadline passes leaves the queue; its ticket says so for a while."""
    acquire(machine, 1, "t1")
    acquire(machine, 2, "t2", timeout_ms=700)
    acquire(machine, 3, "t3")
    key = waiter_timer(machine)
    assert machine.timers[key] == 700
    machine.run_timer(key)
    ended = state(machine, "t2")
    assert (ended.state, ended.reason) == ("expired", "timeout")
    assert state(machine, "t3").position == 1
    assert acquire(machine, 2, "t2").state == "expired", "a retry gets the same answer"
    (kept,) = machine.timers
    assert machine.timers[kept] == ENDED_TICKET_KEPT_MS
    machine.run_timer(kept)
    assert state(machine, "t2").state == "released"
    assert machine.timers == {}


def test_a_grant_stops_the_deadline(machine):
    """The deadline of a waiter that is granted does not run on."""
    token = acquire(machine, 1, "t1").token
    acquire(machine, 2, "t2", timeout_ms=700)
    release(machine, 1, token)
    assert machine.timers == {}


def test_the_same_ticket_asks_for_the_same_thing(machine):
    """Asking again with a ticket gives its current state and changes nothing."""
    token = acquire(machine, 1, "t1").token
    acquire(machine, 2, "t2")
    before = machine.published
    assert acquire(machine, 1, "t1").token == token
    assert acquire(machine, 2, "t2").state == "queued"
    assert machine.published == before
    release(machine, 1, token)
    assert acquire(machine, 2, "t2").state == "granted"


def test_a_ticket_belongs_to_its_session(machine):
    """A ticket that another session uses, waiting or granted, is refused."""
    acquire(machine, 1, "t1")
    acquire(machine, 2, "t2")
    for ticket in ("t1", "t2"):
        with pytest.raises(AlreadyExists):
            acquire(machine, 3, ticket)


def test_an_owner_does_not_wait_for_itself(machine):
    """An owner that holds or awaits a lock is told so; another owner of the session waits."""
    acquire(machine, 1, "t1")
    with pytest.raises(WouldDeadlock):
        acquire(machine, 1, "t2")
    assert acquire(machine, 1, "t3", owner="other").state == "queued"
    with pytest.raises(WouldDeadlock):
        acquire(machine, 1, "t4", owner="other")


def test_a_lock_needs_a_live_session(machine):
    """A session that does not exist, or has ended, takes no lock."""
    with pytest.raises(SessionNotFound):
        acquire(machine, 9, "t1")
    machine.end_session(1)
    with pytest.raises(SessionNotFound):
        acquire(machine, 1, "t1")


def test_only_the_holder_releases(machine):
    """Session, owner and token must all be the holder's."""
    token = acquire(machine, 1, "t1").token
    for session, owner, wrong in ((2, "o", token), (1, "x", token), (1, "o", token + 1)):
        with pytest.raises(NotHeld):
            machine.apply(LockRelease(NS, NAME, session, owner, wrong))
    release(machine, 1, token)
    with pytest.raises(NotHeld):
        release(machine, 1, token)


def test_the_end_of_a_session_hands_over(machine):
    """The holder's end grants the first waiter that lives, in the same revision."""
    acquire(machine, 1, "t1")
    acquire(machine, 2, "t2")
    acquire(machine, 1, "t1b", owner="second")
    acquire(machine, 3, "t3", timeout_ms=100)
    machine.end_session(1)
    assert state(machine, "t2").token == machine.published
    assert state(machine, "t3").position == 1
    machine.end_session(3)
    assert machine.timers == {}
    assert machine.count(*model.waiters(NS, NAME)) == 0


def test_nobody_overtakes_a_queue_whose_holder_has_ended(machine):
    """Between the end of the holder's session and its hook, the queue goes before newcomers."""
    acquire(machine, 1, "t1")
    acquire(machine, 2, "t2")
    gone = machine.end_lease(1)
    assert acquire(machine, 3, "t3", timeout_ms=0).state == "expired"
    assert state(machine, "t2").state == "granted"
    token = state(machine, "t2").token
    machine.run_hooks(gone)
    assert state(machine, "t2").token == token


def test_cancel_leaves_the_queue_or_gives_back(machine):
    """Cancelling a waiting ticket leaves the queue; a granted one gives the lock back."""
    acquire(machine, 1, "t1")
    acquire(machine, 2, "t2")
    acquire(machine, 3, "t3")
    assert machine.apply(LockCancel(NS, NAME, "t2")).released
    assert state(machine, "t2").state == "cancelled"
    assert machine.apply(LockCancel(NS, NAME, "t1")).released
    assert state(machine, "t3").state == "granted"
    before = machine.published
    assert not machine.apply(LockCancel(NS, NAME, "t2")).released
    assert machine.apply(LockCancel(NS, NAME, "nothing")).revision == before


def test_force_release_tells_the_holder_why(machine):
    """A forced release grants the next waiter, and the broken ticket carries the reason."""
    token = acquire(machine, 1, "t1").token
    acquire(machine, 2, "t2")
    with pytest.raises(NotHeld):
        machine.apply(LockForceRelease(NS, NAME, "stuck", token + 1))
    machine.apply(LockForceRelease(NS, NAME, "stuck", token))
    assert (state(machine, "t1").state, state(machine, "t1").reason) == ("released", "stuck")
    assert state(machine, "t2").state == "granted"
    machine.apply(LockForceRelease(NS, NAME, "again"))
    with pytest.raises(NotFound):
        machine.apply(LockForceRelease(NS, NAME, "nobody"))


def test_a_guard_passes_only_while_the_lock_is_held(machine):
    """A guard passes with the live token, session and owner, and with nothing else."""
    token = acquire(machine, 1, "t1").token
    good = Guard("locks", NS, NAME, token, 1, "o")
    check_guard(machine, good)
    for bad in (
        Guard("locks", NS, NAME, token - 1, 1, "o"),
        Guard("locks", NS, NAME, token, 2, "o"),
        Guard("locks", NS, NAME, token, 1, "x"),
        Guard("locks", "other", NAME, token, 1, "o"),
        Guard("elections", NS, NAME, token, 1, "o"),
    ):
        with pytest.raises(GuardFailed):
            check_guard(machine, bad)
    release(machine, 1, token)
    with pytest.raises(GuardFailed):
        check_guard(machine, good)


def test_locks_of_different_names_and_namespaces_are_apart(machine):
    """Neither a namespace nor a name with odd characters reaches another lock."""
    for namespace, name in (("a", "b"), ("a", "b\x00c"), ("ab", ""), ("a", "b/c"), ("b", "b")):
        answer = machine.apply(LockAcquire(namespace, name, 1, "o", "t"))
        assert answer.state == "granted"


class Queue(RuleBasedStateMachine):
    """A lock against a list: the first element holds, the others wait in their order."""

    def __init__(self) -> None:
        super().__init__()
        self.machine = FakeMachine(DOMAIN)
        self.queue: list[tuple[int, str, str]] = []
        self.sessions: list[int] = []
        self.tokens: list[int] = []
        self.granted: list[str] = []
        self.tickets = 0
        self.next_session = 1

    @initialize()
    def begin(self) -> None:
        self.open()
        self.open()

    @rule()
    def open(self) -> None:
        self.sessions.append(self.machine.open_session(self.next_session))
        self.next_session += 1

    @rule(data=st.data(), owner=st.sampled_from("ab"), timeout=st.sampled_from([None, 0, 50]))
    def acquire(self, data: st.DataObject, owner: str, timeout: int | None) -> None:
        session = data.draw(st.sampled_from(self.sessions)) if self.sessions else 0
        if not session:
            return
        self.tickets += 1
        ticket = f"t{self.tickets}"
        if any(entry[:2] == (session, owner) for entry in self.queue):
            with pytest.raises(WouldDeadlock):
                acquire(self.machine, session, ticket, owner, timeout)
            return
        answer = acquire(self.machine, session, ticket, owner, timeout)
        if not self.queue or timeout != 0:
            self.queue.append((session, owner, ticket))
            place = len(self.queue) - 1
            assert (answer.state, answer.position) == ("queued" if place else "granted", place)
        else:
            assert answer.state == "expired"

    @rule()
    def retry(self) -> None:
        for session, owner, ticket in self.queue[:3]:
            before = self.machine.published
            answer = acquire(self.machine, session, ticket, owner)
            assert answer.state in ("granted", "queued")
            assert self.machine.published == before

    @rule()
    def release(self) -> None:
        if self.queue:
            session, owner, _ = self.queue.pop(0)
            release(self.machine, session, self.tokens[-1], owner)

    @rule(reason=st.text(max_size=3))
    def force_release(self, reason: str) -> None:
        if self.queue:
            self.queue.pop(0)
            self.machine.apply(LockForceRelease(NS, NAME, reason))

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        if self.queue:
            entry = data.draw(st.sampled_from(self.queue))
            self.queue.remove(entry)
            assert self.machine.apply(LockCancel(NS, NAME, entry[2])).released

    @rule(data=st.data())
    def run_a_timer(self, data: st.DataObject) -> None:
        if self.machine.timers:
            key = data.draw(st.sampled_from(sorted(self.machine.timers)))
            record = self.machine.get(key)
            if record is not None and b"waiter" in key:
                ticket = model.waiter_view(record).ticket
                self.queue = [entry for entry in self.queue if entry[2] != ticket]
            self.machine.run_timer(key)

    @rule(data=st.data(), split=st.booleans())
    def end_session(self, data: st.DataObject, split: bool) -> None:
        if len(self.sessions) > 1:
            session = data.draw(st.sampled_from(self.sessions))
            self.sessions.remove(session)
            self.queue = [entry for entry in self.queue if entry[0] != session]
            if split:
                self.machine.run_hooks(self.machine.end_lease(session))
            else:
                self.machine.end_session(session)

    @invariant()
    def the_first_holds_and_the_others_wait(self) -> None:
        info = model.lock_view(self.machine, NS, NAME)
        if not self.queue:
            assert info.holder is None
            assert info.queue == []
            return
        session, owner, ticket = self.queue[0]
        assert info.holder is not None
        assert (info.holder.session, info.holder.owner, info.holder.ticket) == self.queue[0]
        assert [(w.session, w.owner, w.ticket) for w in info.queue] == self.queue[1:]
        if not self.granted or self.granted[-1] != ticket:
            assert ticket not in self.granted, "a ticket is granted once"
            assert not self.tokens or info.holder.token > self.tokens[-1], "tokens increase"
            self.granted.append(ticket)
            self.tokens.append(info.holder.token)

    @invariant()
    def nothing_is_left_behind(self) -> None:
        kept = [key for key in self.machine.keys if b"\x02owner\x00" in key]
        assert len(kept) == max(0, len(self.queue) - 1)
        for key in self.machine.timers:
            assert self.machine.get(key) is not None, "a timer outlives its record"


Queue.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestQueue = Queue.TestCase
