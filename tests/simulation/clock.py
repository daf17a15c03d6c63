"""Virtual time: an event loop that never waits, and lives that can be stopped and ended.

Everything runs on one `VirtualLoop`: members, disks, networks, clients. A `Life` is one run of
one member: whatever is started inside it can be paused, as by SIGSTOP, and ended, as by a
power cut, without a trace of clean-up code running.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

_LIFE: contextvars.ContextVar[Life | None] = contextvars.ContextVar("life", default=None)


class NothingLeft(Exception):
    """Somebody waits, and nothing will ever happen again."""


class NoEnd(Exception):
    """So much has happened that nothing sensible can be going on."""


TURNS_MAX = 400_000
"""Turns of the event loop in one run; a run takes less than a quarter of that."""


class _Selector:
    """Lets time pass instead of waiting for files."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._turns = 0

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            raise NothingLeft
        self._turns += 1
        if self._turns == TURNS_MAX:
            raise NoEnd
        if timeout > 0:
            self._loop.now += timeout
        return []

    def close(self) -> None:
        pass


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop whose clock jumps to the next thing to do.

    Attributes:
        now: Virtual seconds.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self._timers_made = 0
        self._selector = _Selector(self)
        self._clock_resolution = 1e-6
        self.set_exception_handler(_ignore)

    def time(self) -> float:
        """Give the virtual time in seconds."""
        return self.now

    def call_soon(  # type: ignore[override]
        self,
        callback: Callable[..., Any],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        """As always, but inside a life only while it lasts."""
        life = _life_of(context)
        if life is not None:
            callback, args = partial(life.run, callback, *args), ()
        return super().call_soon(callback, *args, context=context)

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., Any],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """As always, but inside a life only while it lasts."""
        life = _life_of(context)
        if life is not None:
            callback, args = partial(life.run, callback, *args), ()
        # What is due at the same moment comes in the order in which it was asked for.
        self._timers_made += 1
        when += self._timers_made * 1e-12
        return super().call_at(when, callback, *args, context=context)

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """Run it at once: there are no threads here."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    def _process_events(self, event_list: list[Any]) -> None:
        pass

    def _write_to_self(self) -> None:
        pass


def _ignore(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Say nothing about tasks that died with their life."""


def _life_of(context: contextvars.Context | None) -> Life | None:
    return _LIFE.get() if context is None else context.get(_LIFE)


class Life:
    """One run of one member."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.is_over = False
        self._loop = loop
        self._is_paused = False
        self._waiting: deque[Callable[[], Any]] = deque()
        self._at_end: dict[object, Callable[[], None]] = {}
        self._kept: list[Any] = []
        self.context = contextvars.copy_context()
        self.context.run(_LIFE.set, self)

    def run(self, callback: Callable[..., Any], *args: Any) -> None:
        """Run something of this life, now or when the pause is over, or never."""
        if self.is_over:
            # Kept, because dropping a suspended coroutine would run its clean-up code.
            self._kept.append((callback, *args))
        elif self._is_paused:
            inside = contextvars.copy_context()
            self._waiting.append(partial(inside.run, self.run, callback, *args))
        else:
            callback(*args)

    def bury(self) -> None:
        """After the run: let clean-up code run after all, now that it changes nothing any more."""
        self.is_over = self._is_paused = False
        left: list[Callable[[], Any]] = list(self._waiting)
        left += [partial(each[0], *each[1:]) for each in self._kept if isinstance(each, tuple)]
        self._waiting.clear()
        self._kept.clear()
        for callback in left:
            self._loop.call_soon(callback, context=contextvars.Context())

    def start(self, work: Any) -> asyncio.Task[Any]:
        """Start a task that belongs to this life."""
        task: asyncio.Task[Any] = self._loop.create_task(work, context=self.context)
        self._kept.append(task)
        return task

    def send(self, callback: Callable[..., Any], *args: Any) -> None:
        """Have something run inside this life, soon."""
        self._loop.call_soon(callback, *args, context=self.context)

    def pause(self, seconds: float) -> None:
        """Let nothing of this life run for a while; its clocks go on."""
        if not self._is_paused and not self.is_over:
            self._is_paused = True
            self._loop.call_later(seconds, self._resume)

    def _resume(self) -> None:
        self._is_paused = False
        waiting, self._waiting = self._waiting, deque()
        while waiting:
            waiting.popleft()()

    def end(self) -> None:
        """Let nothing of this life run ever again."""
        if self.is_over:
            return
        self.is_over = True
        at_end, self._at_end = self._at_end, {}
        for callback in at_end.values():
            callback()

    def at_end(self, name: object, callback: Callable[[], None]) -> None:
        """Have something called when this life ends."""
        self._at_end[name] = callback

    def not_at_end(self, name: object) -> None:
        """Take that back."""
        self._at_end.pop(name, None)
