"""How often a login may fail: per user, per address, and for a user from an address.

A bucket of tokens each: a failure takes one, time gives them back. The buckets are in tables of a
fixed size, found by a keyed hash: nobody can push out the bucket of another, nor choose to share
it, and names that do not exist take no memory.

Nobody locks out somebody else: one address alone can't empty the bucket of a user, because it gets
fewer tries at one user than a user has altogether. Where a user has logged in before, it has a
bucket that only who comes from there can empty, whatever others do at other places.
"""

from __future__ import annotations

import ipaddress
import secrets
from dataclasses import dataclass
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
PAIR_BURST: Final = 20
PAIR_SECONDS: Final = 10.0
"""After so long, a user may fail once more from one address: later than from all together."""
KNOWN_MAX: Final = 16_384
"""Users with an address where they have logged in; of more, those are forgotten that were first."""


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
        return int.from_bytes(_digest(name, self._key, 4), "big") % BUCKETS


class LoginLimiter:
    """Lets somebody try to log in, or says when.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._users = Buckets(USER_BURST, USER_SECONDS)
        self._addresses = Buckets(ADDRESS_BURST, ADDRESS_SECONDS)
        self._pairs = Buckets(PAIR_BURST, PAIR_SECONDS)
        self._key = secrets.token_bytes(16)
        self._known: dict[bytes, None] = {}

    def admit(self, user: str, address: str) -> Try:
        """Count a try as one that failed; `succeeded` takes that back.

        Raises:
            Exhausted: Too many have failed, of that user or from that address.
        """
        now, network = self._clock(), network_of(address)
        pair = f"{network} {user}"
        wanted = [(self._pairs, pair)]
        if _digest(pair, self._key, 16) not in self._known:
            wanted += [(self._addresses, network), (self._users, user)]
        made = Try(pair, [])
        for buckets, name in wanted:
            wait = buckets.take(name, now)
            if wait:
                made.give_back()
                raise Exhausted(
                    f"too many failed logins; try again in {int(wait) + 1} s",
                    limit="logins",
                    retry_after_s=int(wait) + 1,
                )
            made.taken.append((buckets, name))
        return made

    def succeeded(self, made: Try) -> None:
        """A try was none that failed: its user is known at its address from now on."""
        made.give_back()
        digest = _digest(made.pair, self._key, 16)
        self._known.pop(digest, None)
        self._known[digest] = None
        if len(self._known) > KNOWN_MAX:
            del self._known[next(iter(self._known))]


@dataclass(frozen=True)
class Try:
    """One login: whose it is, and what it took.

    Attributes:
        pair: Where it comes from, and the user.
        taken: The buckets of which it took a token, and their names.
    """

    pair: str
    taken: list[tuple[Buckets, str]]

    def give_back(self) -> None:
        """Give back what it took."""
        for buckets, name in self.taken:
            buckets.give_back(name)


def _digest(name: str, key: bytes, size: int) -> bytes:
    return blake2b(name.encode("utf-8", "surrogatepass"), digest_size=size, key=key).digest()


def network_of(address: str) -> str:
    """Give what counts as one address: of IPv6 a /64, which is what one machine may have."""
    if ":" not in address:
        return address
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if found.version == 6:
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((found, 64), strict=False))
    return address
