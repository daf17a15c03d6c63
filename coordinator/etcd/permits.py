"""Who may do what, in the words of etcd.

The rules are those of `coordinator.replica.permissions`: changes are judged by the state machine,
reads and streams here. Each of etcd's services refuses in a manner of its own.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final, Protocol

from coordinator.api.permits import authorize
from coordinator.etcd.status import (
    INVALID_TOKEN,
    PERMISSION_DENIED,
    USER_EMPTY,
    Code,
    StatusError,
    told,
)
from coordinator_sdk.protocol.cluster import LeaderMove

if TYPE_CHECKING:
    from collections.abc import Callable

    from coordinator.api.registry import Caller
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
    """A stream that its caller may lose."""

    def judge(self) -> int:
        """End what may not go on; gives how much there was to look at."""


class Streams:
    """The open streams, which are judged again whenever users or roles have changed."""

    def __init__(self, node: Node) -> None:
        self._auth = node.machine.auth
        self._node = node
        self._open: dict[Judged, None] = {}
        self._waiting: deque[Judged] = deque()
        self._seen = self._auth.revision
        node.on_tick.append(self.tick)

    def add(self, stream: Judged) -> None:
        """A stream has begun."""
        self._open[stream] = None

    def remove(self, stream: Judged) -> None:
        """A stream has ended."""
        self._open.pop(stream, None)

    def tick(self) -> None:
        """Judge a bounded number of streams; to be called several times a second."""
        revision = self._node.machine.auth.revision
        if not self._waiting:
            if revision == self._seen:
                return
            self._seen = revision
            self._waiting.extend(self._open)
        budget = STREAMS_PER_TICK
        while self._waiting and budget > 0:
            stream = self._waiting.popleft()
            budget -= 1 + (stream.judge() if stream in self._open else 0)
