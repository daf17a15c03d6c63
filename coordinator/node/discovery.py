"""How a starting member finds the others: at a token, or in DNS."""

from __future__ import annotations

import asyncio
import http.client
import io
import json
import logging
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import parse_qs, quote, urlsplit

from coordinator.config import ConfigError
from coordinator.node.initial_cluster import InitialCluster, member_id, peer_url
from coordinator.node.srv import discover_srv
from coordinator_sdk.protocol.discovery import PATH

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordinator.config import Config

_log = logging.getLogger("coordinator.discovery")

POLL_S: Final = 0.5
"""Pause between two looks at who has come."""
RETRY_S: Final = 2.0
"""Pause after nobody could be asked."""
REQUEST_S: Final = 5.0
ANSWER_BYTES_MAX: Final = 1 << 20


class Refused(ConfigError):
    """The token can't be used by this member; the message says why."""


class _Unanswered(Exception):
    """Nobody who could be asked has answered; trying again may help."""


async def discover(config: Config) -> InitialCluster | None:
    """Find the members that a new cluster begins with, if the settings say where to look.

    Waits as long as it takes: until name servers answer, until a coordinator that keeps the
    token can be reached, until all members have come.

    Returns:
        The members; None if the settings name no discovery. All members get the same URLs and
        ids in the same order. After DNS, names of others are only their addresses.

    Raises:
        ConfigError: It can never succeed: no such token, it has expired, its cluster is
            complete without this member, the name is taken, DNS has no such records.
    """
    if config.discovery_srv:
        return await discover_srv(config)
    meeting = meeting_of(config)
    if meeting is None:
        return None
    urls = config.initial_advertise_peer_urls or config.listen_peer_urls
    return await meet(meeting, config.name, urls, _tls(config))


# ---------------------------------------------------------------- where to meet


@dataclass(frozen=True)
class Meeting:
    """A token and who keeps it.

    Attributes:
        endpoints: URLs of the coordinators to ask, ``http://HOST:PORT``.
        token: The token.
        namespace: Where it lives.
    """

    endpoints: tuple[str, ...]
    token: str
    namespace: str = "default"


def meeting_of(config: Config) -> Meeting | None:
    """Tell where the settings want this member to meet the others.

    Raises:
        ConfigError: The URL is none.
    """
    if config.discovery:
        return parse_meeting(config.discovery)
    if config.discovery_token:
        endpoints = tuple(url.rstrip("/") for url in config.discovery_endpoints)
        return Meeting(endpoints, config.discovery_token)
    return None


def parse_meeting(url: str) -> Meeting:
    """Take the URL of a token apart.

    Raises:
        ConfigError: It is no such URL.
    """
    parts = urlsplit(url)
    token = parts.path.removeprefix(PATH)
    if (
        parts.scheme not in ("http", "https")
        or not parts.hostname
        or not parts.path.startswith(PATH)
        or not token
        or "/" in token
    ):
        raise ConfigError([f"--discovery {url}: written as http://HOST:PORT{PATH}TOKEN"])
    namespace = parse_qs(parts.query).get("namespace", ["default"])[0]
    return Meeting((f"{parts.scheme}://{parts.netloc}",), token, namespace)


# ---------------------------------------------------------------- meeting


