"""Logging in: over HTTP, on the WebSocket, with passwords, tokens and API keys."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from coordinator.credentials.keys import private_key
from coordinator_sdk.protocol import auth
from coordinator_sdk.protocol.auth import Login, LoginResult, Reauthenticate
from coordinator_sdk.protocol.frames import Failure, Result
from coordinator_sdk.protocol.kv import Put, Range, Watch
from tests.api.member import until
from tests.api.users import KEYS, PASSWORD, Guarded, guarded
from tests.credentials.keys import private_pem, rsa_key, token, written

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Guarded]:
    """A member with authentication on and a user who may use some keys."""
    async with guarded(tmp_path_factory.mktemp("guarded")) as made:
        await made.add_user("ana", KEYS)
        yield made


# ---------------------------------------------------------------- passwords


async def test_a_password_gives_a_token(house: Guarded) -> None:
    """A login gives a token and when it expires; it is shown as Bearer or bare."""
    answer = await house.login("ana")
    assert answer.status == 200
    told = answer.json
    assert (told["user"], told["token"].count(".")) == ("ana", 2)
    assert told["expires_ms"] - told["clock_ms"] > 3_500_000
    assert answer.headers["cache-control"] == "no-store"
    for text in (f"Bearer {told['token']}", f"bearer {told['token']}", told["token"]):
        headers = [("authorization", text)]
        who = (await house.member.ask("GET", "/v1/auth/whoami", b"", headers)).json
        assert (who["user"], who["roles"], who["enabled"]) == ("ana", ["ana"], True)
        assert who["expires_ms"] == told["expires_ms"]
        assert [one["access"] for one in who["keys"]] == ["readwrite"]
    assert (await house.ask("PUT", "/v1/kv/app/a", b"1", token=told["token"])).status == 200
    assert (await house.ask("PUT", "/v1/kv/other", b"1", token=told["token"])).status == 403


async def test_nobody_learns_whether_a_user_exists(house: Guarded) -> None:
    """An unknown user, one without a password, and a wrong password get the same answer."""
    await house.add_user("silent", password="", no_password=True)
    answers = [
        await house.login("ana", "wrong"),
        await house.login("nobody-of-that-name", "wrong"),
        await house.login("silent", "wrong"),
        await house.login("silent", ""),
    ]
    assert {one.status for one in answers} == {401}
    assert len({one.body for one in answers}) == 1
    assert answers[0].error["message"] == auth.AUTH_FAILED


async def test_a_new_password_ends_what_the_old_one_gave(house: Guarded) -> None:
    """When a password changes, its tokens are void at once; the new one works, the old one not."""
    await house.add_user("changing", KEYS)
    token = await house.token("changing")
    assert (await house.ask("GET", "/v1/kv/app/a", token=token)).status in (200, 404)
    changed = await house.ask("PUT", "/v1/users/changing/password", {"password": "another one"})
    assert changed.status == 200
    assert (await house.ask("GET", "/v1/kv/app/a", token=token)).status == 401
    assert (await house.login("changing")).status == 401
    assert (await house.login("changing", "another one")).status == 200
    assert (await house.ask("DELETE", "/v1/users/changing")).status == 200
    assert (await house.login("changing", "another one")).status == 401


@pytest.mark.parametrize("password", ["", "x" * 1025], ids=["empty", "long"])
async def test_a_password_that_nobody_can_have(house: Guarded, password: str) -> None:
    """An empty password, or one that is too long, is refused when a user is made."""
    made = await house.ask("POST", "/v1/users", {"user": "odd", "password": password})
    assert (made.status, made.error["details"]["field"]) == (400, "password")


async def test_each_login_has_a_line(house: Guarded, caplog: pytest.LogCaptureFixture) -> None:
    """Each login is noted with user, address and result; a name that nobody has is not quoted."""
    with caplog.at_level(logging.INFO, "coordinator.audit"):
        await house.login("ana")
        await house.login("ana", "wrong")
        await house.login("hunter2 in the wrong field", "wrong")
    lines = [one.getMessage() for one in caplog.records if one.name == "coordinator.audit"]
    assert [line.split("result=")[1] for line in lines] == ["ok", "refused", "refused"]
    assert all("origin=127.0.0.1:" in line for line in lines)
    assert lines[0].startswith("login user='ana'")
    assert "hunter2" not in caplog.text
    assert "wrong" not in caplog.text


# ---------------------------------------------------------------- on the WebSocket


async def test_a_websocket_logs_in(house: Guarded) -> None:
    """A login before the greeting makes the connection that user's; later ones another's."""
    async with house.member.web_socket(greet=False) as socket:
        told = await socket.call(Login("ana", PASSWORD), LoginResult)
        assert isinstance(told, LoginResult)
        await socket.greet()
        assert await socket.call(Put(b"app/w", b"1")) is None
        refused = await socket.call(Put(b"other", b"1"))
        assert isinstance(refused, Failure)
        assert refused.code == "permission_denied"
        who = await socket.call(Reauthenticate(house.root), auth.Identity)
        assert (who.user, who.roles) == ("root", ["root"])
        assert not isinstance(await socket.call(Put(b"other", b"1")), Failure)
        assert (await socket.call(auth.WhoAmI(), auth.Identity)).user == "root"


async def test_before_the_greeting(house: Guarded) -> None:
    """Before the greeting, logins that can't be right are refused like any other request."""
    async with house.member.web_socket(greet=False) as socket:
        for body in (Reauthenticate("x" * 5000), Login("u" * 5000, "p"), Login("ana", "p", True)):
            refused = await socket.call(body)
            assert isinstance(refused, Failure)
            assert refused.code in ("invalid_request", "unauthenticated")
        await socket.call(Login("ana", PASSWORD))
        assert (await socket.greet()).client


