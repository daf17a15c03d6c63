"""The HTTP face of the keyspace: plain keys and values, and every operation as JSON."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import unquote_to_bytes

from fastapi import Query, Request, Response

from coordinator.api import models
from coordinator.api.http import (
    ALWAYS,
    CHANGES,
    Routes,
    answer_json,
    call,
    documented,
    standing,
    stream_content,
)
from coordinator.api.keyspace import JSON_KEYS_MAX, at_most
from coordinator.api.models import IdText
from coordinator.api.streaming import answer_stream
from coordinator.keyspace import FROM_KEY, prefix_end
from coordinator_sdk import errors
from coordinator_sdk.errors import InvalidRequest, NotFound
from coordinator_sdk.protocol.kv import (
    Compact,
    CompactResult,
    Delete,
    DeleteResult,
    KeyValue,
    LeaseGrant,
    LeaseGrantResult,
    LeaseInfo,
    LeaseKeepAlive,
    LeaseKeepAliveResult,
    LeaseList,
    LeaseListResult,
    LeaseRevoke,
    LeaseRevokeResult,
    LeaseTimeToLive,
    Put,
    PutResult,
    Range,
    RangeResult,
    Txn,
    TxnResult,
    Watch,
    WatchCancelled,
    WatchEvents,
    WatchProgress,
)

Revision = Annotated[int, Query(ge=0, le=models.INT64_MAX, description="0 is now.")]
Limit = Annotated[
    int, Query(ge=0, le=models.INT64_MAX, description=f"At most {JSON_KEYS_MAX}; 0 is that.")
]
_GUARDED = (errors.GuardFailed, errors.LeaseNotFound)
_HISTORIC = (errors.Compacted, errors.FutureRevision)


def routes() -> Routes:
    """Make the routes of keys, transactions, watches and leases."""
    made = Routes("Keys")
    _plain_routes(made)
    _operation_routes(made)
    _watch_route(made)
    return made


def lease_routes() -> Routes:
    """Make the routes of leases."""
    made = Routes("Leases")
    made.add(
        "POST",
        "/leases",
        LeaseGrant,
        LeaseGrantResult,
        summary="Create a lease",
        status=201,
        raises=(errors.AlreadyExists,),
        example={"ttl_ms": 10_000},
        descriptions={"lease": "Its id; left out, the server chooses one."},
    )
    made.add("GET", "/leases", LeaseList, LeaseListResult, summary="List the leases")
    made.add(
        "POST",
        "/leases/keepalive",
        LeaseKeepAlive,
        LeaseKeepAliveResult,
        summary="Renew leases or sessions",
        example={"leases": ["0000000000000a1b"]},
    )
    made.add(
        "GET",
        "/leases/{lease}",
        LeaseTimeToLive,
        LeaseInfo,
        summary="How long a lease lives on",
    )
    made.add(
        "DELETE",
        "/leases/{lease}",
        LeaseRevoke,
        LeaseRevokeResult,
        summary="End a lease and delete its keys",
        raises=(errors.LeaseNotFound,),
    )
    return made


# ---------------------------------------------------------------- raw bytes of path and query


def path_key(request: Request, prefix: bytes = b"/v1/kv/") -> bytes:
    """Give the key that a path names: percent-encoding carries any byte."""
    raw: bytes = request.scope["raw_path"]
    return unquote_to_bytes(raw.removeprefix(prefix))


def query_bytes(request: Request, name: str) -> bytes | None:
    """Give a query parameter as bytes: percent-encoding carries any byte."""
    wanted = name.encode()
    for pair in request.scope["query_string"].split(b"&"):
        key, _, value = pair.partition(b"=")
        if key == wanted:
            return unquote_to_bytes(value.replace(b"+", b" "))
    return None


def span(request: Request) -> tuple[bytes, bytes]:
    """Give the key and range end that the query asks for.

    Raises:
        InvalidRequest: ``prefix`` comes with ``start`` or ``end``.
    """
    prefix = query_bytes(request, "prefix")
    start, end = query_bytes(request, "start"), query_bytes(request, "end")
    if prefix is not None:
        if start is not None or end is not None:
            raise InvalidRequest("prefix: not together with start or end", field="prefix")
        return (prefix, prefix_end(prefix)) if prefix else (b"\0", FROM_KEY)
    return start or b"\0", end or FROM_KEY


# ---------------------------------------------------------------- plain keys


def _plain_routes(made: Routes) -> None:
    router = made.router
    shown = {"*/*": {"schema": {"type": "string", "format": "binary"}}}
    router.add_api_route(
        "/kv/{key:path}",
        _put,
        methods=["PUT"],
        summary="Write a key; the body is the value",
        operation_id="kv_put_raw",
        responses=documented(PutResult, 200, (*ALWAYS, *CHANGES, errors.LeaseNotFound)),
        response_model=None,
        openapi_extra={"requestBody": {"content": shown, "required": False}},
    )
    router.add_api_route(
        "/kv/{key:path}",
        _get,
        methods=["GET"],
        summary="Read a key; with raw=true its bytes alone",
        operation_id="kv_get",
        responses=documented(KeyValue, 200, (*ALWAYS, NotFound, *_HISTORIC)),
        response_model=None,
    )
    router.add_api_route(
        "/kv/{key:path}",
        _delete,
        methods=["DELETE"],
        summary="Delete a key, or with prefix=true all keys that start with it",
        operation_id="kv_delete_raw",
        responses=documented(DeleteResult, 200, (*ALWAYS, errors.OutcomeUnknown)),
        response_model=None,
    )
    router.add_api_route(
        "/kv",
        _list,
        methods=["GET"],
        summary="Read the keys of a prefix, or from start up to but not including end",
        operation_id="kv_list",
        responses=documented(RangeResult, 200, (*ALWAYS, *_HISTORIC)),
        response_model=None,
    )


async def _put(
    request: Request, key: str, lease: IdText | None = None, prev_kv: bool = False
) -> Response:
    value = await request.body()
    body = Put(path_key(request), value, lease or 0, prev_kv)
    revision, result = await call(request, body)
    return answer_json(request, result, revision)


async def _get(
    request: Request,
    key: str,
    revision: Revision = 0,
    serializable: bool = False,
    raw: bool = False,
) -> Response:
    name = path_key(request)
    body = Range(name, revision=revision, serializable=serializable)
    at, result = await call(request, body)
    if not result.kvs:
        raise NotFound("no such key", key=models.text_of(name)[0])
    (record,) = result.kvs
    if not raw:
        return answer_json(request, record, at)
    headers = standing(request)
    headers["coordinator-mod-revision"] = str(record.mod_revision)
    headers["content-security-policy"] = "sandbox"
    headers["x-content-type-options"] = "nosniff"
    return Response(record.value, 200, headers, "application/octet-stream")


async def _delete(
    request: Request, key: str, prefix: bool = False, prev_kv: bool = False
) -> Response:
    name = path_key(request)
    end = prefix_end(name) if prefix and name else b""
    revision, result = await call(request, Delete(name, end, prev_kv))
    return answer_json(request, result, revision)


async def _list(
    request: Request,
    prefix: str | None = None,
    start: str | None = None,
    end: str | None = None,
    limit: Limit = 0,
    revision: Revision = 0,
    keys_only: bool = False,
    count_only: bool = False,
    serializable: bool = False,
) -> Response:
    first, last = span(request)
    body = Range(
        first,
        last,
        limit,
        revision,
        keys_only=keys_only,
        count_only=count_only,
        serializable=serializable,
    )
    at_most(body)
    at, result = await call(request, body)
    return answer_json(request, result, at)


# ---------------------------------------------------------------- every operation as JSON


def _operation_routes(made: Routes) -> None:
    made.add(
        "POST",
        "/kv/put",
        Put,
        PutResult,
        summary="Write a key",
        raises=_GUARDED,
        example={"key": "config/color", "value": "blue"},
    )
    made.add(
        "POST",
        "/kv/range",
        Range,
        RangeResult,
        summary="Read keys",
        raises=_HISTORIC,
        example={"key": "config/", "range_end": "config0", "limit": 10},
        adjust=at_most,
    )
    made.add(
        "POST",
        "/kv/delete",
        Delete,
        DeleteResult,
        summary="Delete keys",
        raises=(errors.GuardFailed,),
        example={"key": "config/color"},
    )
    made.add(
        "POST",
        "/kv/txn",
        Txn,
        TxnResult,
        summary="Compare, then write or read, atomically",
        raises=(*_GUARDED, *_HISTORIC),
        example=_TXN_EXAMPLE,
    )
    made.add(
        "POST",
        "/kv/compact",
        Compact,
        CompactResult,
        summary="Forget history",
        raises=_HISTORIC,
        example={"revision": 42},
    )


_TXN_EXAMPLE: dict[str, Any] = {
    "compare": [{"key": "job", "target": "version", "result": "equal", "number": 0}],
    "success": [{"type": "put", "key": "job", "value": "mine"}],
    "failure": [{"type": "range", "key": "job"}],
}


# ---------------------------------------------------------------- watching


def _watch_route(made: Routes) -> None:
    items = (WatchEvents, WatchProgress, WatchCancelled)
    made.router.add_api_route(
        "/watch",
        _watch,
        methods=["GET"],
        summary="Stream the changes of a key, a prefix or a range",
        description=(
            "Server-sent events, or with `Accept: application/x-ndjson` one object per line. "
            "A browser that reconnects goes on where it was, by `Last-Event-ID`."
        ),
        operation_id="watch_create",
        responses=documented(stream_content(items), 200, (*ALWAYS, *_HISTORIC)),
        response_model=None,
    )


async def _watch(
    request: Request,
    key: str | None = None,
    prefix: str | None = None,
    start: str | None = None,
    end: str | None = None,
    start_revision: Revision = 0,
    prev_kv: bool = False,
) -> Response:
    single = query_bytes(request, "key")
    first, last = (single, b"") if single is not None else span(request)
    seen = request.headers.get("last-event-id", "")
    if seen.isascii() and seen.isdigit() and len(seen) < 19:
        start_revision = int(seen) + 1
    body = Watch(first, last, start_revision, prev_kv, progress=True)
    items = (WatchEvents, WatchProgress, WatchCancelled)
    return await answer_stream(request, body, items)
