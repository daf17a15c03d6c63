"""Sessions: what locks, candidacies and registrations hang on."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from ._calls import Call
from ._connection import Connection, decoder, nothing, now
from ._keys import to_milliseconds
from ._modes import CHANGE
from ._process import process_facts
from ._renewal import CONNECTED, LOST, SUSPENDED, Renewal
from .errors import CoordinatorError, InvalidRequest, SessionNotFound
from .protocol.sessions import (
    SessionClose,
    SessionGet,
    SessionInfo,
    SessionList,
    SessionListResult,
    SessionOpen,
    SessionOpenResult,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Mapping
    from typing import Any

__all__ = ["CONNECTED", "LOST", "SUSPENDED", "Session", "SessionOpening", "Sessions"]

DEFAULT_TTL = 10.0
_OPENED = decoder(SessionOpenResult)
_INFO = decoder(SessionInfo)
_LIST = decoder(SessionListResult)


class Dependent(Protocol):
    """What hangs on a session."""

    def session_lost(self, reason: str) -> None:
        """The session is lost."""


class Session:
    """A session of this client, kept alive in the background.

    Attributes:
        id: Its id.
        lost: Set when the session is lost.
    """

    def __init__(self, link: Connection, id: int, ttl: float, sent_at: float) -> None:
        self.id = id
        self.lost = asyncio.Event()
        self._link = link
        self._ended = False
        self._dependents: dict[Dependent, None] = {}
        self._renewal = link.renewals.add(id, ttl, sent_at, self._changed)
        link.look_after()

    @property
    def ttl(self) -> float:
        """Seconds that the session outlives its last renewal."""
        return self._renewal.ttl

    @property
    def state(self) -> str:
        """``connected``, ``suspended`` (no connection, but still alive) or ``lost``."""
        return self._renewal.state

    @property
    def reason(self) -> str:
        """Why it was lost; empty before."""
        return self._renewal.reason

    @property
    def alive(self) -> bool:
        """Whether the session is alive for certain at this moment."""
        return self._renewal.trusted(now())

    async def close(self) -> None:
        """End the session: what hangs on it is released at once.

        Does nothing if it has ended already.
        """
        if self.state == LOST:
            return
        self._ended = True
        self._link.renewals.remove(self.id)
        answer = self._link.firm_call(SessionClose(self.id), nothing, CHANGE, self.ttl)
        self._renewal.lose("the session was closed")
        with contextlib.suppress(SessionNotFound):
            await answer

    def attach(self, dependent: Dependent) -> None:
        """Tell ``dependent`` when the session is lost."""
        self._dependents[dependent] = None

    def detach(self, dependent: Dependent) -> None:
        """Take `attach` back."""
        self._dependents.pop(dependent, None)

    def _changed(self, renewal: Renewal) -> None:
        if renewal.state != LOST:
            return
        self._link.renewals.remove(self.id)
        self.lost.set()
        if not self._ended:  # should it live after all, let others have what hangs on it
            self._link.forget(SessionClose(self.id), CHANGE)
        dependents, self._dependents = list(self._dependents), {}
        for dependent in dependents:
            dependent.session_lost(renewal.reason)

    async def __aenter__(self) -> Session:
        return self

    async def __aexit__(self, *exc: object) -> None:
        with contextlib.suppress(CoordinatorError):
            await self.close()

    def __repr__(self) -> str:
        return f"<Session {self.id:016x} ttl={self.ttl:g} {self.state}>"


T = TypeVar("T", bound="contextlib.AbstractAsyncContextManager[Any]")


class Opening(Generic[T]):
    """Something to open, with ``await`` or with ``async with``."""

    def __init__(self, start: Callable[[], Awaitable[T]]) -> None:
        self._start = start
        self._opened: T | None = None

    def __await__(self) -> Generator[Any, None, T]:
        return self._start().__await__()

    async def __aenter__(self) -> T:
        self._opened = await self._start()
        await self._opened.__aenter__()
        return self._opened

    async def __aexit__(self, *exc: Any) -> bool | None:
        assert self._opened is not None
        return await self._opened.__aexit__(*exc)


SessionOpening = Opening[Session]


class Sessions:
    """Sessions; `Client.sessions`.

    Locks, elections and registrations open the sessions they need by themselves, one for
    each TTL.
    """

    def __init__(self, link: Connection) -> None:
        self._link = link
        self._shared: dict[float, Session] = {}
        self._openings: dict[float, asyncio.Task[Session]] = {}
        self._mine: dict[int, Session] = {}

    def open(
        self, ttl: float = DEFAULT_TTL, *, metadata: Mapping[str, str] | None = None
    ) -> SessionOpening:
        """Open a session of its own.

        Example::

            async with client.sessions.open(ttl=10) as session:
                async with client.locks.lock("backup", session=session):
                    ...

        Args:
            ttl: Seconds that it outlives its last renewal; it is renewed every third of that.
            metadata: Shown to operators.

        Returns:
            To be awaited, or used in ``async with``, which closes it at the end.

        Raises:
            InvalidRequest: The cluster does not accept the TTL.
        """
        return Opening(lambda: self._open(ttl, metadata))

    async def get(self, session: int) -> SessionInfo:
        """Read one session, of whomever.

        Raises:
            SessionNotFound: There is none with this id.
        """
        return await self._link.call(SessionGet(session), _INFO)

    async def list(self) -> list[SessionInfo]:
        """List all sessions of the cluster."""
        return (await self._link.call(SessionList(), _LIST)).sessions

    async def shared(self, ttl: float) -> Session:
        """The session that everything with this TTL shares; opened when first needed."""
        session = self._shared.get(ttl)
        if session is not None and session.alive:
            return session
        opening = self._openings.get(ttl)
        if opening is None:
            opening = self._link.loop.create_task(self._open_shared(ttl), name="open-session")
            self._openings[ttl] = opening
            opening.add_done_callback(_retrieve)
        return await asyncio.shield(opening)

    async def close(self, within: float) -> None:
        """End every session of this client; gives up after ``within`` seconds."""
        openings = [task for task in self._openings.values() if not task.done()]
        for task in openings:
            task.cancel()
        closing = [
            asyncio.ensure_future(session.close())
            for session in list(self._mine.values())
            if session.alive and self._link.connected
        ]
        if openings or closing:
            _, late = await asyncio.wait([*openings, *closing], timeout=within)
            for task_or_close in late:
                task_or_close.cancel()
            for done in closing:
                done.add_done_callback(_retrieve)

    async def _open_shared(self, ttl: float) -> Session:
        try:
            session = self._shared[ttl] = await self._open(ttl, None)
            return session
        finally:
            self._openings.pop(ttl, None)

    async def _open(self, ttl: float, metadata: Mapping[str, str] | None) -> Session:
        if to_milliseconds(ttl, "ttl") <= 0:
            raise InvalidRequest("ttl: must be more than 0 seconds", field="ttl")
        application, host, pid = process_facts()
        body = SessionOpen(
            to_milliseconds(ttl, "ttl"), 0, application, host, pid, dict(metadata or {})
        )
        answer: asyncio.Future[SessionOpenResult] = self._link.loop.create_future()
        call = Call(body, _OPENED, CHANGE, answer)
        self._link.submit(call)
        try:
            result = await asyncio.shield(answer)
        except asyncio.CancelledError:
            answer.add_done_callback(self._abandon)
            raise
        session = Session(self._link, result.session, result.ttl_ms / 1000, call.sent_at)
        self._mine = {id: mine for id, mine in self._mine.items() if mine.state != LOST}
        self._mine[session.id] = session
        return session

    def _abandon(self, answer: asyncio.Future[SessionOpenResult]) -> None:
        """Close a session whose opener has gone."""
        if not answer.cancelled() and answer.exception() is None:
            self._link.forget(SessionClose(answer.result().session), CHANGE)


def _retrieve(future: asyncio.Future[Any]) -> None:
    """Note that a failure has been seen, so that nothing complains about it."""
    if not future.cancelled():
        future.exception()