async def test_a_header_at_the_upgrade(house: Guarded) -> None:
    """A token at the upgrade is taken; a wrong one is refused with 401."""
    token = await house.token("ana")
    options: dict[str, Any] = {"additional_headers": {"Authorization": f"Bearer {token}"}}
    async with house.member.web_socket(**options) as socket:
        assert (await socket.call(auth.WhoAmI(), auth.Identity)).user == "ana"
    from websockets.exceptions import InvalidStatus

    options = {"additional_headers": {"Authorization": "Bearer wrong"}}
    with pytest.raises(InvalidStatus) as refused:
        async with house.member.web_socket(**options):
            pass
    assert refused.value.response.status_code == 401


async def test_a_wrong_login_changes_nothing(house: Guarded) -> None:
    """A connection whose login or token is refused goes on as it was."""
    async with house.socket("ana") as socket:
        for body in (Login("root", "wrong"), Reauthenticate("a.b.c"), Reauthenticate("")):
            refused = await socket.call(body)
            assert isinstance(refused, Failure)
            assert refused.code in ("unauthenticated", "invalid_request")
        assert (await socket.call(auth.WhoAmI(), auth.Identity)).user == "ana"
        assert await socket.call(Range(b"app/w")) is None


async def test_streams_go_on_over_another_token(house: Guarded) -> None:
    """Who shows another token keeps its streams, those that the new user may have."""
    async with house.socket("ana") as socket:
        (watch,) = await socket.send(Watch(b"app/s"))
        await socket.answers([watch])
        token = await house.token("ana")
        assert (await socket.call(Reauthenticate(token), auth.Identity)).user == "ana"
        assert await house.ask("PUT", "/v1/kv/app/s", b"1")
        item = await socket.item()
        assert not isinstance(item, Failure | Result)
        await house.add_user("stranger")
        (login,) = await socket.send(Login("stranger", PASSWORD))
        ended = await socket.item()
        assert isinstance(ended, Failure)
        assert (ended.id, ended.code) == (watch, "permission_denied")
        assert isinstance((await socket.answers([login]))[login], Result)


