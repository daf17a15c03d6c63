"""The request table: a retried call applies once, whatever happens in between."""

import pytest

from coordinator.replica import requests
from coordinator.replica.requests import RECORDS_PER_CLIENT, RESULT_BYTES_MAX
from coordinator_sdk.errors import (
    Internal,
    NotApplied,
    OutcomeUnknown,
    RequestReused,
    error_from_wire,
)
from coordinator_sdk.protocol.cluster import ClientRegister
from coordinator_sdk.protocol.kv import (
    Compare,
    CompareResult,
    CompareTarget,
    Delete,
    LeaseGrant,
    Put,
    Range,
    Txn,
)
from coordinator_sdk.protocol.locks import LockAcquire
from coordinator_sdk.protocol.topics import TopicPublish
from tests.replica.member import Member, state_of

CLIENT = 11


@pytest.fixture
def member() -> Member:
    member = Member()
    member.register(CLIENT)
    return member


def rewind(member: Member, how: str) -> None:
    """Let something happen between a call and its retry."""
    if how == "replay":
        member.restart()
    elif how == "reload":
        member.restart(saves=True)


@pytest.mark.parametrize("how", ["at once", "replay", "reload"])
@pytest.mark.parametrize(
    "body",
    [
        Put(b"a", b"2", prev_kv=True),
        Delete(b"a", b"z", prev_kv=True),
        Txn(success=[Put(b"b", b"1"), Range(b"a", b"z")]),
        LeaseGrant(1000, 5),
        LockAcquire("default", "l", 6, "me", "t1"),
        TopicPublish("default", "orders", b"1"),
        Put(b"a", b"2", lease=404),
        LeaseGrant(1 << 62, 5),
    ],
    ids=lambda body: type(body).__name__,
)
def test_retry_gets_the_first_outcome(member: Member, body: object, how: str):
    """A retry with the same id applies nothing and gets the outcome of the first try."""
    member.open_session(6)
    member.execute(Put(b"a", b"1"))
    first = member.propose(body, client=CLIENT, sequence=1)
    member.settle()
    member.execute(Put(b"other", b"1"))
    rewind(member, how)
    before = state_of(member.machine)
    second = member.propose(body, client=CLIENT, sequence=1)
    member.settle()
    assert second.outcome == first.outcome
    after = state_of(member.machine)
    for name in ("index", "term", "clock", "chain"):
        del before[name], after[name]
    assert after == before


def test_same_number_for_another_command_is_refused(member: Member):
    """A number that was used for one command is refused for any other."""
    member.execute(Put(b"a", b"1"), client=CLIENT, sequence=1)
    for body in (Put(b"a", b"2"), Put(b"b", b"1"), Delete(b"a")):
        assert isinstance(member.refusal(body, client=CLIENT, sequence=1), RequestReused)
    assert member.value(b"a") == b"1"
    assert member.execute(Put(b"a", b"1"), client=CLIENT, sequence=1).revision == 2


def test_below_the_floor_is_refused(member: Member):
    """A number below the client's floor applies nothing, even if it was never used."""
    member.execute(Put(b"a", b"1"), client=CLIENT, sequence=5, floor=5)
    assert isinstance(member.refusal(Put(b"b", b"1"), client=CLIENT, sequence=4), RequestReused)
    assert member.value(b"b") is None
    member.execute(Put(b"a", b"2"), client=CLIENT, sequence=6, floor=6)
    assert isinstance(member.refusal(Put(b"a", b"1"), client=CLIENT, sequence=5), RequestReused)


def test_unknown_client_applies_nothing(member: Member):
    """A request of a client that the cluster does not know applies nothing and says so."""
    error = member.refusal(Put(b"a", b"1"), client=404, sequence=1)
    assert isinstance(error, OutcomeUnknown)
    assert member.value(b"a") is None


