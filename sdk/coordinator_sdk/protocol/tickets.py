"""Tickets: the answer to a call that may have to wait (acquire, campaign).

A ticket lives in the cluster, not on a connection. Its state is read, watched and
cancelled by its id; asking again with the same id returns its current state.
"""

from __future__ import annotations

from msgspec import Struct

QUEUED = "queued"
GRANTED = "granted"
CANCELLED = "cancelled"
EXPIRED = "expired"
"""The ticket's deadline passed, or its session ended, before the grant."""
RELEASED = "released"
"""The grant has ended; ``reason`` says how."""


class TicketState(Struct, array_like=True):
    """Where a ticket stands.

    Attributes:
        ticket: Its id.
        state: ``queued``, ``granted``, ``cancelled``, ``expired`` or ``released``.
        token: Fencing token, if granted; 0 otherwise.
        position: Place in the queue, 1 for the next to be granted; 0 if not queued.
        reason: Why it ended, if it did not end by its owner's wish.
    """

    ticket: str
    state: str
    token: int = 0
    position: int = 0
    reason: str = ""
