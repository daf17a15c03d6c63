"""Real nodes on real directories, started and stopped by a test."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from coordinator.config import Config
from coordinator.domains import DOMAINS
from coordinator.keyspace.records import USER
from coordinator.node.node import Node


def config(path: Path, **changes: Any) -> Config:
    """Give settings for a member with its data in ``path``."""
    return replace(Config(), data_dir=str(path), heartbeat_interval=20, **changes)


@asynccontextmanager
async def running(path: Path, **changes: Any) -> AsyncIterator[Node]:
    """Run a node; stop it in good order at the end."""
    node = Node(config(path, **changes), DOMAINS)
    try:
        await node.start()
        yield node
    finally:
        await node.stop()


def value(node: Node, key: bytes) -> bytes | None:
    """Give the published value of a key."""
    record = node.keyspace.get(USER, key)
    return None if record is None else record.value


def names(path: Path) -> list[str]:
    """Give the names in a directory."""
    return sorted(each.name for each in path.iterdir())


def sizes(path: Path) -> dict[str, int]:
    """Give the sizes of the files in a directory."""
    return {each.name: each.stat().st_size for each in path.iterdir()}


def lose_state(path: Path) -> None:
    """Remove the state database."""
    for each in path.glob("state.db*"):
        each.unlink()


def mix(log_of: Path, state_of: Path, target: Path) -> None:
    """Make a data directory from the log of one and the state database of another."""
    copied(log_of, target)
    lose_state(target)
    for each in state_of.glob("state.db*"):
        shutil.copy(each, target)


def copied(path: Path, target: Path) -> Path:
    """Copy a data directory as it lies there, as a crash would leave it."""
    # The next segment may get its name at any moment, and a start needs none.
    shutil.copytree(path, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("spare*"))
    return target
