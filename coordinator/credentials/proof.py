"""What a credential proves."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Proof:
    """Somebody has proved to be a user.

    Attributes:
        user: The user.
        auth_revision: The revision of users and roles at which it did.
        scope: What limits it: see `coordinator.keyspace.deciding`; empty for nothing.
        expires_ms: Unix time from which on it proves nothing; 0 for never.
        began_ms: Unix time of the login that it goes back to; 0 if that is not known.
        is_login: Whether it is by the token of a login to this cluster.
    """

    user: str
    auth_revision: int
    scope: str = ""
    expires_ms: int = 0
    began_ms: int = 0
    is_login: bool = False


class Refused(Exception):
    """A credential proves nothing. Says why, for the log of the member, and never quotes it."""
