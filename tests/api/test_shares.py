"""Nobody takes so much of a member that nothing is left for the others."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.api.registry import Caller
from coordinator.api.shares import Room, Share, Shares
from coordinator_sdk.errors import Exhausted
from coordinator_sdk.protocol.auth import Login
from coordinator_sdk.protocol.frames import Failure
from coordinator_sdk.protocol.kv import Cancel, Watch
from tests.api.member import few, until
from tests.api.users import KEYS, PASSWORD, Guarded, guarded
from tests.etcd.client import Refused, connected

WATCH = Watch(b"app/a")
LEFT, RIGHT = Caller("left", "192.0.2.1:1"), Caller("right", "192.0.2.1:2")


def shares(**limits: Any) -> Shares:
    """Make the rooms of a member without authentication."""
    auth = SimpleNamespace(enabled=False)
    node: Any = SimpleNamespace(machine=SimpleNamespace(auth=auth))
    return Shares(node, few(**limits))


def limit_of(answer: Any) -> str:
    """Name the limit that a request was refused for; empty if it was not."""
    return str(answer.details["limit"]) if isinstance(answer, Failure) else ""


def test_one_user_leaves_room_for_others() -> None:
    """A share ends before the room does, and the refusal names the flag that changes it."""
    made = shares(streams=4, streams_per_user=3)
    one, other = Share(made, made.streams, LEFT), Share(made, made.streams, RIGHT)
    for count in (1, 2, 3):
        one.check(LEFT)
        one.hold(count)
    with pytest.raises(Exhausted, match=r"user 'left' .* 3; --max-streams-per-user"):
        one.check(LEFT)
    other.check(RIGHT)
    other.hold(1)
    with pytest.raises(Exhausted, match=r"at most 4 of all clients; --max-streams changes"):
        other.check(RIGHT)
    near = Caller(origin="127.0.0.1:1")
    Share(made, made.streams, near).check(near)  # From the reserve.


@given(
    st.lists(
        st.tuples(
            st.integers(0, 3),
            st.one_of(st.integers(0, 5), st.sampled_from(["", "left", "right", "root"])),
        )
    )
)
def test_counts_come_back_to_zero(history: list[tuple[int, int | str]]) -> None:
    """Whatever connections open, end and go on as, the counts are right, and zero in the end."""
    made = shares()
    room: Room = made.streams
    callers = [Caller(origin=f"192.0.2.{number}:1") for number in range(4)]
    held = [Share(made, room, caller) for caller in callers]
    counts = [0] * 4
    for number, what in history:
        if isinstance(what, int):
            counts[number] = what
            held[number].hold(what)
        else:
            callers[number] = Caller(what, callers[number].origin)
            held[number].move(callers[number])
        assert room.total == sum(counts)
        for caller in callers:
            actor = made.actor(caller)
            of_it = zip(callers, counts, strict=True)
            assert room.count(actor) == sum(n for one, n in of_it if made.actor(one) == actor)
    for one in held:
        one.hold(0)
        one.hold(0)
    assert room.total == 0
    assert not room._counts


async def test_streams_of_websockets(tmp_path: Path) -> None:
    """A user with as many streams as it gets hinders neither another user nor root."""
    async with guarded(tmp_path, limits=few(streams=3, streams_per_user=2)) as member:
        for user in ("hog", "other"):
            await member.add_user(user, KEYS)
        room = member.member.serving.shares.streams
        async with (
            member.socket("hog") as hog,
            member.socket("hog") as again,
            member.socket("other") as other,
            member.socket() as root,
        ):
            (first,) = await hog.send(WATCH)
            await hog.answers([first])
            (moved,) = await again.send(WATCH)
            await again.answers([moved])
            for socket in (hog, again):
                assert limit_of(await socket.call(WATCH)) == "streams_per_user"
            await other.call(WATCH)
            assert limit_of(await other.call(WATCH)) == "streams"
            assert await root.call(WATCH) is None
            assert room.total == 4
            await hog.call(Cancel(first))
            assert room.count(("user", "hog")) == 1
            # Another user's connection brings its streams along, and they must fit.
            assert limit_of(await again.call(Login("root", PASSWORD))) == ""
            assert room.count(("user", "hog")) == 0
            assert room.count(("user", "root")) == 2
            await again.call(Cancel(moved))
            assert limit_of(await hog.call(WATCH)) == ""
            await root.inner.close()
            await until(lambda: room.total == 2)
            assert limit_of(await other.call(WATCH)) == ""
            assert limit_of(await hog.call(Login("other", PASSWORD))) == "streams_per_user"
            assert room.count(("user", "hog")) == 1
        await until(lambda: room.total == 0)


async def test_connections_of_a_user(tmp_path: Path) -> None:
    """A user with as many connections as it gets hinders neither another user nor root."""
    async with guarded(tmp_path, limits=few(connections_per_user=1)) as house:
        for user in ("hog", "other"):
            await house.add_user(user, KEYS)
        room = house.member.serving.shares.connections
        async with house.socket("hog"), house.socket("other"), house.socket(), house.socket():
            async with house.member.web_socket(greet=False) as late:
                assert limit_of(await late.call(Login("hog", PASSWORD))) == "connections_per_user"
                assert room.count(("user", "hog")) == 1
            assert room.count(("user", "root")) == 2
        await until(lambda: room.total == 0)
        async with house.socket("hog"):
            assert room.count(("user", "hog")) == 1


async def test_streams_over_http(tmp_path: Path) -> None:
    """A user's streams over HTTP leave room for those of another user, and end with theirs."""
    limits = few(http_streams=2, http_streams_per_user=1)
    async with guarded(tmp_path, limits=limits) as house, contextlib.AsyncExitStack() as stack:
        answers = {}
        for user in ("hog", "other", "third"):
            await house.add_user(user, KEYS)
            token = await house.token(user)
            for number in range(2):
                answers[user, number] = await opened(house, stack, token)
        answers["root", 0] = await opened(house, stack, house.root)
        assert answers == {
            ("hog", 0): 200,
            ("hog", 1): 429,
            ("other", 0): 200,
            ("other", 1): 429,
            ("third", 0): 429,
            ("third", 1): 429,
            ("root", 0): 200,
        }
        await stack.aclose()
        shares = house.member.serving.shares
        await until(lambda: shares.http_streams.total == 0)
        assert shares.streams.total == 0


