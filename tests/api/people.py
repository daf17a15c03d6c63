"""A member with users, and connections of them without a network."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from coordinator.api.connection import Connection
from coordinator.api.registry import Caller
from coordinator_sdk.errors import CoordinatorError
from coordinator_sdk.protocol import auth
from coordinator_sdk.protocol.auth import DomainPermission, KeyPermission
from coordinator_sdk.protocol.codec import MSGPACK
from tests.api.member import Running

ROOT = "root"


def caller(member: Running, user: str, scope: str = "", client: int = 0) -> Caller:
    """Give a user who has proved it just now."""
    revision = member.node.machine.auth.revision
    return Caller(user, "10.0.0.9:1", client, revision if user else 0, scope)


async def ask(member: Running, user: str, body: Struct, scope: str = "") -> Any:
    """Perform an operation as a user; gives the result, or raises."""
    return (await member.serving.dispatcher.call(body, caller(member, user, scope)))[1]


async def propose(member: Running, user: str, body: Any) -> Any:
    """Propose a command as a user, past the edge, which refuses what is hashed already."""
    who = caller(member, user)
    outcome = await member.node.execute(
        body, actor=user, origin=who.origin, auth_revision=who.auth_revision
    )
    return outcome.result


async def allow(
    member: Running, user: str, *rights: KeyPermission | DomainPermission | str
) -> None:
    """Let a user do something, by a role of the same name; a word is an action on everything."""
    if user not in member.node.machine.auth.users:
        await propose(member, ROOT, auth.UserAdd(user, password_hash="hash"))
        await propose(member, ROOT, auth.RoleAdd(user))
        await propose(member, ROOT, auth.UserGrantRole(user, user))
    for right in rights:
        if isinstance(right, KeyPermission):
            body = auth.RoleGrant(user, key=right)
        else:
            one = DomainPermission(right) if isinstance(right, str) else right
            body = auth.RoleGrant(user, domain=one)
        await propose(member, ROOT, body)


class Person(Connection):
    """A user's connection; what it is sent can be awaited.

    Attributes:
        items: What came on each stream, encoded.
    """

    def __init__(self, member: Running, user: str) -> None:
        super().__init__(
            member.node, caller(member, user), MSGPACK, member.serving.dispatcher.limits
        )
        self._member = member
        self._table = member.serving.dispatcher.table
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._ends: dict[int, asyncio.Future[CoordinatorError]] = {}
        self.items: dict[int, asyncio.Queue[bytes]] = {}
        self._ids = 0
        member.serving.http_streams[self] = None

    def stop(self, error: CoordinatorError) -> None:
        """The member stops."""
        self.end()

    def leave(self) -> None:
        """Go."""
        self._member.serving.http_streams.pop(self, None)
        self.end()

    async def ask(self, body: Struct) -> Any:
        """Perform an operation."""
        self._ids += 1
        id = self._ids
        loop = asyncio.get_running_loop()
        answer = self._answers[id] = loop.create_future()
        self._ends[id] = loop.create_future()
        self.items[id] = asyncio.Queue()
        try:
            self._table[type(body)](self, id, body)
        except CoordinatorError as error:
            self.fail(id, error)
        return await answer

    async def open(self, body: Struct) -> int:
        """Open a stream; gives its id."""
        await self.ask(body)
        return self._ids

    async def item(self, stream: int, kind: Any) -> Any:
        """Wait for the next item of a stream."""
        return msgspec.msgpack.decode(await self.items[stream].get(), type=kind)

    async def ended(self, stream: int) -> CoordinatorError:
        """Wait for the end of a stream."""
        return await self._ends[stream]

    def is_open(self, stream: int) -> bool:
        """Tell whether a stream goes on."""
        return stream in self.streams

    def answer(self, id: int, revision: int, result: Struct | None) -> None:
        """Take an answer."""
        self.opening.discard(id)
        self._answers[id].set_result(result)

    def fail(self, id: int, error: CoordinatorError) -> None:
        """Take a refusal, or the end of a stream."""
        self.opening.discard(id)
        stream = self.streams.pop(id, None)
        if stream is not None:
            stream.cancel()
        if self._answers[id].done():
            self._ends[id].set_result(error)
        else:
            self._answers[id].set_exception(error)

    def deliver(self, ids: Sequence[int], revision: int, batch: bytes) -> None:
        """Take an item."""
        for id in ids:
            self.items[id].put_nowait(batch)
