"""What is open ends with what its caller has shown, on gRPC and its gateway."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from coordinator.etcd import permits
from coordinator.etcd.messages import METHODS
from tests.api.test_tokens import later
from tests.api.users import KEYS, Guarded, guarded
from tests.etcd.client import Grpc, Refused, Talk, connected

pytestmark = pytest.mark.asyncio(loop_scope="module")

API = "/etcdserverpb."
ELECTION = "/v3electionpb.Election/"
SOON_S = 5
INVALID = "etcdserver: invalid auth token"
DENIED = "etcdserver: permission denied"
HOUR_MS = 3_600_000
ENDINGS = ("expired key", "logged out", "key revoked", "password changed", "user gone", "role gone")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Guarded]:
    """A member with authentication on."""
    async with guarded(tmp_path_factory.mktemp("ended")) as made:
        yield made


async def _end(house: Guarded, how: str, key: str, shown: str) -> None:
    """Take from ``ana`` what it goes by."""
    ask = house.ask
    if how == "expired key":
        later(house.member, 2 * HOUR_MS)
        return
    answer = {
        "logged out": lambda: ask("POST", "/v1/auth/logout", token=shown),
        "key revoked": lambda: ask("DELETE", f"/v1/api-keys/{key}"),
        "password changed": lambda: ask("PUT", "/v1/users/ana/password", {"password": "other"}),
        "user gone": lambda: ask("DELETE", "/v1/users/ana"),
        "role gone": lambda: ask("DELETE", "/v1/users/ana/roles/ana"),
    }[how]()
    assert (await answer).status in (200, 204)


async def _prepare(house: Guarded, how: str) -> tuple[str, str]:
    """Make ``ana``; give its API key's id, and what it shows."""
    await house.add_user("ana", KEYS)
    if how.endswith(("key", "revoked")):
        until_ms = int(time.time() * 1000) + HOUR_MS if how == "expired key" else 0
        wanted = {"user": "ana", "expires_ms": until_ms}
        made = (await house.ask("POST", "/v1/api-keys", wanted)).json
        return made["key"], made["secret"]
    return "", await house.token("ana")


async def _clear(house: Guarded, how: str, clock: Any) -> None:
    house.member.serving.identity.credentials._clock_ms = clock
    if how != "user gone":
        await house.ask("DELETE", "/v1/users/ana")
    await house.ask("DELETE", "/v1/roles/ana")


async def _told(talk: Talk) -> str:
    """Give the end of a stream, or that of its watch where only its right is gone."""
    try:
        while True:
            reason = getattr(await talk.hear(), "cancel_reason", "")
            if reason.endswith(DENIED):
                return str(reason)
            assert not reason or reason.endswith(INVALID)
    except Refused as refused:
        return str(refused)


async def _refused(grpc: Grpc, stream: int, path: str) -> str:
    with pytest.raises(Refused) as found:
        await grpc.answer(stream, path)
    return str(found.value)


async def _open_all(grpc: Grpc, house: Guarded, shown: str, name: str) -> dict[str, Any]:
    """Open one of each kind of stream and waiting call; each is known to go on."""
    root, token = ("token", house.root), ("token", shown)
    locked, elected = f"app/l{name}".encode(), f"app/e{name}".encode()
    lease = await grpc.call(f"{API}Lease/LeaseGrant", root, TTL=600)
    await grpc.call("/v3lockpb.Lock/Lock", root, name=locked, lease=lease.ID)
    await grpc.call(f"{ELECTION}Campaign", root, name=elected, lease=lease.ID)
    watch = grpc.talk(f"{API}Watch/Watch", token)
    watch.say(create_request={"key": b"app/a"})
    assert (await watch.hear()).created
    renewals = grpc.talk(f"{API}Lease/LeaseKeepAlive", token)
    renewals.say(ID=lease.ID)
    assert (await renewals.hear()).TTL
    observing = grpc.talk(f"{ELECTION}Observe", token)
    observing.say(name=elected)
    assert (await observing.hear()).kv.key
    ends = {"watch": _told(watch), "renewals": _told(renewals), "observing": _told(observing)}
    for kind, path, prefix in (
        ("lock", "/v3lockpb.Lock/Lock", locked),
        ("campaign", f"{ELECTION}Campaign", elected),
    ):
        queued = grpc.talk(f"{API}Watch/Watch", root)
        queued.say(create_request={"key": prefix + b"/", "range_end": prefix + b"0"})
        assert (await queued.hear()).created
        stream = grpc.open(path, token)
        grpc.write(stream, METHODS[path].request(name=prefix), last=True)
        assert (await queued.hear()).events
        queued.reset()
        ends[kind] = _refused(grpc, stream, path)
    return ends


