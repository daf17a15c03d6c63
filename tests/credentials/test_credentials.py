"""Every kind of credential, with the settings that make it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from coordinator.config import ConfigError, resolve
from coordinator.config.tokens import SIMPLE, parse_token_setting
from coordinator.credentials import signing
from coordinator.credentials.credentials import Credentials
from coordinator.credentials.keys import private_key
from coordinator.credentials.proof import Refused
from coordinator.credentials.token_key import WrongKey
from coordinator.keyspace.auth import AuthStore
from coordinator_sdk.errors import Conflict
from tests.credentials.forgeries import parts_of
from tests.credentials.keys import (
    SECRET,
    Private,
    ec_key,
    part,
    private_pem,
    public_bytes,
    rsa_key,
    token,
    written,
)


class Member:
    """The credentials of one member, its users and its clock."""

    def __init__(self, store: AuthStore | None = None, **flags: str) -> None:
        self.store = store or AuthStore()
        self.now_ms = 1_700_000_000_000
        self.shared = 0
        settings = {name.replace("_", "-"): text for name, text in flags.items()}
        self.credentials = Credentials(
            resolve(settings | {"password-cost": "10"}, {}),
            lambda: self.store,
            lambda: 0xC1,
            lambda: self.now_ms,
            self._share,
        )

    async def _share(self, name: str, secret: bytes) -> None:
        self.shared += 1
        self.store.add_token_key(name, secret)

    async def token(self, user: str = "ana") -> str:
        """Issue a token."""
        return (await self.credentials.issue(user, self.store.revision))[0]

    def user(self, text: str) -> str:
        """Tell whom a credential stands for."""
        return self.credentials.prove(text).user

    def refuses(self, text: str) -> bool:
        """Tell whether a credential is refused."""
        try:
            self.credentials.prove(text)
        except Refused:
            return True
        return False


# ---------------------------------------------------------------- the shared secret


async def test_any_member_believes_what_any_issued() -> None:
    """Without settings a secret is made once and shared; members believe each other's tokens."""
    one = Member()
    texts = await asyncio.gather(one.token(), one.token("eve"))
    other = Member(one.store)
    assert [other.user(text) for text in texts] == ["ana", "eve"]
    assert one.user(await other.token("bob")) == "bob"
    assert (one.shared, other.shared) == (1, 0)
    header, claims, _ = parts_of(texts[0])
    assert header["alg"] == "HS256"
    assert (claims["iss"], claims["aud"]) == ("coordinator", f"{0xC1:016x}")
    assert one.credentials.key_set() == {"keys": []}


async def test_the_secret_is_followed_by_another() -> None:
    """A secret that is old is followed by another, which signs once all have heard of it."""
    member = Member()
    old = await member.token()
    member.now_ms += signing.ROTATION_MS
    between = await member.token()
    await asyncio.sleep(0)
    assert member.shared == 2
    assert parts_of(between)[0]["kid"] == parts_of(old)[0]["kid"]
    member.now_ms += signing.FRESH_MS
    new = await member.token()
    assert parts_of(new)[0]["kid"] != parts_of(old)[0]["kid"]
    assert member.user(between) == member.user(new) == "ana"


async def test_time_ends_a_token() -> None:
    """A token is believed until its time is up, also when it has been believed before."""
    member = Member(auth_token="jwt,ttl=10s")
    text = await member.token()
    assert member.user(text) == "ana"
    member.now_ms += 10_000
    assert member.refuses(text)


async def test_another_cluster_believes_nothing() -> None:
    """A token of one cluster means nothing in another one that has the same secret."""
    member, other = Member(), Member(jwt_audience="other")
    text = await member.token()
    other.store.token_keys = member.store.token_keys
    other.store.revision += 1
    assert other.refuses(text)


# ---------------------------------------------------------------- keys in files


