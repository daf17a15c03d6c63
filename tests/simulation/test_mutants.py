"""Classic mistakes, planted from outside, are found: that is what the simulation is for."""

import inspect
import itertools

import pytest

from tests.simulation.hunting import Found, hunt, last_seeds, seeds_for
from tests.simulation.mutants import MUTANTS, planted
from tests.simulation.record import Record, recording
from tests.simulation.run import small_scale

SEEDS_MAX = 60
CPU_SECONDS_MAX = 200.0


def found_by(name: str) -> Found | None:
    """Play the seed that has shown a mistake the last time, and if it does not, some more."""
    seeds = itertools.islice(seeds_for(name, last_seeds()[name]), SEEDS_MAX)
    return hunt(name, seeds, CPU_SECONDS_MAX)


def test_lost_acknowledgement_is_found():
    """Acknowledging before the sync, planted, is found."""
    assert found_by("acknowledge before sync")


def test_lost_vote_is_found():
    """A vote that is not made durable, planted, is found."""
    assert found_by("vote not persisted")


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", MUTANTS)
def test_planted_mistake_is_found(name: str):
    """Each classic mistake, planted, is found within a few dozen seeds."""
    assert found_by(name)


def test_every_mistake_is_on_the_page():
    """The page on testing tells of every planted mistake which seed shows it."""
    assert list(last_seeds()) == list(MUTANTS)


@pytest.mark.parametrize("name", MUTANTS)
def test_planted_mistake_fits(name: str):
    """A wrong function takes what the right one takes, and goes away again."""
    mutant = MUTANTS[name]
    right = getattr(mutant.owner, mutant.name)
    with planted(name):
        wrong = getattr(mutant.owner, mutant.name)
        assert wrong is not right
        parameters = inspect.signature(right).parameters.values()
        by_name = [each.name for each in parameters if each.kind is each.KEYWORD_ONLY]
        by_place = [each for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD]
        inspect.signature(wrong).bind(*by_place, **dict.fromkeys(by_name))
    assert getattr(mutant.owner, mutant.name) is right


def test_what_looks_on_goes_away_again():
    """What the simulation replaces in the product is there, and is there again afterwards."""
    from coordinator.node import node, persistence
    from coordinator.node.peers import Links
    from coordinator.replica.replica import Replica

    def replaced() -> list[object]:
        names = ("_applied", "_note_role", "persisted", "turn", "__init__")
        found = [getattr(Replica, each) for each in names]
        return [*found, Links.add, node._log_fault, persistence.LOOK_EVERY]

    before = replaced()
    with recording(Record()), small_scale():
        assert all(one is not other for one, other in zip(before, replaced(), strict=True))
    assert replaced() == before
