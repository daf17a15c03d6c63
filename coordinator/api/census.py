"""Who is connected: how many may be, and whose connections they are.

Up to a cap all are admitted. Beyond it this machine has a few more, and while authentication is
on so has root: whoever comes then is let in to prove that, and can do nothing else. Of those who
have not proved it yet, one makes way for the next that comes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coordinator.api.gate import is_this_machine
from coordinator.api.registry import Caller
from coordinator.api.shares import Share, Shares
from coordinator.credentials.limiter import network_of
from coordinator_sdk.errors import Exhausted

if TYPE_CHECKING:
    from coordinator.api.limits import Limits


class Place:
    """What one connection takes, whatever it speaks, from its beginning to its end.

    Args:
        census: Gives the places.
        address: What counts as the address of the other end, as `network_of` tells.
        transport: The connection; it is aborted if it has to make way.
        seat: What it takes of its user's connections.

    Attributes:
        address: The same.
        transport: The same.
    """

    __slots__ = ("_census", "_seat", "address", "transport")

    def __init__(self, census: Census, address: str, transport: Any, seat: Share) -> None:
        self._census = census
        self._seat = seat
        self.address = address
        self.transport = transport
        seat.hold(1)

    def take(self, caller: Caller) -> None:
        """Count it as a user's from now on.

        Raises:
            Exhausted: That user has too many, or there are so many that only root gets one.
        """
        self.check_move(caller)
        self.move(caller)

    def check_move(self, caller: Caller) -> None:
        """Refuse to let a user have it who may not; whoever is nobody yet may still log in.

        Raises:
            Exhausted: The user has too many, or there are so many that only root gets one.
        """
        if caller.actor:
            self._census.check_proof(self, caller)
        self._seat.check_move(caller)

    def move(self, caller: Caller) -> None:
        """Count it as a user's who may have it, as `check_move` tells."""
        if caller.actor:
            self._census.prove(self)
        self._seat.move(caller)

    def check_kept(self, caller: Caller) -> None:
        """Refuse it to all but root, nobody included, if it is one of those kept for root.

        Raises:
            Exhausted: It is, and it is not root who asks.
        """
        self._census.check_proof(self, caller)

    def leave(self) -> None:
        """Give it back: the connection is gone. Has no effect the second time."""
        self._seat.hold(0)
        self._census.leave(self)


class Census:
    """Counts connections, and refuses those beyond the caps.

    Args:
        limits: How many there may be.
        shares: Knows the users, and what each of them has.

    Attributes:
        shares: The same.
        refused: How many were refused, or had to make way.
    """

    def __init__(self, limits: Limits, shares: Shares) -> None:
        self._limits = limits
        self.shares = shares
        self.refused = 0
        self._reading = 0
        """Those refused that may still read why."""
        self._by_address: dict[str, int] = {}
        self._places: set[Place] = set()
        self._unproved: dict[Place, None] = {}
        """Those admitted for root that have not proved to be root's, the oldest first."""

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._places)

    def admit(self, address: str, transport: Any) -> Place | None:
        """Count a new connection; None if there are too many already."""
        limits = self._limits
        is_near, address = is_this_machine(address), network_of(address)
        count, of_address = len(self._places), self._by_address.get(address, 0)
        if is_near:
            is_free = count < limits.connections + limits.connections_reserve
        else:
            is_free = count < limits.connections and of_address < limits.connections_per_address
        if not is_free and not self._make_room(address):
            self.refused += 1
            return None
        caller = Caller(origin=f"{address}:0")
        place = Place(self, address, transport, Share(self.shares, self.shares.connections, caller))
        self._places.add(place)
        self._by_address[address] = self._by_address.get(address, 0) + 1
        if not is_free:
            self._unproved[place] = None
        return place

    def may_read(self) -> bool:
        """Whether one that was refused may stay to read why; `has_read` tells that it is gone."""
        if self._reading >= self._limits.refusals:
            return False
        self._reading += 1
        return True

    def has_read(self) -> None:
        """One that was refused is gone."""
        self._reading -= 1

    def _make_room(self, address: str) -> bool:
        """Make room for one who may be root, if there is any left for that."""
        limits = self._limits
        if not self.shares.knows_users:
            return False
        most = limits.connections + limits.connections_reserve + limits.connections_for_root
        waiting = self._unproved
        if len(self._places) < most and len(waiting) < limits.connections_for_root:
            return True
        # One of the same address first: who comes often is then in nobody's way but its own.
        near = next((one for one in waiting if one.address == address), None)
        last = near or next(iter(waiting), None)
        if last is None:
            return False
        self.refused += 1
        last.leave()
        last.transport.abort()
        return True

    def check_proof(self, place: Place, caller: Caller) -> None:
        """Refuse what only root may have to somebody else.

        Raises:
            Exhausted: There are so many connections that only root gets one.
        """
        if place in self._unproved and not self.shares.is_favoured(caller):
            most = self._limits.connections
            raise Exhausted(
                f"connections: there are too many, at most {most} of all clients, and what is "
                "left is kept for root; --max-connections changes that",
                limit="connections",
            )

    def prove(self, place: Place) -> None:
        """Let a connection stay that `check_proof` lets pass."""
        self._unproved.pop(place, None)

    def leave(self, place: Place) -> None:
        """Count a connection that was admitted and is gone; has no effect the second time."""
        if place not in self._places:
            return
        self._places.discard(place)
        self._unproved.pop(place, None)
        left = self._by_address[place.address] - 1
        if left:
            self._by_address[place.address] = left
        else:
            del self._by_address[place.address]
