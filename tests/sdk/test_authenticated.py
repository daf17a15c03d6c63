"""The client at a real coordinator that wants to know who asks: short tokens, keys, revocation."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from coordinator_sdk import (
    ApiKey,
    Client,
    Password,
    PermissionDenied,
    Token,
    Unauthenticated,
    sync,
)
from coordinator_sdk.testing import CoordinatorProcess, running, running_cluster

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

SECRET = "hunter2-and-more"
ROOT = Password("root", SECRET)


@pytest.fixture(scope="module")
def server() -> Iterator[CoordinatorProcess]:
    """A coordinator with authentication on and tokens that live for a second."""
    with running(options=["--password-cost", "10", "--auth-token", "jwt,ttl=1s"]) as process:
        with sync.Client(process.url) as client:
            client.auth.init(SECRET)
        yield process


@pytest.fixture
async def root(server: CoordinatorProcess) -> AsyncIterator[Client]:
    async with Client(server.url, auth=ROOT) as client:
        yield client


async def make(root: Client, user: str, password: str = "") -> None:
    """Make a user of its own role, which may use keys and locks that begin with its name."""
    await root.auth.add_user(user, password, no_password=not password)
    await root.auth.add_role(user)
    await root.auth.grant_role(user, user)
    await root.auth.allow_keys(user, "readwrite", prefix=f"{user}/")
    await root.auth.allow(user, "lock:acquire", "default", f"{user}/*")
    await root.auth.allow(user, "session:open")


async def hold(client: Client, name: str, until: Any) -> int:
    """Hold a lock and a watch until a condition holds; gives how many changes were seen."""
    async with client.locks.lock(f"{name}/l", ttl=15) as lock:
        token, seen = lock.token, 0
        async with client.kv.watch(prefix=f"{name}/") as watch:
            while not until():
                await client.kv.put(f"{name}/k", str(seen), guard=lock)
                assert (await anext(watch)).kv.value == str(seen).encode()
                seen += 1
                await asyncio.sleep(0.05)  # the rhythm of the writer; nothing waits for it
            assert (watch.resumes, watch.resyncs) == (0, 0)
        assert (lock.token, lock.held) == (token, True)
    return seen


class Tokens:
    """Counts the tokens that a client goes by."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.seen: set[str] = set()

    def more_than(self, number: int) -> bool:
        self.seen.add(self._client._link.prover.token)
        return len(self.seen) > number


async def test_renewed_tokens_are_not_noticed(server: CoordinatorProcess, root: Client) -> None:
    """With tokens that live for a second, a lock and a watch live on, on one connection."""
    await make(root, "ada", SECRET)
    async with Client(server.url, auth=Password("ada", SECRET)) as client:
        tokens, hello = Tokens(client), client._link.hello
        assert await hold(client, "ada", lambda: tokens.more_than(3)) > 3
        assert client._link.hello is hello


@pytest.mark.slow
async def test_five_second_tokens_hold_for_a_minute() -> None:
    """An SDK with 5-second tokens holds a lock and a watch for 60 s without a gap over it."""
    loop = asyncio.get_running_loop()
    with running(options=["--password-cost", "10", "--auth-token", "jwt,ttl=5s"]) as process:
        async with Client(process.url) as client:
            await client.auth.init(SECRET)
        async with Client(process.url, auth=ROOT) as client:
            tokens, end = Tokens(client), loop.time() + 60
            hello = client._link.hello
            await hold(client, "m", lambda: tokens.more_than(1000) or loop.time() > end)
            assert len(tokens.seen) > 12
            assert client._link.hello is hello


async def ends(client: Client, key: str) -> None:
    """Read a key until that is refused."""
    while True:
        await client.kv.get(key)
        await asyncio.sleep(0.02)


@pytest.mark.slow
async def test_a_function_may_give_the_tokens(server: CoordinatorProcess, root: Client) -> None:
    """Tokens of elsewhere, fetched again before they expire, keep a lock and a watch as well."""
    await make(root, "bot", SECRET)

    async def fresh() -> str:
        async with Client(server.url, auth=Password("bot", SECRET)) as issuer:
            return await issuer.auth.token()

    async with Client(server.url, auth=Token(fresh)) as client:
        tokens = Tokens(client)
        await hold(client, "bot", lambda: tokens.more_than(2))
    kept = await fresh()
    async with Client(server.url, auth=Token(kept)) as client:
        assert (await client.auth.whoami()).user == "bot"
        with pytest.raises(Unauthenticated, match="has expired: pass a fresh one"):
            await ends(client, "bot/k")


async def test_a_wrong_password_is_told(server: CoordinatorProcess) -> None:
    """Unknown users and wrong passwords get the same clear error, without the password."""
    told = set()
    for user in ("root", "nobody"):
        with pytest.raises(Unauthenticated) as caught:
            await Client(server.url, auth=Password(user, SECRET + "!")).connect()
        assert SECRET not in "".join(traceback.format_exception(caught.value))
        told.add(str(caught.value))
    [text] = told
    assert text.startswith("etcdserver: authentication failed, invalid user ID or password; check")
    assert SECRET not in server.log.read_text()


