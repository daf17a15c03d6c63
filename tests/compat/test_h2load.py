"""h2load of nghttp2, a client of HTTP/2 that is not one of gRPC's, against the gRPC port."""

from __future__ import annotations

import asyncio
import re
import shutil
from pathlib import Path

import pytest

from coordinator.etcd.messages import METHODS
from tests.api.member import running

H2LOAD = shutil.which("h2load") or ""
CALLS = 5000

pytestmark = [pytest.mark.slow, pytest.mark.process, pytest.mark.timeout(120)]


@pytest.mark.skipif(not H2LOAD, reason="h2load is not installed: make system-deps")
async def test_no_call_fails(tmp_path: Path) -> None:
    """Durable puts over ten connections, ten at a time on each: none fails, each is applied."""
    put = METHODS["/etcdserverpb.KV/Put"].request(key=b"k" * 256, value=b"v" * 1024)
    payload = put.SerializeToString()
    body = tmp_path / "put"
    body.write_bytes(b"\0" + len(payload).to_bytes(4, "big") + payload)
    async with running(tmp_path / "data") as member:
        before = member.node.revision
        process = await asyncio.create_subprocess_exec(
            *(H2LOAD, "-t1", "-c10", "-m10", f"-n{CALLS}", "-d", str(body)),
            *("-H", "content-type: application/grpc", "-H", "te: trailers"),
            f"http://127.0.0.1:{member.port}/etcdserverpb.KV/Put",
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(60):
                printed, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        told = printed.decode()
        assert re.search(rf"{CALLS} succeeded, 0 failed, 0 errored, 0 timeout", told), told
        assert member.node.revision - before == CALLS
