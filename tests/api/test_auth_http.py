"""Users, roles and API keys over HTTP, while authentication is off."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest
import pytest_asyncio

from coordinator_sdk.protocol import auth
from coordinator_sdk.protocol.cluster import Hello, Ping
from coordinator_sdk.protocol.frames import Failure, Result
from coordinator_sdk.protocol.kv import Put, Watch
from tests.api.member import Running, running

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def member(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    """A member of its own: what is made here is seen by nobody else."""
    async with running(tmp_path_factory.mktemp("users")) as made:
        yield made


async def test_roles(member: Running) -> None:
    """A role is made, given rights of both kinds, read, and loses them again."""
    assert (await member.ask("POST", "/v1/roles", {"role": "deploying"})).status == 201
    key = {"access": "readwrite", "key": "app/", "range_end": "app0"}
    domain = {"action": "lock:acquire", "name": "jobs/*"}
    for right in ({"key": key}, {"domain": domain}):
        granted = await member.ask("POST", "/v1/roles/deploying/grant", right)
        assert granted.status == 200, granted.body
    role = (await member.ask("GET", "/v1/roles/deploying")).json
    assert [one["access"] for one in role["keys"]] == ["readwrite"]
    assert role["domains"] == [{"action": "lock:acquire", "namespace": "*", "name": "jobs/*"}]
    for right in ({"key": key}, {"domain": domain | {"namespace": "*"}}):
        assert (await member.ask("POST", "/v1/roles/deploying/revoke", right)).status == 200
    assert (await member.ask("GET", "/v1/roles/deploying")).json["keys"] == []
    assert (await member.ask("GET", "/v1/roles")).json == {"roles": ["deploying"]}
    assert (await member.ask("DELETE", "/v1/roles/deploying")).status == 200
    gone = await member.ask("GET", "/v1/roles/deploying")
    assert (gone.status, gone.error["message"]) == (404, auth.ROLE_NOT_FOUND)


@pytest.mark.parametrize(
    ("right", "field"),
    [
        ({}, "key"),
        ({"domain": {"action": "lock:steal"}}, "domain.action"),
        ({"domain": {"action": "lock:read", "name": "a*b"}}, "domain.name"),
        ({"key": {"access": "readwrite", "key": "b", "range_end": "a"}}, "key.range_end"),
    ],
)
async def test_a_wrong_right_is_refused(member: Running, right: dict[str, object], field: str):
    """A right that can't be one is refused, and the field is named."""
    await member.ask("POST", "/v1/roles", {"role": "wrong"})
    refused = await member.ask("POST", "/v1/roles/wrong/grant", right)
    assert (refused.status, refused.error["details"]["field"]) == (400, field)


async def test_users(member: Running) -> None:
    """A user is made, gets a role, is read and listed, and goes; hashes can't be brought along."""
    await member.ask("POST", "/v1/roles", {"role": "r"})
    made = await member.ask("POST", "/v1/users", {"user": "u", "no_password": True})
    assert made.status == 201, made.body
    assert (await member.ask("PUT", "/v1/users/u/roles/r")).status == 200
    names = {"certificate_names": ["web-1"]}
    assert (await member.ask("PUT", "/v1/users/u/certificates", names)).status == 200
    assert (await member.ask("GET", "/v1/users/u")).json == {
        "user": "u",
        "roles": ["r"],
        "no_password": True,
        "certificate_names": ["web-1"],
    }
    brought = await member.ask("POST", "/v1/users", {"user": "v", "password_hash": "h"})
    assert (brought.status, brought.error["details"]["field"]) == (400, "password_hash")
    assert (await member.ask("GET", "/v1/users")).json == {"users": ["u"]}
    assert (await member.ask("DELETE", "/v1/users/u/roles/r")).status == 200
    assert (await member.ask("DELETE", "/v1/users/u")).status == 200
    again = await member.ask("DELETE", "/v1/users/u")
    assert (again.status, again.error["message"]) == (404, auth.USER_NOT_FOUND)


