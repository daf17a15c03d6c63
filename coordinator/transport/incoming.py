"""The links on which frames come in, at most one of each member, and what their end means.

A member whose link ended may have died, or only its connection may have been cut. To tell these
apart it is dialled once, at once:

    refused by every address   its process is gone
    another incarnation        its process is gone, and a new one is there
    the same incarnation       it lives: only the connection was cut
    anything else              nobody knows; time will tell
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from coordinator.transport.connection import Connection, Ending
from coordinator.transport.dialling import ConnectionsRefused, Dialler, HandshakeCut
from coordinator.transport.errors import PeerUnreachable
from coordinator.transport.frames import Kind, Violation
from coordinator.transport.notices import log_failure, logger
from coordinator.transport.ports import PeerHandler, PeerHello, Purpose

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from coordinator.transport.outgoing import Caller
    from coordinator.transport.traffic import Traffic

PROBE_TRIES: Final = 3
PROBE_PAUSE_S: Final = 0.005
"""A connection may be made just before the listener goes; the next try is then refused."""


class IncomingLinks:
    """Delivers what comes in.

    Args:
        handler: Gets the frames, and hears of deserters.
        dialler: For probes.
        caller: Gives the caller of a member; None for one that is no peer.
        tell: Calls a method of the handler's in the next turn of the loop.
        traffic: Where it is counted what comes from each peer.
    """

    def __init__(
        self,
        handler: PeerHandler,
        dialler: Dialler,
        caller: Callable[[int], Caller | None],
        tell: Callable[..., None],
        traffic: Mapping[int, Traffic],
    ) -> None:
        self._handler = handler
        self._tell = tell
        self._dialler = dialler
        self._caller = caller
        self._traffic = traffic
        self._links: dict[int, tuple[Connection, PeerHello]] = {}
        self._probes: dict[int, asyncio.Task[None]] = {}
        self._lost: dict[int, PeerHello] = {}
        """Members whose link ended and who have not been dialled since."""

    def take(self, connection: Connection, hello: PeerHello) -> None:
        """Begin to deliver from a new connection, and no more from an older one of that member."""
        member, received, traffic = hello.member, self._handler.received, self._traffic
        former = self._links.get(member)
        self._links[member] = (connection, hello)

        def deliver(kind: int, body: bytes) -> None:
            if kind != Kind.MESSAGE:
                raise Violation(f"a frame of kind {kind} on a link")
            counted = traffic.get(member)  # None: it is not known here yet, or not any more
            if counted is not None:
                counted.frames_received += 1
                counted.bytes_received += len(body)
            received(member, body)

        connection.on_frame = deliver
        connection.on_end = lambda: self._ended(connection, hello)
        if former:
            former[0].abort(detail="a newer link took its place")
            if former[1].incarnation != hello.incarnation:
                self._deserted(member, "a new process of it has come")

    def drop(self, member: int) -> None:
        """End what comes from a member that is no peer any more."""
        found = self._links.pop(member, None)
        if found:
            found[0].close()
        self._lost.pop(member, None)
        probe = self._probes.pop(member, None)
        if probe:
            probe.cancel()

    async def close(self) -> None:
        """Deliver nothing more and probe nobody."""
        probes = list(self._probes.values())
        for member in [*self._links, *self._probes]:
            self.drop(member)
        await asyncio.gather(*probes, return_exceptions=True)

    def _ended(self, connection: Connection, hello: PeerHello) -> None:
        member = hello.member
        held = self._links.get(member)
        if held is None or held[0] is not connection:
            return  # replaced or dropped
        del self._links[member]
        logger.info("the link from member %x ended: %s", member, connection.detail)
        if connection.ending in (Ending.BY_PEER, Ending.NETWORK):
            self._lost[member] = hello
            self._probe_next(member)

    def _probe_next(self, member: int) -> None:
        """Dial a member whose link ended, unless that is being done; then it is done again."""
        caller = self._caller(member)
        if member in self._lost and caller and member not in self._probes:
            lost = self._lost.pop(member)
            probe = asyncio.get_running_loop().create_task(self._probe(caller, lost))
            self._probes[member] = probe
            probe.add_done_callback(lambda _: self._probed(member, probe))
            probe.add_done_callback(log_failure)

    def _probed(self, member: int, probe: asyncio.Task[None]) -> None:
        if self._probes.get(member) is probe:
            del self._probes[member]
            self._probe_next(member)

    async def _probe(self, caller: Caller, lost: PeerHello) -> None:
        """Find out whether the process behind a link that ended is gone."""
        own = caller.hello(Purpose.INQUIRY)
        found = await asyncio.gather(*(self._incarnation(url, own) for url in caller.urls))
        held = self._links.get(lost.member)
        if held and held[1].incarnation == lost.incarnation:
            return  # it has linked again
        others = [one for one in found if one is not None and one != lost.incarnation]
        if found and all(one is None for one in found):
            self._deserted(lost.member, "nobody listens at its addresses")
        elif lost.incarnation not in found and any(others):
            self._deserted(lost.member, "another process answers at its addresses")

    async def _incarnation(self, url: str, hello: PeerHello) -> int | None:
        """Ask who is at a URL: None if it is refused, 0 if that stays unknown."""
        for _ in range(PROBE_TRIES):
            try:
                connection, answer = await self._dialler.dial(url, hello, lambda *_: None)
            except ConnectionsRefused:
                return None
            except HandshakeCut:
                await asyncio.sleep(PROBE_PAUSE_S)
            except PeerUnreachable:
                return 0
            else:
                connection.abort()
                return answer.incarnation if answer.member == hello.target else 0
        return 0

    def _deserted(self, member: int, why: str) -> None:
        logger.info("the process of member %x is gone: %s", member, why)
        self._tell(self._handler.deserted, member)
