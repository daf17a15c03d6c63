"""The server loses power under load: killed, and what it had not synced is thrown away."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

from tests.bench.server import Server
from tests.chaos.load import Load
from tests.drill.disks import open_disk

CUTS = 8
CHANGES_BETWEEN = 1000
"""Acknowledged changes between two cuts; fewer would be no load."""


async def powercut(scratch: Path, cuts: int = CUTS) -> dict[str, Any]:
    """Cut the power again and again; then everything that was acknowledged has to be there."""
    disk = open_disk(scratch)
    server = Server(disk.data_dir, module=disk.module, log=scratch / "server.log")
    report: dict[str, Any] = {"method": disk.method, "cuts": cuts, "restart_s": []}
    try:
        report["loses_what_is_not_synced"] = disk.loses_what_is_not_synced()
        server.start()
        async with Load(server.url) as load:
            for _ in range(cuts):
                await load.until_acknowledged(CHANGES_BETWEEN)
                disk.cut()
                server.kill()
                disk.unmount()
                disk.restore()
                began = time.perf_counter()
                server.spawn()
                # What was acknowledged before the cut may still be on its way to a client.
                await asyncio.to_thread(server.wait_ready)
                await load.until_acknowledged(1)
                report["restart_s"].append(round(time.perf_counter() - began, 3))
            await load.until_acknowledged(CHANGES_BETWEEN)
            report["violations"] = await load.finish()
            notes = load.notes
        report |= {
            "acknowledged_changes": notes.acknowledged,
            "guarded_writes": notes.guarded,
            "grants": len(notes.grants),
            "watch_events": sum(map(len, notes.watches)),
            "messages": len(notes.received),
        }
    finally:
        server.kill()
        disk.close()
    report["passed"] = (
        not report["violations"]
        and report["loses_what_is_not_synced"]
        and report["guarded_writes"] > 0
        and report["acknowledged_changes"] >= cuts * CHANGES_BETWEEN
    )
    return report
