"""How often a login may fail."""

from __future__ import annotations

from contextlib import suppress

import pytest

from coordinator.credentials.limiter import (
    ADDRESS_BURST,
    ADDRESS_SECONDS,
    BUCKETS,
    KNOWN_MAX,
    PAIR_BURST,
    PAIR_SECONDS,
    USER_BURST,
    USER_SECONDS,
    LoginLimiter,
    network_of,
)
from coordinator_sdk.errors import Exhausted


class Clock:
    """Seconds that pass when told to."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_an_address_that_fails_has_to_wait() -> None:
    """An address may fail so often, then as often as time allows; others are not held up."""
    clock = Clock()
    limiter = LoginLimiter(clock)
    for number in range(ADDRESS_BURST):
        limiter.admit(f"user {number}", "10.0.0.1")
    with pytest.raises(Exhausted, match="try again in") as refused:
        limiter.admit("ana", "10.0.0.1")
    assert refused.value.details["retry_after_s"] >= 1
    limiter.admit("ana", "10.0.0.2")
    clock.now += ADDRESS_SECONDS
    limiter.admit("ana", "10.0.0.1")
    with pytest.raises(Exhausted):
        limiter.admit("ana", "10.0.0.1")


def test_a_user_that_is_guessed_at_from_everywhere() -> None:
    """A user may fail so often from all addresses together, then as often as time allows."""
    clock = Clock()
    limiter = LoginLimiter(clock)
    for number in range(USER_BURST):
        limiter.admit("ana", f"10.0.{number}.1")
    with pytest.raises(Exhausted):
        limiter.admit("ana", "10.1.0.1")
    clock.now += USER_SECONDS
    limiter.admit("ana", "10.1.0.1")


def test_who_succeeds_never_waits() -> None:
    """A try that turned out well is none that failed."""
    limiter = LoginLimiter(Clock())
    for _ in range(10 * USER_BURST):
        limiter.succeeded(limiter.admit("ana", "10.0.0.1"))


def test_one_address_locks_nobody_out() -> None:
    """Whoever guesses at a user for an hour without a pause, from one address, takes no tries away
    from the user elsewhere."""
    clock = Clock()
    limiter = LoginLimiter(clock)
    tries = 0
    for _ in range(36_000):
        clock.now += 0.1
        with suppress(Exhausted):
            limiter.admit("ana", "10.0.0.1")
            tries += 1
    assert tries <= PAIR_BURST + 3600 / PAIR_SECONDS + 1
    limiter.admit("ana", "10.0.0.2")


def test_where_a_user_has_logged_in_before() -> None:
    """Guesses from everywhere, and failures of others at its address, do not hold up a user where
    it has logged in; its own failures there do."""
    limiter = LoginLimiter(Clock())
    limiter.succeeded(limiter.admit("ana", "10.0.0.1"))
    for number in range(USER_BURST):
        limiter.admit("ana", f"10.1.{number}.1")
    for number in range(ADDRESS_BURST):
        limiter.admit(f"user {number}", "10.0.0.1")
    with pytest.raises(Exhausted):
        limiter.admit("ana", "10.2.0.1")
    with pytest.raises(Exhausted):
        limiter.admit("ben", "10.0.0.1")
    for _ in range(PAIR_BURST):
        limiter.admit("ana", "10.0.0.1")
    with pytest.raises(Exhausted):
        limiter.admit("ana", "10.0.0.1")


def test_a_refused_try_takes_nothing() -> None:
    """A try that is refused because of the user takes nothing away from the address."""
    limiter = LoginLimiter(Clock())
    for number in range(USER_BURST):
        limiter.admit("ana", f"10.1.{number}.1")
    for _ in range(10 * ADDRESS_BURST):
        with pytest.raises(Exhausted):
            limiter.admit("ana", "10.0.0.1")
    limiter.admit("ben", "10.0.0.1")


def test_known_addresses_are_bounded() -> None:
    """Of the places where users have logged in, the oldest are forgotten."""
    limiter = LoginLimiter(Clock())
    for number in range(KNOWN_MAX + 10):
        limiter.succeeded(
            limiter.admit("ana", f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
        )
    assert len(limiter._known) == KNOWN_MAX


def test_memory_is_bounded() -> None:
    """Names that nobody has and addresses without end take no memory, and push nobody out."""
    limiter = LoginLimiter(Clock())
    for number in range(ADDRESS_BURST):
        limiter.admit(f"n{number}", "10.0.0.1")
    for number in range(2000):
        with suppress(Exhausted):  # A few share the bucket of the address above.
            limiter.admit(f"name {number}", f"2001:db8:{number:x}::1")
    with pytest.raises(Exhausted):
        limiter.admit("late", "10.0.0.1")
    assert len(limiter._users._left) == len(limiter._addresses._left) == BUCKETS


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::ffff:1", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("", ""),
    ],
)
def test_what_counts_as_one_address(address: str, network: str) -> None:
    """Of IPv6, the 2^64 addresses that one machine may have count as one."""
    assert network_of(address) == network
