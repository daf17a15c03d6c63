"""No command that can be decoded stops a member: an entry that did would stop it at every start."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.domains import DOMAINS
from coordinator.replica.domain import DomainTxn
from coordinator.replica.machine import Machine
from coordinator.wire.command import Envelope
from coordinator_sdk.errors import Internal
from tests.replica.commands import struct_of
from tests.replica.member import Member, state_of
from tests.replica.probe import PROBE, Do, apply_do

BODIES = sorted(Machine(DOMAINS).applies, key=lambda kind: kind.__name__)


@pytest.mark.parametrize("kind", BODIES, ids=lambda kind: kind.__name__)
@settings(max_examples=40)
@given(data=st.data())
def test_no_command_stops_a_member(kind: type[Any], data: st.DataObject):
    """Whatever values its fields have, a command is applied or refused, and the next one works."""
    member = Member()
    codec = member.machine.codec
    body = data.draw(struct_of(kind))
    client, floor = data.draw(st.sampled_from([(0, 0), (3, 1)]))
    envelope = Envelope(1, client, 1, floor, "", "", "", "", 0, body)
    member.register(3)
    member.open_session(1)
    assert codec.decode(codec.encode(envelope)) == envelope
    answer = member.propose(body, client=client, sequence=1, floor=floor)
    member.settle()
    assert len(answer.outcomes) == 1
    member.advance(300)
    member.faults.clear()
    enabled = member.machine.auth.enabled
    root = {"actor": "root", "auth_revision": member.machine.auth.revision} if enabled else {}
    member.register(4, **root)
    member.restart(saves=True)
    assert rows_fit(member)
    member.restart()


def rows_fit(member: Member) -> bool:
    """Tell whether the state database can store the numbers in its columns."""
    rows = member.database.rows
    numbers = [field for row in rows.versions.values() for field in row if isinstance(field, int)]
    numbers += [key for table in rows.tables.values() for key in table if isinstance(key, int)]
    return all(-(1 << 63) <= number < 1 << 63 for number in numbers)


def test_fault_is_an_outcome_and_undone():
    """A command over which the code stumbles is undone, reported, and has an outcome."""

    def stumble(txn: DomainTxn, command: Do) -> None:
        apply_do(txn, command)
        raise ZeroDivisionError

    member = Member((replace(PROBE, commands={Do: stumble}),))
    before = state_of(member.machine)
    answer = member.propose(Do(puts=["a"], timers=["t"]))
    member.settle()
    assert isinstance(member.faults[0], ZeroDivisionError)
    assert answer.outcome.error is not None
    assert answer.outcome.error[0] == Internal.code
    after = state_of(member.machine)
    for name in ("index", "clock", "chain"):
        assert before.pop(name) != after.pop(name)
    assert after == before