async def opened(house: Guarded, stack: contextlib.AsyncExitStack, token: str) -> int:
    """Open a stream over HTTP; gives the status."""
    raw = await stack.enter_async_context(house.member.raw())
    line = f"authorization: Bearer {token}"
    raw.send(f"GET /v1/watch?key=app/a HTTP/1.1\r\nhost: localhost\r\n{line}\r\n\r\n".encode())
    return (await raw.answer("HEAD")).status


async def test_watches_of_etcd(tmp_path: Path) -> None:
    """Watches over gRPC count with the user's other streams; the refused one alone ends."""
    async with guarded(tmp_path, limits=few(streams_per_user=1)) as house:
        await house.add_user("hog", KEYS)
        room = house.member.serving.shares.streams
        async with connected(house.member.port) as grpc:
            told = await grpc.call("/etcdserverpb.Auth/Authenticate", name="hog", password=PASSWORD)
            talk = grpc.talk("/etcdserverpb.Watch/Watch", ("token", told.token))
            for number in (1, 2):
                talk.say(create_request={"key": b"app/a", "watch_id": number})
            assert not (await talk.hear()).canceled
            refused = await talk.hear()
            assert refused.canceled
            assert "ResourceExhausted" in refused.cancel_reason
            assert "--max-streams-per-user" in refused.cancel_reason
            assert room.total == 1
            talk.say(cancel_request={"watch_id": 1})
            assert (await talk.hear()).canceled
            assert room.total == 0
            talk.say(create_request={"key": b"app/a"})
            assert not (await talk.hear()).canceled
        await until(lambda: room.total == 0)


async def test_streams_and_waits_of_etcd(tmp_path: Path) -> None:
    """Renewals, observations and waiting locks over gRPC count; a refused lock does not wait."""
    async with guarded(tmp_path, limits=few(streams_per_user=2)) as house:
        await house.add_user("hog", KEYS)
        room = house.member.serving.shares.streams
        async with connected(house.member.port) as grpc:
            told = await grpc.call("/etcdserverpb.Auth/Authenticate", name="hog", password=PASSWORD)
            token = ("token", told.token)
            held = await grpc.call("/v3lockpb.Lock/Lock", token, name=b"app/lock")
            await until(lambda: room.total == 0)
            renewals = grpc.talk("/etcdserverpb.Lease/LeaseKeepAlive", token)
            renewals.say(ID=1)
            await renewals.hear()
            observation = grpc.talk("/v3electionpb.Election/Observe", token)
            observation.say(name=b"app/boss")
            await until(lambda: room.total == 2)
            late = grpc.talk("/etcdserverpb.Lease/LeaseKeepAlive", token)
            for waits in (late.hear(), grpc.call("/v3lockpb.Lock/Lock", token, name=b"app/lock")):
                with pytest.raises(Refused) as caught:
                    await waits
                assert caught.value.code == 8  # RESOURCE_EXHAUSTED
            observation.reset()
            await until(lambda: room.total == 1)
            await grpc.call("/v3lockpb.Lock/Unlock", token, key=held.key)
            again = await grpc.call("/v3lockpb.Lock/Lock", token, name=b"app/lock")
            assert again.key != held.key
        await until(lambda: room.total == 0)