async def meet(
    meeting: Meeting,
    name: str,
    peer_urls: Sequence[str],
    tls: ssl.SSLContext | None = None,
    *,
    poll_s: float = POLL_S,
    retry_s: float = RETRY_S,
) -> InitialCluster:
    """Register at a token and wait until all have come.

    A member's id follows from its URLs and the token, so one that is started again before all
    have come registers as the member that it was.

    Args:
        meeting: Where.
        name: Name of this member.
        peer_urls: Where the others reach it.
        tls: For ``https`` endpoints.
        poll_s: Pause between two looks at who has come, in seconds.
        retry_s: Pause after nobody could be asked, in seconds.

    Raises:
        Refused: It can never succeed.
    """
    urls = [peer_url(url) for url in peer_urls]
    member = f"{member_id(urls, meeting.token):016x}"
    body = json.dumps({"name": name, "peer_urls": urls}).encode()
    told = ""
    is_registered = False
    while True:
        try:
            if is_registered:
                found = await _ask(meeting, "GET", "", b"", tls)
            else:
                found = await _ask(meeting, "PUT", f"/{member}", body, tls)
                is_registered = True
        except _Unanswered as error:
            if str(error) != told:
                _log.warning("discovery: %s; trying on", error)
            told = str(error)
            await asyncio.sleep(retry_s)
            continue
        names = [one["name"] for one in found["members"]]
        if found["complete"]:
            _log.info("discovery: the cluster is %s", ", ".join(names))
            return InitialCluster.of(
                {one["name"]: one["peer_urls"] for one in found["members"]}, meeting.token
            )
        state = f"{len(names)} of {found['size']} members have come: {', '.join(names)}"
        if state != told:
            _log.info("discovery: %s", state)
        told = state
        await asyncio.sleep(poll_s)


async def _ask(
    meeting: Meeting, method: str, path: str, body: bytes, tls: ssl.SSLContext | None
) -> dict[str, Any]:
    """Ask one coordinator after the other; give the state of the token."""
    target = f"{PATH}{quote(meeting.token, safe='')}{path}"
    if meeting.namespace != "default":
        target += f"?namespace={quote(meeting.namespace, safe='')}"
    reasons = []
    for endpoint in meeting.endpoints:
        try:
            async with asyncio.timeout(REQUEST_S):
                status, answer = await _request(endpoint, method, target, body, tls)
        except TimeoutError:
            reasons.append(f"{endpoint} does not answer within {REQUEST_S:.0f} s")
            continue
        except (OSError, ValueError, EOFError, http.client.HTTPException) as error:
            reasons.append(f"{endpoint} can't be asked: {error}")
            continue
        if status == 200 and isinstance(answer, dict) and "members" in answer:
            return answer
        reason = _reason(answer) or f"it answers {status}"
        if status in (400, 404, 409, 410) and _reason(answer):
            raise Refused([f"discovery at {endpoint}: {reason}"])
        reasons.append(f"{endpoint}: {reason}")
    raise _Unanswered("; ".join(reasons))


def _reason(answer: Any) -> str:
    """Give the message of an error's body; empty if it is none."""
    error = answer.get("error") if isinstance(answer, dict) else None
    return str(error.get("message", "")) if isinstance(error, dict) else ""


async def _request(
    endpoint: str, method: str, target: str, body: bytes, tls: ssl.SSLContext | None
) -> tuple[int, Any]:
    """Make one HTTP request on a connection of its own; give status and JSON body."""
    parts = urlsplit(endpoint)
    is_secure = parts.scheme == "https"
    assert parts.hostname is not None
    reader, writer = await asyncio.open_connection(
        parts.hostname, parts.port or (443 if is_secure else 80), ssl=tls if is_secure else None
    )
    try:
        head = (
            f"{method} {target} HTTP/1.1\r\nHost: {parts.netloc.rpartition('@')[2]}\r\n"
            f"Connection: close\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        )
        writer.write(f"{head}\r\n\r\n".encode() + body)
        data = b""
        while chunk := await reader.read(65_536):
            data += chunk
            if len(data) > ANSWER_BYTES_MAX:
                raise ValueError("the answer is too long")
    finally:
        writer.close()
    # It parses what a socket gave; here that is all there.
    response = http.client.HTTPResponse(cast("Any", _Received(data)), method=method)
    response.begin()
    text = response.read()
    try:
        return response.status, json.loads(text)
    except ValueError:
        return response.status, None


class _Received:
    """Bytes that a socket gave, as `http.client` reads them."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self._data)


def _tls(config: Config) -> ssl.SSLContext | None:
    """Trust whom this machine trusts, and who signs this cluster's certificates."""
    meeting = meeting_of(config)
    if meeting is None or not any(url.startswith("https:") for url in meeting.endpoints):
        return None
    context = ssl.create_default_context()
    if config.trusted_ca_file:
        context.load_verify_locations(config.trusted_ca_file)
    return context
