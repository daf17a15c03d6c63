"""The composition: node, operations, routes, pages become one application."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from coordinator import __version__
from coordinator.api import (
    audit,
    auth,
    cluster,
    health,
    keyspace,
    keyspace_http,
    maintenance,
    operating,
    sessions,
    streams,
)
from coordinator.api.census import Census
from coordinator.api.dispatch import Dispatcher
from coordinator.api.feed import Feed
from coordinator.api.http import answer_error, answer_schemas
from coordinator.api.identity import Identity
from coordinator.api.limits import Limits, limits_of
from coordinator.api.listing import Listing
from coordinator.api.pages import Pages, page_folder
from coordinator.api.registry import DomainApi
from coordinator.api.serving import Serving
from coordinator.api.shares import Shares
from coordinator.etcd.entry import Entry
from coordinator.metrics import Metrics
from coordinator_sdk.errors import CoordinatorError, InvalidRequest, NotFound

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from coordinator.node.node import Node

logger = logging.getLogger("coordinator.app")

DESCRIPTION = """\
Services, fair fenced locks, elections and topics on one replicated, revisioned keyspace.

Ids are 16 hexadecimal digits, revisions and tokens are numbers. Bytes are text, with `encoding`
beside them: `utf-8` or `base64`. Every error has the same body, with a stable `code`. The headers
`coordinator-cluster`, `coordinator-member`, `coordinator-term` and `coordinator-revision` tell
who answered and where it stood. The same operations are served over the WebSocket at `/v1/ws`.
"""
_RAW_PATHS = ("/v1/kv", "/v1/watch")
"""Below these, path and query may carry any bytes; elsewhere they are UTF-8."""


def build_app(node: Node, domains: Sequence[DomainApi], limits: Limits | None = None) -> FastAPI:
    """Make the application of a started node.

    Args:
        node: The member.
        domains: What it serves besides keys, leases and sessions.
        limits: The limits of clients; those of the configuration by default.

    Returns:
        The application; ``state.serving`` is what the connections need.
    """
    config = node.config
    limits = limits or limits_of(config)
    census = Census(limits, Shares(node, limits))
    listing = Listing()
    identity = Identity(node)
    feed = Feed(node, census)
    groups = [
        keyspace.operations(limits),
        streams.operations(),
        sessions.operations(),
        cluster.operations(feed.status),
        feed.operations(),
        listing.operations(),
        operating.operations(),
        auth.operations(identity),
        audit.operations(tuple(domain.domain.name for domain in domains)),
        *(domain.operations for domain in domains),
    ]
    dispatcher = Dispatcher(node, groups, limits)
    feed.count(dispatcher)
    serving = Serving(node, dispatcher, config, limits, census, identity)
    listing.connections = serving.connections
    backups = maintenance.Backups(node)
    etcd = Entry(serving, backups, identity)
    serving.http2 = etcd.http2
    metrics = Metrics()
    health.register(metrics, serving)
    identity.register(metrics)
    etcd.register(metrics)
    app = _Application(
        title="Coordinator",
        version=__version__,
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        separate_input_output_schemas=False,
    )
    app.state.etcd = etcd
    app.state.node, app.state.dispatcher = node, dispatcher
    app.state.serving, app.state.metrics = serving, metrics
    app.state.backups = backups
    app.state.pages = Pages(page_folder)
    for router in (
        keyspace_http.routes().router,
        keyspace_http.lease_routes().router,
        sessions.routes().router,
        *(domain.router for domain in domains),
        cluster.routes().router,
        operating.routes().router,
        audit.routes().router,
        auth.routes().router,
        maintenance.router,
        health.router,
    ):
        app.include_router(router)
    app.add_exception_handler(CoordinatorError, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _no_route)
    return app


class _Application(FastAPI):
    """FastAPI with our documentation, and with a strict view of paths."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse paths and queries that are no text, then serve."""
        app: ASGIApp = super().__call__
        if scope["type"] == "http":
            field = _broken_text(scope)
            if Entry.covers(scope["path"]):
                app = self.state.etcd
            elif field is not None:
                error = InvalidRequest(f"{field}: is not UTF-8", field=field)
                app = answer_error(error)
        await app(scope, receive, send)

    def openapi(self) -> dict[str, Any]:
        """Describe everything, the answers included."""
        if self.openapi_schema is None:
            schema = super().openapi()
            components = schema.setdefault("components", {}).setdefault("schemas", {})
            components.update(answer_schemas())
            components.pop("HTTPValidationError", None)
            components.pop("ValidationError", None)
            for path in schema["paths"].values():
                for operation in path.values():
                    operation["responses"].pop("422", None)
        assert self.openapi_schema is not None
        return self.openapi_schema


def _broken_text(scope: Scope) -> str | None:
    """Name what of a request's target is not UTF-8, if anything."""
    if scope["path"].startswith(_RAW_PATHS):
        return None
    for field, raw in (("path", scope["raw_path"]), ("query", scope["query_string"])):
        if b"%" in raw or not raw.isascii():
            try:
                unquote_to_bytes(raw).decode()
            except UnicodeDecodeError:
                return field
    return None


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, CoordinatorError)
    return answer_error(error)


async def _invalid(request: Request, error: Exception) -> Response:
    """Turn a validation error into one that names the first wrong field."""
    assert isinstance(error, RequestValidationError)
    problem = error.errors()[0]
    place = [part for part in problem["loc"] if part not in ("body", "query", "path", "header")]
    field = "".join(f"[{one}]" if isinstance(one, int) else f".{one}" for one in place)
    field = field.removeprefix(".") or "body"
    reason = str(problem["msg"]).removeprefix("Value error, ")
    return answer_error(InvalidRequest(f"{_printable(field)}: {reason}", field=_printable(field)))


def _printable(text: str) -> str:
    return re.sub(r"[\ud800-\udfff]", "\N{REPLACEMENT CHARACTER}", text)[:200]


async def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    made: CoordinatorError
    if error.status_code == 404:
        page: Response | None = request.app.state.pages.answer(request)
        if page is not None:
            return page
        made = NotFound("no such route; /openapi.json describes them")
    elif error.status_code == 405:
        made = InvalidRequest(f"method: {request.method[:20]} is not served here", field="method")
    else:
        made = InvalidRequest(str(error.detail), field="body")
    answer = answer_error(made)
    answer.status_code = error.status_code
    answer.headers.update(error.headers or {})
    return answer
