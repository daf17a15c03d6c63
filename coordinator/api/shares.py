"""What each user takes of a member, so that one who takes too much leaves room for the others.

An actor is a user; where nobody has logged in, the address of the peer. Root may take from the
reserve above what all others may take together; so may this machine while authentication is off.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from coordinator.api.gate import is_this_machine
from coordinator.api.identity import address_of
from coordinator.credentials.limiter import network_of
from coordinator.keyspace.deciding import roles_of
from coordinator_sdk.errors import Exhausted
from coordinator_sdk.protocol.auth import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable

    from coordinator.api.connection import Connection
    from coordinator.api.limits import Limits
    from coordinator.api.registry import Caller
    from coordinator.node.node import Node

Actor: TypeAlias = tuple[str, str]
"""What it is, ``user`` or ``address``, and its name."""


class Room:
    """Counts one kind of thing by actor, and refuses what goes beyond a cap.

    Args:
        what: The things, as refusals call them, and the limit of all of them.
        most: How many all actors may have together.
        reserve: How many more of them the favoured may have.
        share: How many one actor may have.
        flags: What changes the limit of all and that of one; empty for what is fixed.

    Attributes:
        field: The name of the limit of all.
        total: How many there are.
        refused: How many were refused.
    """

    def __init__(
        self, what: str, most: int, reserve: int, share: int, flags: tuple[str, str] = ("", "")
    ) -> None:
        self._what = what
        self.field = what.replace("streams over HTTP", "http_streams")
        self._most = most
        self._reserve = reserve
        self._share = share
        self._flags = flags
        self._counts: dict[Actor, int] = {}
        self.total = 0
        self.refused = 0

    def count(self, actor: Actor) -> int:
        """Tell how many an actor has."""
        return self._counts.get(actor, 0)

    def check(
        self, actor: Actor, is_favoured: Callable[[], bool], more: int = 1, moved: int = 0
    ) -> None:
        """Refuse what an actor wants more of, if it is too much.

        Args:
            actor: Who wants it.
            is_favoured: Tells whether it may take from the reserve, and more than a share; not
                called if there is room.
            more: How many it wants.
            moved: How many of those another actor gives away.

        Raises:
            Exhausted: Its share is used up, or there are too many of all actors.
        """
        is_over = self.count(actor) + more > self._share
        total = self.total + more - moved
        is_full = more > moved and total > self._most
        if not (is_over or is_full):
            return
        all_flag, share_flag = self._flags
        if not is_favoured():
            if is_over:
                self.refused += 1
                kind, name = actor
                words = f"{self._what}: {kind} {name!r} may have at most {self._share}"
                raise Exhausted(_advised(words, share_flag), limit=f"{self.field}_per_user")
        elif total <= self._most + self._reserve:
            return
        if is_full:
            self.refused += 1
            words = f"{self._what}: there are too many, at most {self._most} of all clients"
            raise Exhausted(_advised(words, all_flag), limit=self.field)

    def add(self, actor: Actor, amount: int) -> None:
        """Count what an actor has taken, or given back."""
        left = self._counts.get(actor, 0) + amount
        self.total += amount
        if left:
            self._counts[actor] = left
        else:
            self._counts.pop(actor, None)


def _advised(words: str, flag: str) -> str:
    return f"{words}; {flag} changes that" if flag else words


class Share:
    """What one connection has of a room.

    It is told how many there are rather than of each change, so nothing is given back twice.

    Args:
        shares: Tells who is who.
        room: What it has of.
        caller: Who is at the other end.
    """

    __slots__ = ("_actor", "_count", "_room", "_shares")

    def __init__(self, shares: Shares, room: Room, caller: Caller) -> None:
        self._shares = shares
        self._room = room
        self._actor = shares.actor(caller)
        self._count = 0

    def check(self, caller: Caller) -> None:
        """Refuse one more.

        Raises:
            Exhausted: There are too many.
        """
        self._room.check(self._actor, partial(self._shares.is_favoured, caller))

    def check_move(self, caller: Caller) -> None:
        """Refuse to let another user have what there is, if that one has too many then.

        Raises:
            Exhausted: It would have.
        """
        actor = self._shares.actor(caller)
        if actor != self._actor and self._count:
            favoured = partial(self._shares.is_favoured, caller)
            self._room.check(actor, favoured, more=self._count, moved=self._count)

    def move(self, caller: Caller) -> None:
        """Count what there is as that of somebody else from now on."""
        actor = self._shares.actor(caller)
        if actor != self._actor:
            count = self._count
            self.hold(0)
            self._actor = actor
            self.hold(count)

    def hold(self, count: int) -> None:
        """Count as many as there are now."""
        if count != self._count:
            self._room.add(self._actor, count - self._count)
            self._count = count


class Shares:
    """The rooms of a member.

    Args:
        node: The member.
        limits: What each may ask.

    Attributes:
        streams: Watches, subscriptions and the like, whatever carries them.
        http_streams: Those over plain HTTP, which take a connection each.
        connections: Connections. How many there may be of all clients is decided when they are
            made, as `coordinator.api.census` does; nobody knows their user then.
    """

    def __init__(self, node: Node, limits: Limits) -> None:
        self._node = node
        self.streams = Room(
            "streams",
            limits.streams,
            limits.streams_reserve,
            limits.streams_per_user,
            ("--max-streams", "--max-streams-per-user"),
        )
        self.http_streams = Room(
            "streams over HTTP",
            limits.http_streams,
            limits.http_streams_reserve,
            limits.http_streams_per_user,
        )
        self.connections = Room(
            "connections",
            limits.connections,
            limits.connections_reserve,
            limits.connections_per_user,
            ("--max-connections", "--max-connections-per-user"),
        )

    def join(self, connection: Connection) -> None:
        """Count the streams that a connection will have."""
        connection.share = Share(self, self.streams, connection.caller)

    @property
    def knows_users(self) -> bool:
        """Whether there are users, root among them: authentication is on."""
        return self._node.machine.auth.enabled

    def refused(self) -> dict[str, int]:
        """Tell how many were refused, by what they were."""
        rooms = (self.streams, self.http_streams, self.connections)
        return {one.field: one.refused for one in rooms}

    def actor(self, caller: Caller) -> Actor:
        """Tell whom what a caller takes is counted for."""
        if caller.actor:
            return "user", caller.actor
        return "address", network_of(address_of(caller.origin))

    def is_favoured(self, caller: Caller) -> bool:
        """Tell whether a caller may take from the reserves."""
        return is_favoured(self._node, caller)


def is_favoured(node: Node, caller: Caller) -> bool:
    """Tell whether a caller is root, or on this machine while authentication is off."""
    auth = node.machine.auth
    if not auth.enabled:
        return is_this_machine(address_of(caller.origin))
    user = auth.users.get(caller.actor)
    return user is not None and ROOT in roles_of(auth, user, caller.scope)
