"""The client without await."""

from __future__ import annotations

import asyncio
import inspect
import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import coordinator_sdk
from coordinator_sdk import ClientClosed, ConnectFailed, LockLost, NotHeld, sync
from coordinator_sdk.protocol import locks
from tests.sdk.server import FakeServer, fake_server


class Background:
    """A model cluster served from another thread."""

    def __init__(self) -> None:
        self.fake: FakeServer | None = None
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._stop: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=[self._run()])

    async def _run(self) -> None:
        self._stop = asyncio.Event()
        async with fake_server() as self.fake:
            self._ready.set()
            await self._stop.wait()

    def __enter__(self) -> FakeServer:
        self._thread.start()
        self._ready.wait()
        assert self.fake is not None
        return self.fake

    def __exit__(self, *exc: object) -> None:
        assert self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._loop.close()


@pytest.fixture
def server() -> Iterator[FakeServer]:
    """An endpoint of a model cluster."""
    with Background() as fake:
        yield fake


@pytest.fixture
def client(server: FakeServer) -> Iterator[sync.Client]:
    """A connected client."""
    with sync.Client(server.url) as connected:
        yield connected


def test_the_quick_start_works_without_await(client: sync.Client) -> None:
    """Services, locks, elections, topics and keys work with the same names, without await."""
    with client.services.register("orders", address="10.0.0.5", port=8080, ttl=10) as handle:
        assert [one.port for one in client.services.discover("orders")] == [8080]
        assert handle.state == "registered"
    with client.locks.lock("nightly-report", timeout=5) as lock:
        assert lock.held
        assert lock.token > 0
        client.kv.put("reports/last", b"...", guard=lock)
        lock.check()
    with client.elections.lead("scheduler", value="x") as term:
        term.proclaim("y")
        assert term.value == b"y"
    client.topics.publish("orders.created", b'{"id": 1}')
    for message in client.topics.subscribe("orders.>", start="earliest"):
        assert message.payload == b'{"id": 1}'
        break
    found = client.kv.get("reports/last")
    assert found is not None
    assert found.value == b"..."
    assert client.revision > 1
    assert client.connected


def test_iterators_are_plain(client: sync.Client) -> None:
    """Watches are plain iterators and context managers."""
    with client.kv.watch(prefix="k") as watch:
        client.kv.put("k1")
        client.kv.delete("k1")
        assert [next(watch).is_put, next(watch).is_put] == [True, False]
        assert watch.next_revision == 4
    assert watch.closed
    assert list(watch) == []


def test_leases_and_sessions_are_plain(client: sync.Client) -> None:
    """Leases and sessions are handed from one call to the other as they are."""
    with client.leases.grant(5) as lease:
        client.kv.put("k", lease=lease)
        found = client.kv.get("k")
        assert found is not None
        assert found.lease == lease.id
    with (
        client.sessions.open(ttl=5) as session,
        client.locks.lock("l", session=session) as lock,
    ):
        assert lock.held
        assert session.state == "connected"
        assert not session.lost.is_set()


def test_a_loss_is_seen_at_the_next_look(server: FakeServer, client: sync.Client) -> None:
    """A thread sees the loss of its lock by `lost`, by `check`, and at the end of `with`."""

    def body() -> None:
        with client.locks.lock("l") as lock:
            assert not lost_within(lock, 0)
            take(server)
            assert lost_within(lock, 10)
            with pytest.raises(LockLost, match="because"):
                lock.check()

    with pytest.raises(LockLost, match="because"):
        body()


def lost_within(lock: sync.Lock, seconds: float) -> bool:
    """Whether a lock is lost within so many seconds."""
    return lock.lost.wait(seconds)


def take(server: FakeServer) -> None:
    """Take the lock from its holder, in the server's thread."""
    [socket] = server.connections

    async def force() -> None:
        server.cluster.apply(locks.LockForceRelease("default", "l", "because"))
        await server.tell()

    asyncio.run_coroutine_threadsafe(force(), socket.loop).result()


def test_an_error_of_the_body_is_kept(client: sync.Client) -> None:
    """An error of the body is never hidden by giving the lock back."""
    with pytest.raises(KeyError), client.locks.lock("l"):
        raise KeyError
    lock = client.locks.lock("l").acquire()
    lock.release()
    with pytest.raises(NotHeld):
        lock.release()


