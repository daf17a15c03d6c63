"""Starting members that meet at a token, on a real coordinator and on servers that misbehave."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from coordinator.config import Config, ConfigError, resolve
from coordinator.node.discovery import (
    Meeting,
    Refused,
    discover,
    meet,
    parse_meeting,
)
from coordinator.node.initial_cluster import InitialCluster
from coordinator_sdk import Client
from coordinator_sdk.testing import CoordinatorProcess, running

pytestmark = pytest.mark.timeout(120)

TOKEN = "0" * 32


@pytest.fixture(scope="module")
def keeper() -> Iterator[CoordinatorProcess]:
    """The coordinator that keeps the tokens."""
    with running() as process:
        yield process


@pytest.fixture
async def client(keeper: CoordinatorProcess) -> AsyncIterator[Client]:
    async with Client(keeper.url) as made:
        yield made


def url(number: int) -> str:
    return f"http://10.0.0.{number}:2380"


def come(meeting: Meeting, number: int, name: str = "") -> asyncio.Task[InitialCluster]:
    work = meet(meeting, name or f"m{number}", [url(number)], poll_s=0.01, retry_s=0.01)
    return asyncio.ensure_future(work)


async def until_come(client: Client, token: str, count: int) -> None:
    while True:
        if len((await client.discovery.get(token)).members) >= count:
            return
        await asyncio.sleep(0.005)


async def test_three_find_each_other(client: Client):
    """Three members that know a token alone get the same cluster, in the order of registration,
    once the last one has come; a fourth is told that it is complete."""
    token = await client.discovery.new(3)
    meeting = parse_meeting(token)
    members = []
    for number in (3, 1, 2):
        members.append(come(meeting, number))
        await until_come(client, token, len(members))
    clusters = await asyncio.gather(*members)
    assert list(clusters[0].names_to_urls) == ["m3", "m1", "m2"]
    assert clusters[0].names_to_urls["m1"] == (url(1),)
    assert {str(one) for one in clusters} == {str(clusters[0])}
    assert {one.cluster_id for one in clusters} == {clusters[0].cluster_id}
    registered = (await client.discovery.get(token)).members
    assert {one.name: one.member for one in registered} == clusters[0].member_ids
    with pytest.raises(Refused, match="the cluster of this token is complete: m3"):
        await come(meeting, 4)


async def test_a_restart_goes_on_waiting(client: Client):
    """A member that is started again before the others have come is the member it was."""
    token = await client.discovery.new(2)
    meeting = parse_meeting(token)
    first = come(meeting, 1)
    await until_come(client, token, 1)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    again = come(meeting, 1)
    clusters = await asyncio.gather(again, come(meeting, 2))
    assert clusters[0] == clusters[1]
    assert await come(meeting, 1) == clusters[0], "even after completion"


async def test_a_taken_name_is_told(client: Client):
    """A second member of the same name is refused, and told what mends it."""
    token = await client.discovery.new(2)
    meeting = parse_meeting(token)
    first = come(meeting, 1, "a")
    await until_come(client, token, 1)
    with pytest.raises(Refused, match="'a' is taken by another member .*--name must differ"):
        await come(meeting, 2, "a")
    await asyncio.gather(first, come(meeting, 2, "b"))


async def test_a_wrong_token_is_told(keeper: CoordinatorProcess):
    """A token that nobody made, or that is none, ends the start with the reason."""
    with pytest.raises(Refused, match="there is no discovery token"):
        await come(Meeting((keeper.url,), TOKEN), 1)
    with pytest.raises(Refused, match="token: 32 hexadecimal digits"):
        await come(Meeting((keeper.url,), "x"), 1)
    with pytest.raises(Refused, match="there is no discovery token"):
        await come(Meeting((keeper.url,), TOKEN, "else/where"), 1)


async def test_the_settings_say_where(client: Client, keeper: CoordinatorProcess):
    """--discovery, and --discovery-token with --discovery-endpoints, lead to the same cluster."""
    token = await client.discovery.new(2)
    by_url = Config(name="a", discovery=token, initial_advertise_peer_urls=(url(1),))
    by_token = Config(
        name="b",
        discovery_token=token.rpartition("/")[2],
        discovery_endpoints=("http://127.0.0.1:1", keeper.url + "/"),
        listen_peer_urls=(url(2),),
    )
    one, other = await asyncio.gather(discover(by_url), discover(by_token))
    assert one is not None
    assert one == other
    assert one.cluster_id == other.cluster_id
    assert await discover(Config()) is None


@asynccontextmanager
async def answering(*answers: bytes) -> AsyncIterator[str]:
    """Answer one connection after the other, the last answer again and again; give the URL."""
    left = list(answers)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(left.pop(0) if len(left) > 1 else left[0])
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await server.wait_closed()


def http(status: int, body: str, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} X", *headers, "Connection: close", "", body]
    return "\r\n".join(lines).encode()


COMPLETE = json.dumps(
    {"size": 1, "complete": True, "members": [{"name": "m1", "peer_urls": [url(1)]}]}
)


async def test_it_tries_on_while_nobody_answers(caplog: pytest.LogCaptureFixture):
    """Servers that are down, broken, busy or something else altogether are tried again; each
    reason is told once."""
    caplog.set_level(logging.WARNING, "coordinator.discovery")
    chunked = f"{len(COMPLETE):x}\r\n{COMPLETE}\r\n0\r\n\r\n"
    busy = '{"error": {"code": "no_leader", "message": "the cluster has no leader"}}'
    async with answering(
        b"",
        http(503, busy),
        http(503, busy),
        http(404, "<h1>not here</h1>"),
        http(200, "[]"),
        b"nonsense\r\n\r\n",
        http(200, chunked, "Transfer-Encoding: chunked"),
    ) as server:
        cluster = await come(Meeting(("http://127.0.0.1:1", server), TOKEN), 1)
    assert cluster.names_to_urls == {"m1": (url(1),)}
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 5
    assert all("http://127.0.0.1:1 can't be asked" in line for line in told)
    assert f"{server}: the cluster has no leader; trying on" in told[1]


async def test_an_expired_token_is_told():
    """A token that has expired while a member waited ends the wait with the reason."""
    waiting = '{"size": 2, "complete": false, "members": [{"name": "m1", "peer_urls": []}]}'
    gone = '{"error": {"code": "gone", "message": "the discovery token has expired: ..."}}'
    async with answering(http(200, waiting), http(410, gone)) as server:
        with pytest.raises(Refused, match="has expired"):
            await come(Meeting((server,), TOKEN), 1)


@pytest.mark.parametrize(
    "text", ["", "http://h", "http://h/v2/x", "ftp://h/v1/discovery/t", "http:///v1/discovery/t"]
)
def test_a_wrong_url_is_told(text: str):
    """What is no URL of a token is refused, with the form that it should have."""
    with pytest.raises(ConfigError, match="written as http://HOST:PORT/v1/discovery/TOKEN"):
        parse_meeting(text)


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        ({"discovery": "u", "initial_cluster": "a=u"}, "only one of them"),
        ({"discovery": "u", "discovery_srv": "d"}, "--discovery and --discovery-srv"),
        ({"discovery_token": "t"}, "one needs the other"),
        ({"discovery_endpoints": ("http://h:1",)}, "one needs the other"),
        ({"discovery_token": "t", "discovery_endpoints": ("h",)}, "--discovery-endpoints h"),
        ({"discovery_srv_name": "n"}, "needs --discovery-srv"),
        ({"discovery": "u", "initial_cluster_state": "existing"}, "is for a new cluster"),
    ],
)
def test_contradicting_flags_are_told(flags: dict, text: str):
    """Flags of discovery that contradict each other are refused by name."""
    (problem,) = Config(**flags).validate()
    assert text in problem


def test_the_token_is_no_public_setting():
    """Whoever sees the settings of a member does not see its token."""
    config = resolve({"discovery": f"http://127.0.0.1:2379/v1/discovery/{TOKEN}"}, {})
    assert TOKEN not in repr(config)
