"""The server is killed again and again while clients work; nothing that was promised breaks."""

from pathlib import Path

import pytest

from tests.bench.server import Server
from tests.chaos.load import Load

pytestmark = pytest.mark.process


async def killed_under_load(directory: Path, kills: int) -> Load:
    """Kill a server under load that often, and judge."""
    server = Server(directory / "data")
    server.start()
    try:
        async with Load(server.url) as load:
            for _ in range(kills):
                await load.until_acknowledged(300)
                server.kill()
                server.spawn()
            await load.until_acknowledged(300)
            assert await load.finish() == []
        return load
    finally:
        server.kill()


async def test_one_kill_under_load(tmp_path: Path):
    """After a SIGKILL under load every acknowledged write is there, no lock had two live tokens,
    and the watch told exactly the history."""
    load = await killed_under_load(tmp_path, 1)
    assert load.notes.guarded > 0


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_twenty_kills_under_load(tmp_path: Path):
    """Twenty SIGKILLs under load: every acknowledged write is found, no lock has two live tokens,
    watch events equal history."""
    load = await killed_under_load(tmp_path, 20)
    assert load.notes.guarded > 0
    assert load.notes.acknowledged >= 20 * 300
