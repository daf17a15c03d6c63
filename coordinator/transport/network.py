"""The network between real machines: framed streams over TCP, with or without TLS.

Two connections lie between two members, one dialled by each, and each carries frames in the
direction in which it was dialled. Snapshots and inquiries have connections of their own, so that
heartbeats never wait behind them.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import TYPE_CHECKING, Any

import msgspec

from coordinator.config import Address
from coordinator.tls.listener import TlsListener
from coordinator.transport.accepting import Acceptor
from coordinator.transport.connection import Connection, Connections
from coordinator.transport.dialling import Dialler
from coordinator.transport.errors import PeerRefused, PeerUnreachable
from coordinator.transport.frames import Kind
from coordinator.transport.greeting import anonymous, problem_of_answer
from coordinator.transport.incoming import IncomingLinks
from coordinator.transport.limits import Limits
from coordinator.transport.listening import BACKLOG, bind, cannot_listen
from coordinator.transport.notices import Notices
from coordinator.transport.outgoing import Caller, OutgoingLink
from coordinator.transport.ports import PeerHandler, Purpose
from coordinator.transport.snapshot_in import IncomingSnapshots
from coordinator.transport.snapshot_out import OutgoingSnapshot
from coordinator.transport.traffic import LinkState, Traffic

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from coordinator.tls.credentials import Credentials

_MESSAGE = int(Kind.MESSAGE)


class StreamNetwork:
    """A `ports.PeerNetwork` over TCP.

    Args:
        listen: Addresses for peers to dial; port 0 takes a free one. An https address needs
            `credentials`.
        limits: The bounds; the defaults suit a cluster within one site and between sites.
        credentials: What is shown and accepted at https addresses and URLs.
        random: Jitter and ids of streams; the system's by default.

    Attributes:
        credentials: The same.
    """

    def __init__(
        self,
        listen: Sequence[Address],
        *,
        limits: Limits | None = None,
        credentials: Credentials | None = None,
        random: random.Random | None = None,
    ) -> None:
        self._listen = tuple(listen)
        self._limits = limits or Limits()
        self.credentials = credentials
        self._random = random or _system_random()
        self._connections = Connections()
        self._dialler = Dialler(self._limits, self._connections, credentials)
        self._notices = Notices(self._limits.log_interval_s)
        self._sockets: list[socket.socket] | None = None
        self._servers: list[asyncio.Server | TlsListener] = []
        self._handler: PeerHandler | None = None
        self._acceptor: Acceptor | None = None
        self._incoming: IncomingLinks | None = None
        self._snapshots: IncomingSnapshots | None = None
        self._peers: dict[int, tuple[str, ...]] = {}
        self._links: dict[int, Connection] = {}
        self._traffic: dict[int, Traffic] = {}
        self._outgoing: dict[int, OutgoingLink] = {}
        self._streams: dict[asyncio.Task[None], int] = {}
        self._stopping: dict[asyncio.Task[None], None] = {}
        self._pulse: asyncio.TimerHandle | None = None
        self._is_closed = False

    # ---------------------------------------------------------------- listening

    def bind(self) -> list[Address]:
        """Take the addresses without answering yet; return them, with their ports.

        Those who dial are refused until `start`, which does this itself if it was not done.

        Raises:
            CannotListen: An address can't be listened on.
        """
        if self._sockets is None:
            self._sockets = bind(self._listen)
        return [
            Address(address.scheme, address.host, one.getsockname()[1])
            for address, one in zip(self._listen, self._sockets, strict=True)
        ]

    async def start(self, handler: PeerHandler, *, listens: bool = True) -> None:
        """Listen, and begin to dial the peers. May be called again if it fails.

        Args:
            handler: Takes what comes in.
            listens: Whether others can dial us.

        Raises:
            CannotListen: An address can't be listened on.
        """
        assert self._handler is None, "started once"
        if not listens:
            self._listen = ()
        self.bind()
        assert self._sockets is not None
        self._handler = handler
        self._incoming = IncomingLinks(
            handler, self._dialler, self._caller, self._tell, self._traffic
        )
        self._snapshots = IncomingSnapshots(handler, self._limits)
        self._acceptor = Acceptor(
            handler,
            self._limits,
            self._connections,
            self._notices,
            {Purpose.LINK: self._take_link, Purpose.SNAPSHOT: self._snapshots.take},
        )
        loop = asyncio.get_running_loop()
        for address, one in zip(self._listen, self._sockets, strict=True):
            try:
                one.listen(BACKLOG)  # here and not in the loop: uvloop does not tell if it fails
            except OSError as error:  # another process took the address after we did
                raise cannot_listen(address, error) from error
            if address.scheme == "https":
                self._servers.append(self._tls_listener(one))
            else:
                server = await loop.create_server(
                    self._acceptor.protocol, sock=one, backlog=BACKLOG
                )
                self._servers.append(server)
        self._beat()
        peers, self._peers = self._peers, {}
        self.set_peers(peers)

    def _tls_listener(self, one: socket.socket) -> TlsListener:
        assert self.credentials, "an https address needs credentials"
        assert self._acceptor
        listener = TlsListener(
            one,
            self.credentials,
            self._acceptor.protocol,
            handshake_s=self._limits.handshake_s,
            pending_max=self._limits.handshakes_max,
            backlog=BACKLOG,
            warn=self._acceptor.warn,
        )
        listener.start()
        return listener

    def _take_link(self, connection: Connection, hello: Any) -> None:
        assert self._incoming
        self._incoming.take(connection, hello)
        link = self._outgoing.get(hello.member)
        if link:
            link.nudge()

    def _beat(self) -> None:
        self._connections.check_silence()
        if self.credentials:
            self.credentials.refresh()
        loop = asyncio.get_running_loop()
        self._pulse = loop.call_later(self._limits.ping_interval_s, self._beat)

    # ---------------------------------------------------------------- peers

    def set_peers(self, peers: Mapping[int, Sequence[str]]) -> None:
        """Say who the others are: member → peer URLs. Dials new ones and closes gone ones."""
        wanted = {member: tuple(urls) for member, urls in peers.items()}
        gone = [member for member in self._peers if member not in wanted]
        self._peers = wanted
        if self._handler is None or self._is_closed:
            return
        for member in gone:
            self._drop(member)
        for member, urls in wanted.items():
            link = self._outgoing.get(member)
            if link is None:
                self._traffic.setdefault(member, Traffic())
                caller = Caller(member, self._dialler, self._handler)
                caller.urls = urls
                link = OutgoingLink(caller, self._links, self._random, self._tell)
                self._outgoing[member] = link
            elif link.caller.urls != urls:
                link.caller.urls = urls
                link.nudge()

    def _drop(self, member: int) -> None:
        assert self._incoming
        assert self._snapshots
        self._incoming.drop(member)
        self._snapshots.drop(member)
        self._end_streams(member)
        self._traffic.pop(member, None)
        task = self._outgoing.pop(member).stop()
        self._stopping[task] = None
        task.add_done_callback(lambda task: self._stopping.pop(task, None))

    def _caller(self, member: int) -> Caller | None:
        link = self._outgoing.get(member)
        return link.caller if link else None

    def _tell(self, method: Callable[..., None], *arguments: Any) -> None:
        """Call the handler in the next turn, unless the network is closed by then."""
        asyncio.get_running_loop().call_soon(self._call, method, arguments)

    def _call(self, method: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        if not self._is_closed:
            method(*arguments)

    # ---------------------------------------------------------------- sending

    def send(self, member: int, frame: bytes) -> bool:
        """Queue a frame on the outgoing link.

        Returns:
            False if it was dropped: the link is down or has too much unsent. True promises order,
            not arrival: the frame comes after all earlier ones, unless the link breaks before it.

        Raises:
            ValueError: The frame is larger than the limit.
        """
        connection, traffic = self._links.get(member), self._traffic.get(member)
        if connection is None or traffic is None:
            if traffic is not None:
                traffic.dropped += 1
            return False
        if len(frame) > self._limits.frame_bytes_max:
            raise ValueError(f"{len(frame)} bytes in one frame")
        if connection.is_full:
            traffic.dropped += 1
            self._outgoing[member].overflow()
            return False
        connection.send(_MESSAGE, frame)
        traffic.frames_sent += 1
        traffic.bytes_sent += len(frame)
        return True

    def links(self) -> list[LinkState]:
        """Tell of the links to all peers, for metrics."""
        return [
            LinkState(member, link is not None, traffic, link.round_trip_s if link else None)
            for member, traffic in sorted(self._traffic.items())
            for link in (self._links.get(member),)
        ]

    def is_linked(self, member: int) -> bool:
        """Whether the outgoing link is up."""
        return member in self._links

    async def send_snapshot(self, member: int, head: bytes, chunks: AsyncIterator[bytes]) -> None:
        """Stream a snapshot on a connection of its own; return once the other's sink finished.

        If the connection breaks it is made anew, and the stream goes on where it was. Cancelling
        this aborts the other's sink. `chunks` is closed in any case.

        Args:
            member: Whom to.
            head: What `PeerHandler.open_snapshot` is given.
            chunks: The content, drawn no faster than the other side writes it.

        Raises:
            PeerUnreachable: No connection, or it broke and did not come back in time.
            PeerRefused: The other side refused the snapshot, or its sink failed.
            ValueError: The head or a chunk is larger than a frame may be.
        """
        try:
            caller = self._caller(member)
            if caller is None or self._is_closed:
                raise PeerUnreachable(f"member {member:x} is no peer")
            stream = OutgoingSnapshot(caller, head, chunks, self._random)
            task = asyncio.get_running_loop().create_task(stream.run())
            self._streams[task] = member
            try:
                await task
            except asyncio.CancelledError:
                if task in self._streams:
                    raise
                raise PeerUnreachable(f"member {member:x} is no peer any more") from None
            finally:
                self._streams.pop(task, None)
        finally:
            close = getattr(chunks, "aclose", None)
            if close:
                await close()

    def _end_streams(self, member: int | None = None) -> list[asyncio.Task[None]]:
        """End the snapshots that go out, all or those to one member."""
        ended = [task for task, to in self._streams.items() if member in (None, to)]
        for task in ended:
            del self._streams[task]
            task.cancel()
        return ended

    async def inquire(self, url: str) -> bytes:
        """Ask whoever listens at a peer URL for its `PeerHandler.describe`.

        Works before `start` as well.

        Raises:
            PeerUnreachable: Nobody answers there.
            PeerRefused: Whoever is there does not answer us.
        """
        if self._is_closed:
            raise PeerUnreachable("this member is stopping")
        hello = anonymous(Purpose.INQUIRY)
        if self._handler:
            own = self._handler.hello()
            hello = msgspec.structs.replace(own, purpose=Purpose.INQUIRY, target=0, refusal="")
        told: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        def take(kind: int, body: bytes) -> None:
            if kind == Kind.DESCRIPTION and not told.done():
                told.set_result(body)

        connection, answer = await self._dialler.dial(url, hello, take)
        try:
            if problem := answer.refusal or problem_of_answer(answer, 0):
                raise PeerRefused(problem)
            connection.on_end = lambda: _cancel(told)
            if not connection.is_open and not told.done():
                raise PeerUnreachable(f"{url}: {connection.detail}")
            await asyncio.wait([told])  # ends in any case: the connection has a deadline
            if told.cancelled():
                raise PeerUnreachable(f"{url}: {connection.detail}")
            return told.result()
        finally:
            connection.on_end = lambda: None
            connection.abort()

    # ---------------------------------------------------------------- the end

    async def close(self) -> None:
        """End everything; nothing is called back afterwards.

        The listeners go first, so that peers which dial us again learn that we are gone. What was
        sent has a moment to leave.
        """
        if self._is_closed:
            return
        self._is_closed = True
        if self._pulse:
            self._pulse.cancel()
        if self._acceptor:
            self._acceptor.is_closed = True
        for server in self._servers:
            server.close()
        for one in self._sockets or ():
            one.close()
        if self._incoming:
            await self._incoming.close()
        streams = self._end_streams()
        stops = [link.stop() for link in self._outgoing.values()]
        await asyncio.gather(*stops, *streams, *self._stopping, return_exceptions=True)
        self._outgoing.clear()
        if self._snapshots:
            await self._snapshots.close()
        await self._connections.close(self._limits.stop_s)
        for server in self._servers:
            with contextlib.suppress(OSError):
                await server.wait_closed()


def _system_random() -> random.Random:
    return random.SystemRandom()


def _cancel(told: asyncio.Future[bytes]) -> None:
    if not told.done():
        told.cancel()
