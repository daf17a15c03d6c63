"""What goes into a replica, and what comes out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from msgspec import Struct

from coordinator.replica.requests import Outcome
from coordinator.wire.command import FORMAT, Envelope
from coordinator.wire.raft import Entry, HardState, Message, MessageType, Snapshot
from coordinator_sdk.errors import CoordinatorError, NoLeader, Unavailable

PROMISES_NOTHING: Final = frozenset(
    (MessageType.MSG_APP, MessageType.MSG_HEARTBEAT, MessageType.MSG_SNAP)
)
"""Messages that say nothing about what their sender has stored."""

Done = Callable[[Outcome], None]
ReadDone = Callable[[CoordinatorError | None], None]
Placing = Callable[[int, int, CoordinatorError | None], None]


class Proposal(Struct, gc=False):
    """A command on its way into the log."""

    body: Any
    done: Done | None
    client: int = 0
    sequence: int = 0
    floor: int = 0
    actor: str = ""
    origin: str = ""
    cause: str = ""
    trace: str = ""
    term: int = 0
    since_ms: int = 0
    placed: Placing | None = None
    """For one that another member waits for: told (index, term, None) once it is proposed, else
    (0, 0, error), with None for the error if another leader may have it."""
    auth_revision: int = 0
    scope: str = ""
    in_doubt: bool = False
    """Whether an earlier try may be in the log. It has a request id, so it can be tried again."""


def envelope_of(proposal: Proposal, clock_ms: int) -> Envelope[Any]:
    """Give what a proposal's entry holds, stamped with the time in Unix milliseconds."""
    return Envelope(
        FORMAT,
        proposal.client,
        proposal.sequence,
        proposal.floor,
        proposal.actor,
        proposal.origin,
        proposal.cause,
        proposal.trace,
        clock_ms,
        proposal.body,
        proposal.auth_revision,
        proposal.scope,
    )


class Append(Struct):
    """Something to make durable, and what to do once it is."""

    entries: list[Entry]
    hard_state: HardState | None
    snapshot: Snapshot | None
    must_sync: bool
    responses: list[Message]


class Read(Struct, gc=False):
    """A read that waits: for the applied state too, or only for the leader's answer."""

    applied: bool
    since_ms: int
    done: ReadDone


class Effects(Struct):
    """What one turn asks its caller to do: write ``appends`` in order, send ``messages``."""

    appends: list[Append]
    messages: list[Message]


def superseded() -> Unavailable:
    """Give the refusal of what another leader's entry has taken the place of."""
    return Unavailable("leadership changed before the commit; try again")


def dropped() -> Unavailable:
    """Give the refusal of what the consensus core would not take."""
    return Unavailable("the member can't take proposals at the moment; try again")


def no_leader() -> NoLeader:
    """Give the refusal of what only a leader can do."""
    return NoLeader("the cluster has no leader at the moment")
