"""The cluster: its members and how they stand."""

from __future__ import annotations

from ._connection import Connection, decoder, nothing, now
from .protocol.cluster import (
    ClusterMembers,
    ClusterMembersResult,
    ClusterStatus,
    ClusterStatusResult,
    MemberInfo,
    Ping,
)

__all__ = ["Cluster"]

_STATUS = decoder(ClusterStatusResult)
_MEMBERS = decoder(ClusterMembersResult)


class Cluster:
    """The cluster; `Client.cluster`."""

    def __init__(self, link: Connection) -> None:
        self._link = link

    async def status(self) -> ClusterStatusResult:
        """How the member at hand stands."""
        return await self._link.call(ClusterStatus(), _STATUS)

    async def members(self) -> list[MemberInfo]:
        """List the members."""
        return (await self._link.call(ClusterMembers(), _MEMBERS)).members

    async def ping(self) -> float:
        """Wait for a sign of life of the member at hand; returns the seconds it took."""
        begun = now()
        await self._link.call(Ping(), nothing)
        return now() - begun
