"""The order of things: persist before acknowledge. This is the one place that knows it.

A turn takes everything that has arrived since the last one and makes one step of it::

    propose ─► raft ─► append ─► log writer thread ─┐
                   └─► messages to peers            │ one fdatasync
    reply ◄─ publish to watches ◄─ apply ◄─ commit ◄┘

Nothing is answered, and no vote or acknowledgement leaves, before the log says "durable".
"""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Protocol

from coordinator.storage.record import LogBatch

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from coordinator.node.surroundings import Surroundings
    from coordinator.replica.effects import Append
    from coordinator.replica.replica import Replica
    from coordinator.storage.errors import StorageError
    from coordinator.storage.ports import LogPort
    from coordinator.wire.raft import Message

SLICE_NS = 5_000_000
"""How long entries are applied before ticks, heartbeats and reads get their turn."""


ALONE_ENTRIES_MAX = 4
"""So few entries are written by this thread on a quick disk: waking another costs more."""


class Pressure(Protocol):
    """What stands in the way of taking more."""

    @property
    def is_behind(self) -> bool:
        """Whether the state database is too far behind to take proposals."""

    @property
    def is_disk_full(self) -> bool:
        """Whether the disk has no space left."""


class Links(Protocol):
    """Where things for peers go."""

    def gather(self) -> None:
        """Make ready what waits for a leader, before a turn."""

    @property
    def has_frames(self) -> bool:
        """Whether there is something besides messages."""

    def send(self, messages: list[Message]) -> None:
        """Send messages, and whatever else there is."""