def test_window_is_bounded(member: Member):
    """Beyond 256 outcomes at or above its floor, a client is refused until it raises the floor."""
    for number in range(1, RECORDS_PER_CLIENT + 1):
        member.execute(Put(b"%d" % number, b"1"), client=CLIENT, sequence=number, floor=1)
    over = RECORDS_PER_CLIENT + 1
    error = member.refusal(Put(b"over", b"1"), client=CLIENT, sequence=over, floor=1)
    assert isinstance(error, NotApplied)
    assert member.value(b"over") is None
    # Those in the table are still answered.
    assert member.execute(Put(b"7", b"1"), client=CLIENT, sequence=7, floor=1).revision == 8
    member.execute(Put(b"over", b"1"), client=CLIENT, sequence=over, floor=2)
    assert len(member.machine.requests._clients[CLIENT].records) == RECORDS_PER_CLIENT


def test_outcomes_below_the_floor_are_forgotten(member: Member):
    """Outcomes below the floor are dropped, also of numbers that came out of order."""
    for number in (1, 9, 3, 2, 8):
        member.execute(Put(b"a", b"%d" % number), client=CLIENT, sequence=number, floor=1)
    member.execute(Put(b"a", b"10"), client=CLIENT, sequence=10, floor=10)
    assert isinstance(member.refusal(Put(b"a", b"8"), client=CLIENT, sequence=8), RequestReused)
    for number in range(11, 400):
        member.execute(Put(b"a", b"1"), client=CLIENT, sequence=number, floor=number)
    assert len(member.machine.requests._clients[CLIENT].records) <= RECORDS_PER_CLIENT


def test_large_result_is_not_kept(member: Member):
    """A result too large to keep is told as applied, with its revision, and not applied again."""
    member.execute(Put(b"a", b"x" * (RESULT_BYTES_MAX + 1)))
    body = Put(b"a", b"small", prev_kv=True)
    revision = member.execute(body, client=CLIENT, sequence=1).revision
    answer = member.propose(body, client=CLIENT, sequence=1)
    member.settle()
    assert answer.outcome.error is not None
    error = error_from_wire(*answer.outcome.error)
    assert isinstance(error, Internal)
    assert error.details["revision"] == revision == member.machine.keyspace.revision


def test_oldest_client_is_evicted(member: Member, monkeypatch: pytest.MonkeyPatch):
    """Above the limit the client that changed something longest ago goes, in the same order
    after a reload."""
    monkeypatch.setattr(requests, "CLIENTS_MAX", 4)
    for client in (1, 2, 3):
        member.register(client)
    member.execute(Put(b"a", b"1"), client=CLIENT, sequence=1)
    member.execute(Put(b"a", b"2"), client=1, sequence=1)
    member.restart(saves=True)
    member.register(4)
    member.register(5)
    known = [client for client in range(20) if member.machine.requests.knows(client)]
    assert known == [1, 4, 5, CLIENT]
    error = member.refusal(Put(b"a", b"3"), client=2, sequence=1)
    assert isinstance(error, OutcomeUnknown)
    assert state_of(member.reloaded()) == state_of(member.machine)


def test_registering_twice_keeps_the_outcomes(member: Member):
    """A client that registers again stays known with its outcomes."""
    member.execute(Put(b"a", b"1"), client=CLIENT, sequence=1)
    assert member.execute(ClientRegister(CLIENT)).agent == "known"
    assert isinstance(member.refusal(Put(b"b", b"1"), client=CLIENT, sequence=1), RequestReused)


def test_retry_in_the_same_turn_applies_once(member: Member):
    """Two tries of one request in one turn apply once and get the same outcome."""
    absent = Compare(CompareTarget.VERSION, CompareResult.EQUAL, b"a", 0)
    body = Txn([absent], success=[Put(b"a", b"1")])
    first = member.propose(body, client=CLIENT, sequence=1)
    second = member.propose(body, client=CLIENT, sequence=1)
    member.settle()
    assert first.result().succeeded
    assert first.outcome == second.outcome
