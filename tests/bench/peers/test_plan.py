"""Comparing with others: ratios, goals and the table, without any server."""

from __future__ import annotations

import ast
import tomllib
from typing import Any

import pytest

from tests.bench.peers import __main__ as running
from tests.bench.peers import report
from tests.bench.peers.plan import COMPARED, TITLES, missed, ratio
from tests.bench.workloads import WORKLOADS

CLIENTS = running.HERE / "clients"


def goals() -> dict[str, Any]:
    return tomllib.loads((running.HERE / "goals.toml").read_text())


def result(name: str, ours: float, theirs: float, contestant: str) -> dict[str, Any]:
    figure = COMPARED[name].figure
    figures = {
        one: {figure: value, "other_cpu_percent": 1.0}
        for one, value in (("ours", ours), (contestant, theirs))
    }
    return {
        "taken_at": "2026-01-01T00:00:00Z",
        "disk": {"p50_ms": 0.1},
        "seconds": 2.0,
        "medians": figures,
        "runs": {one: [values] for one, values in figures.items()},
        "ratios": {contestant: {"median": ours / theirs, "rounds": [1.5, ours / theirs]}},
    }


def test_a_ratio_is_ours_in_theirs() -> None:
    """A ratio says how many times theirs ours is, and a peer that did nothing has none."""
    assert ratio(6.0, 2.0) == 3.0
    with pytest.raises(ValueError, match="above 0"):
        ratio(6.0, 0.0)


def test_goals_for_rates_and_for_times() -> None:
    """A rate misses below its goal, a time above it, and both meet it exactly."""
    assert [missed(value, {"min": 3}) for value in (2.9, 3.0, 3.1)] == [True, False, False]
    assert [missed(value, {"max": 0.5}) for value in (0.4, 0.5, 0.6)] == [False, False, True]


def test_missed_goals_are_told_and_others_are_not() -> None:
    """Only what was measured and misses its goal is told."""
    measured = {
        "put_c64": result("put_c64", 20_000, 10_000, "etcd"),
        "lock_handover": result("lock_handover", 0.5, 2.0, "etcd"),
    }
    assert running.missed_goals(measured) == [
        "put_c64 against etcd: 2.00 times, the goal is {'min': 4}"
    ]


def test_every_goal_is_measured() -> None:
    """Each goal belongs to a comparison that is made, each comparison to a workload of ours."""
    for name, wanted in goals().items():
        assert set(wanted) <= set(COMPARED[name].against), name
    for name, compared in COMPARED.items():
        assert compared.workload in WORKLOADS, name
        assert set(compared.against) <= set(TITLES), name


def test_every_comparison_has_its_client() -> None:
    """Each peer's client has the workload that is asked of it, under that name."""
    for compared in COMPARED.values():
        for contestant in compared.against:
            peer, _, way = contestant.partition("/")
            tree = ast.parse((CLIENTS / f"{peer}.py").read_text())
            names = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
            wanted = f"{compared.workload}/{way}" if way else compared.workload
            assert wanted in names, contestant


def test_the_page_has_what_was_measured_and_what_was_not() -> None:
    """The page has a row for each peer measured, marks a missed goal and names the absent."""
    made = report.page_part(
        {
            "machine": {
                "cores": 2,
                "cpu": "a processor",
                "memory_gb": 4.0,
                "system": "Linux",
                "filesystem": "ext4",
                "python": "CPython 3.11",
            },
            "peers": {
                "etcd": {"missing": None, "version": "3.5.1"},
                "zookeeper": {"missing": "there is no Java", "version": None},
            },
            "workloads": {"put_c64": result("put_c64", 20_000, 10_000, "etcd")},
        },
        goals(),
    )
    row = "| put, 64 callers | etcd, aetcd | 20,000 /s | 10,000 /s | 2.00 | 1.50 … 2.00 "
    assert f"{row}| ≥ 4, **missed** |" in made.splitlines()
    assert "| ZooKeeper, kazoo | all | there is no Java |" in made.splitlines()
    assert "etcd 3.5.1" in made


def test_the_page_has_the_marks() -> None:
    """The page that is written to has both marks, once each and in order."""
    text = report.PAGE.read_text()
    assert text.count(report.BEGIN) == text.count(report.END) == 1
    assert text.index(report.BEGIN) < text.index(report.END)
