"""Operations: what the API does with each kind of request.

An operation is declared once, by the room that owns it, and served everywhere: over the
WebSocket, over HTTP, in both codecs. There are three kinds:

* a `Change` becomes a command in the replicated log;
* a `Query` reads the state, now or at a past revision;
* a `Live` operation talks to the connection itself: streams, keepalives, the greeting.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from coordinator.replica.domain import Records

if TYPE_CHECKING:
    from fastapi import APIRouter

    from coordinator.api.connection import Connection
    from coordinator.replica.domain import Domain

KeyRange = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, and from where.

    Attributes:
        actor: The user's name, empty while authentication is off.
        origin: The address of the peer, ``host:port``.
        client: Client id given by the greeting, 0 for plain HTTP.
        auth_revision: The revision of users and roles at which it proved to be that user.
        scope: What limits it beside what the user may: ``role:NAME`` or ``key:ID``, or empty.
        expires_ms: Unix time from which on it has to prove it again; 0 for never.
        is_login: Whether it came with the token of a login to this cluster.
    """

    actor: str = ""
    origin: str = ""
    client: int = 0
    auth_revision: int = 0
    scope: str = ""
    expires_ms: int = 0
    is_login: bool = False

    def greeted(self, client: int) -> Caller:
        """Give the same caller with the client id that the greeting gave it."""
        return replace(self, client=client)


def chosen_id(caller: Caller, request_id: int) -> int:
    """Choose an id for something that a request creates.

    Returns:
        A positive int63 of 16 hexadecimal digits, so that ids line up where people read them.
        It depends on the client and the request only, so that a retry chooses the same; for
        plain HTTP, which has no request ids, it is random.
    """
    if not caller.client:
        return 1 << 61 | secrets.randbits(61)
    seed = caller.client.to_bytes(8, "big") + request_id.to_bytes(8, "big")
    return 1 << 61 | int.from_bytes(hashlib.blake2b(seed, digest_size=8).digest(), "big") >> 3


class View(Records, Protocol):
    """The system keyspace at one revision, and which one it is."""

    revision: int


@dataclass(frozen=True)
class Change:
    """A request that becomes a command.

    Attributes:
        check: Raises `InvalidRequest` for a request that can never be right. Runs before the
            request reaches the log, so that nothing wrong is ever in it.
        prepare: Fills what only the edge may decide, such as a new id, in place. Given the
            request, the caller and the request's id (0 for plain HTTP). A retry of a request
            must give the same command again, or it is refused as another one: choose ids
            with `chosen_id`, never by chance alone.
        after: Called on the connection once the change is applied, with the request's id,
            the request and the result, before the answer leaves; opens streams that follow.
        instead: Called first; True if it serves the request itself, without the log.
        before: Awaited before the change is proposed, once its caller may ask for it: fills in
            place what takes time, such as the hash of a password. What it returns, if anything,
            makes the result that the client is told from the one that is kept.
    """

    check: Callable[[Any], None] | None = None
    prepare: Callable[[Any, Caller, int], None] | None = None
    after: Callable[[Connection, int, Any, Any], None] | None = None
    instead: Callable[[Connection, int, Any], bool] | None = None
    before: Callable[[Connection, int, Any], Awaitable[Callable[[Any], Any] | None]] | None = None


@dataclass(frozen=True)
class Query:
    """A request that reads.

    Attributes:
        answer: Computes the result from the view.
        check: As for `Change`.
        ranges: The system keys that ``answer`` reads, needed to read them at a past
            revision; such a request carries the revision in its field ``revision``.
    """

    answer: Callable[[View, Any], Any]
    check: Callable[[Any], None] | None = None
    ranges: Callable[[Any], list[KeyRange]] | None = None


@dataclass(frozen=True)
class Live:
    """A request that the connection itself serves.

    Attributes:
        serve: Given the connection, the request's id and the request; answers through the
            connection, at once or later.
        check: As for `Change`.
        at_once: Whether it is served without waiting for a state that is surely new enough to
            judge by, if the caller may by the one at hand: streams, which are judged again
            whenever users or roles change, and what must work without a leader.
        judges_itself: Whether ``serve`` asks by itself whether the caller may, or everybody may.
        fresh: Whether it is served once this member knows what was acknowledged before it came,
            as a `Query` is.
    """

    serve: Callable[[Connection, int, Any], None]
    check: Callable[[Any], None] | None = None
    at_once: bool = False
    judges_itself: bool = False
    fresh: bool = False


Operation = Change | Query | Live


@dataclass(frozen=True)
class DomainApi:
    """A domain as the API sees it: its operations by request type, and its HTTP routes."""

    domain: Domain
    operations: Mapping[type[Any], Operation]
    router: APIRouter
