"""Elections: one leader out of many candidates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from ._connection import Connection, decoder
from ._held import Held
from ._keys import Bytes, to_bytes
from ._modes import CHANGE
from ._reader import Reader
from ._streams import ElectionStream
from .errors import LeadershipLost, NotHeld
from .protocol.elections import (
    ElectionCampaign,
    ElectionCancel,
    ElectionChange,
    ElectionGet,
    ElectionInfo,
    ElectionList,
    ElectionListResult,
    ElectionProclaim,
    ElectionResign,
    ElectionResult,
    ElectionTicket,
)
from .sessions import DEFAULT_TTL, Session, Sessions

if TYPE_CHECKING:
    from msgspec import Struct

__all__ = ["ElectionWatch", "Elections", "Leadership"]

_INFO = decoder(ElectionInfo)
_LIST = decoder(ElectionListResult)
_RESULT = decoder(ElectionResult)


class Leadership(Held):
    """A term of leadership; made by `Elections.lead`.

    Used in ``async with``, it is sought at the start and given up at the end. If it is lost
    in between, the body is cancelled, and ``async with`` raises `LeadershipLost`.
    """

    _kind = "elections"
    _noun = "leadership"
    _lost_error = LeadershipLost

    def __init__(
        self,
        link: Connection,
        sessions: Sessions,
        namespace: str,
        name: str,
        timeout: float | None,
        session: Session | float,
        owner: str | None,
        value: bytes,
    ) -> None:
        super().__init__(link, sessions, namespace, name, timeout, session, owner)
        self._value = value

    @property
    def value(self) -> bytes:
        """What this candidate proclaims."""
        return self._value

    async def campaign(self, timeout: float | None = None) -> Self:
        """Stand for election, and wait until elected.

        Args:
            timeout: Seconds to wait at most; 0 to try once. None for what `Elections.lead`
                was given.

        Returns:
            The term itself.

        Raises:
            AcquireTimeout: Not elected in time; the candidacy is withdrawn.
            SessionLost: The session was lost while waiting.
        """
        await self._obtain(self._timeout if timeout is None else timeout)
        return self

    async def proclaim(self, value: Bytes) -> ElectionResult:
        """Change what the leader proclaims, without a new election.

        Raises:
            LeadershipLost: This term has ended.
            NotHeld: Never elected, or resigned.
        """
        if not self.held:
            self.check()
        assert self._session is not None
        told = to_bytes(value, "value")
        body = ElectionProclaim(
            self._namespace, self.name, self._session.id, self._owner, self._token, told
        )
        try:
            result = await self._link.call(body, _RESULT, CHANGE)
        except NotHeld as error:
            self._lose(str(error))
            raise self._loss() from error
        self._value = told
        return result

    async def resign(self) -> None:
        """Give leadership up; the next candidate leads in the same moment.

        Raises:
            LeadershipLost: It was lost before.
            NotHeld: It is not held.
        """
        await self._give_back()

    def _acquire_body(self, session: int, timeout_ms: int | None) -> Struct:
        return ElectionCampaign(
            self._namespace,
            self.name,
            session,
            self._owner,
            self._value,
            self._ticket,
            timeout_ms,
            True,
        )

    def _release_body(self, session: int) -> Struct:
        return ElectionResign(self._namespace, self.name, session, self._owner, self._token)

    def _cancel_body(self) -> Struct:
        return ElectionCancel(self._namespace, self.name, self._ticket)

    def _follow_body(self) -> Struct:
        return ElectionTicket(self._namespace, self.name, self._ticket, True)


class ElectionWatch(Reader[ElectionChange]):
    """The changes of leadership of an election; made by `Elections.observe`."""


class Elections:
    """Elections; `Client.elections`."""

    def __init__(self, link: Connection, sessions: Sessions, namespace: str) -> None:
        self._link = link
        self._sessions = sessions
        self._namespace = namespace

    def lead(
        self,
        name: str,
        *,
        value: Bytes = b"",
        timeout: float | None = None,
        ttl: float = DEFAULT_TTL,
        owner: str | None = None,
        session: Session | None = None,
    ) -> Leadership:
        """Stand for election; nothing is sent yet.

        Example::

            async with client.elections.lead("scheduler", value=b"host-7") as term:
                while True:
                    await run_one_job(guard=term)

        Args:
            name: Name of the election.
            value: What to proclaim once elected.
            timeout: Seconds to wait at most; None to wait for ever, 0 to try once.
            ttl: Seconds after which the cluster replaces a leader that is gone.
            owner: Name of the candidate within the session; one for each object unless given.
            session: The session to hang it on; the shared one of ``ttl`` unless given.

        Returns:
            The term, not yet begun: use it in ``async with``, or call `Leadership.campaign`.
        """
        wanted = ttl if session is None else session
        return Leadership(
            self._link,
            self._sessions,
            self._namespace,
            name,
            timeout,
            wanted,
            owner,
            to_bytes(value, "value"),
        )

    async def get(self, name: str, *, revision: int = 0) -> ElectionInfo:
        """Read an election: its leader and the candidates in the order of succession.

        Args:
            name: Name of the election.
            revision: As it was at this revision; 0 for now.
        """
        return await self._link.call(ElectionGet(self._namespace, name, revision), _INFO)

    async def list(self, prefix: str = "", *, revision: int = 0) -> list[ElectionInfo]:
        """List the elections that have a leader.

        Args:
            prefix: Only names that begin with it.
            revision: As it was at this revision; 0 for now.
        """
        answer = await self._link.call(ElectionList(self._namespace, prefix, revision), _LIST)
        return answer.elections

    def observe(self, name: str, *, start_revision: int = 0) -> ElectionWatch:
        """Follow every change of leadership, the current state first.

        Args:
            name: Name of the election.
            start_revision: Report what happened after it; 0 begins with the current state.

        Returns:
            An asynchronous iterator of changes. Should history be gone after a long outage,
            it goes on with the state of then.
        """
        return ElectionWatch(self._link, ElectionStream(self._namespace, name, start_revision))
