"""However many connections there are, this machine and root still get one."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.api import census as census_module
from coordinator.api.census import Census, Place
from coordinator.api.registry import Caller
from coordinator.api.shares import Shares
from coordinator_sdk.errors import CoordinatorError, Exhausted
from coordinator_sdk.protocol.auth import Login
from coordinator_sdk.protocol.frames import Failure
from coordinator_sdk.protocol.kv import Range
from tests.api.member import few, running, until
from tests.api.users import KEYS, PASSWORD, guarded
from tests.etcd.client import Refused, connected

ROOT = Caller("root", "192.0.2.9:1")
USER = Caller("hog", "192.0.2.9:1")


class Line:
    """A connection that notes its end."""

    is_aborted = False

    def abort(self) -> None:
        """Note it."""
        self.is_aborted = True


class OneRoot(Shares):
    """Knows root without a member."""

    def is_favoured(self, caller: Caller) -> bool:
        """Tell whether it is root."""
        return caller.actor == "root"


def census(*, enabled: bool = True, **limits: Any) -> Census:
    """Make the census of a member."""
    node: Any = SimpleNamespace(machine=SimpleNamespace(auth=SimpleNamespace(enabled=enabled)))
    made = few(**limits)
    return Census(made, OneRoot(node, made))


def admit(made: Census, address: str = "192.0.2.1") -> Place:
    """Let a connection in that gets in."""
    place = made.admit(address, Line())
    assert place is not None
    return place


def test_caps_by_address() -> None:
    """One other machine gets its share only; this machine has a reserve."""
    made = census(enabled=False, connections=4, connections_reserve=1, connections_per_address=2)

    def admitted(address: str) -> bool:
        return made.admit(address, Line()) is not None

    first = admit(made)
    assert [admitted("192.0.2.1") for _ in range(2)] == [True, False]
    assert admitted("192.0.2.2")
    near = admit(made, "127.0.0.1")
    assert [admitted("127.0.0.1") for _ in range(2)] == [True, False]
    assert not admitted("192.0.2.3")
    for place in (first, near):
        place.leave()
        place.leave()
    assert admitted("192.0.2.1")
    assert (made.connections, made.refused) == (4, 3)


def test_one_machine_has_many_addresses() -> None:
    """Of IPv6 a /64 counts as one address: whoever has one has all of its addresses."""
    made = census(enabled=False, connections=9, connections_per_address=2)
    found = [made.admit(f"2001:db8::{number}", Line()) for number in range(4)]
    assert [one is not None for one in found] == [True, True, False, False]
    other = made.admit("2001:db8:0:1::1", Line())
    assert other is not None
    assert made.shares.connections.count(("address", "2001:db8::/64")) == 2
    for one in found[:2]:
        assert one is not None
        one.leave()
    assert made.admit("2001:db8::9", Line()) is not None


def test_root_gets_in_beyond_the_cap() -> None:
    """Beyond the cap, whoever proves to be root stays, and nobody else gets anything."""
    made = census(connections=1, connections_reserve=0, connections_for_root=2)
    admit(made).take(USER)
    late = admit(made)
    late.check_move(Caller())  # To log in.
    for caller in (USER, Caller()):
        with pytest.raises(Exhausted, match="kept for root; --max-connections"):
            late.check_kept(caller)
    with pytest.raises(Exhausted, match="kept for root"):
        late.take(USER)
    late.take(ROOT)
    late.check_kept(ROOT)
    admit(made).take(ROOT)
    assert made.admit("192.0.2.1", Line()) is None
    assert (made.connections, made.refused) == (3, 1)


def test_those_who_prove_nothing_make_way() -> None:
    """Silent connections cannot keep root out: the oldest of them makes way, first its own."""
    made = census(connections=0, connections_reserve=0, connections_for_root=3)
    first, second, other = admit(made), admit(made), admit(made, "192.0.2.2")
    admit(made, "192.0.2.2")
    assert [one.transport.is_aborted for one in (first, second, other)] == [False, False, True]
    admit(made, "192.0.2.3").take(ROOT)
    assert [one.transport.is_aborted for one in (first, second)] == [True, False]
    first.leave()
    assert (made.connections, made.refused) == (3, 2)


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 9), st.sampled_from("alr")), max_size=60)
)
def test_counts_are_right(history: list[tuple[int, int, str]]) -> None:
    """Whoever comes, proves and goes: the caps hold, and the counts are zero in the end."""
    made = census(
        connections=4, connections_reserve=1, connections_for_root=2, connections_per_address=3
    )
    hosts = ("127.0.0.1", "192.0.2.1", "192.0.2.2")
    places: list[Place] = []
    for host, number, what in history:
        if what == "a":
            place = made.admit(hosts[host], Line())
            if place is not None:
                places.append(place)
        elif places:
            place = places[number % len(places)]
            if what == "l":
                place.leave()
            elif not place.transport.is_aborted:
                place.take(ROOT)
        assert made.connections <= 7
        assert sum(made._by_address.values()) == made.connections
        assert made.shares.connections.total == made.connections
    for place in places:
        place.leave()
    assert made.connections == made.shares.connections.total == 0
    assert not made._by_address
    assert not made._unproved


# ---------------------------------------------------------------- as clients see it


@pytest.fixture
def from_afar(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this machine count as any other."""
    monkeypatch.setattr(census_module, "is_this_machine", lambda address: False)


