"""What went over the links between members: counted where it is sent and taken, read by metrics."""

from __future__ import annotations

import socket
import struct
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from coordinator.metrics import Metrics, Sample

_TCP_INFO: Final = getattr(socket, "TCP_INFO", 11) if sys.platform == "linux" else None
_RTT: Final = struct.Struct("=68xI")
"""Where Linux keeps a connection's smoothed round trip in its ``tcp_info``, in microseconds."""


@dataclass(slots=True)
class Traffic:
    """What went between this member and one other, links of the past included.

    Frames of links alone: snapshots travel on connections of their own.

    Attributes:
        frames_sent: Frames given to the system.
        bytes_sent: Bytes of their bodies.
        frames_received: Frames that came in whole.
        bytes_received: Bytes of their bodies.
        dropped: Frames that were not sent: the link was down or had too much unsent.
    """

    frames_sent: int = 0
    bytes_sent: int = 0
    frames_received: int = 0
    bytes_received: int = 0
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class LinkState:
    """One link, as metrics tell of it.

    Attributes:
        member: The other member.
        is_up: Whether frames can be sent to it.
        traffic: What went over it so far.
        round_trip_s: Time until the other machine acknowledges what is sent, smoothed by the
            system; None while the link is down, and where the system does not tell.
    """

    member: int
    is_up: bool
    traffic: Traffic
    round_trip_s: float | None


def round_trip_s(connected: socket.socket | None) -> float | None:
    """Give the smoothed round trip of a TCP connection, in seconds, as far as it is known."""
    if connected is None or _TCP_INFO is None:
        return None
    try:
        info = connected.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _RTT.size)
        (microseconds,) = _RTT.unpack(info)
    except (OSError, struct.error):
        return None
    return float(microseconds) / 1e6 or None


def register(metrics: Metrics, own: int, links: Callable[[], list[LinkState]]) -> None:
    """Register the metrics of links, under etcd's names where they mean the same.

    Args:
        metrics: The registry.
        own: Id of this member.
        links: Tells of its links.
    """
    local = ("Local", f"{own:x}")

    def counted(label: str, field: str) -> Callable[[], list[Sample]]:
        def samples() -> list[Sample]:
            return [(((label, f"{one.member:x}"),), getattr(one.traffic, field)) for one in links()]

        return samples

    metrics.gauge(
        "etcd_network_active_peers",
        "Whether the link to a member is up.",
        lambda: [((local, ("Remote", f"{one.member:x}")), float(one.is_up)) for one in links()],
    )
    metrics.gauge(
        "coordinator_peer_round_trip_seconds",
        "Until a member's machine acknowledges what is sent, as the system measures it.",
        lambda: [
            ((("To", f"{one.member:x}"),), one.round_trip_s)
            for one in links()
            if one.round_trip_s is not None
        ],
    )
    for name, help, label, field in _COUNTERS:
        metrics.counter(name, help, counted(label, field))


_COUNTERS: Final = (
    ("etcd_network_peer_sent_bytes_total", "Bytes sent to a member.", "To", "bytes_sent"),
    (
        "etcd_network_peer_received_bytes_total",
        "Bytes that a member has sent.",
        "From",
        "bytes_received",
    ),
    (
        "etcd_network_peer_sent_failures_total",
        "Frames that were dropped: the link was down or had too much unsent.",
        "To",
        "dropped",
    ),
    ("coordinator_peer_sent_frames_total", "Frames sent to a member.", "To", "frames_sent"),
    (
        "coordinator_peer_received_frames_total",
        "Frames that a member has sent.",
        "From",
        "frames_received",
    ),
)
"""Name, help, label of the other member, field of `Traffic`."""
