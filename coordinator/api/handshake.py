"""How a WebSocket begins: which upgrades are taken, and from whom."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from websockets.exceptions import NegotiationError
from websockets.http11 import Request as Upgrade
from websockets.server import ServerProtocol

from coordinator.api.identity import credential_of
from coordinator_sdk.errors import CoordinatorError
from coordinator_sdk.protocol.codec import CODECS
from coordinator_sdk.protocol.frames import WEBSOCKET_PATH

if TYPE_CHECKING:
    from coordinator.api.connection import Connection
    from coordinator.api.serving import Serving


def new_core(message_bytes: int) -> ServerProtocol:
    """Make the sans-IO core of one connection."""
    return ServerProtocol(
        subprotocols=list(CODECS),  # type: ignore[arg-type]
        select_subprotocol=_select_subprotocol,  # type: ignore[arg-type]
        max_size=message_bytes,
        logger=_QUIET,
    )


def refusal_of(serving: Serving, connection: Connection, request: Upgrade) -> tuple[int, str]:
    """Say why an upgrade is refused: status and text; 0 if it is not.

    The connection has found out who is at its other end then.
    """
    if request.path.partition("?")[0] != WEBSOCKET_PATH:
        return 404, f"The WebSocket is at {WEBSOCKET_PATH}.\n"
    headers = request.headers
    error: CoordinatorError | None
    is_tls = connection.tls is not None
    error = serving.gate.refusal(headers.get_all("Host"), headers.get_all("Origin"), is_tls=is_tls)
    if error is None:
        raw = [
            (name.lower().encode(), text.encode("utf-8", "surrogateescape"))
            for name, text in headers.raw_items()
        ]
        # The dashboard of a member that is gone goes on here, with the cookie if it is sent along.
        origins = headers.get_all("Origin")
        is_ours = bool(origins) and all(map(serving.gate.is_member, origins))
        try:
            method = "GET" if is_ours else "WEBSOCKET"
            credential = credential_of(raw, method, serving.gate, is_tls=is_tls)
            connection.show(serving.identity, credential)
        except CoordinatorError as refused:
            error = refused
    return (error.http_status, f"{error.message}\n") if error is not None else (0, "")


def _select_subprotocol(core: ServerProtocol, offered: Sequence[str]) -> str | None:
    """Prefer MessagePack; without an offer the client speaks JSON."""
    for name in CODECS:
        if name in offered:
            return name
    if offered:
        raise NegotiationError(f"the subprotocols are {' and '.join(CODECS)}")
    return None


_QUIET = logging.getLogger("coordinator.websockets")
_QUIET.setLevel(logging.ERROR)
