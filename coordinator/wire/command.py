"""Commands: what the data of a normal log entry holds.

One command is one entry. A client's change is the very struct that the client sent; the
structs below are the commands that members propose on their own. A change of the members is an
entry of its own kind, whose context is the envelope.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar, Union

import msgspec
from msgspec import Struct

from coordinator_sdk.protocol.kv import Id

FORMAT = 1
"""Version of the envelope and of the meaning of its fields."""

Body = TypeVar("Body")


class Envelope(Struct, Generic[Body], array_like=True):
    """A command with all that its application may depend on.

    Attributes:
        format: `FORMAT` of the proposer.
        client: Client id of the request; 0 if it carries none.
        sequence: Number of the request, unique for the life of the client.
        floor: The client no longer asks for outcomes below this number.
        actor: Who asked: a user name, or empty.
        origin: From where: an address, or the member itself.
        cause: Why, for commands that members propose.
        trace: W3C trace parent, or empty.
        clock_ms: The leader's wall clock when it proposed; never runs backwards.
        body: The command itself.
        auth_revision: The revision of users and roles at which the actor proved to be itself.
        scope: What the actor is limited to: one of its roles, or what an API key allows.
    """

    format: int
    client: int
    sequence: int
    floor: int
    actor: str
    origin: str
    cause: str
    trace: str
    clock_ms: int
    body: Body
    auth_revision: int = 0
    scope: str = ""


class LeaseExpire(Struct, array_like=True, tag="leases.expire"):
    """End a lease whose time has passed; void if proposed in another term.

    ``granted`` is the index of the entry that granted the lease: one that was granted anew
    under the same id while this was on its way is another lease.
    """

    lease: Id
    term: int
    granted: int


class LeaseContinue(Struct, array_like=True, tag="leases.continue"):
    """Run the next hooks for the records that ended leases left behind."""


class TimerFire(Struct, array_like=True, tag="timers.fire"):
    """Run a timer; void if its generation has changed meanwhile."""

    key: bytes
    generation: int


class Sweep(Struct, array_like=True, tag="kv.sweep"):
    """Drop superseded versions below the compact revision."""


class MemberPublish(Struct, array_like=True, tag="members.publish"):
    """A member makes itself known: name, addresses, data directory, newest format.

    ``peer_urls`` is for a member that nobody gave any: those in the table stay otherwise.
    """

    member: Id
    name: str
    client_urls: list[str]
    data_directory: Id
    format: int = FORMAT
    peer_urls: list[str] = []


class QuotaSet(Struct, array_like=True, tag="kv.quota"):
    """Set the quota of the keyspace, in bytes."""

    quota_bytes: int


class AlarmSet(Struct, array_like=True, tag="alarms.set"):
    """Raise or clear an alarm of a member."""

    member: Id
    alarm: str
    active: bool


class TokenKeyAdd(Struct, array_like=True, tag="auth.token_key"):
    """Sign tokens with another secret from now on, where the configuration names no key."""

    name: str
    secret: bytes

    def __repr__(self) -> str:
        return f"TokenKeyAdd(name={self.name!r}, secret=***)"


class UnknownCommand(Exception):
    """The log holds a command that this program does not know: it must not go on."""


class CommandCodec:
    """Encodes and decodes envelopes over a closed set of command types."""

    def __init__(self, bodies: Sequence[type[Any]]) -> None:
        self._encode: Callable[[Envelope[Any]], bytes] = msgspec.msgpack.Encoder().encode
        self._decode: Callable[[bytes], Envelope[Any]] = msgspec.msgpack.Decoder(
            Envelope[Union[tuple(bodies)]]  # type: ignore[misc]  # noqa: UP007
        ).decode

    def encode(self, envelope: Envelope[Any]) -> bytes:
        """Encode an envelope as the data of an entry."""
        return self._encode(envelope)

    def decode(self, data: bytes) -> Envelope[Any]:
        """Decode the data of an entry.

        Raises:
            UnknownCommand: The entry was written by a newer program, or is not a command.
        """
        try:
            return self._decode(data)
        except (msgspec.ValidationError, msgspec.DecodeError) as error:
            raise UnknownCommand(f"cannot read a command of the log: {error}") from error
