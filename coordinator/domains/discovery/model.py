"""Discovery tokens as they lie in the keyspace, and as the API shows them. Pure.

==================================================  =======================================
``(ns, discovery, token, token)``                   the token: how many members it is for
``(ns, discovery, member, token, member id)``       a member that has come
``(ns, discovery, end, token)``                     key of the timer that ends it; no record
==================================================  =======================================

Invariants:

- A token has at most as many members as it is for. Their order is that of their create
  revisions, which coming again does not change.
- Two members of a token share neither a name nor a peer URL.
- A token that has ended keeps its record for a while, without members, so that whoever comes
  late is told that it has ended, and not that it never was.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from coordinator.replica.domain import Records
from coordinator.wire import systemkey
from coordinator_sdk.errors import Gone, NotFound
from coordinator_sdk.protocol.discovery import DiscoveryInfo, DiscoveryMember
from coordinator_sdk.protocol.kv import KeyValue

DOMAIN = "discovery"
SIZE_MAX = 9
"""Members that a cluster may begin with."""
LIFE_MS = 86_400_000
"""How long a token lives."""
REMEMBERED_MS = 86_400_000
"""How long it is known that a token has ended."""


class TokenRecord(Struct, array_like=True):
    """A token.

    Attributes:
        size: Members that it is for.
        created_ms: When it was made, by the cluster's clock.
        has_ended: Whether this is only the memory of it.
    """

    size: int
    created_ms: int
    has_ended: bool = False


class MemberRecord(Struct, array_like=True):
    """A member that has come: its name, its peer URLs, and when it first came."""

    name: str
    peer_urls: list[str]
    registered_ms: int


encode = msgspec.msgpack.Encoder().encode
decode_token = msgspec.msgpack.Decoder(TokenRecord).decode
decode_member = msgspec.msgpack.Decoder(MemberRecord).decode


def token_key(namespace: str, token: str) -> bytes:
    """Give the key of a token."""
    return systemkey.pack(namespace, DOMAIN, "token", token)


def tokens(namespace: str) -> tuple[bytes, bytes]:
    """Give the range of all tokens of a namespace."""
    return systemkey.children(namespace, DOMAIN, "token")


def member_key(namespace: str, token: str, member: int) -> bytes:
    """Give the key of a member that has come."""
    return systemkey.pack(namespace, DOMAIN, "member", token, member)


def members(namespace: str, token: str) -> tuple[bytes, bytes]:
    """Give the range of the members that have come."""
    return systemkey.children(namespace, DOMAIN, "member", token)


def timer_key(namespace: str, token: str) -> bytes:
    """Give the key of the timer that ends a token, and later forgets it."""
    return systemkey.pack(namespace, DOMAIN, "end", token)


def find(records: Records, namespace: str, token: str) -> TokenRecord:
    """Read a token that lives.

    Raises:
        NotFound: There is no such token.
        Gone: It has ended.
    """
    record = records.get(token_key(namespace, token))
    if record is None:
        raise NotFound(
            f"there is no discovery token {token}; a token lives for a day, "
            "`coordctl discovery new` makes one",
            token=token,
        )
    found = decode_token(record.value)
    if found.has_ended:
        raise Gone(
            f"the discovery token {token} has expired: a token lives for a day, "
            "`coordctl discovery new` makes another one",
            token=token,
        )
    return found


def come(records: Records, namespace: str, token: str) -> list[DiscoveryMember]:
    """Give the members that have come, in the order in which they came."""
    found = records.scan(*members(namespace, token), limit=SIZE_MAX)
    return sorted(map(_member_view, found), key=_order)


def _order(member: DiscoveryMember) -> int:
    return member.revision


def _member_view(record: KeyValue) -> DiscoveryMember:
    stored = decode_member(record.value)
    member = systemkey.unpack(record.key)[4]
    assert isinstance(member, int)
    return DiscoveryMember(
        member, stored.name, stored.peer_urls, record.create_revision, stored.registered_ms
    )


def token_view(records: Records, namespace: str, token: str) -> DiscoveryInfo:
    """Show a token and who has come.

    Raises:
        NotFound: There is no such token.
        Gone: It has ended.
    """
    found = find(records, namespace, token)
    present = come(records, namespace, token)
    return DiscoveryInfo(
        namespace,
        token,
        found.size,
        present,
        len(present) == found.size,
        found.created_ms,
        found.created_ms + LIFE_MS,
    )
