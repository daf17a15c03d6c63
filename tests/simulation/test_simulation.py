"""The simulation: that its seeds hold, that they are reproducible, and that enough happens."""

import os
import subprocess
import sys

import pytest

from tests.simulation.__main__ import floors, main
from tests.simulation.run import simulate, size_of

SMOKE_SEEDS = range(1, 13)


@pytest.mark.parametrize("seed", SMOKE_SEEDS)
def test_seed_keeps_every_promise(seed: int):
    """Under crashes, torn writes, failing, full and slow disks, pauses, jumping clocks, cut, slow
    and lossy networks, and members that come and go, every acknowledged change survives and happens
    once, there is one leader per term, logs and states agree, locks are fair and fenced, no lease
    ends early, watches tell the whole history, reads are linearizable, and all members come to
    agree in the end."""
    assert simulate(seed).violations == []


def test_smoke_covers_every_size():
    """The seeds of every test run have clusters of one, three and five members among them."""
    assert {size_of(seed) for seed in SMOKE_SEEDS} == {1, 3, 5}


@pytest.mark.slow
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


@pytest.mark.slow
def test_seeds_differ():
    """Two seeds give two different runs."""
    assert simulate(14).digest != simulate(31).digest


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_enough_happens(capsys: pytest.CaptureFixture[str]):
    """In a few dozen seeds as much happens as the page on testing demands, and nothing breaks."""
    assert floors()["crashes"] > 0
    assert main(["--seeds", "40", "--from", "1000"]) == 0, capsys.readouterr().out
