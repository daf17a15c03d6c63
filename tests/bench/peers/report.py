"""``python -m tests.bench.peers.report [FILE]``: put a comparison into docs/performance.md.

The page's text is written by hand; what stands between the two marks is not.
"""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path
from typing import Any

from tests.bench.peers.plan import COMPARED, LEFT_OUT, TITLES, missed
from tests.bench.report import number

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
PAGE = ROOT / "docs" / "performance.md"
BEGIN = "<!-- beside others: written by `python -m tests.bench.peers.report` -->"
END = "<!-- end of beside others -->"


def goal_text(value: float, goal: dict[str, float] | None) -> str:
    """Write a goal, and whether it is missed."""
    if not goal:
        return "–"
    wanted = ", ".join(f"{'≥' if end == 'min' else '≤'} {at:g}" for end, at in goal.items())
    return f"{wanted}, **missed**" if missed(value, goal) else wanted


def table(report: dict[str, Any], goals: dict[str, Any]) -> list[str]:
    """Give the figures as a table."""
    lines = [
        "| what | beside | ours | theirs | ours / theirs | in each round | goal |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, compared in COMPARED.items():
        result = report["workloads"].get(name)
        if result is None:
            continue
        ours = result["medians"]["ours"][compared.figure]
        for contestant, found in result["ratios"].items():
            theirs = result["medians"][contestant][compared.figure]
            rounds = " … ".join(number(end) for end in (min(found["rounds"]), max(found["rounds"])))
            goal = goal_text(found["median"], goals.get(name, {}).get(contestant))
            lines.append(
                f"| {compared.title} | {TITLES[contestant]} | {number(ours)} {compared.unit} "
                f"| {number(theirs)} {compared.unit} | {number(found['median'])} | {rounds} "
                f"| {goal} |"
            )
    return lines


def left_out(report: dict[str, Any]) -> list[str]:
    """Tell what was not measured, and why."""
    rows = [
        (TITLES[peer], "all", facts["missing"])
        for peer, facts in report["peers"].items()
        if facts["missing"]
    ]
    rows += LEFT_OUT
    return ["| not measured | which | why |", "| --- | --- | --- |"] + [
        f"| {' | '.join(row)} |" for row in rows
    ]


def page_part(report: dict[str, Any], goals: dict[str, Any]) -> str:
    """Give the generated part of the page."""
    machine, workloads = report["machine"], report["workloads"].values()
    times = sorted(result["taken_at"] for result in workloads)
    rounds = sorted({len(result["runs"]["ours"]) for result in workloads})
    seconds = sorted({result["seconds"] for result in workloads})
    spans = " to ".join(f"{one:g}" for one in dict.fromkeys((seconds[0], seconds[-1])))
    syncs = sorted(result["disk"]["p50_ms"] for result in workloads)
    others = max(
        figures["other_cpu_percent"]
        for result in workloads
        for figures in result["medians"].values()
    )
    versions = ", ".join(
        f"{TITLES[peer].partition(',')[0]} {facts['version']}"
        for peer, facts in report["peers"].items()
        if facts["version"]
    )
    facts = (
        f"Taken {times[0]} to {times[-1]} on {machine['cores']} cores of {machine['cpu']}, "
        f"{machine['memory_gb']} GB, {machine['system']}, {machine['filesystem']}, "
        f"{machine['python']}; {' to '.join(map(str, rounds))} rounds of ours and each peer in "
        f"turn, medians, rates over {spans} s. A write of 2.3 kB with fdatasync took "
        f"{syncs[0]:.2f} to {syncs[-1]:.2f} ms (p50) before each workload; "
        f"other programs took {others:.0f} % of one core at most. "
        f"{versions}. A ratio above 1 is good for rates, below 1 for times."
    )
    return "\n".join([BEGIN, "", facts, "", *table(report, goals), "", *left_out(report), "", END])


def main(argv: list[str]) -> int:
    """Rewrite the page."""
    source = Path(argv[0]) if argv else ROOT / "bench-results" / "peers.json"
    goals = tomllib.loads((HERE / "goals.toml").read_text())
    head, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, tail = rest.partition(END)
    PAGE.write_text(head + page_part(json.loads(source.read_text()), goals) + tail)
    print(f"{PAGE} has the figures of {source}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
