"""Tokens in use: who loses what when they expire, are revoked, or were issued elsewhere."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import pytest

from coordinator.api import recheck
from coordinator.api.recheck import expire
from coordinator_sdk.protocol import auth
from coordinator_sdk.protocol.auth import Login, LoginResult, Reauthenticate
from coordinator_sdk.protocol.frames import Failure, Stream
from coordinator_sdk.protocol.kv import Put, Watch
from tests.api.member import running, until
from tests.api.together import together
from tests.api.users import KEYS, PASSWORD, guarded

HOUR_MS = 3_602_000


def later(member: Any, ms: int) -> None:
    """Let time pass for tokens."""
    credentials = member.serving.identity.credentials
    clock_ms = credentials._clock_ms
    credentials._clock_ms = lambda: clock_ms() + ms


async def test_time_ends_authority_and_streams(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who shows no other token in time may do nothing more, and its streams end soon after."""
    monkeypatch.setattr(recheck, "EXPIRY_GRACE_S", 0.0)
    async with guarded(tmp_path_factory.mktemp("time")) as house:
        await house.add_user("ana", KEYS)
        async with house.socket("ana") as socket:
            (watch,) = await socket.send(Watch(b"app/"))
            await socket.answers([watch])
            (connection,) = house.member.serving.websockets
            assert connection._expiry is not None
            left_s = connection._expiry.when() - time.monotonic()
            assert 3000 < left_s <= 3602
            later(house.member, HOUR_MS)
            expire(connection)
            assert connection.caller.actor == ""
            ended = await socket.item()
            assert isinstance(ended, Failure)
            assert (ended.id, ended.code) == (watch, "unauthenticated")
            refused = await socket.call(Put(b"app/a", b"1"))
            assert isinstance(refused, Failure)
            assert refused.code == "unauthenticated"
            told = await socket.call(Login("ana", PASSWORD), LoginResult)
            assert told.user == "ana"
            assert await socket.call(Put(b"app/a", b"1")) is None


