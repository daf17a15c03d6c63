"""Three faces, one history: what a watch sees does not depend on how it watches."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
from pathlib import Path

import pytest

from coordinator_sdk import Client
from tests.api.member import Running, running, until

ETCDCTL = shutil.which("etcdctl") or ""
WRITES = 60
Seen = list[tuple[str, str, str]]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.process,
    pytest.mark.skipif(not ETCDCTL, reason="etcdctl is not installed: make system-deps"),
]


async def by_etcdctl(member: Running, seen: Seen) -> None:
    """Note what `etcdctl watch` prints."""
    process = await asyncio.create_subprocess_exec(
        *(ETCDCTL, f"--endpoints=127.0.0.1:{member.port}", "watch", "o/", "--prefix", "-w", "json"),
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | {"ETCDCTL_API": "3"},
    )
    assert process.stdout is not None
    try:
        while line := await process.stdout.readline():
            _note(json.loads(line).get("Events", []), seen)
    finally:
        process.kill()
        await process.wait()


async def by_gateway(member: Running, seen: Seen) -> None:
    """Note what the JSON gateway streams."""
    body = {"create_request": {"key": _b64("o/"), "range_end": _b64("o0")}}
    text = json.dumps(body).encode()
    async with member.raw() as raw:
        raw.send(b"POST /v3/watch HTTP/1.1\r\nhost: 127.0.0.1\r\n")
        raw.send(b"content-length: %d\r\n\r\n" % len(text) + text)
        await raw.reader.readuntil(b"\r\n\r\n")
        while size := int(await raw.reader.readline(), 16):
            chunk = json.loads(await raw.reader.readexactly(size + 2))
            _note(chunk["result"].get("events", []), seen)


async def by_sdk(member: Running, seen: Seen) -> None:
    """Note what the SDK's watch gives."""
    async with Client(f"http://127.0.0.1:{member.port}") as client:
        async with client.kv.watch(prefix="o/") as watch:
            async for event in watch:
                kind = "PUT" if event.is_put else "DELETE"
                seen.append((kind, event.key.decode(), (event.value or b"").decode()))


def _b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _note(events: list[dict[str, object]], seen: Seen) -> None:
    for event in events:
        kv = event["kv"]
        assert isinstance(kv, dict)
        kind = "DELETE" if event.get("type") in (1, "DELETE") else "PUT"
        key, value = (base64.b64decode(kv.get(name, "")).decode() for name in ("key", "value"))
        seen.append((kind, key, value))


async def test_all_see_the_same_in_the_same_order(tmp_path: Path) -> None:
    """A watch by etcdctl, one by the SDK and one by the gateway see the same events in order."""
    watchers = (by_etcdctl, by_sdk, by_gateway)
    found: list[Seen] = [[] for _ in watchers]
    async with running(tmp_path / "data") as member:
        tasks = [
            asyncio.ensure_future(watch(member, seen))
            for watch, seen in zip(watchers, found, strict=True)
        ]
        try:
            await until(lambda: len(member.node.hub) == len(watchers))
            async with Client(f"http://127.0.0.1:{member.port}") as client:
                for number in range(WRITES):
                    key = f"o/{number % 7}"
                    if number % 5 == 4:
                        await client.kv.delete(key)
                    else:
                        await client.kv.put(key, f"{number}")
            expected = _expected()
            async with asyncio.timeout(30):
                await until(lambda: all(len(seen) >= len(expected) for seen in found))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    assert found == [expected] * len(watchers)


def _expected() -> Seen:
    made: Seen = []
    there: set[str] = set()
    for number in range(WRITES):
        key = f"o/{number % 7}"
        if number % 5 != 4:
            made.append(("PUT", key, f"{number}"))
            there.add(key)
        elif key in there:
            made.append(("DELETE", key, ""))
            there.discard(key)
    return made
