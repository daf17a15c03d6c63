"""One link in memory: frames in order, from the member that dialled to the one that accepted."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from coordinator.transport.memory import MemoryNetwork

QUEUE_BYTES_MAX: Final = 64 << 20
"""Unsent bytes of a link beyond which frames are dropped."""
RESOLUTION_SECONDS: Final = 1e-6


class Link:
    """A link.

    Args:
        source: Who dialled, and sends.
        target: Who accepted, and receives.
        origin: Member id of the source.
        member: Member id of the target.
        incarnation: That of the source.
    """

    def __init__(
        self,
        source: MemoryNetwork,
        target: MemoryNetwork,
        origin: int,
        member: int,
        incarnation: int,
    ) -> None:
        self.source = source
        self.target = target
        self.origin = origin
        self.member = member
        self.incarnation = incarnation
        self.places = source.place, target.place
        self._switchboard = source.switchboard
        self._frames: deque[tuple[float, bytes | None]] = deque()
        self._nbytes = 0
        self._last_arrival = 0.0
        self._is_waking = False
        self.is_broken = False
        self._is_over = False
        self._is_full = False
        self._is_awaited = False

    def send(self, frame: bytes) -> bool:
        """Put a frame on its way; False if there is too much already."""
        if self.is_broken:
            return True  # Nobody has noticed yet.
        if self._nbytes + len(frame) > QUEUE_BYTES_MAX:
            if not self._is_full:
                self._is_full = True
                self.source.later(0.0, self.source.handler.unreachable, self.member)
            return False
        self._is_full = False
        fate = self._switchboard.fate
        others = None if fate is None else fate(*self.places, frame)
        if others is None:
            self._put(frame)
            return True
        for delay, other in others:
            if delay is None:
                self._put(other)
            else:
                loop, context = self.source.loop, self.target.context
                loop.call_later(delay, self._stray, other, context=context)
        return True

    def resume(self) -> None:
        """Go on after a cut has been mended."""
        if self._frames and self._can_pass():
            self._wake()

    def break_off(self, *, is_target_told: bool) -> None:
        """Break in the middle: what is on its way is lost, both ends learn of it in a while."""
        if self.is_broken:
            return
        self._lose()
        if not self.source.is_over:
            delay = self._switchboard.latency(*reversed(self.places))
            self.source.later(delay, self.source.link_down, self)
        if is_target_told and not self.target.is_over:
            self._put(None)

    def source_ended(self, *, is_silent: bool) -> None:
        """Lose the end that sends: some of what it sent may still arrive, then the link ends."""
        if self.is_broken:
            return
        kept = self._switchboard.rng.randrange(len(self._frames) + 1)
        while len(self._frames) > kept:
            self._frames.pop()
        self.is_broken = True
        self._switchboard.forget(self)
        if not is_silent:
            self._put(None)

    def replace(self) -> None:
        """End because the source has dialled again, which it may not know itself."""
        self._is_over = True
        self.break_off(is_target_told=False)

    def _lose(self) -> None:
        self.is_broken = True
        self._frames.clear()
        self._nbytes = 0
        self._switchboard.forget(self)

    def _can_pass(self) -> bool:
        return self._switchboard.is_open(*self.places)

    def _put(self, frame: bytes | None) -> None:
        """Let a frame, or the end of the link, take its place behind the others."""
        arrival = self.source.loop.time() + self._switchboard.latency(*self.places)
        self._last_arrival = arrival = max(arrival, self._last_arrival)
        self._frames.append((arrival, frame))
        self._nbytes += len(frame or b"")
        if self._can_pass():
            self._wake()
        else:
            self._await_silence()

    def _wake(self) -> None:
        """Have the target look at what has arrived, as soon as something has."""
        if not self._is_waking and self._frames:
            self._is_waking = True
            arrival = self._frames[0][0]
            self.source.loop.call_at(arrival, self._arrive, context=self.target.context)

    def _arrive(self) -> None:
        self._is_waking = False
        # An event loop calls a little early what is due in less than its clock can tell.
        now = self.target.loop.time() + RESOLUTION_SECONDS
        while self._frames and self._frames[0][0] <= now and not self._is_over:
            if not self._can_pass():
                self._await_silence()
                return
            _, frame = self._frames.popleft()
            if self.target.is_over:
                continue
            if frame is None:
                self._is_over = True
                self.target.link_ended(self)
            else:
                self._nbytes -= len(frame)
                self.target.handler.received(self.origin, frame)
        if not self._is_over:
            self._wake()

    def _stray(self, frame: bytes) -> None:
        """Let a copy of a frame arrive outside of the order."""
        is_gone = self.is_broken or self._is_over or self.target.is_over
        if not is_gone and self._can_pass():
            self.target.handler.received(self.origin, frame)

    def _await_silence(self) -> None:
        if not self._is_awaited and not self.is_broken:
            self._is_awaited = True
            seconds = self._switchboard.silence_seconds
            self.source.later(seconds, self._fell_silent, self._last_arrival)

    def _fell_silent(self, noticed: float) -> None:
        self._is_awaited = False
        if self.is_broken or self._can_pass() or not self._frames:
            return
        self._lose()
        self.source.link_down(self)