async def test_another_token_in_time(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Who shows another token before the streams are ended loses none of them."""
    async with guarded(tmp_path_factory.mktemp("grace")) as house:
        await house.add_user("ana", KEYS)
        async with house.socket("ana") as socket:
            (watch,) = await socket.send(Watch(b"app/"))
            await socket.answers([watch])
            (connection,) = house.member.serving.websockets
            later(house.member, HOUR_MS)
            expire(connection)
            assert connection.caller.actor == ""
            assert watch in connection.streams
            token = await house.token("ana")
            assert (await socket.call(Reauthenticate(token), auth.Identity)).user == "ana"
            await socket.send(Put(b"app/", b"1"))
            while not isinstance(await socket.item(), Stream):
                pass


async def test_a_stream_over_http(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream over HTTP ends with its token: there is no way to show another one."""
    monkeypatch.setattr(recheck, "EXPIRY_GRACE_S", 0.0)
    async with guarded(tmp_path_factory.mktemp("stream")) as house:
        async with house.member.raw() as raw:
            raw.send(
                b"GET /v1/watch?key=k HTTP/1.1\r\nhost: localhost\r\n"
                b"accept: application/x-ndjson\r\nauthorization: "
                + house.root.encode()
                + b"\r\n\r\n"
            )
            await raw.answer("HEAD")
            (stream,) = house.member.serving.connections()
            later(house.member, HOUR_MS)
            expire(stream)
            await raw.reader.readuntil(b"\r\n")
            line = msgspec.json.decode(await raw.reader.readuntil(b"\n"))
            assert (line["type"], line["error"]["code"]) == ("error", "unauthenticated")


@pytest.mark.slow
async def test_five_seconds(tmp_path_factory: pytest.TempPathFactory) -> None:
    """By the clock: the streams of a token of one second end within five of its expiry."""
    async with guarded(tmp_path_factory.mktemp("five"), auth_token="jwt,ttl=1s") as house:
        async with house.member.web_socket(greet=False) as socket:
            told = await socket.call(Login("root", PASSWORD), LoginResult)
            await socket.greet()
            (watch,) = await socket.send(Watch(b"k"))
            await socket.answers([watch])
            ended = await socket.item()
            assert isinstance(ended, Failure)
            assert ended.id == watch
            assert told.expires_ms <= time.time() * 1000


async def test_revocation_ends_streams(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A revoked API key, a deleted user and a changed password end the streams at once."""
    async with guarded(tmp_path_factory.mktemp("revoked")) as house:
        await house.add_user("robot", KEYS)
        made = (await house.ask("POST", "/v1/api-keys", {"user": "robot"})).json
        other = (await house.ask("POST", "/v1/api-keys", {"user": "robot"})).json
        for credential, method, target, body in (
            (made["secret"], "DELETE", f"/v1/api-keys/{made['key']}", b""),
            ("", "PUT", "/v1/users/robot/password", {"password": PASSWORD + "!"}),
            (other["secret"], "DELETE", "/v1/users/robot", b""),
        ):
            shown = credential or await house.token("robot")
            async with house.member.web_socket(greet=False) as socket:
                assert (await socket.call(Reauthenticate(shown), auth.Identity)).user == "robot"
                await socket.greet()
                (watch,) = await socket.send(Watch(b"app/"))
                await socket.answers([watch])
                assert (await house.ask(method, target, body)).status == 200
                ended = await socket.item()
                assert isinstance(ended, Failure)
                assert ended.id == watch


async def test_any_member_believes_what_any_issued(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Of three members, each believes the tokens and API keys of each, at once."""
    async with together(tmp_path_factory.mktemp("three")) as cluster:
        members = list(cluster.members.values())
        first = cluster.members[cluster.follower()]
        made = await first.ask("POST", "/v1/auth/init", {"password": PASSWORD})
        assert made.status == 200, made.body
        for issuer in members:
            body = {"user": "root", "password": PASSWORD}
            answer = await issuer.ask("POST", "/v1/auth/login", body)
            assert answer.status == 200, answer.body
            bearer = [("authorization", f"Bearer {answer.json['token']}")]
            key = await issuer.ask("POST", "/v1/api-keys", {"user": "root"}, bearer)
            robot = [("authorization", f"Bearer {key.json['secret']}")]
            for member in members:
                for shown in (bearer, robot):
                    who = await member.ask("GET", "/v1/auth/whoami", b"", shown)
                    assert (who.status, who.json.get("user")) == (200, "root")
                    assert (await member.ask("GET", "/v1/users", b"", shown)).status == 200


async def test_before_authentication_is_on(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `--require-auth`, other machines are refused until authentication is on."""
    from coordinator.api import identity as edge

    async with running(
        tmp_path_factory.mktemp("first"), require_auth=True, password_cost=10
    ) as member:
        async with member.web_socket() as early:
            with monkeypatch.context() as patch:
                patch.setattr(edge, "is_this_machine", lambda address: False)
                for method, target in (
                    ("GET", "/v1/kv/a"),
                    ("POST", "/v1/auth/init"),
                    ("GET", "/v1/auth/whoami"),
                    ("GET", "/v1/watch?key=a"),
                ):
                    body = {"password": PASSWORD} if method == "POST" else b""
                    refused = await member.ask(method, target, body)
                    assert refused.status == 401, target
                    assert "coordctl auth init" in refused.error["message"]
                assert (await member.ask("GET", "/health")).status == 200
                with pytest.raises(Exception, match="401"):
                    async with member.web_socket():
                        pass
            made = await member.ask("POST", "/v1/auth/init", {"password": PASSWORD})
            assert made.status == 200
            await early.call(Login("root", PASSWORD))
            assert await early.call(auth.AuthDisable()) is None
            monkeypatch.setattr(edge, "is_this_machine", lambda address: False)
            member.node.machine.auth.revision += 1
            await until(lambda: not member.serving.websockets)
