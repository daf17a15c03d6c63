"""The walk: every route and every operation, without proof, with a wrong role, expired, forged.

What is served without proof is `OPEN`, one table; everything else answers 401 or 403 and nothing
else, and no answer is a 5xx.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from coordinator.api.recheck import expire
from coordinator.api.registry import Caller
from coordinator.domains import apis
from coordinator_sdk.errors import InvalidRequest, Unauthenticated
from coordinator_sdk.protocol import REQUESTS, auth
from coordinator_sdk.protocol.auth import INVALID_TOKEN, PERMISSION_DENIED, USER_EMPTY
from coordinator_sdk.protocol.frames import Failure
from tests.api.member import Raw
from tests.api.test_permissions import body_of
from tests.api.users import Guarded, guarded
from tests.credentials.forgeries import forgeries
from tests.credentials.keys import private_pem, rsa_key, written
from tests.shape.test_permissions import ANYBODY

pytestmark = pytest.mark.asyncio(loop_scope="module")

OPEN = {
    ("GET", "/health"),
    ("GET", "/livez"),
    ("GET", "/readyz"),
    ("GET", "/version"),
    ("GET", "/metrics"),
    ("GET", "/v1/auth/jwks"),
    ("GET", "/v1/auth/whoami"),
    ("POST", "/v1/auth/login"),
    ("POST", "/v1/auth/logout"),
}
"""Routes for everybody. A credential that comes with them and is wrong may be told so."""
FOR_EVERY_USER = {("GET", "/v1/auth/status"), ("POST", "/v1/kv/txn"), ("POST", "/v1/auth/renew")}
"""Routes that any user may use; an empty transaction touches nothing, a cookie is one's own."""
OPEN_OPERATIONS = {
    "auth.login",
    "auth.reauthenticate",
    "auth.whoami",
    "hello",
    "ping",
    "stream.cancel",
    "stream.credit",
    "watch.progress",
}
"""Operations of the WebSocket for everybody; the greeting needs a user to be given an id."""
OWN: dict[str, Any] = {
    "auth_init": {"password": "x"},
    "auth_login": {"user": "x", "password": "x"},
    "users_add": {"user": "x", "password": "x"},
    "users_change_password": {"password": "x"},
} | {name: {"key": {"access": "read", "key": "x"}} for name in ("roles_grant", "roles_revoke")}
"""Bodies that are right in themselves, where the documentation alone does not say so."""
SAMPLE = {"string": "x", "integer": 1, "number": 1, "boolean": False, "array": [], "object": {}}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Guarded]:
    """A member with every domain, whose tokens are signed with a known key."""
    folder = tmp_path_factory.mktemp("walk")
    file = written(Path(tmp_path_factory.mktemp("keys")), "key.pem", private_pem(rsa_key()))
    setting = f"jwt,priv-key={file},sign-method=RS256"
    async with guarded(folder, domains=apis(), auth_token=setting) as made:
        await made.add_user("nothing")
        yield made


# ---------------------------------------------------------------- routes


class Walk:
    """Every route that is documented, with a request that is right in itself."""

    def __init__(self, described: dict[str, Any]) -> None:
        self._schemas = described["components"]["schemas"]
        self.routes = [
            (method.upper(), path, *self._request(path, operation))
            for path, methods in sorted(described["paths"].items())
            for method, operation in methods.items()
        ]

    def _request(self, path: str, operation: dict[str, Any]) -> tuple[str, dict[str, Any] | None]:
        query = ["key=x"] if operation["operationId"] == "cluster_blame" else []
        for one in operation.get("parameters", ()):
            value = "0" * 32 if one["name"] == "token" else self._value(one["schema"], one["name"])
            if one["in"] == "path":
                path = re.sub(rf"{{{one['name']}(:path)?}}", str(value), path)
            elif one.get("required"):
                query.append(f"{one['name']}={value}")
        content = operation.get("requestBody", {}).get("content", {})
        body = None
        if "application/json" in content:
            body = OWN.get(operation["operationId"])
            body = body or self._value(content["application/json"]["schema"], "")
        return path + ("?" + "&".join(query) if query else ""), body

    def _value(self, schema: dict[str, Any], name: str) -> Any:
        for known in ("allOf", "anyOf", "oneOf"):
            if known in schema:
                return self._value(schema[known][0], name)
        if "$ref" in schema:
            return self._value(self._schemas[schema["$ref"].rpartition("/")[2]], name)
        if schema.get("examples"):
            return schema["examples"][0]
        if "example" in schema:
            return schema["example"]
        if "enum" in schema:
            return schema["enum"][0]
        if schema.get("pattern", "").startswith("^[0-9a-f]") or name in IDS:
            return "0" * 15 + "1"
        if schema.get("type") == "object":
            needed = schema.get("required", ())
            return {one: self._value(schema["properties"][one], one) for one in needed}
        return schema.get("default", SAMPLE.get(schema.get("type", "string"), "x"))


