"""A member with few open files, and far more clients than it may have."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from coordinator_sdk import Client, CoordinatorError, Password
from coordinator_sdk._ports import free_port
from coordinator_sdk.testing import CoordinatorProcess

FILES = 256
CROWD = 1000
HALF = b"GET / HTTP/1.1\r\nhost: loc"
LIMITED = """
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]),) * 2)
sys.argv = ["coordinator", *sys.argv[2:]]
runpy.run_module("coordinator", run_name="__main__")
"""


@pytest.mark.slow
async def test_root_gets_in_past_a_crowd(tmp_path: Path) -> None:
    """With every open file but a few taken by connections that say nothing, or half of a request,
    root connects and works, a client that was there before works on, and the member is up."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < CROWD + FILES:
        pytest.skip(f"this process may have {hard} open files, the test takes {CROWD + FILES}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, CROWD + FILES), hard))
    member = CoordinatorProcess(tmp_path / "data")
    member.command = [sys.executable, "-c", LIMITED, str(FILES), "serve"]
    root = Password("root", "correct horse battery staple")
    try:
        with member:
            async with Client(member.url) as first:
                await first.auth.init(root.password)
            async with Client(member.url, auth=root) as before:
                await before.kv.put("a", "1")
                async with crowd(member.port):
                    await before.kv.put("a", "2")
                    for _ in range(3):
                        async with Client(member.url, auth=root) as late:
                            found = await late.kv.get("a")
                            assert found is not None
                            assert found.value == b"2"
                    with pytest.raises(CoordinatorError):
                        await Client(member.url, connect_timeout=1).connect()
            assert member.is_running
    except BaseException as error:
        error.add_note(member.output())
        raise
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.slow
async def test_who_begins_no_tls_takes_few_files(tmp_path: Path) -> None:
    """Whoever connects to a TLS port and says nothing takes a part of the open files, not all: a
    client is served meanwhile on the other port, and makes as many connections as it likes."""
    port = free_port()
    member = CoordinatorProcess(tmp_path / "data")
    member.command = [sys.executable, "-c", LIMITED, str(FILES), "serve"]
    both = f"{member.url},https://127.0.0.1:{port}"
    member.options += ["--listen-client-urls", both, "--auto-tls"]
    with member:
        async with crowd(port, 2 * FILES + 100, says=b""):
            for number in range(5):
                async with Client(member.url) as client:
                    await client.kv.put("a", str(number))
        assert "Too many open files" not in member.output()


@contextlib.asynccontextmanager
async def crowd(port: int, size: int = CROWD, says: bytes = HALF) -> AsyncIterator[None]:
    """Connect so often; every other connection says something, and none of them reads."""
    async with contextlib.AsyncExitStack() as stack:
        for number in range(size):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            stack.callback(writer.close)
            if number % 2:
                writer.write(says)
        yield
