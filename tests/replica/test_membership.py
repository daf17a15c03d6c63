"""Changes of the members: judged alike by all, answered, and applied once."""

from typing import Any

import msgspec
import pytest

from coordinator.raft import RawNode
from coordinator.replica import membership
from coordinator.replica.members import Member as Row
from coordinator.wire.command import MemberPublish
from coordinator.wire.raft import ConfState
from coordinator_sdk.errors import AlreadyExists, Conflict, InvalidRequest, NotFound
from coordinator_sdk.protocol.cluster import (
    MemberAdd,
    MemberChangeResult,
    MemberPromote,
    MemberRemove,
    MemberUpdate,
)
from coordinator_sdk.protocol.kv import Put
from tests.replica.member import MEMBER, Member, state_of

CLIENT = 11
URL = "http://127.0.0.1:2390"


@pytest.fixture
def member() -> Member:
    member = Member()
    member.register(CLIENT)
    member.execute(
        MemberPublish(
            MEMBER, "first", ["http://127.0.0.1:2379"], 77, peer_urls=["http://127.0.0.1:2380"]
        )
    )
    return member


def test_a_learner_is_added(member: Member):
    """An added learner stands in the configuration and in the table, and has not come yet."""
    result = member.execute(MemberAdd([URL], member=8, promote_when_ready=True))
    assert isinstance(result, MemberChangeResult)
    assert (result.member.member, result.member.peer_urls) == (8, [URL])
    assert result.member.is_learner
    assert result.member.promote_when_ready
    assert not result.member.is_started
    assert [one.member for one in result.members] == [MEMBER, 8]
    assert member.machine.conf_state == ConfState(voters=(MEMBER,), learners=(8,))
    assert membership.peer_urls(member.machine, MEMBER) == {8: (URL,)}


def test_a_learner_is_promoted(member: Member):
    """A promoted learner is a voter, and no longer waits to be one."""
    member.execute(MemberAdd([URL], member=8, promote_when_ready=True))
    result = member.execute(MemberPromote(8))
    assert not result.member.is_learner
    assert not result.member.promote_when_ready
    assert member.machine.conf_state.voters == (MEMBER, 8)


def test_a_removed_member_never_comes_back(member: Member):
    """The id of a removed member is refused for ever: added, publishing or removed again."""
    member.execute(MemberAdd([URL], member=8))
    result = member.execute(MemberRemove(8))
    assert (result.member.member, result.member.is_learner) == (8, True)
    assert [one.member for one in result.members] == [MEMBER]
    assert member.machine.conf_state == ConfState(voters=(MEMBER,))
    for restarts in (False, True):
        if restarts:
            member.restart(saves=True)
        assert list(member.machine.removed) == [8]
        assert 8 not in member.machine.members
        assert isinstance(member.refusal(MemberAdd([URL], member=8)), AlreadyExists)
        assert isinstance(member.refusal(MemberRemove(8)), NotFound)
        assert isinstance(member.refusal(MemberPublish(8, "back", [], 5)), NotFound)


def test_addresses_change(member: Member):
    """Peer URLs of a member are replaced, and stay when it makes itself known again."""
    other = "http://127.0.0.1:2399"
    result = member.execute(MemberUpdate(MEMBER, [other]))
    assert result.member.peer_urls == [other]
    member.execute(MemberPublish(MEMBER, "first", [], 77, peer_urls=["http://127.0.0.1:2380"]))
    assert member.machine.members[MEMBER].peer_urls == [other]


REFUSED = [
    (MemberAdd(["http://127.0.0.1:1"], member=MEMBER), AlreadyExists, membership.ID_EXISTS),
    (MemberAdd(["http://127.0.0.1:1"], member=0), InvalidRequest, "member: an id"),
    (MemberAdd(["http://127.0.0.1:2380"], member=9), AlreadyExists, membership.URL_EXISTS),
    (MemberAdd([URL], member=9), AlreadyExists, membership.ID_EXISTS),
    (MemberUpdate(MEMBER, [URL]), AlreadyExists, membership.URL_EXISTS),
    (MemberUpdate(9, ["http://127.0.0.1:1"]), NotFound, membership.NOT_FOUND),
    (MemberRemove(9), NotFound, membership.NOT_FOUND),
    (MemberRemove(MEMBER), Conflict, membership.NOT_ENOUGH_STARTED),
    (MemberPromote(9), NotFound, membership.NOT_FOUND),
    (MemberPromote(MEMBER), Conflict, membership.NOT_LEARNER),
]