@pytest.mark.parametrize("how", ENDINGS)
async def test_all_end(house: Guarded, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever makes a credential void ends all that is open by it, in etcd's words."""
    monkeypatch.setattr(permits, "EXPIRY_LOOK_S", 0.05)
    clock = house.member.serving.identity.credentials._clock_ms
    key, shown = await _prepare(house, how)
    async with connected(house.member.port) as grpc:
        ends = await _open_all(grpc, house, shown, how[:4])
        await _end(house, how, key, shown)
        async with asyncio.timeout(SOON_S):
            said = dict(zip(ends, await asyncio.gather(*ends.values()), strict=True))
    await _clear(house, how, clock)
    text, code = (DENIED, 7) if how == "role gone" else (INVALID, 16)
    reason = f"rpc error: code = PermissionDenied desc = {DENIED}"
    assert said == {
        "watch": reason if how == "role gone" else f"{code}: {text}",
        "renewals": f"{code}: {text}",
        "observing": f"2: {text}",
        "lock": f"2: {text}",
        "campaign": f"2: {text}",
    }


@pytest.mark.parametrize("how", ["expired key", "user gone"])
async def test_the_gateway_ends(house: Guarded, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream of the gateway ends its watch with the reason, and its body with an error."""
    monkeypatch.setattr(permits, "EXPIRY_LOOK_S", 0.05)
    clock = house.member.serving.identity.credentials._clock_ms
    key, shown = await _prepare(house, how)
    body = json.dumps({"create_request": {"key": base64.b64encode(b"app/a").decode()}})
    async with house.member.raw() as raw:
        raw.send(
            f"POST /v3/watch HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: {shown}\r\n"
            f"content-length: {len(body)}\r\n\r\n{body}".encode()
        )
        await raw.reader.readuntil(b'"created":true')
        await _end(house, how, key, shown)
        async with asyncio.timeout(SOON_S):
            last = await raw.reader.readuntil(b"\r\n0\r\n")
    await _clear(house, how, clock)
    assert f'"cancel_reason":"rpc error: code = Unauthenticated desc = {INVALID}"'.encode() in last
    assert b'{"error":{"grpc_code":16,"http_code":401,"message":"' + INVALID.encode() in last


@pytest.mark.parametrize("how", ["user gone", "password changed"])
async def test_a_login_only_begins_calls(
    house: Guarded, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After its token's end a call goes on, as with etcd, begins no more, ends with its user."""
    clock = house.member.serving.identity.credentials._clock_ms
    _, shown = await _prepare(house, "a login")
    # What root shows must not expire with it.
    key = (await house.ask("POST", "/v1/api-keys", {"user": "root"})).json
    monkeypatch.setattr(house, "root", key["secret"])
    async with connected(house.member.port) as grpc:
        token = ("token", shown)
        watch = grpc.talk(f"{API}Watch/Watch", token)
        watch.say(create_request={"key": b"app/a"})
        assert (await watch.hear()).created
        lease = await grpc.call(f"{API}Lease/LeaseGrant", token, TTL=600)
        renewals = grpc.talk(f"{API}Lease/LeaseKeepAlive", token)
        renewals.say(ID=lease.ID)
        assert (await renewals.hear()).TTL
        later(house.member, 2 * HOUR_MS)
        monkeypatch.setattr(permits, "now_ms", lambda: clock() + 2 * HOUR_MS)
        watch.say(create_request={"key": b"app/b"})
        refused = await watch.hear()
        assert (refused.watch_id, refused.canceled) == (-1, True)
        assert INVALID in refused.cancel_reason
        renewals.say(ID=lease.ID)
        assert (await renewals.hear()).TTL
        # Any change of users has all that is open judged again.
        await grpc.call(f"{API}Auth/RoleAdd", ("token", house.root), name=f"other {how}")
        await grpc.call(f"{API}KV/Put", ("token", house.root), key=b"app/a", value=b"seen")
        assert (await watch.hear()).events[0].kv.value == b"seen"
        renewals.say(ID=lease.ID)
        assert (await renewals.hear()).TTL
        await _end(house, how, "", shown)
        async with asyncio.timeout(SOON_S):
            ends = await _told(watch), await _told(renewals)
        assert all(one.endswith((INVALID, DENIED)) for one in ends)
    await _clear(house, how, clock)


@pytest.mark.slow
async def test_five_seconds(tmp_path_factory: pytest.TempPathFactory) -> None:
    """By the clock: a watch opened with a key of four seconds ends within five of its expiry."""
    async with (
        guarded(tmp_path_factory.mktemp("five")) as made,
        connected(made.member.port) as grpc,
    ):
        until_ms = int(time.time() * 1000) + 4000
        wanted = {"user": "root", "expires_ms": until_ms}
        key = (await made.ask("POST", "/v1/api-keys", wanted)).json
        watch = grpc.talk(f"{API}Watch/Watch", ("token", key["secret"]))
        watch.say(create_request={"key": b"k"})
        assert (await watch.hear()).created
        ended = await _told(watch)
        assert until_ms <= time.time() * 1000
        assert ended == f"16: {INVALID}"
