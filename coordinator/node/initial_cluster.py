"""The members that a new cluster begins with, whichever way they were told. Pure.

Every one of them has to come to the same ids without asking the others: as in etcd, a member's
id follows from its peer URLs and the token of the cluster, and the cluster's id from those of
its members.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import urlsplit

POSITIVE: Final = (1 << 63) - 1
"""Ids are positive 63-bit numbers."""


@dataclass(frozen=True)
class InitialCluster:
    """The first members of a cluster.

    Attributes:
        names_to_urls: The peer URLs of each member by its name, in the order in which the
            members were told.
        token: Tells clusters apart that use the same addresses.
        has_names: Whether all members know each other by these names. If not, only URLs and
            ids are the same on all of them, and names must not get into replicated state.
    """

    names_to_urls: Mapping[str, tuple[str, ...]]
    token: str
    has_names: bool = True

    @classmethod
    def parse(cls, text: str, token: str) -> Self:
        """Read what ``--initial-cluster`` says: ``a=http://10.0.0.1:2380,b=...``.

        A name that stands there more than once has more than one URL.

        Raises:
            ValueError: It is malformed, or two members have the same URL.
        """
        found: dict[str, list[str]] = {}
        for part in (part.strip() for part in text.split(",")):
            if not part:
                continue
            name, equals, url = part.partition("=")
            if not equals or not name.strip():
                raise ValueError(f"{part!r} is not written as NAME=URL")
            found.setdefault(name.strip(), []).append(peer_url(url.strip()))
        return cls.of({name: tuple(urls) for name, urls in found.items()}, token)

    @classmethod
    def of(cls, names_to_urls: Mapping[str, Sequence[str]], token: str) -> Self:
        """Make one of names and URLs.

        Raises:
            ValueError: There is no member, one has no URL, or two have the same.
        """
        if not names_to_urls:
            raise ValueError("at least one member is needed")
        owners: dict[str, str] = {}
        for name, urls in names_to_urls.items():
            if not urls:
                raise ValueError(f"member {name!r} has no peer URL")
            for url in urls:
                if url in owners:
                    raise ValueError(f"{url} stands there twice: {owners[url]!r} and {name!r}")
                owners[url] = name
        return cls({name: tuple(urls) for name, urls in names_to_urls.items()}, token)

    def __str__(self) -> str:
        """Write it as ``--initial-cluster`` takes it."""
        return ",".join(
            f"{name}={url}" for name, urls in self.names_to_urls.items() for url in urls
        )

    def member_id(self, name: str) -> int:
        """Give the id of the member of this name."""
        return member_id(self.names_to_urls[name], self.token)

    @property
    def member_ids(self) -> dict[str, int]:
        """The id of every member by its name."""
        return {name: self.member_id(name) for name in self.names_to_urls}

    @property
    def cluster_id(self) -> int:
        """The id of the cluster."""
        return cluster_id(self.member_ids.values())


def peer_url(text: str) -> str:
    """Give a peer URL in the one form in which it is compared and hashed.

    Raises:
        ValueError: It is none.
    """
    rule = f"{text!r}: a peer URL is written as http://HOST:PORT or https://HOST:PORT"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValueError(rule) from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port is None:
        raise ValueError(rule)
    if parts.path not in ("", "/") or parts.query or parts.fragment or "@" in parts.netloc:
        raise ValueError(f"{rule}, without path, user or query")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}:{port}"


def member_id(peer_urls: Iterable[str], token: str) -> int:
    """Give the id of a member: it follows from its peer URLs and the cluster's token."""
    return _digest("".join(sorted(peer_urls)).encode() + token.encode())


def cluster_id(members: Iterable[int]) -> int:
    """Give the id of a cluster: it follows from the ids of its first members."""
    return _digest(b"".join(member.to_bytes(8, "big") for member in sorted(members)))


def _digest(data: bytes) -> int:
    # No secret rests on it: the same hash as in etcd, so that ids can be foretold as there.
    digest = hashlib.sha1(data, usedforsecurity=False).digest()
    return (int.from_bytes(digest[:8], "big") & POSITIVE) or 1