@pytest.mark.parametrize("method", ["HS256", "RS256", "ES256"])
async def test_keys_in_files(tmp_path: Path, method: str) -> None:
    """Tokens are signed with the key of the settings; its public half, if any, is published."""
    pairs: dict[str, Private] = {"RS256": rsa_key(), "ES256": ec_key()}
    key = pairs.get(method)
    data = SECRET + b"\n" if key is None else private_pem(key)
    file = written(tmp_path, "key", data)
    member = Member(auth_token=f"jwt,priv-key={file},sign-method={method},ttl=5m")
    text = await member.token()
    assert member.user(text) == "ana"
    assert parts_of(text)[0]["alg"] == method
    published = member.credentials.key_set()["keys"]
    assert [one["kid"] for one in published] == ([parts_of(text)[0]["kid"]] if key else [])
    assert member.shared == 0
    if key is not None:
        public = written(tmp_path, "public", public_bytes(key))
        verifier = Member(auth_token=f"jwt,pub-key={public},sign-method={method}")
        assert verifier.user(text) == "ana"
        with pytest.raises(Conflict, match="priv-key"):
            await verifier.token()


async def test_keys_change_without_a_gap(tmp_path: Path) -> None:
    """While keys change, tokens of both are believed; files that change are read again."""
    old = written(tmp_path, "old.pem", private_pem(rsa_key()))
    new = written(tmp_path, "new.pem", private_pem(rsa_key("second")))
    old_public = written(tmp_path, "old.pub", public_bytes(rsa_key()))
    first = Member(auth_token=f"jwt,priv-key={old},sign-method=RS256")
    text = await first.token()
    second = Member(auth_token=f"jwt,priv-key={new},pub-key={old_public},sign-method=RS256")
    assert second.user(text) == second.user(await second.token()) == "ana"
    assert len(second.credentials.key_set()["keys"]) == 2
    written(tmp_path, "old.pem", private_pem(rsa_key("second")))
    first.now_ms += 60_000
    first.credentials.tick()
    assert first.credentials._refreshing is not None
    await first.credentials._refreshing
    assert first.refuses(text)
    written(tmp_path, "old.pem", b"half a k")
    first.now_ms += 60_000
    first.credentials.tick()
    await first.credentials._refreshing
    assert first.user(await first.token()) == "ana"


@pytest.mark.parametrize("method", ["HS256", "RS256"])
def test_a_wrong_key_stops_the_start(tmp_path: Path, method: str) -> None:
    """A key that can't be used is refused at start, with its file and without its content."""
    file = written(tmp_path, "key", b"-----BEGIN nonsense")
    with pytest.raises(WrongKey, match="key") as refused:
        Member(auth_token=f"jwt,priv-key={file},sign-method={method}")
    assert file in str(refused.value)
    assert "nonsense" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("paseto", "simple, or jwt"),
        ("jwt,ttl", "NAME=VALUE"),
        ("jwt,ttl=", "NAME=VALUE"),
        ("jwt,key=x", "the options are"),
        ("jwt,sign-method=none", "sign-method is one of"),
        ("jwt,sign-method=RS256", "needs pub-key or priv-key"),
        ("jwt,ttl=1ms", "ttl from"),
        ("jwt,ttl=1000h", "ttl from"),
        ("jwt,ttl=5m,ttl=6m", "only pub-key"),
        ("simple,sign-method=HS256", "ttl only"),
        ("jwt,priv-key=no-such-file", "no such file"),
    ],
)
def test_settings_that_make_no_sense(text: str, wrong: str) -> None:
    """`--auth-token` says what is wrong with it."""
    with pytest.raises(ConfigError, match=wrong):
        resolve({"auth-token": text}, {})


def test_etcd_spells_it_so() -> None:
    """`--auth-token` is read as etcd writes it."""
    found = parse_token_setting("jwt,pub-key=a.pem,priv-key=b.pem,sign-method=RS256,ttl=10m")
    assert (found.pub_keys, found.priv_key) == (("a.pem",), "b.pem")
    assert (found.sign_method, found.ttl_ms) == ("RS256", 600_000)
    assert parse_token_setting("simple").kind == SIMPLE


