"""Discovery: tokens under which the members of a cluster to be find each other."""

from __future__ import annotations

from msgspec import Struct

from .kv import Id

PATH = "/v1/discovery/"
"""What stands before the token in its URL."""


class DiscoveryNew(Struct, array_like=True, tag="discovery.new"):
    """Make a token for a cluster of ``size`` members; it lives for a day.

    ``token`` is 32 hexadecimal digits that nobody can guess; empty lets the server choose.
    """

    namespace: str
    size: int = 3
    token: str = ""


class DiscoveryRegister(Struct, array_like=True, tag="discovery.register"):
    """Come as a member of the cluster to be; answers with a `DiscoveryInfo`.

    The first ``size`` that come are the cluster; whoever comes later is refused. Coming again
    with the same ``member`` keeps the place, and changes name and URLs until the cluster is
    complete.
    """

    namespace: str
    token: str
    member: Id
    name: str
    peer_urls: list[str]


class DiscoveryGet(Struct, array_like=True, tag="discovery.get"):
    """Read a token: who has come."""

    namespace: str
    token: str
    revision: int = 0


class DiscoveryNewResult(Struct, array_like=True):
    """Answer to `DiscoveryNew`."""

    revision: int
    token: str
    size: int


class DiscoveryMember(Struct, array_like=True):
    """A member that has come. ``revision`` is that of its registration: they are in its order."""

    member: Id
    name: str
    peer_urls: list[str]
    revision: int
    registered_ms: int = 0


class DiscoveryInfo(Struct, array_like=True):
    """A token. Times are Unix milliseconds by the cluster's clock.

    ``complete`` says that all have come; ``expires_ms`` is when the token ends at the earliest.
    """

    namespace: str
    token: str
    size: int
    members: list[DiscoveryMember] = []
    complete: bool = False
    created_ms: int = 0
    expires_ms: int = 0


REQUESTS = (DiscoveryNew, DiscoveryRegister, DiscoveryGet)
