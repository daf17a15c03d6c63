"""The order system of examples/, run for real against a real coordinator."""

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from coordinator_sdk import Client, Instance, KeyValue
from coordinator_sdk.testing import CoordinatorProcess, free_port, running
from examples.order_system import common

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

PATIENCE_SECONDS = 60.0


class Demo:
    """`python -m examples.order_system`, with what it prints."""

    def __init__(self, root: Path, folder: Path, endpoint: str, *flags: str) -> None:
        self.log = folder / "demo.log"
        environment = {**os.environ, "COORDINATOR_ENDPOINTS": endpoint}
        environment.pop("COORDINATOR_APPLICATION", None)
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "examples.order_system", *flags],
                cwd=root,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        return self.log.read_text()

    @property
    def pids(self) -> dict[str, int]:
        """Its parts' process ids, by name."""
        found = re.findall(r"^(\S+) +started, pid (\d+)$", self.output, re.MULTILINE)
        return {name: int(pid) for name, pid in found}

    def ends(self) -> int:
        return self.process.wait(PATIENCE_SECONDS)

    def kill(self) -> None:
        """End it and its parts, whatever has happened."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


async def until(demo: Demo, what: str, ask: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Ask until there is something; gives it."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (found := await ask()):
        assert time.monotonic() < deadline, f"never came: {what}\n{demo.output}"
        assert demo.process.poll() is None, demo.output
        await asyncio.sleep(0.05)
    return found


@pytest.fixture(scope="module")
def server() -> Iterator[CoordinatorProcess]:
    with running() as process:
        yield process


@pytest.fixture
async def client(server: CoordinatorProcess) -> AsyncIterator[Client]:
    async with Client(server.url) as made:
        yield made


@pytest.fixture(scope="module")
def demo(
    server: CoordinatorProcess, repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Demo]:
    started = Demo(repository, tmp_path_factory.mktemp("demo"), server.url)
    yield started
    started.kill()


async def instances(demo: Demo, client: Client, count: int) -> list[Instance]:
    """Wait until so many instances take orders."""

    async def found() -> list[Instance]:
        known = await client.services.discover(common.SERVICE)
        return known if len(known) == count else []

    ready: list[Instance] = await until(demo, f"{count} instances", found)
    return ready


async def place(instance: Instance, order_id: str) -> int:
    """Order over HTTP; gives the sequence."""
    request = urllib.request.Request(
        f"http://{instance.address}:{instance.port}/orders",
        data=json.dumps({"id": order_id, "item": "tea"}).encode(),
        headers={"content-type": "application/json"},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def send() -> int:
        with opener.open(request, timeout=PATIENCE_SECONDS) as answer:
            assert answer.status == 201
            return int(json.load(answer)["sequence"])

    return await asyncio.to_thread(send)


async def workers_listen(demo: Demo, client: Client) -> None:
    """Wait until the whole pool waits for rounds."""

    async def all_there() -> bool:
        names = {one.name for one in await client.topics.subscribers(common.DUE)}
        return {"worker-1", "worker-2", "worker-3"} <= names

    await until(demo, "three workers", all_there)


async def receipts(client: Client) -> list[KeyValue]:
    """All receipts, in the order of settling."""
    found = await client.kv.range(prefix=common.SETTLED_PREFIX, sort_by="mod")
    return found.kvs


async def test_every_order_is_settled_exactly_once(demo: Demo, client: Client) -> None:
    """Orders placed over HTTP, some of them twice, are settled once, one worker at a time."""
    both = await instances(demo, client, 2)
    await workers_listen(demo, client)
    names = [f"test-{number}" for number in range(30)]
    for number, name in enumerate(names):
        await place(both[number % 2], name)
    for name in names[:5]:  # a customer that was not sure, and asked the other one
        await place(both[1], name)
    last = await place(both[0], "test-last")

    async def settled() -> bool:
        position = await client.kv.get(common.POSITION_KEY)
        return position is not None and int(position.value) >= last

    await until(demo, "everything settled", settled)
    found = {
        kv.key.decode().removeprefix(common.SETTLED_PREFIX): kv for kv in await receipts(client)
    }
    assert {*names, "test-last"} <= found.keys()
    assert [name for name, kv in found.items() if kv.version != 1] == []
    facts = [json.loads(kv.value) for kv in await receipts(client)]
    tokens = [fact["token"] for fact in facts]
    assert tokens == sorted(tokens)  # who came later held a later grant
    workers_by_token = {(fact["token"], fact["by"]) for fact in facts}
    assert len(workers_by_token) == len({token for token, _ in workers_by_token})
    assert len({by for _, by in workers_by_token}) >= 2


@pytest.mark.slow
async def test_another_scheduler_takes_over(demo: Demo, client: Client) -> None:
    """When the leader's process is killed, the other one leads with a higher token."""

    async def led() -> Any:
        election = await client.elections.get(common.ELECTION)
        return election.leader if election.candidates else None

    old = await until(demo, "a leader and a candidate", led)
    assert old.pid in demo.pids.values()
    os.kill(old.pid, signal.SIGKILL)

    async def followed() -> Any:
        leader = (await client.elections.get(common.ELECTION)).leader
        return leader if leader is not None and leader.token > old.token else None

    new = await until(demo, "another leader", followed)
    assert (new.pid in demo.pids.values(), new.pid != old.pid) == (True, True)
    async with client.topics.subscribe(common.DUE) as rounds:
        news = json.loads((await anext(rounds)).payload)
    assert news["by"] == new.value.decode()


