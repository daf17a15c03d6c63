"""Tickets at the edge: naming them, asking for their state, following it as a stream.

A waiter costs the hub one watch of exactly its ticket's key, which changes when the ticket
is granted or ends, and at no other time. Following a grant watches the holder's key besides.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from coordinator.api.holdings import admit_record
from coordinator.api.reading import NowView
from coordinator.api.registry import Caller, KeyRange, chosen_id
from coordinator.keyspace import SYSTEM
from coordinator.replica.tickets import decode_ticket, ticket_state
from coordinator.sessions import records
from coordinator_sdk.errors import InvalidRequest
from coordinator_sdk.protocol.kv import Watch, WatchCancelled
from coordinator_sdk.protocol.tickets import EXPIRED, GRANTED, QUEUED, RELEASED, TicketState

if TYPE_CHECKING:
    from coordinator.api.connection import Connection
    from coordinator.keyspace.watcher import EncodedBatch
    from coordinator.replica.queues import Queues

SESSION_ENDED = "the session has ended"


class Follower:
    """Tells a client the states of one ticket; the hub delivers to it, the client steers it.

    Args:
        connection: Whom to tell.
        id: The request that opened the stream.
        queues: Those that the ticket belongs to.
        request: What names the ticket.
        state: The last state that the client was told.
        until: The states after which the stream goes on.
    """

    is_full = False

    def __init__(
        self,
        connection: Connection,
        id: int,
        queues: Queues,
        request: Any,
        state: str,
        until: tuple[str, ...],
    ) -> None:
        self._connection = connection
        self._id = id
        self._hub = connection.node.hub
        self._ticket = request.ticket
        self._ticket_key = queues.ticket_key(request.namespace, request.name, request.ticket)
        self._holder_key = queues.holder_key(request.namespace, request.name)
        self._state = state
        self._until = until
        self._session = 0

    def open(self) -> bool:
        """Begin to watch; tells whether the ticket waits, so that nothing is to be told yet."""
        keyspace = self._connection.node.keyspace
        self._watch(0)
        if GRANTED in self._until:
            self._watch(1)
        waits = keyspace.get(SYSTEM, self._ticket_key)
        found = waits or keyspace.get(SYSTEM, self._holder_key)
        self._session = found.lease if found is not None else 0
        return waits is not None and decode_ticket(waits.value).state == QUEUED

    def _watch(self, number: int) -> None:
        """Watch the ticket's key (0), or that of the holder (1)."""
        key = self._holder_key if number else self._ticket_key
        revision = self._connection.node.keyspace.revision + 1
        self._hub.watch(self, number, Watch(key, start_revision=revision, space=SYSTEM))

    def deliver(self, ids: list[int], revision: int, batch: EncodedBatch) -> None:
        """The ticket's record, or the holder's, has changed, or may have."""
        if isinstance(batch.item, WatchCancelled):
            # A snapshot took the place of the state, without the history in between.
            for number in ids:
                self._watch(number)
        try:
            self.tell()
        except Exception as error:
            self._connection.break_off([self._id], error)

    def tell(self) -> None:
        """Tell the state if it is another one, and end the stream if that is the last."""
        state = self._now()
        if state.state == self._state or self._connection.is_closed:
            return
        self._state = state.state
        self._connection.send([self._id], state)
        if state.state not in self._until:
            self.cancel()
            self._connection.close_stream(self._id)

    def _now(self) -> TicketState:
        keyspace = self._connection.node.keyspace
        record = keyspace.get(SYSTEM, self._ticket_key)
        holder = keyspace.get(SYSTEM, self._holder_key)
        state = ticket_state(holder, record, self._ticket)
        if state.state == RELEASED and not state.reason and self._session:
            if keyspace.get(SYSTEM, records.key(self._session)) is None:
                state.reason = SESSION_ENDED
                if self._state == QUEUED:
                    state.state = EXPIRED
        return state

    def cancel(self) -> None:
        """The client wants no more, or is gone; the ticket lives on."""
        self._hub.remove(self)

    def credit(self, amount: int) -> None:
        """Nothing depends on credit: there are few states."""


class TicketApi:
    """How the tickets of one domain are served.

    Args:
        queues: Where the records of the domain lie.
    """

    def __init__(self, queues: Queues) -> None:
        self._queues = queues

    def follow_wait(
        self, connection: Connection, id: int, request: Any, state: TicketState
    ) -> None:
        """After a request that has to wait, and wants to be told: tell how the wait ends."""
        if not request.follow or state.state != QUEUED:
            return
        follower = Follower(connection, id, self._queues, request, QUEUED, (QUEUED,))
        connection.open_stream(id, follower, request, is_admitted=True)
        if not follower.open():
            # A retry is answered with the outcome of the first try; the grant has come since.
            asyncio.get_running_loop().call_soon(follower.tell)

    def serve(self, connection: Connection, id: int, request: Any) -> None:
        """Tell the state of a ticket, and on request what becomes of it."""
        view = NowView(connection.node.keyspace)
        state = self._queues.state(view, request.namespace, request.name, request.ticket)
        if request.follow and state.state in (QUEUED, GRANTED):
            until = (QUEUED, GRANTED)
            follower = Follower(connection, id, self._queues, request, state.state, until)
            connection.open_stream(id, follower, request)
            follower.open()
        connection.answer(id, view.revision, state)

    def ranges_of_one(self, request: Any) -> list[KeyRange]:
        """Give what is read to show the queue that a request names."""
        key = self._queues.holder_key(request.namespace, request.name)
        return [(key, key + b"\0"), self._queues.waiters(request.namespace, request.name)]

    def ranges_of_all(self, request: Any) -> list[KeyRange]:
        """Give what is read to list the queues whose name starts with the request's prefix."""
        return [
            self._queues.holders(request.namespace, request.prefix),
            self._queues.every_waiter(request.namespace, request.prefix),
        ]


def name_ticket(request: Any, caller: Caller, id: int) -> None:
    """Name the ticket of a request after the request, so that a retry finds it."""
    if not request.ticket:
        named = f"{caller.client:x}.{id:x}" if caller.client else f"{chosen_id(caller, id):016x}"
        request.ticket = named


def admit_ticket(connection: Connection, id: int, request: Any) -> bool:
    """Refuse a ticket that may not be taken, or not be followed, while it is not taken yet.

    Used as ``instead`` of a `Change`: it never serves the request itself.

    Raises:
        Exhausted: The user has too much, or the connection too many streams.
        InvalidRequest: The id names an open stream already.
    """
    if request.follow:
        connection.admit_stream(id)
    return admit_record(connection, id, request)


def check_session(request: Any) -> None:
    """Refuse what names no session for the ticket to hang on.

    Raises:
        InvalidRequest: It names none.
    """
    if not request.session:
        raise InvalidRequest("session: must name a session", field="session")
