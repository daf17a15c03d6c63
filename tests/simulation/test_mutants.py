"""Classic mistakes, planted from outside, are found: that is what the simulation is for."""

import pytest

from tests.simulation.mutants import MUTANTS, planted
from tests.simulation.run import simulate, size_of

SEEDS_PER_MUTANT = 200


def found_by(name: str) -> int:
    """Give the first seed that finds a planted mistake; 0 if none does."""
    for seed in range(1, SEEDS_PER_MUTANT + 1):
        if size_of(seed) in MUTANTS[name].sizes:
            with planted(name):
                violations = simulate(seed).violations
            # One that does not fit the function it replaces would be found by that.
            assert not any("TypeError" in text for text in violations), violations
            if violations:
                return seed
    return 0


def test_lost_acknowledgement_is_found():
    """Acknowledging before the sync, planted, is found."""
    assert found_by("acknowledge before sync")


def test_lost_vote_is_found():
    """A vote that is not made durable, planted, is found."""
    assert found_by("vote not persisted")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", MUTANTS)
def test_planted_mistake_is_found(name: str):
    """Each classic mistake, planted, is found within two hundred seeds."""
    assert found_by(name)
