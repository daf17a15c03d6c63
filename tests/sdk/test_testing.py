"""A real coordinator for the length of a test, and the client against it."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path

import pytest

from coordinator_sdk import Client, ConnectFailed, LockLost, sync
from coordinator_sdk.testing import ClusterProcess, CoordinatorProcess, free_port, running

pytestmark = pytest.mark.process


def test_a_server_runs_for_the_length_of_a_body() -> None:
    """`running` gives a server that is ready, and nothing is left of it afterwards."""
    with running() as server:
        assert server.is_running
        folder = server.data_dir
        with sync.Client(server.url) as client:
            client.kv.put("a", "1")
    assert not server.is_running
    assert server.pid == 0
    assert not folder.exists()
    with pytest.raises(ConnectFailed), sync.Client(server.url, connect_timeout=0.2):
        pass


@pytest.mark.slow
async def test_data_outlives_the_process(tmp_path: Path) -> None:
    """A server that is killed and started again has kept what it acknowledged."""
    with CoordinatorProcess(tmp_path / "data") as server:
        async with Client(server.url) as client:
            async with client.kv.watch(prefix="k") as watch, client.locks.lock("l") as lock:
                await client.kv.put("k1", "before", guard=lock)
                server.kill()
                server.start()
                await client.kv.put("k2", "after", guard=lock)
                assert lock.held
                assert [(await anext(watch)).value for _ in range(2)] == [b"before", b"after"]


@pytest.mark.slow
async def test_a_holder_is_told_by_a_real_server(tmp_path: Path) -> None:
    """A holder whose lock an operator takes away is told at once."""
    with running(tmp_path / "data") as server:
        async with Client(server.url) as client, Client(server.url) as operator:

            async def work() -> None:
                async with client.locks.lock("l") as lock:
                    await operator.locks.force_release("l", "because", token=lock.token)
                    await lock.lost.wait()

            with pytest.raises(LockLost, match="because"):
                await work()


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    """A server that ends at once is reported with what it printed."""
    server = CoordinatorProcess(tmp_path / "data", options=["--no-such-option"])
    with pytest.raises(ConnectFailed, match="no-such-option"):
        server.start()
    assert not server.is_running


def test_ports_are_free() -> None:
    """`free_port` gives ports that can be listened on, none twice, and none that a connection of
    another program may take before the server does."""
    given = [free_port() for _ in range(50)] + [free_port((0, 1, 10))]
    assert len(set(given)) == len(given)
    with contextlib.ExitStack() as stack:
        for port in [*given, given[-1] + 1, given[-1] + 10]:
            stack.enter_context(socket.create_server(("127.0.0.1", port)))
        outgoing = stack.enter_context(socket.socket())
        outgoing.bind(("127.0.0.1", 0))
        assert max(given) + 10 < outgoing.getsockname()[1]


def test_a_cluster_is_described_alike_to_all_members(tmp_path: Path) -> None:
    """Every member of a prepared cluster is told of the same members; one that joins is told of
    them and of itself."""
    cluster = ClusterProcess(tmp_path, advertise=lambda url: url.replace("127.0.0.1", "localhost"))

    def flag(member: CoordinatorProcess, name: str) -> str:
        return member.options[member.options.index(name) + 1]

    told = {flag(member, "--initial-cluster") for member in cluster.members}
    assert told == {",".join(f"{one.name}={one.peer_url}" for one in cluster.members)}
    assert {flag(one, "--initial-cluster-state") for one in cluster.members} == {"new"}
    assert cluster.url == ",".join(one.url for one in cluster.members)
    joiner = cluster.joiner()
    assert joiner.peer_url.startswith("http://localhost:")
    assert flag(joiner, "--listen-peer-urls").startswith("http://127.0.0.1:")
    assert flag(joiner, "--initial-cluster") == f"{told.pop()},m4={joiner.peer_url}"
    assert flag(joiner, "--initial-cluster-state") == "existing"
    cluster.remove(joiner)
    assert [one.name for one in cluster.members] == ["m1", "m2", "m3"]
