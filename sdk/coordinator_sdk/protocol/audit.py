"""Audit: who changed what."""

from __future__ import annotations

from msgspec import Struct


class Blame(Struct, array_like=True, tag="cluster.blame"):
    """Ask who changed a key, or what belongs to a lock, a service, a topic or an election.

    Attributes:
        key: The user key, unless ``domain`` is given.
        domain: ``locks``, ``services``, ``topics``, ``elections``, ``discovery``; or ``auth`` for
            users, roles and API keys, by revisions of their own.
        namespace: Where in the domain.
        name: What in the domain.
        limit: The newest so many changes; 0 for as many as one answer may hold.
        before: Only changes of revisions below this one; 0 for all.
    """

    key: bytes = b""
    domain: str = ""
    namespace: str = "default"
    name: str = ""
    limit: int = 0
    before: int = 0


class BlameLine(Struct, array_like=True):
    """One change, and who made it.

    Attributes:
        revision: Its revision.
        kind: ``put`` or ``delete``; ``change`` of users, roles and API keys.
        what: Of a domain's object: the rest of the record's name, such as ``holder``; of users
            and roles: whom and what the change was about.
        actor: The user; empty if authentication was off, or if a member did it by itself.
        origin: The address that the request came from; empty for a member's own doing.
        cause: Why a member did it by itself, such as the end of a lease.
        operation: The operation, such as ``kv.put``.
        trace: W3C trace parent, or empty.
        clock_ms: Unix time by the cluster's clock, exact to a second.
    """

    revision: int
    kind: str
    what: str = ""
    actor: str = ""
    origin: str = ""
    cause: str = ""
    operation: str = ""
    trace: str = ""
    clock_ms: int = 0


class BlameResult(Struct, array_like=True):
    """Answer to `Blame`: the changes in the history, the newest first.

    ``compact_revision`` is where the history begins; ``more``: there are older ones.
    """

    lines: list[BlameLine]
    compact_revision: int = 0
    more: bool = False


REQUESTS = (Blame,)
