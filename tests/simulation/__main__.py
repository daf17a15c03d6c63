"""``python -m tests.simulation``: play seeds.

    --seed N             play one seed, and tell what happened
    --seeds N --from M   play many, count what happened in them, and fail below the floors
    --jobs N             in that many processes
    --resume FILE        note every seed there, and pass over those that it has of the same sources
    --mutants [NAME]     hunt planted mistakes, each in up to N seeds, and print rows for the page

The exit status is 1 if a promise was broken, if too little happened, or if one of the seeds that
are played again, with other hash seeds, did not give the same run.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from tests.simulation.hunting import PAGE, hunt_all
from tests.simulation.mutants import MUTANTS
from tests.simulation.progress import ROOT, Progress
from tests.simulation.run import Result, simulate

FLOOR_LINE = re.compile(r"^\| ([a-z -]+) \| (\d+) \|$")
REPLAY_EVERY = 20
"""Of so many seeds one is played again, to see whether it gives the same run."""
HASH_SEEDS = ("1", "4242")
SEEDS_MANY = 500
"""From so many seeds on the floors hold in full."""
SECONDS_MAX = 3.0
"""CPU time that a seed may take on average."""


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
        print(f"  replay with: make sim SEED={result.seed}", flush=True)


def digest_under(seed: int, hash_seed: str) -> str:
    """Play a seed in a process of its own; give the last word of the line about it."""
    output = subprocess.run(
        [sys.executable, "-m", "tests.simulation", "--seed", str(seed)],
        env=os.environ | {"PYTHONHASHSEED": hash_seed},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    return output.splitlines()[0].rpartition(" ")[2] if output else ""


def play(seeds: Iterable[int], jobs: int) -> Iterator[Result]:
    """Play seeds, in order."""
    if jobs <= 1:
        yield from map(simulate, seeds)
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(simulate, seeds)


def main(argv: list[str]) -> int:
    """Play seeds."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--from", type=int, default=1, dest="first")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--resume", type=Path)
    parser.add_argument("--mutants", nargs="*", choices=MUTANTS, metavar="NAME")
    arguments = parser.parse_args(argv)
    if arguments.seed is not None:
        return play_one(arguments.seed)
    if arguments.mutants is not None:
        return hunt_all(arguments.mutants or MUTANTS, arguments.seeds)
    seeds = range(arguments.first, arguments.first + arguments.seeds)
    return soak(seeds, arguments.jobs, Progress(arguments.resume))


def play_one(seed: int) -> int:
    """Play one seed and tell everything about it."""
    result = simulate(seed)
    report(result, verbose=True)
    show(result.counts)
    return 1 if result.violations else 0


def soak(seeds: range, jobs: int, progress: Progress) -> int:
    """Play many seeds and count."""
    different, replayed = [], 0
    left = [seed for seed in seeds if seed not in progress]
    for number, result in enumerate(play(left, jobs), 1):
        report(result, verbose=False)
        if result.seed % REPLAY_EVERY == 0:
            replayed += 1
            if any(digest_under(result.seed, each) != result.digest for each in HASH_SEEDS):
                different.append(result.seed)
                result.violations.append("it is not the same run under another hash seed")
                print(f"seed {result.seed}: NOT THE SAME RUN under another hash seed", flush=True)
        progress.add(result)
        if number % 100 == 0:
            print(f"{time.strftime('%H:%M:%S')} {number} seeds", flush=True)
    results = [result for result in progress if result.seed in seeds]
    totals = sum((result.counts for result in results), Counter())
    broken = [result.seed for result in results if result.violations]
    show(totals)
    below = too_little(totals, len(seeds))
    for line in below:
        print(line)
    seconds = sum(result.cpu_seconds for result in results) / len(seeds)
    is_slow = seconds > SECONDS_MAX
    print(
        f"{len(seeds)} seeds, {len(seeds) - len(left)} of them played before, {seconds:.2f} s of "
        f"CPU each{' (TOO SLOW)' if is_slow else ''}; {replayed} replayed, different: "
        f"{different or 'none'}; broken: {broken or 'none'}"
    )
    return 1 if broken or below or different else 0


def show(totals: Counter[str]) -> None:
    """Print what happened."""
    for name, number in sorted(totals.items()):
        print(f"{number:10,} {name}")


def too_little(totals: Counter[str], seeds: int) -> list[str]:
    """Compare with the floors; in few seeds what is rare may be rarer still."""
    if seeds < 40:
        return []
    share = 1 if seeds >= SEEDS_MANY else 8
    least = {name: floor * seeds // (100 * share) for name, floor in floors().items()}
    return [
        f"TOO LITTLE: {totals[name]} {name}, the floor for {seeds} seeds is {floor}"
        for name, floor in least.items()
        if totals[name] < floor
    ]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