async def test_it_is_off(member: Running) -> None:
    """It is off until there is a root to turn it on."""
    assert (await member.ask("GET", "/v1/auth/status")).json["enabled"] is False
    refused = await member.ask("POST", "/v1/auth/enable")
    assert (refused.status, refused.error["message"]) == (409, auth.ROOT_USER_MISSING)
    assert (await member.ask("GET", "/v1/auth/whoami")).json["user"] == ""
    assert (await member.ask("GET", "/v1/api-keys")).json == {"keys": []}


async def test_nobody_is_locked_out(member: Running) -> None:
    """While nobody can log in, authentication can't be turned on, and the answer says why."""
    body = {"user": "root", "no_password": True}
    assert (await member.ask("POST", "/v1/users", body)).status in (200, 201)
    assert (await member.ask("POST", "/v1/roles", {"role": "root"})).status in (200, 201)
    granted = await member.ask("PUT", "/v1/users/root/roles/root")
    assert granted.status == 200
    refused = await member.ask("POST", "/v1/auth/enable")
    assert refused.status == 409
    assert "nobody could log in as root" in refused.error["message"]
    assert (await member.ask("GET", "/v1/auth/status")).json["enabled"] is False


async def test_blame(member: Running) -> None:
    """Who changed a key, over HTTP: the address of the client, the operation, the time."""
    written = await member.ask("PUT", "/v1/kv/blamed", b"1")
    found = (await member.ask("GET", "/v1/cluster/blame?key=blamed")).json
    [line] = found["lines"]
    assert line["revision"] == written.json["revision"]
    assert line["origin"].startswith("127.0.0.1:")
    assert (line["kind"], line["operation"]) == ("put", "kv.put")
    assert line["clock_ms"] > 0


async def test_turning_it_on_ends_what_nobody_may_have(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Streams of whoever has proved nothing end, on the WebSocket and over HTTP, and say why."""
    async with running(tmp_path_factory.mktemp("turned")) as turned:
        async with turned.web_socket() as socket, turned.raw() as raw:
            (stream,) = await socket.send(Watch(b"k"))
            await socket.answers([stream])
            raw.send(
                b"GET /v1/watch?key=k HTTP/1.1\r\nhost: localhost\r\n"
                b"accept: application/x-ndjson\r\n\r\n"
            )
            await raw.answer("HEAD")
            await turned.node.execute(auth.AuthInit(password_hash="hash"))
            ended = await socket.item()
            assert isinstance(ended, Failure)
            assert (ended.id, ended.code) == (stream, "permission_denied")
            await raw.reader.readuntil(b"\r\n")
            line = msgspec.json.decode(await raw.reader.readuntil(b"\n"))
            assert (line["type"], line["error"]["code"]) == ("error", "permission_denied")
            (put,) = await socket.send(Put(b"k"))
            refused = (await socket.answers([put]))[put]
            assert isinstance(refused, Failure)
            assert refused.code == "unauthenticated"
            (ping,) = await socket.send(Ping())
            assert isinstance((await socket.answers([ping]))[ping], Result)
        index = turned.node.status().index
        async with turned.web_socket(greet=False) as late:
            (hello,) = await late.send(Hello())
            told = (await late.answers([hello]))[hello]
            assert isinstance(told, Failure)
            assert told.code == "unauthenticated"
        assert turned.node.status().index <= index + 1


async def test_names_stay_on_their_line(member: Running) -> None:
    """Users and roles have no control characters in their names: no line of a log, a table or a
    terminal can be made up by one."""
    for name in ("a\nb", "a\tb", "a\0b", "a\x1b[2J", "a\x85b"):
        for target, body in (
            ("/v1/users", {"user": name, "no_password": True}),
            ("/v1/roles", {"role": name}),
        ):
            refused = await member.ask("POST", target, body)
            assert (refused.status, refused.error["details"]["field"]) == (
                400,
                target[4:-1],
            ), name