IDS = {"lease", "session", "member", "key_id", "client"}


async def asked(house: Guarded, route: tuple[Any, ...], token: str) -> tuple[int, str]:
    """Make a request; gives status and message."""
    method, _, target, body = route
    headers = [("authorization", f"Bearer {token}")] if token else []
    async with house.member.raw() as raw:
        return await _told(raw, method, target, body, headers)


async def _told(
    raw: Raw, method: str, target: str, body: Any, headers: list[tuple[str, str]]
) -> tuple[int, str]:
    payload = body if body is not None else (b"x" if method == "PUT" else b"")
    answer = await raw.ask(method, target, payload, headers)
    try:
        return answer.status, answer.error["message"]
    except (KeyError, ValueError, TypeError, InvalidRequest):
        return answer.status, ""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def walk(house: Guarded) -> Walk:
    """What the documentation describes."""
    made = Walk((await house.member.ask("GET", "/openapi.json")).json)
    assert len(made.routes) > 80
    return made


def guarded_routes(walk: Walk) -> list[tuple[Any, ...]]:
    """Give the routes that need proof."""
    return [one for one in walk.routes if one[:2] not in OPEN]


async def test_what_is_open(house: Guarded, walk: Walk) -> None:
    """Without proof every route answers 401, but for those in the table, which serve."""
    wrong = []
    for route in walk.routes:
        status, message = await asked(house, route, "")
        if route[:2] in OPEN:
            is_right = status < 500 and status != 403 and (status != 401 or "login" in route[1])
        else:
            is_right = (status, message) == (401, USER_EMPTY)
        if not is_right:
            wrong.append((*route, status, message))
    assert wrong == []
    assert {route[:2] for route in walk.routes} >= OPEN - {("GET", "/metrics")}


async def test_a_wrong_role(house: Guarded, walk: Walk) -> None:
    """A user whose roles allow nothing is denied by every route, in the same words."""
    token = await house.token("nothing")
    wrong = []
    for route in guarded_routes(walk):
        status, message = await asked(house, route, token)
        if (status, message) != (403, PERMISSION_DENIED) and route[:2] not in FOR_EVERY_USER:
            wrong.append((*route, status, message))
    assert wrong == []


async def test_an_expired_token(house: Guarded, walk: Walk) -> None:
    """A token whose time is up is refused by every route."""
    expired = forgeries(house.root, rsa_key())["expired"]
    for route in guarded_routes(walk):
        assert await asked(house, route, expired) == (401, INVALID_TOKEN), route


async def test_forged_tokens(house: Guarded, walk: Walk) -> None:
    """Each forged token is refused with 401: all of them by some routes, some of them by all;
    all by all where there is time."""
    forged = forgeries(house.root, rsa_key())
    assert len(forged) >= 15
    routes = guarded_routes(walk)
    pairs = [(route, name) for route in routes[::12] for name in forged]
    names = list(forged)
    pairs += [(route, names[at % len(names)]) for at, route in enumerate(routes)]
    for route, name in pairs:
        status, message = await asked(house, route, forged[name])
        assert status == 401, (route, name, status, message)
        assert forged[name] not in message


