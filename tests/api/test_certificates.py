"""Client certificates as users, over real TLS."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect

from coordinator_sdk.protocol import auth
from coordinator_sdk.protocol.codec import MSGPACK
from coordinator_sdk.protocol.frames import Failure
from coordinator_sdk.protocol.kv import Put, Watch
from tests.api.member import Answer, Raw, Running, Socket, running
from tests.api.test_tls import Authority
from tests.api.users import COST, PASSWORD

pytestmark = pytest.mark.asyncio


class Client:
    """Somebody with a certificate."""

    def __init__(self, member: Running, authority: Authority, name: str) -> None:
        self.context = ssl.create_default_context(cafile=authority.file)
        self.context.load_cert_chain(*authority.issue(name))
        self._port = member.port

    async def ask(self, method: str, target: str, body: Any = b"", **headers: str) -> Answer:
        """Make a request."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port, ssl=self.context)
        try:
            return await Raw(reader, writer).ask(method, target, body, list(headers.items()))
        finally:
            writer.close()
            await writer.wait_closed()

    async def user(self) -> str:
        """Ask whom the member takes it for."""
        found: str = (await self.ask("GET", "/v1/auth/whoami")).json["user"]
        return found

    def socket(self) -> connect:
        """Open a WebSocket."""
        return connect(
            f"wss://127.0.0.1:{self._port}/v1/ws",
            ssl=self.context,
            subprotocols=[MSGPACK.name],  # type: ignore[list-item]
            compression=None,
        )


async def test_a_certificate_is_a_user(tmp_path: Path) -> None:
    """A certificate's name is a user over HTTP and on the WebSocket; a token comes before it."""
    authority = Authority(tmp_path)
    cert, key = authority.issue("server")
    settings: dict[str, Any] = {
        "listen_client_urls": ("https://127.0.0.1:0",),
        "cert_file": cert,
        "key_file": key,
        "trusted_ca_file": authority.file,
        "client_cert_auth": True,
        "password_cost": COST,
    }
    async with running(tmp_path / "data", **settings) as member:
        root, web, other = (Client(member, authority, name) for name in ("root", "web-1", "other"))
        assert await root.user() == ""  # Authentication is off: nobody is asked.
        made = await root.ask("POST", "/v1/auth/init", {"password": PASSWORD})
        assert made.status == 200
        assert [await one.user() for one in (root, web, other)] == ["root", "", ""]
        body = {"user": "web", "no_password": True, "certificate_names": ["web-1"]}
        assert (await root.ask("POST", "/v1/users", body)).status == 201
        assert [await one.user() for one in (root, web, other)] == ["root", "web", ""]
        assert (await web.ask("PUT", "/v1/kv/a", b"1")).status == 403
        assert (await other.ask("PUT", "/v1/kv/a", b"1")).status == 401
        assert (await root.ask("PUT", "/v1/kv/a", b"1")).status == 200
        wrong = await root.ask("PUT", "/v1/kv/a", b"1", authorization="Bearer wrong")
        assert wrong.status == 401
        login = {"user": "root", "password": PASSWORD, "cookie": True}
        answer = await other.ask("POST", "/v1/auth/login", login)
        assert "; Secure" in answer.headers["set-cookie"]

        async with web.socket() as inner:
            socket = Socket(inner, MSGPACK)
            await socket.greet()
            assert (await socket.call(auth.WhoAmI(), auth.Identity)).user == "web"
            refused = await socket.call(Put(b"a", b"2"))
            assert isinstance(refused, Failure)
            assert refused.code == "permission_denied"
            assert (await root.ask("PUT", "/v1/users/web/roles/root")).status == 200
            (watch,) = await socket.send(Watch(b"a"))
            await socket.answers([watch])
            names = {"certificate_names": ["web-2"]}
            changed = await root.ask("PUT", "/v1/users/web/certificates", names)
            assert changed.status == 200
            ended = await socket.item()
            assert isinstance(ended, Failure)
            assert ended.id == watch
            assert (await socket.call(auth.WhoAmI(), auth.Identity)).user == ""
