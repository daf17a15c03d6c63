"""Who the client is: said first on every connection, renewed in time, and shown to nobody."""

from __future__ import annotations

import asyncio
import copy
import logging
import pickle
import traceback
from collections.abc import AsyncIterator
from typing import Any

import pytest

from coordinator_sdk import (
    TLS,
    ApiKey,
    Client,
    ConnectFailed,
    InvalidRequest,
    Password,
    PermissionDenied,
    RetryPolicy,
    Token,
    Unauthenticated,
)
from coordinator_sdk._identity import Prover
from coordinator_sdk.credentials import Credential, credential_of, tls_of
from coordinator_sdk.errors import Exhausted
from coordinator_sdk.protocol import auth, cluster
from coordinator_sdk.protocol.codec import MSGPACK
from tests.sdk.gate import Gate
from tests.sdk.server import FakeServer, fake_server

FAST = RetryPolicy(deadline=20.0, base=0.001, cap=0.01)
SECRET = "hunter2"
ADA = Password("ada", SECRET)


@pytest.fixture
async def guarded() -> AsyncIterator[FakeServer]:
    """An endpoint where everybody has to say who he is."""
    async with fake_server() as fake:
        fake.cluster.gate = Gate()
        yield fake


def gate_of(server: FakeServer) -> Gate:
    assert server.cluster.gate is not None
    return server.cluster.gate


async def refused(server: FakeServer, credential: Credential | None) -> Unauthenticated:
    """What a client with a wrong credential is told at once."""
    with pytest.raises(Unauthenticated) as caught:
        await Client(server.url, auth=credential, retry=FAST).connect()
    shown = "".join(traceback.format_exception(caught.value))
    assert SECRET not in shown
    return caught.value


async def test_a_password_goes_first_and_its_token_later(guarded: FakeServer) -> None:
    """Login and hello share the first frame; a new connection shows the token of that login."""
    async with Client(guarded.url, auth=ADA, retry=FAST) as client:
        assert [type(body) for body in guarded.members[0].seen] == [auth.Login, cluster.Hello]
        assert guarded.frames == 1
        await client.kv.put("a")
        assert guarded.frames == 2
        guarded.drop()
        await client.kv.put("b")
        first = guarded.members[1].seen[0]
        assert isinstance(first, auth.Reauthenticate)
        assert first.token == "token-1"
    assert gate_of(guarded).proofs == {"Login": 1, "Reauthenticate": 1}


async def test_another_member_is_told_as_well(guarded: FakeServer) -> None:
    """At another member the token of the first one goes before everything else."""
    async with fake_server(guarded.cluster) as other:
        async with Client(guarded.url, other.url, auth=ADA, retry=FAST) as client:
            guarded.drop()
            await client.kv.put("a")
            assert client.endpoint == other.url
            assert isinstance(other.members[0].seen[0], auth.Reauthenticate)


async def test_a_lapsed_token_is_replaced_by_a_login(guarded: FakeServer) -> None:
    """If the token of an earlier login counts no more, the password does; no call notices."""
    async with Client(guarded.url, auth=ADA, retry=FAST) as client:
        gate_of(guarded).tokens.clear()
        guarded.drop()
        await client.kv.put("a")
        assert gate_of(guarded).proofs == {"Login": 2, "Reauthenticate": 1}


async def test_calls_refused_for_want_of_a_proof_are_made_after_it(guarded: FakeServer) -> None:
    """When a token ends early, calls wait for a new one and are applied once; streams too."""
    async with Client(guarded.url, auth=ADA, retry=FAST) as client:
        gate_of(guarded).tokens.clear()
        results = await asyncio.gather(*(client.kv.put(f"k{number}") for number in range(20)))
        assert sorted(result.revision for result in results) == list(range(2, 22))
        assert set(guarded.cluster.applied.values()) == {1}
        gate_of(guarded).tokens.clear()
        async with client.kv.watch(prefix="k") as watch:
            await client.kv.put("k")
            async for event in watch:
                assert event.kv.key == b"k"
                break
    assert len(guarded.members) == 1
    assert gate_of(guarded).proofs["Login"] == 3


