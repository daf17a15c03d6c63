"""``python -m tests.simulation``: play seeds.

    --seed N             play one seed, and tell what happened
    --seeds N --from M   play many, count what happened in them, and fail below the floors

The exit status is 1 if a promise was broken, or if too little happened.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections import Counter
from pathlib import Path

from tests.simulation.run import Result, simulate

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "testing.md"
FLOOR_LINE = re.compile(r"^\| ([a-z ]+) \| (\d+) \|$")


def floors() -> dict[str, int]:
    """Read from the page how much has to happen in a hundred seeds."""
    return {
        match[1]: int(match[2])
        for line in PAGE.read_text().splitlines()
        if (match := FLOOR_LINE.match(line))
    }


def report(result: Result, verbose: bool) -> None:
    """Print one line about a seed, and what it broke."""
    if verbose or result.violations:
        state = "BROKEN" if result.violations else "ok"
        print(f"seed {result.seed}: {state} {result.digest}", flush=True)
    for text in result.violations[:10]:
        print(f"    {text}")
    if result.violations:
        print("  what happened last:")
        for text in result.trace[-30:]:
            print(f"    {text}")
        print(f"  replay with: make sim SEED={result.seed}")


def main(argv: list[str]) -> int:
    """Play seeds."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--from", type=int, default=1, dest="first")
    arguments = parser.parse_args(argv)
    is_single = arguments.seed is not None
    first, count = (arguments.seed, 1) if is_single else (arguments.first, arguments.seeds)
    totals: Counter[str] = Counter()
    broken = []
    began = time.process_time()
    for seed in range(first, first + count):
        result = simulate(seed)
        report(result, verbose=is_single)
        totals += result.counts
        if result.violations:
            broken.append(seed)
    for name, number in sorted(totals.items()):
        print(f"{number:10,} {name}")
    below = [] if is_single else too_little(totals, count)
    for line in below:
        print(line)
    if not is_single:
        seconds = (time.process_time() - began) / count
        print(f"{count} seeds, {seconds:.2f} s of CPU each; broken: {broken or 'none'}")
    return 1 if broken or below else 0


def too_little(totals: Counter[str], seeds: int) -> list[str]:
    """Compare with the floors; few seeds are allowed to miss rare things."""
    if seeds < 20:
        return []
    return [
        f"TOO LITTLE: {totals[name]} {name}, the floor for {seeds} seeds is {floor * seeds // 100}"
        for name, floor in floors().items()
        if totals[name] < floor * seeds // 100
    ]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
