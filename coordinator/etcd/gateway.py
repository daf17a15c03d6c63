"""The JSON gateway: etcd's calls as ``POST /v3/...`` with JSON bodies.

An ASGI application: uvicorn has read and checked the request already, with the limits of HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from coordinator.api.identity import origin_of, take_place, tls_of
from coordinator.api.registry import Caller
from coordinator.etcd import headers, jsonform
from coordinator.etcd.asking import identify_now, identify_surely
from coordinator.etcd.calls import Call, Conversation, Served, ending, guarded
from coordinator.etcd.permits import OPEN, TOLD_LATER
from coordinator.etcd.status import Code, StatusError, status_of
from coordinator_sdk.errors import CoordinatorError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Mapping

    from starlette.types import Message as AsgiMessage
    from starlette.types import Receive, Scope, Send

    from coordinator.api.serving import Serving
    from coordinator.etcd.messages import Message

PREFIXES: Final = ("/v3", "/v3beta")
UNREAD_BYTES: Final = 1 << 20
"""Bytes from which on a reader of a stream counts as slow."""
_HTTP_STATUS: Final = {
    Code.INVALID_ARGUMENT: 400,
    Code.OUT_OF_RANGE: 400,
    Code.UNAUTHENTICATED: 401,
    Code.PERMISSION_DENIED: 403,
    Code.NOT_FOUND: 404,
    Code.CANCELLED: 408,
    Code.DEADLINE_EXCEEDED: 504,
    Code.ALREADY_EXISTS: 409,
    Code.ABORTED: 409,
    Code.FAILED_PRECONDITION: 412,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.UNIMPLEMENTED: 501,
    Code.UNAVAILABLE: 503,
}
_SERVICES: Final = {
    "KV": {
        "kv/range": "Range",
        "kv/put": "Put",
        "kv/deleterange": "DeleteRange",
        "kv/txn": "Txn",
        "kv/compaction": "Compact",
    },
    "Watch": {"watch": "Watch"},
    "Lease": {
        "lease/grant": "LeaseGrant",
        "lease/revoke": "LeaseRevoke",
        "lease/keepalive": "LeaseKeepAlive",
        "lease/timetolive": "LeaseTimeToLive",
        "lease/leases": "LeaseLeases",
        "kv/lease/revoke": "LeaseRevoke",
        "kv/lease/timetolive": "LeaseTimeToLive",
        "kv/lease/leases": "LeaseLeases",
    },
    "Cluster": {
        f"cluster/member/{name.lower()}": f"Member{name}"
        for name in ("Add", "Remove", "Update", "List", "Promote")
    },
    "Maintenance": {
        "maintenance/alarm": "Alarm",
        "maintenance/status": "Status",
        "maintenance/defragment": "Defragment",
        "maintenance/hash": "Hash",
        "maintenance/snapshot": "Snapshot",
        "maintenance/transfer-leadership": "MoveLeader",
    },
    "Auth": {
        "auth/enable": "AuthEnable",
        "auth/disable": "AuthDisable",
        "auth/authenticate": "Authenticate",
        "auth/user/add": "UserAdd",
        "auth/user/get": "UserGet",
        "auth/user/list": "UserList",
        "auth/user/delete": "UserDelete",
        "auth/user/changepw": "UserChangePassword",
        "auth/user/grant": "UserGrantRole",
        "auth/user/revoke": "UserRevokeRole",
        "auth/role/add": "RoleAdd",
        "auth/role/get": "RoleGet",
        "auth/role/list": "RoleList",
        "auth/role/delete": "RoleDelete",
        "auth/role/grant": "RoleGrantPermission",
        "auth/role/revoke": "RoleRevokePermission",
    },
}
_OTHERS: Final = {
    "lock/lock": "/v3lockpb.Lock/Lock",
    "lock/unlock": "/v3lockpb.Lock/Unlock",
    "election/campaign": "/v3electionpb.Election/Campaign",
    "election/proclaim": "/v3electionpb.Election/Proclaim",
    "election/leader": "/v3electionpb.Election/Leader",
    "election/observe": "/v3electionpb.Election/Observe",
    "election/resign": "/v3electionpb.Election/Resign",
}
ROUTES: Final = _OTHERS | {
    route: f"/etcdserverpb.{service}/{name}"
    for service, routes in _SERVICES.items()
    for route, name in routes.items()
}
"""The call behind every route, below one of the prefixes."""


class GatewayCall(Call):
    """One request."""

    __slots__ = (
        "_began_s",
        "_deferred",
        "_served",
        "_tasks",
        "_unread",
        "_wake",
        "error",
        "identify",
        "is_over",
        "items",
    )

    def __init__(self, served: Served) -> None:
        served.tally.begun += 1
        self._served = served
        self._began_s = monotonic()
        self.doubt = None
        self.identify: Callable[[], Caller] | None = None
        self.is_closed = False
        self.is_over = False
        self.error: StatusError | None = None
        self.items: deque[bytes] = deque()
        self._unread = 0
        self._wake = asyncio.Event()
        self._deferred: deque[Callable[[], None]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def is_full(self) -> bool:
        """Whether the client reads too slowly to be sent more for now."""
        return self._unread > UNREAD_BYTES

    def recognize(self) -> Caller:
        """Tell anew who asks, by what came with the request.

        Raises:
            CoordinatorError: It proves nothing any more.
        """
        return self.caller if self.identify is None else self.identify()

    def reply(self, payload: bytes) -> None:
        """Answer a unary call."""
        self.send(payload)
        self.finish()

    def send(self, payload: bytes) -> None:
        """Send an item of a stream."""
        if not self.is_closed and not self.is_over:
            self.items.append(payload)
            self._unread += len(payload)
            self._wake.set()

    def finish(self) -> None:
        """End a stream well."""
        if not self.is_over:
            self._count(Code.OK if self.error is None else self.error.code)
        self.is_over = True
        self._wake.set()

    def _count(self, code: Code) -> None:
        self._served.tally.ended(code, monotonic() - self._began_s)

    def fail(self, error: BaseException) -> None:
        """End the call with the status of an error."""
        if not self.is_over:
            self.error = ending(error, self._served.method.path)
            self.finish()

    def stop(self, error: CoordinatorError) -> None:
        """The server stops."""
        self.fail(error)

    def defer(self, work: Callable[[], None]) -> bool:
        """Call ``work`` once the client has read what was sent; False if it has."""
        if self.is_full:
            self._deferred.append(work)
        return self.is_full

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine that is cancelled with the call; its failure is the call's."""
        if self.is_closed:
            work.close()
            return
        task = asyncio.get_running_loop().create_task(guarded(self, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def item(self) -> bytes | None:
        """Wait for the next item; None once there is no more."""
        while not self.items:
            if self.is_over:
                return None
            self._wake.clear()
            await self._wake.wait()
        payload = self.items.popleft()
        self._unread -= len(payload)
        while self._deferred and not self.is_full:
            self._deferred.popleft()()
        return payload

    def close(self) -> None:
        """The client has its answer, or is gone."""
        self.is_closed = True
        if not self.is_over:
            self._count(Code.CANCELLED)
        for task in list(self._tasks):
            task.cancel()


class Gateway:
    """The application below both prefixes.

    Args:
        serving: What all connections share.
        served: Every call by its path.
    """

    def __init__(self, serving: Serving, served: Mapping[str, Served]) -> None:
        self._serving = serving
        self._node = serving.node
        self._identity = serving.identity
        self._routes = {route: served[path] for route, path in ROUTES.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        path: str = scope["path"]
        prefix = next((one for one in PREFIXES if path == one or path.startswith(one + "/")), "")
        route = path[len(prefix) + 1 :]
        served = self._routes.get(route)
        if not route and path in PREFIXES:
            moved = [(b"location", path.encode() + b"/")]
            await _answer(send, 301, b"", b"text/plain; charset=utf-8", moved)
        elif served is None:
            await _answer(send, 404, b"Not Found\n", b"text/plain; charset=utf-8")
        elif scope["method"] != "POST":
            await _answer(send, 405, b"Method Not Allowed\n", b"text/plain; charset=utf-8")
        else:
            body = await _body(receive)
            if body is not None:
                await self._serve(served, scope, body, receive, send)

    async def _serve(
        self, served: Served, scope: Scope, body: bytes, receive: Receive, send: Send
    ) -> None:
        call = GatewayCall(served)
        conversation: Conversation | None = None
        timeout_s = None
        try:
            timeout_s = _timeout_s(scope)
            await self._identify(call, served.method.path, scope)
            if served.unary is not None:
                served.unary(call, jsonform.from_json(served.method.request, body))
            else:
                self._serving.admit_stream(call, call.caller)
                assert served.converse is not None
                conversation = served.converse(call)
                for message in _told(jsonform.messages(served.method.request, body)):
                    conversation.received(message)
                conversation.half_closed()
        except Exception as error:
            call.fail(error)
        gone = asyncio.ensure_future(_until_gone(receive))
        answering = asyncio.ensure_future(self._respond(served, call, send))
        try:
            both = {gone, answering}
            done, _ = await asyncio.wait(
                both, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
            if not done:
                call.fail(StatusError(Code.DEADLINE_EXCEEDED, "context deadline exceeded"))
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            answering.cancel()
            self._serving.forget_stream(call)
            call.close()
            if conversation is not None:
                conversation.cancelled()
        if answering.done() and not answering.cancelled():
            answering.result()

    async def _identify(self, call: GatewayCall, path: str, scope: Scope) -> None:
        """Note who makes the call."""
        origin = origin_of(scope) or "local"
        shown = (self._node, self._identity, _token(scope), origin, tls_of(scope))
        call.identify = partial(identify_now, *shown)
        try:
            call.caller = await identify_surely(*shown)
            take_place(scope, call.caller)
        except CoordinatorError as error:
            if path not in OPEN and path not in TOLD_LATER:
                raise
            call.caller = Caller(origin=origin)
            call.doubt = status_of(error) if path in TOLD_LATER else None

    async def _respond(self, served: Served, call: GatewayCall, send: Send) -> None:
        payload = await call.item()
        if payload is None and call.error is not None:
            await _answer(send, _http_status(call.error), _error(call.error))
            return
        if served.unary is not None:
            await _answer(send, 200, _json(served, payload or b""))
            return
        await send(_start(200, b"application/json"))
        while payload is not None:
            line = b'{"result":' + _json(served, payload) + b"}\n"
            await send({"type": "http.response.body", "body": line, "more_body": True})
            if self._node.hub.is_lagging:
                self._node.catch_up()
            payload = await call.item()
        last = b""
        if call.error is not None:
            last = b'{"error":' + _stream_error(call.error) + b"}\n"
        await send({"type": "http.response.body", "body": last})


def _json(served: Served, payload: bytes) -> bytes:
    return jsonform.to_json(served.method.response.FromString(payload))


def _http_status(error: StatusError) -> int:
    return _HTTP_STATUS.get(error.code, 500)


def _error(error: StatusError) -> bytes:
    facts = {"error": error.message, "message": error.message, "code": int(error.code)}
    return jsonform.encode(facts)


def _stream_error(error: StatusError) -> bytes:
    status = _http_status(error)
    return jsonform.encode(
        {
            "grpc_code": int(error.code),
            "http_code": status,
            "message": error.message,
            "http_status": _PHRASES.get(status, ""),
        }
    )


_PHRASES: Final = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    412: "Precondition Failed",
    429: "Too Many Requests",
    500: "Internal Server Error",
    501: "Not Implemented",
    503: "Service Unavailable",
}


def _timeout_s(scope: Scope) -> float | None:
    """Read the time that the client gives the call, if it said so."""
    given = dict(scope["headers"]).get(b"grpc-timeout")
    if not given:
        return None
    found = headers.timeout_s(given)
    if found is None:
        text = f"invalid grpc-timeout: {given.decode('latin-1')}"
        raise StatusError(Code.INVALID_ARGUMENT, text)
    return found


def _token(scope: Scope) -> bytes:
    found = dict(scope["headers"])
    token: bytes = found.get(b"grpc-metadata-token") or found.get(b"authorization") or b""
    return token


def _told(messages: Iterator[Message]) -> Iterator[Message]:
    """Give the messages of a stream's body, up to one that cannot be read."""
    try:
        first = next(messages, None)
    except StatusError as error:
        # What a stream cannot read is no wrong argument to etcd's gateway.
        raise StatusError(Code.UNKNOWN, error.message) from None
    if first is not None:
        yield first
        with contextlib.suppress(StatusError):
            while (message := next(messages, None)) is not None:
                yield message


async def _body(receive: Receive) -> bytes | None:
    """Read the body; None if the client has gone meanwhile."""
    parts: list[bytes] = []
    while True:
        message: AsgiMessage = await receive()
        if message["type"] != "http.request":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _start(status: int, kind: bytes, more: list[tuple[bytes, bytes]] | None = None) -> Any:
    return {
        "type": "http.response.start",
        "status": status,
        "headers": [
            (b"content-type", kind),
            (b"cache-control", b"no-store"),
            *(more or ()),
        ],
    }


async def _answer(
    send: Send,
    status: int,
    body: bytes,
    kind: bytes = b"application/json",
    more: list[tuple[bytes, bytes]] | None = None,
) -> None:
    length = (b"content-length", b"%d" % len(body))
    await send(_start(status, kind, [length, *(more or ())]))
    await send({"type": "http.response.body", "body": body})
