"""How the other members stand, for people who watch: asked over the links, kept nowhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from coordinator.wire.peer import Look, Standing
from coordinator_sdk.protocol.cluster import ClusterStatusResult

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class Outbox(Protocol):
    """What leaves for the peers at the end of the turn."""

    def look(self, member: int, look: Look) -> None:
        """Ask a member how it stands."""

    def stand(self, member: int, standing: Standing) -> None:
        """Answer a member that asked how this one stands."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What a member has told.

    Attributes:
        status: How it stood.
        at: When that was heard, in seconds of the event loop's clock.
        round_trip: How many seconds after it had been asked.
    """

    status: ClusterStatusResult
    at: float
    round_trip: float


class Standings:
    """Asks the others, and answers them.

    Args:
        outbox: Takes what leaves for the peers.
        schedule: Asks for a turn, with which it leaves.
        clock: The event loop's.

    Attributes:
        heard: What each member told last.
        status: Tells how this member stands; None until it can be told.
    """

    def __init__(
        self, outbox: Outbox, schedule: Callable[[], None], clock: Callable[[], float]
    ) -> None:
        self._outbox = outbox
        self._schedule = schedule
        self._clock = clock
        self._calls = 0
        self._asked: dict[int, tuple[int, float]] = {}
        self.heard: dict[int, Heard] = {}
        self.status: Callable[[], ClusterStatusResult] | None = None

    def ask(self, members: Iterable[int]) -> None:
        """Ask some members; what was heard of any others is forgotten."""
        wanted = set(members)
        for known in (self.heard, self._asked):
            for gone in [member for member in known if member not in wanted]:
                del known[gone]
        now = self._clock()
        for member in sorted(wanted):
            self._calls += 1
            self._asked[member] = (self._calls, now)
            self._outbox.look(member, Look(self._calls))
        self._schedule()

    def take(self, member: int, look: Look) -> None:
        """Answer a member."""
        if self.status is not None:
            self._outbox.stand(member, Standing(look.call, self.status()))

    def told(self, member: int, standing: Standing) -> None:
        """Hear how a member stands."""
        call, asked = self._asked.get(member, (0, 0.0))
        if call == standing.call:
            now = self._clock()
            self.heard[member] = Heard(standing.status, now, now - asked)