# ---------------------------------------------------------------- simple tokens


async def test_simple_tokens() -> None:
    """A simple token is believed by every member, lives while it is used, and can't be changed."""
    member = Member(auth_token="simple")
    text = await member.token()
    assert text.count(".") == 1
    other = Member(member.store, auth_token="simple")
    assert member.user(text) == other.user(text) == "ana"
    for _ in range(5):
        member.now_ms += 299_000
        assert member.user(text) == "ana"
    member.now_ms += 300_000
    assert member.refuses(text)
    fresh = await member.token()
    for forged in (
        fresh[1:],
        fresh + "0",
        "x" + fresh,
        fresh.replace(".", "x."),
        ".1",
        "",
        "x" * 5000,
    ):
        assert member.refuses(forged)
    member.store.token_keys = {"other": b"x" * 32}
    member.store.revision += 1
    assert member.refuses(fresh)


# ---------------------------------------------------------------- outside issuers


def outside(tmp_path: Path, *names: str, **flags: str) -> Member:
    """Give a member that believes an outside issuer."""
    keys = [private_key(private_pem(rsa_key(name)), "RS256").public for name in names]
    file = written(tmp_path, "jwks.json", json.dumps({"keys": [*keys, {"kty": "oct"}]}).encode())
    issuer = {"oidc_issuer": "https://id", "oidc_audience": "us", "oidc_jwks_file": file}
    return Member(None, **(issuer | flags))


def their(member: Member, name: str = "first", **changes: Any) -> str:
    """Make a token of the outside issuer."""
    public = private_key(private_pem(rsa_key(name)), "RS256").public
    assert public is not None
    now = member.now_ms // 1000
    claims = {"iss": "https://id", "aud": "us", "sub": "7", "iat": now, "exp": now + 60}
    header = {"alg": "RS256", "kid": public["kid"], "typ": "JWT"}
    return token(header, claims | {"email": "ana@x", "groups": [["a"]]} | changes, rsa_key(name))


async def test_an_outside_issuer(tmp_path: Path) -> None:
    """A token of an outside issuer stands for the user that its claim names; no other's does."""
    member = outside(tmp_path, "first", oidc_user_claim="email", oidc_user_prefix="oidc:")
    assert member.user(their(member)) == "oidc:ana@x"
    assert member.user(await member.token("bob")) == "bob"
    wrong: list[Mapping[str, Any]] = [
        {"aud": "them"},
        {"iss": "coordinator"},
        {"email": None},
        {"email": ""},
        {"exp": 0},
    ]
    for changes in wrong:
        assert member.refuses(their(member, **changes))
    assert member.refuses(their(member, "second"))


async def test_nobody_becomes_root_from_outside(tmp_path: Path) -> None:
    """An outside issuer can't say who is root, nor pass its tokens off as the members' own."""
    member = outside(tmp_path, "first")
    assert member.refuses(their(member, sub="root"))
    await member.token()
    kid = next(iter(member.store.token_keys))
    now = member.now_ms // 1000
    claims = {
        "iss": "coordinator",
        "aud": f"{0xC1:016x}",
        "sub": "root",
        "iat": now,
        "exp": now + 9,
    }
    assert member.refuses(token({"alg": "RS256", "kid": kid}, claims, rsa_key()))
    public = private_key(private_pem(rsa_key("first")), "RS256").public
    assert public is not None
    assert member.refuses(token({"alg": "RS256", "kid": public["kid"]}, claims, rsa_key("first")))


async def test_their_keys_change(tmp_path: Path) -> None:
    """Keys that the issuer has taken away verify nothing any more, new ones do."""
    member = outside(tmp_path, "first")
    text = their(member)
    assert member.user(text) == "7"
    assert member.refuses(their(member, "second"))
    outside(tmp_path, "second")
    member.now_ms += 60_000
    member.credentials.tick()
    assert member.credentials._refreshing is not None
    await member.credentials._refreshing
    assert member.refuses(text)
    assert member.user(their(member, "second")) == "7"


