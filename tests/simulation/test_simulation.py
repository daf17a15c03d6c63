"""The simulation: that its seeds hold, that they are reproducible, and that it finds mistakes."""

import os
import subprocess
import sys

import pytest

from tests.simulation.__main__ import floors, main
from tests.simulation.mutants import MUTANTS, planted
from tests.simulation.run import simulate

SEEDS_PER_MUTANT = 12


@pytest.mark.parametrize("seed", range(1, 11))
def test_seed_keeps_every_promise(seed: int):
    """Under crashes, torn writes, failing, full and slow disks, pauses and jumping clocks every
    acknowledged change survives and happens once, locks are fair and fenced, no lease ends early,
    watches tell the whole history, reads are linearizable, and everything comes to an end."""
    assert simulate(seed).violations == []


def test_seed_is_reproducible():
    """A seed gives the same run, to the last bit, whatever the hash seed of the process is."""
    outputs = [
        subprocess.run(
            [sys.executable, "-m", "tests.simulation", "--seed", "3"],
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "4242")
    ]
    assert outputs[0] == outputs[1]
    assert "seed 3: ok" in outputs[0]


def test_seeds_differ():
    """Two seeds give two different runs."""
    assert simulate(1).digest != simulate(2).digest


def found_by(name: str) -> int:
    """Give the first seed that finds a planted mistake; 0 if none does."""
    for seed in range(1, SEEDS_PER_MUTANT + 1):
        with planted(name):
            if simulate(seed).violations:
                return seed
    return 0


def test_lost_acknowledgement_is_found():
    """Acknowledging before the sync, planted, is found."""
    assert found_by("acknowledge before sync")


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", MUTANTS)
def test_planted_mistake_is_found(name: str):
    """Each classic mistake, planted, is found within a few seeds."""
    assert found_by(name)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_enough_happens(capsys: pytest.CaptureFixture[str]):
    """In a few dozen seeds as much happens as the page on testing demands, and nothing breaks."""
    assert floors()["crashes"] > 0
    assert main(["--seeds", "30", "--from", "1000"]) == 0, capsys.readouterr().out
