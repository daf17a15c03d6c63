"""A cluster out of DNS: real members, a real name server."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from coordinator.node.dns import Srv
from coordinator_sdk import Client
from coordinator_sdk.testing import CoordinatorProcess, free_port
from tests.node.nameserver import name_server

ASKING = """
import runpy, sys
from coordinator.node import dns
host, port, module, *words = sys.argv[1:]
dns.system_servers = lambda: [(host, int(port))]
sys.argv = [module, *words]
runpy.run_module(module, run_name="__main__")
"""
"""Runs a program of ours for which that name server is the system's: port 53 may be taken."""


@pytest.mark.slow
async def test_three_members_find_each_other(tmp_path: Path) -> None:
    """Members that know a domain and nothing of each other become one cluster, which coordctl
    finds by the domain as well; one is started late, and one again."""
    peers, clients = ([free_port() for _ in range(3)] for _ in "pc")
    records = {
        "_coordinator-server._tcp.db.test": [Srv("127.0.0.1", port) for port in peers],
        "_coordinator-client._tcp.db.test": [Srv("127.0.0.1", port) for port in clients],
    }
    async with name_server(records) as dns, AsyncExitStack() as stack:
        asking = [sys.executable, "-c", ASKING, *map(str, dns.address)]
        members = []
        for number, (peer, port) in enumerate(zip(peers, clients, strict=True)):
            url = f"http://127.0.0.1:{peer}"
            options = ["--name", f"m{number}", "--discovery-srv", "db.test"]
            options += ["--listen-peer-urls", url, "--initial-advertise-peer-urls", url]
            one = CoordinatorProcess(tmp_path / f"m{number}", port=port, options=options)
            one.command = [*asking, "coordinator", "serve"]
            members.append(one)
            stack.callback(one.kill)
        for one in members[:2]:
            one.spawn()
        await asyncio.to_thread(members[0].wait_until_ready)
        async with Client(members[0].url) as client:
            await client.kv.put("app", "1")
        await asyncio.to_thread(members[2].start)
        await asyncio.to_thread(members[1].kill)
        await asyncio.to_thread(members[1].start)
        words = ["--discovery-srv", "db.test", "member", "list"]
        listed = await asyncio.to_thread(
            subprocess.run,
            [*asking, "coordinator.cli.coordctl", *words],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert listed.returncode == 0, listed.stderr
        assert [name for name in ("m0", "m1", "m2") if name in listed.stdout] == ["m0", "m1", "m2"]
        for one in members:
            async with Client(one.url) as client:
                found = await client.kv.get("app")
                assert found is not None
                assert found.value == b"1"
