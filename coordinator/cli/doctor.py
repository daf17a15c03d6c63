"""doctor: what is wrong with a cluster, and what to do about it."""

from __future__ import annotations

import asyncio
import math
import re
import time
import urllib.request
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from coordinator import __version__
from coordinator.cli import endpoint, output, tables
from coordinator.cli.command import ERROR
from coordinator_sdk import CoordinatorError
from coordinator_sdk.protocol.cluster import ClusterStatusResult

if TYPE_CHECKING:
    from collections.abc import Iterator

    from coordinator.cli.command import Context, Nouns
    from coordinator_sdk import Client
    from coordinator_sdk.protocol.cluster import MemberInfo

CLOCK_SECONDS = 0.5
"""Clocks further apart than this confuse people who compare times of members."""
COMMIT_SECONDS = 0.1
"""A commit that takes longer makes elections likely under load."""
SYNC_SECONDS = 0.064
"""So does a disk on which one sync of a hundred takes longer."""
FILES_SHARE = 0.8
QUOTA_SHARE = 0.8
EXPIRY_SECONDS = 30 * 86400.0
LAG_ENTRIES = 1000
_SYNC = "etcd_disk_wal_fsync_duration_seconds"
_SAMPLE = re.compile(r"^(\w+)(?:\{([^}]*)\})? (\S+)$", re.MULTILINE)
TITLES = ("", "CHECK", "FOUND", "WHAT TO DO")


@dataclass
class Finding:
    """What a check found.

    Attributes:
        level: ``ok``, ``warn`` or ``fail``.
        check: What was looked at.
        found: What was found.
        advice: What to do about it; empty if nothing.
    """

    level: str
    check: str
    found: str
    advice: str = ""


@dataclass(frozen=True)
class SyncTime:
    """How long the syncs of a member's log have taken.

    Attributes:
        count: How many there were.
        mean_seconds: On average.
        slow_seconds: 99 of 100 took no longer; infinite if that is beyond the last bucket.
    """

    count: int
    mean_seconds: float
    slow_seconds: float

    def __str__(self) -> str:
        return (
            f"{self.count} syncs, {self.mean_seconds * 1000:.1f} ms on average, "
            f"99 % within {self.slow_seconds * 1000:.0f} ms"
        )


@dataclass
class Seen:
    """What one member told."""

    url: str
    error: str = ""
    status: ClusterStatusResult | None = None
    commit_seconds: float = 0.0
    clock_seconds: float | None = None
    metrics: list[tuple[str, str, float]] = field(default_factory=list)

    def metric(self, name: str) -> float | None:
        """Give a value of its metrics."""
        return next((value for one, _, value in self.metrics if one == name), None)

    def sync_time(self) -> SyncTime | None:
        """Give how long its log takes to sync; None if it does not tell, or nothing was written."""
        count, total = self.metric(f"{_SYNC}_count"), self.metric(f"{_SYNC}_sum")
        if not count or total is None:
            return None
        slow = [
            float(labels.removeprefix('le="').rstrip('"').replace("+Inf", "inf"))
            for name, labels, value in self.metrics
            if name == f"{_SYNC}_bucket" and value >= 0.99 * count
        ]
        return SyncTime(int(count), total / count, min(slow, default=math.inf))


def add(nouns: Nouns) -> None:
    """Add the command."""
    parser = nouns.command("doctor", doctor, "", "look at every member; tell what to do")
    parser.set_defaults(formats=tables.FORMATS)


async def doctor(context: Context) -> int:
    """Look at every member; tell what is wrong and what to do."""
    context.arguments(0, 0, "doctor takes no argument")
    urls, members, advice = await _urls(context)
    seen = await asyncio.gather(*(look(context, url) for url in urls))
    findings = [*advice, *judge(list(seen), members, time.time())]
    if context.is_json:
        output.say_json([vars(one) for one in findings])
    else:
        rows = [(one.level, one.check, one.found, one.advice) for one in findings]
        tables.show(context, TITLES, rows, None)
    return ERROR if any(one.level == "fail" for one in findings) else 0


