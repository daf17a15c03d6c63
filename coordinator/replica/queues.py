"""Queues of tickets as their domains show them: where the records lie, what stands in them. Pure.

What changes the records, and what each of them means, is `coordinator.replica.tickets`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordinator.replica import tickets
from coordinator.replica.tickets import POSITION_MAX
from coordinator.wire import systemkey

if TYPE_CHECKING:
    from collections.abc import Iterator

    from coordinator.replica.domain import Records
    from coordinator_sdk.protocol.kv import KeyValue
    from coordinator_sdk.protocol.tickets import TicketState

WAITERS_SHOWN_MAX = 1000
"""How many of those who wait a view lists; it counts them all."""


class Queues:
    """The queues of one domain.

    Args:
        domain: The domain's name.
    """

    def __init__(self, domain: str) -> None:
        self.domain = domain

    def holder_key(self, namespace: str, name: str) -> bytes:
        """Give the key of the record of who holds."""
        return tickets.holder_key(self.domain, namespace, name)

    def ticket_key(self, namespace: str, name: str, ticket: str) -> bytes:
        """Give the key of the record of a ticket that waits, or has ended."""
        return tickets.ticket_key(self.domain, namespace, name, ticket)

    def holders(self, namespace: str, prefix: str = "") -> tuple[bytes, bytes]:
        """Give the range of the holder records of the queues whose name starts with ``prefix``."""
        return systemkey.text_prefix(namespace, self.domain, "holder", prefix=prefix)

    def waiters(self, namespace: str, name: str) -> tuple[bytes, bytes]:
        """Give the range of those who wait in a queue, in the order of service."""
        return tickets.queue_range(self.domain, namespace, name)

    def every_waiter(self, namespace: str, prefix: str = "") -> tuple[bytes, bytes]:
        """Give the range of those who wait in the queues whose name starts with ``prefix``."""
        return systemkey.text_prefix(namespace, self.domain, "waiter", prefix=prefix)

    def one(
        self, records: Records, namespace: str, name: str
    ) -> tuple[KeyValue | None, list[KeyValue], int]:
        """Read one queue.

        Returns:
            The record of who holds, if anybody does; those of who waits, the first of them; and
            how many wait.
        """
        held = records.get(self.holder_key(namespace, name))
        waiting = self.waiters(namespace, name)
        first = records.scan(*waiting, limit=WAITERS_SHOWN_MAX)
        return held, first, records.count(*waiting)

    def all_held(
        self, records: Records, namespace: str, prefix: str
    ) -> Iterator[tuple[str, KeyValue, int]]:
        """Read the queues that somebody holds: name, the holder's record, how many wait."""
        for held in records.scan(*self.holders(namespace, prefix)):
            name = str(systemkey.unpack(held.key)[3])
            yield name, held, records.count(*self.waiters(namespace, name))

    def state(self, records: Records, namespace: str, name: str, ticket: str) -> TicketState:
        """Tell where a ticket stands."""
        held = records.get(self.holder_key(namespace, name))
        record = records.get(self.ticket_key(namespace, name, ticket))
        position = 0
        if record is not None:
            order = tickets.decode_ticket(record.value).order
            start, _ = self.waiters(namespace, name)
            end = systemkey.pack(namespace, self.domain, "waiter", name, order)
            position = min(records.count(start, end) + 1, POSITION_MAX)
        return tickets.ticket_state(held, record, ticket, position)
