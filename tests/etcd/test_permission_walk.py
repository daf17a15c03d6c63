"""Every gRPC method and every route of the gateway, for nobody, forgers and strangers."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from google.protobuf.json_format import MessageToDict

from coordinator.etcd.gateway import ROUTES
from coordinator.etcd.messages import METHODS
from tests.api.member import Running, running
from tests.etcd.client import Grpc, Refused, connected

pytestmark = pytest.mark.asyncio(loop_scope="module")

API = "/etcdserverpb."
EMPTY, FORGED, DENIED = (
    "etcdserver: user name is empty",
    "etcdserver: invalid auth token",
    "etcdserver: permission denied",
)
ADMIN = {f"{API}Maintenance/{name}" for name in ("Defragment", "Hash", "HashKV", "Snapshot")}
"""Refused with the code 2 and words of their own, as in etcd."""
RECIPES = ("/v3lockpb.", "/v3electionpb.")
"""Refused with the code 2, as in etcd."""
WATCH = f"{API}Watch/Watch"
"""Tells its refusals in the stream."""
OPEN = {
    f"{API}{name}" for name in ("Auth/Authenticate", "Cluster/MemberList", "Maintenance/Status")
}
"""For everybody, whatever token comes along."""
ALARMS = f"{API}Maintenance/Alarm"
"""Alarms may be listed by everybody whose token is not wrong."""
KNOWN = {f"{API}Auth/AuthStatus", f"{API}Lease/LeaseKeepAlive"}
"""What a user without any right may ask, and about what: see the tests."""

FIELDS: dict[str, dict[str, Any]] = {
    "KV/Range": {"key": b"z"},
    "KV/Put": {"key": b"z"},
    "KV/DeleteRange": {"key": b"z"},
    "KV/Txn": {"success": [{"request_put": {"key": b"z"}}]},
    "KV/Compact": {"revision": 1},
    "Watch/Watch": {"create_request": {"key": b"z"}},
    "Lease/LeaseGrant": {"TTL": 60},
    "Lease/LeaseRevoke": {"ID": 77},
    "Lease/LeaseTimeToLive": {"ID": 77, "keys": True},
    "Lease/LeaseKeepAlive": {"ID": 77},
    "Cluster/MemberAdd": {"peerURLs": ["http://127.0.0.1:1"]},
    "Cluster/MemberRemove": {"ID": 9},
    "Cluster/MemberUpdate": {"ID": 9, "peerURLs": ["http://127.0.0.1:1"]},
    "Cluster/MemberPromote": {"ID": 9},
    "Maintenance/MoveLeader": {"targetID": 9},
    "Auth/Authenticate": {"name": "bob", "password": "wrong"},
    "Auth/UserAdd": {"name": "u", "password": "p"},
    "Auth/UserGet": {"name": "root"},
    "Auth/UserDelete": {"name": "u"},
    "Auth/UserChangePassword": {"name": "u", "password": "p"},
    "Auth/UserGrantRole": {"user": "u", "role": "r"},
    "Auth/UserRevokeRole": {"name": "u", "role": "r"},
    "Auth/RoleAdd": {"name": "r"},
    "Auth/RoleGet": {"role": "root"},
    "Auth/RoleDelete": {"role": "r"},
    "Auth/RoleGrantPermission": {"name": "r", "perm": {"key": b"k"}},
    "Auth/RoleRevokePermission": {"role": "r", "key": b"k"},
    "/v3lockpb.Lock/Lock": {"name": b"z"},
    "/v3lockpb.Lock/Unlock": {"key": b"z"},
    "/v3electionpb.Election/Campaign": {"name": b"z"},
    "/v3electionpb.Election/Leader": {"name": b"z"},
    "/v3electionpb.Election/Observe": {"name": b"z"},
    "/v3electionpb.Election/Proclaim": {"leader": {"name": b"z", "key": b"z/1", "rev": 1}},
    "/v3electionpb.Election/Resign": {"leader": {"name": b"z", "key": b"z/1", "rev": 1}},
}


class Guarded:
    """A member with authentication on.

    Attributes:
        member: The member.
        root: A token of root.
        bob: A token of a user without any right.
        forged: Tokens that prove nothing.
    """

    def __init__(self, member: Running, root: str, bob: str, gone: str) -> None:
        self.member = member
        self.root, self.bob = root, bob
        seal = base64.b64encode(b"x" * 32).decode()
        self.forged = {
            "nonsense": "nonsense",
            "a guess of etcd's": "aaaaaaaaaaaaaaaa.9",
            "cut": bob[:-1],
            "longer": bob + "a",
            "another revision": bob.rpartition(".")[0] + ".999",
            "another user": bob[:4] + ("A" if bob[4] != "A" else "B") + bob[5:],
            "empty parts": "..",
            "unsigned": "eyJhbGciOiJub25lIn0.eyJzdWIiOiJyb290In0.",
            "signed by nobody": f"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJyb290In0.{seal}",
            "an API key": "ck_0000000000000001_" + "a" * 43,
            "a short API key": "ck_1_a",
            "a deleted user's": gone,
            "bearer of nothing": "Bearer",
            "bearer of nonsense": "Bearer x",
            "long": "a" * 5000,
            "not of these characters": "\x80\xff",
        }


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def guarded(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Guarded]:
    """A member with root, a user without rights, and the token of one who is gone."""
    folder = tmp_path_factory.mktemp("guarded")
    async with running(folder, password_cost=10) as member, connected(member.port) as grpc:
        for name in ("root", "bob", "gone"):
            await grpc.call(f"{API}Auth/UserAdd", name=name, password=f"{name}pw")
        await grpc.call(f"{API}Auth/UserGrantRole", user="root", role="root")
        await grpc.call(f"{API}Auth/AuthEnable")
        tokens = [await token_of(grpc, name) for name in ("root", "bob", "gone")]
        await grpc.call(f"{API}Auth/UserDelete", ("token", tokens[0]), name="gone")
        yield Guarded(member, *tokens)


async def token_of(grpc: Grpc, name: str) -> str:
    """Log in."""
    found = await grpc.call(f"{API}Auth/Authenticate", name=name, password=f"{name}pw")
    return str(found.token)


def fields_of(path: str) -> dict[str, Any]:
    """Give a request that is right in itself."""
    return FIELDS.get(path.removeprefix(API), {})


async def outcome(grpc: Grpc, path: str, *extra: tuple[str, str]) -> tuple[int, str]:
    """Make a call; give its code and text, of a watch those of its answer."""
    method = METHODS[path]
    stream = grpc.open(path, *extra)
    grpc.write(stream, method.request(**fields_of(path)), last=path != WATCH)
    try:
        async for payload in grpc.payloads(stream):
            if path == WATCH:
                answer = method.response.FromString(payload)
                assert (answer.created, answer.canceled, answer.watch_id) == (True, True, -1)
                return -1, answer.cancel_reason
    except Refused as error:
        return error.code, error.message
    return 0, ""


def refusal(path: str, code: int, text: str) -> tuple[int, str]:
    """Give what etcd 3.4 refuses a call with."""
    if path == WATCH:
        name = {3: "InvalidArgument", 7: "PermissionDenied", 16: "Unauthenticated"}[code]
        return -1, f"rpc error: code = {name} desc = {text}"
    if path in ADMIN or path == ALARMS:
        return 2, text.replace("etcdserver:", "auth:")
    return (2, text) if path.startswith(RECIPES) else (code, text)


GUARDED = sorted(set(METHODS) - OPEN)


@pytest.mark.parametrize("path", sorted(set(METHODS) - OPEN - {ALARMS}))
async def test_nobody_is_told_to_log_in(guarded: Guarded, path: str) -> None:
    """Without a token, everything but a few calls is refused with etcd's code and text."""
    async with connected(guarded.member.port) as grpc:
        assert await outcome(grpc, path) == refusal(path, 3, EMPTY)


