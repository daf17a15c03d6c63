"""Hunts after planted mistakes: which seeds show them."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.simulation.mutants import MUTANTS, planted
from tests.simulation.run import simulate, size_of

PAGE = Path(__file__).resolve().parents[2] / "docs" / "testing.md"
SEED_LINE = re.compile(r"^\| ([a-z ]+) \| (\d+) \| (\d+) \|$")
MISFITS = ("AttributeError", "NameError", "TypeError")


@dataclass(frozen=True)
class Found:
    """A seed that shows a mistake.

    Attributes:
        played: Seeds that were played until then.
        cpu_seconds: What they took.
        violation: What it broke.
    """

    seed: int
    played: int
    cpu_seconds: float
    violation: str


def last_seeds() -> dict[str, int]:
    """Read from the page which seed has shown each mistake the last time."""
    return {
        match[1]: int(match[2])
        for line in PAGE.read_text().splitlines()
        if (match := SEED_LINE.match(line))
    }


def seeds_for(name: str, first: int = 0) -> Iterator[int]:
    """Give the seeds whose clusters can show a mistake, one of them before all others."""
    if first:
        yield first
    sizes = MUTANTS[name].sizes
    yield from (seed for seed in itertools.count(1) if seed != first and size_of(seed) in sizes)


def hunt(name: str, seeds: Iterable[int], cpu_seconds_max: float = float("inf")) -> Found | None:
    """Play seeds with a mistake until one shows it, or the time is over.

    Raises:
        AssertionError: The wrong function does not fit what it replaces, which would show in
            every seed.
    """
    began = time.process_time()
    for played, seed in enumerate(seeds, 1):
        with planted(name):
            violations = simulate(seed, MUTANTS[name].profile).violations
        assert not any(misfit in text for text in violations for misfit in MISFITS), violations
        spent = time.process_time() - began
        if violations:
            return Found(seed, played, spent, violations[0])
        if spent > cpu_seconds_max:
            return None
    return None


def hunt_all(names: Iterable[str], seeds: int) -> int:
    """Hunt each mistake from the first seed on, and print rows for the page.

    Returns:
        The exit status: 1 if one was not found within so many seeds.
    """
    missed = []
    for name in names:
        found = hunt(name, itertools.islice(seeds_for(name), seeds))
        if found is None:
            missed.append(name)
        else:
            print(f"| {name} | {found.seed} | {found.cpu_seconds:.0f} |", flush=True)
    if missed:
        print(f"not found within {seeds} seeds: {', '.join(missed)}")
    return 1 if missed else 0