async def test_renewals_go_unnoticed(guarded: FakeServer) -> None:
    """A held lock and an open watch live through many tokens on one connection, without a gap."""
    gate = gate_of(guarded)
    gate.life_ms = 60
    async with Client(guarded.url, auth=ADA, retry=FAST) as client:
        async with client.locks.lock("l") as lock, client.kv.watch(prefix="k") as watch:
            token = lock.token
            for number in range(5):
                logins = gate.proofs["Login"]
                await guarded.until(lambda logins=logins: gate.proofs["Login"] > logins)  # type: ignore[misc]
                await client.kv.put(f"k{number}", guard=lock)
                assert (await anext(watch)).kv.key == f"k{number}".encode()
            assert (lock.token, watch.resumes) == (token, 0)
    assert len(guarded.members) == 1
    assert "Reauthenticate" not in gate.proofs


def test_renewal_is_early_and_spread() -> None:
    """A token is renewed after half to three quarters of its life, by the member's clock."""
    for random, wanted in ((0.0, 150.0), (1.0, 225.0)):
        prover = Prover(ADA, lambda random=random: random)  # type: ignore[misc]
        login = auth.LoginResult("t", "ada", 301_000, 1, 1_000)
        prover.accepted(auth.Login("ada", SECRET), login, 1000.0)
        assert prover.next_at() == 1000.0 + wanted
        assert not prover.is_due(1000.0 + wanted - 1)
        assert prover.is_due(1000.0 + wanted)


def crowded(gate: Gate, until: int) -> Any:
    """Refuses logins up to a number of them."""
    return lambda body: Exhausted("too many logins") if gate.proofs["Login"] < until else None


async def test_a_failed_renewal_is_tried_again(guarded: FakeServer) -> None:
    """A member that can't renew at the moment is asked again; nothing breaks meanwhile."""
    gate = gate_of(guarded)
    gate.life_ms = 60
    async with Client(guarded.url, auth=ADA, retry=FAST) as client:
        gate.refuse = lambda body: (
            Exhausted("too many logins") if gate.proofs["Login"] < 5 else None
        )
        await guarded.until(lambda: gate.proofs["Login"] > 5)
        await client.kv.put("a")
    assert len(guarded.members) == 1


async def test_a_proof_that_is_asked_for_may_take_some_tries(guarded: FakeServer) -> None:
    """Calls that wait for a proof go on waiting while there are too many logins."""
    gate = gate_of(guarded)
    async with Client(guarded.url, auth=ADA, retry=FAST) as client:
        gate.refuse = crowded(gate, 4)
        gate.tokens.clear()
        assert (await client.kv.put("a")).revision == 2
    assert gate.proofs["Login"] == 4
    assert len(guarded.members) == 1


async def test_a_crowded_member_is_waited_for(guarded: FakeServer) -> None:
    """While there are too many logins, a client that connects tries again."""
    gate = gate_of(guarded)
    gate.refuse = crowded(gate, 4)
    async with Client(guarded.url, auth=ADA, retry=FAST) as client:
        await client.kv.put("a")
    assert gate.proofs["Login"] == 4


async def test_tokens_come_from_a_function(guarded: FakeServer) -> None:
    """A function gives tokens, async or not; it is asked again before they expire."""
    gate = gate_of(guarded)
    gate.life_ms = 60
    asked: list[str] = []

    def fresh() -> str:
        asked.append(f"jwt-{len(asked)}")
        gate.tokens[asked[-1]] = "ada"
        return asked[-1] + "\n"

    async def later() -> str:
        await asyncio.sleep(0)
        return fresh()

    for function in (fresh, later):
        asked.clear()
        async with Client(guarded.url, auth=Token(function), retry=FAST) as client:
            await guarded.until(lambda: len(asked) > 3)
            await client.kv.put("a")
    assert "Login" not in gate.proofs


