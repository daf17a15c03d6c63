"""What members say to each other over a link: one frame for each turn and peer.

Wire format: MessagePack arrays in the order of the fields; fields are only ever appended.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Struct

from coordinator.wire.raft import Message, Uint63
from coordinator_sdk.protocol.cluster import ClusterStatusResult


class Forward(Struct, array_like=True, gc=False):
    """A follower has a command for the leader to propose.

    Attributes:
        call: Number by which the answer finds it.
        command: The encoded envelope; the leader stamps it with its own clock.
        in_doubt: Whether an earlier try may be in the log: then only the log can judge it.
    """

    call: Uint63
    command: bytes
    in_doubt: bool = False


class Placed(Struct, array_like=True, gc=False):
    """What became of a `Forward`: its entry, or 0 if the leader could not take it.

    The command has been proposed if and only if there is an index. It is committed if and only if
    the entry applied at that index has that term. Without an index, ``error`` (code, message,
    details) says that it was refused for good; else whoever leads next may have it.
    """

    call: Uint63
    index: Uint63
    term: Uint63
    error: tuple[str, str, dict[str, Any]] | None = None


class Renew(Struct, array_like=True, gc=False):
    """A follower asks the leader to renew leases, or merely to tell how long they live on."""

    call: Uint63
    leases: list[Uint63]
    only_look: bool = False


class Renewed(Struct, array_like=True, gc=False):
    """What became of a `Renew`: milliseconds left for each lease, or None if it does not lead."""

    call: Uint63
    remaining_ms: list[int] | None


class Look(Struct, array_like=True, gc=False):
    """A member wants to know how another one stands."""

    call: Uint63


class Standing(Struct, array_like=True, gc=False):
    """What answers a `Look`."""

    call: Uint63
    status: ClusterStatusResult


class PeerFrame(Struct, array_like=True, gc=False):
    """Everything that one member has for another at the end of a turn.

    Placed entries stand before messages: whoever applies an entry has heard before whose it is.
    """

    placed: list[Placed] = []
    forwards: list[Forward] = []
    renews: list[Renew] = []
    renewed: list[Renewed] = []
    messages: list[Message] = []
    looks: list[Look] = []
    standings: list[Standing] = []


encode_frame: Final = msgspec.msgpack.Encoder().encode
"""Return the bytes of a `PeerFrame`."""

_decode: Final = msgspec.msgpack.Decoder(PeerFrame).decode


def decode_frame(frame: bytes) -> PeerFrame:
    """Read a frame.

    Raises:
        ValueError: It is none.
    """
    try:
        return _decode(frame)
    except msgspec.DecodeError as error:
        raise ValueError(f"a peer sent an unreadable frame: {error}") from None
