"""Who asks travels with a command, whichever member it is given to."""

from __future__ import annotations

from coordinator_sdk.errors import PermissionDenied, Unauthenticated
from coordinator_sdk.protocol import auth
from coordinator_sdk.protocol.auth import KeyPermission
from coordinator_sdk.protocol.kv import Put
from tests.node.exchange import Exchange


def code(group: Exchange, member: int, body: object, user: str, revision: int) -> str:
    """Give a member a command of a user; gives the code of its refusal, empty if there is none."""
    [outcome] = group.submit(
        member, body, actor=user, origin="x:1" if user else "", auth_revision=revision
    )
    return "" if outcome.error is None else outcome.error[0]


def test_a_follower_passes_on_who_asks():
    """A command that a follower passes on is judged as its sender's, by all members alike."""
    group = Exchange()
    group.execute(auth.AuthInit(password_hash="h"))
    for body in (
        auth.UserAdd("a", password_hash="h"),
        auth.RoleAdd("r"),
        auth.RoleGrant("r", KeyPermission(2, b"k")),
        auth.UserGrantRole("a", "r"),
    ):
        assert code(group, 2, body, "root", 99) == ""
    since = group.by_id[2].machine.auth.revision
    assert code(group, 2, Put(b"k", b"1"), "a", since) == ""
    assert code(group, 3, Put(b"other", b"1"), "a", since) == PermissionDenied.code
    assert code(group, 3, Put(b"k", b"2"), "", 0) == Unauthenticated.code
    assert code(group, 2, auth.UserChangePassword("a", password_hash="i"), "root", 99) == ""
    assert code(group, 2, Put(b"k", b"3"), "a", since) == Unauthenticated.code
    machines = [one.machine for one in group.by_id.values()]
    assert len({machine.chain for machine in machines}) == 1
    assert {machine.keyspace.get(0, b"k").value for machine in machines} == {b"1"}  # type: ignore[union-attr]