# ---------------------------------------------------------------- API keys


async def test_an_api_key(house: Guarded) -> None:
    """A key is shown once, works where a token does, is limited to its role, and can be revoked."""
    await house.add_user("robot", KEYS)
    await house.ask("POST", "/v1/roles", {"role": "less"})
    await house.ask("PUT", "/v1/users/robot/roles/less")
    wanted = {"user": "robot", "role": "less", "label": "pipeline"}
    made = (await house.ask("POST", "/v1/api-keys", wanted)).json
    text = made["secret"]
    assert text.startswith(f"ck_{made['key']}_")
    listed = await house.ask("GET", "/v1/api-keys?user=robot")
    assert [one["label"] for one in listed.json["keys"]] == ["pipeline"]
    assert text.split("_", 2)[2] not in listed.body.decode()
    who = (await house.ask("GET", "/v1/auth/whoami", token=text)).json
    assert (who["user"], who["roles"]) == ("robot", ["less"])
    assert who["scope"].startswith("key:")
    assert (await house.ask("PUT", "/v1/kv/app/k", b"1", token=text)).status == 403
    whole = (await house.ask("POST", "/v1/api-keys", {"user": "robot"})).json["secret"]
    assert (await house.ask("PUT", "/v1/kv/app/k", b"1", token=whole)).status == 200
    assert (await house.ask("PUT", "/v1/kv/app/k", b"1", token=whole[:-1] + "!")).status == 401
    assert (await house.ask("DELETE", f"/v1/api-keys/{made['key']}")).status == 200
    assert (await house.ask("GET", "/v1/auth/whoami", token=text)).status == 401


async def test_a_retry_makes_the_same_key(house: Guarded) -> None:
    """A client that chose the secret may ask again and gets the same key, made once."""
    await house.add_user("twice")
    request = auth.ApiKeyCreate("twice", secret="s" * 43)
    async with house.socket() as socket:
        one = (await socket.send(request))[0]
        first = (await socket.answers([one]))[one]
        socket.next_id = one
        again = (await socket.send(request))[0]
        second = (await socket.answers([again]))[again]
        assert isinstance(first, Result)
        assert isinstance(second, Result)
        made = [
            socket.codec.decode_value(answer.result, auth.ApiKeyCreateResult)
            for answer in (first, second)
        ]
        assert made[0] == made[1]
        assert made[0].secret.endswith("s" * 43)


async def test_a_retry_of_a_password_is_the_same_change(house: Guarded) -> None:
    """A client that adds a user twice under one id is told that it was added once."""
    async with house.socket() as socket:
        for _ in range(2):
            socket.next_id = 77
            assert not isinstance(await socket.call(auth.UserAdd("once", "pw")), Failure)


async def test_an_expired_api_key(house: Guarded) -> None:
    """A key that has expired is refused."""
    await house.add_user("brief")
    wanted = {"user": "brief", "expires_ms": int(time.time() * 1000) - 1}
    text = (await house.ask("POST", "/v1/api-keys", wanted)).json["secret"]
    assert (await house.ask("GET", "/v1/auth/whoami", token=text)).status == 401


@pytest.mark.parametrize("secret", ["short", "x" * 42, "x" * 42 + "/", "x" * 129])
async def test_a_secret_that_can_be_guessed(house: Guarded, secret: str) -> None:
    """A secret that a client chooses must be long, and of the characters of keys."""
    made = await house.ask("POST", "/v1/api-keys", {"user": "ana", "secret": secret})
    assert (made.status, made.error["details"]["field"]) == (400, "secret")


# ---------------------------------------------------------------- the first run