@pytest.mark.slow
async def test_every_forged_token_by_every_route(house: Guarded, walk: Walk) -> None:
    """Each forged token is refused with 401 by each route, and quoted by none."""
    for name, text in forgeries(house.root, rsa_key()).items():
        for route in guarded_routes(walk):
            status, message = await asked(house, route, text)
            assert status == 401, (route, name, status, message)
            assert text not in message


async def test_tokens_in_a_url(house: Guarded) -> None:
    """A token in a URL counts for nothing, under any name."""
    for name in ("token", "access_token", "authorization", "api_key"):
        for target in (f"/v1/users?{name}={house.root}", f"/v1/watch?key=a&{name}={house.root}"):
            answer = await house.member.ask("GET", target)
            assert answer.status == 401
            assert house.root not in answer.body.decode()


# ---------------------------------------------------------------- the WebSocket

OPERATIONS = [kind for kind in REQUESTS if str(kind.__struct_config__.tag) not in OPEN_OPERATIONS]


async def test_the_table_of_operations() -> None:
    """The operations for everybody are those whose rule says so."""
    assert {tag for tag in ANYBODY if not tag.startswith("_")} == OPEN_OPERATIONS


async def test_operations_without_proof(house: Guarded) -> None:
    """On a WebSocket that nobody has logged in on, the greeting and every operation are refused."""
    async with house.member.web_socket(greet=False) as socket:
        for kind in (auth.WhoAmI, auth.UserList):
            early = await socket.call(kind())
            assert isinstance(early, Failure)
            assert early.code in ("invalid_request", "unauthenticated")
    from dataclasses import replace

    async with house.socket("nothing") as socket:
        (connection,) = house.member.serving.websockets
        connection.caller = replace(connection.caller, actor="", auth_revision=0)
        for kind in OPERATIONS:
            refused = await socket.call(body_of(kind))
            assert isinstance(refused, Failure), kind
            assert (refused.code, refused.message) == ("unauthenticated", USER_EMPTY), kind


async def test_operations_with_a_wrong_role(house: Guarded) -> None:
    """On a WebSocket of a user whose roles allow nothing, every operation is denied."""
    async with house.socket("nothing") as socket:
        for kind in OPERATIONS:
            tag = str(kind.__struct_config__.tag)
            refused = await socket.call(body_of(kind))
            if tag in ("auth.status", "kv.txn"):
                continue
            assert isinstance(refused, Failure), tag
            assert (refused.code, refused.message) == ("permission_denied", PERMISSION_DENIED), tag


async def test_operations_with_an_expired_token(house: Guarded) -> None:
    """Once its user's time is up, a WebSocket goes on as nobody: every operation is refused."""

    def expired() -> Caller:
        raise Unauthenticated(INVALID_TOKEN)

    async with house.socket("nothing") as socket:
        (connection,) = house.member.serving.websockets
        connection.identify = expired
        expire(connection)
        for kind in OPERATIONS:
            refused = await socket.call(body_of(kind))
            assert isinstance(refused, Failure), kind
            assert refused.code == "unauthenticated", kind


async def test_forged_tokens_on_a_websocket(house: Guarded) -> None:
    """Each forged token is refused in band, and at the upgrade."""
    forged = forgeries(house.root, rsa_key())
    async with house.socket("nothing") as socket:
        for name, text in forged.items():
            refused = await socket.call(auth.Reauthenticate(text))
            assert isinstance(refused, Failure), name
            assert refused.code == "unauthenticated" or name == "too long", (name, refused)
            assert text not in refused.message
        who = await socket.call(auth.WhoAmI(), auth.Identity)
        assert who.user == "nothing"
    upgrade = [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "AAAAAAAAAAAAAAAAAAAAAA=="),
    ]
    for name, text in forged.items():
        answer = await house.member.ask(
            "GET", "/v1/ws", b"", [*upgrade, ("authorization", f"Bearer {text}")]
        )
        assert answer.status == 401, name
    await asyncio.sleep(0)
