"""What is remembered of tokens that are void."""

from __future__ import annotations

from coordinator.credentials.void import OF_USER_MAX, VoidTokens


def test_what_is_remembered_is_bounded_and_forgotten_in_time() -> None:
    """A user makes the member remember only so many tokens, pushes out none of another's, and none
    is remembered beyond its time."""
    void = VoidTokens()
    void.add("ben", "a.b.c", 2000, 1000)
    for number in range(3 * OF_USER_MAX):
        void.add("ana", f"a.{number}.c", 2000, 1000)
    assert len(void) == OF_USER_MAX + 1
    assert void.holds("ben", "a.b.c")
    assert void.holds("ben", "a.b.another")
    assert not void.holds("ben", "a.c.c")
    assert not void.holds("eve", "a.b.c")
    void.add("eve", "e.e.e", 3000, 2000)
    assert len(void) == 1
