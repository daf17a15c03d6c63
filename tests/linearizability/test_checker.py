"""The checker of histories accepts exactly those that are linearizable."""

from __future__ import annotations

import random
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.linearizability.checker import (
    DELETE,
    FOREVER,
    GET,
    PUT,
    SWAP,
    Operation,
    Value,
    check_register,
    step,
    violations,
)


def op(
    kind: str,
    called: float,
    returned: float,
    value: Value = None,
    expected: Value = None,
    succeeded: bool = True,
    client: int = 0,
) -> Operation:
    return Operation(kind, "r", called, returned, value, expected, succeeded, client)


A, B, C = b"a", b"b", b"c"

GOOD = {
    "nothing": [],
    "an empty register": [op(GET, 0, 1)],
    "one after the other": [op(PUT, 0, 1, A), op(GET, 2, 3, A), op(DELETE, 4, 5), op(GET, 6, 7)],
    "a read during a write sees either": [
        op(PUT, 0, 10, A),
        op(GET, 1, 2),
        op(GET, 3, 4, A),
        op(GET, 5, 6, A),
    ],
    "two writes at once, in either order": [
        op(PUT, 0, 10, A),
        op(PUT, 0, 10, B),
        op(GET, 11, 12, A),
    ],
    "an unknown write that happened late": [
        op(PUT, 0, FOREVER, A),
        op(PUT, 1, 2, B),
        op(GET, 3, 4, B),
        op(GET, 5, 6, A),
    ],
    "an unknown write that never happened": [op(PUT, 0, FOREVER, A), op(GET, 1, 2)],
    "an unknown read": [op(GET, 0, FOREVER, C), op(GET, 1, 2)],
    "one of two swaps": [
        op(PUT, 0, 1, A),
        op(SWAP, 2, 9, B, A),
        op(SWAP, 2, 9, C, A, succeeded=False),
        op(GET, 10, 11, B),
    ],
    "an unknown swap that happened": [
        op(PUT, 0, 1, A),
        op(SWAP, 2, FOREVER, B, A),
        op(GET, 3, 4, B),
    ],
    "a return and a call at the same moment": [op(PUT, 0, 1, A), op(GET, 1, 2)],
}
BAD = {
    "a value from nowhere": [op(GET, 0, 1, A)],
    "a lost write": [op(PUT, 0, 1, A), op(GET, 2, 3)],
    "a stale read": [op(PUT, 0, 1, A), op(PUT, 2, 3, B), op(GET, 4, 5, A)],
    "time going backwards": [
        op(PUT, 0, 1, A),
        op(PUT, 2, 20, B),
        op(GET, 3, 4, B),
        op(GET, 5, 6, A),
    ],
    "two clients that see two orders": [
        op(PUT, 0, 10, A),
        op(PUT, 0, 10, B),
        op(GET, 11, 12, A),
        op(GET, 13, 14, B),
        op(GET, 15, 16, A),
    ],
    "a deleted value": [op(PUT, 0, 1, A), op(DELETE, 2, 3), op(GET, 4, 5, A)],
    "an unknown write that happened before its call": [
        op(GET, 0, 1, A),
        op(PUT, 2, FOREVER, A),
    ],
    "an unknown write that was undone": [
        op(PUT, 0, 1, A),
        op(PUT, 2, FOREVER, B),
        op(GET, 3, 4, B),
        op(GET, 5, 6, A),
    ],
    "an unknown write that happened twice": [
        op(PUT, 0, FOREVER, A),
        op(PUT, 1, 9, B),
        op(GET, 10, 11, A),
        op(PUT, 12, 13, C),
        op(GET, 14, 15, A),
    ],
    "two swaps that both succeed": [
        op(PUT, 0, 1, A),
        op(SWAP, 2, 9, B, A),
        op(SWAP, 2, 9, C, A),
    ],
    "a swap that fails without reason": [op(PUT, 0, 1, A), op(SWAP, 2, 3, B, A, succeeded=False)],
}


@pytest.mark.parametrize("name", GOOD)
def test_linearizable_histories_pass(name: str):
    """A history for which there is an order passes."""
    assert check_register(GOOD[name]) is None


