"""Taking the addresses on which peers dial us."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from coordinator.transport.errors import CannotListen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordinator.config import Address

BACKLOG = 128


def bind(addresses: Sequence[Address]) -> list[socket.socket]:
    """Take every address; whoever dials one is refused until it is listened on.

    Raises:
        CannotListen: One is taken, or not of this machine.
    """
    bound: list[socket.socket] = []
    try:
        for address in addresses:
            found = socket.getaddrinfo(
                address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
            # A name such as localhost may have two addresses; the older kind is enough.
            family, _, _, _, place = sorted(found, key=lambda one: one[0] != socket.AF_INET)[0]
            one = socket.socket(family, socket.SOCK_STREAM)
            bound.append(one)
            one.setblocking(False)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            one.bind(place)
    except OSError as error:
        for one in bound:
            one.close()
        raise cannot_listen(address, error) from error
    return bound


def cannot_listen(address: Address, error: OSError) -> CannotListen:
    """Say why an address can't be listened on, and what to do."""
    return CannotListen(
        f"cannot listen on {url_of(address)}: {error.strerror or error}. Stop what uses it, or "
        "choose another address with --listen-peer-urls"
    )


def url_of(address: Address) -> str:
    """Write an address as a URL."""
    host = f"[{address.host}]" if ":" in address.host else address.host
    return f"{address.scheme}://{host}:{address.port}"
