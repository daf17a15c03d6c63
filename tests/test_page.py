"""The page at `/`, in a real browser against a real coordinator."""

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect

from coordinator_sdk import Client
from coordinator_sdk.testing import CoordinatorProcess, running

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

HOSTILE = "<img src=x onerror=alert(1)>"
PATIENCE_SECONDS = 30.0
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


class Tab:
    """One tab, driven over the browser's debugging protocol."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._calls = 0
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.complaints: list[str] = []
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for text in self._socket:
            message = json.loads(text)
            waiting = self._waiting.pop(message.get("id", 0), None)
            if waiting is not None:
                waiting.set_result(message)
            elif message.get("method") == "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(message["params"]["exceptionDetails"]))
            elif message.get("method") == "Page.javascriptDialogOpening":
                self.complaints.append(f"a dialog: {message['params']['message']}")
            elif message.get("method") == "Log.entryAdded":
                entry = message["params"]["entry"]
                if entry["source"] in ("security", "other", "javascript"):
                    self.complaints.append(entry["text"])

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        self._calls += 1
        future = self._waiting[self._calls] = asyncio.get_running_loop().create_future()
        await self._socket.send(json.dumps({"id": self._calls, "method": method, "params": params}))
        answer = await asyncio.wait_for(future, PATIENCE_SECONDS)
        assert "error" not in answer, answer
        found: dict[str, Any] = answer["result"]
        return found

    async def value(self, expression: str) -> Any:
        """Evaluate JavaScript."""
        answer = await self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def until(self, expression: str) -> None:
        """Wait until JavaScript gives something true."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not await self.value(expression):
            if time.monotonic() > deadline:
                shown = await self.value("document.body?.innerText")
                pytest.fail(f"never came: {expression}\n{shown}\n{self.complaints}")
            await asyncio.sleep(0.05)

    async def shows(self, section: str, *texts: str) -> None:
        """Wait until a section contains all of some texts, in this order."""
        await self.until(
            f"""(() => {{
                const shown = document.getElementById({json.dumps(section)})?.innerText || "";
                let at = 0;
                return {json.dumps(texts)}.every((text) => {{
                    const found = shown.indexOf(text, at);
                    at = found + text.length;
                    return found >= 0;
                }});
            }})()"""
        )

    async def close(self) -> None:
        self._reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._reading


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A headless browser; gives its debugging port."""
    program = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if program is None:
        pytest.skip(f"NO BROWSER: none of {', '.join(BROWSERS)} is installed; the page is UNTESTED")
    folder = tmp_path_factory.mktemp("browser")
    flags = ["--headless", "--disable-gpu", "--remote-debugging-port=0", "--no-first-run"]
    flags += ["--no-sandbox"] if os.geteuid() == 0 else []
    log = (folder / "log").open("wb")
    process = subprocess.Popen(
        [program, *flags, f"--user-data-dir={folder / 'profile'}", "about:blank"],
        stdout=log,
        stderr=log,
    )
    try:
        yield _debugging_port(process, folder / "profile" / "DevToolsActivePort", folder / "log")
    finally:
        process.kill()
        process.wait()
        log.close()


def _debugging_port(process: subprocess.Popen[bytes], file: Path, log: Path) -> int:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        with contextlib.suppress(OSError, IndexError, ValueError):
            return int(file.read_text().splitlines()[0])
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


@pytest.fixture(scope="module")
def server() -> Iterator[CoordinatorProcess]:
    with running() as process:
        yield process


@pytest.fixture
async def client(server: CoordinatorProcess) -> AsyncIterator[Client]:
    async with Client(server.url) as made:
        yield made


@pytest.fixture
async def tab(browser: int) -> AsyncIterator[Tab]:
    """A new tab; at the end nothing in it may have gone wrong."""
    base = f"http://127.0.0.1:{browser}/json"

    def ask(path: str, method: str) -> Any:
        request = urllib.request.Request(f"{base}/{path}", method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=PATIENCE_SECONDS) as answer:
            text = answer.read().decode()
        return json.loads(text) if text.startswith("{") else text

    target = await asyncio.to_thread(ask, "new?about:blank", "PUT")
    async with connect(target["webSocketDebuggerUrl"], max_size=None) as socket:
        made = Tab(socket)
        for domain in ("Runtime", "Page", "Log"):
            await made.call(f"{domain}.enable")
        yield made
        await made.close()
    await asyncio.to_thread(ask, f"close/{target['id']}", "GET")
    assert made.complaints == []


async def open_page(tab: Tab, server: CoordinatorProcess, query: str = "") -> None:
    await tab.call("Page.navigate", url=f"{server.url}/{query}")
    await tab.until("document.getElementById('state')?.dataset.state === 'connected'")


async def in_queue(client: Client, name: str, waiting: int) -> None:
    """Wait until so many wait for a lock."""
    async with client.kv.watch(prefix=b"", system=True) as changes:
        while (await client.locks.get(name)).waiting < waiting:
            await anext(changes)


async def test_everything_appears_and_changes_live(
    tab: Tab, server: CoordinatorProcess, client: Client
) -> None:
    """Services, locks with their queue, elections, topics and changes show, and follow."""
    locks = [client.locks.lock("nightly", owner=f"owner-{one}") for one in (1, 2, 3)]
    await locks[0].acquire()
    waiting = []
    for lock, place in zip(locks[1:], (1, 2), strict=True):
        waiting.append(asyncio.create_task(lock.acquire()))
        await in_queue(client, "nightly", place)
    term = await client.elections.lead("scheduler", value=b"host-1").campaign()
    instance = await client.services.register("orders", address="10.0.0.5", port=8080)
    await client.topics.publish("orders.created", b"1")

    await open_page(tab, server)
    await tab.shows("cluster", "leads the cluster", "Revision")
    await tab.shows("services", "orders", "10.0.0.5:8080", "passing")
    await tab.shows("locks", "nightly", str(locks[0].token), "owner-1", "owner-2", "owner-3")
    await tab.shows("elections", "scheduler", str(term.token), "host-1")
    await tab.shows("topics", "orders.created", "1 – 1")
    await tab.shows("sessions", "locks/default/nightly")

    await locks[0].release()
    await waiting[0]
    await tab.shows("locks", str(locks[1].token), "owner-2", "owner-3")
    await tab.until("!document.getElementById('locks').innerText.includes('owner-1')")
    await instance.maintenance("new disk")
    await tab.shows("services", "maintenance new disk")
    await term.proclaim(b"host-1 again")
    await tab.shows("elections", "host-1 again")
    await client.topics.publish("orders.created", b"2")
    await tab.shows("topics", "1 – 2")
    await client.kv.put("greeting", b"hello")
    await tab.shows("changes", "Key greeting: created, 5 bytes", "Message orders.created #2")

    await instance.deregister()
    await tab.shows("services", "No instance is registered")
    await term.resign()
    await tab.shows("elections", "No election has a leader")
    await locks[1].release()
    await waiting[1]
    await locks[2].release()
    await tab.shows("locks", "No lock is held")


async def test_hostile_names_are_only_text(
    tab: Tab, server: CoordinatorProcess, client: Client
) -> None:
    """Names and values with markup are shown as they are, and run nothing."""
    async with (
        client.locks.lock(HOSTILE, owner=HOSTILE, reason=HOSTILE),
        client.elections.lead(HOSTILE, value=HOSTILE),
        client.services.register(
            HOSTILE, address=HOSTILE, tags=[HOSTILE], metadata={"<b>": HOSTILE}
        ),
    ):
        await open_page(tab, server)
        await client.kv.put(HOSTILE, HOSTILE)
        await tab.shows("locks", HOSTILE, HOSTILE, f"Reason: {HOSTILE}")
        await tab.shows("elections", HOSTILE, f"Proclaims {HOSTILE}")
        await tab.shows("services", HOSTILE, HOSTILE, f"<b>={HOSTILE}")
        await tab.shows("changes", f"Key {HOSTILE}")
        await tab.shows("sessions", f"locks/default/{HOSTILE}")
        assert (
            await tab.value("document.querySelectorAll('img, main b.x, main script').length") == 0
        )


async def test_looking_writes_nothing(tab: Tab, server: CoordinatorProcess, client: Client) -> None:
    """An open page takes no revision, however often it asks."""
    before = (await client.kv.put("last", b"write")).revision
    await open_page(tab, server)
    for _ in range(3):
        await tab.until("Boolean(document.querySelector('#cluster dl'))")
        await tab.value("document.querySelector('#cluster dl').id = 'seen'")
        await tab.until("!document.getElementById('seen')")
    assert (await client.kv.range("last")).revision == before


async def test_an_outage_is_told_and_survived(tab: Tab) -> None:
    """Without the server the page keeps what it knew and says so; then it goes on by itself."""
    with running() as server:
        async with Client(server.url) as client:
            await client.topics.publish("before", b"1")
            await open_page(tab, server)
            await tab.shows("topics", "before")
            server.kill()
            await tab.until("document.getElementById('state').innerText.startsWith('Disconnected')")
            assert await tab.value("document.body.classList.contains('stale')")
            await tab.until("document.getElementById('ago').innerText.startsWith('last update')")
            await tab.shows("topics", "before")
            server.start()
            await tab.until("document.getElementById('state').dataset.state === 'connected'")
            await client.topics.publish("after", b"1")
            await tab.shows("topics", "after", "before")
    tab.complaints.clear()  # the browser notes every attempt that failed


async def test_namespaces_are_offered(tab: Tab, server: CoordinatorProcess, client: Client) -> None:
    """Every namespace with something in it can be chosen, also one that appears later."""
    async with Client(server.url, namespace="staging") as staging:
        await staging.topics.publish("only.here", b"1")
        await open_page(tab, server)
        names = "[...document.getElementById('namespace').options].map((one) => one.value)"
        await tab.until(f"{names}.includes('staging')")
        await tab.until("!document.querySelector('#topics [aria-busy]')")
        assert "only.here" not in await tab.value("document.getElementById('topics').innerText")
        await open_page(tab, server, "?namespace=staging")
        await tab.shows("topics", "only.here")
    async with Client(server.url, namespace=HOSTILE) as late:
        await late.topics.publish("later", b"1")
        await tab.until(f"{names}.includes({json.dumps(HOSTILE)})")


@pytest.mark.parametrize("width", [360, 768, 1440])
async def test_it_fits_the_screen(
    tab: Tab, server: CoordinatorProcess, client: Client, width: int
) -> None:
    """Nothing sticks out to the side, on a phone neither, not even a name without spaces."""
    name = "n" * 120
    async with (
        client.locks.lock(name),
        client.services.register(name, address=name, tags=["t" * 60]),
    ):
        await client.topics.publish("x" * 100, b"1")
        await tab.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=800,
            deviceScaleFactor=1,
            mobile=width < 500,
        )
        await open_page(tab, server)
        await tab.shows("locks", name)
        await tab.shows("services", name)
        await tab.shows("topics", "x" * 100)
        assert await tab.value("document.documentElement.scrollWidth") <= width