@pytest.mark.parametrize(("body", "kind", "text"), REFUSED, ids=lambda one: type(one).__name__)
def test_what_does_not_fit_changes_nothing(member: Member, body: Any, kind: Any, text: str):
    """A change that does not fit is refused by its committed entry, in etcd's words."""
    member.execute(MemberAdd([URL], member=8))
    before = state_of(member.machine)
    error = member.refusal(body)
    assert type(error) is kind
    assert text in error.message
    after = state_of(member.machine)
    for name in ("index", "chain", "clock"):
        del before[name], after[name]
    assert after == before


@pytest.mark.parametrize("how", ["at once", "replay", "reload"])
@pytest.mark.parametrize(
    "body",
    [MemberAdd([URL], member=9), MemberRemove(8), MemberPromote(MEMBER), MemberRemove(404)],
    ids=lambda body: type(body).__name__,
)
def test_a_retry_gets_the_first_outcome(member: Member, body: Any, how: str):
    """A retried change is applied once, and its retry gets what the first try got."""
    member.execute(MemberAdd(["http://127.0.0.1:2391"], member=8))
    first = member.propose(body, client=CLIENT, sequence=1)
    member.settle()
    before = state_of(member.machine)
    if how == "replay":
        member.restart()
    elif how == "reload":
        member.restart(saves=True)
    second = member.propose(body, client=CLIENT, sequence=1)
    member.settle()
    assert second.outcome == first.outcome
    after = state_of(member.machine)
    for name in ("members", "removed", "configuration", "requests"):
        assert after[name] == before[name]


def test_changes_take_turns(member: Member):
    """Changes proposed in one turn are all applied, one after the other, among other commands."""
    second = MemberAdd(["http://127.0.0.1:2391"], member=9)
    bodies = [MemberAdd([URL], member=8), Put(b"a", b"1"), second, MemberRemove(8)]
    answers = [member.propose(body) for body in bodies]
    member.settle()
    assert all(answer.outcome.error is None for answer in answers)
    assert member.machine.conf_state == ConfState(voters=(MEMBER,), learners=(9,))
    assert member.value(b"a") == b"1"


def test_a_replay_leads_to_the_same_members(member: Member):
    """Core and machine have the same configuration after a replay, and after a reload."""
    member.execute(MemberAdd([URL], member=8))
    member.execute(MemberAdd(["http://127.0.0.1:2391"], member=9))
    member.execute(MemberRemove(8))
    rows = dict(member.machine.members)
    for saves in (False, True):
        member.restart(saves=saves)
        raw: RawNode = member.replica.raw
        assert raw.raft.tracker.config.conf_state() == member.machine.conf_state
        assert member.machine.conf_state == ConfState(voters=(MEMBER,), learners=(9,))
        assert member.machine.members == rows


def test_rows_of_older_releases_are_read():
    """A row without peer URLs is one of a member that nobody gave any."""
    old = msgspec.msgpack.encode([7, "first", ["http://127.0.0.1:2379"], 77, 1])
    assert msgspec.msgpack.decode(old, type=Row) == Row(
        7, "first", ["http://127.0.0.1:2379"], 77, 1
    )


def test_a_data_directory_is_bound_once(member: Member):
    """A member is bound to the data directory that it first came with."""
    member.execute(MemberAdd([URL], member=8))
    member.execute(MemberPublish(8, "second", ["http://127.0.0.1:2389"], 88))
    assert member.machine.members[8].is_started
    assert member.machine.members[8].peer_urls == [URL]
    error = member.refusal(MemberPublish(8, "second", ["http://127.0.0.1:2389"], 89))
    assert "another data directory" in error.message