async def test_the_first_run(tmp_path_factory: pytest.TempPathFactory) -> None:
    """`auth.init` makes root and turns authentication on in one step; nobody can do it again."""
    async with guarded(tmp_path_factory.mktemp("first")) as made:
        assert made.member.node.machine.auth.enabled
        again = await made.member.ask("POST", "/v1/auth/init", {"password": "mine now"})
        assert again.status == 401
        again = await made.ask("POST", "/v1/auth/init", {"password": "mine now"})
        assert again.status == 409
        assert (await made.login("root")).status == 200
        assert (await made.ask("POST", "/v1/auth/disable")).status == 200
        assert (await made.login("root")).error["message"] == auth.AUTH_NOT_ENABLED
        who = (await made.member.ask("GET", "/v1/auth/whoami")).json
        assert (who["user"], who["enabled"]) == ("", False)


async def test_disabling_and_enabling(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Authentication that is turned on again knows its users; a token from before is good still."""
    async with guarded(tmp_path_factory.mktemp("again")) as made:
        assert (await made.ask("POST", "/v1/auth/disable")).status == 200
        assert (await made.ask("GET", "/v1/users", token="")).status == 200
        assert (await made.ask("POST", "/v1/auth/enable", token="")).status == 200
        await until(lambda: made.member.node.machine.auth.enabled)
        assert (await made.ask("GET", "/v1/users", token="")).status == 401
        assert (await made.ask("GET", "/v1/users")).status == 200


# ---------------------------------------------------------------- too often, and from elsewhere


async def test_who_fails_too_often_waits(tmp_path_factory: pytest.TempPathFactory) -> None:
    """An address that fails too often is told to wait, whomever it tries then; but whoever has
    logged in from there before is let in, and tokens still do. All of it is counted."""
    async with guarded(tmp_path_factory.mktemp("often")) as made:
        await made.add_user("ana")
        answers = [await made.login(f"user {number}", "wrong") for number in range(25)]
        statuses = [one.status for one in answers]
        assert set(statuses) == {401, 429}
        assert statuses[:20] == [401] * 20
        late = await made.login("ana")
        assert late.status == 429
        assert int(late.headers["retry-after"]) >= 1
        assert late.error["details"]["limit"] == "logins"
        assert (await made.login("root")).status == 200
        assert (await made.ask("GET", "/v1/users")).status == 200
        lines = (await made.member.ask("GET", "/metrics")).body.decode().splitlines()
        told = [one for one in lines if one.startswith("coordinator_logins_total{")]
        assert 'coordinator_logins_total{result="ok"} 2' in told
        refused = statuses.count(401)
        assert f'coordinator_logins_total{{result="refused"}} {refused}' in told
        waiting = 26 - refused
        assert f'coordinator_logins_total{{result="too many failures"}} {waiting}' in told


async def test_a_user_of_an_outside_issuer(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A token of an outside issuer is shown like any other; its user has the roles given here."""
    public = private_key(private_pem(rsa_key()), "RS256").public
    assert public is not None
    keys = tmp_path_factory.mktemp("keys")
    file = written(keys, "jwks.json", msgspec.json.encode({"keys": [public]}))
    settings = {"oidc_issuer": "https://id", "oidc_audience": "us", "oidc_jwks_file": file}
    async with guarded(tmp_path_factory.mktemp("outside"), **settings) as made:
        await made.add_user("7", KEYS, password="", no_password=True)
        now = int(time.time())
        claims = {"iss": "https://id", "aud": "us", "sub": "7", "iat": now, "exp": now + 60}
        text = token({"alg": "RS256", "kid": public["kid"]}, claims, rsa_key())
        assert (await made.ask("PUT", "/v1/kv/app/a", b"1", token=text)).status == 200
        assert (await made.ask("PUT", "/v1/kv/other", b"1", token=text)).status == 403
        stranger = token({"alg": "RS256", "kid": public["kid"]}, claims | {"sub": "8"}, rsa_key())
        assert (await made.ask("PUT", "/v1/kv/app/a", b"1", token=stranger)).status == 403
        assert (await made.ask("DELETE", "/v1/users/7")).status == 200
        assert (await made.ask("PUT", "/v1/kv/app/a", b"1", token=text)).status == 403
