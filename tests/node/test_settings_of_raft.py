"""The consensus core is set up so that nothing depends on clocks and nothing grows without end."""

from __future__ import annotations

from dataclasses import replace

from coordinator.config import Config
from coordinator.node.boot import raft_config
from coordinator.raft import MemoryStorage
from coordinator.raft.config import ReadOnlyOption


def test_reads_do_not_trust_clocks():
    """Reads are confirmed by a quorum, never by a lease."""
    assert raft_config(Config(), 1, MemoryStorage(), 0, 1).read_only_option is ReadOnlyOption.SAFE


def test_members_that_come_back_do_not_disturb():
    """Pre-vote and check-quorum are on, and the core forwards no commands of its own."""
    made = raft_config(Config(), 1, MemoryStorage(), 0, 1)
    assert (made.pre_vote, made.check_quorum, made.disable_proposal_forwarding) == (True,) * 3
    assert made.async_storage_writes


def test_everything_is_bounded():
    """What is not committed, not applied, or on its way to a follower is bounded in bytes."""
    made = raft_config(Config(), 1, MemoryStorage(), 0, 1)
    mebibyte = 1 << 20
    assert 0 < made.max_uncommitted_size <= 64 * mebibyte
    assert 0 < made.max_committed_size_per_ready <= 64 * mebibyte
    assert 0 < made.max_inflight_bytes <= 64 * mebibyte
    assert made.max_size_per_msg <= 4 * mebibyte


def test_ticks_follow_the_settings():
    """An election timeout is as many ticks as it has heartbeats, and two at least."""
    slow = replace(Config(), heartbeat_interval=100, election_timeout=1000)
    assert raft_config(slow, 1, MemoryStorage(), 0, 1).election_tick == 10
    assert raft_config(slow, 1, MemoryStorage(), 0, 1).heartbeat_tick == 1
