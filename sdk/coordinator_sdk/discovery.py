"""Discovery: tokens under which the members of a cluster to be find each other."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, quote, urlsplit

from ._connection import Connection, decoder
from ._modes import CHANGE
from .errors import InvalidRequest
from .protocol.discovery import (
    PATH,
    DiscoveryGet,
    DiscoveryInfo,
    DiscoveryNew,
    DiscoveryNewResult,
    DiscoveryRegister,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Discovery", "split_url"]

_INFO = decoder(DiscoveryInfo)
_NEW = decoder(DiscoveryNewResult)


def split_url(url: str) -> tuple[str, str, str]:
    """Take the URL of a token apart.

    Args:
        url: Such as ``http://127.0.0.1:2379/v1/discovery/<token>``, or a token alone.

    Returns:
        The endpoint, empty for a token alone; the namespace, empty if the URL names none; the
        token.

    Raises:
        InvalidRequest: It is no such URL.
    """
    if "/" not in url:
        return "", "", url
    parts = urlsplit(url)
    token = parts.path.removeprefix(PATH)
    if not parts.netloc or not parts.path.startswith(PATH) or not token or "/" in token:
        raise InvalidRequest(
            f"url: {url!r} is not written as http://HOST:PORT{PATH}TOKEN", field="url"
        )
    namespace = parse_qs(parts.query).get("namespace", [""])[0]
    return f"{parts.scheme}://{parts.netloc}", namespace, token


class Discovery:
    """Discovery; `Client.discovery`."""

    def __init__(self, link: Connection, namespace: str) -> None:
        self._link = link
        self._namespace = namespace

    async def new(self, size: int = 3) -> str:
        """Make a token for a cluster to be; it lives for a day.

        Args:
            size: How many members the cluster begins with, from 1 to 9.

        Returns:
            The token's URL, at the endpoint in use: what ``coordinator serve --discovery``
            takes.
        """
        body = DiscoveryNew(self._namespace, size, secrets.token_hex(16))
        made = await self._link.call(body, _NEW, CHANGE)
        url = f"{self._link.endpoint.url}{PATH}{made.token}"
        if self._namespace == "default":
            return url
        return f"{url}?namespace={quote(self._namespace, safe='')}"

    async def get(self, token: str, *, revision: int = 0) -> DiscoveryInfo:
        """Read a token: how many it waits for, and who has come.

        Args:
            token: The token, or its URL.
            revision: As it was at this revision; 0 for now.

        Raises:
            NotFound: There is no such token.
            Gone: It has expired.
        """
        _, namespace, token = split_url(token)
        body = DiscoveryGet(namespace or self._namespace, token, revision)
        return await self._link.call(body, _INFO)

    async def register(
        self, token: str, member: int, name: str, peer_urls: Sequence[str]
    ) -> DiscoveryInfo:
        """Come as a member of the cluster to be; ``coordinator serve`` does it by itself.

        Args:
            token: The token, or its URL.
            member: Id of the member.
            name: Its name.
            peer_urls: Where the other members reach it.

        Returns:
            The token, with who has come.

        Raises:
            NotFound: There is no such token.
            Gone: It has expired.
            AlreadyExists: Another member has come with this name, or one of these URLs.
            Conflict: The cluster is complete.
        """
        _, namespace, token = split_url(token)
        body = DiscoveryRegister(namespace or self._namespace, token, member, name, list(peer_urls))
        return await self._link.call(body, _INFO, CHANGE)
