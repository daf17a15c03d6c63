"""A member with authentication on, and users that log in."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from coordinator_sdk.protocol.auth import Login
from tests.api.member import Answer, Running, Socket, running

COST = 10
"""Cheap passwords: a hash takes 1 MiB and some milliseconds."""
PASSWORD = "correct horse battery staple"


class Guarded:
    """A member, and whoever is logged in there.

    Attributes:
        member: The member.
        root: The token of root.
    """

    def __init__(self, member: Running, root: str) -> None:
        self.member = member
        self.root = root

    async def ask(
        self, method: str, target: str, body: Any = b"", *, token: str | None = None, **more: Any
    ) -> Answer:
        """Make a request as root, or with another token; an empty one is none."""
        token = self.root if token is None else token
        headers = [("authorization", f"Bearer {token}")] if token else []
        return await self.member.ask(method, target, body, [*headers, *more.get("headers", ())])

    async def add_user(self, user: str, *rights: dict[str, Any], **fields: Any) -> None:
        """Add a user with a role of the same name that allows something."""
        body = {"user": user, "password": PASSWORD} | fields
        assert (await self.ask("POST", "/v1/users", body)).status == 201
        assert (await self.ask("POST", "/v1/roles", {"role": user})).status == 201
        assert (await self.ask("PUT", f"/v1/users/{user}/roles/{user}")).status == 200
        for right in rights:
            assert (await self.ask("POST", f"/v1/roles/{user}/grant", right)).status == 200

    async def token(self, user: str, password: str = PASSWORD) -> str:
        """Log in; gives the token."""
        answer = await self.login(user, password)
        assert answer.status == 200, answer.body
        found: str = answer.json["token"]
        return found

    async def login(self, user: str, password: str = PASSWORD, **fields: Any) -> Answer:
        """Try to log in."""
        body = {"user": user, "password": password} | fields
        return await self.member.ask("POST", "/v1/auth/login", body)

    @contextlib.asynccontextmanager
    async def socket(self, user: str = "root") -> AsyncIterator[Socket]:
        """Open a WebSocket and log in on it."""
        async with self.member.web_socket(greet=False) as socket:
            await socket.call(Login(user, PASSWORD))
            await socket.greet()
            yield socket


@contextlib.asynccontextmanager
async def guarded(folder: Path, **settings: Any) -> AsyncIterator[Guarded]:
    """Run a member, make root and turn authentication on."""
    settings.setdefault("password_cost", COST)
    async with running(folder, **settings) as member:
        made = await member.ask("POST", "/v1/auth/init", {"password": PASSWORD})
        assert made.status == 200, made.body
        one = Guarded(member, "")
        one.root = await one.token("root")
        yield one


KEYS = {"key": {"access": "readwrite", "key": "app/", "range_end": "app0"}}
"""The right to everything that begins with ``app/``."""
