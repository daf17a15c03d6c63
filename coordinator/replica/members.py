"""The members of the group, as they made themselves known through the log."""

from __future__ import annotations

from msgspec import Struct


class Member(Struct, array_like=True):
    """A member.

    Attributes:
        member: Its id.
        name: What people call it.
        client_urls: Where it serves clients.
        data_directory: Id of the directory it is bound to;
            0 as long as it has not made itself known.
        format: Newest command format it can read.
        peer_urls: Where the other members reach it.
        promote_when_ready: Whether the leader makes a voter of it once it has caught up.
    """

    member: int
    name: str
    client_urls: list[str]
    data_directory: int
    format: int
    peer_urls: list[str] = []
    promote_when_ready: bool = False

    @property
    def is_started(self) -> bool:
        """Whether it has taken part: only then is it bound to a directory."""
        return self.data_directory != 0
