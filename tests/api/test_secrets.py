"""Planted secrets: what is secret is found nowhere but where it belongs."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import logging
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from coordinator.config import Config, resolve, setting_fields, shown
from coordinator.wire.command import TokenKeyAdd
from coordinator_sdk.protocol import auth
from coordinator_sdk.protocol.auth import Login, Reauthenticate
from tests.api.users import KEYS, Guarded, guarded
from tests.credentials.keys import private_pem, rsa_key, written

PLANTED = "planted-Pa55word-7f3e9c"
WRONG = "planted-wr0ng-9c7f3e"


async def everything(house: Guarded, folder: Path) -> tuple[dict[str, str], list[bytes]]:
    """Use every kind of secret, well and badly.

    Returns:
        The secrets by kind, and every answer that did not have to carry one.
    """
    answers: list[bytes] = []

    async def ask(method: str, target: str, body: Any = b"", **told: Any) -> Any:
        answer = await house.ask(method, target, body, **told)
        answers.append(answer.body)
        return answer

    await house.add_user("ana", KEYS, password=PLANTED)
    token = await house.token("ana", PLANTED)
    made = await house.ask("POST", "/v1/api-keys", {"user": "ana"})
    key = made.json["secret"]
    await house.login("ana", WRONG)
    await house.login(WRONG, WRONG)
    for shown_text in (token, key, token + "x", key + "x", PLANTED):
        for target in ("/v1/kv/app/a", "/v1/users", "/v1/auth/whoami", "/v1/cluster/status"):
            await ask("GET", target, token=shown_text)
    await ask("POST", "/v1/users", {"user": "ana", "password": PLANTED})
    await ask("POST", "/v1/users", {"user": "b", "password": PLANTED, "no_such_field": 1})
    await ask("POST", "/v1/users", {"user": ["b"], "password": PLANTED})
    await ask("POST", "/v1/users", b'{"password": "' + PLANTED.encode() + b'", broken')
    await ask("PUT", "/v1/users/nobody/password", {"password": PLANTED})
    await ask("POST", "/v1/auth/init", {"password": PLANTED})
    for target in ("/metrics", "/openapi.json", "/v1/api-keys", "/v1/users/ana", "/readyz?verbose"):
        await ask("GET", target)
    await ask("GET", "/v1/cluster/blame?domain=auth")
    await ask("GET", f"/v1/kv/app/a?token={PLANTED}")
    async with house.member.web_socket(greet=False) as socket:
        for body in (Login("ana", WRONG), Reauthenticate(token + "x"), Login("ana", PLANTED)):
            await socket.call(body)
        await socket.greet()
        await socket.call(auth.UserAdd("ana", PLANTED))
    (shared,) = house.member.node.machine.auth.token_keys.values() or (b"",)
    secrets = {
        "password": PLANTED,
        "wrong password": WRONG,
        "token": token,
        "signature of the token": token.rpartition(".")[2],
        "API key": key,
        "secret of the API key": key.split("_", 2)[2],
        "shared secret": repr(shared)[2:-1],
    }
    return secrets, answers


def process_list() -> str:
    """Give what others on this machine see of this process."""
    import psutil

    return " ".join(psutil.Process().cmdline())


@pytest.fixture
def quiet_database() -> Iterator[None]:
    """Log as the program does at its most talkative: the driver of the database says nothing."""
    from coordinator.cli.serve import _configure_logging

    root = logging.getLogger()
    former = root.handlers[:], root.level
    _configure_logging("debug")
    root.handlers[:], level = former
    yield
    root.setLevel(level)


@pytest.mark.usefixtures("quiet_database")
async def test_planted_secrets(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """A secret stands in no log, answer, error, metric, file of the data directory or process list.

    The exceptions: the answer that hands it out, and the shared secret in the replicated state.
    """
    caplog.set_level(logging.DEBUG)
    folder = tmp_path / "data"
    async with guarded(folder) as house:
        secrets, answers = await everything(house, folder)
        described = repr(house.member.node.machine.auth.__class__) + repr(house.member.node.config)
        command_line = await asyncio.to_thread(process_list)
    out, err = capfd.readouterr()
    written_down = caplog.text + out + err + described + command_line
    replies = b"\n".join(answers)
    files = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert b"app/" in files  # They do hold what was written.
    for kind, secret in secrets.items():
        assert secret not in written_down, kind
        assert secret.encode() not in replies, kind
        if kind != "shared secret":
            assert secret.encode() not in files, kind
    digest = hashlib.sha256(secrets["secret of the API key"].encode()).digest()
    assert digest in files


@pytest.mark.usefixtures("quiet_database")
async def test_a_key_in_a_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """The private key that signs tokens stays in its file: it is in no log and no answer."""
    caplog.set_level(logging.DEBUG)
    pem = private_pem(rsa_key())
    file = written(tmp_path, "key.pem", pem)
    folder = tmp_path / "data"
    async with guarded(folder, auth_token=f"jwt,priv-key={file},sign-method=RS256") as house:
        published = await house.member.ask("GET", "/v1/auth/jwks")
        assert set(published.json["keys"][0]) == {"alg", "e", "kid", "kty", "n", "use"}
        await house.ask("GET", "/v1/users", token=house.root + "x")
    out, err = capfd.readouterr()
    files = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    private = rsa_key().private_numbers()
    lines = [line for line in pem.decode().splitlines() if "-----" not in line]
    for text in (*lines, str(private.d), f"{private.d:x}"):
        assert text not in caplog.text + out + err + published.body.decode()
        assert text.encode() not in files


async def test_what_lies_there_is_the_owners(tmp_path: Path) -> None:
    """Every file of the data directory is the owner's alone: 0600, its folders 0700."""
    folder = tmp_path / "data"
    async with guarded(folder) as house:
        await house.add_user("ana", KEYS)
        snapshot = await house.ask("GET", "/v1/maintenance/snapshot")
        assert snapshot.status == 200
        for path in (folder, *folder.rglob("*")):
            mode = stat.S_IMODE(path.stat().st_mode)
            assert mode == (0o700 if path.is_dir() else 0o600), (path, oct(mode))


