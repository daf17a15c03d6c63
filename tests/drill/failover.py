"""Three members under load whose leader is killed again and again."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

from tests.chaos.load import Load, outage
from tests.chaos.running import leader_of, running, start

KILLS = 20
CHANGES_BETWEEN = 400
"""Acknowledged changes between two kills, and between a kill and the restart."""
MEDIAN_OUTAGE_MS = 300
WORST_OUTAGE_MS = 1500


async def failover(scratch: Path, kills: int = KILLS) -> dict[str, Any]:
    """Kill the leader (SIGKILL) and measure how long no writer gets an acknowledgement."""
    spans: list[tuple[float, float]] = []
    async with running(scratch / "cluster") as cluster, Load(cluster.url) as load:
        for _ in range(kills):
            await load.until_acknowledged(CHANGES_BETWEEN)
            leader = await leader_of(cluster)
            killed = time.monotonic()
            leader.kill()
            await load.until_acknowledged(CHANGES_BETWEEN)
            spans.append((killed, time.monotonic()))
            # It comes back as a follower; starting a process takes its share of the machine.
            await start(leader)
        await load.until_acknowledged(CHANGES_BETWEEN)
        violations = await load.finish()
        notes = load.notes
    writers = list(notes.acknowledged_at.values())
    everybody = sorted(moment for moments in writers for moment in moments)
    cluster_ms = [1000 * outage(everybody, *span) for span in spans]
    # What the unluckiest writer sees: it may have to find another member besides.
    writer_ms = [max(1000 * outage(moments, *span) for moments in writers) for span in spans]
    report = {
        "kills": kills,
        "outage_ms": summary(cluster_ms),
        "outage_of_the_unluckiest_writer_ms": summary(writer_ms),
        "acknowledged_changes": notes.acknowledged,
        "guarded_writes": notes.guarded,
        "watch_events": sum(map(len, notes.watches)),
        "messages": len(notes.received),
        "sessions_lost": notes.sessions_lost,
        "violations": violations,
    }
    report["passed"] = (
        not violations
        and notes.sessions_lost == 0
        and notes.guarded > 0
        and statistics.median(writer_ms) < MEDIAN_OUTAGE_MS
        and max(writer_ms) < WORST_OUTAGE_MS
    )
    return report


def summary(times_ms: list[float]) -> dict[str, Any]:
    """Give median, worst and all of some times."""
    return {
        "median": round(statistics.median(times_ms), 1),
        "worst": round(max(times_ms), 1),
        "all": [round(one, 1) for one in times_ms],
    }
