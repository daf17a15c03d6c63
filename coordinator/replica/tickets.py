"""Fair queues of tickets: one holder, and waiters in the order in which they came.

Locks and elections are both such queues. Everything is in system keys, so it hangs on its
session, has a history, and can be watched:

=====================================  =====================================================
``(ns, domain, holder, name)``          who holds; its create revision is the fencing token
``(ns, domain, waiter, name, order)``   who waits; ``order`` is the revision of the enqueueing
``(ns, domain, ticket, name, ticket)``  how to find a waiter by ticket; later, how it ended
``(ns, domain, owner, name, s, owner)`` that an owner of session ``s`` waits already
=====================================  =====================================================

A holder that lets go, for whatever reason, and the grant to the next waiter are one entry
and one revision: no polling, no herd, first come first served.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from coordinator.replica.domain import DomainTxn, session_record
from coordinator.wire import systemkey
from coordinator_sdk.errors import (
    AlreadyExists,
    GuardFailed,
    NotFound,
    NotHeld,
    WouldDeadlock,
)
from coordinator_sdk.protocol.tickets import (
    CANCELLED,
    EXPIRED,
    GRANTED,
    QUEUED,
    RELEASED,
    TicketState,
)

if TYPE_CHECKING:
    from coordinator.replica.permission import Records
    from coordinator_sdk.protocol.kv import Guard, KeyValue

ENDED_TICKET_KEPT_MS = 60_000
"""How long the end of a ticket that was not granted, or was broken, stays readable."""
POSITION_MAX = 1000
"""Positions beyond this are reported as this."""


class Holder(Struct, array_like=True):
    """Who holds. ``value`` is what a leader proclaims."""

    owner: str
    ticket: str
    since_ms: int
    reason: str
    application: str
    host: str
    pid: int
    value: bytes


class Waiter(Struct, array_like=True):
    """Who waits."""

    owner: str
    ticket: str
    since_ms: int
    timeout_ms: int | None
    reason: str
    application: str
    host: str
    pid: int
    value: bytes


class TicketRecord(Struct, array_like=True):
    """Where a ticket's waiter is, or how the ticket ended."""

    state: str
    order: int
    reason: str


_encode = msgspec.msgpack.Encoder().encode
decode_holder = msgspec.msgpack.Decoder(Holder).decode
decode_waiter = msgspec.msgpack.Decoder(Waiter).decode
decode_ticket = msgspec.msgpack.Decoder(TicketRecord).decode


@lru_cache(maxsize=4096)
def holder_key(domain: str, namespace: str, name: str) -> bytes:
    """Give the key of the holder record."""
    return systemkey.pack(namespace, domain, "holder", name)


def ticket_key(domain: str, namespace: str, name: str, ticket: str) -> bytes:
    """Give the key of a ticket record."""
    return systemkey.pack(namespace, domain, "ticket", name, ticket)


@lru_cache(maxsize=4096)
def queue_range(domain: str, namespace: str, name: str) -> tuple[bytes, bytes]:
    """Give the range of the records of those who wait, in their order."""
    return systemkey.children(namespace, domain, "waiter", name)


def ticket_state(
    holder: KeyValue | None, record: KeyValue | None, ticket: str, position: int = 0
) -> TicketState:
    """Tell where a ticket stands.

    Args:
        holder: The holder record of the queue, if any.
        record: The ticket record, if any.
        ticket: The ticket.
        position: Its place in the queue, if known.
    """
    if record is not None:
        found = decode_ticket(record.value)
        if found.state == QUEUED:
            return TicketState(ticket, QUEUED, position=position)
        return TicketState(ticket, found.state, reason=found.reason)
    if holder is not None and decode_holder(holder.value).ticket == ticket:
        return TicketState(ticket, GRANTED, token=holder.create_revision)
    return TicketState(ticket, RELEASED)


def check_guard(txn: DomainTxn, guard: Guard) -> None:
    """Let a guarded write pass only while its holder record lives.

    Raises:
        GuardFailed: The token is not the live one, or belongs to somebody else.
    """
    record = txn.get(holder_key(guard.kind, guard.namespace, guard.name))
    if (
        record is None
        or record.create_revision != guard.token
        or record.lease != guard.session
        or decode_holder(record.value).owner != guard.owner
    ):
        raise GuardFailed(
            f"the fencing token {guard.token} of {guard.kind}/{guard.namespace}/{guard.name} "
            "is not the live one; nothing was written",
            name=guard.name,
            token=guard.token,
            live_token=record.create_revision if record else 0,
        )


def owner_of(records: Records, request: Any) -> list[int]:
    """Give the session that a request names, for which only its user may ask."""
    return [request.session]


