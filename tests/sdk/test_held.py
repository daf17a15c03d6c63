"""Locks and leaderships: waiting, holding, losing, giving back."""

# ruff: noqa: PT012 - what raises is the end of `async with`

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from coordinator_sdk import (
    AcquireTimeout,
    Client,
    InvalidRequest,
    LeadershipLost,
    Lock,
    LockLost,
    NotHeld,
    SessionLost,
    WouldDeadlock,
)
from coordinator_sdk.protocol import locks
from tests.sdk.server import FakeServer


def queue(server: FakeServer, name: str = "l", kind: str = "locks") -> list[str]:
    """The owners in a queue, the holder first."""
    return [place.owner for place in server.cluster.queue(kind, name).places]


async def force(server: FakeServer, name: str = "l", reason: str = "because") -> None:
    """Take a lock from its holder, as an operator would."""
    server.cluster.apply(locks.LockForceRelease("default", name, reason))
    await server.tell()


async def test_a_lock_is_held_in_its_body(server: FakeServer, client: Client) -> None:
    """A lock is taken at the start of its body and given back at the end."""
    lock = client.locks.lock("l", owner="me")
    assert (lock.held, lock.token) == (False, 0)
    async with lock as same:
        assert same is lock
        assert lock.held
        assert lock.token == server.cluster.queue("locks", "l").places[0].token
        assert queue(server) == ["me"]
        lock.check()
    assert (lock.held, lock.token, queue(server)) == (False, 0, [])
    with pytest.raises(NotHeld):
        lock.check()


async def test_a_lock_can_be_used_again(client: Client) -> None:
    """A lock object can be taken again after it was given back; its token grows."""
    lock = client.locks.lock("l")
    tokens = []
    for _ in range(3):
        async with lock:
            tokens.append(lock.token)
    assert tokens == sorted(set(tokens))


async def test_waiters_are_granted_in_order(client: Client) -> None:
    """Waiters get the lock one by one, in the order in which they asked."""
    order: list[int] = []

    async def work(number: int) -> None:
        async with client.locks.lock("l"):
            order.append(number)
            await asyncio.sleep(0)

    async with client.locks.lock("l"):
        tasks = []
        for number in range(10):
            tasks.append(asyncio.ensure_future(work(number)))
            await client.cluster.ping()
        assert order == []
    await asyncio.gather(*tasks)
    assert order == list(range(10))


async def test_an_object_is_one_owner(client: Client) -> None:
    """Taking the same object twice, or while another task waits with it, is an error."""
    lock = client.locks.lock("l")
    async with lock:
        with pytest.raises(WouldDeadlock):
            await lock.acquire()
        waiting = client.locks.lock("l")
        task = asyncio.ensure_future(waiting.acquire())
        await client.cluster.ping()
        with pytest.raises(WouldDeadlock):
            await waiting.acquire()
    await task
    assert waiting.held


async def test_trying_does_not_wait(server: FakeServer, client: Client) -> None:
    """With timeout 0 a lock that is taken is refused at once, and nothing is left behind."""
    async with client.locks.lock("l", owner="me"):
        with pytest.raises(AcquireTimeout):
            await client.locks.lock("l", timeout=0).acquire()
        assert not await client.locks.lock("l").try_acquire()
        assert queue(server) == ["me"]
    assert await client.locks.lock("l").try_acquire()


async def test_a_wait_ends_with_its_timeout(server: FakeServer, client: Client) -> None:
    """A wait that takes too long ends with AcquireTimeout and leaves the queue."""
    async with client.locks.lock("l", owner="me"):
        server.mute = True
        waiting = client.locks.lock("l", timeout=0.01)
        with pytest.raises(AcquireTimeout, match=r"within 0\.01 s"):
            await waiting.acquire()
        server.mute = False
        await client.cluster.ping()
        assert queue(server) == ["me"]


@pytest.mark.parametrize("timeout", [-1, float("nan"), "1", True])
async def test_a_timeout_is_a_number_of_seconds(client: Client, timeout: Any) -> None:
    """A timeout that is none is refused by name, and nothing is sent."""
    with pytest.raises(InvalidRequest) as caught:
        await client.locks.lock("l", timeout=timeout).acquire()
    assert caught.value.details == {"field": "timeout"}


@pytest.mark.parametrize("answered", [True, False])
async def test_cancelling_a_wait_withdraws_it(
    server: FakeServer, client: Client, answered: bool
) -> None:
    """A caller that is cancelled while it waits leaves the queue, whatever was answered."""
    async with client.locks.lock("l", owner="me"):
        if not answered:
            server.mute = True
        task = asyncio.ensure_future(client.locks.lock("l").acquire())
        await server.until(lambda: len(queue(server)) == 2)
        if answered:
            await client.cluster.ping()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        server.mute = False
        await client.cluster.ping()
        assert queue(server) == ["me"]


