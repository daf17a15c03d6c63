"""The verdict on a load finds each kind of broken promise when it is planted."""

import pytest

from tests.chaos.load import (
    PREFIX,
    Change,
    Notes,
    check_messages,
    check_tokens,
    check_writes,
    compare,
    outage,
)

KEY, GUARDED = PREFIX + b"writer/0", PREFIX + b"guarded/chaos-0"
HISTORY: list[Change] = [
    (2, KEY, b"1"),
    (3, GUARDED, b"2"),
    (4, KEY, b"2"),
    (5, GUARDED, b"4"),
    (6, KEY, b"3"),
]


def told() -> Notes:
    """Give what clients were told if all went well."""
    notes = Notes()
    notes.writes[0] = [(2, b"1"), (4, b"2"), (6, b"3")]
    notes.grants = [("chaos-0", 2), ("chaos-0", 4)]
    notes.published[0] = [(1, b"0 1"), (2, b"0 2")]
    notes.received = [(1, b"0 1"), (2, b"0 2")]
    return notes


def test_kept_promises_pass():
    """What is as it should be is not complained about."""
    notes = told()
    assert check_writes(notes, HISTORY) == []
    assert check_tokens(notes, HISTORY) == []
    assert check_messages(notes) == []
    assert compare(list(HISTORY), HISTORY, "the watch") == []


@pytest.mark.parametrize(
    "history",
    [
        HISTORY[:-1],
        [*HISTORY, (7, KEY, b"3")],
        [*HISTORY, (7, KEY, b"4")],
        [(2, KEY, b"2"), *HISTORY[1:]],
    ],
    ids=["lost", "twice", "never asked for", "other value"],
)
def test_wrong_writes_are_found(history: list[Change]):
    """A write that is lost, doubled, invented or altered is found."""
    assert check_writes(told(), history)


def test_wrong_tokens_are_found():
    """Overlapping holders, tokens granted twice and writes with stale tokens are found."""
    notes = told()
    notes.entered = 1
    assert check_tokens(notes, HISTORY)
    notes = told()
    notes.grants.append(("chaos-0", 4))
    assert check_tokens(notes, HISTORY)
    assert check_tokens(told(), [*HISTORY, (7, GUARDED, b"2")])
    assert check_tokens(told(), [*HISTORY, (7, GUARDED, b"6")])


@pytest.mark.parametrize(
    "received",
    [
        [(1, b"0 1")],
        [(1, b"0 1"), (2, b"0 1")],
        [(1, b"0 1"), (3, b"0 2")],
        [(2, b"0 2"), (1, b"0 1")],
        [(1, b"0 1"), (2, b"0 2"), (3, b"0 2")],
    ],
    ids=["lost", "altered", "gap", "out of order", "twice"],
)
def test_wrong_messages_are_found(received: list[tuple[int, bytes]]):
    """A message that is lost, altered, out of order or doubled is found."""
    notes = told()
    notes.received = received
    assert check_messages(notes)


@pytest.mark.parametrize(
    "events",
    [HISTORY[:-1], HISTORY[1:], [*HISTORY, HISTORY[-1]], HISTORY[::-1]],
    ids=["end missing", "begin missing", "twice", "out of order"],
)
def test_wrong_events_are_found(events: list[Change]):
    """An event that is missing, doubled or out of order is found."""
    assert compare(events, HISTORY, "the watch")


def test_outages_are_measured():
    """The outage after a moment is the longest pause from there on, even one that goes beyond
    the span; without any later acknowledgement it has no end."""
    moments = [1.0, 2.0, 2.25, 4.25, 4.5, 9.5]
    assert outage(moments, 2.0, 4.4) == 2.0
    assert outage(moments, 3.0, 4.4) == 1.25
    assert outage(moments, 4.4, 5.0) == 5.0
    assert outage(moments, 9.0, 10.0) == float("inf")
