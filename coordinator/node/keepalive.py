"""Leases are timed by the leader alone: renewals and looks go there, whoever was asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, Protocol

from msgspec import Struct

from coordinator.replica.effects import no_leader
from coordinator.wire.peer import Renew, Renewed
from coordinator_sdk.errors import CoordinatorError

if TYPE_CHECKING:
    from coordinator.replica.replica import Replica

Told = Callable[["list[int] | CoordinatorError"], None]
"""Given the milliseconds that each lease lives on, or the error that prevents it."""

WAITING_MAX: Final = 65_536
AGAIN_MS: Final = 500
"""When a question, or its answer, counts as lost: it is asked again, which does no harm."""


class Outbox(Protocol):
    """What leaves for the peers at the end of the turn."""

    def renew(self, member: int, renew: Renew) -> bool:
        """Ask the leader; False if there is no link to it."""

    def renewed(self, member: int, renewed: Renewed) -> None:
        """Answer a follower."""


class _Asked(Struct, gc=False):
    leases: list[int]
    only_look: bool
    done: Told
    since_ms: int
    member: int = 0
    sent_ms: int = 0


class Keepalive:
    """Renews leases, and tells how long they live on.

    Args:
        replica: This member's.
        outbox: Takes what leaves for the peers.
        first_call: Where the numbers of calls begin. It must not be near that of an earlier run of
            this member: the leader may still answer the calls of that one.
        patience_ms: How long to wait for a leader's answer.
    """

    def __init__(
        self, replica: Replica, outbox: Outbox, *, first_call: int, patience_ms: int
    ) -> None:
        self._replica = replica
        self._outbox = outbox
        self._patience_ms = patience_ms
        self._waiting: list[_Asked] = []
        self._sent: dict[int, _Asked] = {}
        self._next_call = first_call
        self._lead = 0
        self._is_held = False

    def ask(self, leases: list[int], done: Told, *, only_look: bool = False) -> None:
        """Have leases renewed, or looked at.

        Args:
            leases: Their ids.
            done: Called once. A renewal gives the TTL of each in milliseconds, 0 for one that
                does not exist or is about to end; a look gives what is left, -1 for none.
            only_look: Whether they are merely looked at.
        """
        if self._replica.raw.is_leader:
            self._here(leases, done, only_look=only_look)
        elif len(self._waiting) + len(self._sent) < WAITING_MAX:
            self._waiting.append(_Asked(leases, only_look, done, self._replica.now_ms))
        else:
            done(no_leader())

    def _here(self, leases: list[int], done: Told, *, only_look: bool) -> None:
        """Answer as the leader, once a quorum has confirmed that this still is one.

        What was granted, or found expired, under an earlier leader may not be applied yet: before
        it is, no lease is renewed, and none counts as unknown.
        """
        replica = self._replica

        def answer(error: CoordinatorError | None, *, is_last: bool) -> None:
            if error is not None:
                done(error)
            elif not replica.is_leader:
                done(no_leader())
            elif replica.machine.term == replica.raw.term:
                clock, now_ms = replica.clock, replica.now_ms
                tell = clock.remaining_ms if only_look else clock.renew
                left = [tell(lease, now_ms) for lease in leases]
                if is_last or min(left, default=1) > 0:
                    done(left)
                else:
                    replica.read(lambda error: answer(error, is_last=True))
            else:
                replica.read(lambda error: answer(error, is_last=True))

        replica.read(lambda error: answer(error, is_last=only_look), applied=only_look)

    def dispatch(self) -> None:
        """Pass on what waits, if there is a leader."""
        raw = self._replica.raw
        if raw.lead != self._lead:
            self._lead = raw.lead
            self._is_held = False
            for call in [c for c, asked in self._sent.items() if asked.member != raw.lead]:
                self._waiting.append(self._sent.pop(call))
        if not self._waiting or self._is_held:
            return
        waiting, self._waiting = self._waiting, []
        for asked in waiting:
            if raw.is_leader:
                self._here(asked.leases, asked.done, only_look=asked.only_look)
                continue
            renew = Renew(self._next_call, asked.leases, asked.only_look)
            if raw.lead and self._outbox.renew(raw.lead, renew):
                asked.member, asked.sent_ms = raw.lead, self._replica.now_ms
                self._sent[self._next_call] = asked
                self._next_call += 1
            else:
                self._waiting.append(asked)

    def take(self, member: int, renew: Renew) -> None:
        """Serve a follower."""

        def done(answer: list[int] | CoordinatorError) -> None:
            left = None if isinstance(answer, CoordinatorError) else answer
            self._outbox.renewed(member, Renewed(renew.call, left))

        if self._replica.raw.is_leader:
            self._here(renew.leases, done, only_look=renew.only_look)
        else:
            done(no_leader())

    def told(self, renewed: Renewed) -> None:
        """Hear from the leader."""
        asked = self._sent.pop(renewed.call, None)
        if asked is None:
            return
        if renewed.remaining_ms is None:
            self._waiting.append(asked)
            self._is_held = True  # Until somebody leads, or it has had the time to take office.
        else:
            asked.done(renewed.remaining_ms)

    def lost(self, member: int) -> None:
        """The link to a member has ended; asking again does no harm."""
        for call in [call for call, asked in self._sent.items() if asked.member == member]:
            self._waiting.append(self._sent.pop(call))

    def unsent(self, calls: Iterable[int]) -> None:
        """Hear that questions never left: the link was full. They are asked with the next tick."""
        self._waiting += [self._sent.pop(call) for call in calls if call in self._sent]
        self._is_held = True

    def tick(self) -> None:
        """Give up what has waited too long; ask again what was not answered."""
        self._is_held = False
        now_ms = self._replica.now_ms
        oldest_ms = now_ms - self._patience_ms
        for call in [call for call, asked in self._sent.items() if asked.since_ms < oldest_ms]:
            self._sent.pop(call).done(no_leader())
        again_ms = now_ms - AGAIN_MS
        for call in [call for call, asked in self._sent.items() if asked.sent_ms < again_ms]:
            self._waiting.append(self._sent.pop(call))
        if any(asked.since_ms < oldest_ms for asked in self._waiting):
            late = [asked for asked in self._waiting if asked.since_ms < oldest_ms]
            self._waiting = [asked for asked in self._waiting if asked.since_ms >= oldest_ms]
            for asked in late:
                asked.done(no_leader())