class TurnLoop:
    """Drives one replica on the running event loop.

    Args:
        replica: What to drive.
        log: Where appends become durable.
        surroundings: Where time comes from.
        links: Where messages for peers, and whatever else is for them, go.
        commit: Installs a snapshot that the log has made durable; `persisted` waits for it.
        after_apply: Called after entries were applied, before anything else happens.
        on_tick: Called with every tick.
        pressure: Says whether something behind can't keep up.
        on_failure: Called once with the error after which nothing may go on.
    """

    def __init__(
        self,
        replica: Replica,
        log: LogPort,
        surroundings: Surroundings,
        *,
        links: Links,
        commit: Callable[[Append], Awaitable[None]],
        after_apply: Callable[[], None],
        on_failure: Callable[[BaseException], None],
        on_tick: Callable[[], None],
        pressure: Pressure,
        tick_ms: int,
    ) -> None:
        self._replica = replica
        self._log = log
        self._surroundings = surroundings
        self._links = links
        self._commit = commit
        self._installing: asyncio.Task[None] | None = None
        self._after_apply = after_apply
        self._on_failure = on_failure
        self._on_tick = on_tick
        self._pressure = pressure
        self._tick_ms = tick_ms
        self._loop = asyncio.get_running_loop()
        self._is_scheduled = False
        self._is_stopped = False
        self._is_turning = False
        self._at_end: list[Callable[[], None]] = []
        self._writes: deque[tuple[Append, list[bool]]] = deque()
        self._ticker: asyncio.TimerHandle | None = None
        self._next_tick = 0.0

    @property
    def oldest_write(self) -> Append | None:
        """What was given to the log first of all that is not durable yet."""
        return self._writes[0][0] if self._writes else None

    def start(self) -> None:
        """Begin to tick."""
        self._next_tick = self._loop.time()
        self._tick()

    def stop(self) -> None:
        """Stop; what is under way in the log goes on without anyone listening."""
        self._is_stopped = True
        if self._ticker is not None:
            self._ticker.cancel()

    def schedule(self) -> None:
        """Ask for a turn; any number of calls before it make one turn."""
        if not self._is_scheduled and not self._is_stopped:
            self._is_scheduled = True
            self._loop.call_soon(self._run)

    def soon(self, work: Callable[[], None]) -> None:
        """Call ``work`` before anything else is waited for.

        What a turn has caused is done at its end, at once: an answer leaves before the member
        goes on with its own affairs.
        """
        if self._is_turning:
            self._at_end.append(work)
        else:
            self._loop.call_soon(work)

    def _tick(self) -> None:
        if self._is_stopped:
            return
        self._tell_time()
        self.guarded(self._replica.tick)
        self.guarded(self._on_tick)
        self.schedule()
        # Ticks keep their rhythm; those missed by a stall are skipped, not made up for.
        now = self._loop.time()
        self._next_tick = max(self._next_tick + self._tick_ms / 1000, now)
        self._ticker = self._loop.call_at(self._next_tick, self._tick)

    def _tell_time(self) -> None:
        surroundings = self._surroundings
        now_ms = surroundings.monotonic_ns() // 1_000_000
        self._replica.set_time(now_ms, surroundings.wall_ms())

    def _run(self) -> None:
        self._is_scheduled = False
        if not self._is_stopped:
            self._is_turning = True
            self.guarded(self._turn)
            self._is_turning = False
            self._finish()

    def _finish(self) -> None:
        """Do what the turn has caused so far."""
        while self._at_end:
            due, self._at_end = self._at_end, []
            for work in due:
                try:
                    work()
                except Exception as error:  # One client's trouble, not the member's.
                    context = {"message": "an answer broke", "exception": error}
                    self._loop.call_exception_handler(context)

    def guarded(self, step: Callable[[], None]) -> None:
        """Do a step of the replica; any exception is a broken invariant: stop, never limp."""
        try:
            step()
        except Exception as error:
            self._fail(error)

    def _turn(self) -> None:
        replica = self._replica
        self._tell_time()
        links = self._links
        links.gather()
        while True:
            effects = replica.turn(hold=self._pressure.is_behind)
            if effects.messages or links.has_frames:
                links.send(effects.messages)
            for append in effects.appends:
                self._write(append)
            if not replica.has_committed:
                if effects.appends and not self._writes:
                    continue  # A write that needed no disk may have released messages.
                return
            if self._apply():
                self.schedule()
                return
            if not (replica.has_work or links.has_frames):
                return

    def _apply(self) -> bool:
        """Apply what is committed, for one slice of time; True if more is left."""
        replica = self._replica
        now_ns = self._surroundings.monotonic_ns
        deadline = now_ns() + SLICE_NS
        more = replica.apply()
        while more and now_ns() < deadline:
            more = replica.apply()
        self._finish()
        self._after_apply()
        return more

    def _write(self, append: Append) -> None:
        """Hand one append to the log; those that need no sync only keep their place."""
        if append.snapshot is not None:
            self._write_snapshot(append)
            return
        needs_disk = bool(append.entries) or append.must_sync
        if not needs_disk and not self._writes:
            self._replica.persisted(append)
            return
        state = [not needs_disk]
        is_alone = not self._writes and len(append.entries) <= ALONE_ENTRIES_MAX
        self._writes.append((append, state))
        if needs_disk:
            batch = LogBatch(None, append.entries, append.hard_state)
            # On a full disk only what must go on is proposed: it may use the reserve.
            reserve = self._pressure.is_disk_full
            write = self._log.write_now if is_alone else self._log.submit
            if write(batch, partial(self._written, state), reserve=reserve):
                self._writes.clear()
                self._replica.persisted(append)

    def _write_snapshot(self, append: Append) -> None:
        """Note a snapshot in the log; what it holds then takes the place of the state."""
        assert append.snapshot is not None
        state = [False]
        self._writes.append((append, state))

        def noted(error: StorageError | None) -> None:
            if error is not None or self._is_stopped:
                self._written(state, error)
                return
            self._installing = asyncio.ensure_future(self._commit(append))
            self._installing.add_done_callback(installed)

        def installed(task: asyncio.Task[None]) -> None:
            self._installing = None
            error = None if task.cancelled() else task.exception()
            if error is not None and not self._is_stopped:
                self._fail(error)
            elif error is None:
                self._written(state, None)

        batch = LogBatch(append.snapshot.metadata, append.entries, append.hard_state)
        self._log.submit(batch, noted, reserve=self._pressure.is_disk_full)

    async def settle(self) -> None:
        """Wait for an installation under way: it can't be left half done while this runs."""
        while self._installing is not None:
            await asyncio.wait((self._installing,))

    def _fail(self, error: BaseException) -> None:
        self.stop()
        self._on_failure(error)

    def _written(self, state: list[bool], error: StorageError | None) -> None:
        """The log has made a batch durable, or never will."""
        if self._is_stopped:
            return
        if error is not None:
            self._fail(error)
            return
        state[0] = True
        writes = self._writes
        while writes and writes[0][1][0]:
            self.guarded(partial(self._replica.persisted, writes.popleft()[0]))
        self.schedule()
