"""Ports for servers that somebody else starts."""

from __future__ import annotations

import random
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

OUTGOING: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
FIRST_OUTGOING: Final = 49_152
"""The first port for outgoing connections where the system doesn't say: RFC 6335, section 6."""
LOWEST: Final = 10_000
ATTEMPTS: Final = 1_000

_given: set[int] = set()


def free_port(offsets: Sequence[int] = (0,)) -> int:
    """A TCP port of the loopback address that nobody uses at the moment.

    It is none of those that the system gives to outgoing connections, so that it stays free until
    a server listens on it; and it is not given twice by one process.

    Args:
        offsets: Ports this far above it must be free as well.

    Raises:
        OSError: There is none.
    """
    end = max(_first_outgoing(), 2 * LOWEST) - max(offsets)
    chance = random.SystemRandom()
    for _ in range(ATTEMPTS):
        port = chance.randrange(LOWEST, end)
        wanted = {port + offset for offset in offsets}
        if not wanted & _given and all(_is_free(one) for one in wanted):
            _given.update(wanted)
            return port
    raise OSError(f"no free port between {LOWEST} and {end}")


def _first_outgoing() -> int:
    try:
        return int(OUTGOING.read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return FIRST_OUTGOING


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