async def test_a_changed_password_ends_what_rested_on_it(
    server: CoordinatorProcess, root: Client
) -> None:
    """After a password was changed, calls say so; a client with the new one goes on."""
    await make(root, "eve", SECRET)
    async with Client(server.url, auth=Password("eve", SECRET)) as client:
        await client.kv.put("eve/k")
        await root.auth.change_password("eve", SECRET + "2")
        with pytest.raises(Unauthenticated, match="check the user and the password"):
            await client.kv.put("eve/k")
    async with Client(server.url, auth=Password("eve", SECRET + "2")) as client:
        await client.kv.put("eve/k")


@pytest.mark.slow
async def test_api_keys_expire_and_are_revoked(server: CoordinatorProcess, root: Client) -> None:
    """A key works until its time is over or it is revoked; then open watches end."""
    await make(root, "key")
    for ttl in (60.0, 1.0):
        made = await root.auth.create_key("key", ttl=ttl)
        async with Client(server.url, auth=ApiKey(made.secret)) as client:
            async with client.kv.watch(prefix="key/") as watch:
                await client.kv.put("key/k")
                assert (await anext(watch)).kv.key == b"key/k"
                if ttl == 60.0:
                    await root.auth.revoke_key(made.key)
                with pytest.raises((PermissionDenied, Unauthenticated)):
                    await anext(watch)
            with pytest.raises(Unauthenticated, match="wrong, revoked or expired"):
                await client.kv.get("key/k")
        with pytest.raises(Unauthenticated, match="wrong, revoked or expired"):
            await Client(server.url, auth=ApiKey(made.secret)).connect()


async def test_a_revoked_role_ends_streams(server: CoordinatorProcess, root: Client) -> None:
    """Watches end with PermissionDenied once the role behind them is taken away."""
    await make(root, "kim", SECRET)
    async with Client(server.url, auth=Password("kim", SECRET)) as client:
        async with client.kv.watch(prefix="kim/") as watch:
            await root.auth.revoke_role("kim", "kim")
            with pytest.raises(PermissionDenied):
                await anext(watch)
        with pytest.raises(PermissionDenied):
            await client.kv.get("kim/k")


@pytest.mark.slow
async def test_authentication_is_turned_on_under_its_clients() -> None:
    """A client that has a credential from the start goes on when authentication is turned on."""
    with running(options=["--password-cost", "10"]) as process:
        async with Client(process.url) as admin, Client(process.url, auth=ROOT) as client:
            async with client.kv.watch("k") as watch:
                await admin.auth.init(SECRET)
                await client.kv.put("k", "1")
                assert (await anext(watch)).kv.value == b"1"
            with pytest.raises(Unauthenticated, match="authentication is on: pass auth="):
                await admin.kv.put("k")
            await client.auth.disable()
            await admin.kv.put("k")


@pytest.mark.slow
async def test_another_member_believes_the_same_token() -> None:
    """A client whose member is killed goes on at another one, with its lock, watch and token."""
    options = ["--password-cost", "10"]
    with running_cluster(options=options) as cluster:
        async with Client(cluster.url) as client:
            await client.auth.init(SECRET)
        async with Client(cluster.url, auth=ROOT) as client:
            token = await client.auth.token()
            async with client.locks.lock("l", ttl=15) as lock, client.kv.watch("k") as watch:
                for number in range(2):
                    await client.kv.put("k", str(number), guard=lock)
                    assert (await anext(watch)).kv.value == str(number).encode()
                    if not number:
                        next(one for one in cluster.members if one.url == client.endpoint).kill()
            assert (await client.auth.whoami()).user == "root"
            assert await client.auth.token() == token


async def test_everything_about_users_without_await(server: CoordinatorProcess) -> None:
    """The face without await manages users, roles and keys as well."""

    def work() -> None:
        with sync.Client(server.url, auth=ROOT) as client:
            client.auth.add_user("sam", SECRET, certificate_names=["sam.example"])
            client.auth.set_certificate_names("sam", ["sam.test"])
            client.auth.add_role("sam")
            client.auth.allow_keys("sam", "read", "a", range_end="c")
            client.auth.allow("sam", "topic:*", "default", "orders.*")
            client.auth.grant_role("sam", "sam")
            user = client.auth.user("sam")
            assert (user.roles, user.certificate_names) == (["sam"], ["sam.test"])
            role = client.auth.role("sam")
            assert [(one.key, one.range_end) for one in role.keys] == [(b"a", b"c")]
            assert [one.action for one in role.domains] == ["topic:*"]
            client.auth.disallow_keys("sam", "a", range_end="c")
            client.auth.disallow("sam", "topic:*", "default", "orders.*")
            made = client.auth.create_key("sam", role="sam", label="x")
            assert [one.key for one in client.auth.keys("sam")] == [made.key]
            assert SECRET not in repr(made) + repr(client)
            assert made.secret not in repr(made)
            client.auth.revoke_role("sam", "sam")
            client.auth.delete_user("sam")
            client.auth.delete_role("sam")
            assert "sam" not in client.auth.users() + client.auth.roles()
            assert client.auth.status().enabled

    await asyncio.to_thread(work)


async def test_a_backup_is_taken_with_a_login(root: Client, tmp_path: Any) -> None:
    """What travels over plain HTTP carries the token of the login."""
    info = await root.cluster.snapshot(tmp_path / "backup.db")
    assert info.size_bytes == (tmp_path / "backup.db").stat().st_size
