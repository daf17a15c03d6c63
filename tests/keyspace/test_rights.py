"""Permissions as sets of keys and patterns of names, against counting by hand."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.keyspace.rights import KeySet, Rights, interval_of, matches
from coordinator_sdk.protocol.auth import Access, DomainPermission, KeyPermission

LETTERS = (b"\0", b"a", b"b", b"\xff")
UNIVERSE = [b"".join(parts) for size in (1, 2, 3) for parts in product(LETTERS, repeat=size)]
KEYS = st.sampled_from([b"", b"\0", *[key for key in UNIVERSE if len(key) < 3]])
RANGES = st.tuples(KEYS, st.one_of(st.just(b""), KEYS))


def named(key: bytes, range_end: bytes) -> set[bytes]:
    """Give the keys of the universe that a range names."""
    if not range_end:
        return {key or b"\0"} & set(UNIVERSE)
    return {one for one in UNIVERSE if key <= one and (range_end == b"\0" or one < range_end)}


@given(st.lists(RANGES, max_size=5), RANGES)
def test_a_range_is_covered_if_all_its_keys_are(ranges, wanted):
    """Intervals cover a range if and only if together they hold every key of it."""
    spans = [span for span in (interval_of(*one) for one in ranges) if span is not None]
    held = set().union(*(named(*one) for one in ranges))
    covers = KeySet(spans).covers(*wanted)
    asked = named(*wanted)
    if covers:
        assert asked <= held
    elif asked:
        # Keys longer than those of the universe lie between them: ask for one of those.
        start, end = interval_of(*wanted) or (b"", b"")
        between = [one + tail for one in UNIVERSE for tail in (b"", b"\0\0\0\0", b"\xff" * 9)]
        missing = [
            one
            for one in between
            if start <= one
            and (end is None or one < end)
            and not any(low <= one and (high is None or one < high) for low, high in spans)
        ]
        assert missing, (spans, wanted)


@given(st.lists(st.builds(KeyPermission, st.sampled_from([0, 1, 2]), KEYS, KEYS), max_size=5))
def test_reading_and_writing_are_apart(permissions):
    """A key may be read, or written, if and only if some permission says so."""
    rights = Rights(permissions)
    for key in UNIVERSE:
        about = [one.access for one in permissions if key in named(one.key, one.range_end)]
        assert rights.may_read(key) == (Access.READ in about or Access.READWRITE in about)
        assert rights.may_write(key) == (Access.WRITE in about or Access.READWRITE in about)


@given(st.lists(RANGES, max_size=4), st.lists(st.sampled_from(UNIVERSE), max_size=8))
def test_many_keys_at_once(ranges, keys):
    """Asking for many keys at once is asking for each of them."""
    held = KeySet(span for span in (interval_of(*one) for one in ranges) if span is not None)
    assert held.covers_all(keys) == all(held.covers(key) for key in keys)


def test_permissions_cover_a_range_together():
    """Two permissions that touch cover the range over both; with a gap they do not."""
    rights = Rights([KeyPermission(0, b"a", b"b"), KeyPermission(2, b"b", b"c")])
    assert rights.may_read(b"a", b"c")
    assert not rights.may_write(b"a", b"c")
    gap = Rights([KeyPermission(0, b"a", b"b"), KeyPermission(0, b"b\0", b"c")])
    assert not gap.may_read(b"a", b"c")
    assert not gap.may_read(b"a", b"\0")
    assert Rights([KeyPermission(0, b"", b"\0")]).may_read(b"\0", b"\0")


@pytest.mark.parametrize(
    ("pattern", "text", "is_match"),
    [
        ("*", "", True),
        ("*", "x", True),
        ("jobs/*", "jobs/a", True),
        ("jobs/*", "jobs/", True),
        ("jobs/*", "jobs", False),
        ("jobs", "jobs/a", False),
        ("", "", True),
        ("", "x", False),
        ("a*b", "a*b", True),
        ("a*b", "axb", False),
    ],
)
def test_patterns(pattern: str, text: str, is_match: bool):
    """A star at the end stands for any rest, and nowhere else for anything."""
    assert matches(pattern, text) == is_match


def test_domain_permissions():
    """An action is allowed on what both patterns match; a kind with a star is all its actions."""
    rights = Rights(
        domains=[
            DomainPermission("lock:acquire", "team-*", "jobs/*"),
            DomainPermission("topic:*", "default", "orders"),
        ]
    )
    assert rights.may("lock:acquire", "team-a", "jobs/x")
    assert not rights.may("lock:acquire", "team-a", "other")
    assert not rights.may("lock:acquire", "default", "jobs/x")
    assert not rights.may("lock:read", "team-a", "jobs/x")
    assert rights.may("topic:publish", "default", "orders")
    assert rights.may("topic:subscribe", "default", "orders")
    assert not rights.may("topic:publish", "default", "orders.eu")
    assert rights.may_all("lock:acquire", "team-a", "jobs/x")
    assert rights.may_all("lock:acquire", "team-a", "jobs/")
    assert not rights.may_all("lock:acquire", "team-a", "jobs")
    assert not rights.may_all("topic:subscribe", "default", "orders")
    assert rights.may_some("lock:acquire", "team-b")
    assert not rights.may_some("lock:acquire", "default")
    assert Rights(is_root=True).may("anything", "a", "b")
