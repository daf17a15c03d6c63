"""The drill of the dashboard, on a small scale."""

from pathlib import Path

import pytest

from tests.dashboard.browser import headless_program
from tests.drill.dashboard import Scale, dashboard

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.timeout(180)]


async def test_the_drill_passes(tmp_path: Path) -> None:
    """Changes and a killed leader show, and every load is looked at."""
    headless_program()
    scale = Scale(waiters=30, instances=200, messages_per_second=200, keys=1000, seconds=1.0)
    report = await dashboard(tmp_path, scale)
    assert set(report["longest_task_ms"]) == {
        "a lock with many waiters",
        "a service with many instances",
        "a topic with many messages",
        "many keys",
    }
    assert report["tab"]["revisions"] == 0
    assert report["messages_per_second"] > 0
    assert report["killed_leader_shown_ms"].keys() == {"at a follower", "at the leader itself"}