async def test_a_function_that_fails_is_asked_again(guarded: FakeServer) -> None:
    """A token function may fail for a while; its own words are never repeated."""
    gate_of(guarded).tokens["jwt"] = "ada"
    failures = [OSError(SECRET), OSError(SECRET)]

    def fetch() -> str:
        if failures:
            raise failures.pop()
        return "jwt"

    async with Client(guarded.url, auth=Token(fetch), retry=FAST) as client:
        await client.kv.put("a")
    failures += [OSError(SECRET)] * 1000
    with pytest.raises(ConnectFailed, match=r"Token\(\.\.\.\) failed with OSError") as caught:
        await Client(guarded.url, auth=Token(fetch), retry=FAST, connect_timeout=0.2).connect()
    assert SECRET not in str(caught.value)
    nothing: Any = lambda: None  # noqa: E731
    with pytest.raises(Unauthenticated, match="gave no token"):
        await Client(guarded.url, auth=Token(nothing), retry=FAST).connect()


async def test_an_api_key_is_enough(guarded: FakeServer) -> None:
    """A key is shown on every connection and needs no renewal."""
    gate_of(guarded).tokens["ck_1_s"] = "ada"
    async with Client(guarded.url, auth=ApiKey(" ck_1_s\n"), retry=FAST) as client:
        await client.kv.put("a")
        guarded.drop()
        await client.kv.put("b")
    assert gate_of(guarded).proofs == {"Reauthenticate": 2}


