"""The quick way to a new leader, when there is evidence that the old one's process is gone.

With evidence a follower forgets the leader, so that it may vote for another, and stands for
election itself after a short while that is random lest two of them meet. Without evidence it does
the same after a whole election timeout of silence; the core alone would wait for up to two, to
keep candidates apart. Pre-vote and quorum still decide: a hint that was wrong costs nothing but a
round of messages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from coordinator.raft import StateType

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from coordinator.raft import RawNode

_CANDIDATES: Final = (StateType.CANDIDATE, StateType.PRE_CANDIDATE)
FIRST_MS: Final = (0, 50)
AGAIN_MS: Final = (50, 150)
TRIES_MAX: Final = 10
"""Then the election timeout has come anyway."""
UNDECIDED_TRIES_MAX: Final = 3
"""Of a candidate whom nobody has elected: most likely two stood at the same time."""


class CallLater(Protocol):
    """A way to have something called after a while, as `loop.call_later` is."""

    def __call__(self, delay: float, callback: Callable[[], None], /) -> object:
        """Call ``callback`` after ``delay`` seconds."""


class Failover:
    """Stands for election when the leader has died.

    Args:
        raw: The consensus core.
        draw: Where delays come from.
        call_later: Calls something after some seconds.
        schedule: Asks for a turn of the node.
    """

    def __init__(
        self,
        raw: RawNode,
        draw: random.Random,
        *,
        call_later: CallLater,
        schedule: Callable[[], None],
    ) -> None:
        self._raw = raw
        self._draw = draw
        self._call_later = call_later
        self._schedule = schedule
        self._tries = 0
        self._rests_until_ms = 0
        self.is_stopped = False

    def deserted(self, member: int) -> None:
        """A member's process is gone."""
        raw = self._raw
        if raw.lead != member or raw.is_leader:
            return
        raw.forget_leader()
        self._schedule()
        is_idle = not self._tries
        self._tries = TRIES_MAX
        if is_idle:
            self._later(FIRST_MS)

    def tick(self, now_ms: int, election_timeout_ms: int) -> None:
        """Replace a silent leader; let a candidate that nobody elected try again soon.

        The latter a few times in each timeout.
        """
        raw = self._raw
        if raw.lead and raw.raft.election_elapsed >= raw.raft.election_timeout:
            self.deserted(raw.lead)
        if self._tries or raw.lead or raw.raft.state not in _CANDIDATES:
            return
        if now_ms >= self._rests_until_ms:
            self._rests_until_ms = now_ms + election_timeout_ms
            self._tries = UNDECIDED_TRIES_MAX
            self._later(AGAIN_MS)

    def _later(self, span_ms: tuple[int, int]) -> None:
        self._call_later(self._draw.uniform(*span_ms) / 1000, self._stand)

    def _stand(self) -> None:
        raw = self._raw
        if self.is_stopped or raw.lead or raw.is_leader:
            self._tries = 0
            return
        self._tries -= 1
        raw.campaign()
        self._schedule()
        if self._tries:
            self._later(AGAIN_MS)
