"""The members of the group, as they made themselves known through the log."""

from __future__ import annotations

from msgspec import Struct


class Member(Struct, array_like=True):
    """A member.

    Attributes:
        member: Its id.
        name: What people call it.
        client_urls: Where it serves clients.
        data_directory: Id of the directory it is bound to.
        format: Newest command format it can read.
    """

    member: int
    name: str
    client_urls: list[str]
    data_directory: int
    format: int
