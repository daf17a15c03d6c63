"""Logging out, and sessions of the dashboard that live on."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from coordinator.api import identity
from coordinator_sdk.protocol.auth import Identity, Reauthenticate, WhoAmI
from coordinator_sdk.protocol.frames import Failure
from coordinator_sdk.protocol.kv import Watch
from tests.api.member import Answer
from tests.api.users import KEYS, Guarded, guarded

_PAGE = ("x-coordinator-csrf", "1")


def _other_text(token: str) -> str:
    """Write the same token in another way: the last bits of base64 mean nothing."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    head, last = token[:-1], token[-1]
    for other in alphabet:
        told = [
            base64.urlsafe_b64decode(part.rpartition(".")[2] + "=")
            for part in (token, head + other)
        ]
        if other != last and told[0] == told[1]:
            return head + other
    raise AssertionError("there is only one way")


async def _post(made: Guarded, target: str, cookie: str, *headers: tuple[str, str]) -> Answer:
    own = ("origin", f"http://127.0.0.1:{made.member.port}")
    host = ("host", f"127.0.0.1:{made.member.port}")
    return await made.member.ask(
        "POST", target, b"", [host, own, ("cookie", f"coordinator_session={cookie}"), *headers]
    )


async def _cookie(made: Guarded, user: str) -> str:
    answer = await made.login(user, cookie=True)
    return answer.headers["set-cookie"].partition("=")[2].partition(";")[0]


@pytest.mark.parametrize("setting", ["jwt", "simple"])
async def test_logging_out_voids_the_token(tmp_path: Path, setting: str) -> None:
    """A token that its user has logged out with is refused, however it is written, and only it."""
    async with guarded(tmp_path, auth_token=setting) as made:
        await made.add_user("ana", KEYS)
        one, other = await made.token("ana"), await made.token("ana")
        key = (await made.ask("POST", "/v1/api-keys", {"user": "ana"}, token=other)).json["secret"]
        assert (await made.ask("GET", "/v1/kv/app/a", token=one)).status == 404
        assert (await made.ask("POST", "/v1/auth/logout", token=one)).status == 204
        texts = [one] if setting == "simple" else [one, _other_text(one)]
        for text in texts:
            for method, target in (("GET", "/v1/kv/app/a"), ("GET", "/v1/auth/whoami")):
                assert (await made.ask(method, target, token=text)).status == 401
        gateway = await made.member.ask(
            "POST", "/v3/kv/range", {"key": "YXBwL2E="}, [("authorization", one)]
        )
        assert gateway.status == 401
        for good in (other, key):
            assert (await made.ask("GET", "/v1/kv/app/a", token=good)).status == 404
        assert (await made.ask("POST", "/v1/auth/logout", token=key)).status == 204
        assert (await made.ask("GET", "/v1/kv/app/a", token=key)).status == 404
        assert (await made.ask("POST", "/v1/auth/logout", token="nonsense")).status == 204


async def test_logging_out_ends_streams(tmp_path: Path) -> None:
    """Whoever is connected with a token that is logged out loses its streams."""
    async with guarded(tmp_path) as made:
        await made.add_user("ana", KEYS)
        token = await made.token("ana")
        async with made.member.web_socket(greet=False) as socket:
            await socket.call(Reauthenticate(token))
            await socket.greet()
            assert not isinstance(await socket.call(Watch(b"app/a")), Failure)
            assert (await made.ask("POST", "/v1/auth/logout", token=token)).status == 204
            ended = await socket.item()
            assert isinstance(ended, Failure)
            assert ended.code == "permission_denied"


async def test_nobody_else_is_logged_out(tmp_path: Path) -> None:
    """A page of another origin can't log anybody out by the cookie."""
    async with guarded(tmp_path) as made:
        await made.add_user("ana", KEYS)
        cookie = await _cookie(made, "ana")
        assert (await _post(made, "/v1/auth/logout", cookie)).status == 403
        assert (await _post(made, "/v1/auth/logout", cookie, _PAGE)).status == 204
        assert (await made.ask("GET", "/v1/kv/app/a", token=cookie)).status == 401


async def test_a_session_lives_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cookie is renewed for its own page while it is good, up to some hours after the login; a
    change of the password ends it, and nothing but a cookie is renewed."""
    async with guarded(tmp_path) as made:
        await made.add_user("ana", KEYS)
        cookie = await _cookie(made, "ana")
        assert (await _post(made, "/v1/auth/renew", cookie)).status == 403
        renewed = await _post(made, "/v1/auth/renew", cookie, _PAGE)
        assert (renewed.status, renewed.json["token"]) == (200, "")
        assert "HttpOnly; SameSite=Strict" in renewed.headers["set-cookie"]
        following = renewed.headers["set-cookie"].partition("=")[2].partition(";")[0]
        assert following != cookie
        assert (await made.ask("GET", "/v1/kv/app/a", token=following)).status == 404
        assert (await made.ask("POST", "/v1/auth/renew")).status == 403
        assert (await _post(made, "/v1/auth/renew", "", _PAGE)).status == 401
        assert (await _post(made, "/v1/auth/renew", "nonsense", _PAGE)).status == 401
        with monkeypatch.context() as patch:
            patch.setattr(identity, "SESSION_MS", 0)
            assert (await _post(made, "/v1/auth/renew", following, _PAGE)).status == 401
        body = {"password": "another one"}
        assert (await made.ask("PUT", "/v1/users/ana/password", body)).status == 200
        assert (await _post(made, "/v1/auth/renew", following, _PAGE)).status == 401


async def test_a_simple_session_lives_on(tmp_path: Path) -> None:
    """With simple tokens, which live on while they are used, the cookie does so too."""
    async with guarded(tmp_path, auth_token="simple") as made:
        cookie = await _cookie(made, "root")
        renewed = await _post(made, "/v1/auth/renew", cookie, _PAGE)
        assert renewed.status == 200
        assert f"coordinator_session={cookie};" in renewed.headers["set-cookie"]


async def test_a_token_that_is_too_long(tmp_path: Path) -> None:
    """What is too long to be a token proves nothing, in the words for any wrong one."""
    async with guarded(tmp_path) as made, made.member.web_socket(greet=False) as socket:
        for length in (10, 4096, 4097, 100_000):
            refused = await socket.call(Reauthenticate("x" * length))
            assert (refused.code, refused.message) == (
                "unauthenticated",
                "etcdserver: invalid auth token",
            )


async def test_an_open_member_says_so(tmp_path: Path) -> None:
    """Whoever asks a member who it is learns whether the member serves everybody openly."""
    for is_open in (False, True):
        async with guarded(tmp_path / str(is_open), insecure_open=is_open) as made:
            assert (await made.ask("GET", "/v1/auth/whoami")).json["insecure_open"] is is_open
            async with made.socket() as socket:
                told = await socket.call(WhoAmI(), Identity)
                assert told.insecure_open is is_open