@pytest.mark.parametrize(
    "body",
    [
        Login("ana", PLANTED),
        Reauthenticate(PLANTED),
        auth.AuthInit(PLANTED, PLANTED),
        auth.UserAdd("ana", PLANTED, password_hash=PLANTED),
        auth.UserChangePassword("ana", PLANTED, PLANTED),
        auth.ApiKeyCreate("ana", secret=PLANTED, secret_hash=PLANTED.encode()),
        auth.ApiKeyCreateResult(1, PLANTED),
        auth.LoginResult(PLANTED, "ana"),
        TokenKeyAdd("name", PLANTED.encode()),
    ],
    ids=lambda body: type(body).__name__,
)
def test_structs_show_nothing(body: Any) -> None:
    """The repr and str of whatever carries a secret show that it is there, and not what it is."""
    assert PLANTED not in f"{body!r} {body} {[body]} { ({'a': body}) }"
    assert "***" in repr(body)


def test_settings_show_nothing() -> None:
    """A setting that is secret is hidden in the repr of the settings and where they are shown."""
    flags = {"initial-cluster-token": PLANTED}
    config = resolve(flags, {})
    assert PLANTED not in repr(config)
    assert shown(config, "initial-cluster-token") == "***"
    named = {flag for flag in setting_fields() if re.search(r"password|secret|token", flag)}
    open_ones = {"password-cost", "auth-token"}
    for flag in named - open_ones:
        assert setting_fields()[flag].metadata["is_secret"], flag


async def test_no_password_stays_in_memory(tmp_path: Path) -> None:
    """Once a user is made and has logged in, no string of this process is its password."""
    password = "".join(("planted-", "in-memory-", "4d2a"))
    async with guarded(tmp_path / "data") as house:
        await house.add_user("ana", KEYS, password=password)
        await house.token("ana", password)
        gc.collect()
        mine = {id(password)}
        held = [
            one
            for found in gc.get_objects()
            if isinstance(found, dict | list | tuple)
            for one in (found.values() if isinstance(found, dict) else found)
            if isinstance(one, str) and one == password and id(one) not in mine
        ]
        assert held == []


def test_a_wrong_setting_is_not_quoted() -> None:
    """Who puts a key where its file belongs does not find it in the log."""
    from coordinator.config import ConfigError

    with pytest.raises(ConfigError) as refused:
        resolve({"auth-token": f"jwt,secret={PLANTED}"}, {})
    assert PLANTED not in str(refused.value)
    assert isinstance(Config(), Config)
