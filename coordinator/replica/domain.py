"""What a domain is to the replica, and the view of one log entry that its commands get."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from msgspec import Struct

from coordinator.replica.permission import Rule
from coordinator.sessions import records
from coordinator_sdk.errors import SessionNotFound
from coordinator_sdk.protocol.kv import KeyValue

if TYPE_CHECKING:
    from coordinator.sessions.records import SessionRecord


class Meta(Struct, gc=False):
    """Facts about the entry that is being applied.

    Attributes:
        index: Position in the log.
        term: Term of the entry.
        client: Client id of the request, 0 if none.
        sequence: Number of the request.
        actor: Who asked.
        origin: From where.
        clock_ms: The proposer's wall clock, never running backwards; for timestamps only.
    """

    index: int
    term: int
    client: int
    sequence: int
    actor: str
    origin: str
    clock_ms: int


class Records(Protocol):
    """The system keyspace at one revision, as queries read it."""

    def get(self, key: bytes) -> KeyValue | None:
        """Read one record."""

    def scan(
        self, start: bytes, end: bytes, limit: int = 0, reverse: bool = False
    ) -> list[KeyValue]:
        """Read the records with start <= key < end; ``limit`` 0 means all."""

    def count(self, start: bytes, end: bytes) -> int:
        """Count the records with start <= key < end."""


class DomainTxn(Protocol):
    """The system keyspace, the timers and the sessions, as one entry may change them.

    Every change lands in the one revision of the entry. Reads see the entry's own writes.
    A command reads a bounded number of keys and touches nothing but this.
    """

    meta: Meta
    revision: int
    """The revision that this entry makes, if it changes a key."""

    def get(self, key: bytes) -> KeyValue | None:
        """Read one record."""

    def put(self, key: bytes, value: bytes, lease: int = 0) -> KeyValue:
        """Write one record; ``lease`` ties its life to a lease or session."""

    def delete(self, key: bytes) -> KeyValue | None:
        """Delete one record; gives what was there."""

    def scan(
        self, start: bytes, end: bytes, limit: int = 1000, reverse: bool = False
    ) -> list[KeyValue]:
        """Read up to ``limit`` records with start <= key < end, in (reverse) key order."""

    def count(self, start: bytes, end: bytes, limit: int = 1000) -> int:
        """Count records in the range, giving up at ``limit``."""

    def set_timer(self, key: bytes, duration_ms: int) -> None:
        """Call the domain's ``on_timer`` with ``key`` after that long; replaces a former timer.

        ``key`` is a system key of the domain, existing or not.
        """

    def cancel_timer(self, key: bytes) -> None:
        """Forget a timer, if there is one."""

    def lease_exists(self, lease: int) -> bool:
        """Tell whether a lease (or session) lives."""


@dataclass(frozen=True)
class Domain:
    """A domain as the state machine sees it.

    Attributes:
        name: Second element of the domain's system keys.
        commands: The command type and the function that applies it. The function returns a
            result struct, or raises a `NotApplied` error, after which nothing is changed.
        on_lease_end: Called for each of the domain's records that a lease took along.
        on_timer: Called with the key of a timer that has run out.
        consuming: Commands to refuse while the quota is used up. Whatever gives something
            back, or must work in an emergency, does not belong here.
        rules: What each of the domain's commands and queries needs of whoever asks. What has no
            rule is denied to everybody while authentication is on.
    """

    name: str
    commands: Mapping[type[Any], Callable[[DomainTxn, Any], Any]]
    on_lease_end: Callable[[DomainTxn, KeyValue], None] | None = None
    on_timer: Callable[[DomainTxn, bytes], None] | None = None
    consuming: tuple[type[Any], ...] = ()
    rules: Mapping[type[Any], Rule] = field(default_factory=dict)


def session_record(txn: DomainTxn, session: int) -> SessionRecord:
    """Read a live session.

    Raises:
        SessionNotFound: It does not exist, or has ended.
    """
    record = txn.get(records.key(session))
    if record is None:
        raise SessionNotFound(
            f"session {session:016x} does not exist or has ended", session=f"{session:016x}"
        )
    return records.decode(record.value)