@pytest.mark.parametrize("name", BAD)
def test_bad_histories_are_found(name: str):
    """A history that is known to be bad is found, with the operations where it goes wrong."""
    assert check_register(BAD[name])


def test_registers_are_checked_by_themselves():
    """Of many registers the bad one is named, and its operations are told for people."""
    history = [op(PUT, 0, 1, A), Operation(GET, "other", 2, 3, A)]
    (found,) = violations(history)
    assert found.key == "other"
    assert "get -> b'a'" in str(found)


def orders(operations: list[Operation]):
    """Every order of the known operations with any of the unknown ones."""
    known = [one for one in operations if one.is_known]
    unknown = [one for one in operations if not one.is_known]
    for chosen in range(1 << len(unknown)):
        yield from permutations(
            [*known, *(one for bit, one in enumerate(unknown) if chosen >> bit & 1)]
        )


def is_linearizable(operations: list[Operation]) -> bool:
    """Tell by trying every order."""
    operations = [one for one in operations if one.is_known or one.kind != GET]
    for order in orders(operations):
        if any(
            later.returned < earlier.called
            for place, earlier in enumerate(order)
            for later in order[place + 1 :]
        ):
            continue
        state: Value = None
        for one in order:
            fits, state = step(state, one)
            if not fits:
                break
        else:
            return True
    return False


VALUES = st.sampled_from([None, A, B])


@st.composite
def operations(draw: st.DrawFn) -> Operation:
    kind = draw(st.sampled_from([PUT, PUT, GET, GET, GET, DELETE, SWAP]))
    called = draw(st.integers(0, 8))
    returned = draw(st.one_of(st.just(FOREVER), st.integers(called, 10)))
    value = draw(st.sampled_from([A, B])) if kind in (PUT, SWAP) else draw(VALUES)
    return op(kind, called, returned, value, draw(VALUES), succeeded=draw(st.booleans()))


@given(st.lists(operations(), max_size=6))
def test_it_agrees_with_trying_every_order(history: list[Operation]):
    """On small histories the verdict is that of trying every order."""
    assert (check_register(history) is None) == is_linearizable(history)


@given(st.lists(operations().filter(lambda one: one.kind in (PUT, GET)), max_size=6))
def test_it_agrees_where_values_are_distinct(history: list[Operation]):
    """The same where unknown writes are left out or bounded, which distinct values allow."""
    count = 0
    distinct = []
    for one in history:
        if one.kind == PUT:
            count += 1
            one = op(PUT, one.called, one.returned, b"%d" % count)
        elif one.value is not None:
            one = op(GET, one.called, one.returned, b"%d" % (1 + (one.value == B)))
        distinct.append(one)
    assert (check_register(distinct) is None) == is_linearizable(distinct)


def simulated(seed: int, clients: int, count: int) -> list[Operation]:
    """Make a history by letting operations happen at a moment between call and return."""
    draw = random.Random(seed)
    free = [0.0] * clients
    planned = []
    for number in range(count):
        client = draw.randrange(clients)
        called = free[client] + draw.random() * 0.1
        happens = called + draw.random()
        free[client] = returned = happens + draw.random()
        kind = draw.choice((PUT, GET))
        planned.append((happens, called, returned, kind, b"%d" % number, client))
    state: Value = None
    history = []
    for _, called, returned, kind, value, client in sorted(planned):
        is_lost = draw.random() < 0.1
        if kind == PUT:
            if not is_lost or draw.random() < 0.5:
                state = value
            history.append(op(PUT, called, FOREVER if is_lost else returned, value, client=client))
        else:
            history.append(op(GET, called, returned, state, client=client))
    return history


@pytest.mark.parametrize("seed", range(5))
def test_long_histories_are_decided(seed: int):
    """Thousands of operations of concurrent clients with unknown outcomes pass; with one stale
    read planted they do not."""
    history = simulated(seed, clients=8, count=2000)
    assert check_register(history) is None
    known = [one for one in history if one.kind == PUT and one.is_known]
    early, late = known[100], known[-100]
    stale = op(GET, late.returned + 50, late.returned + 51, early.value)
    assert check_register([*history, stale])
