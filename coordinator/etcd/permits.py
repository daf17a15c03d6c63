"""Who may do what, in the words of etcd.

The rules are those of `coordinator.replica.permissions`: changes are judged by the state machine,
reads and streams here. Each of etcd's services refuses in a manner of its own.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Final, Protocol

from coordinator.api.connection import EXPIRY_LOOK_S
from coordinator.api.identity import now_ms
from coordinator.api.permits import authorize
from coordinator.api.recheck import CONNECTION_STREAMS, EXPIRY_GRACE_S
from coordinator.api.shares import Share
from coordinator.etcd.status import (
    INVALID_TOKEN,
    PERMISSION_DENIED,
    USER_EMPTY,
    Code,
    StatusError,
    told,
)
from coordinator_sdk.errors import CoordinatorError
from coordinator_sdk.protocol.cluster import LeaderMove

if TYPE_CHECKING:
    from collections.abc import Callable

    from coordinator.api.identity import Identity
    from coordinator.api.registry import Caller
    from coordinator.api.shares import Shares
    from coordinator.etcd.calls import Call
    from coordinator.node.node import Node
    from coordinator.replica.requests import Outcome

OPEN: Final = frozenset(
    (
        "/etcdserverpb.Auth/Authenticate",
        "/etcdserverpb.Cluster/MemberList",
        "/etcdserverpb.Maintenance/Status",
    )
)
"""Calls for everybody, known or not: a token that comes with them is not looked at."""
TOLD_LATER: Final = frozenset(("/etcdserverpb.Watch/Watch",))
"""Calls that tell in their stream that a token is wrong."""
STREAMS_PER_TICK: Final = 5000
"""Open watches that are judged anew in one go, after users or roles have changed."""
_REFUSALS: Final = frozenset((USER_EMPTY, INVALID_TOKEN, PERMISSION_DENIED))
_ADMIN_CALLS: Final = frozenset(
    f"/etcdserverpb.Maintenance/{name}"
    for name in ("Alarm", "Defragment", "Hash", "HashKV", "Snapshot")
)


def in_manner_of(path: str, refusal: StatusError) -> StatusError:
    """Give a refusal as the service of a call words it; any other error as it is."""
    text = refusal.message
    if text in _REFUSALS:
        if path in _ADMIN_CALLS:
            return StatusError(Code.UNKNOWN, text.replace("etcdserver:", "auth:", 1))
        if path.startswith(("/v3lockpb.", "/v3electionpb.")):
            return StatusError(Code.UNKNOWN, text)
    return refusal


def propose(node: Node, caller: Caller, body: Any, done: Callable[[Outcome], None]) -> None:
    """Propose a command for somebody.

    Raises:
        StatusError: It is nobody, and authentication is on.
    """
    if not caller.actor and node.machine.auth.enabled:
        raise told(USER_EMPTY)
    node.propose(
        body,
        done=done,
        actor=caller.actor,
        origin=caller.origin,
        auth_revision=caller.auth_revision,
        scope=caller.scope,
    )


async def execute(node: Node, caller: Caller, body: Any) -> Outcome:
    """Propose a command for somebody, and wait for its outcome.

    Raises:
        StatusError: It is nobody, and authentication is on.
        CoordinatorError: It was refused.
    """
    if not caller.actor and node.machine.auth.enabled:
        raise told(USER_EMPTY)
    return await node.execute(
        body,
        actor=caller.actor,
        origin=caller.origin,
        auth_revision=caller.auth_revision,
        scope=caller.scope,
    )


def require_operator(node: Node, caller: Caller) -> None:
    """Refuse what is for operators: whoever may hand leadership over.

    Raises:
        CoordinatorError: It may not.
    """
    authorize(node, caller, LeaderMove())


class Judged(Protocol):
    """A stream that its caller may lose.

    Attributes:
        call: What it belongs to.
    """

    call: Call

    def judge(self) -> int:
        """End what may not go on; gives how much there was to look at."""

    def lose(self, error: CoordinatorError) -> None:
        """End: what its caller has shown proves nothing any more."""


class _Kept:
    """What is kept of an open stream."""

    __slots__ = ("share", "timer")

    def __init__(self, share: Share | None) -> None:
        self.share = share
        self.timer: asyncio.TimerHandle | None = None


class Streams:
    """The open streams, and calls that wait: they are judged again when their rights may be gone.

    That is whenever users or roles have changed, somebody has logged out, or the time of an API key
    or of an outside token is up. The token of a login only begins calls, as with etcd: over gRPC no
    other can be shown on an open one, and clients with leases and watches log in once. From its end
    on such a call is judged by what its user may.

    Args:
        node: The member.
        identity: Tells who has logged out.
        shares: What each user has of streams.
    """

    def __init__(self, node: Node, identity: Identity, shares: Shares) -> None:
        self._identity = identity
        self._node = node
        self._shares = shares
        self._open: dict[Judged, _Kept] = {}
        self._waiting: deque[Judged] = deque()
        self._seen = self._state()
        node.on_tick.append(self.tick)

    def _state(self) -> tuple[int, int]:
        return self._node.machine.auth.revision, self._identity.logouts

    def add(self, stream: Judged, *, counts_itself: bool = False) -> None:
        """A stream has begun.

        Args:
            stream: The stream.
            counts_itself: Whether it counts what it has of its user's streams.

        Raises:
            Exhausted: Its user has too many.
        """
        share = None
        if not counts_itself:
            caller = stream.call.caller
            share = Share(self._shares, self._shares.streams, caller)
            share.check(caller)
            share.hold(1)
        self._open[stream] = _Kept(share)
        self._wind(stream)

    def remove(self, stream: Judged) -> None:
        """A stream has ended."""
        kept = self._open.pop(stream, None)
        if kept is None:
            return
        if kept.timer is not None:
            kept.timer.cancel()
        if kept.share is not None:
            kept.share.hold(0)

    def tick(self) -> None:
        """Judge a bounded number of streams; to be called several times a second."""
        if not self._waiting:
            state = self._state()
            if state == self._seen:
                return
            self._seen = state
            self._waiting.extend(self._open)
        budget = STREAMS_PER_TICK
        while self._waiting and budget > 0:
            stream = self._waiting.popleft()
            budget -= 1 + (self._again(stream) if stream in self._open else 0)

    def _again(self, stream: Judged) -> int:
        """Ask anew who is at the other end, and end what that one may not have."""
        call = stream.call
        if call.doubt is not None:
            return 0  # It has nothing, and has been told so.
        if _outlives_its_token(call.caller):
            return 1 + stream.judge()
        try:
            call.caller = call.recognize()
        except CoordinatorError as error:
            stream.lose(error)
            return CONNECTION_STREAMS
        self._wind(stream)
        return CONNECTION_STREAMS + stream.judge()

    def _wind(self, stream: Judged) -> None:
        """See to it that it is judged once the time of its caller is up."""
        kept = self._open.get(stream)
        if kept is None:
            return
        if kept.timer is not None:
            kept.timer.cancel()
            kept.timer = None
        caller = stream.call.caller
        until_ms = caller.expires_ms
        if until_ms and not caller.is_login:
            left_s = max(0.0, (until_ms - now_ms()) / 1000) + EXPIRY_GRACE_S
            loop = asyncio.get_running_loop()
            kept.timer = loop.call_later(min(left_s, EXPIRY_LOOK_S), self._again, stream)


def _outlives_its_token(caller: Caller) -> bool:
    return caller.is_login and 0 < caller.expires_ms <= now_ms()


def require_time(call: Call) -> None:
    """Refuse to begin more on a call whose caller's time is up.

    Raises:
        CoordinatorError: It is, and what it has shown proves nothing any more.
    """
    if 0 < call.caller.expires_ms <= now_ms():
        call.caller = call.recognize()
