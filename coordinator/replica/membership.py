"""Changes of the members: what is proposed for one, and what a committed one does.

A change is an entry of its own kind: the consensus core finds in it whose vote is to count,
and the state machine finds the command, as the envelope in its context. All members judge a
committed change alike, by the replicated state. One that is refused is taken up by the core as
a change of nobody, and its refusal is its outcome, as for any command: a retry gets the outcome
of the first try.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from coordinator.replica.members import Member
from coordinator.wire.raft import ConfChangeSingle, ConfChangeType, ConfChangeV2
from coordinator_sdk.errors import AlreadyExists, Conflict, InvalidRequest, NotApplied, NotFound
from coordinator_sdk.protocol.cluster import (
    MemberAdd,
    MemberChangeResult,
    MemberInfo,
    MemberPromote,
    MemberRemove,
    MemberUpdate,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordinator.replica.machine import Machine
    from coordinator.replica.requests import Outcome
    from coordinator.wire.command import Envelope
    from coordinator.wire.raft import AnyConfChange, ConfState

CHANGES: Final[tuple[type[Any], ...]] = (MemberAdd, MemberRemove, MemberPromote)
"""Commands that travel as a configuration change."""

ID_EXISTS: Final = "etcdserver: member ID already exist"
URL_EXISTS: Final = "etcdserver: Peer URLs already exists"
NOT_FOUND: Final = "etcdserver: member not found"
NOT_LEARNER: Final = "etcdserver: can only promote a learner member"
NOT_ENOUGH_STARTED: Final = "etcdserver: re-configuration failed due to not enough started members"

_NOBODY: Final = ConfChangeV2(changes=(ConfChangeSingle(ConfChangeType.ADD_NODE, 0),))


class Decision(NamedTuple):
    """What all members do with a committed change.

    Attributes:
        change: What the consensus core takes up.
        envelope: The command, unless it is void: a refusal of a retry, or a change without one.
        outcome: The refusal or the outcome of an earlier try; None for a change that holds.
    """

    change: AnyConfChange
    envelope: Envelope[Any] | None
    outcome: Outcome | None


def conf_change_of(body: Any) -> ConfChangeV2:
    """Give the configuration change that a command is proposed as, still without its context.

    Args:
        body: One of `CHANGES`.
    """
    if type(body) is MemberRemove:
        kind = ConfChangeType.REMOVE_NODE
    elif type(body) is MemberAdd and body.is_learner:
        kind = ConfChangeType.ADD_LEARNER_NODE
    else:
        kind = ConfChangeType.ADD_NODE
    return ConfChangeV2(changes=(ConfChangeSingle(kind, body.member),))


def decide(machine: Machine, change: AnyConfChange) -> Decision:
    """Judge a committed change by the replicated state.

    Returns:
        What to give to the consensus core; `Machine.apply_conf_change` takes the rest.

    Raises:
        UnknownCommand: This program is too old for the log.
    """
    if not change.context:
        return Decision(change, None, None)
    envelope = machine.codec.decode(change.context)
    machine.clock_ms = max(machine.clock_ms, envelope.clock_ms)
    if envelope.client and (known := machine.known(envelope)) is not None:
        return Decision(_NOBODY, None, known)
    if machine.auth.enabled and (refused := machine.refused(envelope)) is not None:
        return Decision(_NOBODY, envelope, refused)
    try:
        check(machine, envelope.body)
    except NotApplied as error:
        return Decision(_NOBODY, envelope, machine.refusal(error))
    return Decision(change, envelope, None)


def check(machine: Machine, body: Any) -> None:
    """Refuse what does not fit the members there are; what holds on all members alike.

    Raises:
        InvalidRequest: The id is none.
        AlreadyExists: The id or an address is taken, or the id was removed.
        NotFound: There is no such member.
        Conflict: It is no learner, or no voter would be left.
    """
    member = body.member
    if type(body) is MemberAdd:
        if not 0 < member < 1 << 63:
            raise InvalidRequest("member: an id is a number from 1 to 2**63 - 1", field="member")
        if member in machine.members or member in _configured(machine.conf_state):
            raise AlreadyExists(ID_EXISTS, member=f"{member:016x}")
        if member in machine.removed:
            raise AlreadyExists(ID_EXISTS, member=f"{member:016x}", removed=True)
        check_urls(machine, body.peer_urls)
        return
    if member not in machine.members and member not in _configured(machine.conf_state):
        raise NotFound(NOT_FOUND, member=f"{member:016x}")
    if type(body) is MemberPromote and member not in machine.conf_state.learners:
        raise Conflict(NOT_LEARNER, member=f"{member:016x}")
    if type(body) is MemberRemove and machine.conf_state.voters == (member,):
        raise Conflict(NOT_ENOUGH_STARTED, member=f"{member:016x}")


def check_urls(machine: Machine, urls: Sequence[str], member: int = 0) -> None:
    """Refuse addresses at which another member is reached.

    Raises:
        AlreadyExists: One is taken. For a member that has not come yet, it is taken for the
            same one being added again.
    """
    for other in machine.members.values():
        if other.member == member:
            continue
        taken = [url for url in urls if url in other.peer_urls]
        if taken:
            text = URL_EXISTS if other.is_started or member else ID_EXISTS
            raise AlreadyExists(text, peer_url=taken[0], member=f"{other.member:016x}")


def take_up(machine: Machine, body: Any, former: ConfState) -> MemberChangeResult:
    """Change the table of the members, after the configuration has changed from ``former``."""
    members, member = machine.members, body.member
    if type(body) is MemberRemove:
        gone = member_info(machine, members.get(member) or _unknown(member))
        gone.is_learner = member in former.learners
        members.pop(member, None)
        machine.removed[member] = None
        for alarm in [alarm for alarm in machine.alarms if alarm[0] == member]:
            del machine.alarms[alarm]
        machine.note_member(member)
        return MemberChangeResult(gone, member_infos(machine))
    if type(body) is MemberAdd:
        members[member] = Member(
            member,
            body.name,
            [],
            0,
            0,
            sorted(body.peer_urls),
            body.is_learner and body.promote_when_ready,
        )
    else:
        known = members.get(member) or _unknown(member)
        members[member] = msgspec.structs.replace(known, promote_when_ready=False)
    machine.note_member(member)
    return MemberChangeResult(member_info(machine, members[member]), member_infos(machine))


def update(machine: Machine, body: MemberUpdate) -> MemberChangeResult:
    """Change the addresses of a member.

    Raises:
        NotFound: There is no such member.
        AlreadyExists: Another member is reached there.
    """
    member = body.member
    check(machine, body)
    check_urls(machine, body.peer_urls, member)
    known = machine.members.get(member) or _unknown(member)
    machine.members[member] = msgspec.structs.replace(known, peer_urls=sorted(body.peer_urls))
    machine.note_member(member)
    return MemberChangeResult(member_info(machine, machine.members[member]), member_infos(machine))


def member_info(machine: Machine, member: Member) -> MemberInfo:
    """Describe a member to clients."""
    return MemberInfo(
        member.member,
        member.name,
        member.peer_urls,
        member.client_urls,
        member.member in machine.conf_state.learners,
        member.is_started,
        member.promote_when_ready,
    )


def member_infos(machine: Machine) -> list[MemberInfo]:
    """Describe all members to clients, by id."""
    return [member_info(machine, member) for _, member in sorted(machine.members.items())]


def peer_urls(machine: Machine, own: int) -> dict[int, tuple[str, ...]]:
    """Give the addresses of all members but ``own``, for the transport."""
    return {
        member: tuple(known.peer_urls)
        for member, known in sorted(machine.members.items())
        if member != own
    }


def _configured(state: ConfState) -> tuple[int, ...]:
    return state.voters + state.learners + state.voters_outgoing


def _unknown(member: int) -> Member:
    """Stand for a member of the configuration that has never made itself known."""
    return Member(member, "", [], 0, 0)
