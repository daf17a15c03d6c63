"""A data directory with a million keys, made by the server's own storage code and kept."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import replace
from pathlib import Path

from coordinator.config import Config
from coordinator.domains import DOMAINS
from coordinator.keyspace.records import USER, row_of
from coordinator.node.loading import load_machine
from coordinator.node.node import Node
from coordinator.node.persistence import machine_batch
from coordinator.storage.identity import DataDirectory
from coordinator.storage.schema import SCHEMA_HEAD
from coordinator.storage.state import StateStore

KEYS = 1_000_000
VALUE = b"v" * 100
ROWS_PER_BATCH = 50_000
FORMAT = 1
"""Raise it when the directory is to be made differently."""


def million_keys(cache: Path) -> Path:
    """Give a data directory with a million keys; made on the first call, which takes a while."""
    path = cache / f"million-{FORMAT}-{SCHEMA_HEAD}"
    if not (path / "complete").exists():
        shutil.rmtree(path, ignore_errors=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        asyncio.run(_make(path))
        (path / "complete").touch()
    return path


async def _make(path: Path) -> None:
    config = replace(Config(), data_dir=str(path))
    # The first start writes identity and log, the last one a log that fits the database.
    await _start_once(config)
    directory = DataDirectory.open(path)
    try:
        await _fill(directory.state_path)
    finally:
        directory.close()
    await _start_once(config)


async def _start_once(config: Config) -> None:
    node = Node(config, DOMAINS)
    try:
        await node.start()
    finally:
        await node.stop()


async def _fill(path: Path) -> None:
    """Add the keys, each with a revision of its own, as that many entries would have."""
    store = await StateStore.open(path)
    try:
        machine = await load_machine(DOMAINS, store)
        keyspace = machine.keyspace
        for number in range(KEYS):
            txn = keyspace.begin()
            txn.put(USER, b"key/%09d" % number, VALUE)
            commit = txn.commit()
            machine.index += 1
            machine.changes.versions += [
                row_of(space, sub, event) for sub, (space, event) in enumerate(commit.events)
            ]
            if len(machine.changes.versions) >= ROWS_PER_BATCH:
                await store.write(machine_batch(machine))
                keyspace.log.persisted(keyspace.revision)
        await store.write(machine_batch(machine))
    finally:
        await store.close()