@pytest.mark.parametrize(
    ("credential", "advice"),
    [
        (Password("ada", SECRET + "!"), r"check the user and the password in auth=Password"),
        (Token(SECRET), r"wrong, or has expired: pass a fresh one"),
        (ApiKey(SECRET), r"wrong, revoked or expired: make another one with `coordctl api-key"),
        (None, r"authentication is on: pass auth=Password"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else "",
)
async def test_a_refused_credential_is_told_at_once(
    guarded: FakeServer, credential: Credential | None, advice: str
) -> None:
    """A credential that is refused fails connect() after one try and says what to do."""
    error = await refused(guarded, credential)
    assert advice.replace("\\", "") in str(error)
    assert error.details["reply"].startswith("etcdserver: ")
    assert sum(gate_of(guarded).proofs.values()) == (credential is not None)


async def test_a_credential_that_is_refused_later_is_not_tried_for_ever(
    guarded: FakeServer,
) -> None:
    """After a changed password calls fail clearly, one login each; it may be mended later."""
    gate = gate_of(guarded)
    slow = RetryPolicy(deadline=20.0, base=0.05, cap=0.05)
    async with Client(guarded.url, auth=ADA, retry=slow) as client:
        gate.passwords["ada"] = "changed"
        gate.tokens.clear()
        with pytest.raises(Unauthenticated, match="check the user and the password"):
            await client.kv.put("a")
        guarded.drop()
        with pytest.raises(Unauthenticated, match="check the user and the password"):
            await client.kv.put("a")
        tried = gate.proofs["Login"]
        assert tried <= 4
        await guarded.until(lambda: client._link._demand is not None)  # until it is asked again
        assert gate.proofs["Login"] == tried
        gate.passwords["ada"] = SECRET
        await client.kv.put("a")


async def test_authentication_may_be_turned_on_later(guarded: FakeServer) -> None:
    """A client with a credential is welcome while nobody asks for it, and proves it when asked."""
    gate = gate_of(guarded)
    gate.is_on = False
    async with Client(guarded.url, auth=ADA, retry=FAST) as client:
        await client.kv.put("k")
        async with client.kv.watch(prefix="k") as watch:
            gate.is_on = True
            [(socket, member)] = guarded.connections.items()
            [stream] = member.streams
            member.streams.clear()
            cut = PermissionDenied(auth.PERMISSION_DENIED)
            await socket.send(member.frame([MSGPACK.encode_failure(stream, cut)]))
            await client.kv.put("k", "3")
            assert (await anext(watch)).kv.value == b"3"
            assert watch.resumes == 0
    assert gate.proofs["Login"] == 2
    assert len(guarded.members) == 1


@pytest.mark.parametrize("credential", [ADA, Token(SECRET), ApiKey(SECRET), TLS(password=SECRET)])
def test_secrets_are_not_pickled(credential: Any) -> None:
    """A credential can be copied with the settings around it, and is never written down."""
    with pytest.raises(TypeError, match="holds a secret") as caught:
        pickle.dumps({"settings": credential})
    assert SECRET not in str(caught.value)
    assert copy.deepcopy({"settings": credential})["settings"] == credential
    assert pickle.loads(pickle.dumps(TLS("ca.pem"))) == TLS("ca.pem")


async def test_secrets_are_not_logged(
    guarded: FakeServer, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Neither a log at its most talkative nor a traceback shows a password."""
    asyncio.get_running_loop().set_debug(True)
    with caplog.at_level(logging.DEBUG):
        async with Client(guarded.url, auth=ADA, retry=FAST) as client:
            await client.kv.put("a")
        await refused(guarded, Password("bob", SECRET))
    told = capfd.readouterr()
    assert SECRET not in caplog.text + told.out + told.err


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, None),
        ({"COORDINATOR_USER": "ada", "COORDINATOR_PASSWORD": "a:b"}, Password("ada", "a:b")),
        ({"COORDINATOR_USER": "ada:b:c"}, Password("ada", "b:c")),
        ({"COORDINATOR_USER": "ada:b", "COORDINATOR_TOKEN": "t"}, Token("t")),
        ({"COORDINATOR_API_KEY": "k\n", "COORDINATOR_TOKEN": "t"}, ApiKey("k")),
    ],
)
def test_the_environment_may_say_who_it_is(
    environment: dict[str, str], wanted: Credential | None
) -> None:
    """Without auth=, the environment's key, token or user counts, in this order."""
    assert credential_of(environment) == wanted


def test_the_environment_may_say_whom_to_trust() -> None:
    """Without tls=, the environment names the files."""
    assert tls_of({}) is None
    given = {"COORDINATOR_CACERT": "ca", "COORDINATOR_CERT": "c", "COORDINATOR_KEY": "k"}
    assert tls_of(given) == TLS("ca", "c", "k")


async def test_a_client_takes_what_the_environment_says(
    guarded: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client made without arguments connects with the environment's endpoint and user."""
    monkeypatch.setenv("COORDINATOR_ENDPOINTS", guarded.url)
    monkeypatch.setenv("COORDINATOR_USER", "ada")
    with pytest.raises(InvalidRequest, match="COORDINATOR_USER: needs COORDINATOR_PASSWORD"):
        Client()
    monkeypatch.setenv("COORDINATOR_PASSWORD", SECRET)
    async with Client() as client:
        await client.kv.put("a")


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: Password("", "x"), "user"),
        (lambda: Password("ada", 5), "password"),  # type: ignore[arg-type]
        (lambda: Token(""), "token"),
        (lambda: Token(7), "token"),  # type: ignore[arg-type]
        (lambda: ApiKey(" "), "key"),
        (lambda: TLS(key="k.pem"), "key"),
        (lambda: Client(auth=SECRET), "auth"),  # type: ignore[arg-type]
    ],
)
def test_credentials_that_can_never_be_right(make: Any, field: str) -> None:
    """What is no credential is refused by name where it is made, and not repeated."""
    with pytest.raises(InvalidRequest) as caught:
        make()
    assert caught.value.details == {"field": field}
    assert SECRET not in str(caught.value)