async def test_a_wait_survives_cuts(server: FakeServer, client: Client) -> None:
    """A waiter whose connection breaks keeps its place, and is granted in its turn."""
    first = client.locks.lock("l")
    await first.acquire()
    tasks = [asyncio.ensure_future(client.locks.lock("l").acquire()) for _ in range(3)]
    await server.until(lambda: len(queue(server)) == 4)
    places = queue(server)
    for _ in range(3):
        server.drop()
        await client.cluster.ping()
    assert queue(server) == places
    await first.release()
    assert (await tasks[0]).held
    assert len(queue(server)) == 3
    for task in tasks[1:]:
        task.cancel()


async def test_a_forced_release_cancels_the_body(server: FakeServer, client: Client) -> None:
    """A holder whose lock is taken away is told at once, with the reason."""
    with pytest.raises(LockLost, match="because") as caught:
        async with client.locks.lock("l") as lock:
            await server.until(lambda: bool(server.members[0].streams))
            asyncio.get_running_loop().call_soon(asyncio.ensure_future, force(server))
            await asyncio.Event().wait()
    assert caught.value.details == {"name": "l", "reason": "because"}
    assert lock.lost.is_set()
    assert not lock.held
    with pytest.raises(LockLost):
        lock.check()
    with pytest.raises(LockLost):
        await lock.release()


async def test_a_release_during_a_cut_is_noticed(server: FakeServer, client: Client) -> None:
    """A lock taken away while the connection is broken is noticed after it."""
    with pytest.raises(LockLost, match="because"):
        async with client.locks.lock("l"):
            await server.until(lambda: bool(server.members[0].streams))
            server.cluster.apply(locks.LockForceRelease("default", "l", "because"))
            server.drop()
            await asyncio.Event().wait()


async def test_an_expired_session_cancels_the_body(server: FakeServer, client: Client) -> None:
    """A holder whose session has ended in the cluster is told with the next renewal."""
    with pytest.raises(LockLost, match="session"):
        async with client.locks.lock("l", ttl=2) as lock:
            assert lock.session is not None
            server.cluster.expire(lock.session.id)
            await asyncio.Event().wait()


async def test_a_deadline_without_renewal_cancels_the_body(
    server: FakeServer, client: Client
) -> None:
    """A holder whose renewals are not answered is told before its TTL is over."""
    with pytest.raises(LockLost, match="no renewal"):
        async with client.locks.lock("l", ttl=1.5):
            server.mute = True
            await asyncio.Event().wait()
    server.mute = False


async def test_a_body_that_looks_finds_out_by_itself(server: FakeServer, client: Client) -> None:
    """After the deadline `check` raises at once, even if the loop was blocked until then."""
    with pytest.raises(LockLost):
        async with client.locks.lock("l", ttl=2) as lock:
            assert lock.session is not None
            lock.session._renewal.deadline = 0.0
            lock.check()
    await asyncio.sleep(0)  # no cancellation is left over


async def test_the_body_s_own_error_is_kept(server: FakeServer, client: Client) -> None:
    """An error of the body is never hidden, whether or not the lock was lost."""
    with pytest.raises(KeyError):
        async with client.locks.lock("l"):
            raise KeyError
    assert queue(server) == []
    with pytest.raises(KeyError):
        async with client.locks.lock("l") as lock:
            lock._lose("test")
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise KeyError from None


async def test_a_body_that_ignores_the_loss_is_told_at_the_end(client: Client) -> None:
    """A body that swallows the cancellation still ends with LockLost."""
    with pytest.raises(LockLost):
        async with client.locks.lock("l") as lock:
            asyncio.get_running_loop().call_soon(lock._lose, "test")
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                pass
    await asyncio.sleep(0)


async def test_a_cancellation_from_outside_is_not_swallowed(
    server: FakeServer, client: Client
) -> None:
    """A task that is cancelled from outside stays cancelled, with or without a loss."""

    async def body(lose: bool) -> None:
        async with client.locks.lock("l") as lock:
            entered.set()
            try:
                await asyncio.Event().wait()
            finally:
                if lose:
                    lock._lose("test")

    for lose in (False, True):
        entered = asyncio.Event()
        task = asyncio.ensure_future(body(lose))
        await entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await client.cluster.ping()
        server.cluster.queues.clear()