def test_threads_share_a_client(client: sync.Client) -> None:
    """Any number of threads may use one client at once."""

    def work(number: int) -> None:
        for _ in range(20):
            with client.locks.lock("l"):
                client.kv.put(f"k{number}")

    threads = [threading.Thread(target=work, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert client.kv.range(prefix="k").count == 8


def test_a_client_leaves_no_thread(server: FakeServer) -> None:
    """Closing joins the thread; a closed client says so; closing twice is fine."""
    before = threading.active_count()
    client = sync.Client(server.url).connect()
    assert threading.active_count() == before + 1
    client.close()
    client.close()
    assert threading.active_count() == before
    with pytest.raises(ClientClosed, match="closed"):
        client.kv.put("a")
    assert client.closed


def test_a_failed_connect_leaves_no_thread(unused_tcp_port: int) -> None:
    """With the server down the error names the URL, and no thread is left."""
    before = threading.active_count()
    url = f"http://127.0.0.1:{unused_tcp_port}"
    with pytest.raises(ConnectFailed, match=url), sync.Client(url, connect_timeout=0.1):
        pass
    assert threading.active_count() == before


def test_an_unused_client_has_no_thread() -> None:
    """A client that was never used needs no closing."""
    before = threading.active_count()
    sync.Client().close()
    sync.Client()
    assert threading.active_count() == before


def test_an_interrupt_ends_the_call(
    server: FakeServer, client: sync.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C ends a call that waits, and what it waited for is withdrawn."""
    holder, waiting = client.locks.lock("l").acquire(), client.locks.lock("l")

    class Interrupted:
        def __init__(self, future: Any) -> None:
            self._future = future

        def result(self) -> Any:
            while len(server.cluster.queue("locks", "l").places) < 2:
                pass
            raise KeyboardInterrupt

        def cancel(self) -> None:
            self._future.cancel()

    real = asyncio.run_coroutine_threadsafe
    with monkeypatch.context() as patch:
        patch.setattr(
            asyncio,
            "run_coroutine_threadsafe",
            lambda work, loop: Interrupted(real(work, loop)),
        )
        with pytest.raises(KeyboardInterrupt):
            waiting.acquire()
    client.cluster.ping()
    assert len(server.cluster.queue("locks", "l").places) == 1
    holder.release()


def test_a_fork_is_noticed(client: sync.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a forked child the client says that it does not work there, and closes quietly."""
    pid = os.getpid()
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: pid + 1)
        with pytest.raises(ClientClosed, match="fork"):
            client.kv.put("a")
        client.close()
    client.kv.put("a")


FACES = ["kv", "leases", "sessions", "services", "locks", "elections", "topics", "cluster"]


@pytest.mark.parametrize("name", FACES)
def test_both_faces_have_the_same_names(name: str) -> None:
    """Every public method exists in both faces, with the same parameters."""
    plain, waiting = getattr(sync.Client(), name), getattr(coordinator_sdk.Client(), name)
    for attribute, method in inspect.getmembers(type(waiting), inspect.isfunction):
        if attribute.startswith("_") or (name, attribute) in INTERNAL:
            continue
        twin = getattr(type(plain), attribute)
        wanted = list(inspect.signature(method).parameters)
        assert list(inspect.signature(twin).parameters) == wanted, attribute
        assert twin.__doc__


INTERNAL = {("sessions", "shared"), ("sessions", "close"), ("leases", "drop")}
"""What other parts of the client use."""

TWINS = ["Lock", "Leadership", "Session", "Lease", "Registration"]


@pytest.mark.parametrize("name", TWINS)
def test_both_kinds_of_objects_have_the_same_names(name: str) -> None:
    """What users see of a lock, a session and the like exists in both faces."""
    hidden = {"guard", "session", "attach", "detach", "session_lost", "keep", "release_renewal"}
    waiting = getattr(coordinator_sdk, name)
    seen = {
        attribute
        for attribute, member in inspect.getmembers(waiting)
        if not attribute.startswith("_") and (callable(member) or isinstance(member, property))
    }
    assert seen - hidden <= set(dir(getattr(sync, name)))