@pytest.mark.parametrize("path", GUARDED)
async def test_forged_tokens_are_refused(guarded: Guarded, path: str) -> None:
    """Whatever is wrong with a token, everything but a few calls is refused with etcd's words."""
    assert len(guarded.forged) >= 15
    async with connected(guarded.member.port) as grpc:
        for what, token in guarded.forged.items():
            wanted = refusal(path, 16, FORGED)
            for header in ("token", "authorization"):
                assert await outcome(grpc, path, (header, token)) == wanted, what


@pytest.mark.parametrize("path", sorted(set(METHODS) - OPEN - KNOWN - {ALARMS}))
async def test_a_user_without_rights_is_denied(guarded: Guarded, path: str) -> None:
    """A user whom nothing is granted is denied everything but a few calls, with etcd's words."""
    async with connected(guarded.member.port) as grpc:
        wanted = refusal(path, 7, DENIED)
        assert await outcome(grpc, path, ("token", guarded.bob)) == wanted


async def test_what_is_open(guarded: Guarded) -> None:
    """Open are logins, the members, the status and the list of alarms, and nothing else."""
    async with connected(guarded.member.port) as grpc:
        for path in (f"{API}Cluster/MemberList", f"{API}Maintenance/Status"):
            for extra in ((), (("token", "forged"),), (("token", guarded.bob),)):
                assert await outcome(grpc, path, *extra) == (0, "")
        assert await outcome(grpc, ALARMS) == (0, "")
        assert await outcome(grpc, ALARMS, ("token", guarded.bob)) == (0, "")
        wrong = "etcdserver: authentication failed, invalid user ID or password"
        assert await outcome(grpc, f"{API}Auth/Authenticate", ("token", "forged")) == (3, wrong)
        with pytest.raises(Refused, match="2: auth: user name is empty"):
            await grpc.call(ALARMS, action=2, memberID=1, alarm=1)
        with pytest.raises(Refused, match="2: auth: permission denied"):
            await grpc.call(ALARMS, ("token", guarded.bob), action=1, memberID=1, alarm=1)


