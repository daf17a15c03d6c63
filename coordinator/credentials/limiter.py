"""How often a login may fail: per user and per address.

A bucket of tokens each: a failure takes one, time gives them back. The buckets are in tables of a
fixed size, found by a keyed hash: nobody can push out the bucket of another, nor choose to share
it, and names that do not exist take no memory.
"""

from __future__ import annotations

import ipaddress
import secrets
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from coordinator_sdk.errors import Exhausted

if TYPE_CHECKING:
    from collections.abc import Callable

BUCKETS: Final = 8192
USER_BURST: Final = 50
USER_SECONDS: Final = 5.0
"""After so long, a user may fail once more."""
ADDRESS_BURST: Final = 20
ADDRESS_SECONDS: Final = 2.0


class Buckets:
    """A table of buckets, all alike.

    Args:
        burst: What a full one holds.
        seconds: After so long, one token comes back.
    """

    def __init__(self, burst: int, seconds: float) -> None:
        self._burst = burst
        self._seconds = seconds
        self._key = secrets.token_bytes(16)
        self._left = [float(burst)] * BUCKETS
        self._at = [0.0] * BUCKETS

    def take(self, name: str, now: float) -> float:
        """Take a token.

        Returns:
            0, or the seconds until there is one.
        """
        place = self._place(name)
        left = min(self._burst, self._left[place] + (now - self._at[place]) / self._seconds)
        self._at[place] = now
        if left < 1:
            self._left[place] = left
            return (1 - left) * self._seconds
        self._left[place] = left - 1
        return 0.0

    def give_back(self, name: str) -> None:
        """Give a token back that was taken for what turned out well."""
        place = self._place(name)
        self._left[place] = min(self._burst, self._left[place] + 1)

    def _place(self, name: str) -> int:
        data = name.encode("utf-8", "surrogatepass")
        return int.from_bytes(blake2b(data, digest_size=4, key=self._key).digest(), "big") % BUCKETS


class LoginLimiter:
    """Lets somebody try to log in, or says when.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._users = Buckets(USER_BURST, USER_SECONDS)
        self._addresses = Buckets(ADDRESS_BURST, ADDRESS_SECONDS)

    def admit(self, user: str, address: str) -> None:
        """Count a try as one that failed; `succeeded` takes that back.

        Raises:
            Exhausted: Too many have failed, of that user or from that address.
        """
        now, network = self._clock(), network_of(address)
        wait = self._addresses.take(network, now)
        if not wait:
            wait = self._users.take(user, now)
            if wait:
                self._addresses.give_back(network)
        if wait:
            raise Exhausted(
                f"too many failed logins; try again in {int(wait) + 1} s",
                limit="logins",
                retry_after_s=int(wait) + 1,
            )

    def succeeded(self, user: str, address: str) -> None:
        """A try was none that failed."""
        self._users.give_back(user)
        self._addresses.give_back(network_of(address))


def network_of(address: str) -> str:
    """Give what counts as one address: of IPv6 a /64, which is what one machine may have."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if found.version == 6:
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((found, 64), strict=False))
    return address
