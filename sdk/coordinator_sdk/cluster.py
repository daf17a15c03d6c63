"""The cluster: its members and how they stand."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ._connection import Connection, decoder, nothing, now
from ._download import Download, Progress, SnapshotInfo
from ._modes import BEAT, CHANGE, READ
from .protocol.audit import Blame, BlameLine, BlameResult
from .protocol.cluster import (
    ClusterMembers,
    ClusterMembersResult,
    ClusterStatus,
    ClusterStatusResult,
    LeaderMove,
    LeaderMoveResult,
    MemberAdd,
    MemberChangeResult,
    MemberInfo,
    MemberPromote,
    MemberRemove,
    MemberUpdate,
    Ping,
)
from .protocol.maintenance import (
    Alarm,
    AlarmDisarm,
    AlarmList,
    AlarmListResult,
    HashKeys,
    HashKeysResult,
    RevisionAt,
    RevisionAtResult,
)

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from typing import BinaryIO

    from .protocol.frames import Header

__all__ = ["BlameLine", "BlameResult", "Cluster", "SnapshotInfo"]

_STATUS = decoder(ClusterStatusResult)
_MEMBERS = decoder(ClusterMembersResult)
_BLAMED = decoder(BlameResult)
_CHANGED = decoder(MemberChangeResult)
_ALARMS = decoder(AlarmListResult)
_HASHED = decoder(HashKeysResult)
_MOMENT = decoder(RevisionAtResult)
_MOVED = decoder(LeaderMoveResult)


class Cluster:
    """The cluster; `Client.cluster`."""

    def __init__(self, link: Connection) -> None:
        self._link = link

    @property
    def header(self) -> Header:
        """What the last frame of the member at hand said: cluster, member, term and revision."""
        return self._link.session.header

    async def status(self) -> ClusterStatusResult:
        """How the member at hand stands."""
        return await self._link.call(ClusterStatus(), _STATUS)

    async def members(self) -> list[MemberInfo]:
        """List the members."""
        return (await self._link.call(ClusterMembers(), _MEMBERS)).members

    async def blame(
        self,
        key: str | bytes = b"",
        *,
        domain: str = "",
        name: str = "",
        namespace: str = "default",
        limit: int = 0,
        before: int = 0,
    ) -> BlameResult:
        """Ask who changed a key, or what belongs to a lock, a service, a topic or an election.

        Args:
            key: The key, unless ``domain`` is given.
            domain: ``locks``, ``services``, ``topics``, ``elections``, ``discovery``, or ``auth``
                for users, roles and API keys.
            name: The name in that domain; of a user, a role or a key.
            namespace: Its namespace.
            limit: The newest so many changes; 0 for as many as one answer may hold.
            before: Only changes of revisions below this one; 0 for all.

        Returns:
            The changes that the history reaches back to, the newest first.

        Raises:
            InvalidRequest: Neither a key nor a domain is given, or both.
            PermissionDenied: The caller may not know.
        """
        raw = key.encode() if isinstance(key, str) else key
        body = Blame(raw, domain, namespace, name, limit, before)
        return await self._link.call(body, _BLAMED, READ)

    async def add_member(
        self,
        peer_urls: Sequence[str],
        *,
        name: str = "",
        learner: bool = True,
        promote_when_ready: bool = False,
    ) -> MemberChangeResult:
        """Add a member, before it is started for the first time.

        Args:
            peer_urls: Where the other members reach it, such as ``http://10.0.0.4:2380``.
            name: What people call it until it tells its own name.
            learner: Whether it gets everything without counting for quorums, until it is
                promoted. A voter counts at once, even while it is not there yet.
            promote_when_ready: Whether a learner becomes a voter by itself once it has caught
                up.

        Returns:
            The new member, and all members after the change.

        Raises:
            InvalidRequest: A URL is none.
            AlreadyExists: A member is reached there already.
            Conflict: There are too many learners, or too few of the members have come.
            Unavailable: Not all voters can be reached.
        """
        body = MemberAdd(list(peer_urls), name, learner, promote_when_ready)
        return await self._link.call(body, _CHANGED, CHANGE)

    async def remove_member(self, member: int) -> MemberChangeResult:
        """Remove a member for good; it stops by itself. The leader hands leadership over first.

        Args:
            member: Its id.

        Returns:
            The member as it was, and all members after the change.

        Raises:
            NotFound: There is no such member.
            Conflict: Too few of those that are left have come.
            Unavailable: Those that are left would have no quorum at the moment.
        """
        return await self._link.call(MemberRemove(member), _CHANGED, CHANGE)

    async def promote_member(self, member: int) -> MemberChangeResult:
        """Make a voter of a learner.

        Args:
            member: Its id.

        Returns:
            The member, and all members after the change.

        Raises:
            NotFound: There is no such member.
            Conflict: It is no learner, or has not caught up yet.
        """
        return await self._link.call(MemberPromote(member), _CHANGED, CHANGE)

    async def update_member(self, member: int, peer_urls: Sequence[str]) -> MemberChangeResult:
        """Change where the other members reach a member.

        Args:
            member: Its id.
            peer_urls: All its peer URLs from now on.

        Returns:
            The member, and all members after the change.

        Raises:
            InvalidRequest: A URL is none.
            NotFound: There is no such member.
            AlreadyExists: Another member is reached there.
        """
        return await self._link.call(MemberUpdate(member, list(peer_urls)), _CHANGED, CHANGE)

    async def move_leader(self, to: int = 0) -> LeaderMoveResult:
        """Hand leadership over.

        Args:
            to: Id of the voter that is to lead; 0 for the one that is the most up to date.

        Returns:
            Who led before, and who leads now.

        Raises:
            Conflict: ``to`` is no voter.
            Unavailable: Nobody takes over, or it took too long.
        """
        return await self._link.call(LeaderMove(to), _MOVED, READ if to else BEAT)

    async def alarms(self) -> list[Alarm]:
        """List the alarms that are raised, each with its member."""
        return (await self._link.call(AlarmList(), _ALARMS)).alarms

    async def disarm(self, member: int = 0, alarm: str = "") -> list[Alarm]:
        """End alarms. One whose cause is still there is raised again.

        Args:
            member: Whose; 0 for all members.
            alarm: ``NOSPACE`` or ``CORRUPT``; empty for both.

        Returns:
            The alarms that were ended.

        Raises:
            InvalidRequest: There is no such alarm.
        """
        return (await self._link.call(AlarmDisarm(member, alarm), _ALARMS, READ)).alarms

    async def hash_keys(self, revision: int = 0) -> HashKeysResult:
        """Hash everything that was live at a revision, on the member at hand.

        Members that hold the same have the same hash at the same revision.

        Args:
            revision: The revision; 0 for the newest that the member has.

        Raises:
            FutureRevision: The member has not come so far.
            Compacted: The history there is gone.
        """
        return await self._link.call(HashKeys(revision), _HASHED, READ)

    async def revision_at(self, moment: float = 0) -> RevisionAtResult:
        """Tell which revision was the newest at a moment, for reads of the past.

        Args:
            moment: Unix time in seconds; 0 for now.

        Returns:
            The revision, 0 if the history does not reach back so far; when it happened; and what
            time it is at the member at hand.
        """
        body = RevisionAt(round(moment * 1000))
        return await self._link.call(body, _MOMENT, READ)

    async def snapshot(
        self, target: str | os.PathLike[str] | BinaryIO, *, on_progress: Progress | None = None
    ) -> SnapshotInfo:
        """Back up everything into one file: a SQLite database that proves itself unaltered.

        It comes from the member at hand and holds every change acknowledged before the call. No
        time limit holds for it.

        Args:
            target: The file; it appears under its name once it is complete and checked, in place
                of a former one. Or an open binary file, to which it is written.
            on_progress: Takes the bytes that have come and those there will be; called from a
                thread.

        Returns:
            Size, digest and revision of the backup.

        Raises:
            ConnectFailed: The member can't be reached, or the connection broke.
            ClusterMismatch: It belongs to another cluster.
            ClientError: What came is damaged.
            NoSpace: The disk of the member is full.
            Exhausted: Another backup is being made there.
            OSError: The file can't be written.
        """
        link = self._link
        endpoint = link.endpoint
        download = Download(
            endpoint,
            link.trust.context(endpoint),
            link.trust.name(endpoint),
            link.prover.headers(),
            link.session.cluster,
            on_progress,
        )
        try:
            return await asyncio.to_thread(download.run, target)
        except asyncio.CancelledError:
            download.stop()
            raise

    async def ping(self) -> float:
        """Wait for a sign of life of the member at hand; returns the seconds it took."""
        begun = now()
        await self._link.call(Ping(), nothing)
        return now() - begun
