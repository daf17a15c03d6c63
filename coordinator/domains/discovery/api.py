"""Discovery at the edge: what is checked, how requests are served, the routes."""

from __future__ import annotations

import hashlib
import re
import secrets
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import Query as InQuery
from fastapi import Request, Response

from coordinator.api.http import ALWAYS, CHANGES, Routes, call, documented, standing
from coordinator.api.models import Int64
from coordinator.api.registry import Caller, Change, DomainApi, KeyRange, Live, Query, View
from coordinator.domains.discovery import model
from coordinator.domains.discovery.commands import DOMAIN
from coordinator.node.initial_cluster import peer_url
from coordinator_sdk import errors
from coordinator_sdk.errors import InvalidRequest, PermissionDenied
from coordinator_sdk.protocol.discovery import (
    PATH,
    DiscoveryGet,
    DiscoveryInfo,
    DiscoveryNew,
    DiscoveryNewResult,
    DiscoveryRegister,
)

DEFAULT_NAMESPACE = "default"
URLS_MAX = 8
"""Peer URLs of one member."""

_TOKEN = re.compile(r"[0-9a-f]{32}\Z")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}\Z")


def _check_token(request: DiscoveryGet | DiscoveryRegister | DiscoveryNew) -> None:
    if not _TOKEN.match(request.token):
        raise InvalidRequest("token: 32 hexadecimal digits, in small letters", field="token")


def _check_new(request: DiscoveryNew) -> None:
    if not 1 <= request.size <= model.SIZE_MAX:
        raise InvalidRequest(f"size: from 1 to {model.SIZE_MAX} members", field="size")
    if request.token:
        _check_token(request)


def _choose_token(request: DiscoveryNew, caller: Caller, id: int) -> None:
    """Choose a token; a retry of a client's request chooses the same."""
    if request.token:
        return
    if not caller.client:
        request.token = secrets.token_hex(16)
        return
    seed = caller.client.to_bytes(8, "big") + id.to_bytes(8, "big")
    request.token = hashlib.blake2b(seed, digest_size=16, person=b"discovery").hexdigest()


def _check_register(request: DiscoveryRegister) -> None:
    _check_token(request)
    if not request.member:
        raise InvalidRequest("member: must be the id of a member", field="member")
    if not _NAME.match(request.name):
        raise InvalidRequest(
            "name: 1 to 63 letters, digits, dots, dashes, underscores", field="name"
        )
    if not 1 <= len(request.peer_urls) <= URLS_MAX:
        raise InvalidRequest(f"peer_urls: from 1 to {URLS_MAX} of them", field="peer_urls")
    for index, url in enumerate(request.peer_urls):
        field = f"peer_urls[{index}]"
        try:
            found = peer_url(url)
        except ValueError as error:
            raise InvalidRequest(f"{field}: {error}", field=field) from None
        if found in request.peer_urls[:index]:
            raise InvalidRequest(f"{field}: {url} stands there twice", field=field)
        request.peer_urls[index] = found


def _get(view: View, request: DiscoveryGet) -> DiscoveryInfo:
    return model.token_view(view, request.namespace, request.token)


def _get_ranges(request: DiscoveryGet) -> list[KeyRange]:
    key = model.token_key(request.namespace, request.token)
    return [(key, key + b"\0"), model.members(request.namespace, request.token)]


OPERATIONS: dict[type[Any], Change | Query | Live] = {
    DiscoveryNew: Change(_check_new, _choose_token),
    DiscoveryRegister: Change(_check_register),
    DiscoveryGet: Query(_get, _check_token, _get_ranges),
}


async def _new(
    request: Request,
    size: Annotated[
        Int64, InQuery(strict=False, description=f"Members, from 1 to {model.SIZE_MAX}.")
    ] = 3,
    namespace: str = DEFAULT_NAMESPACE,
) -> Response:
    """Answer with the token's URL alone, as plain text."""
    # Browsers fetch an address for any page that names it as an image; they say so here.
    if request.headers.get("sec-fetch-site") in ("cross-site", "same-site"):
        raise PermissionDenied("origin: a page of another site may not make tokens", field="origin")
    revision, result = await call(request, DiscoveryNew(namespace, size))
    url = f"{request.url.scheme}://{request.url.netloc}{PATH}{result.token}"
    if namespace != DEFAULT_NAMESPACE:
        url += f"?namespace={quote(namespace, safe='')}"
    headers = standing(request)
    headers |= {"coordinator-revision": str(revision), "cache-control": "no-store"}
    return Response(url, 200, headers, "text/plain; charset=utf-8")


def _routes() -> Routes:
    made = Routes("Discovery")
    made.router.add_api_route(
        "/discovery/new",
        _new,
        methods=["GET"],
        summary="Make a token, and give its URL as plain text",
        operation_id="discovery_new_url",
        responses=documented(
            {"text/plain": {"schema": {"type": "string"}}},
            200,
            [*ALWAYS, *CHANGES, errors.PermissionDenied],
        ),
        response_model=None,
    )
    made.add(
        "POST",
        "/discovery",
        DiscoveryNew,
        DiscoveryNewResult,
        summary="Make a token",
        raises=(errors.AlreadyExists,),
        status=201,
        example={"size": 3},
        descriptions={"token": "32 hexadecimal digits; left out, the server chooses."},
    )
    made.add(
        "PUT",
        "/discovery/{token}/{member}",
        DiscoveryRegister,
        DiscoveryInfo,
        summary="Come as a member of the cluster to be",
        raises=(errors.NotFound, errors.Gone, errors.AlreadyExists, errors.Conflict),
        example={"name": "a", "peer_urls": ["http://10.0.0.5:2380"]},
    )
    made.add(
        "GET",
        "/discovery/{token}",
        DiscoveryGet,
        DiscoveryInfo,
        summary="Read a token: who has come",
        raises=(errors.NotFound, errors.Gone, errors.Compacted, errors.FutureRevision),
    )
    return made


API = DomainApi(DOMAIN, OPERATIONS, _routes().router)
