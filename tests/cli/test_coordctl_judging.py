"""What coordctl makes of what it is told: findings, moments, SRV records, boxes."""

from typing import Any

import pytest

from coordinator.cli import srv, tables
from coordinator.cli.command import CommandError
from coordinator.cli.doctor import Finding, Seen, judge
from coordinator.cli.past import moment_of
from coordinator.node.dns import Srv
from coordinator_sdk.protocol.cluster import ClusterStatusResult

NOW = 2_000_000_000.0


def standing(member: int, leader: int, **facts: Any) -> ClusterStatusResult:
    """How a member stands."""
    plain: dict[str, Any] = {"version": "1", "bytes_quota": 100, "bytes_used": 0} | facts
    numbers: dict[str, Any] = dict.fromkeys(
        ("cluster", "term", "index", "applied_index", "revision", "compact_revision", "live_keys"),
        1,
    )
    return ClusterStatusResult(
        **numbers, member=member, leader=leader, name="m", role="voter", **plain
    )


def levels(*seen: Seen) -> dict[str, str]:
    """Give the level of each finding by what was checked."""
    return {one.check: one.level for one in judge(list(seen), [], NOW)}


def test_members_that_differ_are_found() -> None:
    """Versions, leaders and clocks that differ are warnings; nobody leading is a failure."""
    one = Seen("a", status=standing(1, 1), clock_seconds=0.0)
    two = Seen("b", status=standing(2, 2, version="2"), clock_seconds=3.0)
    found = levels(one, two)
    assert (found["versions"], found["leader"], found["clocks"]) == ("warn", "warn", "warn")
    assert levels(Seen("a", status=standing(1, 0)))["leader"] == "fail"


def test_a_member_in_trouble_is_found() -> None:
    """Alarms, a full quota, a slow disk, many files and a certificate near its end are told."""
    expiry = ("coordinator_tls_expiry_timestamp_seconds", 'file="x"', NOW + 60)
    files = [("process_open_fds", "", 90.0), ("process_max_fds", "", 100.0)]
    status = standing(1, 1, alarms=["NOSPACE"], bytes_used=90)
    found = levels(Seen("a", status=status, commit_seconds=2.0, metrics=[*files, expiry]))
    assert found["a alarm"] == "fail"
    for check in ("a commit", "a space", "a open files", 'a certificate file="x"'):
        assert found[check] == "warn"
    assert levels(Seen("a", error="refused"))["a reachable"] == "fail"


def test_a_slow_disk_is_told_from_a_slow_majority() -> None:
    """What a member tells of its syncs decides whose fault a slow commit is; without it, nobody
    knows."""

    def syncs(*counts: float) -> list[tuple[str, str, float]]:
        name = "etcd_disk_wal_fsync_duration_seconds"
        buckets = zip(("0.001", "0.064", "0.128", "+Inf"), counts, strict=True)
        facts = [(f"{name}_bucket", f'le="{bound}"', count) for bound, count in buckets]
        return [*facts, (f"{name}_sum", "", 2.0), (f"{name}_count", "", counts[-1])]

    def found(seen: Seen) -> dict[str, Finding]:
        return {one.check: one for one in judge([seen], [], NOW)}

    quick = Seen("a", status=standing(1, 1), commit_seconds=2.0, metrics=syncs(990, 995, 999, 1000))
    assert found(quick)["a disk"].found == "1000 syncs, 2.0 ms on average, 99 % within 1 ms"
    assert found(quick)["a disk"].level == "ok"
    assert "its disk is quick" in found(quick)["a commit"].advice
    slow = Seen("a", status=standing(1, 1), commit_seconds=2.0, metrics=syncs(0, 980, 995, 1000))
    assert found(slow)["a disk"].level == found(slow)["a commit"].level == "warn"
    assert "99 % within 128 ms" in found(slow)["a disk"].found
    assert "faster disk" in found(slow)["a commit"].advice
    assert "a disk" not in found(Seen("a", status=standing(1, 1)))
    assert "a disk" not in found(Seen("a", status=standing(1, 1), metrics=syncs(0, 0, 0, 0)))


def test_moments_are_read() -> None:
    """A length of time is that long ago; a date names a moment; the rest is refused."""
    assert moment_of("10m", NOW) == moment_of("-10m", NOW) == NOW - 600
    assert moment_of("2030-01-31T12:00:00+00:00", NOW) == 1_896_091_200
    with pytest.raises(CommandError, match="neither a revision"):
        moment_of("yesterday", NOW)


class Names:
    """A resolver that knows some names."""

    def __init__(self, **known: Srv) -> None:
        self._known = known

    async def srv(self, name: str) -> tuple[Srv, ...]:
        """Give the records of a name."""
        record = self._known.get(name.split(".")[0].lstrip("_").replace("-", "_"))
        return () if record is None else (record,)


async def test_endpoints_come_from_srv_records() -> None:
    """Records with TLS come first; those without only if they are wanted; etcd's names will do."""
    names: Any = Names(etcd_client_ssl=Srv("a", 1), etcd_client=Srv("b", 2))
    both = await srv.endpoints_of("x", "", is_insecure_taken=True, resolver=names)
    assert both == ["https://a:1", "http://b:2"]
    safe = await srv.endpoints_of("x", "", is_insecure_taken=False, resolver=names)
    assert safe == ["https://a:1"]
    with pytest.raises(CommandError, match="no SRV records _coordinator-client-ssl-east"):
        await srv.endpoints_of("x", "east", is_insecure_taken=True, resolver=names)


def test_boxes_line_up() -> None:
    """Titles stand in the middle of their column, cells to its right."""
    assert tables.boxed(("ID", "LONG"), [("1234", "x")]) == [
        "+------+------+",
        "|  ID  | LONG |",
        "+------+------+",
        "| 1234 |    x |",
        "+------+------+",
    ]