class TicketQueue:
    """The queue logic of one domain."""

    def __init__(self, domain: str) -> None:
        self.domain = domain

    def enqueue(
        self,
        txn: DomainTxn,
        namespace: str,
        name: str,
        session: int,
        waiter: Waiter,
    ) -> TicketState:
        """Grant at once or join the queue; with a known ticket, tell its state.

        ``waiter`` carries owner, ticket, timeout, reason and value; the rest is filled here.

        Raises:
            SessionNotFound: The session has ended.
            AlreadyExists: The ticket belongs to another session.
            WouldDeadlock: This owner already holds or awaits it.
        """
        opener = session_record(txn, session)
        held = txn.get(holder_key(self.domain, namespace, name))
        known = self._known(txn, namespace, name, session, waiter, held)
        if known is not None:
            return known
        owner_key = systemkey.pack(namespace, self.domain, "owner", name, session, waiter.owner)
        if (
            held and held.lease == session and decode_holder(held.value).owner == waiter.owner
        ) or txn.get(owner_key):
            raise WouldDeadlock(
                f"owner {waiter.owner!r} already holds or awaits {name!r}", name=name
            )
        if held is None:
            # The holder's session has ended, but its hook is still to run: who waits is first.
            held = self._grant_first(txn, namespace, name)
        waiter.since_ms = txn.meta.clock_ms
        waiter.application, waiter.host, waiter.pid = opener.application, opener.host, opener.pid
        if held is None:
            granted = self._grant(txn, namespace, name, session, waiter)
            return TicketState(waiter.ticket, GRANTED, token=granted.create_revision)
        if waiter.timeout_ms is not None and waiter.timeout_ms <= 0:
            return TicketState(waiter.ticket, EXPIRED, reason="held by another owner")
        return self._wait(txn, namespace, name, session, waiter, owner_key)

    def _known(
        self,
        txn: DomainTxn,
        namespace: str,
        name: str,
        session: int,
        waiter: Waiter,
        held: KeyValue | None,
    ) -> TicketState | None:
        """Tell the state of the ticket if it exists; a ticket belongs to one session."""
        record = txn.get(ticket_key(self.domain, namespace, name, waiter.ticket))
        if record is not None:
            session_of = record.lease
        elif held is not None and decode_holder(held.value).ticket == waiter.ticket:
            session_of = held.lease
        else:
            return None
        if session_of != session:
            raise AlreadyExists(
                f"ticket {waiter.ticket!r} of {name!r} belongs to another session", name=name
            )
        return self._state(txn, namespace, name, waiter.ticket, held, record)

    def _wait(
        self,
        txn: DomainTxn,
        namespace: str,
        name: str,
        session: int,
        waiter: Waiter,
        owner_key: bytes,
    ) -> TicketState:
        order = txn.revision
        key = systemkey.pack(namespace, self.domain, "waiter", name, order)
        record = TicketRecord(QUEUED, order, "")
        txn.put(key, _encode(waiter), session)
        txn.put(ticket_key(self.domain, namespace, name, waiter.ticket), _encode(record), session)
        txn.put(owner_key, b"", session)
        if waiter.timeout_ms is not None:
            txn.set_timer(key, waiter.timeout_ms)
        start, _ = queue_range(self.domain, namespace, name)
        position = txn.count(start, key, POSITION_MAX) + 1
        return TicketState(waiter.ticket, QUEUED, position=position)

    def _grant(
        self, txn: DomainTxn, namespace: str, name: str, session: int, waiter: Waiter
    ) -> KeyValue:
        holder = Holder(
            waiter.owner,
            waiter.ticket,
            txn.meta.clock_ms,
            waiter.reason,
            waiter.application,
            waiter.host,
            waiter.pid,
            waiter.value,
        )
        key = holder_key(self.domain, namespace, name)
        return txn.put(key, _encode(holder), session)

    def state(self, txn: DomainTxn, namespace: str, name: str, ticket: str) -> TicketState:
        """Tell where a ticket stands."""
        held = txn.get(holder_key(self.domain, namespace, name))
        record = txn.get(ticket_key(self.domain, namespace, name, ticket))
        return self._state(txn, namespace, name, ticket, held, record)

    def _state(
        self,
        txn: DomainTxn,
        namespace: str,
        name: str,
        ticket: str,
        held: KeyValue | None,
        record: KeyValue | None,
    ) -> TicketState:
        position = 0
        if record is not None and (found := decode_ticket(record.value)).state == QUEUED:
            start, _ = queue_range(self.domain, namespace, name)
            end = systemkey.pack(namespace, self.domain, "waiter", name, found.order)
            position = txn.count(start, end, POSITION_MAX) + 1
        return ticket_state(held, record, ticket, position)

    def held_by(
        self, txn: DomainTxn, namespace: str, name: str, session: int, owner: str, token: int
    ) -> KeyValue:
        """Give the holder record if it is that of this session, owner and token.

        Raises:
            NotHeld: It is not.
        """
        held = txn.get(holder_key(self.domain, namespace, name))
        if (
            held is None
            or held.create_revision != token
            or held.lease != session
            or decode_holder(held.value).owner != owner
        ):
            raise NotHeld(
                f"{name!r} is not held with token {token} by this session and owner",
                name=name,
                token=token,
                live_token=held.create_revision if held else 0,
            )
        return held

    def release(
        self, txn: DomainTxn, namespace: str, name: str, session: int, owner: str, token: int
    ) -> None:
        """Let go, and grant the next waiter.

        Raises:
            NotHeld: The caller does not hold it with this token.
        """
        self.held_by(txn, namespace, name, session, owner, token)
        self._let_go(txn, namespace, name)

    def force_release(
        self, txn: DomainTxn, namespace: str, name: str, token: int, reason: str
    ) -> None:
        """Take it from its holder; the holder's ticket then says why.

        Raises:
            NotFound: Nobody holds it.
            NotHeld: Somebody holds it, but not with ``token`` (0 means any).
        """
        held = txn.get(holder_key(self.domain, namespace, name))
        if held is None:
            raise NotFound(f"nobody holds {name!r}", name=name)
        if token not in (0, held.create_revision):
            raise NotHeld(f"{name!r} is not held with token {token}", name=name, token=token)
        ticket = decode_holder(held.value).ticket
        self._end_ticket(txn, namespace, name, ticket, RELEASED, reason, held.lease)
        self._let_go(txn, namespace, name)

    def cancel(self, txn: DomainTxn, namespace: str, name: str, ticket: str) -> bool:
        """Withdraw a ticket: leave the queue, or let go if it is granted already.

        Returns:
            False if there is no such ticket.
        """
        held = txn.get(holder_key(self.domain, namespace, name))
        if held is not None and decode_holder(held.value).ticket == ticket:
            self._let_go(txn, namespace, name)
            return True
        record = txn.get(ticket_key(self.domain, namespace, name, ticket))
        if record is None or (found := decode_ticket(record.value)).state != QUEUED:
            return False
        self._leave(txn, namespace, name, found.order, CANCELLED, "cancelled")
        return True

    def owners(self, records: Records, request: Any) -> list[int]:
        """Give the sessions that a ticket hangs on; none if there is no such ticket."""
        namespace, name, ticket = request.namespace, request.name, request.ticket
        held = records.get(holder_key(self.domain, namespace, name))
        found = records.get(ticket_key(self.domain, namespace, name, ticket))
        sessions = [] if found is None else [found.lease]
        if held is not None and decode_holder(held.value).ticket == ticket:
            sessions.append(held.lease)
        return sessions

    def on_timer(self, txn: DomainTxn, key: bytes) -> None:
        """A waiter's deadline has passed, or an ended ticket may be forgotten."""
        namespace, _, kind, name, last = systemkey.unpack(key)
        if kind == "waiter":
            self._leave(txn, str(namespace), str(name), int(last), EXPIRED, "timeout")
        elif kind == "ticket":
            txn.delete(key)

    def on_lease_end(self, txn: DomainTxn, record: KeyValue) -> None:
        """A session has ended and taken this record along."""
        namespace, _, kind, name, *_ = systemkey.unpack(record.key)
        if kind == "holder" and txn.get(record.key) is None:
            self._grant_first(txn, str(namespace), str(name))
        elif kind in ("waiter", "ticket"):
            txn.cancel_timer(record.key)

    def _let_go(self, txn: DomainTxn, namespace: str, name: str) -> None:
        txn.delete(holder_key(self.domain, namespace, name))
        self._grant_first(txn, namespace, name)

    def _grant_first(self, txn: DomainTxn, namespace: str, name: str) -> KeyValue | None:
        """Grant what nobody holds to the first waiter, if there is one; gives who holds then."""
        start, end = queue_range(self.domain, namespace, name)
        first = txn.scan(start, end, limit=1)
        if not first:
            return None
        waiter = decode_waiter(first[0].value)
        self._forget(txn, namespace, name, first[0], waiter)
        txn.delete(ticket_key(self.domain, namespace, name, waiter.ticket))
        return self._grant(txn, namespace, name, first[0].lease, waiter)

    def _leave(
        self, txn: DomainTxn, namespace: str, name: str, order: int, state: str, reason: str
    ) -> None:
        key = systemkey.pack(namespace, self.domain, "waiter", name, order)
        record = txn.get(key)
        if record is None:
            return
        waiter = decode_waiter(record.value)
        self._forget(txn, namespace, name, record, waiter)
        self._end_ticket(txn, namespace, name, waiter.ticket, state, reason, record.lease)

    def _forget(
        self, txn: DomainTxn, namespace: str, name: str, record: KeyValue, waiter: Waiter
    ) -> None:
        txn.delete(record.key)
        txn.delete(
            systemkey.pack(namespace, self.domain, "owner", name, record.lease, waiter.owner)
        )
        txn.cancel_timer(record.key)

    def _end_ticket(
        self,
        txn: DomainTxn,
        namespace: str,
        name: str,
        ticket: str,
        state: str,
        reason: str,
        session: int,
    ) -> None:
        """Keep the end readable for a while; it still goes with its session."""
        key = ticket_key(self.domain, namespace, name, ticket)
        txn.put(key, _encode(TicketRecord(state, 0, reason)), session)
        txn.set_timer(key, ENDED_TICKET_KEPT_MS)
