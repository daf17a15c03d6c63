"""Whoever dials us: hears who they are, answers, and passes the connection on by its purpose."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from coordinator.transport.connection import Connection, Connections, Ending
from coordinator.transport.frames import Kind, Violation
from coordinator.transport.greeting import answer, decode_hello, encode_hello, problem_of_caller
from coordinator.transport.ports import PeerHandler, PeerHello, Purpose

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from coordinator.transport.limits import Limits
    from coordinator.transport.notices import Notices

    Take = Callable[[Connection, PeerHello], None]


class Acceptor:
    """Shakes hands with whoever dials.

    Args:
        handler: Says who we are and whom we want.
        limits: The bounds.
        connections: Where every connection is noted.
        notices: Where unwanted ones are told.
        takers: Who takes an admitted connection, by its purpose.
    """

    def __init__(
        self,
        handler: PeerHandler,
        limits: Limits,
        connections: Connections,
        notices: Notices,
        takers: Mapping[int, Take],
    ) -> None:
        self._handler = handler
        self._limits = limits
        self._connections = connections
        self._notices = notices
        self._takers = takers
        self._strangers: dict[Connection, None] = {}
        self.is_closed = False

    def protocol(self) -> Connection:
        """Make the protocol of the next connection."""
        return _Incoming(self, self._limits, self._connections)

    def made(self, connection: Connection) -> None:
        """Begin with a new connection."""
        if self.is_closed or len(self._strangers) >= self._limits.handshakes_max:
            connection.abort(detail="too many connections that say nothing")
            return
        self._strangers[connection] = None
        connection.on_frame = lambda kind, body: self._greet(connection, kind, body)
        connection.on_end = lambda: self._lost(connection)

    def _lost(self, connection: Connection) -> None:
        self._strangers.pop(connection, None)
        if connection.ending in (Ending.VIOLATION, Ending.SILENCE):
            self.warn(f"a connection from {connection.other} was closed: {connection.detail}")

    def _greet(self, connection: Connection, kind: int, body: bytes) -> None:
        if kind != Kind.HELLO:
            raise Violation("a frame before the hello")
        hello = decode_hello(body)
        own = self._handler.hello()
        refusal = problem_of_caller(hello, own)
        is_inquiry = hello.purpose == Purpose.INQUIRY
        if not refusal and not is_inquiry:
            refusal = self._handler.admit(hello)
        connection.send(Kind.HELLO, encode_hello(answer(own, hello, refusal)))
        connection.on_end = lambda: self._strangers.pop(connection, None)
        if refusal:
            self.warn(f"refused member {hello.member:x} at {connection.other}: {refusal}")
            connection.drain(self._limits.handshake_s)
        elif is_inquiry:
            connection.send(Kind.DESCRIPTION, self._handler.describe())
            connection.drain(self._limits.handshake_s)
        else:
            self._strangers.pop(connection, None)
            connection.establish()
            self._takers[hello.purpose](connection, hello)

    def warn(self, text: str) -> None:
        """Tell of an unwanted connection, unless there was one a moment ago."""
        self._notices.warn(text, asyncio.get_running_loop().time())


class _Incoming(Connection):
    """A connection that somebody else dialled."""

    def __init__(self, acceptor: Acceptor, limits: Limits, connections: Connections) -> None:
        super().__init__(limits, connections)
        self._acceptor = acceptor

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to shake hands."""
        super().connection_made(transport)
        self._acceptor.made(self)
