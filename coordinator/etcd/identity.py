"""Who asks: the one place where a token becomes a caller, for gRPC and for the gateway."""

from __future__ import annotations

from collections.abc import Callable

from coordinator.api.registry import Caller

Identify = Callable[[bytes, str], Caller]
"""Given the token that came with a call (empty if none did) and the address of the client."""


def identify(token: bytes, origin: str) -> Caller:
    """Say who asks.

    There are no users yet, and with authentication off etcd ignores tokens: so does this.

    Args:
        token: What the call carries as ``token``, or as ``authorization``.
        origin: Where the client is, ``host:port``.

    Raises:
        StatusError: The token is needed and missing, or wrong.
    """
    return Caller(origin=origin)