async def test_losing_within_a_timeout_keeps_both_apart(client: Client) -> None:
    """A loss inside asyncio.timeout is a loss, and a timeout inside the body a timeout."""
    with pytest.raises(LockLost):
        async with asyncio.timeout(30), client.locks.lock("l") as lock:
            asyncio.get_running_loop().call_soon(lock._lose, "test")
            await asyncio.Event().wait()
    with pytest.raises(TimeoutError):
        async with client.locks.lock("m"), asyncio.timeout(0.01):
            await asyncio.Event().wait()


async def test_giving_back_in_the_body_is_fine(server: FakeServer, client: Client) -> None:
    """A lock given back inside its body is not given back twice."""
    async with client.locks.lock("l") as lock:
        await lock.release()
        assert queue(server) == []
        with pytest.raises(NotHeld):
            await lock.release()


async def test_a_release_survives_cancellation(server: FakeServer, client: Client) -> None:
    """A release whose caller is cancelled still happens."""
    lock: Lock = await client.locks.lock("l").acquire()
    server.hold.clear()
    task = asyncio.ensure_future(lock.release())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    server.hold.set()
    await client.cluster.ping()
    assert queue(server) == []


async def test_a_release_of_what_is_gone_says_so(server: FakeServer, client: Client) -> None:
    """Giving back a lock that the cluster has taken away raises LockLost."""
    lock = await client.locks.lock("l").acquire()
    server.cluster.apply(locks.LockForceRelease("default", "l", "because"))
    with pytest.raises(LockLost):
        await lock.release()


async def test_a_wait_ends_with_its_session(server: FakeServer, client: Client) -> None:
    """A waiter whose session is lost is told."""
    async with client.locks.lock("l"):
        async with client.sessions.open(ttl=5) as session:
            task = asyncio.ensure_future(client.locks.lock("l", session=session).acquire())
            await server.until(lambda: len(queue(server)) == 2)
        with pytest.raises(SessionLost):
            await task


async def test_locks_share_a_session_by_ttl(server: FakeServer, client: Client) -> None:
    """Everything with the same TTL hangs on one session, which is opened once."""
    taken = await asyncio.gather(
        *(client.locks.lock(f"l{number}", ttl=7).acquire() for number in range(5)),
        client.locks.lock("other", ttl=8).acquire(),
    )
    assert len({lock.session.id for lock in taken if lock.session}) == 2
    assert len(server.cluster.sessions) == 2


async def test_a_lost_session_is_replaced(server: FakeServer, client: Client) -> None:
    """After the shared session is lost, the next lock opens a new one."""
    first = await client.locks.lock("l").acquire()
    assert first.session is not None
    server.cluster.expire(first.session.id)
    first.session._renewal.lose("test")
    second = await client.locks.lock("l").acquire()
    assert second.session is not first.session
    assert second.held


# ----------------------------------------------------------------- elections


async def test_a_leader_leads_in_its_body(server: FakeServer, client: Client) -> None:
    """A leader is elected at the start of its body and resigns at the end."""
    async with client.elections.lead("boss", value="a", owner="me") as term:
        assert term.held
        assert queue(server, "boss", "elections") == ["me"]
        await term.proclaim("b")
        assert term.value == b"b"
        assert server.cluster.queue("elections", "boss").places[0].value == b"b"
    assert queue(server, "boss", "elections") == []
    with pytest.raises(NotHeld):
        await term.proclaim("c")


async def test_the_next_candidate_leads(server: FakeServer, client: Client) -> None:
    """When the leader resigns the next candidate leads, and observers see every change."""
    async with client.elections.observe("boss") as changes:
        async with client.elections.lead("boss", value="a"):
            second = client.elections.lead("boss", value="b")
            task = asyncio.ensure_future(second.campaign())
            await server.until(lambda: len(queue(server, "boss", "elections")) == 2)
            server.drop()
        await task
        await second.resign()
        seen = [await anext(changes) for _ in range(3)]
    assert [(change.kind, change.leader and change.leader.value) for change in seen] == [
        ("elected", b"a"),
        ("elected", b"b"),
        ("vacant", None),
    ]


async def test_a_deposed_leader_is_cancelled(server: FakeServer, client: Client) -> None:
    """A leader whose session is lost is cancelled, and `async with` raises LeadershipLost."""
    with pytest.raises(LeadershipLost):
        async with client.elections.lead("boss") as term:
            assert term.session is not None
            asyncio.get_running_loop().call_soon(term.session._renewal.lose, "test")
            await asyncio.Event().wait()


async def test_a_deposed_leader_cannot_proclaim(server: FakeServer, client: Client) -> None:
    """A proclamation that the cluster refuses ends the term with LeadershipLost."""
    term = await client.elections.lead("boss").campaign()
    server.cluster.queues.clear()
    with pytest.raises(LeadershipLost):
        await term.proclaim("b")
    assert not term.held
