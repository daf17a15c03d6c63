"""Random walks over an object's methods, with weights and shrinking."""

from collections.abc import Callable

from hypothesis import strategies as st

Steps = st.SearchStrategy[list[tuple[str, dict[str, object]]]]


def step(weight: int = 1, **arguments: st.SearchStrategy) -> Callable:
    """Make a method a step of the walk, taken ``weight`` times as often as one of weight 1."""

    def mark(method: Callable) -> Callable:
        method.step = (weight, arguments)  # type: ignore[attr-defined]
        return method

    return mark


def walks(walker: type, length: int) -> Steps:
    """Sequences of at least ``length`` steps: the name of each method, and its arguments."""
    choices = []
    for name, method in vars(walker).items():
        weight, arguments = getattr(method, "step", (0, {}))
        one = st.tuples(st.just(name), st.fixed_dictionaries(arguments))
        choices += [one] * weight
    return st.lists(st.sampled_from(choices).flatmap(lambda one: one), min_size=length)


def walk(walker: object, steps: list[tuple[str, dict[str, object]]]) -> None:
    """Take the steps, checking ``holds`` after each and ``settles`` at the end."""
    walker.holds()  # type: ignore[attr-defined]
    for name, arguments in steps:
        getattr(walker, name)(**arguments)
        walker.holds()  # type: ignore[attr-defined]
    walker.settles()  # type: ignore[attr-defined]