@pytest.mark.slow
async def test_a_killed_instance_disappears(demo: Demo, client: Client) -> None:
    """An instance whose process is killed is not found any more; the other takes orders."""
    both = await instances(demo, client, 2)
    victim, other = both
    session = await client.sessions.get(victim.session)
    assert session.pid == demo.pids[victim.instance]
    os.kill(session.pid, signal.SIGKILL)
    left = await instances(demo, client, 1)
    assert [one.instance for one in left] == [other.instance]
    await place(other, "after-the-crash")

    async def settled() -> Any:
        return await client.kv.get(common.SETTLED_PREFIX + "after-the-crash")

    await until(demo, "an order of the other instance", settled)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def statuses_until_gone(client: Client, ready: Callable[[], None]) -> dict[str, list[str]]:
    """Follow both instances until they are gone; call ``ready`` once both take orders."""
    shown: dict[str, list[str]] = {"orders-1": [], "orders-2": []}
    asked = False
    async for found in client.services.watch(common.SERVICE, statuses=["*"]):
        now = {one.instance: one.status for one in found}
        for name, statuses in shown.items():
            status = now.get(name, "gone")
            if statuses[-1:] != [status]:
                statuses.append(status)
        if not asked and list(now.values()) == ["passing", "passing"]:
            asked = True
            ready()
        if asked and not now:
            break
    return shown


async def test_it_ends_cleanly(repository: Path, tmp_path: Path) -> None:
    """On Ctrl-C the instances drain and deregister, and no process is left."""
    with running(tmp_path / "data") as server:
        demo = Demo(repository, tmp_path, server.url)
        try:
            async with Client(server.url) as client:
                shown = await statuses_until_gone(
                    client, lambda: demo.process.send_signal(signal.SIGINT)
                )
            assert demo.ends() == 0, demo.output
        finally:
            pids = demo.pids
            demo.kill()
    assert all(statuses[-2:] == ["draining", "gone"] for statuses in shown.values()), shown
    assert len(pids) == 9
    assert [pid for pid in pids.values() if is_alive(pid)] == []
    assert demo.output.endswith("all parts have ended\n")


@pytest.mark.slow
def test_it_ends_when_its_time_is_up(
    server: CoordinatorProcess, repository: Path, tmp_path: Path
) -> None:
    """With --seconds the demo ends by itself."""
    demo = Demo(repository, tmp_path, server.url, "--seconds", "1")
    try:
        assert demo.ends() == 0, demo.output
    finally:
        demo.kill()
    assert "all parts have ended" in demo.output


@pytest.mark.slow
def test_without_a_coordinator_it_says_what_to_do(repository: Path, tmp_path: Path) -> None:
    """With nobody listening the demo starts nothing and says how to start a coordinator."""
    address = f"http://127.0.0.1:{free_port()}"
    demo = Demo(repository, tmp_path, address)
    try:
        assert demo.ends() == 1
    finally:
        demo.kill()
    assert address in demo.output
    assert "make run" in demo.output
    assert "COORDINATOR_ENDPOINTS" in demo.output
    assert demo.pids == {}
