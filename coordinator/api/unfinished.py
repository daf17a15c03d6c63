"""Requests that have begun to come and have not come whole: together they have a size."""

from __future__ import annotations

from typing import Protocol

from coordinator_sdk.errors import Exhausted


class Unfinished(Protocol):
    """A connection that holds a part of a request."""

    def give_up(self, error: Exhausted) -> None:
        """Drop what has come, and end the connection."""


class UnfinishedRequests:
    """Counts what connections hold of requests to come.

    Each of them may be as large as a request, and there are many. When together they are too
    large, the one that has been about it longest goes, of the address that holds most: who sends
    quickly is done by then, and who sends slowly makes room.

    Attributes:
        held_bytes: What all of them hold.
        dropped: How many had to go.
    """

    def __init__(self, bytes_max: int) -> None:
        self.held_bytes = 0
        self.dropped = 0
        self._bytes_max = bytes_max
        self._held: dict[Unfinished, tuple[str, int]] = {}
        self._by_address: dict[str, int] = {}

    def hold(self, one: Unfinished, address: str, size: int) -> None:
        """Note how much a connection holds now; zero if it is waiting for no more.

        That may end other connections, and this one.

        Args:
            one: The connection.
            address: Of its other end; always the same.
            size: In bytes.
        """
        known = self._held.get(one)
        before = known[1] if known else 0
        self.held_bytes += size - before
        of_address = self._by_address.get(address, 0) + size - before
        if of_address:
            self._by_address[address] = of_address
        else:
            self._by_address.pop(address, None)
        if size:
            self._held[one] = (address, size)
        elif known:
            del self._held[one]
        while self.held_bytes > self._bytes_max:
            self._drop()

    def _drop(self) -> None:
        worst = max(self._by_address, key=self._by_address.__getitem__)
        oldest = next(one for one, (address, _) in self._held.items() if address == worst)
        self.hold(oldest, worst, 0)
        self.dropped += 1
        oldest.give_up(
            Exhausted("too much of requests that do not come whole", limit="unfinished_bytes")
        )
