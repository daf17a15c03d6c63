"""Connections that are reset before they are accepted: nobody knows whose they were."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

import msgspec

from tests.api.member import Running, running, until
from tests.api.users import PASSWORD, guarded

_RESET = struct.pack("ii", 1, 0)
_UPGRADE = (
    b"GET /v1/ws HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"


def _init() -> bytes:
    body = msgspec.json.encode({"password": PASSWORD})
    head = (
        "POST /v1/auth/init HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _connect(member: Running) -> socket.socket:
    made = socket.create_connection(("127.0.0.1", member.port))
    made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    return made


async def test_a_request_of_a_reset_connection_is_not_served(tmp_path: Path) -> None:
    """What comes on a connection that was reset before it was accepted is not served: it passes
    for nobody, and so not for this machine, which alone may turn authentication on."""
    async with running(tmp_path, require_auth=True, password_cost=10) as member:
        for _ in range(3):
            one = _connect(member)
            one.sendall(_init())
            one.close()
        for _ in range(3):
            assert (await member.ask("GET", "/v1/kv/a")).status == 404
        assert member.serving.dispatcher.served["auth.init"] == 0
        assert not member.node.machine.auth.enabled
        await until(lambda: not member.serving.census.connections)


async def test_a_reset_leaves_no_connection_behind(tmp_path: Path) -> None:
    """A connection that is reset amid becoming a WebSocket or HTTP/2 is counted no more."""
    async with guarded(tmp_path) as one:
        census = one.member.serving.census
        for first in (_UPGRADE, _PREFACE, _UPGRADE[:-2], _PREFACE[:10]):
            gone = _connect(one.member)
            await until(lambda: census.connections == 1)
            gone.sendall(first)
            gone.close()
            await until(lambda: census.connections == 0)
        assert census._by_address == {}
