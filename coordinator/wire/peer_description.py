"""What a member tells about its cluster to one that wants to join it."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Struct

FORMAT: Final = 1


class DescribedMember(Struct, array_like=True, frozen=True):
    """A member of the cluster."""

    member: int
    name: str
    peer_urls: list[str]
    is_learner: bool = False


class PeerDescription(Struct, array_like=True, frozen=True):
    """The cluster, as the member that answers knows it.

    Attributes:
        format: `FORMAT` of the member that answers.
        cluster: Id of its cluster.
        member: Its own id.
        members: All members, itself included; empty if it is about to join itself.
    """

    format: int
    cluster: int
    member: int
    members: list[DescribedMember]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(PeerDescription).decode


def encode_description(description: PeerDescription) -> bytes:
    """Return the wire form."""
    return _encode(description)


def decode_description(data: bytes) -> PeerDescription:
    """Return the description in ``data``.

    Raises:
        msgspec.DecodeError: It is none.
    """
    return _decode(data)
