"""Three members under load, and the leader is killed: the quick one of the tests of faults."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.chaos.load import Load
from tests.chaos.running import leader_of, running, start

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]


async def test_the_leader_is_killed_under_load(tmp_path: Path):
    """After a SIGKILL of the leader under load nothing acknowledged is lost or doubled, writes go
    on without it, no watch has a gap, no lock had two live tokens, no session ended; and it comes
    back."""
    async with running(tmp_path) as cluster, Load(cluster.url) as load:
        await load.until_acknowledged(300)
        leader = await leader_of(cluster)
        killed = time.monotonic()
        leader.kill()
        await load.until_acknowledged(300)
        for moments in load.notes.acknowledged_at.values():
            assert moments[-1] > killed, "every writer goes on"
        assert (await leader_of(cluster)) is not leader
        await start(leader)
        await load.until_acknowledged(100)
        assert await load.finish() == []
        assert load.notes.sessions_lost == 0
        assert load.notes.guarded > 0
