"""The request table: what makes a retried call apply once.

Every change may carry a request id: the client's id, given through the log, and a sequence
number that the client never uses twice. The table keeps the outcome of each, so a retry gets
the outcome of the first try and applies nothing. It is replicated state.
"""

from __future__ import annotations

import zlib
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Raw, Struct

from coordinator_sdk.errors import NotApplied, OutcomeUnknown, RequestReused
from coordinator_sdk.protocol.kv import PutResult

if TYPE_CHECKING:
    from collections.abc import Generator

RECORDS_PER_CLIENT = 256
CLIENTS_MAX = 100_000
RESULT_BYTES_MAX = 4096


class Outcome(Struct, gc=False):
    """What became of a command.

    Attributes:
        revision: The revision of the change, or the current one if nothing changed.
        result: The result struct, or None.
        error: The error raised, if any: code, message, details.
        pending: Ranges of the past in ``result`` whose values are still to be fetched, or None.
        is_fleeting: Whether the result depends on what lies in memory, and must not be kept.
    """

    revision: int
    result: Any = None
    error: tuple[str, str, dict[str, Any]] | None = None
    pending: list[Any] | None = None
    is_fleeting: bool = False


class StoredOutcome(Struct):
    """An outcome as the table keeps it.

    Attributes:
        body: The command, until `settle` has put its digest and tag in its place.
        truncated: Whether the result was too large to keep.
    """

    body: Any
    digest: int
    tag: str
    revision: int
    error: tuple[str, str, dict[str, Any]] | None
    truncated: bool
    result: Any

    def settle(self) -> None:
        """Let go of the command.

        Most outcomes are forgotten before anybody asks what they were the outcome of, so that is
        not worked out before the row is stored.
        """
        if self.body is not None:
            self.digest = digest_of(self.body)
            self.tag = type(self.body).__struct_config__.tag
            self.body = None


class ClientRow(Struct, array_like=True):
    """A client's row in the state database. ``actor`` is the user that it belongs to, if any."""

    floor: int
    last_index: int
    records: list[tuple[int, int, str, int, tuple[str, str, dict[str, Any]] | None, bool, Raw]]
    actor: str = ""


class _Client:
    __slots__ = ("actor", "floor", "last_index", "records")

    def __init__(self, floor: int, last_index: int, actor: str = "") -> None:
        self.actor = actor
        self.floor = floor
        self.last_index = last_index
        self.records: dict[int, StoredOutcome] = {}


_encode = msgspec.msgpack.Encoder().encode
_decode_row = msgspec.msgpack.Decoder(ClientRow).decode


def digest_of(body: object) -> int:
    """Tell two commands apart: a checksum of the command's encoding."""
    return zlib.crc32(_encode(body))


