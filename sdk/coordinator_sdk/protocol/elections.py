"""Elections: one leader of many candidates, with a term token that fences."""

from __future__ import annotations

from msgspec import Struct

from .kv import Id


class ElectionCampaign(Struct, array_like=True, tag="elections.campaign"):
    """Become leader or join the candidates; answers with a `TicketState`.

    Fields as in `LockAcquire`; ``value`` is what the candidate proclaims once elected.
    """

    namespace: str
    name: str
    session: Id
    owner: str
    value: bytes = b""
    ticket: str = ""
    timeout_ms: int | None = None
    follow: bool = False


class ElectionProclaim(Struct, array_like=True, tag="elections.proclaim"):
    """Change the leader's value without a new election."""

    namespace: str
    name: str
    session: Id
    owner: str
    token: int
    value: bytes


class ElectionResign(Struct, array_like=True, tag="elections.resign"):
    """Give leadership up. The next candidate leads in the same revision."""

    namespace: str
    name: str
    session: Id
    owner: str
    token: int


class ElectionCancel(Struct, array_like=True, tag="elections.cancel"):
    """Withdraw a candidacy, or resign if it has been elected already."""

    namespace: str
    name: str
    ticket: str


class ElectionTicket(Struct, array_like=True, tag="elections.ticket"):
    """Read the state of a candidacy; ``follow`` as in `LockTicket`."""

    namespace: str
    name: str
    ticket: str
    follow: bool = False


class ElectionGet(Struct, array_like=True, tag="elections.get"):
    """Read an election: leader and candidates."""

    namespace: str
    name: str
    revision: int = 0


class ElectionList(Struct, array_like=True, tag="elections.list"):
    """List the elections that have a leader."""

    namespace: str
    prefix: str = ""
    revision: int = 0


class ElectionObserve(Struct, array_like=True, tag="elections.observe"):
    """Stream every change of leadership as `ElectionChange` items, the current state first.

    ``start_revision`` resumes after that revision instead of starting with the current state.
    """

    namespace: str
    name: str
    start_revision: int = 0
    credit: int = 0


class ElectionLeader(Struct, array_like=True):
    """Who leads."""

    token: int
    session: Id
    owner: str
    ticket: str
    since_ms: int
    value: bytes = b""
    application: str = ""
    host: str = ""
    pid: int = 0


class ElectionCandidate(Struct, array_like=True):
    """Who stands for election."""

    ticket: str
    session: Id
    owner: str
    since_ms: int
    timeout_ms: int | None = None
    application: str = ""
    host: str = ""
    pid: int = 0


class ElectionInfo(Struct, array_like=True):
    """An election, its leader and the candidates in the order of succession."""

    namespace: str
    name: str
    leader: ElectionLeader | None = None
    candidates: list[ElectionCandidate] = []
    waiting: int = 0


class ElectionChange(Struct, array_like=True):
    """A change of leadership.

    ``kind``: ``elected``, ``proclaimed`` or ``vacant``; ``leader`` is None if vacant.
    """

    revision: int
    kind: str
    leader: ElectionLeader | None = None


class ElectionResult(Struct, array_like=True):
    """Answer to proclaim, resign and cancel."""

    revision: int
    done: bool = True


class ElectionListResult(Struct, array_like=True):
    """Answer to `ElectionList`."""

    elections: list[ElectionInfo]


REQUESTS = (
    ElectionCampaign,
    ElectionProclaim,
    ElectionResign,
    ElectionCancel,
    ElectionTicket,
    ElectionGet,
    ElectionList,
    ElectionObserve,
)
