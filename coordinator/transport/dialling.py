"""Dialling a peer's URL, up to its answer to our hello."""

from __future__ import annotations

import asyncio
import socket
from functools import partial
from typing import TYPE_CHECKING

from coordinator.config import parse_url
from coordinator.transport.connection import Connection, Connections, Ending
from coordinator.transport.errors import PeerUnreachable
from coordinator.transport.frames import Kind, Violation
from coordinator.transport.greeting import decode_hello, encode_hello

if TYPE_CHECKING:
    from collections.abc import Callable

    from coordinator.config import Address
    from coordinator.tls.credentials import Credentials
    from coordinator.transport.limits import Limits
    from coordinator.transport.ports import PeerHello


class ConnectionsRefused(PeerUnreachable):
    """Every address of a URL is there, and nobody listens at any."""


class HandshakeCut(PeerUnreachable):
    """The connection was made and ended by the other side before the answer."""


class Dialler:
    """Makes outgoing connections.

    Args:
        limits: The bounds.
        connections: Where every connection is noted.
        credentials: What is shown and accepted at https URLs; None if that is not set up.
    """

    def __init__(
        self, limits: Limits, connections: Connections, credentials: Credentials | None
    ) -> None:
        self.limits = limits
        self._connections = connections
        self._credentials = credentials

    async def dial(
        self, url: str, hello: PeerHello, on_frame: Callable[[int, bytes], None] | None = None
    ) -> tuple[Connection, PeerHello]:
        """Connect to a URL and say hello; return the connection and the answer, unchecked.

        The connection is not established yet: its holder has as long as the handshake takes to do
        that. It may have ended again already, as `Connection.is_open` tells.

        Args:
            url: Where to.
            hello: What to say.
            on_frame: Given what follows the answer; without it, that ends the connection.

        Raises:
            PeerUnreachable: There was no answer in time.
        """
        connection: Connection | None = None
        try:
            async with asyncio.timeout(self.limits.handshake_s):
                connection = await self._connect(url)
                return connection, await self._greet(connection, hello, on_frame or _unexpected)
        except TimeoutError:
            if connection:
                connection.abort()
            raise PeerUnreachable(f"{url}: no answer in time") from None
        except BaseException:
            if connection:
                connection.abort()
            raise

    async def _connect(self, url: str) -> Connection:
        """Try every address that the host's name stands for."""
        try:
            address = parse_url(url)
        except ValueError as error:
            raise PeerUnreachable(f"{url}: {error}") from None
        credentials = self._credentials if address.scheme == "https" else None
        if address.scheme == "https" and credentials is None:
            raise PeerUnreachable(f"{url}: no certificates are set up for peers")
        loop = asyncio.get_running_loop()
        problems: list[OSError] = []
        for family, host in await _resolve(url, address):
            try:
                transport, connection = await loop.create_connection(
                    partial(Connection, self.limits, self._connections),
                    host,
                    address.port,
                    family=family,
                    ssl=credentials.client if credentials else None,
                    server_hostname=address.host if credentials else None,
                )
            except OSError as error:
                problems.append(error)
                continue
            shown = transport.get_extra_info("ssl_object")
            if credentials and (problem := credentials.problem_of(shown)):
                connection.abort()
                raise PeerUnreachable(f"{url}: {problem}")
            return connection
        if problems and all(isinstance(error, ConnectionRefusedError) for error in problems):
            raise ConnectionsRefused(f"{url}: nobody listens there")
        what = f"{url}: {'; '.join(map(str, problems)) or 'no such host'}"
        is_cut = any(isinstance(error, ConnectionResetError) for error in problems)
        raise (HandshakeCut if is_cut else PeerUnreachable)(what)

    async def _greet(
        self, connection: Connection, hello: PeerHello, on_frame: Callable[[int, bytes], None]
    ) -> PeerHello:
        """Exchange hellos."""
        heard: asyncio.Future[PeerHello] = asyncio.get_running_loop().create_future()

        def take(kind: int, body: bytes) -> None:
            if kind != Kind.HELLO:
                raise Violation("a frame before the hello")
            answer = decode_hello(body)
            connection.on_frame = on_frame
            connection.allow_large_frames()
            if not heard.done():
                heard.set_result(answer)

        def end() -> None:
            if not heard.done():
                error = f"{connection.other}: {connection.detail}"
                is_cut = connection.ending is Ending.BY_PEER
                heard.set_exception((HandshakeCut if is_cut else PeerUnreachable)(error))

        connection.on_frame, connection.on_end = take, end
        if not connection.is_open:
            raise HandshakeCut(f"{connection.other}: {connection.detail}")
        connection.send(Kind.HELLO, encode_hello(hello))
        return await heard


async def _resolve(url: str, address: Address) -> list[tuple[socket.AddressFamily, str]]:
    """Look a host up; an address stands for itself and needs no thread."""
    try:
        found = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
        )
    except OSError:
        try:
            found = await asyncio.get_running_loop().getaddrinfo(
                address.host, address.port, type=socket.SOCK_STREAM
            )
        except OSError as error:
            raise PeerUnreachable(f"{url}: {error}") from None
    return [(family, str(place[0])) for family, _, _, _, place in found]


def _unexpected(kind: int, body: bytes) -> None:
    raise Violation("a frame that nobody asked for")
