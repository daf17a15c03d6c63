"""Logging in and out: on a WebSocket, over HTTP, and for the dashboard with a cookie."""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import Request, Response

from coordinator.api.connection import Connection
from coordinator.api.dispatch import guarded
from coordinator.api.http import JSON_TYPE, Routes, answer_json, documented
from coordinator.api.identity import COOKIE, Identity, now_ms, origin_of, shown_in
from coordinator.api.recheck import recheck
from coordinator_sdk.errors import (
    Conflict,
    Exhausted,
    InvalidRequest,
    PermissionDenied,
    Unauthenticated,
)
from coordinator_sdk.protocol.auth import (
    INVALID_TOKEN,
    Login,
    LoginResult,
    Reauthenticate,
)
from coordinator_sdk.protocol.auth import Identity as Told

# ---------------------------------------------------------------- on a connection


def serve_login(identity: Identity, connection: Connection, id: int, op: Login) -> None:
    """Let the connection go on as a user who proves itself by a password."""
    connection.spawn(guarded(connection, id, _login(identity, connection, id, op)))


async def _login(identity: Identity, connection: Connection, id: int, op: Login) -> None:
    _refuse_cookie(op)
    result = await identity.login(op.user, op.password, connection.caller.origin)
    connection.show(identity, result.token)
    recheck(connection)
    connection.answer(id, connection.node.revision, result)


def _refuse_cookie(op: Login) -> None:
    if op.cookie:
        raise InvalidRequest("cookie: only over HTTP", field="cookie")


def serve_reauthenticate(
    identity: Identity, connection: Connection, id: int, op: Reauthenticate
) -> None:
    """Let the connection go on as whomever a token or an API key stands for."""
    connection.spawn(guarded(connection, id, _reauthenticate(identity, connection, id, op)))


async def _reauthenticate(
    identity: Identity, connection: Connection, id: int, op: Reauthenticate
) -> None:
    if not op.token:
        raise InvalidRequest(f"token: {INVALID_TOKEN}", field="token")
    await identity.identify_surely(op.token, connection.caller.origin)
    connection.show(identity, op.token)
    recheck(connection)
    caller, store = connection.caller, connection.node.machine.auth
    user = store.users.get(caller.actor)
    roles = [] if user is None else list(user.roles)
    told = Told(caller.actor, roles, caller.scope, caller.expires_ms, now_ms(), store.enabled)
    connection.answer(id, connection.node.revision, told)


# ---------------------------------------------------------------- over HTTP


def add_routes(routes: Routes) -> None:
    """Serve logins over HTTP."""
    routes.add(
        "POST",
        "/auth/login",
        Login,
        LoginResult,
        summary="Log in by a password",
        raises=(Conflict, Exhausted),
        example={"user": "root", "password": "correct horse battery staple"},
        serve=_login_over_http,
    )
    routes.router.add_api_route(
        "/auth/logout",
        _logout,
        methods=["POST"],
        summary="Make a token void, and forget the cookie of the dashboard",
        operation_id="auth_logout",
        status_code=204,
        response_model=None,
    )
    routes.router.add_api_route(
        "/auth/renew",
        _renew,
        methods=["POST"],
        summary="Have the cookie of the dashboard live on",
        operation_id="auth_renew",
        responses=documented(LoginResult, 200, (Conflict, Unauthenticated, PermissionDenied)),
        response_model=None,
    )
    routes.router.add_api_route(
        "/auth/jwks",
        _key_set,
        methods=["GET"],
        summary="The public keys that tokens are verified with",
        operation_id="auth_jwks",
        response_model=None,
    )


async def _login_over_http(request: Request, op: Login) -> Response:
    identity: Identity = request.app.state.serving.identity
    node = request.app.state.node
    result = await identity.login(op.user, op.password, origin_of(request.scope))
    if op.cookie:
        return _with_cookie(request, result)
    answer = answer_json(request, result, node.revision)
    answer.headers["cache-control"] = "no-store"
    return answer


def _with_cookie(request: Request, result: LoginResult) -> Response:
    """Answer with a login whose token no script sees."""
    token, result.token = result.token, ""
    answer = answer_json(request, result, request.app.state.node.revision)
    life_s = max(1, (result.expires_ms - result.clock_ms) // 1000)
    answer.headers["set-cookie"] = _set_cookie(request, token, life_s)
    answer.headers["cache-control"] = "no-store"
    return answer


async def _renew(request: Request) -> Response:
    """Give the dashboard another cookie, while the one it has is good.

    A page that stays open asks in time. Twelve hours after the login the password is asked for.
    """
    identity: Identity = request.app.state.serving.identity
    headers = request.scope["headers"]
    credential = shown_in(request.scope, request.app.state.serving.gate)
    if any(name == b"authorization" for name, _ in headers):
        raise PermissionDenied("authorization: only a cookie is renewed", field="authorization")
    return _with_cookie(request, await identity.renew(credential, origin_of(request.scope)))


async def _logout(request: Request) -> Response:
    """Make the token that comes along void, on this member, and have the browser forget its cookie.

    Streams that were opened with it end. An API key stays: it is revoked instead.
    """
    serving = request.app.state.serving
    credential = shown_in(request.scope, serving.gate)
    if credential:
        serving.identity.log_out(credential, origin_of(request.scope))
        serving.recheck.look_again()
    headers = {"set-cookie": _set_cookie(request, "", 0), "cache-control": "no-store"}
    return Response(None, 204, headers)


def _set_cookie(request: Request, token: str, life_s: int) -> str:
    # Behind a proxy that ends TLS the page knows what the browser speaks.
    is_tls = "https" in (request.scope["scheme"], request.headers.get("origin", "")[:5])
    secure = "; Secure" if is_tls else ""
    return f"{COOKIE}={token}; Path=/; Max-Age={life_s}; HttpOnly; SameSite=Strict{secure}"


async def _key_set(request: Request) -> Response:
    """Give a JSON Web Key Set; it is empty while tokens are signed with a secret."""
    identity: Identity = request.app.state.serving.identity
    found: Any = identity.credentials.key_set()
    headers = {"cache-control": "max-age=60"}
    return Response(msgspec.json.encode(found), 200, headers, JSON_TYPE)