async def _urls(context: Context) -> tuple[list[str], list[MemberInfo], list[Finding]]:
    """Give where to look: at all members, or if nobody tells them, at the endpoints."""
    try:
        async with context.client() as client:
            members = await client.cluster.members()
    except CoordinatorError as error:
        told = Finding("fail", "members", str(error), "see that a member runs, and --endpoints")
        return context.endpoints, [], [told]
    urls = [one.client_urls[0] for one in members if one.client_urls]
    silent = [
        Finding(
            "fail",
            f"member {one.name or format(one.member, 'x')}",
            "was added and has not come",
            f"start it, or remove it: coordctl member remove {one.member:x}",
        )
        for one in members
        if not one.is_started
    ]
    return urls or context.endpoints, members, silent


async def look(context: Context, url: str) -> Seen:
    """Ask one member everything."""
    seen, begun = Seen(url), time.monotonic()
    try:
        async with context.client(url) as client:
            # The greeting is in the log of a majority before it is answered.
            seen.commit_seconds = time.monotonic() - begun
            seen.status = await client.cluster.status()
            seen.clock_seconds = await _clock(client)
    except CoordinatorError as error:
        seen.error = seen.error or str(error)
    if url.startswith("http://") and not seen.error:
        seen.metrics = await asyncio.to_thread(_metrics, url)
    return seen


async def _clock(client: Client) -> float | None:
    """Give how far a member's clock is ahead of this machine's, in seconds."""
    before = time.time()
    found = await client.cluster.revision_at()
    return found.now_ms / 1000 - (before + time.time()) / 2


def _metrics(url: str) -> list[tuple[str, str, float]]:
    try:
        with urllib.request.urlopen(f"{url}/metrics", timeout=5) as answer:
            text = answer.read().decode()
    except OSError:
        return []
    return [(name, labels, float(value)) for name, labels, value in _SAMPLE.findall(text)]


# ---------------------------------------------------------------- judging


def judge(seen: list[Seen], members: list[MemberInfo], now: float) -> Iterator[Finding]:
    """Give a finding for each check."""
    for one in seen:
        yield from _of_member(one, now)
    there = [one.status for one in seen if one.status is not None]
    yield _versions(there)
    yield _leader(there)
    yield _clocks(seen)
    voters = [one for one in members if not one.is_learner]
    if members:
        yield _quorum(len(voters), sum(one.status is not None for one in seen))


def _of_member(one: Seen, now: float) -> Iterator[Finding]:
    name = one.url
    if one.status is None:
        advice = "see that it runs and that this machine reaches it; its log tells more"
        yield Finding("fail", f"{name} reachable", one.error, advice)
        return
    status = one.status
    yield Finding("ok", f"{name} reachable", f"{status.name}, {status.role}")
    yield from _of_disk(one)
    for alarm in status.alarms:
        advice = (
            "delete keys, free space, or raise --quota-backend-bytes; the alarm then ends by itself"
            if alarm == "NOSPACE"
            else "replace this member: remove it, empty its directory, add it again"
        )
        yield Finding("fail", f"{name} alarm", alarm, advice)
    share = status.bytes_used / max(status.bytes_quota, 1)
    yield Finding(
        "warn" if share > QUOTA_SHARE else "ok",
        f"{name} space",
        f"{share:.0%} of the quota of {endpoint.size(status.bytes_quota)}",
        "compact, or raise --quota-backend-bytes" if share > QUOTA_SHARE else "",
    )
    behind = status.index - status.applied_index
    if behind > LAG_ENTRIES:
        advice = "it is busy or its disk is slow; see its load"
        yield Finding("warn", f"{name} applied", f"{behind} entries behind its log", advice)
    yield from _of_process(one, now)


