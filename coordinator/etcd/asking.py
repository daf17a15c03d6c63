"""Who makes the calls of a connection: `coordinator.api.identity`, asked seldom."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from coordinator_sdk.errors import Unauthenticated
from coordinator_sdk.protocol.auth import INVALID_TOKEN

if TYPE_CHECKING:
    import asyncio

    from coordinator.api.census import Place
    from coordinator.api.identity import Identity
    from coordinator.api.registry import Caller
    from coordinator.node.node import Node

AGAIN_S: Final = 2.0
"""How long an answer holds: a token that is used must be seen to be used, so that it lives on."""


class Asking:
    """Who makes the calls of one connection.

    Args:
        node: The member.
        identity: Tells who asks.
        transport: The connection.
        origin: Where the client is, ``host:port``.
        place: What the connection takes of those that there may be.

    Attributes:
        origin: The same.
    """

    __slots__ = (
        "_caller",
        "_credential",
        "_identity",
        "_node",
        "_place",
        "_revision",
        "_tls",
        "_until_s",
        "origin",
    )

    def __init__(
        self,
        node: Node,
        identity: Identity,
        transport: asyncio.BaseTransport,
        origin: str,
        place: Place,
    ) -> None:
        self._node = node
        self._identity = identity
        self._place = place
        self._tls: Any = transport.get_extra_info("ssl_object")
        self._credential: bytes | None = None
        self._caller: Caller | None = None
        self._revision = -1
        self._until_s = 0.0
        self.origin = origin

    def caller(self, credential: bytes, now_s: float) -> Caller:
        """Tell who makes a call.

        Args:
            credential: What came as ``token`` or ``authorization``; empty for nothing.
            now_s: The time of the loop.

        Raises:
            Exhausted: The user has too many connections, or only root gets one more.
            Unauthenticated: The credential is wrong, or has expired.
        """
        revision = self._node.machine.auth.revision
        known = self._caller
        if (
            known is not None
            and revision == self._revision
            and now_s < self._until_s
            and credential == self._credential
        ):
            return known
        self._caller = None
        made = identify_now(self._node, self._identity, credential, self.origin, self._tls)
        self._place.take(made)
        self._credential, self._revision = credential, revision
        self._until_s = now_s + AGAIN_S
        self._caller = made
        return made

    def anew(self, credential: bytes) -> Caller:
        """As `caller`, by what is known now: an answer that was given before does not hold.

        Raises:
            Unauthenticated: The credential is wrong, or has expired.
        """
        self._caller = None
        return identify_now(self._node, self._identity, credential, self.origin, self._tls)

    async def surely(self, credential: bytes) -> Caller:
        """As `caller`, by what was acknowledged before this is called.

        Raises:
            Exhausted: The user has too many connections, or only root gets one more.
            Unauthenticated: The credential is wrong, or has expired.
        """
        made = await identify_surely(self._node, self._identity, credential, self.origin, self._tls)
        self._place.take(made)
        return made


def identify_now(
    node: Node, identity: Identity, credential: bytes, origin: str, tls: Any
) -> Caller:
    """Tell who makes a call.

    Raises:
        Unauthenticated: The credential is wrong, or has expired.
    """
    found = identity.identify(credential, origin, tls)
    _check_tokens_user(node, found, credential)
    return found


async def identify_surely(
    node: Node, identity: Identity, credential: bytes, origin: str, tls: Any
) -> Caller:
    """Tell who makes a call, by what was acknowledged before.

    Raises:
        Unauthenticated: The credential is wrong, or has expired.
    """
    found = await identity.identify_surely(credential, origin, tls)
    _check_tokens_user(node, found, credential)
    return found


def _check_tokens_user(node: Node, caller: Caller, credential: bytes) -> None:
    """Refuse the token of a user who is gone, in the words in which etcd does."""
    if credential and caller.actor and caller.actor not in node.machine.auth.users:
        raise Unauthenticated(INVALID_TOKEN)
