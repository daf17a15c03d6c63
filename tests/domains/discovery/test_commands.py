"""What changes discovery tokens: who comes, in which order, and what is refused."""

from __future__ import annotations

import pytest

from coordinator.domains.discovery import commands, model
from coordinator.domains.discovery.commands import DOMAIN
from coordinator_sdk.errors import AlreadyExists, Conflict, Exhausted, Gone, NotFound
from coordinator_sdk.protocol.discovery import DiscoveryInfo, DiscoveryNew, DiscoveryRegister
from tests.domains.fake_txn import FakeMachine

NS, TOKEN = "default", "0123456789abcdef" * 2


def url(number: int) -> str:
    return f"http://10.0.0.{number}:2380"


def come(machine: FakeMachine, number: int, name: str = "", *urls: str) -> DiscoveryInfo:
    found: DiscoveryInfo = machine.apply(
        DiscoveryRegister(NS, TOKEN, number, name or f"m{number}", list(urls) or [url(number)])
    )
    return found


@pytest.fixture
def machine() -> FakeMachine:
    made = FakeMachine(DOMAIN)
    made.apply(DiscoveryNew(NS, 3, TOKEN))
    return made


def test_the_first_that_come_are_the_cluster(machine: FakeMachine):
    """The first N are the cluster, in the order of their registrations and not of their ids."""
    for number in (7, 2):
        assert not come(machine, number).complete
    found = come(machine, 5)
    assert found.complete
    assert [one.member for one in found.members] == [7, 2, 5]
    assert [one.revision for one in found.members] == sorted(one.revision for one in found.members)


def test_later_ones_are_told_precisely(machine: FakeMachine):
    """Who comes after the last one is told that the cluster is complete, and of whom."""
    for number in (1, 2, 3):
        come(machine, number)
    revision = machine.published
    with pytest.raises(Conflict, match="the cluster of this token is complete: m1 ") as refused:
        come(machine, 4)
    assert refused.value.details["members"] == ["m1", "m2", "m3"]
    assert machine.published == revision


def test_coming_again_keeps_the_place(machine: FakeMachine):
    """A member that comes again keeps its place, changes nothing, and may change its URLs until
    the cluster is complete."""
    come(machine, 1)
    come(machine, 2)
    revision = machine.published
    come(machine, 1)
    assert machine.published == revision
    come(machine, 1, "renamed", url(11), url(12))
    found = come(machine, 3)
    assert [(one.member, one.name) for one in found.members] == [
        (1, "renamed"),
        (2, "m2"),
        (3, "m3"),
    ]
    assert come(machine, 2).complete, "asking again after completion tells who has come"
    with pytest.raises(Conflict, match="can no longer change"):
        come(machine, 2, "m2", url(99))


def test_two_members_share_neither_name_nor_url(machine: FakeMachine):
    """A second member with the name or a peer URL of another one is refused, with the field."""
    come(machine, 1)
    with pytest.raises(AlreadyExists, match="--name must differ") as refused:
        come(machine, 2, "m1")
    assert refused.value.details == {"field": "name"}
    with pytest.raises(AlreadyExists) as refused:
        come(machine, 2, "m2", url(2), url(1))
    assert refused.value.details == {"field": "peer_urls[1]"}


def test_a_token_ends_and_is_remembered(machine: FakeMachine):
    """A token ends by its timer with everything that came, is known to have ended for a while,
    and is then forgotten."""
    timer = model.timer_key(NS, TOKEN)
    assert machine.timers == {timer: model.LIFE_MS}
    come(machine, 1)
    machine.run_timer(timer)
    assert machine.scan(*model.members(NS, TOKEN)) == []
    with pytest.raises(Gone, match="has expired"):
        come(machine, 2)
    with pytest.raises(Gone):
        model.token_view(machine, NS, TOKEN)
    assert machine.timers == {timer: model.REMEMBERED_MS}
    machine.run_timer(timer)
    with pytest.raises(NotFound, match="no discovery token"):
        come(machine, 2)
    assert (machine.live, machine.timers) == ({}, {})


def test_tokens_are_distinct(machine: FakeMachine):
    """A token can't be made twice, and those of two namespaces have nothing to do with another."""
    with pytest.raises(AlreadyExists):
        machine.apply(DiscoveryNew(NS, 5, TOKEN))
    machine.apply(DiscoveryNew("other", 1, TOKEN))
    come(machine, 1)
    assert model.token_view(machine, "other", TOKEN).members == []


def test_tokens_have_a_limit(machine: FakeMachine, monkeypatch: pytest.MonkeyPatch):
    """There are so many tokens and no more."""
    monkeypatch.setattr(commands, "TOKENS_MAX", 2)
    machine.apply(DiscoveryNew(NS, 1, "f" * 32))
    with pytest.raises(Exhausted) as refused:
        machine.apply(DiscoveryNew(NS, 1, "e" * 32))
    assert refused.value.details == {"limit": "discovery_tokens"}


def test_a_lone_member_is_a_cluster(machine: FakeMachine):
    """A token for one is complete when that one has come."""
    other = "f" * 32
    machine.apply(DiscoveryNew(NS, 1, other))
    assert machine.apply(DiscoveryRegister(NS, other, 9, "a", [url(9)])).complete


def test_what_is_shown_tells_times(machine: FakeMachine):
    """A token shows when it was made, when it ends, and when each member first came."""
    machine.meta.clock_ms = 5_000_000
    come(machine, 1)
    machine.meta.clock_ms = 6_000_000
    come(machine, 1, "renamed")
    shown = model.token_view(machine, NS, TOKEN)
    assert (shown.created_ms, shown.expires_ms) == (1_000_000, 1_000_000 + 86_400_000)
    assert [one.registered_ms for one in shown.members] == [5_000_000]
