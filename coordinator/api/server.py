"""Listening, serving, and stopping in time: uvicorn's server on several sockets."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import time
from collections.abc import Callable, Generator
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import uvicorn

from coordinator.api.protocol import HttpProtocol, raw_answer
from coordinator.api.serving import Serving
from coordinator.api.websocket import WebSocketConnection
from coordinator.config import Config, parse_url
from coordinator.tls.listener import TlsListener
from coordinator.tls.setup import client_credentials
from coordinator.transport.notices import Notices
from coordinator_sdk.errors import InvalidRequest, PermissionDenied

if TYPE_CHECKING:
    from coordinator.tls.credentials import Credentials

BACKLOG = 1024
PROGRESS_S = 5
"""Pause between progress notices of watches that asked for them and have nothing else to tell."""
UNWANTED_S = 10.0
"""Pause between two lines in the log about connections that did not come in."""
STOP_S = 1.5
"""How long clients and requests under way may take when the server stops."""


class CannotListen(Exception):
    """An address can't be listened on; the message says what to do."""


Sockets: TypeAlias = "list[tuple[socket.socket, Credentials | None]]"
"""Where clients connect, and what is shown and accepted there; None without TLS."""


def listen(config: Config) -> Sockets:
    """Bind every address of ``--listen-client-urls``; connections are refused until it serves.

    Raises:
        CannotListen: One is taken, or not of this machine.
        ConfigError: A file for TLS can't be used.
    """
    credentials = client_credentials(config)
    bound: Sockets = []
    try:
        for url in config.listen_client_urls:
            address = parse_url(url)
            found = socket.getaddrinfo(
                address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
            # A name such as localhost may have two addresses; one that works is enough.
            family, _, _, _, place = sorted(found, key=lambda one: one[0] != socket.AF_INET)[0]
            one = socket.socket(family, socket.SOCK_STREAM)
            bound.append((one, credentials if address.scheme == "https" else None))
            one.setblocking(False)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            one.bind(place)
    except OSError as error:
        for one, _ in bound:
            one.close()
        raise CannotListen(
            f"cannot listen on {url}: {error.strerror or error}. {_mends(error)}choose another "
            "address with --listen-client-urls"
        ) from error
    return bound


def _mends(error: OSError) -> str:
    """Begin the sentence that says what to do about an address."""
    return {
        errno.EADDRINUSE: "Stop what uses it, or ",
        errno.EADDRNOTAVAIL: "This machine does not have that address: ",
        errno.EACCES: "Ports below 1024 are for privileged processes: ",
    }.get(error.errno or 0, "Please ")


class Server(uvicorn.Server):
    """Serves an application until told to stop."""

    def __init__(
        self,
        app: Any,
        serving: Serving,
        sockets: Sockets,
    ) -> None:
        limits = serving.limits
        settings: dict[str, Any] = {
            "http": partial(HttpProtocol, serving),
            "timeout_keep_alive": limits.keep_alive_s,
            "ws": lambda app_state, **_: WebSocketConnection(
                serving, app_state["client"], app_state["place"]
            ),
        }
        super().__init__(
            uvicorn.Config(
                app,
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=1,
                **settings,
            )
        )
        self._serving = serving
        self._sockets = sockets
        self._credentials = next((one for _, one in sockets if one is not None), None)
        if self._credentials is not None:
            serving.credentials.append(self._credentials)
        self._unwanted = Notices(UNWANTED_S, logging.getLogger("coordinator.tls"))
        self._stop = asyncio.Event()

    def stop(self) -> None:
        """Ask it to stop; `until_stopped` returns soon after."""
        self.should_exit = True
        self._stop.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave signals to the caller."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept connections on every socket."""
        loop = asyncio.get_running_loop()
        await self.on_tick(0)

        def make() -> asyncio.Protocol:
            return HttpProtocol(self._serving, self.config, self.server_state, {}, loop)

        self.servers = []
        for one, credentials in self._sockets:
            if credentials is not None:
                self.servers.append(
                    cast("asyncio.Server", self._tls_listener(make, one, credentials))
                )
            else:
                self.servers.append(await loop.create_server(make, sock=one, backlog=BACKLOG))
        self.started = True

    def _tls_listener(
        self, make: Callable[[], asyncio.Protocol], one: socket.socket, credentials: Credentials
    ) -> TlsListener:
        listener = TlsListener(
            one,
            credentials,
            make,
            handshake_s=self._serving.limits.header_s,
            pending_max=self._serving.limits.handshakes,
            backlog=BACKLOG,
            plain=raw_answer(InvalidRequest("this address speaks TLS: use https"), 400),
            refuse=lambda reason: raw_answer(PermissionDenied(reason), 403),
            warn=lambda text: self._unwanted.warn(text, time.monotonic()),
        )
        listener.start()
        return listener

    async def until_stopped(self) -> None:
        """Serve, once started, until told to stop; then part with every client."""
        await self.main_loop()
        await self.shutdown()

    async def main_loop(self) -> None:
        """Keep the date header right and idle watches informed, until told to stop."""
        notices = 0
        while not self.should_exit:
            await self.on_tick(0)
            if self._credentials is not None:
                self._credentials.refresh()
            notices += 1
            if notices % PROGRESS_S == 0:
                self._serving.node.hub.notify_progress()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._stop.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting, tell every client, and give what is under way a moment."""
        serving = self._serving
        for server in self.servers:
            server.close()
        for web_socket in list(serving.websockets):
            web_socket.shutdown()
        serving.close_streams()
        serving.identity.credentials.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        deadline = asyncio.get_running_loop().time() + STOP_S
        while self._is_busy():
            if asyncio.get_running_loop().time() > deadline:
                break
            await asyncio.sleep(0.01)
        for task in list(self.server_state.tasks):
            task.cancel()
        transports = [one.transport for one in serving.websockets]
        transports += [one.transport for one in self.server_state.connections]
        for transport in transports:
            transport.abort()

    def _is_busy(self) -> bool:
        return bool(self.server_state.connections or self._serving.websockets)