async def test_what_a_user_may_know(guarded: Guarded) -> None:
    """A user without rights learns whether authentication is on, and who it is itself."""
    async with connected(guarded.member.port) as grpc:
        token = ("token", guarded.bob)
        assert (await grpc.call(f"{API}Auth/AuthStatus", token)).enabled
        assert not (await grpc.call(f"{API}Auth/UserGet", token, name="bob")).roles
        with pytest.raises(Refused, match=f"7: {DENIED}"):
            await grpc.call(f"{API}Auth/UserGet", token, name="nobody")
        talk = grpc.talk(f"{API}Lease/LeaseKeepAlive", token)
        talk.say(ID=77)
        with pytest.raises(Refused, match=f"7: {DENIED}"):
            await talk.hear()


async def test_root_may(guarded: Guarded) -> None:
    """Root's token opens what is closed to others, as `token` and as `authorization`."""
    async with connected(guarded.member.port) as grpc:
        for header, value in (
            ("token", guarded.root),
            ("authorization", guarded.root),
            ("authorization", f"Bearer {guarded.root}"),
        ):
            found = await grpc.call(f"{API}Auth/UserList", (header, value))
            assert list(found.users) == ["bob", "root"]


# ---------------------------------------------------------------- the gateway

_STATUS = {2: 500, 3: 400, 7: 403, 16: 401}


async def through(
    guarded: Guarded, route: str, headers: list[tuple[str, str]]
) -> tuple[int, dict[str, Any]]:
    """Make a call through the gateway; give status and body."""
    path = ROUTES[route]
    message = METHODS[path].request(**fields_of(path))
    raw = json.dumps(_json(message)).encode()
    async with guarded.member.raw() as one, asyncio.timeout(20):
        given = [*headers, ("content-length", str(len(raw)))]
        if path != WATCH:
            answer = await one.ask("POST", f"/v3/{route}", raw, given)
            return answer.status, answer.json if answer.body else {}
        lines = [f"{name}: {value}" for name, value in (("host", "127.0.0.1"), *given)]
        one.send("\r\n".join(("POST /v3/watch HTTP/1.1", *lines, "", "")).encode() + raw)
        head = await one.reader.readuntil(b"\r\n\r\n")
        size = int(await one.reader.readline(), 16)
        return int(head.split()[1]), json.loads(await one.reader.readexactly(size))


def _json(message: Any) -> dict[str, Any]:
    found: dict[str, Any] = MessageToDict(message, preserving_proto_field_name=True)
    return found


def told(path: str, code: int, text: str) -> tuple[int, dict[str, Any]]:
    """Give what the gateway answers a refusal with."""
    code, text = refusal(path, code, text)
    return _STATUS[code], {"error": text, "message": text, "code": code}


def reason(answer: tuple[int, dict[str, Any]]) -> tuple[int, str]:
    """Give the reason for which a watch was ended at once."""
    assert answer[0] == 200
    return -1, answer[1]["result"]["cancel_reason"]


@pytest.mark.parametrize("route", sorted(ROUTES))
async def test_every_route_is_guarded(guarded: Guarded, route: str) -> None:
    """Every route of the gateway refuses as its call does, with the status of its code."""
    path = ROUTES[route]
    if path in OPEN or path == ALARMS:
        assert (await through(guarded, route, []))[0] in (200, 400)
        return
    callers: list[tuple[list[tuple[str, str]], int, str]] = [([], 3, EMPTY)]
    names = ("authorization", "grpc-metadata-token")
    for token in ("nonsense", "Bearer x", guarded.forged["another user"]):
        callers += [([(name, token)], 16, FORGED) for name in names]
    if path not in KNOWN:
        callers += [([(name, guarded.bob)], 7, DENIED) for name in names]
    for headers, code, text in callers:
        answer = await through(guarded, route, headers)
        if path == WATCH:
            assert reason(answer) == refusal(path, code, text)
        else:
            assert answer == told(path, code, text), headers
