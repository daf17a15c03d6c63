"""What locks and leaderships have in common: waiting for a grant, holding it, losing it."""

from __future__ import annotations

import asyncio
import random
from itertools import count
from typing import TYPE_CHECKING, ClassVar, NoReturn, Self

from ._connection import nothing, now
from ._keys import to_milliseconds
from ._modes import CHANGE
from ._streams import GrantStream, TicketStream
from .errors import (
    AcquireTimeout,
    ClientError,
    CoordinatorError,
    NotApplied,
    NotHeld,
    OutcomeUnknown,
    SessionLost,
    WouldDeadlock,
)
from .protocol import tickets
from .protocol.kv import Guard

if TYPE_CHECKING:
    from msgspec import Struct

    from ._connection import Connection
    from .sessions import Session, Sessions

GRACE_SECONDS = 1.0
"""How much longer than the cluster the client itself waits."""

FOLLOW_AFTER_SECONDS = 0.05
"""How long a grant must be held before the client asks to be told about its end."""

_serial = count(1)
_FREE, _WAITING, _HELD, _RELEASING = "free", "waiting", "held", "releasing"


class Held:
    """A lock or leadership, from the wish to have it until it is given back.

    One object is one owner: while it is held or awaited, taking it again raises
    `WouldDeadlock`. It can be used again after it was given back or lost.

    Attributes:
        name: Name of the lock or election.
        lost: Set when it is lost while it is held.
        reason_lost: Why; empty before.
    """

    _kind: ClassVar[str]
    _noun: ClassVar[str]
    _lost_error: ClassVar[type[SessionLost]]

    def __init__(
        self,
        link: Connection,
        sessions: Sessions,
        namespace: str,
        name: str,
        timeout: float | None,
        session: Session | float,
        owner: str | None,
    ) -> None:
        self.name = name
        self.lost = asyncio.Event()
        self.reason_lost = ""
        self._link = link
        self._sessions = sessions
        self._namespace = namespace
        self._timeout = timeout
        self._wanted = session
        self._given_owner = owner
        self._owner = owner or ""
        self._serial = next(_serial)
        self._state = _FREE
        self._token = 0
        self._ticket = ""
        self._position = 0
        self._session: Session | None = None
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0
        self._cancelled_body = False
        self._follower: asyncio.TimerHandle | None = None
        self._grant: GrantStream | None = None

    # ------------------------------------------------------------- what users see

    @property
    def token(self) -> int:
        """The fencing token: higher for every grant. 0 if it is not held."""
        return self._token

    @property
    def owner(self) -> str:
        """Who holds it within the session."""
        return self._owner

    @property
    def session(self) -> Session | None:
        """The session that it hangs on."""
        return self._session

    @property
    def position(self) -> int:
        """Place in the queue while waiting, 1 for the next; 0 otherwise."""
        return self._position if self._state == _WAITING else 0

    @property
    def held(self) -> bool:
        """Whether it is held for certain at this moment."""
        session = self._session
        return self._state == _HELD and session is not None and session.alive

    def check(self) -> None:
        """Make sure that it is held; costs nothing but a look at the clock.

        Raises:
            LockLost: It was lost, if it is a lock.
            LeadershipLost: It was lost, if it is a leadership.
            NotHeld: It was not taken, or has been given back.
        """
        if self.held:
            return
        if self.lost.is_set():
            raise self._loss()
        raise NotHeld(f"{self._noun} {self.name!r} is not held", name=self.name)

    def guard(self) -> Guard:
        """The proof that it is held, for `KV.put` and other writes.

        Raises:
            NotHeld: It was never taken.
        """
        if not self._token or self._session is None:
            raise NotHeld(f"{self._noun} {self.name!r} is not held", name=self.name)
        return Guard(
            self._kind, self._namespace, self.name, self._token, self._session.id, self._owner
        )

    # ------------------------------------------------------------- what kinds differ in

    def _acquire_body(self, session: int, timeout_ms: int | None) -> Struct:
        raise NotImplementedError

    def _release_body(self, session: int) -> Struct:
        raise NotImplementedError

    def _cancel_body(self) -> Struct:
        raise NotImplementedError

    def _follow_body(self) -> Struct:
        raise NotImplementedError

    # ------------------------------------------------------------- taking it

    async def _obtain(self, timeout: float | None) -> None:
        if self._state != _FREE:
            raise WouldDeadlock(
                f"{self._noun} {self.name!r} is {self._state} by this object already: "
                "make one object for each task",
                name=self.name,
            )
        if timeout is not None:
            to_milliseconds(timeout, "timeout")
        self._state = _WAITING
        try:
            await self._wait(timeout)
        finally:
            if self._state == _WAITING:
                self._state = _FREE

    async def _wait(self, timeout: float | None) -> None:
        deadline = None if timeout is None else now() + timeout
        self._reset()
        try:
            async with asyncio.timeout(None if timeout is None else timeout + GRACE_SECONDS):
                session = await self._open_session()
                state = await self._stand_in_line(session, deadline)
        except TimeoutError:
            raise self._too_late(timeout, "no answer came") from None
        if state.state != tickets.GRANTED:
            if not session.alive:
                raise SessionLost(f"the session was lost: {session.reason}")
            raise self._too_late(timeout, state.reason)
        if not session.alive:
            self._link.forget(self._cancel_body(), CHANGE)
            raise SessionLost(f"the session was lost: {session.reason}")
        self._token = state.token
        self._state = _HELD
        session.attach(self)
        self._follower = self._link.loop.call_later(FOLLOW_AFTER_SECONDS, self._follow)

    def _reset(self) -> None:
        self.lost.clear()
        self.reason_lost = ""
        self._token = self._position = 0
        self._ticket = f"{random.getrandbits(64):016x}"
        if self._given_owner is None:
            task = asyncio.current_task()
            name = task.get_name()[:48] if task else "task"
            self._owner = f"{name}#{self._serial}"

    async def _open_session(self) -> Session:
        wanted = self._wanted
        if isinstance(wanted, int | float):
            wanted = await self._sessions.shared(wanted)
        self._session = wanted
        return wanted

    async def _stand_in_line(self, session: Session, deadline: float | None) -> tickets.TicketState:
        def opening() -> Struct:
            left = None if deadline is None else max(0.0, deadline - now())
            return self._acquire_body(
                session.id, None if left is None else to_milliseconds(left, "timeout")
            )

        stream = TicketStream(opening)
        waiter = _Waiter(self._link.loop, stream, session)
        session.attach(waiter)
        try:
            self._link.open(stream)
            while True:
                await waiter.wait()
                if waiter.reason:
                    if self._link.closing:
                        raise self._link.not_connected()
                    raise SessionLost(f"the session was lost: {waiter.reason}")
                if stream.error is not None:
                    raise stream.error
                if stream.state is not None:
                    self._position = stream.state.position
                    if stream.state.state != tickets.QUEUED:
                        return stream.state
        except BaseException as error:
            stream.wake = None
            self._link.close_stream(stream)
            if not isinstance(error, NotApplied) and not self._link.closed:
                self._link.forget(self._cancel_body(), CHANGE)
            raise
        finally:
            stream.wake = None
            session.detach(waiter)

    def _too_late(self, timeout: float | None, reason: str) -> AcquireTimeout:
        why = f" ({reason})" if reason else ""
        within = "" if timeout is None else f" within {timeout:g} s"
        return AcquireTimeout(
            f"{self._noun} {self.name!r} was not granted{within}{why}", name=self.name
        )

    # ------------------------------------------------------------- losing it

    def session_lost(self, reason: str) -> None:
        """The session on which it hangs is lost."""
        self._lose(f"its session was lost: {reason}")

    def _lose(self, reason: str) -> None:
        if self._state != _HELD:
            return
        self._end_hold()
        self.reason_lost = reason
        self.lost.set()
        if self._task is not None:
            if self._task is asyncio.current_task():  # the body itself has found out
                self._link.loop.call_soon(self._interrupt)
            else:
                self._interrupt()

    def _interrupt(self) -> None:
        """Cancel the body, if it still runs."""
        if self._task is not None and not self._task.done():
            self._cancelled_body = True
            self._task.cancel(f"{self._noun} {self.name!r} was lost: {self.reason_lost}")

    def _loss(self) -> SessionLost:
        return self._lost_error(
            f"{self._noun} {self.name!r} was lost: {self.reason_lost}",
            name=self.name,
            reason=self.reason_lost,
        )

    def _follow(self) -> None:
        """Ask to be told if someone else ends the grant."""
        self._follower = None
        if self._state == _HELD and not self._link.closed:
            self._grant = GrantStream(self._follow_body(), self._lose)
            self._link.open(self._grant, float("inf"))

    def _end_hold(self) -> None:
        self._state = _FREE
        if self._session is not None:
            self._session.detach(self)
        if self._follower is not None:
            self._follower.cancel()
            self._follower = None
        if self._grant is not None:
            self._link.close_stream(self._grant)
            self._grant = None

    # ------------------------------------------------------------- giving it back

    async def _give_back(self) -> None:
        """Give it back; if no answer comes in time, it goes with the session."""
        if self._state != _HELD or self._session is None:
            if self.lost.is_set():
                raise self._loss()
            raise NotHeld(f"{self._noun} {self.name!r} is not held", name=self.name)
        session = self._session
        body = self._release_body(session.id)
        self._end_hold()
        self._state = _RELEASING
        try:
            await self._link.firm_call(body, nothing, CHANGE, session.ttl)
        except NotHeld as error:
            self.reason_lost = self.reason_lost or str(error)
            self.lost.set()
            raise self._loss() from error
        except (ClientError, OutcomeUnknown):
            self._link.forget(body, CHANGE)
        finally:
            self._state = _FREE
            self._token = 0

    # ------------------------------------------------------------- the body of ``async with``

    async def __aenter__(self) -> Self:
        await self._obtain(self._timeout)
        task = asyncio.current_task()
        assert task is not None
        self._task, self._cancelling = task, task.cancelling()
        self._cancelled_body = False
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        task, self._task = self._task, None
        by_us = self._cancelled_body
        self._cancelled_body = False
        outside = False
        if by_us and task is not None:
            outside = task.uncancel() > self._cancelling
        if self.lost.is_set():
            if isinstance(error, asyncio.CancelledError):
                if by_us and not outside:
                    self._raise_loss(error)
            elif error is None:
                self._raise_loss(None)
            return
        if self._state != _HELD:  # given back in the body
            return
        try:
            await self._give_back()
        except CoordinatorError:
            if error is None:
                raise

    def _raise_loss(self, cause: BaseException | None) -> NoReturn:
        raise self._loss() from cause

    def __repr__(self) -> str:
        state = "lost" if self.lost.is_set() else self._state
        return f"<{type(self).__name__} {self.name!r} {state} token={self._token}>"


class _Waiter:
    """Wakes a task for news of its ticket or for the end of its session."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, stream: TicketStream, session: Session
    ) -> None:
        self.reason = "" if session.alive else session.reason or "it has ended"
        self._loop = loop
        self._news: asyncio.Future[None] = loop.create_future()
        stream.wake = self.wake
        if self.reason:
            self.wake()

    def wake(self) -> None:
        """There is news."""
        if not self._news.done():
            self._news.set_result(None)

    def session_lost(self, reason: str) -> None:
        """The session has ended."""
        self.reason = reason
        self.wake()

    async def wait(self) -> None:
        """Wait for news."""
        await self._news
        self._news = self._loop.create_future()
