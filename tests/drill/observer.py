"""``python -m tests.drill.observer URL``: an honest client beside a fuzz, in a process of its own.

Reads and writes as fast as it is answered, over the WebSocket and over HTTP, until its input ends;
then prints what it has seen as JSON. A stall is the longest that one request took, less what its
own loop was late: a machine that stands still says nothing of the server.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any
from urllib.parse import urlsplit

from coordinator_sdk import Client

PAUSE_S = 0.005
TICK_S = 0.01
SLOW_S = 0.1


class Observer:
    """Notes how long requests take."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.requests = {"sdk": 0, "http": 0}
        self.worst_s = {"sdk": 0.0, "http": 0.0}
        self.slow: list[tuple[float, float]] = []
        """When requests ended that took long, on the clock of all processes, and how long."""
        self.problems: list[str] = []
        self._late: list[tuple[float, float]] = []
        """When our own loop was late, and by how much."""
        self._is_over = False

    async def run(self) -> dict[str, Any]:
        tasks = [asyncio.ensure_future(one) for one in (self._watch_ourselves(), self._http())]
        async with Client(self.url, timeout=10, connect_timeout=10) as client:
            tasks.append(asyncio.ensure_future(self._sdk(client)))
            print("ready", flush=True)
            await asyncio.to_thread(sys.stdin.read)
            self._is_over = True
            await asyncio.gather(*tasks)
        return {
            "requests": self.requests,
            "stall_ms": {kind: round(1000 * worst, 1) for kind, worst in self.worst_s.items()},
            "slow": self.slow,
            "problems": self.problems[:10],
        }

    def _note(self, kind: str, began: float) -> None:
        ended = time.monotonic()
        late = sum(much for at, much in self._late if began <= at <= ended + 2 * TICK_S)
        self.requests[kind] += 1
        took = ended - began - late
        self.worst_s[kind] = max(self.worst_s[kind], took)
        if took > SLOW_S:
            self.slow.append((ended, took))

    async def _watch_ourselves(self) -> None:
        while not self._is_over:
            began = time.monotonic()
            await asyncio.sleep(TICK_S)
            late = time.monotonic() - began - TICK_S
            if late > TICK_S:
                self._late.append((time.monotonic(), late))
                del self._late[:-1000]

    async def _sdk(self, client: Client) -> None:
        while not self._is_over:
            began = time.monotonic()
            try:
                await client.kv.put("observer", str(self.requests["sdk"]))
                await client.kv.get("observer")
            except Exception as error:
                self.problems.append(f"sdk: {error!r}")
            self._note("sdk", began)
            await asyncio.sleep(PAUSE_S)

    async def _http(self) -> None:
        """Come anew for every request: what a fuzz takes away first are new connections."""
        parts = urlsplit(self.url)
        while not self._is_over:
            began = time.monotonic()
            try:
                reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
                writer.write(
                    b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
                )
                answer = await reader.read()
                writer.close()
                if not answer.startswith(b"HTTP/1.1 200 "):
                    self.problems.append(f"http: {answer[:100]!r}")
            except OSError as error:
                self.problems.append(f"http: {error!r}")
            self._note("http", began)
            await asyncio.sleep(PAUSE_S)


if __name__ == "__main__":
    print(json.dumps(asyncio.run(Observer(sys.argv[1]).run())), flush=True)
