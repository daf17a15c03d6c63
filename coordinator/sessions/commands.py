"""Opening and closing sessions, as the state machine applies them."""

from __future__ import annotations

from typing import Protocol

from coordinator.sessions import records
from coordinator.sessions.records import SessionRecord
from coordinator_sdk.errors import SessionNotFound
from coordinator_sdk.protocol.kv import KeyValue, LeaseRevokeResult
from coordinator_sdk.protocol.sessions import SessionClose, SessionOpen, SessionOpenResult


class SessionTxn(Protocol):
    """What opening a session needs of the entry that is being applied."""

    def put(self, key: bytes, value: bytes, lease: int = 0) -> KeyValue:
        """Write one system record."""

    def grant_lease(self, lease: int, ttl_ms: int, kind: str) -> int:
        """Create a lease; gives its TTL in milliseconds, which may have been raised."""

    def session_exists(self, session: int) -> bool:
        """Tell whether a lease of kind session lives."""

    def end_lease(self, lease: int) -> LeaseRevokeResult:
        """End a lease and all that hangs on it."""

    def asked_by(self) -> tuple[str, str, int]:
        """Give actor, origin and clock of the entry."""


def apply_open(txn: SessionTxn, command: SessionOpen) -> SessionOpenResult:
    """Open a session: a lease, and the record that says who stands behind it."""
    ttl_ms = txn.grant_lease(command.session, command.ttl_ms, "session")
    actor, origin, clock_ms = txn.asked_by()
    record = SessionRecord(
        command.session,
        ttl_ms,
        command.application,
        command.host,
        command.pid,
        actor,
        origin,
        clock_ms,
        command.metadata,
    )
    txn.put(records.key(command.session), records.encode(record), command.session)
    return SessionOpenResult(command.session, ttl_ms)


def apply_close(txn: SessionTxn, command: SessionClose) -> LeaseRevokeResult:
    """Close a session.

    Raises:
        SessionNotFound: It does not exist, or has ended already.
    """
    if not txn.session_exists(command.session):
        raise SessionNotFound(
            f"session {command.session:016x} does not exist or has ended",
            session=f"{command.session:016x}",
        )
    return txn.end_lease(command.session)