class RequestTable:
    """Outcomes by client and sequence number.

    Args:
        result_types: The result type of each command, by the command's tag; needed to give
            back results after a restart.
    """

    def __init__(self, result_types: dict[str, Any]) -> None:
        self._clients: dict[int, _Client] = {}
        self._result_types = result_types
        self._changed: dict[int, None] = {}
        self._newest = 0
        """The client used last, which is the last of ``_clients``."""

    def __len__(self) -> int:
        return len(self._clients)

    def knows(self, client: int) -> bool:
        """Tell whether a client is registered."""
        return client in self._clients

    def has(self, client: int, sequence: int) -> bool:
        """Tell whether the outcome of a request of a client is kept."""
        known = self._clients.get(client)
        return known is not None and sequence in known.records

    def register(self, client: int, index: int, actor: str = "") -> bool:
        """Make a client known; False if it was known.

        The id of another user's client is given away with nothing behind it.
        """
        known = self._clients.get(client)
        if known is not None:
            if not actor or known.actor in ("", actor):
                return False
            del self._clients[client]
        self._clients[client] = _Client(0, index, actor)
        self._newest = client
        self._changed[client] = None
        if len(self._clients) > CLIENTS_MAX:
            oldest = next(iter(self._clients))
            del self._clients[oldest]
            self._changed[oldest] = None
        return True

    def find(
        self, client: int, sequence: int, body: object, floor: int = 0, actor: str = ""
    ) -> StoredOutcome | None:
        """Look for an earlier try of this request.

        Args:
            client: The client's id.
            sequence: Number of the request.
            body: The command.
            floor: The client no longer asks for outcomes below this number.
            actor: The user that asks; empty while authentication is off.

        Returns:
            Its outcome, or None if this is the first try.

        Raises:
            OutcomeUnknown: The client is not, or no longer, known, or is another user's.
            RequestReused: The number is below the client's floor, or was used for another
                command.
            NotApplied: The client has too many changes in flight.
        """
        known = self._clients.get(client)
        if known is not None and actor and not known.actor:
            known.actor = actor
            self._changed[client] = None
        if known is None or (actor and known.actor != actor):
            raise OutcomeUnknown(
                "this client is not known to the cluster (any more): whether an earlier try of "
                "the request was applied can't be told",
                client=f"{client:016x}",
            )
        records = known.records
        stored = records.get(sequence)
        if stored is None:
            if sequence < known.floor:
                raise RequestReused(
                    f"request {sequence} is below the floor {known.floor} of its client",
                    sequence=sequence,
                    floor=known.floor,
                )
            if len(records) >= RECORDS_PER_CLIENT and _is_full(records, floor):
                raise NotApplied("too many changes of this client are in flight", limit="in_flight")
            return None
        stored.settle()
        if stored.digest != digest_of(body):
            raise RequestReused(
                f"request {sequence} was used before for another command", sequence=sequence
            )
        return stored

    def record(
        self, client: int, sequence: int, floor: int, body: Any, outcome: Outcome, index: int
    ) -> None:
        """Keep an outcome, and forget those below the floor."""
        known = self._clients[client]
        if client != self._newest:
            # Taken out and put back, so that the order of the dict is that of last use.
            self._clients[client] = self._clients.pop(client)
            self._newest = client
        known.last_index = index
        if floor > known.floor:
            known.floor = floor
            _forget_below(known.records, floor)
        result, truncated = (None, True) if outcome.is_fleeting else _bounded(outcome.result)
        known.records[sequence] = StoredOutcome(
            body, 0, "", outcome.revision, outcome.error, truncated, result
        )
        self._changed[client] = None

    def dump_changes(self) -> dict[int, bytes | None]:
        """Give the rows that changed since the last call; None for a forgotten client."""
        changed, self._changed = self._changed, {}
        rows: dict[int, bytes | None] = {}
        for client in changed:
            known = self._clients.get(client)
            rows[client] = None if known is None else _encode(_row_of(known))
        return rows

    def load(self, rows: list[tuple[int, bytes]]) -> None:
        """Take in the rows of the state database, in any order."""
        for _ in self.load_steps(rows, len(rows) + 1):
            """Nothing else is to be done between slices."""

    def load_steps(
        self, rows: list[tuple[int, bytes]], slice_rows: int
    ) -> Generator[None, None, None]:
        """Do what `load` does, pausing after every ``slice_rows`` rows."""
        decoded: list[tuple[int, int, ClientRow]] = []
        for number, (client, data) in enumerate(rows, 1):
            row = _decode_row(data)
            decoded.append((row.last_index, client, row))
            if number % slice_rows == 0:
                yield
        decoded.sort(key=itemgetter(0, 1))
        for number, (_, client, row) in enumerate(decoded, 1):
            self._take_in(client, row)
            if number % slice_rows == 0:
                yield

    def _take_in(self, client: int, row: ClientRow) -> None:
        known = self._clients[client] = _Client(row.floor, row.last_index, row.actor)
        self._newest = client
        for sequence, digest, tag, revision, error, truncated, raw in row.records:
            kind = self._result_types.get(tag, Any)
            result = None if bytes(raw) == b"\xc0" else msgspec.msgpack.decode(raw, type=kind)
            known.records[sequence] = StoredOutcome(
                None, digest, tag, revision, error, truncated, result
            )

    def clear(self) -> None:
        """Forget every client; used by a restore."""
        for client in self._clients:
            self._changed[client] = None
        self._clients.clear()
        self._newest = 0


def _is_full(records: dict[int, StoredOutcome], floor: int) -> bool:
    """Tell whether a client has its limit of outcomes at or above ``floor``."""
    return sum(1 for sequence in records if sequence >= floor) >= RECORDS_PER_CLIENT


def _forget_below(records: dict[int, StoredOutcome], floor: int) -> None:
    """Drop what the client no longer asks for.

    Numbers stand nearly in order, so looking at the oldest is enough; stragglers go when the
    row is full.
    """
    if len(records) >= RECORDS_PER_CLIENT:
        for number in [number for number in records if number < floor]:
            del records[number]
        return
    while records and (oldest := next(iter(records))) < floor:
        del records[oldest]


def _bounded(result: Any) -> tuple[Any, bool]:
    if result is None or (type(result) is PutResult and result.prev_kv is None):
        return result, False
    if len(_encode(result)) <= RESULT_BYTES_MAX:
        return result, False
    return None, True


def _row_of(known: _Client) -> ClientRow:
    for stored in known.records.values():
        stored.settle()
    return ClientRow(
        known.floor,
        known.last_index,
        [
            (
                sequence,
                stored.digest,
                stored.tag,
                stored.revision,
                stored.error,
                stored.truncated,
                Raw(_encode(stored.result)),
            )
            for sequence, stored in known.records.items()
        ],
        known.actor,
    )
