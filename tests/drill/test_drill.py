"""The drills themselves: that the power really goes, and that a drill passes."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.drill.attacks import (
    fragments,
    large_bodies,
    large_headers,
    smuggling,
    wrong_frames,
)
from tests.drill.disks import LoopDisk, open_disk
from tests.drill.failover import failover
from tests.drill.fuzz import GROWTH_MIB_MAX, fuzz
from tests.drill.partition import partition
from tests.drill.powercut import powercut

FORGETFUL = """
import os, signal, sys
from tests.drill import cached
from coordinator.storage.files import DiskFiles
cached.install()
files = DiskFiles()
fd = files.create(sys.argv[1])
files.write(fd, b"synced ", 0)
files.sync_data(fd)
files.write(fd, b"forgotten", 7)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_cache_dies_with_its_process(tmp_path: Path):
    """What the cached disk had not synced is gone after a SIGKILL, and nothing else is."""
    target = tmp_path / "file"
    subprocess.run([sys.executable, "-c", FORGETFUL, str(target)], check=False)
    assert target.read_bytes() == b"synced "


def test_loop_disk_forgets(tmp_path: Path):
    """What was not synced is gone after the loop device lost power, and what was is there."""
    disk = open_disk(tmp_path)
    try:
        if not isinstance(disk, LoopDisk):
            pytest.skip("no loop device to be had on this machine")
        assert disk.loses_what_is_not_synced()
        disk.unmount()
    finally:
        disk.close()


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["best", "cached"])
async def test_power_cuts_lose_nothing_acknowledged(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
):
    """With un-synced file data thrown away at every kill, every acknowledged write is found, no
    lock has two live tokens, and watch events equal history."""
    if kind == "cached":
        monkeypatch.setenv("DRILL_CACHED", "1")
    report = await powercut(tmp_path, cuts=3)
    assert report["violations"] == []
    assert report["passed"]


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.timeout(300)
async def test_a_killed_leader_costs_nothing_but_moments(tmp_path: Path):
    """After kills of the leader under load nothing acknowledged is lost or doubled, no watch has a
    gap, no session ended, and writes went on after each."""
    report = await failover(tmp_path, kills=3)
    assert report["violations"] == []
    assert report["sessions_lost"] == 0
    assert all(time < float("inf") for time in report["outage_ms"]["all"])


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.timeout(300)
async def test_a_leader_that_is_cut_off_answers_nothing(tmp_path: Path):
    """A leader cut off from the others acknowledges no write and answers no linearizable read,
    while writes go on elsewhere; nothing acknowledged is lost."""
    report = await partition(tmp_path, rounds=2)
    assert report["acknowledged_by_the_minority"] == 0
    assert report["read_from_the_minority"] == 0
    assert report["violations"] == []
    assert report["pinned_reads"] > 0


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.timeout(120)
async def test_nonsense_is_refused_and_costs_little(tmp_path: Path):
    """Requests that never come whole, and frames against the rules, cost less memory than allowed,
    bring the member into no disorder, and leave other clients served."""
    report = await fuzz(tmp_path, (large_bodies, large_headers, smuggling, wrong_frames, fragments))
    assert report["growth_mib"] < GROWTH_MIB_MAX
    assert report["broken"] == []
    assert 500 not in report["statuses"]
    assert report["observer"]["problems"] == []
    assert min(report["observer"]["requests"].values()) > 0