async def test_keys_are_fetched_off_the_hot_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys are fetched in the background; while they can't be had, the former ones verify."""
    from coordinator.credentials import credentials as room

    key = private_key(private_pem(rsa_key("first")), "RS256")
    answers: list[Any] = [WrongKey("down"), {key.kid: key}, WrongKey("down")]

    def fetch(url: str) -> Any:
        assert url == "https://id/keys"
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(room, "fetch_key_set", fetch)
    member = Member(oidc_issuer="https://id", oidc_audience="us", oidc_jwks_url="https://id/keys")
    for is_refused in (True, False, False):
        member.credentials.tick()
        assert member.credentials._refreshing is not None
        await member.credentials._refreshing
        assert member.refuses(their(member)) is is_refused
        member.now_ms += 60_000


@pytest.mark.parametrize(
    ("flags", "wrong"),
    [
        ({"oidc-issuer": "https://id"}, "needs --oidc-audience"),
        ({"oidc-issuer": "https://id", "oidc-audience": "us"}, "--oidc-jwks-file or"),
        ({"oidc-audience": "us"}, "need --oidc-issuer"),
        ({"oidc-jwks-url": "http://id/keys"}, "https, or http on this machine"),
        ({"oidc-jwks-url": "file:/etc/passwd"}, "https, or http on this machine"),
        ({"password-cost": "31"}, "from 10 to 20"),
    ],
)
def test_outside_settings_that_make_no_sense(flags: dict[str, str], wrong: str) -> None:
    """Settings of an outside issuer that do not belong together are refused at start."""
    with pytest.raises(ConfigError, match=wrong):
        resolve(flags, {})


# ---------------------------------------------------------------- certificates


def test_certificates() -> None:
    """A certificate stands for the user who has one of its names, else the one of its first."""
    member = Member()
    member.store.user_add("ana", "", no_password=True, certificate_names=["spiffe://x/ana", "web"])
    member.store.user_add("bob", "hash")
    find = member.credentials.of_certificate
    for names, user in (
        (("web",), "ana"),
        (("", "spiffe://x/ana"), "ana"),
        (("bob",), "bob"),
        (("bob", "web"), "ana"),
        (("", "bob"), None),
        (("eve",), None),
        ((), None),
    ):
        found = find(names)
        assert (found.user if found else None) == user
    member.store.user_set_certificates("ana", [])
    assert find(("web",)) is None


# ---------------------------------------------------------------- speed and silence


async def test_a_known_token_costs_one_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """A token is verified once; it is forgotten when users change, and what is kept is bounded."""
    from coordinator.credentials import credentials as room

    member = Member()
    text = await member.token()
    assert member.user(text) == "ana"
    with monkeypatch.context() as patch:
        patch.setattr(room, "verify", lambda *told: pytest.fail("verified twice"))
        assert member.user(text) == "ana"
    member.store.user_add("new", "hash")
    assert member.user(text) == "ana"
    monkeypatch.setattr(room, "REMEMBERED_MAX", 3)
    for number in range(10):
        member.user(await member.token(f"user {number}"))
    assert len(member.credentials._proofs) <= 3


@pytest.mark.parametrize(
    "text", ["", "x", "Basic cm9vdDpyb290", "ck_", "ck_0_x", "\u00e9.a.b", "\0"]
)
def test_what_is_no_credential(text: str) -> None:
    """Text that is no credential of any kind is refused."""
    assert Member().refuses(text)


def test_what_is_refused_is_not_quoted() -> None:
    """A refusal says why, and does not repeat the credential."""
    secret = part(b"very secret")
    for text in (f"{secret}.{secret}.{secret}", f"{secret}.1", f"ck_{'0' * 16}_{secret * 3}"):
        with pytest.raises(Refused) as refused:
            Member().credentials.prove(text)
        assert secret not in str(refused.value)