@contextlib.asynccontextmanager
async def crowded(folder: Path, *users: str) -> Any:
    """Run a member, with users, and as many connections as all clients may have."""
    async with guarded(folder, limits=few(connections=2)) as house:
        for user in users:
            await house.add_user(user, KEYS)
        assert (await house.ask("PUT", "/v1/kv/app/a", b"1")).status == 200
        tokens = {user: await house.token(user) for user in users}
        census = house.member.serving.census
        await until(lambda: census.connections == 0)
        async with house.member.raw(), house.member.raw():
            await until(lambda: census.connections == 2)
            yield house, tokens


@pytest.mark.usefixtures("from_afar")
async def test_few_stay_to_read_why(tmp_path: Path) -> None:
    """Of those who are refused only some may take their time: each keeps a file open meanwhile."""
    async with running(tmp_path, limits=few(connections=0, refusals=2)) as member:
        census = member.serving.census
        async with member.raw() as first, member.raw() as second:
            for raw in (first, second):
                assert (await raw.answer("GET")).status == 429
            async with member.raw() as third:
                with contextlib.suppress(ConnectionError):
                    assert await third.reader.read() == b""
        await until(lambda: census._reading == 0)
        assert census.refused == 3
        async with member.raw() as late:
            assert (await late.answer("GET")).status == 429


@pytest.mark.usefixtures("from_afar")
async def test_root_over_http(tmp_path: Path) -> None:
    """With all connections taken, root is served over HTTP, and what all may ask; users are not."""
    async with crowded(tmp_path, "user") as (house, tokens):
        refused = await house.ask("GET", "/v1/kv/app/a", token=tokens["user"])
        assert (refused.status, refused.error["details"]) == (429, {"limit": "connections"})
        assert "kept for root" in refused.error["message"]
        assert (await house.ask("GET", "/livez", token="")).status == 200
        assert (await house.ask("GET", "/v1/kv/app/a", token="")).status == 401
        assert (await house.login("root")).status == 200
        assert (await house.ask("GET", "/v1/kv/app/a")).status == 200
        asked = {"key": "YQ=="}
        for token, status in ((tokens["user"], 429), (house.root, 200)):
            assert (await house.ask("POST", "/v3/kv/range", asked, token=token)).status == status


@pytest.mark.usefixtures("from_afar")
async def test_root_on_a_websocket(tmp_path: Path) -> None:
    """With all connections taken, root logs in on a WebSocket; users are refused, and may go."""
    async with crowded(tmp_path, "user") as (house, _):
        async with house.socket() as root:
            assert not isinstance(await root.call(Range(b"app/a")), Failure)
        async with house.member.web_socket(greet=False) as other:
            told = await other.call(Login("user", PASSWORD))
            assert isinstance(told, Failure)
            assert told.details == {"limit": "connections"}
        async with house.member.web_socket(greet=False) as nobody:
            with pytest.raises((CoordinatorError, AssertionError)):
                await nobody.greet()


@pytest.mark.usefixtures("from_afar")
async def test_root_over_grpc(tmp_path: Path) -> None:
    """With all connections taken, root is served over gRPC, and may log in there; users may not."""
    async with crowded(tmp_path, "user") as (house, tokens):
        async with connected(house.member.port) as grpc:
            told = await grpc.call(
                "/etcdserverpb.Auth/Authenticate", name="root", password=PASSWORD
            )
            with pytest.raises(Refused) as caught:
                await ranged(grpc, tokens["user"])
            assert caught.value.code == 8  # RESOURCE_EXHAUSTED
            await ranged(grpc, told.token)


async def ranged(grpc: Any, token: str) -> None:
    """Read a key."""
    await grpc.call("/etcdserverpb.KV/Range", ("token", token), key=b"app/a")


@pytest.mark.usefixtures("from_afar")
async def test_silence_keeps_nobody_out(tmp_path: Path) -> None:
    """However many connect and say nothing, root gets in at once."""
    async with crowded(tmp_path) as (house, _), contextlib.AsyncExitStack() as stack:
        limits = house.member.serving.limits
        for _ in range(3 * limits.connections_for_root):
            await stack.enter_async_context(house.member.raw())
        async with asyncio.timeout(10):
            assert (await house.ask("GET", "/v1/users")).status == 200


async def test_connections_of_a_user_by_any_protocol(tmp_path: Path) -> None:
    """What a user has over HTTP and gRPC counts as much as a WebSocket."""
    async with guarded(tmp_path, limits=few(connections_per_user=2)) as house:
        await house.add_user("hog", KEYS)
        assert (await house.ask("PUT", "/v1/kv/app/a", b"1")).status == 200
        token = await house.token("hog")
        room = house.member.serving.shares.connections
        await until(lambda: room.total == 0)
        async with house.member.raw() as http, connected(house.member.port) as grpc:
            assert (await asked(http, token)) == 200
            await ranged(grpc, token)
            assert room.count(("user", "hog")) == 2
            assert (await asked(http, token)) == 200
            refused = await house.ask("GET", "/v1/kv/app/a", token=token)
            assert (refused.status, refused.error["details"]) == (
                429,
                {"limit": "connections_per_user"},
            )
            async with house.member.web_socket(greet=False) as late:
                told = await late.call(Login("hog", PASSWORD))
                assert isinstance(told, Failure)
                assert told.details == {"limit": "connections_per_user"}
            shown = (await house.ask("GET", "/metrics")).body.decode()
            assert 'coordinator_over_share_total{what="connections"} 2' in shown
        await until(lambda: room.total == 0)


async def asked(raw: Any, token: str) -> int:
    """Read a key on a connection that stays; gives the status."""
    line = f"authorization: Bearer {token}"
    raw.send(f"GET /v1/kv/app/a HTTP/1.1\r\nhost: localhost\r\n{line}\r\n\r\n".encode())
    status: int = (await raw.answer("GET")).status
    return status