def _of_disk(one: Seen) -> Iterator[Finding]:
    """Judge how long the log takes: on this member's disk, as it tells, and at a majority."""
    sync, faster = one.sync_time(), "put the data directory on a faster disk, away from others"
    is_disk_slow = sync is not None and sync.slow_seconds > SYNC_SECONDS
    if sync is not None:
        yield Finding(
            "warn" if is_disk_slow else "ok",
            f"{one.url} disk",
            f"{sync}",
            faster if is_disk_slow else "",
        )
    is_slow = one.commit_seconds > COMMIT_SECONDS
    advice = faster
    if sync is not None and not is_disk_slow:
        advice = "its disk is quick: look at the other members' disks, the network and the load"
    yield Finding(
        "warn" if is_slow else "ok",
        f"{one.url} commit",
        f"{one.commit_seconds * 1000:.0f} ms until a majority had synced an entry",
        advice if is_slow else "",
    )


def _of_process(one: Seen, now: float) -> Iterator[Finding]:
    files, most = one.metric("process_open_fds"), one.metric("process_max_fds")
    if files is not None and most:
        is_many = files > most * FILES_SHARE
        yield Finding(
            "warn" if is_many else "ok",
            f"{one.url} open files",
            f"{files:.0f} of {most:.0f}",
            "raise the limit of open files (ulimit -n, LimitNOFILE)" if is_many else "",
        )
    for name, labels, value in one.metrics:
        if name == "coordinator_tls_expiry_timestamp_seconds" and value:
            left = value - now
            level = "fail" if left < 0 else "warn" if left < EXPIRY_SECONDS else "ok"
            yield Finding(
                level,
                f"{one.url} certificate {labels}",
                f"expires in {output.span(left)}" if left > 0 else "has expired",
                "" if level == "ok" else "make a new one (coordctl certs) and put it in its place",
            )


def _versions(there: list[Any]) -> Finding:
    found = sorted({one.version for one in there})
    if len(found) > 1:
        told = f"members have {', '.join(found)}"
        return Finding("warn", "versions", told, "finish the upgrade, one member after the other")
    if found and found[0] != __version__:
        told = f"members have {found[0]}, coordctl {__version__}"
        return Finding("warn", "versions", told, "use the coordctl of the cluster's version")
    return Finding("ok", "versions", ", ".join(found) or "unknown")


def _leader(there: list[Any]) -> Finding:
    leaders = {one.leader for one in there}
    if len(leaders) == 1 and 0 not in leaders:
        return Finding("ok", "leader", f"{leaders.pop():x}, term {max(o.term for o in there)}")
    if not leaders - {0}:
        advice = "start members until a majority runs; see that they reach each other's peer URLs"
        return Finding("fail", "leader", "nobody leads", advice)
    told = ", ".join(sorted(f"{leader:x}" if leader else "nobody" for leader in leaders))
    return Finding("warn", "leader", f"members name {told}", "ask again; it passes after elections")


def _clocks(seen: list[Seen]) -> Finding:
    clocks = [one.clock_seconds for one in seen if one.clock_seconds is not None]
    if not clocks:
        return Finding("warn", "clocks", "no member told its time", "")
    apart = max(*clocks, 0.0) - min(*clocks, 0.0)
    told = f"at most {apart:.3f} s apart, this machine included"
    if apart > CLOCK_SECONDS:
        return Finding("warn", "clocks", told, "run a time service (chrony, ntpd) everywhere")
    return Finding("ok", "clocks", told)


def _quorum(voters: int, there: int) -> Finding:
    can_fail = there - (voters // 2 + 1)
    told = f"{there} of {voters} voters are there"
    if can_fail < 0:
        return Finding("fail", "majority", told, "start members until a majority runs")
    if voters > 1 and can_fail == 0:
        return Finding("warn", "majority", f"{told}; none more may fail", "start the others")
    return Finding("ok", "majority", f"{told}; {can_fail} may fail")
