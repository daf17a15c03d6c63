"""``python -m tests.bench.report [FILE]``: put the figures of a run into docs/performance.md.

The page's text is written by hand; what stands between the two marks is not.
"""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PAGE = ROOT / "docs" / "performance.md"
BEGIN = "<!-- figures: written by `python -m tests.bench.report` -->"
END = "<!-- end of figures -->"

ROWS: dict[str, tuple[str, tuple[tuple[str, str], ...]]] = {
    "put_c1": ("put, one caller", (("p50_ms", "ms p50"), ("puts_per_s", "/s"))),
    "put_c64": ("put, 64 callers", (("puts_per_s", "/s"), ("p50_ms", "ms p50"))),
    "get_c1": ("linearizable get, one caller", (("p50_ms", "ms p50"), ("gets_per_s", "/s"))),
    "get_c64": ("linearizable get, 64 callers", (("gets_per_s", "/s"), ("p50_ms", "ms p50"))),
    "lock_uncontended": (
        "lock acquire and release, one caller",
        (("pairs_per_s", "pairs/s"), ("p50_ms", "ms p50")),
    ),
    "lock_handover": (
        "lock hand-over to the next of 10 waiters",
        (("p50_ms", "ms p50"), ("p99_ms", "ms p99")),
    ),
    "lock_closed": (
        "10 clients looping on one lock",
        (("handovers_per_s", "hand-overs/s"), ("max_to_min", "luckiest to unluckiest client")),
    ),
    "watch_latency": ("put to watch event", (("p50_ms", "ms p50"), ("p99_ms", "ms p99"))),
    "pubsub": (
        "publish to subscriber, 64 publishers",
        (("messages_per_s", "messages/s"), ("p50_ms", "ms p50")),
    ),
    "fanout": (
        "event to 1,000 watchers over 10 connections",
        (("deliveries_per_s", "deliveries/s"), ("p50_ms", "ms p50")),
    ),
    "list_1000": (
        "list 1,000 instances",
        (("lists_per_s", "/s"), ("p50_ms", "ms p50"), ("registrations_per_s", "registrations/s")),
    ),
    "start_empty": (
        "start to ready, empty data directory",
        (("ready_s", "s"), ("rss_mb", "MB resident")),
    ),
    "start_million": (
        "start to ready, 1,000,000 keys",
        (("ready_s", "s"), ("rss_mb", "MB resident")),
    ),
}

ROWS |= {
    f"{name}_on_three": (f"{ROWS[name][0]}; three members", ROWS[name][1])
    for name in ("put_c1", "put_c64", "get_c1", "get_c64", "lock_uncontended", "lock_handover")
} | {
    "put_c64_on_a_follower": (
        "put, 64 callers of a follower; three members",
        (("puts_per_s", "/s"), ("p50_ms", "ms p50")),
    )
}
"""On three members, all of them on the machine that one has for itself otherwise."""


def number(value: float) -> str:
    """Write a number with about three digits that count."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def table(report: dict[str, Any]) -> list[str]:
    """Give the figures as a table."""
    floors = tomllib.loads((HERE / "floors.toml").read_text())
    lines = [
        "| what | median | range of the first figure | floor | others' CPU |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, (title, figures) in ROWS.items():
        result = report["workloads"].get(name)
        if result is None:
            continue
        median, runs = result["median"], result["runs"]
        shown = ", ".join(f"{number(median[key])} {unit}" for key, unit in figures)
        first = [run[figures[0][0]] for run in runs]
        limits = [
            f"{'≥' if 'min' in limit else '≤'} {next(iter(limit.values())):,} "
            f"{dict(figures).get(key, key)}"
            for key, limit in floors.get(name, {}).items()
        ]
        others = median.get("other_cpu_percent")
        lines.append(
            f"| {title} | {shown} | {number(min(first))} … {number(max(first))} "
            f"| {', '.join(limits) or '–'} | {'–' if others is None else f'{others:.0f} %'} |"
        )
    return lines


def page_part(report: dict[str, Any]) -> str:
    """Give the generated part of the page."""
    machine, before, after = report["machine"], report["disk_before"], report["disk_after"]
    runs = max(len(result["runs"]) for result in report["workloads"].values())
    facts = (
        f"Taken {report['taken_at']} on {machine['cores']} cores of {machine['cpu']}, "
        f"{machine['memory_gb']} GB, {machine['system']}, {machine['filesystem']}, "
        f"{machine['python']}; {runs} runs of each workload. In the same run a write of 2.3 kB "
        f"with fdatasync took {before['p50_ms']:.2f} ms before and {after['p50_ms']:.2f} ms after "
        f'(p50; p99 {before["p99_ms"]:.2f} and {after["p99_ms"]:.2f} ms). "Others\' CPU" is what '
        "other programs took meanwhile, in percent of one core."
    )
    return "\n".join([BEGIN, "", facts, "", *table(report), "", END])


def main(argv: list[str]) -> int:
    """Rewrite the page."""
    source = Path(argv[0]) if argv else ROOT / "bench-results" / "bench.json"
    text = PAGE.read_text()
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    PAGE.write_text(head + page_part(json.loads(source.read_text())) + tail)
    print(f"{PAGE} has the figures of {source}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
